"""What proves that the files have what the chunk had, and that older proofs still count."""

import asyncio
import hashlib
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pyarrow.parquet as pq
import pytest
from fix_archive import DAY, Archive
from fix_database import Server

from app.archive import chunk, files
from app.archive.book import export_claim, owner_connection
from app.archive.check import check
from app.archive.chunk import read_chunk
from app.archive.digest import SensorDigest
from app.archive.piece import ArchiveError, Pieces, of_pages, of_series

AGE = timedelta(days=30)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def read(archive: Archive) -> tuple[dict[int, SensorDigest], list[Pieces]]:
    """The chunk of the next export, as it arrives."""
    arrived: list[Pieces] = []

    async def run() -> dict[int, SensorDigest]:
        async with owner_connection(archive.settings) as connection:
            export = await export_claim(connection, age=AGE)
            assert export is not None
            server = archive.settings.owner_database_url
            return await read_chunk(connection, server, export, arrived.append)

    return asyncio.run(run()), arrived


@pytest.mark.parametrize("piece_rows", [136, 1000, 200_000])
def test_every_reading_arrives_once_however_small_the_pieces(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, piece_rows: int
) -> None:
    monkeypatch.setattr(chunk, "PIECE_ROWS", piece_rows)
    archive.fill(archive.make_tenant("a", 5), every=2)
    digest, arrived = read(archive)
    assert (len(arrived) > 10) == (piece_rows == 136)
    found = [
        (sensor, metric, ts, value, quality)
        for pieces in arrived
        for (sensor, metric), ts, value, quality in zip(
            [
                key
                for *key, count in zip(
                    pieces.sensor.tolist(),
                    pieces.metric.tolist(),
                    pieces.count.tolist(),
                    strict=True,
                )
                for _ in range(count)
            ],
            pieces.ts.tolist(),
            pieces.value.tolist(),
            pieces.quality.tolist(),
            strict=True,
        )
    ]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert len(found) == len(archive.ledger)
    assert {
        (epoch + timedelta(microseconds=ts), sensor, metric): (value, quality)
        for sensor, metric, ts, value, quality in found
    } == archive.ledger
    assert sum(one.row_count for one in digest.values()) == len(archive.ledger)


Sent = tuple[list[Any], Callable[[list[tuple[Any, ...]]], Pieces]]


@pytest.fixture(params=["series", "pages"])
def sent(archive: Archive, pg_server: Server, request: pytest.FixtureRequest) -> Sent:
    """A piece as PostgreSQL sends it, and what decodes it: two readings of a series."""
    (sensor, _) = archive.make_tenant("a")
    archive.store({(DAY, sensor, 1): (7.25, 2), (DAY + timedelta(seconds=1), sensor, 1): (8, 3)})
    if request.param == "series":
        (row,) = archive.all(
            "select * from archive.pieces_of_sensors(%s, %s, %s, %s, 2::smallint)",
            *(DAY, DAY + timedelta(days=1), sensor, sensor),
        )
        assert row[:2] == (sensor, 1)
        return list(row), lambda rows: of_series(rows, 2)
    if pg_server.is_distributed:
        pytest.skip("a shard's pages are not read by themselves")
    (row,) = archive.all(
        "select p.* from show_chunks('telemetry.reading') as c,"
        " archive.piece_of_pages(c, 0, 4294967294) as p"
    )
    keys = [sensor * 2**20 + 2**4 + quality for quality in (2, 3)]
    assert row[4] == struct.pack(">qq", *keys)
    return list(row), of_pages


def test_postgresql_says_what_it_read(sent: Sent) -> None:
    row, decode = sent
    begin = int((DAY - EPOCH).total_seconds()) * 1_000_000
    us = int(DAY.timestamp()) * 1_000_000
    is_series = decode is not of_pages
    columns = row[6 if is_series else 4 : -1]
    ts, value = columns[:2] if is_series else columns[1:]
    assert ts == struct.pack(">qq", begin, begin + 1_000_000)
    assert value == struct.pack(">dd", 7.25, 8)
    if is_series:
        assert columns[2:] == [struct.pack(">q", begin + 1_000_000), struct.pack(">h", 3)]
    hashes = b"".join(hashlib.sha256(column).digest() for column in columns)
    assert row[-1] == hashlib.sha256(hashes).digest()
    assert (row[2:6] if is_series else row[:4]) == [2, us, us + 1_000_000, 15.25]
    pieces = decode([tuple(row)])
    assert (pieces.ts.tolist(), pieces.value.tolist()) == ([us, us + 1_000_000], [7.25, 8.0])
    assert (pieces.quality.tolist(), pieces.metric.tolist()) == ([2, 3], [1])


@pytest.mark.parametrize("column", range(-9, 0))
def test_what_changed_on_the_way_is_refused(sent: Sent, column: int) -> None:
    row, decode = sent
    if len(row) + column < 0:
        pytest.skip("this kind of piece has fewer columns")
    if isinstance(row[column], bytes):
        row[column] = bytes([row[column][0] ^ 1]) + row[column][1:]
    else:
        row[column] += 1
    with pytest.raises(ArchiveError):
        decode([tuple(row)])


@pytest.mark.parametrize("usual", [2, 3, 9])
def test_flags_arrive_whichever_is_the_usual_one(archive: Archive, usual: int) -> None:
    """Also where a series does not come in order of time."""
    sensors = archive.make_tenant("a")
    archive.fill(sensors)
    archive.store(
        {
            (DAY + timedelta(hours=9, microseconds=n), s, 1): (n, 1 + n)
            for s in sensors
            for n in range(4)
        }
    )
    sent = archive.all(
        "select * from archive.pieces_of_sensors(%s, %s, %s, %s, %s::smallint)",
        *(DAY, DAY + timedelta(days=1), sensors[0], sensors[-1], usual),
    )
    pieces = of_series(sent, usual)
    found = zip(
        np.repeat(pieces.sensor, pieces.count).tolist(),
        np.repeat(pieces.metric, pieces.count).tolist(),
        pieces.ts.tolist(),
        pieces.value.tolist(),
        pieces.quality.tolist(),
        strict=True,
    )
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert {
        (epoch + timedelta(microseconds=ts), sensor, metric): (value, quality)
        for sensor, metric, ts, value, quality in found
    } == archive.ledger


