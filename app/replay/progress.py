"""Shows how far a replay is: a bar on a terminal, a plain line every few seconds elsewhere."""

import time
from types import TracebackType

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from app.replay.feed import Batch
from app.replay.send import Totals

LINE_EVERY = 5.0
"""Seconds between plain lines."""


class Display:
    """Context manager; `update` is the replay's on_progress. Writes to standard error."""

    def __init__(self, total: int, *, label: str = "replay", console: Console | None = None):
        self.total = total
        self.label = label
        self.console = console or Console(stderr=True)
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.next_line = time.monotonic() + LINE_EVERY

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:>9,.0f} readings/s"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.task = self.bar.add_task(self.label, total=self.total, rate=0.0)
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, totals: Totals, batch: Batch) -> None:
        """One more request was answered."""
        rate = totals.sent / totals.seconds if totals.seconds else 0.0
        if self.bar:
            self.bar.update(self.task, completed=totals.sent, rate=rate)
        elif time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + LINE_EVERY
            click.echo(
                f"{self.label}: {totals.sent:,} of {self.total:,} readings"
                f" ({100 * totals.sent / self.total:.0f} %), {rate:,.0f} readings/s",
                err=True,
            )
