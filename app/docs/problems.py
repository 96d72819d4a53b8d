"""The pages behind a problem's `type`: /problems and /problems/<slug>."""

from html import escape

import msgspec

from app.errors import Problem, all_problems

REMEDY: dict[str, str] = {
    "bad-request": "Correct the parameter or field that `detail` names.",
    "body-too-large": "Send less in one request, or compress it; the limit is on both sizes.",
    "clock-window": "Set the sensor's clock; `detail` says how far from the server's a time may be.",
    "conflict": "Read the thing again; somebody or something changed it before you.",
    "empty-batch": "Send at least one reading.",
    "forbidden": "Use a key of a role that has the permission `detail` names.",
    "idempotency-mismatch": "Use a new Idempotency-Key for every new body.",
    "internal-error": "Try again later; if it stays, tell the operator when it happened.",
    "malformed-body": "Check that the body is whole, valid UTF-8 and what Content-Type says.",
    "method-not-allowed": "See /docs for the methods of the path.",
    "not-acceptable": "Accept one of the formats that `detail` names.",
    "not-found": "Check the name; things of other tenants do not exist for you.",
    "node-unavailable": "Send the same again after Retry-After seconds, or ask for other sensors.",
    "nothing-stored": "Look at `verdicts`: each says which field is wrong and why.",
    "partly-stored": "Send it all again after Retry-After seconds; what is stored will be a duplicate.",
    "query-refused": "Write one SELECT over the views of docs/sql.md, with the functions it lists.",
    "query-too-costly": "Ask for a shorter span, fewer sensors, or a rollup (reading_1h, reading_1d).",
    "rate-limited": "Send the same again after Retry-After seconds; `limit` names what was exceeded.",
    "too-many-readings": "Split the batch; sending a part twice does no harm.",
    "unauthorized": "Send `Authorization: Bearer hw_…`; `headwater key create` makes a key.",
    "unavailable": "Send the same again after Retry-After seconds; nothing was stored twice.",
    "unsupported-media-type": "Send a Content-Type and Content-Encoding that /docs names.",
}


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One problem type, explained."""

    type: str
    title: str
    status: int
    meaning: str
    remedy: str


def by_slug(slug: str) -> type[Problem] | None:
    """The problem class of a slug."""
    return next((kind for kind in all_problems() if kind.slug == slug), None)


def explain(kind: type[Problem]) -> Explanation:
    """A problem class as data."""
    return Explanation(
        type=f"/problems/{kind.slug}",
        title=kind.title,
        status=kind.status,
        meaning=" ".join((kind.__doc__ or "").split()),
        remedy=REMEDY[kind.slug],
    )


def as_json(slug: str | None) -> Explanation | list[Explanation]:
    """One type, or all."""
    if slug is None:
        return [explain(kind) for kind in all_problems()]
    kind = by_slug(slug)
    assert kind is not None
    return explain(kind)


def as_html(slug: str | None) -> str:
    """One type, or all, for people."""
    found = as_json(slug)
    title = "Problem types" if isinstance(found, list) else found.title
    sections = "".join(_section(one) for one in (found if isinstance(found, list) else [found]))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · Headwater</title>"
        '<link rel="icon" type="image/png" href="/docs/assets/favicon-32x32.png">'
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;"
        "padding:0 1rem}code{background:#eee;padding:0 .2rem}</style></head><body>"
        f"<h1>{escape(title)}</h1>{sections}"
        '<p><a href="/problems">All problem types</a> · <a href="/docs">API</a></p></body></html>\n'
    )


def _section(one: Explanation) -> str:
    return (
        f'<section><h2><a href="{one.type}">{escape(one.title)}</a></h2>'
        f"<p>Status {one.status}, type <code>{one.type}</code></p>"
        f"<p>{escape(one.meaning)}</p><p>{escape(one.remedy)}</p></section>"
    )
