"""One function for each reader: takes any bytes, and fails only where a promise is broken.

The promises: no error but those of this library (and of a serializer for bytes that are none), no code
named in the input is run, and what was read once is read again the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import ormsgpack
from pydantic import ValidationError

from memory_plugin.errors import DatabaseError, MemoryPluginError, NotFoundError
from memory_plugin.langgraph.codec import ValueCodec
from memory_plugin.langgraph.data_types import data_serializer
from memory_plugin.parsers import ParseLimits, parse
from memory_plugin.portable import import_mcp_memory, import_mem0
from memory_plugin.portable.importing import import_records
from memory_plugin.portable.tables import FORMAT, VERSION
from memory_plugin.transfer.serializers import Reader
from tests.fuzz.readers import READERS

LIMITS = ParseLimits()
CORPUS = Path(__file__).parent / "corpus"
LONGEST = 20_000
"""Bytes of input that are looked at: what is slow on these is slow for a reason."""

NAMES = ("a.txt", "a.md", "a.html", "a.json", "a.yaml", "a.csv", "a.rst", "a.py", "a.pdf", "a.docx", "a.jsonl", "a")
RAN: list[str] = []


def trap(*arguments: Any, **named: Any) -> None:
    """What no stored value may call; see `codec`."""
    RAN.append("trap")


_CODEC = ValueCodec(data_serializer())
_OF_SERIALIZER = (ormsgpack.MsgpackDecodeError, NotImplementedError, UnicodeDecodeError, RecursionError)


def codec(data: bytes) -> None:
    """Rows of a database that somebody else can write to: values, messages and metadata."""
    which, data = (data[0] % 4, data[1:]) if data else (0, b"")
    RAN.clear()
    loaded = set(sys.modules)
    try:
        if which == 0:
            _CODEC.load(None, "msgpack", data)
            return
        text = orjson.dumps(orjson.loads(data)).decode()  # the column is JSONB: it holds JSON
    except (*_OF_SERIALIZER, ValueError):
        return
    finally:
        assert not RAN, "a function that a stored value named was called"
        assert not {name for name in set(sys.modules) - loaded if name.startswith(("antigravity", "this"))}
    try:
        if which == 1:
            again(_CODEC.load(text, None, None))
        elif which == 2:
            body = orjson.loads(text)
            if isinstance(body, dict):  # a CHECK of the table
                _CODEC.load_message(text, "said", "id-1", None, None)
        else:
            assert isinstance(_CODEC.load_metadata(text), dict)
    except (MemoryPluginError, *_OF_SERIALIZER):
        pass


def again(value: Any) -> None:
    """What was read is written and read the same."""
    stored_value = _CODEC.dump(value)
    assert same(_CODEC.load(*stored_value), value)


def same(one: Any, other: Any) -> bool:
    """Equal and of the same type, also where nothing equals itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


_LOOPS: list[asyncio.AbstractEventLoop] = []


