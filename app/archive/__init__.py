"""Readings that left the database for Parquet files, and how they are still found."""
