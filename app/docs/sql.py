"""The description of people's SQL: what is asked and what is answered."""

from typing import Any

SQL_BODY: dict[str, Any] = {
    "type": "object",
    "required": ["sql"],
    "additionalProperties": False,
    "properties": {
        "sql": {"type": "string", "description": "One SELECT over the views of docs/sql.md."},
        "params": {
            "type": "array",
            "description": "Values of $1, $2, …",
            "maxItems": 100,
            "items": {"type": ["string", "number", "boolean", "null"]},
        },
        "limit": {"type": "integer", "minimum": 1, "default": 10_000, "description": "Most rows."},
        "tenant": {"type": "string", "description": "Tenant slug; only for super admins."},
    },
}

SQL_EXAMPLE = {
    "sql": "select time_bucket('1 hour', ts) as hour, avg(value) as mean from reading "
    "where sensor_id = (select sensor_id from sensor where sensor = $1) "
    "and ts >= now() - interval '7 days' group by hour order by hour",
    "params": ["river-1"],
}

SQL_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": [
        "columns",
        "rows",
        "row_count",
        "truncated",
        "engine",
        "scanned",
        "seconds",
    ],
    "properties": {
        "columns": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "type"],
                "properties": {"name": {"type": "string"}, "type": {"type": "string"}},
            },
        },
        "rows": {"type": "array", "items": {"type": "array"}},
        "row_count": {"type": "integer"},
        "truncated": {"type": "boolean", "description": "There are more rows than were sent."},
        "engine": {
            "enum": ["postgresql", "duckdb"],
            "description": "duckdb where the query reaches readings that are archived.",
        },
        "scanned": {
            "type": "object",
            "required": ["cost", "rows", "cold_files", "cold_rows", "cold_bytes"],
            "description": "The plan's estimates, to one digit, and the archive's files.",
            "properties": {
                "cost": {"type": "number"},
                "rows": {"type": "number"},
                "cold_files": {"type": "integer"},
                "cold_rows": {"type": "integer"},
                "cold_bytes": {"type": "integer"},
            },
        },
        "seconds": {"type": "number"},
    },
}

BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/api/v1/sql"): {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": SQL_BODY,
                    "examples": {"hours": {"summary": "Hourly means", "value": SQL_EXAMPLE}},
                }
            },
        },
        "responses": {
            "200": {
                "description": (
                    "The rows. CSV and Arrow say the rest in the headers Headwater-Engine, "
                    "Headwater-Scanned, Headwater-Row-Count, Headwater-Truncated."
                ),
                "content": {
                    "application/json": {"schema": SQL_ANSWER},
                    "text/csv": {"schema": {"type": "string"}},
                    "application/vnd.apache.arrow.stream": {
                        "schema": {"type": "string", "format": "binary"}
                    },
                },
            }
        },
    },
}
