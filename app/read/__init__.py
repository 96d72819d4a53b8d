"""Reads: catalogue, readings, latest values."""
