"""What a driver's error means: the one place where it becomes one of ours.

The question each answer settles is whether the operation was applied. Whatever the server itself
refuses was not. Where the connection ended first it depends on how far the operation had come.
"""

from __future__ import annotations

import ssl
from enum import Enum

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from memory_plugin.errors import (
    ConfigurationError,
    ContentTooLargeError,
    DatabaseError,
    DatabaseUnavailableError,
    ExtensionMissingError,
    InvalidInputError,
    MemoryPluginError,
    OutcomeUnknownError,
    SchemaVersionError,
    StorageFullError,
)

DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    AsyncAdapt_asyncpg_dbapi.Error,
    DBAPIError,
    PoolTimeout,
    OSError,
    TimeoutError,
)

POOLER_STATES = {"26000", "42P05"}
"""A prepared statement is not there, or there already: connections are shared behind our back."""

# told before the statement that it is the answer to was begun, or in its middle; never after its commit
_ENDED_BEFORE = {"57P01", "57P03", "57P05", "25P03"}
_ENDED = {"57P02", "57P04"}


def takes_no_writes(error: DatabaseError) -> bool:
    """Whether the database refuses whatever writes, and still answers questions.

    It has no room, or is read-only: a replica, or one that a provider made so because it has no room.
    """
    return isinstance(error, StorageFullError) or error.sqlstate == "25006"


class Progress(Enum):
    """How far an operation had come when the connection failed."""

    UNSENT = "unsent"
    """Nothing had been sent that could have an effect."""
    UNCOMMITTED = "uncommitted"
    """It was inside a transaction that had not been told to commit."""
    SENT = "sent"
    """The server may have done it."""


def translate(
    error: BaseException, *, target: str = "the database", progress: Progress = Progress.SENT
) -> MemoryPluginError:
    """The error of ours that says what a driver's error means and what to do.

    Args:
        target: what to call the database.
        progress: what could have reached it.
    """
    original: BaseException = getattr(error, "orig", None) or error
    while isinstance(original, AsyncAdapt_asyncpg_dbapi.Error) and original.__cause__ is not None:
        original = original.__cause__
    sqlstate = getattr(original, "sqlstate", None)
    message = str(original).strip() or type(original).__name__
    return _by_sqlstate(sqlstate, original, message, target, progress) or _by_type(original, message, target, progress)


def _by_sqlstate(
    sqlstate: str | None, original: BaseException, message: str, target: str, progress: Progress
) -> MemoryPluginError | None:
    if sqlstate is None:
        return None
    known: dict[str, tuple[type[DatabaseError], str]] = {
        "28P01": (DatabaseUnavailableError, f"{target} refused the credentials: check user and password in the URL."),
        "28000": (DatabaseUnavailableError, f"{target} refused this role: {message}."),
        "3D000": (DatabaseUnavailableError, f"{message} on {target}: create it first, or correct the URL."),
        "53100": (
            StorageFullError,
            f"{target} has no disk space left: free some, then try again; nothing was written.",
        ),
        "42501": (
            DatabaseError,
            f"This role may not do that on {target}: {message}. Grant the right, or use another role.",
        ),
        "42P01": (SchemaVersionError, f"A table is missing on {target} ({message}): run `memory-plugin migrate up`."),
        "3F000": (
            SchemaVersionError,
            f"The schema is missing on {target} ({message}): run `memory-plugin migrate up`.",
        ),
        "42883": (
            SchemaVersionError,
            f"A function is missing on {target} ({message}): run `memory-plugin migrate up`.",
        ),
        "42704": (ExtensionMissingError, f"{message} on {target}: is pgvector installed and on the search path?"),
        "0A000": (DatabaseError, f"{target} does not support this: {message}."),
        "57014": (DatabaseError, f"{target} ended the statement: it was cancelled or ran into statement_timeout."),
        "25006": (DatabaseError, f"{target} is read-only (a replica?): connect to the primary."),
    }
    if sqlstate in known:
        kind, text = known[sqlstate]
        return kind(text, sqlstate=sqlstate)
    if sqlstate in {"54000", "22001"}:
        return ContentTooLargeError(f"A value is too large for PostgreSQL ({message}): split it; nothing was written.")
    if sqlstate[:2] == "22":
        return InvalidInputError(f"PostgreSQL cannot hold a value that was given ({message}); nothing was written.")
    return _connection_state(sqlstate, original, message, target, progress) or DatabaseError(
        f"{target} refused a statement: {message}", sqlstate=sqlstate
    )


