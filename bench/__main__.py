"""`python -m bench <scenario>`: generate, load, query, report. `python -m bench table`: the README's."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from app.errors import CommandError
from bench import capacity as capacities
from bench import report as reports
from bench.client import LoadError
from bench.options import Options
from bench.scenarios import SCENARIOS, scenario
from bench.table import CAPACITY, FRONT_PAGE, README, ingest_table, markdown, write_readme

REPORTS = Path(__file__).parent / "reports"
PLOT = REPORTS / "capacity.svg"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure, each result as a ratio to a limit measured in the same run."""


def _command(name: str, text: str) -> click.Command:
    @click.command(name, help=f"Measure {text}.")
    @click.option("--json", "is_json", is_flag=True, help="Print the report as JSON.")
    @click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=2.0)
    @click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
    @click.option(
        "--only", default="", help="Only cells whose name contains this (or one, with commas)."
    )
    @click.option("--seed", type=int, default=20_261_121, show_default=True)
    @click.option(
        "--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write it here."
    )
    def command(*, is_json: bool, out: Path | None, **asked: Any) -> None:
        # servers must not outlive a run that is told to end
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        options = Options(**asked)
        began = time.monotonic()
        try:
            report = scenario(name)(options)
        except (CommandError, LoadError) as exc:
            raise click.ClickException(str(exc)) from None
        report.seconds = round(time.monotonic() - began, 1)
        report.settings = asked | report.settings
        if out is not None:
            reports.save(report, out)
        if is_json:
            click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
        else:
            click.echo(markdown([report]))
        sys.exit(0 if report.is_met else 3)

    return command


for _name, _text in SCENARIOS.items():
    main.add_command(_command(_name, _text))


@main.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--write", "is_write", is_flag=True, help="Put it into bench/README.md and README.md."
)
def table(files: tuple[Path, ...], is_write: bool) -> None:
    """The goals of the committed reports (or of FILES) as Markdown."""
    found = [reports.load(path) for path in files] or reports.load_all(REPORTS)
    if is_write:
        write_readme(markdown(found), README)
        write_readme(ingest_table(found), FRONT_PAGE)
    else:
        click.echo(markdown(found))


def _chosen(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each field of a plan."""
    for field in reversed(msgspec.structs.fields(capacities.Plan)):
        name = f"--{field.name.replace('_', '-')}"
        command = click.option(name, type=field.type, default=field.default, show_default=True)(
            command
        )
    return command


@main.command()
@_chosen
@click.option(
    "--write", "is_write", is_flag=True, help="Put it into bench/README.md, and the plot beside."
)
def capacity(*, is_write: bool, **chosen: Any) -> None:
    """Servers for small and big fleets, reckoned from the committed reports."""
    plan = capacities.Plan(**chosen)
    costs = capacities.costs_of(REPORTS, plan)
    found = capacities.needs(costs, plan)
    text = capacities.markdown(found, costs, plan)
    if is_write:
        write_readme(text, README, begin=CAPACITY)
        from bench.plot import draw  # needs the dev extra

        draw(found, costs, plan, PLOT)
    else:
        click.echo(text)


@main.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument(
    "parts", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
def merge(out: Path, parts: tuple[Path, ...]) -> None:
    """Make one report OUT of PARTS, runs of one scenario with different --only."""
    try:
        reports.save(reports.merge([reports.load(path) for path in parts]), out)
    except ValueError as exc:
        raise click.ClickException(str(exc)) from None


if __name__ == "__main__":
    main()
