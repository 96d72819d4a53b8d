"""A migrator as a process of its own, for tests that start two or kill one.

python run_migrator.py URL FOLDER, where FOLDER holds migrations/ and sql/.
"""

import asyncio
import sys
from pathlib import Path

from app.errors import CommandError
from app.migrate import migrate

if __name__ == "__main__":
    url, folder = sys.argv[1], Path(sys.argv[2])
    try:
        asyncio.run(
            migrate(url, migrations=folder / "migrations", sql=folder / "sql", report=print)
        )
    except CommandError as exc:
        sys.exit(str(exc))