def test_a_metric_below_nothing_is_itself(archive: Archive, pg_server: Server) -> None:
    """Sensor, metric and flag share a number on their way."""
    if pg_server.is_distributed:
        pytest.skip("a shard's pages are not read by themselves")
    keys = [(2**40, -32768, 9), (2**40, 32767, 1), (1, -1, 2), (1, 0, 4)]
    archive.store({(DAY, sensor, metric): (1.0, flag) for sensor, metric, flag in keys})
    pieces = of_pages(
        archive.all(
            "select p.* from show_chunks('telemetry.reading') as c,"
            " archive.piece_of_pages(c, 0, 4294967294) as p"
        )
    )
    found = zip(
        pieces.sensor.tolist(), pieces.metric.tolist(), pieces.quality.tolist(), strict=True
    )
    assert sorted(found) == sorted(keys)
    archive.store({(DAY, 2**44, 1): (1.0, 2)})
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        archive.all(
            "select p.* from show_chunks('telemetry.reading') as c,"
            " archive.piece_of_pages(c, 0, 4294967294) as p"
        )


def test_a_columnstore_chunk_moves_with_what_came_after_it_was_compressed(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    if archive.all("show timescaledb.license") != [("timescale",)]:
        pytest.skip("this edition has no columnstore")
    monkeypatch.setattr(chunk, "PIECE_ROWS", 1000)  # a sensor's day has more: spans of time
    sensors = archive.make_tenant("a", 3)
    archive.fill(sensors, every=2)
    archive.on_hypertables("select compress_chunk(c) from show_chunks('{table}') as c")
    archive.store({(DAY + timedelta(hours=7, seconds=7), sensors[1], 2): (3.5, 3)})
    assert archive.run().problems == []
    assert archive.hot() == {}
    archive.assert_nothing_lost()
    archive.assert_rollups_are_whole()


def test_a_big_tenant_has_two_files_and_loses_nothing(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SPLIT_ROWS", 1000)
    archive.fill(archive.make_tenant("a", 5))
    archive.fill(archive.make_tenant("b", 1))
    assert archive.run().problems == []
    archive.assert_nothing_lost()
    found = [pq.read_table(file) for file in archive.folder.rglob("*.parquet")]
    sensors = [set(table["sensor_id"].to_pylist()) for table in found]
    assert sorted(map(len, sensors)) == [1, 2, 3]
    assert len(set().union(*sensors)) == 6, "a sensor's readings lie in one file"
    assert archive.all("select file_count from archive.export") == [(3,)]
    assert archive.output("verify")[0] == 0


def test_a_chunk_over_the_end_of_a_month_goes_to_both_folders(archive: Archive) -> None:
    archive.on_hypertables("select set_chunk_time_interval('{table}', interval '10 days')")
    sensors = archive.make_tenant("a")
    archive.fill(sensors, day=29)
    archive.fill(sensors, day=32)
    assert archive.all("select count(*) from archive.closed_chunks('infinity')") == [(1,)]
    assert archive.run().problems == []
    archive.assert_nothing_lost()
    months = {
        file.parent.parent.name: pq.read_table(file) for file in archive.folder.rglob("*.parquet")
    }
    assert {name: len(table) for name, table in months.items()} == {"month=3": 576, "month=4": 576}
    assert archive.output("verify")[0] == 0


def test_any_other_byte_is_noticed(archive: Archive) -> None:
    """Also one that no reading shows: statistics say what readers skip."""
    archive.fill(archive.make_tenant("a"))
    assert archive.run().problems == []
    (file,) = archive.folder.rglob("*.parquet")
    data = file.read_bytes()
    assert hashlib.sha256(data).hexdigest() in file.name

    async def problems() -> list[str]:
        async with owner_connection(archive.settings) as connection:
            lake = archive.lake()
            try:
                _, findings = await check(connection, lake)
            finally:
                lake.close()
        return [finding.problem for finding in findings]

    assert asyncio.run(problems()) == []
    for at in range(20, len(data), len(data) // 10):
        file.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        assert asyncio.run(problems()) == [f"{file} has other bytes (SHA-256)"]
    file.write_bytes(data)
    assert asyncio.run(problems()) == []


def test_manifests_of_earlier_versions_still_prove(archive: Archive) -> None:
    (sensor, _) = archive.make_tenant("a")
    archive.store(
        {
            (DAY, sensor, 1): (7.25, 2),
            (DAY + timedelta(minutes=10, milliseconds=500), sensor, 1): (-0.1, 3),
            (DAY, sensor, 2): (1234567.875, 2),
            (DAY + timedelta(days=1, microseconds=-1), sensor, 2): (5e-12, 4),
        }
    )
    assert archive.run().problems == []
    assert archive.all("select checksum_kind from archive.export") == [(2,)]
    # what the version before the checksum over bits wrote for these readings
    archive.all("update archive.export set checksum_kind = 1")
    archive.all("update archive.export_sensor set checksum = 1262370902303539591")
    assert archive.output("verify") == (0, "1 exports are what they were\n")
    archive.all("update archive.export_sensor set checksum = checksum + 1")
    code, text = archive.output("verify")
    assert code == 1
    assert "other values (checksum)" in text
