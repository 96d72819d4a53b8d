"""Alerts and thresholds over HTTP."""
