"""Messages in a table of the application: written, read and removed on a connection."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, delete, exists, insert, select

from memory_plugin.errors import ConfigurationError, InvalidInputError, UnsupportedError
from memory_plugin.jsonable import loads_exact
from memory_plugin.message_shape import MessageShape, message_shape
from memory_plugin.providers.columns import Bound, equals, from_time, kind_of, to_id, to_time
from memory_plugin.types import uuid7

ROLES: Mapping[str, str] = {"human": "user", "ai": "assistant"}
"""How the table names who speaks, where it does not say it as LangChain does."""

_PLAIN = frozenset({"human", "ai", "system"})
# what role and content alone would lose so that the conversation could not go on
_NEEDED = ("tool_calls", "invalid_tool_calls", "tool_call_id", "artifact")

_lock = threading.Lock()
_last = 0


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of an application's own table.

    `body` is the message in LangChain's JSON shape, whole where the table has a column for it;
    `id` is what the table's own id prints as; `at` is None where the table keeps no time.
    """

    id: str
    thread_id: str
    role: str
    text: str
    body: Mapping[str, Any]
    at: datetime | None = None
    user_id: str | None = None
    message_id: str | None = None
    name: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def next_id() -> UUID:
    """A UUID that sorts behind every one that this process made before."""
    global _last  # noqa: PLW0603 - one order for the whole process
    with _lock:
        _last = max(uuid7().int, _last + 1)
        return UUID(int=_last)


def order_of(bound: Bound) -> list[Any]:
    """The columns that messages are in order by.

    Raises:
        ConfigurationError: nothing in the table says what came first.
    """
    if bound.kind("id") == "integer":
        return [bound["id"]]
    columns = [bound[meaning] for meaning in ("created_at", "id") if meaning in bound]
    if "created_at" not in bound:
        raise ConfigurationError(
            f"Nothing in the table {bound.table.name!r} says which message came first: it needs an id that counts up, "
            "or a time (created_at)."
        )
    return columns


def write(
    connection: Connection,
    bound: Bound,
    thread_id: object,
    shapes: Sequence[MessageShape],
    times: Sequence[datetime],
    *,
    user_id: object = None,
    extra: Mapping[str, Any] | None = None,
    roles: Mapping[str, str] = ROLES,
) -> list[StoredMessage]:
    """Add messages at the end of a thread, in the connection's transaction."""
    stored = []
    for shape, at in zip(shapes, times, strict=True):
        values = _values(bound, thread_id, shape, at, user_id, roles, connection.dialect.name)
        for name, value in {**bound.constants, **(extra or {})}.items():
            if name not in bound.table.c:
                raise InvalidInputError(f"The table {bound.table.name!r} has no column {name!r}: see `extra`.")
            values[name] = value
        result = connection.execute(insert(bound.table).values(values))
        stored.append(
            StoredMessage(
                id=_id_of(bound, values, result.inserted_primary_key),
                thread_id=str(thread_id),
                role=shape.role,
                text=shape.text,
                body=fields_of(shape),
                at=at if "created_at" in bound else None,
                user_id=None if user_id is None else str(user_id),
                message_id=shape.message_id,
                name=shape.name,
                extra=dict(extra or {}),
            )
        )
    return stored


def _values(
    bound: Bound,
    thread_id: object,
    shape: MessageShape,
    at: datetime,
    user_id: object,
    roles: Mapping[str, str],
    dialect: str,
) -> dict[str, Any]:
    said: dict[str, Any] = {
        "thread_id": to_id(bound["thread_id"], thread_id, "thread_id"),
        "role": roles.get(shape.role, shape.role),
        "content": shape.text,
        "name": shape.name,
        "message_id": shape.message_id,
        "body": _body_value(bound, shape),
    }
    if user_id is not None and "user_id" in bound:
        said["user_id"] = to_id(bound["user_id"], user_id, "user_id")
    if "created_at" in bound:
        said["created_at"] = to_time(bound["created_at"], at, dialect)
    key = bound.columns.get("id")
    if key is not None and kind_of(key.type) != "integer" and key.default is None and key.server_default is None:
        made = next_id()
        said["id"] = made if bound.kind("id") == "uuid" and getattr(key.type, "as_uuid", True) else str(made)
    return {
        bound[meaning].name: value
        for meaning, value in said.items()
        if meaning in bound and (value is not None or meaning == "content")
    }


def _body_value(bound: Bound, shape: MessageShape) -> Any:
    """What goes into the column for the whole message: nothing where the other columns say it all.

    Raises:
        UnsupportedError: the table has no such column, and the message would lose what it cannot do without.
    """
    body = fields_of(shape)
    kept = {"type", "content"}
    kept |= {name for name, meaning in (("name", "name"), ("id", "message_id")) if meaning in bound}
    content = body.get("content")
    if set(body) <= kept and body["type"] == shape.role and shape.role in _PLAIN and isinstance(content, str):
        return None
    if "body" in bound:
        whole = _whole(shape)
        return orjson.dumps(whole).decode() if bound.kind("body") == "text" else whole
    lost = [name for name in _NEEDED if body.get(name)]
    if not isinstance(content, str) and any(_beyond_text(block) for block in content or ()):
        lost.append("content other than text")
    if lost or shape.role not in _PLAIN:
        what = ", ".join(lost) or f"what a {shape.role} message has besides its text"
        raise UnsupportedError(
            f"The table {bound.table.name!r} has no column for whole messages, and this one would lose {what}: add a "
            "JSON or text column and name it `body` in the map; nothing was written."
        )
    return None


