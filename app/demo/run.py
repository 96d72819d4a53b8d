"""The main job: from recorded files to alerts on a subscriber's screen, everything compared.

Steps: local runtime, schema, seed, serve, subscribe, replay, replay a part again, send bad records,
compare. The report says what was found; `holds` is true only if every comparison does. The servers
keep running with `keep`, otherwise everything that was started here is stopped.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
from psycopg import AsyncConnection

from app.db.pool import connect
from app.demo import compare
from app.demo.bad import BAD, bad_records, complaints
from app.demo.compare import Alerts, Rollup, Sendings
from app.demo.expected import expected_episodes, read_rules
from app.demo.seed import seed
from app.demo.watcher import Watcher
from app.errors import CommandError
from app.local import processes
from app.local.credentials import free_port
from app.local.doctor import read_offer
from app.local.runtime import Runtime
from app.migrate import migrate
from app.paths import ROOT
from app.replay.feed import Batch
from app.replay.progress import Display
from app.replay.readers import read_file
from app.replay.send import Totals, replay
from app.replay.series import SECOND, Series, align, count, last_days, shift_to
from app.settings import Settings
from jobs.rollup import refresh_rollups

DATASETS = ROOT / "bench" / "datasets"
FILES = {  # file -> hours from UTC of its standard time, where the file does not say
    "apacpwq.csv.gz": None,
    "apadbwq.csv.gz": None,
    "elksmwq.csv.gz": None,
    "gndblwq2021_cdmo_export.csv.gz": -6.0,
    "usgs_11455478_2020_nwis_uv.rdb.txt.gz": None,
}
AGAIN_SECONDS = 7 * 86_400
"""How much of the end is sent a second time."""
READY_SECONDS = 30.0

Say = Callable[[str], None]


class Readings(msgspec.Struct):
    """What became of everything that was sent."""

    sent: int = 0
    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    late: int = 0
    rejected: int = 0

    def add(self, part: Totals | dict[str, Any]) -> None:
        """Count a reply or the totals of a replay."""
        for name in self.__struct_fields__:
            more = part[name] if isinstance(part, dict) else getattr(part, name)
            setattr(self, name, getattr(self, name) + more)


class Report(msgspec.Struct, kw_only=True):
    """.headwater/demo-report.json."""

    edition: str
    citus: str | None
    readings: Readings
    ingest: dict[str, float]
    alerts: dict[str, Any]
    rollups: dict[str, Rollup]
    urls: dict[str, str]
    problems: list[str]
    """What did not hold, in words."""

    @property
    def holds(self) -> bool:
        """Whether every comparison held."""
        return not self.problems


async def run_demo(*, days: float, keep: bool, say: Say) -> Report:
    """Do it all. Raises CommandError where a step can't be done at all."""
    say("1/8  local runtime")
    runtime = Runtime()
    is_ours = runtime.pg_pid is None
    runtime.start(say)
    try:
        say("2/8  schema")
        await migrate(runtime.superuser_url, report=lambda line: None)
        async with await connect(runtime.superuser_url, application="headwater-demo") as connection:
            return await _demo(runtime, connection, days=days, say=say)
    finally:
        if not keep:
            for name in ("jobs", "serve"):
                processes.stop(name, run=runtime.folder.run)
            if is_ours:
                runtime.stop()


async def _demo(runtime: Runtime, connection: AsyncConnection, *, days: float, say: Say) -> Report:
    offer = await read_offer(connection)
    rules = read_rules()
    say("3/8  tenant, stations, thresholds, keys")
    keys = await seed(connection, rules)

    say("4/8  API and jobs")
    url = await start_processes(runtime)
    watcher = Watcher(url, keys.operator)
    await watcher.start()

    series = recorded(days)
    say(f"5/8  replay of {count(series):,} real readings of the last {days:g} days")
    sendings = Sendings()
    readings = Readings()
    totals = await send_all(series, url, keys.gateway, sendings)
    readings.add(totals)

    again = compare.newest(series, AGAIN_SECONDS)
    say(f"6/8  {count(again):,} of them again, and {len(BAD)} bad records")
    problems = []
    repeated = await replay(again, url=url, key=keys.gateway)
    readings.add(repeated)
    if repeated.stored:
        problems.append(f"{repeated.stored} readings that were there already were stored again")
    bad, wrong = await send_bad(url, keys.gateway)
    readings.add(bad)
    problems += wrong

    say("7/8  rollups")
    await refresh_rollups(connection, is_scheduled=False)

    say("8/8  compare")
    expected = expected_episodes(series, rules)
    await until(lambda: len(watcher.raised_at) >= len(expected), seconds=5)
    await watcher.stop()
    alerts = await compare.compare_alerts(connection, keys.tenant_id, expected)
    milliseconds = compare.latencies(expected, sendings, watcher.raised_at)
    rollups = await compare.compare_rollups(connection)
    stored = await compare.count_readings(connection, keys.tenant_id)
    problems += differences(readings, stored, alerts, len(watcher.raised_at), rollups)
    return Report(
        edition=offer.edition,
        citus=offer.citus_version,
        readings=readings,
        ingest={
            "seconds": round(totals.seconds, 3),
            "readings_per_second": round(totals.sent / totals.seconds) if totals.seconds else 0,
        },
        alerts=msgspec.to_builtins(alerts)
        | {
            "latency_ms": {
                "p50": compare.percentile(milliseconds, 50),
                "p99": compare.percentile(milliseconds, 99),
            }
        },
        rollups=rollups,
        urls={"api": url, "docs": f"{url}/docs", "status": f"{url}/api/status"},
        problems=problems,
    )


