"""Where the project's own files are.

Headwater runs from its checkout (an editable install) or from the image, which has the same tree.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIGRATIONS = ROOT / "migrations"
SQL = ROOT / "sql"
QUERIES = SQL / "queries"
STATE = ROOT / ".headwater"
