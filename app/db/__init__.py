"""Connections and named statements."""
