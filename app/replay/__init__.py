"""Plays recorded data back: reads published files and posts them as their sensors would."""
