"""Erasing reference documents and old versions of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from memory_plugin.capabilities.reference_files import PathLike, path_text
from memory_plugin.capabilities.reference_reader import DOCUMENT, ReferenceAccess, as_uuid, document_of, no_document
from memory_plugin.capabilities.reference_writer import again_on_deadlock
from memory_plugin.db.database import Connection, Database, Record, Repeat
from memory_plugin.errors import InvalidInputError
from memory_plugin.types import Document
from memory_plugin.validation import identifier, positive_limit

# Writers lock the row of their document: with it locked in an earlier statement, the one that
# deletes sees all they wrote.
_LOCK = """
SELECT id FROM {s}.documents
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id = $2) AND ($3::text IS NULL OR user_id = $3)
  AND ($4::text IS NULL OR collection = $4)
ORDER BY id FOR UPDATE
"""

# Waits for an indexer that is at work on these chunks, so that the next statement sees what it wrote.
# An array, because without statistics a join here may compare each with each.
_UNQUEUE = """
WITH gone AS (
    DELETE FROM {s}.index_queue
    WHERE tenant_id = $1 AND kind = 3 AND item = ANY (
        ARRAY(SELECT c.id::text FROM {s}.chunks c WHERE c.tenant_id = $1 AND c.document_id = ANY ($2::uuid[]))
    )
    RETURNING 1
)
SELECT count(*) AS index_queue FROM gone
"""

_REMOVE = """
WITH places AS (
    DELETE FROM {s}.chunk_places WHERE tenant_id = $1 AND document_id = ANY ($2::uuid[]) RETURNING 1
), chunks AS (
    DELETE FROM {s}.chunks WHERE tenant_id = $1 AND document_id = ANY ($2::uuid[]) RETURNING id
), versions AS (
    DELETE FROM {s}.document_versions WHERE tenant_id = $1 AND document_id = ANY ($2::uuid[]) RETURNING 1
), documents AS (
    DELETE FROM {s}.documents WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) RETURNING 1
), found AS (
    DELETE FROM {s}.passages WHERE tenant_id = $1 AND document_id = ANY ($2::uuid[]) RETURNING 1
)
SELECT (SELECT count(*) FROM documents) AS documents, (SELECT count(*) FROM versions) AS document_versions,
       (SELECT count(*) FROM chunks) AS chunks, (SELECT count(*) FROM places) AS chunk_places,
       (SELECT count(*) FROM found) AS passages
"""

# Not in the current version means not in the search index: nothing is to be done there.
_PRUNE = """
WITH old AS (
    DELETE FROM {s}.document_versions v USING {s}.documents d
    WHERE v.tenant_id = $1 AND v.document_id = ANY ($2::uuid[])
      AND d.tenant_id = v.tenant_id AND d.id = v.document_id AND v.version <= d.version - $3
    RETURNING v.document_id, v.version
), places AS (
    DELETE FROM {s}.chunk_places p USING old
    WHERE p.tenant_id = $1 AND p.document_id = old.document_id AND p.version = old.version
    RETURNING p.chunk_id
), chunks AS (
    DELETE FROM {s}.chunks c USING {s}.documents d
    WHERE c.tenant_id = $1 AND c.id = ANY (ARRAY(SELECT chunk_id FROM places))
      AND d.tenant_id = c.tenant_id AND d.id = c.document_id
      AND NOT EXISTS (
          SELECT FROM {s}.chunk_places p
          WHERE p.tenant_id = $1 AND p.chunk_id = c.id AND p.version > d.version - $3
      )
    RETURNING 1
)
SELECT (SELECT count(*) FROM old) AS document_versions, (SELECT count(*) FROM places) AS chunk_places,
       (SELECT count(*) FROM chunks) AS chunks
"""

_BELOW = """
SELECT d.id, d.source FROM {s}.documents d
WHERE d.tenant_id = $1 AND d.collection = $2 AND coalesce(d.user_id, '') = coalesce($3, '')
  AND EXISTS (SELECT FROM unnest($4::text[]) AS folder WHERE starts_with(d.source, folder))