def _connection_state(
    sqlstate: str, original: BaseException, message: str, target: str, progress: Progress
) -> DatabaseError | None:
    if sqlstate in POOLER_STATES:
        return DatabaseUnavailableError(
            f"A pooler before {target} does not keep prepared statements: set MEMORY_PREPARED_STATEMENTS=false. "
            "Nothing was applied.",
            sqlstate=sqlstate,
        )
    if sqlstate == "53300":
        return DatabaseUnavailableError(
            f"{target} has no free connection: lower MEMORY_POOL_SIZE or raise max_connections. Nothing was applied.",
            sqlstate=sqlstate,
            passing=True,
        )
    if "unsupported startup parameter" in message:
        return DatabaseUnavailableError(
            f"A pooler before {target} refuses a setting ({message}): unset MEMORY_STATEMENT_TIMEOUT and set "
            "statement_timeout on the role, or list it in ignore_startup_parameters.",
            sqlstate=sqlstate,
        )
    if sqlstate in _ENDED_BEFORE or getattr(original.__cause__, "sqlstate", None) in _ENDED_BEFORE:
        return not_applied(target, message, sqlstate=sqlstate)
    if sqlstate[:2] == "08" or sqlstate in _ENDED:
        return _lost(target, message, progress, sqlstate=sqlstate)
    if sqlstate[:2] == "57":
        return DatabaseUnavailableError(f"{target} closed the connection ({message}): try again.", sqlstate=sqlstate)
    return None


def _by_type(error: BaseException, message: str, target: str, progress: Progress) -> MemoryPluginError:
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailableError(
            f"All connections to {target} stayed busy: raise MEMORY_POOL_SIZE, or look for an operation that hangs. "
            "Nothing was applied."
        )
    if isinstance(error, ssl.SSLError) and progress is Progress.UNSENT:
        return DatabaseUnavailableError(f"TLS with {target} failed ({message}): check sslmode and the certificates.")
    if isinstance(error, asyncpg.InterfaceError) and "invalid" in message.lower() and "dsn" in message.lower():
        return ConfigurationError(f"The database URL cannot be read: {message}.")
    if (
        isinstance(error, asyncpg.DataError | asyncpg.exceptions.DataError)
        or "invalid input for query argument" in message
    ):
        return InvalidInputError(f"A value cannot be stored ({message}); nothing was written.")
    if isinstance(error, OSError) and progress is Progress.UNSENT:
        # also TimeoutError, which is an OSError
        return DatabaseUnavailableError(
            f"{target} did not answer in time: is it up, and is the address right? Nothing was applied."
            if isinstance(error, TimeoutError)
            else f"{target} cannot be reached ({message}): is it running, and is the address right? "
            "Nothing was applied.",
            passing=True,
        )
    if isinstance(error, asyncpg.InterfaceError):  # what the client itself found out, before it sent anything
        if "is closed" in message:
            return not_applied(target, message)
        return DatabaseUnavailableError(f"The connection to {target} failed ({message}). Nothing was applied.")
    return _lost(target, message, progress)


def _lost(target: str, message: str, progress: Progress, *, sqlstate: str | None = None) -> DatabaseError:
    if progress is Progress.SENT:
        return outcome_unknown(target, message, repeatable=False, sqlstate=sqlstate)
    return not_applied(target, message, sqlstate=sqlstate)


def not_applied(target: str, message: str, *, sqlstate: str | None = None) -> DatabaseUnavailableError:
    """The connection ended, and the operation with it."""
    return DatabaseUnavailableError(
        f"{target} closed the connection ({message.rstrip('.')}). Nothing was applied: try again.",
        sqlstate=sqlstate,
        passing=True,
    )


def outcome_unknown(target: str, message: str, *, repeatable: bool, sqlstate: str | None = None) -> OutcomeUnknownError:
    """The connection ended after the operation was sent and before its answer came."""
    advice = "doing it again is safe." if repeatable else "look before you do it again."
    return OutcomeUnknownError(
        f"The connection to {target} was lost before the answer ({message.rstrip('.')}). "
        f"The operation may have been applied: {advice}",
        sqlstate=sqlstate,
        repeatable=repeatable,
    )
