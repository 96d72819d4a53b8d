"""What can go wrong, in one place: few classes, each with its HTTP status and problem type.

A problem is an RFC 9457 object: `type` is a path the API itself explains (`/problems/<slug>`),
`title` is fixed per type, `detail` names the field and the remedy. Database errors are mapped by
SQLSTATE and constraint name, never by message.
"""

from typing import Any, ClassVar


class CommandError(Exception):
    """A failure that one line on the command line explains: what is wrong and what to do."""


class Problem(Exception):
    """Base of everything the API refuses; subclasses fix status, slug and title."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something broke on our side"

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra

    def body(self, instance: str | None = None) -> dict[str, Any]:
        """The problem+json object."""
        body: dict[str, Any] = {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if instance:
            body["instance"] = instance
        return body | self.extra


class BadRequest(Problem):
    """A parameter or field has the wrong type or value."""

    status = 400
    slug = "bad-request"
    title = "The request can't be understood"


class MalformedBody(Problem):
    """The body is not what its content type says."""

    status = 400
    slug = "malformed-body"
    title = "The body can't be decoded"


class EmptyBatch(Problem):
    """The body is well-formed but holds no reading."""

    status = 400
    slug = "empty-batch"
    title = "There is no reading in the request"


class Unauthorized(Problem):
    """No key, or one that is unknown, revoked or expired."""

    status = 401
    slug = "unauthorized"
    title = "A valid API key is needed"


class Forbidden(Problem):
    """The key is valid, but its role lacks the permission."""

    status = 403
    slug = "forbidden"
    title = "The key's role does not permit this"


class NotFound(Problem):
    """No such thing, or not in the caller's tenant."""

    status = 404
    slug = "not-found"
    title = "There is no such thing here"


class MethodNotAllowed(Problem):
    """The path exists, the method does not."""

    status = 405
    slug = "method-not-allowed"
    title = "The path does not take this method"


class NotAcceptable(Problem):
    """No representation the client accepts."""

    status = 406
    slug = "not-acceptable"
    title = "None of the accepted formats is offered"


class Conflict(Problem):
    """The thing's present state does not permit the change."""

    status = 409
    slug = "conflict"
    title = "The present state does not permit this"


class BodyTooLarge(Problem):
    """The body is larger than the limit, as sent or once decompressed."""

    status = 413
    slug = "body-too-large"
    title = "The body is too large"


class TooManyReadings(Problem):
    """More readings in one request than the limit."""

    status = 413
    slug = "too-many-readings"
    title = "Too many readings in one request"


class UnsupportedMediaType(Problem):
    """The content type or encoding is not one we read."""

    status = 415
    slug = "unsupported-media-type"
    title = "The body's type or encoding is not supported"


class NothingStored(Problem):
    """Every reading of the request was rejected; `verdicts` says why, one by one."""

    status = 422
    slug = "nothing-stored"
    title = "No reading of the request was accepted"


class ClockWindow(Problem):
    """Every reading's time lies outside the window that the server accepts."""

    status = 422
    slug = "clock-window"
    title = "The sensor's clock is wrong"


class IdempotencyMismatch(Problem):
    """The Idempotency-Key was used before with another body."""

    status = 422
    slug = "idempotency-mismatch"
    title = "The Idempotency-Key belongs to another request"


class QueryRefused(Problem):
    """The SQL is not one SELECT over the contract's views; `reason`, `line` and `column` say why."""

    status = 422
    slug = "query-refused"
    title = "This SQL is not run here"


class QueryTooCostly(Problem):
    """The query would cost, or took, more than is allowed."""

    status = 422
    slug = "query-too-costly"
    title = "The query is too costly"


class RateLimited(Problem):
    """The sensor, key or tenant sent more than its allowance."""

    status = 429
    slug = "rate-limited"
    title = "Too many readings for now"


class Unavailable(Problem):
    """The database can't be reached or the queue is full: try again, nothing was stored."""

    status = 503
    slug = "unavailable"
    title = "Not possible right now, try again"


class NodeUnavailable(Problem):
    """A node of a distributed server can't be reached, and the request needs it; others go on."""

    status = 503
    slug = "node-unavailable"
    title = "A server that holds part of the data can't be reached"


class PartlyStored(Problem):
    """Some readings are stored, others not: a server of a distributed database is away."""

    status = 503
    slug = "partly-stored"
    title = "Not all readings could be stored, try again"


def all_problems() -> list[type[Problem]]:
    """Every problem class, sorted by slug, for the pages that explain them and their test."""
    return sorted([Problem, *Problem.__subclasses__()], key=lambda kind: kind.slug)
