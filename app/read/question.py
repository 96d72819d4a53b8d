"""A question for readings, checked and resolved, and the rows that answer it, page by page."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import msgspec

from app.archive.read import readings_anywhere
from app.db.pool import Connection
from app.epoch import EPOCH
from app.errors import BadRequest
from app.read.format import Row
from app.read.series import STEPS, Key, Selection, readings_filled, readings_rollup
from app.services import Services

PAGE_ROWS = 5_000
POINTS = 2_000
"""What one series should not exceed when the resolution is chosen for the client."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A request, checked and resolved."""

    selection: Selection
    resolution: str
    fill: str
    from_ts: datetime
    to_ts: datetime
    limit: int
    after: Key
    is_fresh: bool
    """Nothing from a replica."""

    @property
    def is_raw(self) -> bool:
        """Raw readings, no rollup."""
        return self.resolution == "raw"

    @property
    def is_filled(self) -> bool:
        """Empty buckets are shown."""
        return self.fill != "none"


def choose(resolution: str, fill: str, length: timedelta) -> str:
    """The resolution to use. Raises BadRequest for raw readings with filled gaps."""
    if resolution == "raw" and fill != "none":
        raise BadRequest("fill: raw readings have no buckets to fill; ask for 1m, 1h or 1d.")
    if resolution != "auto":
        return resolution
    if length <= timedelta(days=1) and fill == "none":
        return "raw"
    for name in ("1m", "1h"):
        if length <= STEPS[name] * POINTS:
            return name
    return "1d"


def floor(moment: datetime, resolution: str) -> datetime:
    """The begin of the moment's bucket (UTC)."""
    return moment - (moment - EPOCH) % STEPS[resolution]


async def fetch(
    services: Services, question: Question, after: Key, count: int, skip: int = 0
) -> list[Row]:
    """Rows after a key."""
    if question.is_raw:
        return list(
            await readings_anywhere(
                services.reads,
                services.cold,
                selection=question.selection,
                after=after,
                to_ts=question.to_ts,
                count=count,
                skip=skip,
                is_fresh=question.is_fresh,
            )
        )

    async def page(connection: Connection) -> list[Row]:
        if question.is_filled:
            return list(
                await readings_filled(
                    connection,
                    selection=question.selection,
                    resolution=question.resolution,
                    fill=question.fill,
                    from_ts=question.from_ts,
                    after=after,
                    to_ts=question.to_ts,
                    count=count,
                )
            )
        return list(
            await readings_rollup(
                connection,
                selection=question.selection,
                resolution=question.resolution,
                after=after,
                to_ts=question.to_ts,
                count=count,
                skip=skip,
            )
        )

    return await services.reads.run(page, is_fresh=question.is_fresh)


async def in_pages(
    services: Services, question: Question, last: Key | None
) -> AsyncIterator[list[Row]]:
    """Pages up to and with the row whose key is `last`; None: to the end."""
    after = question.after
    while True:
        rows = await fetch(services, question, after, PAGE_ROWS)
        if last is not None and rows and rows[-1].key >= last:
            yield [row for row in rows if row.key <= last]
            return
        yield rows
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1].key
