"""Fixtures live in fix_*.py, one topic a file."""

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
