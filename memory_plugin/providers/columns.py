"""What the columns of a table mean, and how values go into them and come out.

A column is known by its meaning (`thread_id`, `content` ...). Which column that is says the
application's map, and without one the first of the usual names that the table has.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Table,
    Uuid,
    and_,
    cast,
    func,
    literal_column,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.validation import identifier

Kind = str
"""text, integer, uuid, time, json, number, boolean, date, bytes or other."""

IDS = frozenset({"text", "integer", "uuid"})
TEXT = frozenset({"text"})


@dataclass(frozen=True, slots=True)
class Meaning:
    """One thing that a table keeps.

    Attributes:
        names: the usual names of its column, the likeliest first.
        kinds: what the column may hold.
        required: without it the table cannot be used.
    """

    name: str
    names: tuple[str, ...]
    kinds: frozenset[Kind]
    required: bool = False


_THREAD = ("chat_id", "thread_id", "conversation_id", "session_id")
MESSAGES = (
    Meaning("id", ("id",), IDS),
    Meaning("thread_id", _THREAD, IDS, required=True),
    Meaning("user_id", ("user_id",), IDS),
    Meaning("role", ("role",), TEXT, required=True),
    Meaning("content", ("content", "text"), TEXT, required=True),
    Meaning("name", ("name",), TEXT),
    Meaning("message_id", ("message_id",), TEXT),
    Meaning("body", ("body",), frozenset({"json", "text"})),
    Meaning("created_at", ("created_at", "timestamp"), frozenset({"time"})),
)
WORKING_MEMORY = (
    Meaning("id", ("id",), IDS),
    Meaning("scope", ("scope",), TEXT),
    Meaning("thread_id", _THREAD, IDS),
    Meaning("user_id", ("user_id",), IDS),
    Meaning("content", ("content", "text"), TEXT, required=True),
    Meaning("version", ("version",), frozenset({"integer"})),
    Meaning("updated_at", ("updated_at",), frozenset({"time"})),
)


def kind_of(type_: TypeEngine[Any]) -> Kind:
    """What a column of this type holds."""
    while isinstance(type_, TypeDecorator):
        type_ = type_.impl_instance
    kinds: tuple[tuple[type[TypeEngine[Any]], Kind], ...] = (
        (Uuid, "uuid"),
        (JSON, "json"),
        (String, "text"),
        (Boolean, "boolean"),
        (Integer, "integer"),
        (Numeric, "number"),
        (DateTime, "time"),
        (Date, "date"),
        (LargeBinary, "bytes"),
    )
    return next((kind for known, kind in kinds if isinstance(type_, known)), "other")


@dataclass(frozen=True, slots=True)
class Bound:
    """A table whose columns are known.

    Attributes:
        columns: by meaning; what the table does not have is not in it.
        constants: by column name: written into every row, and true of every row that is read.
    """

    table: Table
    columns: Mapping[str, Column[Any]]
    constants: Mapping[str, Any] = field(default_factory=dict)

    def __contains__(self, meaning: str) -> bool:
        return meaning in self.columns

    def __getitem__(self, meaning: str) -> Column[Any]:
        return self.columns[meaning]

    def kind(self, meaning: str) -> Kind | None:
        """What the column holds; None where there is none."""
        return kind_of(self.columns[meaning].type) if meaning in self.columns else None

    def ours(self) -> list[ColumnElement[bool]]:
        """The conditions that the constants put on every row."""
        return [self.table.c[name] == value for name, value in self.constants.items()]


def bind(
    table: Table,
    meanings: tuple[Meaning, ...],
    chosen: Mapping[str, str | None],
    constants: Mapping[str, Any],
    *,
    lenient: bool = False,
) -> Bound:
    """The columns of a table by their meaning.

    Args:
        chosen: column names by meaning; None for a meaning that the table does not keep.
        lenient: let a required column be missing: a check will say so.

    Raises:
        ConfigurationError: an unknown meaning, a column that the table does not have, or none for
            what is required.
    """
    known = {meaning.name for meaning in meanings}
    for name in chosen:
        if name not in known:
            raise ConfigurationError(
                f"The map for {table.name!r} names {name!r}, which is nothing that is kept: use "
                f"{', '.join(sorted(known))}."
            )
    found: dict[str, Column[Any]] = {}
    for meaning in meanings:
        names = _candidates(table, meaning, chosen)
        present = [name for name in names if name in table.c]
        if present:
            found[meaning.name] = table.c[present[0]]
        elif not lenient and (meaning.required or chosen.get(meaning.name)):
            raise ConfigurationError(
                f"The table {table.name!r} has no column {names[0] if names else meaning.name!r} for the "
                f"{meaning.name}: add it, or name the column that has it in the map."
            )
    missing = [name for name in constants if name not in table.c]
    if missing and not lenient:
        raise ConfigurationError(f"The table {table.name!r} has no column {missing[0]!r}, which a constant is for.")
    return Bound(table, found, {name: value for name, value in constants.items() if name in table.c})


def _candidates(table: Table, meaning: Meaning, chosen: Mapping[str, str | None]) -> tuple[str, ...]:
    if meaning.name not in chosen:
        return meaning.names
    name = chosen[meaning.name]
    if name is not None:
        return (name,)
    if meaning.required:
        raise ConfigurationError(f"The table {table.name!r} must have a column for the {meaning.name}: name it.")
    return ()


def column_name(meaning: Meaning, chosen: Mapping[str, str | None]) -> str:
    """The name that the column of a meaning should have."""
    return chosen.get(meaning.name) or meaning.names[0]


# -- values


def to_id(column: Column[Any], value: object, what: str) -> Any:
    """An id as its column takes it.

    Raises:
        InvalidInputError: missing, too long for the column, or not of its kind.
    """
    text = identifier(value, what)
    kind = kind_of(column.type)
    try:
        if kind == "integer":
            return int(text)
        if kind == "uuid":
            parsed = uuid.UUID(text)
            return parsed if getattr(column.type, "as_uuid", True) else str(parsed)
    except ValueError as error:
        kinds = {"integer": "a whole number", "uuid": "a UUID"}
        raise InvalidInputError(
            f"The {what} {text!r} is not {kinds[kind]}, which the column {column.name!r} holds."
        ) from error
    length = getattr(column.type, "length", None)
    if length is not None and len(text) > length:
        raise InvalidInputError(
            f"The {what} has {len(text)} characters and the column {column.name!r} holds {length}: widen it."
        )
    return text


def to_time(column: Column[Any], value: datetime, dialect: str) -> datetime:
    """A time as its column takes it: with its zone where the database keeps one, else in UTC without."""
    moment = value.astimezone(UTC)
    aware = getattr(column.type, "timezone", False) and dialect == "postgresql"
    return moment if aware or isinstance(column.type, TypeDecorator) else moment.replace(tzinfo=None)


def from_time(value: datetime | None) -> datetime | None:
    """A time as it was written: one without a zone is in UTC."""
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def equals(column: Column[Any], value: Any, dialect: str) -> ColumnElement[bool]:
    """The column has exactly this value, by code point, whatever its collation takes for equal.

    The plain comparison stays in it, so that an index is used.
    """
    same: ColumnElement[bool] = column == value
    if not isinstance(value, str) or kind_of(column.type) != "text":
        return same
    if dialect in {"mysql", "mariadb"}:
        # by default 'Bob' = 'bob' = 'bob ' there, which would mix two users
        text = func.convert(column.op("USING")(literal_column("utf8mb4")))
        return and_(same, cast(text, LargeBinary) == value.encode())
    if dialect == "sqlite":
        return and_(same, column.collate("BINARY") == value)
    return same