def recorded(days: float) -> list[Series]:
    """The bundled stations, the last days of each, moved so that all of them end now."""
    series = [
        one
        for name, offset in FILES.items()
        for one in read_file(DATASETS / name, utc_offset=offset)
    ]
    return shift_to(align(last_days(series, days)), int(time.time()) * SECOND)


async def start_processes(runtime: Runtime) -> str:
    """`headwater serve` and `headwater jobs` in the background; the API's address."""
    for name in ("jobs", "serve"):  # of an earlier run that was kept
        processes.stop(name, run=runtime.folder.run)
    settings = Settings.from_env()
    port = settings.headwater_port if is_free(settings.headwater_port) else free_port()
    env = runtime.environment() | {"HEADWATER_PORT": str(port), "HEADWATER_HOST": "127.0.0.1"}
    headwater = Path(sys.executable).with_name("headwater")
    for name in ("serve", "jobs"):
        log = runtime.folder.log / f"{name}.log"
        processes.spawn(name, [headwater, name], log, env=env, run=runtime.folder.run, cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(trust_env=False) as client:

        async def is_up() -> bool:
            with contextlib.suppress(httpx.TransportError):
                status = (await client.get(f"{url}/api/status")).json()
                return bool(status["status"] == "healthy")
            return False

        began = time.monotonic()
        while not await is_up():
            if time.monotonic() - began > READY_SECONDS:
                raise CommandError(
                    f"the API is not healthy after {READY_SECONDS:g} s; see "
                    f"{runtime.folder.log / 'serve.log'}"
                )
            await asyncio.sleep(0.1)
    return url


def is_free(port: int) -> bool:
    """Whether nobody listens on the port."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def send_all(series: list[Series], url: str, key: str, sendings: Sendings) -> Totals:
    """Replay everything as fast as it goes, with a progress bar."""

    def on_send(batch: Batch) -> None:
        sendings.note(batch.sensor, batch.last, time.monotonic())

    with Display(count(series)) as display:
        return await replay(series, url=url, key=key, on_send=on_send, on_progress=display.update)


async def send_bad(url: str, key: str) -> tuple[dict[str, Any], list[str]]:
    """The reply's counters, and what is wrong with its verdicts."""
    ts = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{url}/api/v1/readings",
            json=bad_records(ts),
            headers={"Authorization": f"Bearer {key}"},
        )
    body = answer.json()
    if answer.status_code != 422:
        return body, [f"bad records were answered with {answer.status_code}"]
    return body, complaints(body["verdicts"])


async def until(is_done: Callable[[], bool], *, seconds: float) -> None:
    """Wait until it is, or so many seconds."""
    end = time.monotonic() + seconds
    while not is_done() and time.monotonic() < end:  # noqa: ASYNC110 (two tasks, one dict)
        await asyncio.sleep(0.02)


def differences(
    readings: Readings, stored: int, alerts: Alerts, raised: int, rollups: dict[str, Rollup]
) -> list[str]:
    """Every comparison that does not hold, in words."""
    told = readings.stored + readings.duplicate + readings.conflict + readings.rejected
    checks = [
        (told == readings.sent, f"{readings.sent} readings sent, {told} accounted for"),
        (stored == readings.stored, f"{readings.stored} acknowledged, {stored} in the database"),
        (readings.rejected == len(BAD), f"{len(BAD)} bad records, {readings.rejected} rejected"),
        (alerts.missing == 0, f"{alerts.missing} alerts that the data demands are missing"),
        (alerts.unexpected == 0, f"{alerts.unexpected} alerts that the data does not demand"),
        (raised == alerts.expected, f"{raised} of {alerts.expected} alerts reached the subscriber"),
        *(
            (rollup.equal_to_raw, f"rollup {name} differs from the raw readings")
            for name, rollup in rollups.items()
        ),
    ]
    return [text for holds, text in checks if not holds]
