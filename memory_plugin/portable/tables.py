"""Which rows are carried, under which name, in which order, and how a column becomes JSON and back.

The columns are those of `memory_plugin.db.schema`: one that is added there is carried from then on.
What is derived from other rows (the search index, its queues and statistics) is not: it is made anew.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Column, LargeBinary
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL

from memory_plugin.capabilities.forgetting import OF_USER
from memory_plugin.db import schema
from memory_plugin.db.database import Record

FORMAT = "memory-plugin"
VERSION = 1

DERIVED = frozenset(
    {
        "passages",
        "search_languages",
        "term_statistics",
        "corpus_statistics",
        "embedding_models",
        "embeddings",
        "index_queue",
        "embedding_queue",
        "listeners",
        "tokens",
    }
)
"""Tables that are made from the others, and those that say who may use this store."""

_LEFT_OUT = {"tenant_id", "indexed_seq", "active_hour", "extraction"}
"""Columns that say where a row is kept, or how far the index is."""

_THREADS = "(SELECT c.thread_id FROM {s}.conversations c WHERE c.tenant_id = $1 AND c.user_id = $2)"
_DOCUMENTS = "(SELECT d.id FROM {s}.documents d WHERE d.tenant_id = $1 AND d.user_id = $2)"
_BY_USER = "m.user_id = $2"
_BY_THREAD = f"m.thread_id IN {_THREADS}"
_BY_DOCUMENT = f"m.document_id IN {_DOCUMENTS}"
_BY_SCOPE = f"(m.scope = 'user' AND m.scope_id = $2 OR m.scope IN ('chat', 'thread') AND m.scope_id IN {_THREADS})"

_THREAD_IS_THERE = (
    "EXISTS (SELECT FROM {s}.conversations c WHERE c.tenant_id = $1 AND c.thread_id = i.doc ->> 'thread_id')"
)
_DOCUMENT_IS_THERE = (
    "EXISTS (SELECT FROM {s}.documents d WHERE d.tenant_id = $1 AND d.id = (i.doc ->> 'document_id')::uuid)"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of record.

    Attributes:
        name: what `kind` says in a record.
        mine: SQL condition on a row `m` of user $2.
        same: SQL condition under which the row `m`, which has the key of the record `i.doc`, is that record.
        parent: SQL condition under which a record may be stored.
        of_checkpoints: it is carried only when checkpoints are asked for.
    """

    name: str
    table: str
    mine: str
    same: str = "true"
    parent: str = "true"
    of_checkpoints: bool = False

    @property
    def columns(self) -> tuple[Column[Any], ...]:
        """The columns that are carried."""
        return tuple(
            column
            for column in schema.metadata.tables[self.table].columns
            if column.name not in _LEFT_OUT and column.computed is None
        )

    @property
    def key(self) -> tuple[Column[Any], ...]:
        """The primary key without the tenant: also the order of the records."""
        return tuple(c for c in schema.metadata.tables[self.table].primary_key.columns if c.name != "tenant_id")


KINDS = (
    Kind("conversation", "conversations", _BY_USER, same="m.user_id IS NOT DISTINCT FROM (i.doc ->> 'user_id')"),
    Kind("message", "messages", _BY_THREAD, same="m.id = (i.doc ->> 'id')::uuid", parent=_THREAD_IS_THERE),
    Kind("proposal", "proposals", _BY_THREAD, parent=_THREAD_IS_THERE),
    Kind("feedback", "feedback", _BY_THREAD, parent=_THREAD_IS_THERE),
    Kind("share", "shared_conversations", _BY_THREAD, parent=_THREAD_IS_THERE),
    Kind("checkpoint", "checkpoints", _BY_THREAD, parent=_THREAD_IS_THERE, of_checkpoints=True),
    Kind("checkpoint_blob", "checkpoint_blobs", _BY_THREAD, of_checkpoints=True),
    Kind("checkpoint_write", "checkpoint_writes", _BY_THREAD, of_checkpoints=True),
    Kind("memory", "memories", OF_USER),
    Kind("working_memory", "working_memory", _BY_SCOPE),
    Kind("user_memory", "user_memory", _BY_USER),
    Kind("agent_setting", "agent_settings", _BY_SCOPE),
    Kind("document", "documents", _BY_USER, same="m.user_id IS NOT DISTINCT FROM (i.doc ->> 'user_id')"),
    Kind("document_version", "document_versions", _BY_DOCUMENT, parent=_DOCUMENT_IS_THERE),
    Kind("chunk", "chunks", _BY_DOCUMENT, parent=_DOCUMENT_IS_THERE),
    Kind("chunk_place", "chunk_places", _BY_DOCUMENT, parent=_DOCUMENT_IS_THERE),
    Kind("forgotten_user", "forgotten_users", _BY_USER),
)
"""In the order of an export: what others rest on comes first."""

