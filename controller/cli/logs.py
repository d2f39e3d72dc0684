"""Structured logs on standard error: pretty on a terminal, one JSON object a line elsewhere."""

import logging
import os
import sys
from collections.abc import MutableMapping
from textwrap import indent
from typing import Any

import structlog

from controller.core.plain_text import plain_lines, plain_values

LABELLED = ("service", "rollout", "phase")
"""Fields that Cloud Logging is to index, so that entries can be found by them."""

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs() -> None:
    """Set up the logs; the level comes from CANARY_LOG_LEVEL, `info` inside a Cloud Run job."""
    default = "info" if os.environ.get("CLOUD_RUN_JOB") else "warning"
    level = LEVELS.get(os.environ.get("CANARY_LOG_LEVEL", default).lower(), logging.WARNING)
    pretty = sys.stderr.isatty()
    shaping: list[Any] = (
        [structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False), structlog.dev.ConsoleRenderer()]
        if pretty
        else [
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            for_cloud_logging,
            structlog.processors.JSONRenderer(),
        ]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            in_plain_text,
            *shaping,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Asked for each line: the stream that was there at the start may be closed by now.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def in_plain_text(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make every field plain text: a log is read on a terminal in the end, its JSON decoded by then."""
    traceback = event.pop("exception", None)
    plainly: dict[str, Any] = plain_values(event)
    # Indented, so that no line of a message looks like an entry of its own.
    return plainly if traceback is None else plainly | {"exception": plain_lines(indent(traceback, "  "))}


def for_cloud_logging(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name the fields as Cloud Logging lifts them out of a line of JSON."""
    event["severity"] = str(event.pop("level", "info")).upper()
    event["message"] = event.pop("event", "")
    labels = {name: str(event[name]) for name in LABELLED if name in event}
    if labels:
        event["logging.googleapis.com/labels"] = labels
    return event
