"""How much one request may hold, and in which unit its epoch numbers are."""

import msgspec

from app.errors import TooManyReadings


class Limits(msgspec.Struct, frozen=True):
    """What one request may hold."""

    max_readings: int
    precision: str = "s"
    max_bytes: int = 16_777_216

    def check(self, count: int) -> None:
        """Raise TooManyReadings."""
        if count > self.max_readings:
            raise TooManyReadings(
                f"{count} readings are more than the {self.max_readings} that one request may hold; "
                "send several.",
                limit_readings=self.max_readings,
            )
