"""The doctor's rules, without a server."""

import pytest

from app.local.doctor import (
    Offer,
    features,
    findings,
    is_dangerous,
    make_offer,
    version_tuple,
)
from app.local.doctor_cli import lines, make_report, table
from app.local.doctor_nodes import NodeOffer

SAFE = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.license": "apache",
    "max_parallel_workers_per_gather": "2",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "data_checksums": "on",
}


def offer(
    *, timescaledb: str | None = "2.29.2", citus: str | None = None, **settings: str
) -> Offer:
    extensions = {"timescaledb": (timescaledb, timescaledb)} if timescaledb else {}
    if citus:
        extensions["citus"] = (citus, citus)
    return make_offer(
        server_version="17.11 (Debian 17.11-0+deb13u1)",
        extensions=extensions,
        settings=SAFE | {name.replace("__", "."): value for name, value in settings.items()},
    )


def subjects(of: Offer, level: str) -> list[str]:
    return [finding.subject for finding in findings(of) if finding.level == level]


def test_edition_is_what_the_server_says() -> None:
    assert offer().edition == "apache"
    assert offer(timescaledb__license="timescale").edition == "community"
    assert offer(timescaledb=None).edition == "none"


def test_edition_is_none_until_the_extension_is_created() -> None:
    made = make_offer(
        server_version="17.11", extensions={"timescaledb": ("2.29.2", None)}, settings=SAFE
    )
    assert made.edition == "none"
    assert [finding.level for finding in findings(made)] == ["note"]
    assert {item.status for item in features(made)} <= {"unknown", "substitute", "no"}


def test_a_good_server_has_no_findings() -> None:
    assert findings(offer()) == []


def test_few_locks_are_warned_of() -> None:
    few = offer(max_locks_per_transaction="64")
    assert subjects(few, "warning") == ["max_locks_per_transaction"]
    assert not is_dangerous(findings(few))
    assert findings(offer(max_locks_per_transaction="256")) == []


@pytest.mark.parametrize("preload", ["citus,timescaledb", '"citus", "timescaledb"'])
def test_citus_and_timescaledb_with_parallel_query_are_dangerous(preload: str) -> None:
    bad = offer(citus="14.0-1", shared_preload_libraries=preload)
    assert subjects(bad, "danger") == ["parallel query"]
    assert is_dangerous(findings(bad))


def test_the_clash_is_seen_by_a_role_that_may_not_see_the_preload_list() -> None:
    made = make_offer(
        server_version="17.11",
        extensions={"timescaledb": ("2.29.2", "2.29.2"), "citus": ("14.0-1", "14.0-1")},
        settings={"max_parallel_workers_per_gather": "2"},
    )
    assert made.preload is None
    assert subjects(made, "danger") == ["parallel query"]


@pytest.mark.parametrize(
    ("timescaledb", "parallel"), [("2.29.2", "0"), ("2.21.4", "2"), ("2.22.0", "0")]
)
def test_no_clash_without_parallel_query_or_before_2_22(timescaledb: str, parallel: str) -> None:
    fine = offer(
        timescaledb=timescaledb,
        citus="14.0-1",
        shared_preload_libraries="citus,timescaledb",
        max_parallel_workers_per_gather=parallel,
    )
    assert subjects(fine, "danger") == []


def test_citus_must_come_first() -> None:
    bad = offer(
        citus="14.0-1",
        shared_preload_libraries="timescaledb,citus",
        max_parallel_workers_per_gather="0",
    )
    assert subjects(bad, "danger") == ["citus"]


@pytest.mark.parametrize(
    ("version", "level"), [("2.18.0", "danger"), ("2.18.1", "warning"), ("2.26.4", None)]
)
def test_old_timescaledb(version: str, level: str | None) -> None:
    assert [finding.level for finding in findings(offer(timescaledb=version))] == (
        [level] if level else []
    )


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_settings_that_lose_data_are_dangerous(setting: str) -> None:
    assert subjects(offer(**{setting: "off"}), "danger") == [setting]


def test_missing_checksums_are_a_note() -> None:
    without = offer(data_checksums="off")
    assert subjects(without, "note") == ["data checksums"]
    assert not is_dangerous(findings(without))


def test_timescaledb_missing_or_not_preloaded_is_dangerous() -> None:
    assert subjects(offer(timescaledb=None), "danger") == ["timescaledb"]
    assert subjects(offer(shared_preload_libraries=""), "danger") == ["timescaledb"]


def test_newer_files_than_extension_are_a_note() -> None:
    made = make_offer(
        server_version="17.11", extensions={"timescaledb": ("2.29.2", "2.27.0")}, settings=SAFE
    )
    assert subjects(made, "note") == ["timescaledb"]


def test_apache_has_substitutes_for_all_but_compression_and_sharding() -> None:
    missing = [item.feature for item in features(offer()) if item.status == "no"]
    assert missing == ["columnstore compression", "sharding over servers"]


def test_versions_compare_as_numbers() -> None:
    assert version_tuple("2.9.1") < version_tuple("2.18.1") < version_tuple("2.26.4-dev") < (3,)


def test_report_names_each_finding_with_its_remedy() -> None:
    bad = offer(fsync="off")
    text = "\n".join(lines(make_report(bad, [])))
    assert "DANGER  fsync: off" in text
    assert "alter system set fsync = on" in text


def test_table_aligns() -> None:
    assert table([("a", None), ("bbb", "c")], ("x", "y")) == ["x    y", "a    -", "bbb  c"]


GUARDED = {"shared_preload_libraries": "citus,timescaledb", "max_parallel_workers_per_gather": "0"}


@pytest.mark.parametrize(
    ("prepared", "level"), [("0", "danger"), ("50", "warning"), ("100", None), ("200", None)]
)
def test_writes_to_several_shards_need_prepared_transactions(
    prepared: str, level: str | None
) -> None:
    node = offer(
        citus="14.0-1", max_prepared_transactions=prepared, max_connections="100", **GUARDED
    )
    assert [finding.level for finding in findings(node)] == ([level] if level else [])


def test_every_node_is_judged_and_compared() -> None:
    first = offer(citus="14.0-1", **GUARDED)
    same = NodeOffer(number=1, address="127.0.0.1:1", shards=2, is_aside=False, offer=first)
    fast = NodeOffer(
        number=2,
        shards=2,
        is_aside=False,
        address="127.0.0.1:2",
        offer=offer(citus="14.0-1", **GUARDED | {"max_parallel_workers_per_gather": "2"}),
    )
    old = NodeOffer(
        number=3,
        shards=2,
        is_aside=False,
        address="127.0.0.1:3",
        offer=offer(timescaledb="2.28.0", citus="13.0-1", **GUARDED),
    )
    down = NodeOffer(number=4, address="127.0.0.1:4", shards=2, is_aside=False, offer=None)
    assert make_report(first, [same]).findings == []
    report = make_report(first, [same, fast, old, down])
    assert [(finding.level, finding.subject) for finding in report.findings] == [
        ("danger", "node 2, parallel query"),
        ("danger", "node 3, citus"),
        ("danger", "node 3, timescaledb"),
        ("danger", "node 4, 127.0.0.1:4"),
    ]
    text = "\n".join(lines(report))
    assert "4     127.0.0.1:4  2       down" in text
    assert "2.28.0 there, 2.29.2 here" in text
