"""Where the project's own files are.

Headwater runs from its checkout (an editable install) or from the image, which has the same tree.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIGRATIONS = ROOT / "migrations"
SQL = ROOT / "sql"
QUERIES = SQL / "queries"
STATE = Path(os.environ.get("HEADWATER_STATE", ROOT / ".headwater"))
"""The local runtime's folder; HEADWATER_STATE moves it, so that a test has one of its own."""
