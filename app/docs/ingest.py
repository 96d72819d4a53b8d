"""The description of the ingest bodies, which are decoded by hand for speed and so have no types."""

from typing import Any

READING: dict[str, Any] = {
    "type": "object",
    "required": ["sensor", "ts", "metric", "value"],
    "properties": {
        "sensor": {"type": "string", "description": "The device's uid."},
        "ts": {
            "description": "RFC 3339 with an offset, or an epoch number (`precision`).",
            "oneOf": [{"type": "string", "format": "date-time"}, {"type": "number"}],
        },
        "metric": {"type": "string", "description": "Code or alias, any case."},
        "value": {"type": "number"},
        "unit": {"type": "string", "description": "Converted; default: the metric's own."},
    },
}

COLUMNS: dict[str, Any] = {
    "type": "object",
    "required": ["sensor", "ts", "metrics"],
    "properties": {
        "sensor": {"type": "string"},
        "ts": {"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "number"}]}},
        "metrics": {
            "type": "object",
            "description": "An array as long as `ts` for each metric; null: no value then.",
            "additionalProperties": {"type": "array", "items": {"type": ["number", "null"]}},
        },
        "units": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}

ROW = {"sensor": "river-1", "ts": "2026-11-21T02:00:00Z", "metric": "pH", "value": 7.2}
FAHRENHEIT = {
    "sensor": "river-1",
    "ts": "2026-11-21T02:00:00Z",
    "metric": "temp",
    "value": 59.7,
    "unit": "degF",
}
COLUMNAR = {
    "sensor": "river-1",
    "ts": ["2026-11-21T02:00:00Z", "2026-11-21T02:15:00Z"],
    "metrics": {"ph": [7.2, 7.3], "turbidity": [4.1, None]},
    "units": {"turbidity": "NTU"},
}
NDJSON = (
    '{"sensor":"river-1","ts":"2026-11-21T02:00:00Z","metric":"ph","value":7.2}\n'
    '{"sensor":"river-1","ts":"2026-11-21T02:15:00Z","metric":"ph","value":7.3}\n'
)

CSV_LONG = "sensor,ts,metric,value,unit\nriver-1,2026-11-21T02:00:00Z,temperature,59.7,degF\n"
CSV_WIDE = (
    "sensor,ts,ph,temperature [degF]\n"
    "river-1,2026-11-21T02:00:00Z,7.2,59.7\n"
    "river-1,2026-11-21T02:15:00Z,7.3,\n"
)
LINES = (
    "water,sensor=river-1 ph=7.2,turbidity=4i 1795226400000000000\n"
    "temperature,sensor=river-1,unit=degF value=59.7 1795226400000000000\n"
)
TABLE: dict[str, Any] = {
    "schema": {"type": "string", "format": "binary"},
    "x-columns": (
        "Long: sensor, ts, metric, value, optional unit. Wide: sensor, ts and one for each metric, "
        "named `ph` or `temperature [degF]`, null where there is no value. Words are text, plain or "
        "dictionary; ts a timestamp with a time zone, an epoch number (`precision`) or RFC 3339 text."
    ),
}

INFLUX_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "string", "description": "`invalid`, `unauthorized`, …"},
        "message": {"type": "string", "description": "What is wrong; one line for each refusal."},
        "line": {"type": "integer", "description": "The first line refused, from 1."},
    },
}

VERDICTS: dict[str, Any] = {
    "type": "object",
    "description": "stored + duplicate + conflict + rejected = sent; late ones are stored, too.",
    "required": ["sent", "stored", "duplicate", "conflict", "late", "rejected"],
    "properties": {
        "sent": {"type": "integer"},
        "stored": {"type": "integer", "description": "Committed: durable."},
        "duplicate": {"type": "integer", "description": "The same value was there: fine."},
        "conflict": {"type": "integer", "description": "Another value was there, and stays."},
        "late": {"type": "integer"},
        "rejected": {"type": "integer"},
        "verdicts": {
            "type": "array",
            "description": "Every reading that was not simply stored.",
            "items": {
                "type": "object",
                "required": ["index", "verdict"],
                "properties": {
                    "index": {"type": "integer"},
                    "verdict": {"enum": ["late", "duplicate", "conflict", "rejected"]},
                    "field": {"type": "string"},
                    "reason": {"type": "string"},
                },
            },
        },
    },
}

VERDICTS_EXAMPLE = {
    "sent": 2,
    "stored": 1,
    "duplicate": 0,
    "conflict": 0,
    "late": 0,
    "rejected": 1,
    "verdicts": [
        {
            "index": 1,
            "verdict": "rejected",
            "field": "unit",
            "reason": "'mg/L' is ambiguous for nitrate: it does not say the basis",
        }
    ],
}


def _header(name: str, description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": schema or {"type": "string"},
    }


FLAT: dict[str, Any] = {
    "type": "object",
    "required": ["sensor_id"],
    "properties": {
        "sensor_id": {"type": "string"},
        "timestamp": {"type": "string", "description": "Default: the time of arrival."},
    },
    "additionalProperties": {"type": "number"},
}

BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/api/v1/readings"): {
        "parameters": [
            {
                "name": "precision",
                "in": "query",
                "required": False,
                "description": "Unit of epoch numbers in `ts`.",
                "schema": {"type": "string", "enum": ["s", "ms", "us", "ns"], "default": "s"},
            },
            _header("Idempotency-Key", "The same key and body get the same answer again."),
            _header("Prefer", "`return=minimal`: list only rejections and conflicts."),
            _header(
                "Content-Encoding",
                "How the body is compressed.",
                {"type": "string", "enum": ["gzip", "zstd", "identity"]},
            ),
        ],
        "requestBody": {
            "required": True,
            "description": (
                "Rows, columns of one or many sensors, NDJSON of either, or a table as CSV, Arrow "
                "IPC stream or Parquet file."
            ),
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            {"type": "array", "items": {"oneOf": [READING, COLUMNS]}},
                            READING,
                            COLUMNS,
                        ]
                    },
                    "examples": {
                        "rows": {"summary": "Rows", "value": [ROW, FAHRENHEIT]},
                        "columns": {"summary": "Columns of one sensor", "value": COLUMNAR},
                        "series": {"summary": "Columns of many sensors", "value": [COLUMNAR]},
                    },
                },
                "application/x-ndjson": {
                    "schema": {"type": "string"},
                    "examples": {"lines": {"summary": "One reading a line", "value": NDJSON}},
                },
                "text/csv": {
                    "schema": {"type": "string"},
                    "examples": {
                        "long": {"summary": "One reading a row", "value": CSV_LONG},
                        "wide": {"summary": "A column for each metric", "value": CSV_WIDE},
                    },
                },
                "application/vnd.apache.arrow.stream": TABLE,
                "application/vnd.apache.parquet": TABLE,
            },
        },
        "responses": {
            "200": {
                "description": "One verdict for each reading; whatever is called stored is durable.",
                "content": {"application/json": {"schema": VERDICTS, "example": VERDICTS_EXAMPLE}},
            }
        },
    },
    ("post", "/api/v2/write"): {
        "parameters": [
            {
                "name": "precision",
                "in": "query",
                "required": False,
                "description": "Unit of the lines' times.",
                "schema": {"type": "string", "enum": ["ns", "us", "ms", "s"], "default": "ns"},
            },
            *(
                {
                    "name": name,
                    "in": "query",
                    "required": False,
                    "description": "Taken and not looked at: the key decides the tenant.",
                    "schema": {"type": "string"},
                }
                for name in ("org", "bucket")
            ),
            _header(
                "Content-Encoding",
                "How the body is compressed.",
                {"type": "string", "enum": ["gzip", "zstd", "identity"]},
            ),
        ],
        "requestBody": {
            "required": True,
            "description": (
                "Influx line protocol. The tag `sensor` (else `sensor_id`, `device` or `host`) names "
                "the sensor, a field's name the metric (the measurement where the field is called "
                "`value`), the tag `unit` the unit. Text and booleans are refused, field by field."
            ),
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "examples": {"lines": {"summary": "Lines", "value": LINES}},
                }
            },
        },
        "responses": {
            "204": {"description": "Every reading is stored: durable."},
            "400": {
                "description": (
                    "`invalid`: the lines named in the message are refused, all others stored. Like "
                    "every error of this path in InfluxDB's form; 422 where only times are to blame."
                ),
                "content": {
                    "application/json": {
                        "schema": INFLUX_ERROR,
                        "example": {
                            "code": "invalid",
                            "message": "partial write: 2 stored, 1 refused\n"
                            "line 3: up: is a boolean; only numbers are stored",
                            "line": 3,
                        },
                    }
                },
            },
        },
    },
    ("post", "/api/sensors/data"): {
        "requestBody": {
            "required": True,
            "description": "One object, or a list of such.",
            "content": {
                "application/json": {
                    "schema": {"oneOf": [FLAT, {"type": "array", "items": FLAT}]},
                    "examples": {
                        "one": {
                            "summary": "One sensor",
                            "value": {"sensor_id": "123", "pH": 7.2, "temp": 15.4},
                        }
                    },
                }
            },
        },
        "responses": {
            "200": {
                "description": "Stored; the counts as in /api/v1/readings.",
                "content": {
                    "application/json": {
                        "schema": {
                            "allOf": [
                                {
                                    "type": "object",
                                    "properties": {
                                        "status": {"const": "success"},
                                        "message": {"type": "string"},
                                        "timestamp": {"type": "string", "format": "date-time"},
                                    },
                                },
                                VERDICTS,
                            ]
                        },
                        "example": {
                            "status": "success",
                            "message": "Data received",
                            "timestamp": "2026-11-21T02:00:00Z",
                            "sent": 2,
                            "stored": 2,
                            "duplicate": 0,
                            "conflict": 0,
                            "late": 0,
                            "rejected": 0,
                        },
                    }
                },
            }
        },
    },
}
