"""Times as microseconds since 1970 (UTC), to and fro, exact."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    """Microseconds since 1970; exact, unlike datetime.timestamp(). Raises OverflowError."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_of(us: int) -> datetime:
    """The time so many microseconds after 1970. Raises OverflowError for what is no date."""
    return EPOCH + timedelta(microseconds=us)
