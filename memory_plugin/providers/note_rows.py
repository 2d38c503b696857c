"""Working memories in a table of the application: one row per chat or user."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from memory_plugin.errors import ConflictError, InvalidInputError, UnsupportedError
from memory_plugin.providers.columns import Bound, equals, from_time, to_id, to_time
from memory_plugin.providers.message_rows import next_id
from memory_plugin.providers.running import Again
from memory_plugin.types import WorkingMemory, WorkingMemoryScope
from memory_plugin.validation import identifier

_MISSING = frozenset({"undefined", "null", "None"})
"""What a missing id looks like once somebody made text of it."""


class Owner:
    """Whose a working memory is: a chat's or a user's; `other` is the other of the two, where it is known."""

    __slots__ = ("id", "other", "scope")

    def __init__(self, scope: WorkingMemoryScope | None, thread_id: object = None, user_id: object = None) -> None:
        """Read it from what a caller gave.

        Raises:
            InvalidInputError: the id that the scope needs is missing, or both are given without a scope.
        """
        if scope not in {None, "chat", "user"}:
            raise InvalidInputError(f"The scope must be 'chat' or 'user', not {scope!r}.")
        if scope is None:
            if (thread_id is None) == (user_id is None):
                raise InvalidInputError(
                    "A working memory belongs to one chat or to one user: give one of thread_id and user_id, or say "
                    "with scope='chat' or scope='user' which of the two it is."
                )
            scope = "chat" if user_id is None else "user"
        self.scope: WorkingMemoryScope = scope
        mine, other = (thread_id, user_id) if scope == "chat" else (user_id, thread_id)
        what = "thread_id" if scope == "chat" else "user_id"
        self.id = identifier(mine, what)
        if self.id in _MISSING:
            raise InvalidInputError(f"{what} is {self.id!r}, which is a missing id made into text: give the real one.")
        self.other = None if other is None else identifier(other, "user_id" if scope == "chat" else "thread_id")

    @property
    def key(self) -> str:
        """What the row's own key is, where that is text."""
        return f"{self.scope}:{self.id}"

    def __repr__(self) -> str:
        return f"{self.scope} {self.id!r}"


def keyed(bound: Bound) -> bool:
    """The row's own key is text and says whose it is."""
    return bound.kind("id") == "text"


def _columns_of(owner: Owner) -> tuple[str, str]:
    return ("thread_id", "user_id") if owner.scope == "chat" else ("user_id", "thread_id")


def _condition(bound: Bound, owner: Owner, dialect: str) -> list[Any]:
    if keyed(bound):
        return [equals(bound["id"], to_id(bound["id"], owner.key, "id"), dialect), *bound.ours()]
    mine, _ = _columns_of(owner)
    if mine not in bound or "scope" not in bound:
        raise UnsupportedError(
            f"The table {bound.table.name!r} cannot say that a working memory is of a {owner.scope}: it needs a text "
            f"`id`, or both `scope` and `{mine}`."
        )
    column = bound[mine]
    return [bound["scope"] == owner.scope, equals(column, to_id(column, owner.id, mine), dialect), *bound.ours()]


def _value(bound: Bound, row: Any, owner: Owner) -> WorkingMemory:
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    version = values[bound["version"].name] if "version" in bound else 1
    at = values[bound["updated_at"].name] if "updated_at" in bound else None
    return WorkingMemory(
        owner.scope,
        owner.id,
        values[bound["content"].name] or "",
        1 if version is None else int(version),
        from_time(at) or datetime.fromtimestamp(0, UTC),
    )


def read(connection: Connection, bound: Bound, owner: Owner, *, lock: bool = False) -> WorkingMemory | None:
    """The text of an owner; None while nothing was written."""
    statement = select(bound.table).where(*_condition(bound, owner, connection.dialect.name)).limit(1)
    if lock:
        statement = statement.with_for_update()
    row = connection.execute(statement).first()
    return None if row is None else _value(bound, row, owner)


def write(connection: Connection, bound: Bound, owner: Owner, content: str, *, expected: int | None) -> WorkingMemory:
    """Replace the text; the same text again changes nothing.

    Raises:
        ConflictError: it is at another version than the expected one.
        Again: somebody else wrote it first.
    """
    if expected is not None and "version" not in bound:
        raise UnsupportedError(
            f"The table {bound.table.name!r} keeps no version: add an integer column `version` to use expected_version."
        )
    dialect = connection.dialect.name
    before = read(connection, bound, owner, lock=dialect != "sqlite")
    if before is not None and before.content == content:
        return before
    version = 0 if before is None else before.version
    if expected is not None and expected != version:
        raise ConflictError(
            f"The working memory of {owner!r} is at version {version}, not {expected}: read it again and repeat the "
            "change."
        )
    now = datetime.now(UTC)
    changes: dict[str, Any] = {"content": content, "version": version + 1}
    if "updated_at" in bound:
        changes["updated_at"] = to_time(bound["updated_at"], now, dialect)
    values = {bound[meaning].name: value for meaning, value in changes.items() if meaning in bound}
    if before is None:
        _insert(connection, bound, owner, values)
    else:
        seen = bound["version"] == before.version if "version" in bound else bound["content"] == before.content
        same = [seen] if dialect == "sqlite" else []  # elsewhere the row is locked
        changed = connection.execute(
            update(bound.table).where(*_condition(bound, owner, dialect), *same).values(values)
        ).rowcount
        if not changed:
            raise Again
    return WorkingMemory(owner.scope, owner.id, content, version + 1 if "version" in bound else 1, now)


def _insert(connection: Connection, bound: Bound, owner: Owner, values: dict[str, Any]) -> None:
    mine, other = _columns_of(owner)
    row: dict[str, Any] = {**values, **bound.constants}
    if "scope" in bound:
        row[bound["scope"].name] = owner.scope
    if mine in bound:
        row[bound[mine].name] = to_id(bound[mine], owner.id, mine)
    if keyed(bound):
        row[bound["id"].name] = to_id(bound["id"], owner.key, "id")
        if other in bound and owner.other is not None:
            row[bound[other].name] = to_id(bound[other], owner.other, other)
    elif bound.kind("id") == "uuid" and bound["id"].default is None and bound["id"].server_default is None:
        row[bound["id"].name] = next_id() if getattr(bound["id"].type, "as_uuid", True) else str(next_id())
    try:
        connection.execute(insert(bound.table).values(row))
    except IntegrityError as error:
        if _is_double(error):
            raise Again from error
        raise


def _is_double(error: IntegrityError) -> bool:
    original = error.orig
    code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    number = original.args[0] if original is not None and original.args else None
    return code == "23505" or number == 1062 or "UNIQUE constraint failed" in str(original)


def delete_one(connection: Connection, bound: Bound, owner: Owner) -> int:
    """Remove the text of an owner; how many rows there were."""
    return connection.execute(delete(bound.table).where(*_condition(bound, owner, connection.dialect.name))).rowcount


def unique_over(bound: Bound) -> list[list[str]]:
    """The columns that must be unique together, so that two who write at once make one row."""
    constants = list(bound.constants)
    if keyed(bound):
        return [[*constants, bound["id"].name]]
    owners = [meaning for meaning in ("thread_id", "user_id") if meaning in bound]
    return [[*constants, bound["scope"].name, bound[owner].name] for owner in owners if "scope" in bound]


__all__ = ["Owner", "delete_one", "keyed", "read", "unique_over", "write"]
