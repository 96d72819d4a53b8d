"""The relay among attackers, broken clients and a server that goes away."""

import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from fix_cold import ColdWorld, cold_world
from fix_database import Server
from fix_relay import Relay, login_of, psql, relaying, rows
from fix_sql import statements
from relay_client import Client

from app.local.credentials import free_port
from app.relay import wire

SLOW = "select count(*) from reading as a, reading as b, reading as c, reading as d"
COUNT = "select count(*) from reading"
THEIRS = re.compile(r"(?<![\w-])b-[12](?![\w-])")
"""The other tenant's sensors."""
CHANGES = (
    "select md5(string_agg(t, '|' order by t)) from ("
    " select r::text as t from telemetry.sensor as r union all select r::text from identity.tenant as r"
    " union all select r::text from identity.analyst_login as r"
    " union all select concat(a.rolname, a.rolsuper, a.rolpassword) from pg_authid as a"
    " union all select concat(c.relname, c.relkind, c.relowner, c.relacl) from pg_class as c"
    "   where c.relnamespace::regnamespace::text !~ '^(_timescaledb|pg_toast)') as everything"
)


class Yard:
    """A relay that is harder to wear out: its limits are wide."""

    def __init__(self, world: ColdWorld, relay: Relay, url: str) -> None:
        self.world = world
        self.relay = relay
        self.direct = url
        self.url = relay.url(url)

    def working(self) -> int:
        """Queries that run in the relay or the server."""
        ((found,),) = self.world.archive.all(
            "select count(*) from pg_stat_activity where state = 'active' and usename in"
            " ('headwater_sql', 'tenant_a')"
        )
        return int(found)

    def cpu(self) -> float:
        """Seconds that the relay has worked."""
        fields = Path(f"/proc/{self.relay.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Most megabytes that the relay had."""
        status = Path(f"/proc/{self.relay.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024

    def assert_idle(self) -> None:
        """Within some seconds nothing is computed any more."""
        end = time.monotonic() + 20
        while True:
            before = self.cpu()
            time.sleep(1)
            if self.cpu() - before < 0.3 and self.working() == 0:
                return
            assert time.monotonic() < end


@pytest.fixture(scope="module")
def yard(
    pg_server: Server, pg_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("relay")
    wide = {"SQL_MAX_COST": "1e30", "SQL_TIMEOUT_SECONDS": "60"}
    with cold_world(pg_server, pg_template, folder) as world:
        url = login_of(world.archive.database, "a")
        world.archive_now()
        with relaying(world.environment | wide, free_port(), folder / "relay.log") as relay:
            yield Yard(world, relay, url)


def test_attacks_as_a_tenants_login(yard: Yard) -> None:
    """None changes anything or shows a row of the other tenant."""
    others = yard.world.others
    archive = yard.world.archive
    before = archive.all(CHANGES), archive.hot(), archive.cold()
    aim = {"tenant": archive.tenants["b"], "sensor": others[0]}
    options = "-c statement_timeout=300"
    for _, text in statements("attacks.txt", **aim):
        with psycopg.connect(yard.url, autocommit=True, options=options) as connection:
            try:
                cursor = connection.execute(text.encode())
                found = [cursor.fetchmany(2_000)] if cursor.description else []
            except (psycopg.Error, UnicodeError) as exc:
                found = [str(exc)]
        assert not THEIRS.search(str(found)), (text, THEIRS.search(str(found)))
    assert (archive.all(CHANGES), archive.hot(), archive.cold()) == before
    assert before[1] | before[2] == archive.ledger
    whole = rows(yard.url, "select distinct sensor_id from reading")
    assert not {row[0] for row in whole} & set(others)


def test_ctrl_c_ends_a_query_over_the_archive(yard: Yard) -> None:
    process = subprocess.Popen(
        ["psql", yard.url, "-X", "-At", "-c", SLOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert "canceling statement due to user request" in said
    yard.assert_idle()


def test_a_query_of_the_database_is_cancelled_there(yard: Yard) -> None:
    with psycopg.connect(yard.url, autocommit=True) as connection:
        with ThreadPoolExecutor() as threads:
            running = threads.submit(connection.execute, "select pg_sleep(30)")
            time.sleep(1)
            connection.cancel()
            with pytest.raises(psycopg.errors.QueryCanceled):
                running.result(timeout=20)
        assert connection.execute("select 1").fetchall() == [(1,)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_client_that_dies_or_stops_costs_its_own_session(yard: Yard, how: signal.Signals) -> None:
    text = (
        SLOW if how == signal.SIGKILL else "select * from reading as a, reading as b limit 9000000"
    )
    process = subprocess.Popen(
        ["psql", yard.url, "-X", "-At", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(3)
    process.send_signal(how)
    assert rows(yard.url, COUNT)[0][0] > 0  # others go on
    if how == signal.SIGSTOP:
        process.kill()
    process.communicate()
    yard.assert_idle()


def test_large_answers_need_little_memory(yard: Yard) -> None:
    rows(yard.url, COUNT)
    before = yard.memory()
    text = "select a.ts, a.value, b.sensor_id, b.ts from reading as a, reading as b limit 400000"
    done = subprocess.run(
        ["psql", yard.url, "-X", "-At", "-c", "\\set FETCH_COUNT 0", "-c", text],
        stdout=subprocess.PIPE,
        check=True,
        timeout=100,
    )
    assert done.stdout.count(b"\n") == 400_000
    assert yard.memory() - before < 400
    hot = "select n, repeat('x', 100) from generate_series(1, 1000000) as n"
    done = subprocess.run(
        ["psql", yard.url, "-X", "-At", "-c", hot], stdout=subprocess.PIPE, check=True, timeout=100
    )
    assert done.stdout.count(b"\n") == 1_000_000
    wide = rows(yard.url, "select repeat('x', 50000000)")
    assert len(wide[0][0]) == 50_000_000
    assert yard.memory() - before < 400


def test_rows_come_by_pages_as_jdbc_asks(yard: Yard) -> None:
    client = Client(yard.url)
    text = b"select ts from reading order by ts, sensor_id, metric_id"
    page = b"p\0" + struct.pack(">I", 1000)
    client.send(
        (wire.QUERY, b"begin\0"),
        (wire.PARSE, wire.parse(b"s", text)),
        (wire.BIND, b"p\0s\0" + bytes(6)),
        (wire.DESCRIBE, b"Pp\0"),
        (wire.EXECUTE, page),
        (wire.SYNC, b""),
    )
    client.until(wire.READY)
    kinds = [kind for kind, _ in client.until(wire.READY)]
    assert kinds[:3] == [wire.PARSED, wire.BOUND, wire.ROW_DESCRIPTION]
    assert (kinds.count(wire.DATA_ROW), kinds[-2]) == (1000, wire.SUSPENDED)
    count = 1000
    while kinds[-2] == wire.SUSPENDED:
        client.send((wire.EXECUTE, page), (wire.SYNC, b""))
        kinds = [kind for kind, _ in client.until(wire.READY)]
        count += kinds.count(wire.DATA_ROW)
    assert count == rows(yard.url, COUNT)[0][0]
    # the statement stays, and a hot one may take its name
    client.send(
        (wire.CLOSE, b"Sunknown\0"),
        (wire.BIND, b"q\0s\0" + bytes(6)),
        (wire.EXECUTE, b"q\0" + struct.pack(">I", 5)),
        (wire.CLOSE, b"Pq\0"),
        (wire.CLOSE, b"Ss\0"),
        (wire.PARSE, wire.parse(b"s", b"select 1")),
        (wire.BIND, b"r\0s\0" + bytes(6)),
        (wire.EXECUTE, b"r\0" + bytes(4)),
        (wire.SYNC, b""),
    )
    kinds = [kind for kind, _ in client.until(wire.READY)]
    assert kinds.count(wire.DATA_ROW) == 6 and wire.ERROR not in kinds
    client.send((wire.TERMINATE, b""))
    yard.assert_idle()


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\xff" * 64,
        b"\0\0\0\x08\0\0\0\0",
        b"\x7f\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">II", 8, wire.SSL) * 3,
        struct.pack(">III", 16, wire.CANCEL, 1) + bytes(4),
        struct.pack(">II", 9, wire.PROTOCOL) + b"\0",
    ],
)
def test_nonsense_before_the_login(yard: Yard, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", yard.relay.port), timeout=20) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        while line.recv(4096):
            pass
    assert rows(yard.url, "select 1") == [(1,)]


@pytest.mark.parametrize(
    "data",
    [
        b"Q\x7f\xff\xff\xff" + bytes(100),
        b"Q\0\0\0\x01",
        b"Q\0\0\0\x04",
        b"P\0\0\0\x05a",
        b"B\0\0\0\x0aa\0b\0\0\1",
        b"B\0\0\0\x10a\0b\0\0\0\0\1\x7f\xff\xff\xff",
        b"E\0\0\0\x05\0",
        b"\0\0\0\0\x04",
        b"R\0\0\0\x08\0\0\0\0",
        b"S\0\0\0\x04" * 1000,
    ],
)
def test_nonsense_after_the_login(yard: Yard, data: bytes) -> None:
    client = Client(yard.url)
    client.socket.sendall(data)
    client.socket.shutdown(socket.SHUT_WR)
    with suppress(EOFError, OSError):
        while True:
            client.receive()
    assert rows(yard.url, COUNT)[0][0] > 0


def test_many_clients_at_once(yard: Yard) -> None:
    def one(number: int) -> int:
        text = COUNT if number % 5 == 0 else f"select {number}"
        for _ in range(200):
            try:
                return int(rows(yard.url, text)[0][0])
            except psycopg.OperationalError as exc:
                if "too many connections" not in str(exc) and "Too many queries" not in str(exc):
                    raise
                time.sleep(0.1)
        raise AssertionError

    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(one, range(1, 60)))
    assert all(found)
    sleepers = [socket.create_connection(("127.0.0.1", yard.relay.port)) for _ in range(100)]
    assert rows(yard.url, "select 1") == [(1,)]
    for sleeper in sleepers:
        sleeper.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_server_that_dies_and_comes_back(yard: Yard, pg_server: Server) -> None:
    if pg_server.is_distributed:
        pytest.skip("the one server's death is enough")
    with psycopg.connect(yard.url, autocommit=True) as connection:
        pg_server.kill9()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    away = psql(yard.url, "-c", "select 1")
    assert "the database can't be reached" in away.stderr
    pg_server.start()
    until(lambda: psql(yard.url, "-c", COUNT).returncode == 0)
    yard.world.archive.db.close()
    yard.world.archive.db = psycopg.connect(yard.world.archive.database.url(), autocommit=True)