ORDER BY d.source
"""

_MISSING = f"""{DOCUMENT}
WHERE d.tenant_id = $1 AND d.id = ANY ($2::text[]::uuid[]) ORDER BY d.source
"""


class ReferenceRemover(ReferenceAccess):
    """Erases documents; who names a user erases that user's own only."""

    def __init__(self, database: Database, *, tenant: str, user_id: str | None = None) -> None:
        super().__init__(database, tenant=tenant, user_id=user_id)
        self._lock = database.sql(_LOCK)
        self._unqueue = database.sql(_UNQUEUE)
        self._remove = database.sql(_REMOVE)
        self._prune = database.sql(_PRUNE)
        self._below = database.sql(_BELOW)
        self._missing = database.sql(_MISSING)

    async def missing(
        self, folders: Iterable[PathLike] | PathLike, *, collection: str = "default", user_id: str | None = None
    ) -> list[Document]:
        """The documents of files below these folders that are not there any more, by their paths.

        They were added from there, or under such a source, and are found until they are removed. A file
        that merely cannot be looked at is not missing.

        Raises:
            InvalidInputError: an argument that names nothing.
        """
        named = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
        prefixes = await asyncio.to_thread(_prefixes, named)
        rows = await self._database.fetch(
            self._below,
            self._tenant,
            identifier(collection, "collection"),
            self._user(user_id),
            prefixes,
            repeat=Repeat.READ,
        )
        gone = await asyncio.to_thread(lambda: [str(row["id"]) for row in rows if _is_gone(row["source"])])
        found = await self._database.fetch(self._missing, self._tenant, gone, repeat=Repeat.READ) if gone else []
        return [document_of(row) for row in found]

    async def remove(self, document_id: UUID | str, *, user_id: str | None = None) -> dict[str, int]:
        """Erase a document with all versions and its place in the search; rows erased, by table.

        Raises:
            NotFoundError: there is none, or it is not the user's own.
            InvalidInputError: not an id.
        """
        return await self._erase(as_uuid(document_id, "document_id"), self._user(user_id), None)

    async def remove_user(self, user_id: str) -> dict[str, int]:
        """Erase all documents of a user; rows erased, by table."""
        return await self._erase(None, identifier(user_id, "user_id"), None)

    async def remove_collection(self, collection: str, *, user_id: str | None = None) -> dict[str, int]:
        """Erase a collection, or what the user has in it; rows erased, by table."""
        return await self._erase(None, self._user(user_id), identifier(collection, "collection"))

    async def prune_versions(
        self, document_id: UUID | str | None = None, *, keep: int = 1, user_id: str | None = None
    ) -> dict[str, int]:
        """Erase old versions and the passages that only they have; rows erased, by table.

        Citations of these versions can no longer be resolved.

        Args:
            document_id: of one document; None prunes all (of the user, where one is named).
            keep: how many versions stay, the current one included.

        Raises:
            NotFoundError: there is no such document, or it is not the user's own.
            InvalidInputError: `keep` is less than 1.
        """
        if positive_limit(keep, "keep") < 1:
            raise InvalidInputError("keep must be at least 1: the current version stays; use remove to erase it.")
        number = None if document_id is None else as_uuid(document_id, "document_id")
        return await again_on_deadlock(lambda: self._run_prune(number, self._user(user_id), keep))

    async def _run_prune(self, document_id: UUID | None, user_id: str | None, keep: int) -> dict[str, int]:
        async with self._database.transaction() as connection:
            ids = await self._locked(connection, document_id, user_id, None)
            return _counts(await connection.fetchrow(self._prune, self._tenant, ids, keep))

    async def _erase(self, document_id: UUID | None, user_id: str | None, collection: str | None) -> dict[str, int]:
        async def run() -> dict[str, int]:
            async with self._database.transaction() as connection:
                ids = await self._locked(connection, document_id, user_id, collection)
                queued = _counts(await connection.fetchrow(self._unqueue, self._tenant, ids))
                return _counts(await connection.fetchrow(self._remove, self._tenant, ids)) | queued

        return await again_on_deadlock(run)

    async def _locked(
        self, connection: Connection, document_id: UUID | None, user_id: str | None, collection: str | None
    ) -> list[UUID]:
        """The documents chosen, which no one else writes until the transaction ends."""
        rows = await connection.fetch(self._lock, self._tenant, document_id, user_id, collection)
        if document_id is not None and not rows:
            raise no_document(document_id)
        return [row["id"] for row in rows]


def _prefixes(folders: Iterable[PathLike]) -> list[str]:
    """What the sources of the files below each folder begin with."""
    try:
        return [f"{path_text(Path(folder).expanduser().resolve()).rstrip('/')}/" for folder in folders]
    except (OSError, ValueError, RuntimeError, TypeError) as error:  # as paths of files are refused
        raise InvalidInputError(f"A folder cannot be looked at: {error}.") from error


def _is_gone(source: str) -> bool:
    """Whether there is no such file; a name that could not be stored as it was says nothing."""
    if "\\" in source:
        return False
    try:
        os.stat(source)  # noqa: PTH116 - tells why not, which Path.exists does not always
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _counts(row: Record | None) -> dict[str, int]:
    assert row is not None  # a SELECT without FROM always has a row
    return dict(row)