KIND_OF = {kind.name: kind for kind in KINDS}


def header(user_id: str | None, *, checkpoints: bool) -> dict[str, Any]:
    """The first record of an export."""
    whose = {} if user_id is None else {"user_id": user_id}
    return {"kind": "header", "format": FORMAT, "version": VERSION, **whose, "checkpoints": checkpoints}


END = {"kind": "end"}
"""The last record of an export: without it the export was broken off."""


@cache
def selected(kind: Kind) -> str:
    """The columns of a SELECT from `m`, each in a form that `record_of` turns into JSON."""
    return ", ".join(f'm."{column.name}"{_shown(column)}' for column in kind.columns)


def _shown(column: Column[Any]) -> str:
    if isinstance(column.type, JSONB | REAL):  # as text a 32-bit number has no digits of its own making
        return f'::text AS "{column.name}"'
    return ""


def record_of(kind: Kind, row: Record) -> dict[str, Any]:
    """The record of a row: what is NULL is left out, so that a null is JSON's own."""
    record: dict[str, Any] = {"kind": kind.name}
    for column in kind.columns:
        value = row[column.name]
        if value is not None:
            record[str(column.name)] = _plain(column, value)
    return record


def _plain(column: Column[Any], value: Any) -> Any:
    if isinstance(column.type, JSONB):
        return orjson.loads(value)
    if isinstance(column.type, REAL):
        return float(value)
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            return value.astimezone(UTC).isoformat()
        case UUID():
            return str(value)
        case list():
            return list(value)
        case _:
            return value


@cache
def stored(kind: Kind) -> str:
    """The INSERT of records `i.doc` (jsonb) in `input i`, as far as it is the same for all: columns and values."""
    names = [f'"{column.name}"' for column in kind.columns]
    values = [_read(column) for column in kind.columns]
    if kind.table == "conversations":
        names.append("active_hour")
        values.append("date_trunc('hour', (i.doc ->> 'updated_at')::timestamptz, 'UTC')")
    return (
        f"INSERT INTO {{s}}.{kind.table} (tenant_id, {', '.join(names)})\n"
        f"SELECT $1, {', '.join(values)}\nFROM input i WHERE {kind.parent} ORDER BY i.place\nON CONFLICT DO NOTHING"
    )


def key_of_record(kind: Kind, row: str, *, doc: str = "i.doc") -> str:
    """The condition that the row has the key of the record."""
    return " AND ".join(f'{row}."{column.name}" = {_cast(column, doc)}' for column in kind.key)


def _cast(column: Column[Any], doc: str) -> str:
    return f"({doc} ->> '{column.name}')::{sql_type(column)}"


def sql_type(column: Column[Any]) -> str:
    """The column's type as PostgreSQL writes it."""
    return str(column.type.compile(postgresql.dialect())).split(" COLLATE")[0]  # type: ignore[no-untyped-call]


def _read(column: Column[Any]) -> str:
    """The expression that takes the column's value from the record `i.doc`."""
    name = column.name
    if isinstance(column.type, JSONB):
        value = f"i.doc -> '{name}'"
    elif isinstance(column.type, ARRAY):
        return f"ARRAY(SELECT jsonb_array_elements_text(i.doc -> '{name}'))"
    elif isinstance(column.type, LargeBinary):
        value = f"decode(i.doc ->> '{name}', 'base64')"
    else:
        value = _cast(column, "i.doc")
    default = getattr(column.server_default, "arg", None)
    if default is None or column.nullable:
        return value
    text = f"'{default}'" if isinstance(default, str) else str(default)
    return f"coalesce({value}, {text})"
