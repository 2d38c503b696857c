"""Connections whose statements are measured, for a store that is observed.

A span names what a statement does and to which tables. Its text and its parameters are not in it.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from memory_plugin.db.database import Connection, Database
from memory_plugin.telemetry import ERROR_TYPE, Telemetry, failed, kind_of, links


def _place(database: Database) -> dict[str, Any]:
    """Which server and database it is, as the conventions say it; known from the URL alone."""
    parts = urlsplit(database.url)
    name = parts.path.lstrip("/")
    found: dict[str, Any] = {"db.namespace": f"{name}|{database.schema}" if name else database.schema}
    address = parts.netloc.rpartition("@")[2]
    if address and "," not in address and parts.hostname:
        found["server.address"] = parts.hostname
        if parts.port not in {None, 5432}:
            found["server.port"] = parts.port
    return found


def _pool_name(place: Mapping[str, Any]) -> str:
    address = place.get("server.address")
    return f"{address}:{place.get('server.port', 5432)}/{place['db.namespace']}" if address else place["db.namespace"]


class Statements:
    """Measures the statements of one database."""

    def __init__(self, telemetry: Telemetry, database: Database) -> None:
        place = _place(database)
        self.pool_name = _pool_name(place)
        self.tracer = telemetry.tracer
        self.durations = telemetry.instruments.statements
        self._common = {"db.system.name": "postgresql", **place}
        self._targets = re.compile(_TOKENS.replace("{s}", re.escape(database.sql("{s}"))), re.VERBOSE | re.IGNORECASE)
        self.attributes = functools.lru_cache(maxsize=1024)(self._attributes)

    def run(self, statement: str, batch: int | None = None) -> MeasuredStatement:
        """A statement about to be sent."""
        attributes = self.attributes(statement)
        if batch is not None and batch != 1:
            summary = f"BATCH {attributes['db.query.summary']}"
            attributes = {**attributes, "db.query.summary": summary, "db.operation.batch.size": batch}
        return MeasuredStatement(self, attributes)

    def _attributes(self, statement: str) -> dict[str, Any]:
        command, groups = _parse(self._targets, statement)
        found = {**self._common, "db.operation.name": command, "db.query.summary": _summary(command, groups)}
        if len(groups) == 1 and groups[0][0] == "CALL":
            found["db.stored_procedure.name"] = groups[0][1][0]
        return found


class MeasuredStatement:
    """One statement on its way: a span and a measurement of its time."""

    __slots__ = ("_attributes", "_began", "_span", "_statements")

    def __init__(self, statements: Statements, attributes: Mapping[str, Any]) -> None:
        self._statements = statements
        self._attributes = attributes

    def __enter__(self) -> None:
        from opentelemetry.trace import SpanKind

        self._span = self._statements.tracer.start_span(
            self._attributes["db.query.summary"], kind=SpanKind.CLIENT, attributes=self._attributes, links=links()
        )
        self._began = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._began
        attributes = {name: value for name, value in self._attributes.items() if name != "db.operation.batch.size"}
        if error is not None:
            failed(self._span, error)
            state = getattr(error, "sqlstate", None)
            if state is not None:
                self._span.set_attribute("db.response.status_code", state)
                attributes["db.response.status_code"] = state
            attributes[ERROR_TYPE] = kind_of(error)
        self._span.end()
        self._statements.durations.record(seconds, attributes)


def measured(kind: type[Connection], statements: Statements) -> type[Connection]:
    """The class of connections with its statements measured, those that begin and end transactions too."""

    def one(name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(kind, name)

        async def run(self: Connection, statement: str, *args: Any, **options: Any) -> Any:
            with statements.run(statement):
                return await method(self, statement, *args, **options)

        return functools.wraps(method)(run)

    many = kind.executemany

    async def run_many(self: Connection, statement: str, args: Any, **options: Any) -> Any:
        rows = list(args)
        with statements.run(statement, len(rows)):
            return await many(self, statement, rows, **options)

    methods: dict[str, Any] = {name: one(name) for name in ("fetch", "fetchrow", "fetchval", "fetchmany", "execute")}
    return type("MeasuredConnection", (kind,), {**methods, "executemany": run_many})


# What is of no concern first: texts, comments, and the words of clauses that are commands elsewhere.
_TOKENS = r"""
    '(?:[^']|'')*' | --[^\n]* | /\*.*?\*/
    | \b(?: FOR \s+ (?:NO \s+ KEY \s+)? | DO \s+ ) UPDATE \b
    | \b (?P<verb> SELECT | INSERT | UPDATE | DELETE | MERGE | TRUNCATE | COPY ) \b
    | {s} \. (?P<routine> \w+ ) \(
    | {s} \. "? (?P<table> \w+ )
    | (?P<paren> [()] )
"""

_LONGEST = 255

_Group = tuple[str, list[str]]


def _parse(tokens: re.Pattern[str], statement: str) -> tuple[str, list[_Group]]:
    """The command of a statement, and what each command in it works on, in order.

    A statement that does nothing but call a routine has the one group CALL.
    """
    first = re.match(r"\s*(\w+)", statement)
    command = first[1].upper() if first else "_OTHER"
    groups: list[_Group] = []
    routines: list[str] = []
    depth, found = 0, command != "WITH"
    for token in tokens.finditer(statement):
        if verb := token["verb"]:
            groups.append((verb.upper(), []))
            if depth == 0 and not found:
                command, found = verb.upper(), True
        elif paren := token["paren"]:
            depth += 1 if paren == "(" else -1
        elif routine := token["routine"]:
            routines.append(routine)
            depth += 1
        elif (table := token["table"]) and groups and table not in groups[-1][1]:
            groups[-1][1].append(table)
    if routines and not any(targets for _, targets in groups):
        return command, [("CALL", routines[:1])]
    return command, groups


def _summary(command: str, groups: Sequence[_Group]) -> str:
    """Commands and their targets, each pair of them once, as the conventions say it."""
    words = list(_words(command, groups))
    length = -1
    for place, word in enumerate(words):
        length += 1 + len(word)
        if length > _LONGEST:
            return " ".join(words[:place])
    return " ".join(words) or command


def _words(command: str, groups: Sequence[_Group]) -> Iterator[str]:
    seen: list[_Group] = []
    for verb, targets in groups:
        if targets and (verb, targets) not in seen:
            seen.append((verb, targets))
            yield from (command if verb == "CALL" else verb, *targets)
