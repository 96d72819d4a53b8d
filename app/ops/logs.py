"""Structured logs of every process: JSON lines, or for a terminal, readable ones.

structlog's own events and what libraries say through `logging` come out in the same form on standard
error. `HEADWATER_LOG` (json or console) overrides the choice.
"""

import logging
import logging.config
import os
import sys
from typing import Any, Literal

import structlog

Style = Literal["json", "console"]

SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def style() -> Style:
    """Readable on a terminal, JSON everywhere else."""
    wanted = os.environ.get("HEADWATER_LOG", "")
    if wanted in ("json", "console"):
        return "json" if wanted == "json" else "console"
    return "console" if sys.stderr.isatty() else "json"


def _render() -> list[Any]:
    if style() == "console":
        return [structlog.dev.ConsoleRenderer()]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def formatter() -> logging.Formatter:
    """For what comes through `logging`."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_render()],
    )


def logging_config() -> dict[str, Any]:
    """For logging.config.dictConfig, and for granian, which calls it in each worker."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": "app.ops.logs.formatter"}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "ours",
                "stream": "ext://sys.stderr",
            }
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {"_granian": {"level": "INFO"}, "granian.access": {"level": "INFO"}},
    }


def configure() -> None:
    """Set up this process's logs."""
    logging.config.dictConfig(logging_config())
    structlog.configure(
        processors=[*SHARED, *_render()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
