"""Log records as JSON, one object a line, without what somebody wrote.

The library logs over `logging` to loggers named after its modules, and sets none of them up. This is
a formatter for whoever wants to read such logs by program:

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level="INFO", handlers=[handler])
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from memory_plugin.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    EmbeddedDatabaseError,
    ExtensionMissingError,
    SchemaVersionError,
    StorageFullError,
    UnsupportedError,
    WrongLoopError,
)

_OWN = ("memory_plugin", "mcp_server")

_OF_THE_PLACE = (
    ConfigurationError,
    DatabaseUnavailableError,
    EmbeddedDatabaseError,
    ExtensionMissingError,
    SchemaVersionError,
    StorageFullError,
    UnsupportedError,
    WrongLoopError,
)
"""Errors whose sentences are about how and where the program runs: they quote nothing that is stored."""

_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has: whatever else is there was given by `extra=`."""


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record: `timestamp`, `severity`, `logger`, `message`, and what else is known.

    Unless `content` is asked for, an error that a message names is there by its class, except where its
    sentence is about the configuration or the database's being there; the values in messages of other
    libraries are left out; and of a traceback there are the places, not the lines and the error's message.
    What another library has written into the text of a message itself cannot be told apart from it.

    With OpenTelemetry loaded, `trace_id` and `span_id` say which span a record belongs to.

    Args:
        content: write messages and tracebacks as they are.
    """

    def __init__(self, *, content: bool = False) -> None:
        super().__init__()
        self._content = content

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; what JSON cannot hold is written as text."""
        is_own = record.name.partition(".")[0] in _OWN
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "logger": record.name,
            "message": self._message(record, is_own=is_own),
            **_span(),
        }
        if is_own or self._content:
            line |= {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = self._exception(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)

    def _message(self, record: logging.LogRecord, *, is_own: bool) -> str:
        if self._content or not record.args:
            return record.getMessage()
        if not is_own or not isinstance(record.args, tuple):
            return str(record.msg)
        shown = tuple(_harmless(each) if isinstance(each, BaseException) else each for each in record.args)
        return str(record.msg) % shown

    def _exception(self, error: BaseException) -> dict[str, Any]:
        if self._content:
            return {"type": type(error).__qualname__, "stacktrace": "".join(traceback.format_exception(error))}
        frames = traceback.extract_tb(error.__traceback__)
        return {
            "type": type(error).__qualname__,
            "stacktrace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        }


def _harmless(error: BaseException) -> str:
    name = type(error).__qualname__
    return f"{name}: {error}" if isinstance(error, _OF_THE_PLACE) else name


def _span() -> dict[str, str]:
    """Which span is current, where OpenTelemetry is used at all."""
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }
