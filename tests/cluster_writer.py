"""Writes readings while groups of shards move, by either road; a ledger of what was acknowledged."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

import psycopg
from fix_cluster import SENSORS, Cluster

from app.db.away import node_away
from app.db.moving import is_elsewhere


class Writer(threading.Thread):
    """Writes a reading of every sensor again and again, by one of the two roads, until told to end."""

    def __init__(self, cluster: Cluster, *, road: str, metric_id: int, hours_ago: int) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.road = road
        self.metric_id = metric_id
        self.sensors = range(1, SENSORS + 1)
        self.ledger: list[tuple[int, datetime]] = []
        """Acknowledged: sensor and time."""
        self.when: list[tuple[float, int]] = []
        """Seconds of the clock and group of each acknowledgement."""
        self.refused = 0
        self.failure: BaseException | None = None
        self._groups: dict[int, list[int]] = {}
        self._numbers: dict[int, int] = {}
        """Seconds from the begin, by group."""
        self._end = threading.Event()
        self._begin = datetime.now().astimezone().replace(microsecond=0) - timedelta(
            hours=hours_ago
        )

    def run(self) -> None:
        """Until `end`; what could not be written then is left out."""
        step = self._direct if self.road == "direct" else self._through_coordinator
        try:
            while not self._end.is_set():
                step()
        except BaseException as exc:
            self.failure = exc

    def end(self) -> None:
        """Stop and raise what went wrong."""
        self._end.set()
        self.join(60)
        assert not self.is_alive()
        if self.failure is not None:
            raise self.failure

    def assert_kept(self) -> None:
        """Everything acknowledged is stored, and nothing else."""
        stored = self.cluster.execute(
            f"select sensor_id, ts from telemetry.reading where metric_id = {self.metric_id}"
        )
        assert len(stored) == len(set(stored))
        missing = set(self.ledger) - set(stored)
        assert not missing, f"{self.road}: {len(missing)} acknowledged readings are gone"
        # of the last try nobody may have learnt that it was committed
        last = {self._begin + timedelta(seconds=number) for number in self._numbers.values()}
        extra = {(sensor, ts) for sensor, ts in set(stored) - set(self.ledger) if ts not in last}
        assert not extra, f"{self.road}: {len(extra)} readings nobody acknowledged"
        assert len(self.ledger) > SENSORS

    def _write(self, url: str, suffix: str, sensors: list[int], ts: datetime) -> None:
        """As the API's writers do, in one transaction; a reading that is there already is kept."""
        with psycopg.connect(url, options="-c citus.override_table_visibility=off") as conn:
            known = conn.execute(
                f"select sensor_id from telemetry.reading{suffix} where ts = %s"  # type: ignore[arg-type]
                " and metric_id = %s",
                [ts, self.metric_id],
            ).fetchall()
            new = [sensor for sensor in sensors if (sensor,) not in known]
            with (
                conn.cursor() as cur,
                cur.copy(
                    f"copy telemetry.reading{suffix}"  # type: ignore[arg-type]
                    " (sensor_id, ts, value, metric_id) from stdin"
                ) as copy,
            ):
                for sensor in new:
                    copy.write_row((sensor, ts, 7.5, self.metric_id))

    def _through_coordinator(self) -> None:
        url = self.cluster.url()
        sensors = list(self.sensors)
        self._try(0, sensors, lambda ts: self._write(url, "", sensors, ts))

    def _direct(self) -> None:
        if not self._groups:
            for sensor in self.sensors:
                self._groups.setdefault(self.cluster.group_of(sensor), []).append(sensor)
        for shard_id, sensors in self._groups.items():
            self._try(shard_id, sensors, partial(self._straight, shard_id, sensors))

    def _straight(self, shard_id: int, sensors: list[int], ts: datetime) -> None:
        port = self.cluster.groups()[shard_id]
        node = self.cluster.worker_at(port)
        self._write(node.url(self.cluster.name), f"_{shard_id}", sensors, ts)

    def _try(self, key: int, sensors: list[int], write: Callable[[datetime], None]) -> None:
        """The next time of these sensors, or the same again where that failed before."""
        ts = self._begin + timedelta(seconds=self._numbers.setdefault(key, 0))
        try:
            write(ts)
        except psycopg.Error as exc:
            if is_elsewhere(exc):
                self.refused += 1
            elif (
                isinstance(exc, psycopg.OperationalError)
                or node_away(exc)
                or "deadlock detected" in str(exc)  # under COPY the coordinator tells no code
            ):
                time.sleep(0.02)  # a server is down, or who closes the group came in between
            else:
                raise
        else:
            self.ledger += [(sensor, ts) for sensor in sensors]
            self.when.append((time.monotonic(), key))
            self._numbers[key] += 1


@contextmanager
def writing(cluster: Cluster) -> Iterator[tuple[Writer, Writer]]:
    """On both roads, into the columnstore and into rows; the ledgers are compared at the end."""
    made = (
        Writer(cluster, road="coordinator", metric_id=2, hours_ago=30),
        Writer(cluster, road="direct", metric_id=3, hours_ago=2),
    )
    for writer in made:
        writer.start()
    try:
        yield made
        time.sleep(1)
    finally:
        for writer in made:
            writer.end()
    for writer in made:
        writer.assert_kept()
