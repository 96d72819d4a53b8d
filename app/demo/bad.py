"""Records that must be refused, each with the reason the server has to give."""

from typing import Any

GOOD = {"sensor": "nerrs-elksmwq", "metric": "ph", "value": 7.9}

# (record without its time, field to be named)
BAD: tuple[tuple[dict[str, Any], str], ...] = (
    (GOOD | {"sensor": "nobody-knows-me"}, "sensor"),
    (GOOD | {"metric": "phlogiston"}, "metric"),
    (GOOD | {"value": "seven"}, "value"),
    (GOOD | {"value": None}, "value"),
    (GOOD | {"metric": "temperature", "unit": "furlong"}, "unit"),
    (GOOD | {"metric": "nitrate", "unit": "mg/L"}, "unit"),
    (GOOD | {"ts": "2999-01-01T00:00:00Z"}, "ts"),
    (GOOD | {"ts": "1970-01-01T00:00:00Z"}, "ts"),
    (GOOD | {"ts": "yesterday"}, "ts"),
)


def bad_records(ts: str) -> list[dict[str, Any]]:
    """The records; those without a time of their own get `ts`."""
    return [{"ts": ts} | record for record, _ in BAD]


def complaints(verdicts: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the server's verdicts on `bad_records`; empty if nothing."""
    by_index = {verdict["index"]: verdict for verdict in verdicts}
    wrong = []
    for index, (record, field) in enumerate(BAD):
        verdict = by_index.get(index, {})
        if verdict.get("verdict") != "rejected" or verdict.get("field") != field:
            wrong.append(f"{record}: expected a rejection naming {field}, got {verdict}")
    return wrong
