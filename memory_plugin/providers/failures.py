"""What an error of SQLAlchemy or of a driver means, in the words of this library."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from memory_plugin.errors import (
    ContentTooLargeError,
    DatabaseError,
    DatabaseUnavailableError,
    InvalidInputError,
    MemoryPluginError,
    StorageFullError,
    TableError,
)

FAILURES = (SQLAlchemyError, OSError)

# SQLSTATEs of PostgreSQL, numbers of MySQL and MariaDB, and words of SQLite
_MISSING: frozenset[Any] = frozenset({"42P01", "42703", "3F000", 1146, 1054})
_MISSING_WORDS = ("no such table", "no such column", "has no column named")
_BUSY: frozenset[Any] = frozenset({"40P01", "40001", "55P03", 1213, 1205, 1020})
_BUSY_WORDS = ("database is locked", "database table is locked")
_AWAY: frozenset[Any] = frozenset({"3D000", "28P01", "28000", 1040, 1044, 1045, 1049, 1203, 1698, 2002, 2003, 2005})
_LOST_WORDS = ("server closed the connection", "connection is closed", "connection was closed")
_LOST: frozenset[Any] = frozenset({"57P01", "57P02", "57P03", 1053, 1927, 2006, 2013, 2055})
_AWAY_WORDS = (
    "unable to open database file",
    "file is not a database",
    "readonly database",
    "connection failed",
    "connection timeout expired",
    "could not translate host name",
)
_FULL: frozenset[Any] = frozenset({"53100", 1021, 1114})
_FULL_WORDS = ("database or disk is full",)
_LARGE: frozenset[Any] = frozenset({"22001", "54000", 1406, 1153})
_LARGE_WORDS = ("string or blob too big",)


def code_of(error: BaseException) -> tuple[Any, str]:
    """The database's own code of an error, where it gives one, and its words."""
    original = getattr(error, "orig", None) or error
    code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    words = str(original)
    match list(getattr(original, "args", ())):
        case [int() as number, *rest]:
            code, words = number, str(rest[0]) if rest else words
    return code, words.strip() or type(original).__name__


def is_busy(error: BaseException) -> bool:
    """Another transaction was in the way: the same may succeed when it is done again."""
    code, words = code_of(error)
    return code in _BUSY or any(each in words for each in _BUSY_WORDS)


def translate(error: BaseException, target: str) -> MemoryPluginError:
    """The error of ours; `target` is what to call the database."""
    code, words = code_of(error)
    state = code if isinstance(code, str) else None
    if isinstance(error, NoSuchTableError):
        return TableError(f"The table {error} is not on {target}: `create_tables()` makes it.")
    if _means(code, words, _MISSING, _MISSING_WORDS):
        return TableError(
            f"A table or a column is missing on {target} ({words}): `check()` says which and prints the statement "
            "that adds it.",
            sqlstate=state,
        )
    if _means(code, words, _FULL, _FULL_WORDS):
        return StorageFullError(f"{target} has no room left ({words}): free some; nothing was written.", sqlstate=state)
    if _means(code, words, _LARGE, _LARGE_WORDS):
        return ContentTooLargeError(f"A value is too large for {target} ({words}); nothing was written.")
    return _unavailable(error, code, words, target) or _refused(error, words, target, state)


def _means(code: Any, words: str, codes: frozenset[Any], texts: tuple[str, ...] = ()) -> bool:
    return code in codes or any(each in words for each in texts)


def _unavailable(error: BaseException, code: Any, words: str, target: str) -> DatabaseUnavailableError | None:
    state = code if isinstance(code, str) else None
    if is_busy(error):
        return DatabaseUnavailableError(
            f"Others keep {target} busy ({words}): try again.", sqlstate=state, passing=True
        )
    lost = isinstance(error, PoolTimeout) or getattr(error, "connection_invalidated", False)
    if lost or _means(code, words, _LOST, _LOST_WORDS):
        return DatabaseUnavailableError(
            f"The connection to {target} was lost, or there was none to be had ({words}): try again.",
            sqlstate=state,
            passing=True,
        )
    if isinstance(error, OSError) or _means(code, words, _AWAY, _AWAY_WORDS):
        return DatabaseUnavailableError(
            f"{target} cannot be used ({words}): check the engine's URL, and that the database runs.", sqlstate=state
        )
    return None


def _refused(error: BaseException, words: str, target: str, state: str | None) -> MemoryPluginError:
    if isinstance(error, IntegrityError):
        return DatabaseError(
            f"{target} refused the row ({words}): another column needs a value (see `extra` and `constants`), or a "
            "row that it refers to.",
            sqlstate=state,
        )
    if isinstance(error, DataError):
        return InvalidInputError(f"{target} cannot hold a value that was given ({words}); nothing was written.")
    if isinstance(error, DBAPIError):
        return DatabaseError(f"{target} refused a statement: {words}", sqlstate=state)
    return DatabaseError(f"SQLAlchemy could not do it on {target}: {error}")
