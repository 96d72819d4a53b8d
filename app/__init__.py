"""Headwater's API: bytes in, verdicts out; the rules live in SQL (see ../sql)."""
