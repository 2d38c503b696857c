"""Every error this library raises on purpose.

    MemoryPluginError
    ├── ConfigurationError          a setting, argument or combination that cannot work
    ├── InvalidInputError           a value the caller passed is unusable (also a ValueError)
    │   ├── ContentTooLargeError    a text or document over its limit
    │   └── SecretRefusedError      a fact that holds a credential
    ├── NotFoundError               the thing named does not exist for this tenant (also a LookupError)
    ├── ConflictError               somebody else changed the row first
    ├── UnsupportedError            an optional part is not installed or the database lacks a feature
    ├── EmbeddingError              the embedder failed, or gave a vector of the wrong width
    ├── DocumentError               a document could not be read or parsed
    ├── WrongLoopError              a sync method was called on the event loop that owns the store
    └── DatabaseError               something the database said
        ├── DatabaseUnavailableError   no connection: refused, timed out, shut down, credentials
        │   └── OutcomeUnknownError    it was lost in the middle: the operation may have been applied
        ├── ExtensionMissingError      pgvector is not there and may not be created
        ├── SchemaVersionError         the schema is behind or ahead of this version of the library
        ├── EmbeddedDatabaseError      the embedded server could not be started or stopped
        ├── TableError                 a table of the application's own, or a column of it, is missing
        └── StorageFullError           disk full or a quota reached

Each message is one sentence (or two) that says what happened and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class MemoryPluginError(Exception):
    """Base of all errors of this library."""


class ConfigurationError(MemoryPluginError):
    """A setting or a combination of settings cannot work."""


class InvalidInputError(MemoryPluginError, ValueError):
    """A value passed by the caller is unusable; nothing was written."""


class ContentTooLargeError(InvalidInputError):
    """A text or a document is over its limit; nothing was written."""


class SecretRefusedError(InvalidInputError):
    """A fact holds what looks like a credential; nothing was written.

    Attributes:
        findings: of which kind and where, each a `Finding`; never the credential itself.
    """

    def __init__(self, message: str, *, findings: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.findings = findings


class NotFoundError(MemoryPluginError, LookupError):
    """The thing named does not exist, or not for this tenant."""


class ConflictError(MemoryPluginError):
    """The row changed since the caller read it."""


class UnsupportedError(MemoryPluginError):
    """An optional dependency or a database feature is missing."""


class EmbeddingError(MemoryPluginError):
    """The embedder failed or returned vectors of an unexpected width."""


class DocumentError(MemoryPluginError):
    """A document could not be read or parsed; `name` says which."""

    def __init__(self, message: str, *, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


class WrongLoopError(MemoryPluginError):
    """A sync method was called on the event loop that owns the store, where it could only deadlock."""


class DatabaseError(MemoryPluginError):
    """The database refused a statement; `sqlstate` is its five-character code where known."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class DatabaseUnavailableError(DatabaseError):
    """No usable connection: refused, timed out, wrong credentials, or the server went away.

    Nothing was applied, except where it is an `OutcomeUnknownError`.

    Attributes:
        passing: it may be over in a moment, as when a server restarts; trying again makes sense.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None, passing: bool = False) -> None:
        super().__init__(message, sqlstate=sqlstate)
        self.passing = passing


class OutcomeUnknownError(DatabaseUnavailableError):
    """The connection was lost after the operation was sent: it may have been applied, or not.

    Attributes:
        repeatable: doing it again leaves the same as doing it once.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None, repeatable: bool = False) -> None:
        super().__init__(message, sqlstate=sqlstate, passing=True)
        self.repeatable = repeatable


class ExtensionMissingError(DatabaseError):
    """pgvector is not installed in the database and this role may not install it."""


class SchemaVersionError(DatabaseError):
    """The schema in the database is not the one this version of the library works with."""


class EmbeddedDatabaseError(DatabaseError):
    """The embedded PostgreSQL could not be initialised, started or stopped."""


class TableError(DatabaseError):
    """A table of the application's own, or a column of it, is not in the database."""


class StorageFullError(DatabaseError):
    """The database has no room left for the write."""