def ran(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, on one loop for all: a new one takes longer than what is tried."""
    if not _LOOPS:
        _LOOPS.append(asyncio.new_event_loop())
    return _LOOPS[0].run_until_complete(work)


class Recorder:
    """A store that looks at facts, and keeps none."""

    user_id = None
    memories: Any = None

    async def remember_many(self, facts: Sequence[Any], **_: Any) -> list[Any]:
        """As if each were new."""
        for fact in facts:
            assert isinstance(fact["content"], str)
            json.dumps(fact["metadata"])
        return [SimpleNamespace(status="created") for _ in facts]


_HEADER = {"kind": "header", "format": FORMAT, "version": VERSION, "user_id": None}


class NoDatabase:
    """Takes no record."""

    def sql(self, statement: str) -> str:
        """As it is."""
        return statement

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Refused when it is begun."""
        raise DatabaseError("It is refused.", sqlstate="22P02")
        yield


def importers(data: bytes) -> None:
    """Files and tables of other programs."""
    which, data = (data[0] % 4, data[1:]) if data else (0, b"")
    if which == 0:
        with contextlib.suppress(MemoryPluginError):
            Reader().load("msgpack", data)
        return
    records: list[Any] = []
    for line in data.splitlines():
        try:
            records.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            records.append(ValueError(str(error)))
    if which == 1:
        report = ran(import_mem0(Recorder(), records, user_id=None))
    elif which == 2:
        report = ran(import_mcp_memory(Recorder(), records, user_id="u"))
    else:
        with contextlib.suppress(MemoryPluginError):
            ran(import_records(NoDatabase(), "t", [_HEADER, *records], user_id=None))  # type: ignore[arg-type]
        return
    assert sum(report.counts.values()) + len(report.failed) >= 0


def documents(data: bytes) -> None:
    """Files of any kind, by their name or by what they look like."""
    name, data = (NAMES[data[0] % len(NAMES)], data[1:]) if data else ("a", b"")
    _parse(data, name)


def openapi(data: bytes) -> None:
    """Descriptions of APIs, in YAML and in JSON."""
    yaml, data = (data[0] % 2 == 0, data[1:]) if data else (True, b"")
    if yaml:
        _parse(b"openapi: 3.1.0\n" + data, "api.yaml")
    else:
        _parse(b'{"openapi": "3.1.0", ' + data, "api.json")


def _parse(data: bytes, name: str) -> None:
    try:
        found = parse(data, name=name, limits=LIMITS)
    except MemoryPluginError as error:
        assert "\n" not in str(error), "an error is one line"
        return
    assert found.chunks
    for chunk in found.chunks:
        assert found.text[chunk.start : chunk.end] == chunk.text
    json.dumps(dict(found.metadata), allow_nan=False)


class Nothing:
    """A store in which nothing is found, whatever is asked."""

    tenant = "default"
    user_id = "alice"
    embedder = None

    def for_tenant(self, tenant: str) -> Nothing:
        """The same."""
        return self

    def __getattr__(self, name: str) -> Any:
        return Nothing()

    async def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise NotFoundError("There is nothing.")


@cache
def _tools() -> list[Any]:
    from mcp_server.tools import Offer, tools

    return tools(Offer(add_references=True))


@cache
def _rest() -> tuple[Any, Any]:
    from mcp_server.access import CoreAccess, already_open
    from mcp_server.rest.app import RestApp
    from mcp_server.settings import ServerSettings

    access = CoreAccess(lambda: already_open(Nothing()))  # type: ignore[arg-type]
    return access, RestApp(access, ServerSettings(), max_body=LONGEST)


def mcp_arguments(data: bytes) -> None:
    """What a client sends as the arguments of a tool."""
    from mcp.server.mcpserver.exceptions import ToolError

    from mcp_server.caller import Caller

    offered = _tools()
    which, data = (data[0] % len(offered), data[1:]) if data else (0, b"")
    try:
        given = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    if not isinstance(given, dict):
        return
    tool = offered[which]
    try:
        checked = tool.fn_metadata.arg_model.model_validate(given).model_dump_one_level()
        caller = Caller(Nothing(), "alice")  # type: ignore[arg-type]
        named = dict.fromkeys(set(tool.fn.__annotations__) - {"return", *checked})
        ran(tool.fn(**{**named, **checked, "caller": caller}))
    except (ValidationError, MemoryPluginError, ToolError):
        pass


def rest(data: bytes) -> None:
    """A request: its method and path, a line feed, then its body."""
    line, _, body = data.partition(b"\n")
    method, _, target = line.decode("latin-1").partition(" ")
    path, _, query = target.partition("?")
    if not path.startswith("/") or any(ord(letter) < 33 for letter in target):
        return  # no server passes that on
    answers: list[dict[str, Any]] = []

    async def ask() -> None:
        access, app = _rest()
        scope = {
            "type": "http", "method": method.upper() or "GET", "path": "/api/v1" + path, "headers": [(b"content-type", b"application/json")],
            "raw_path": ("/api/v1" + path).encode("latin-1"), "query_string": query.encode("latin-1"), "client": ("::1", 1),
        }  # fmt: skip
        parts = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]

        async def receive() -> dict[str, Any]:
            return parts.pop(0)

        async def send(message: Any) -> None:
            answers.append(message)

        async with access:
            await app(scope, receive, send)

    ran(ask())
    assert answers[0]["status"] < 500, answers
    json.loads(answers[1]["body"])


TARGETS: dict[str, Callable[[bytes], None]] = {name: globals()[name] for name in READERS}


def seeds(target: str) -> list[bytes]:
    """What a target begins with: good input, and what was found before."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
