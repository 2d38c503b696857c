"""Logs as JSON: what a program needs to know, and nothing that somebody wrote."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from memory_plugin.errors import DatabaseUnavailableError, InvalidInputError
from memory_plugin.logs import JsonFormatter

PRIVATE = "Zoe has a zebra"


def logged(message: str, *args: Any, name: str = "memory_plugin.indexer", content: bool = False, **more: Any) -> Any:
    record = logging.getLogger(name).makeRecord(name, logging.WARNING, "file.py", 1, message, args, **more)
    line = JsonFormatter(content=content).format(record)
    assert "\n" not in line
    return json.loads(line)


def raised() -> Any:
    try:
        int(PRIVATE)
    except ValueError as error:
        return (InvalidInputError, InvalidInputError(PRIVATE).with_traceback(error.__traceback__), error.__traceback__)


def test_a_record_is_one_object() -> None:
    line = logged("Indexing %d of %s", 3, "messages", exc_info=None)
    assert line.pop("timestamp").endswith("+00:00")
    assert line == {"severity": "WARNING", "logger": "memory_plugin.indexer", "message": "Indexing 3 of messages"}


@pytest.mark.parametrize("name", ["memory_plugin.indexer", "mcp_server.access", "uvicorn.error"])
def test_what_somebody_wrote_is_in_none_of_it(name: str) -> None:
    line = logged("Failed: %s", InvalidInputError(PRIVATE), name=name, exc_info=raised())
    assert PRIVATE not in json.dumps(line)
    assert line["exception"]["type"] == "InvalidInputError"
    assert "raised" in line["exception"]["stacktrace"][-1]
    assert ("InvalidInputError" in line["message"]) == (name != "uvicorn.error")


def test_values_that_another_library_logs_are_left_out() -> None:
    assert logged("Received %s", PRIVATE, name="httpx", exc_info=None)["message"] == "Received %s"


def test_a_database_that_cannot_be_reached_is_told_in_full() -> None:
    line = logged("Not ready: %s", DatabaseUnavailableError("The database refused the password."), exc_info=None)
    assert line["message"] == "Not ready: DatabaseUnavailableError: The database refused the password."


def test_everything_is_there_where_that_is_asked_for() -> None:
    line = logged("Failed: %s", InvalidInputError(PRIVATE), content=True, exc_info=raised())
    assert line["message"] == f"Failed: {PRIVATE}"
    assert PRIVATE in line["exception"]["stacktrace"]


def test_extra_fields_and_the_span_are_there() -> None:
    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        line = logged("done", exc_info=None, extra={"http.route": "/mcp", "at": object})
    assert line["http.route"] == "/mcp"
    assert line["at"] == str(object)
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"


def test_the_server_writes_them_to_standard_error() -> None:
    program = (
        "import logging; from mcp_server.__main__ import _set_up_logs; from mcp_server.settings import parse; "
        "_set_up_logs(parse(['--log-format', 'json'], {})); "
        f"logging.getLogger('mcp_server.access').warning('Not closed: %s', ValueError({PRIVATE!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "", "that belongs to the protocol"
    assert json.loads(done.stderr)["message"] == "Not closed: ValueError"


def test_another_format_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from mcp_server.settings import parse

    assert parse([], {"MEMORY_MCP_LOG_FORMAT": "JSON"}).log_format == "json"
    with pytest.raises(SystemExit):
        parse(["--log-format", "xml"], {})
    assert "text or json" in capsys.readouterr().err
