"""Reading times: every form that is taken, to the microsecond, and every refusal."""

import pytest

from app.errors import BadRequest
from app.ingest.times import parse_times

T = 1_795_226_400_000_000  # 2026-11-21T02:00:00Z


def one(value: object, precision: str = "s") -> int | str:
    """Microseconds, or the reason."""
    times, reasons = parse_times([value], precision)
    return reasons[0] if reasons else int(times[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T02:00:00Z", T),
        ("2026-11-21T02:00:00z", T),
        ("2026-11-21t02:00:00Z", T),
        ("2026-11-21 02:00:00Z", T),
        ("2026-11-21T02:00:00+00:00", T),
        ("2026-11-21T04:30:00+02:30", T),
        ("2026-11-20T18:00:00-08:00", T),
        ("2026-11-21T02:00:00.5Z", T + 500_000),
        ("2026-11-21T02:00:00.123456Z", T + 123_456),
        ("2026-11-21T02:00:00.123456789Z", T + 123_456),
        ("1969-12-31T23:59:59Z", -1_000_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
    ],
)
def test_rfc_3339(text: str, expected: int) -> None:
    assert one(text) == expected


@pytest.mark.parametrize("precision", ["s", "ms", "us", "ns"])
def test_epoch_numbers_in_every_precision(precision: str) -> None:
    number = T * 1000 // {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[precision]
    assert one(number, precision) == T
    assert list(parse_times([number, number], precision)[0]) == [T, T]


def test_epoch_fractions() -> None:
    assert one(1_795_226_400.25) == T + 250_000
    assert one(1_795_226_400_000.5, "ms") == T + 500


def test_nanoseconds_are_cut_to_microseconds() -> None:
    assert list(parse_times([T * 1000 + 1_999], "ns")[0]) == [T + 1]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "is missing"),
        ("", "is not RFC 3339"),
        ("yesterday", "is not RFC 3339"),
        ("2026-11-21", "has no UTC offset"),
        ("2026-11-21T02:00:00", "has no UTC offset"),
        ("2026-02-30T02:00:00Z", "is not RFC 3339"),
        ("2026-11-21T25:00:00Z", "is not RFC 3339"),
        ("2026-11-21T02:00:00Z\0", "is not RFC 3339"),
        ("٢٠٢٦-11-21T02:00:00Z", "is not RFC 3339"),
        (True, "must be RFC 3339 text or an epoch number"),
        ([], "must be RFC 3339 text or an epoch number"),
        ({"a": 1}, "must be RFC 3339 text or an epoch number"),
        (float("nan"), "nan is no epoch time in s"),
        (float("inf"), "inf is no epoch time in s"),
        (1e300, "is no epoch time in s"),
        (10**400, "is no epoch time in s"),
        (-(10**400), "is no epoch time in s"),
        (1_795_226_400_000, "add ?precision=ms"),
    ],
)
def test_refusals_say_why(value: object, why: str) -> None:
    reason = one(value)
    assert isinstance(reason, str)
    assert why in reason
    assert len(reason) < 120


def test_a_bad_time_costs_only_itself() -> None:
    times, reasons = parse_times(["2026-11-21T02:00:00Z", "x", 1_795_226_400])
    assert (times[0], times[2], list(reasons)) == (T, T, [1])


def test_texts_of_different_lengths() -> None:
    times, reasons = parse_times(["2026-11-21T02:00:00Z", "2026-11-21T02:00:00.5Z"])
    assert (list(times), reasons) == ([T, T + 500_000], {})


def test_one_long_text_among_many_costs_no_memory() -> None:
    texts = ["2026-11-21T02:00:00Z"] * 40_000 + ["x" * 1_000_000]  # 40 GB as one array
    times, reasons = parse_times(texts)
    assert list(reasons) == [40_000]
    assert times[0] == T


def test_huge_integers_in_a_column_cost_only_themselves() -> None:
    times, reasons = parse_times([10**400, 1_795_226_400])
    assert (times[1], list(reasons)) == (T, [0])


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(BadRequest, match="none of s, ms, us, ns"):
        parse_times([1], "minutes")
