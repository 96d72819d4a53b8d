"""The migrator: brings a database to the state that migrations/ and sql/ describe."""

from app.migrate.engine import Result, Status, migrate, status
from app.migrate.run import Done

__all__ = ["Done", "Result", "Status", "migrate", "status"]
