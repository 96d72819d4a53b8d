"""Fixtures live in fix_*.py, one topic a file."""

import os
from pathlib import Path

# before anything of ours is imported: what `headwater dev up` or a demo has left in this checkout, the
# relay's port for one, is no setting of a test
os.environ["HEADWATER_STATE"] = str(Path(__file__).resolve().parents[1] / ".headwater" / "tests")

pytest_plugins = [
    "fix_database",
    "fix_archive",
    "fix_cluster",
    "fix_pooler",
    "fix_redis",
    "fix_replica",
    "fix_repository",
    "fix_s3",
    "fix_server",
]
