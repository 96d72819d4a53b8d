"""Benchmarks that judge themselves: every result is a ratio to a limit measured in the same run."""