def _beyond_text(block: Any) -> bool:
    return isinstance(block, Mapping) and block.get("type") not in {None, "text", "input_text", "output_text"}


def _id_of(bound: Bound, values: Mapping[str, Any], key: Any) -> str:
    column = bound.columns.get("id")
    if column is None:
        return ""
    if column.name in values:
        return str(values[column.name])
    return "" if key is None else str(getattr(key, column.name, ""))


def read(
    connection: Connection,
    bound: Bound,
    thread_id: object,
    *,
    limit: int | None = None,
    user_id: object = None,
    roles: Mapping[str, str] = ROLES,
) -> list[StoredMessage]:
    """The newest messages of a thread, oldest first."""
    dialect = connection.dialect.name
    table = bound.table
    statement = select(table).where(
        equals(bound["thread_id"], to_id(bound["thread_id"], thread_id, "thread_id"), dialect), *bound.ours()
    )
    if user_id is not None:
        statement = statement.where(_takes_part(bound, thread_id, user_id, dialect))
    statement = statement.order_by(*(column.desc() for column in order_of(bound))).limit(limit)
    inverse = {value: name for name, value in roles.items()}
    rows = connection.execute(statement).mappings().all()
    return [_message(bound, dict(row), inverse) for row in reversed(rows)]


def _takes_part(bound: Bound, thread_id: object, user_id: object, dialect: str) -> Any:
    """The user said something in this thread."""
    if "user_id" not in bound:
        raise UnsupportedError(
            f"The table {bound.table.name!r} has no column for the user: name it `user_id` in the map, or ask without."
        )
    other = bound.table.alias()
    return exists().where(
        equals(other.c[bound["thread_id"].name], to_id(bound["thread_id"], thread_id, "thread_id"), dialect),
        equals(other.c[bound["user_id"].name], to_id(bound["user_id"], user_id, "user_id"), dialect),
        *(other.c[name] == value for name, value in bound.constants.items()),
    )


def _message(bound: Bound, row: Mapping[str, Any], roles: Mapping[str, str]) -> StoredMessage:
    def get(meaning: str) -> Any:
        return row[bound[meaning].name] if meaning in bound else None

    body = _body_of(get("body"))
    shape = message_shape(body or _from_columns(get, roles))
    ours = {column.name for column in bound.columns.values()}
    return StoredMessage(
        id=_text_or_none(get("id")) or "",
        thread_id=str(get("thread_id")),
        role=shape.role,
        text=shape.text,
        body=body or fields_of(shape),
        at=from_time(get("created_at")),
        user_id=_text_or_none(get("user_id")),
        message_id=shape.message_id,
        name=shape.name,
        extra={name: value for name, value in row.items() if name not in ours},
    )


def _body_of(value: Any) -> Mapping[str, Any] | None:
    """What the column for the whole message has; None where it is empty or something else."""
    if value is None:
        return None
    try:
        body = loads_exact(value if isinstance(value, str) else orjson.dumps(value).decode())
    except InvalidInputError:  # no JSON: somebody else's
        return None
    return body if isinstance(body, Mapping) and isinstance(body.get("type"), str) else None


def fields_of(shape: MessageShape) -> dict[str, Any]:
    """All fields of a message."""
    fields: dict[str, Any] = loads_exact(orjson.dumps(_whole(shape)).decode())
    return fields


def _whole(shape: MessageShape) -> dict[str, Any]:
    fields: dict[str, Any] = orjson.loads(shape.body)
    whole = {"type": fields.get("type"), "content": shape.text, **fields}
    if shape.message_id is not None:
        whole.setdefault("id", shape.message_id)
    return whole


def _from_columns(get: Any, roles: Mapping[str, str]) -> dict[str, Any]:
    said = str(get("role"))
    message: dict[str, Any] = {"role": roles.get(said, said) or "user", "content": get("content") or ""}
    for name, meaning in (("name", "name"), ("id", "message_id")):
        if get(meaning) is not None:
            message[name] = get(meaning)
    # rows that others wrote may lack what such messages need
    if message["role"] == "tool":
        message["tool_call_id"] = str(get("message_id") or "")
    elif message["role"] == "function":
        message.setdefault("name", "")
    return message


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def clear(connection: Connection, bound: Bound, thread_id: object) -> int:
    """Remove all that was said in a thread; how many messages there were."""
    column = bound["thread_id"]
    condition = equals(column, to_id(column, thread_id, "thread_id"), connection.dialect.name)
    return connection.execute(delete(bound.table).where(condition, *bound.ours())).rowcount


def times_of(at: datetime | None, count: int) -> list[datetime]:
    """When so many messages were said: at that time, or now."""
    if at is None:
        return [datetime.now(UTC)] * count
    return [at if at.tzinfo is not None else at.replace(tzinfo=UTC)] * count
