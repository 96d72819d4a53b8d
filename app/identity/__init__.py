"""Tenants, API keys, roles and permissions."""
