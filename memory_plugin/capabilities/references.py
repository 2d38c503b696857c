"""Reference documents: added from files, texts, URLs and loaders, kept by version, cited by passage.

A document belongs to one user, or to nobody in particular and so to everyone of the tenant. Who
names a user sees that user's documents and everyone's, and may remove that user's only; who names
none acts for the whole tenant.
"""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from memory_plugin.capabilities.reference_adding import AddReport, Outcome, Progress, ReferenceAdder
from memory_plugin.capabilities.reference_context import DocumentVersion, FoundDocument, ReferenceContext
from memory_plugin.capabilities.reference_preparing import Parser
from memory_plugin.capabilities.reference_reader import ReferenceReader, StoredChunk
from memory_plugin.capabilities.reference_removal import ReferenceRemover
from memory_plugin.capabilities.reference_web import Fetcher, UrlPolicy
from memory_plugin.db.database import Database
from memory_plugin.errors import ConfigurationError
from memory_plugin.types import Hit
from memory_plugin.validation import positive_limit

__all__ = [
    "AddReport",
    "DocumentVersion",
    "Fetcher",
    "FoundDocument",
    "Outcome",
    "Progress",
    "ReferenceRow",
    "References",
    "UrlPolicy",
]

ReferenceRow = StoredChunk
"""What `References.hydrate` gives for a hit."""

MAX_NEIGHBOURS = 20


class Search(Protocol):
    """The search of the store, which knows this capability's passages as one kind among others."""

    def __call__(
        self,
        query: str,
        *,
        collection: str | None = None,
        user_id: str | None = None,
        limit: int = 8,
        filter: Mapping[str, Any] | None = None,
    ) -> Awaitable[list[Hit]]:
        """The best passages, each with its citation."""


class References(ReferenceReader, ReferenceContext, ReferenceRemover, ReferenceAdder):
    """Reads and writes reference documents.

    Args:
        user_id: the user when a call names none; None acts for the whole tenant.
        changed: called after each write.
        search: what `search` hands on to.
        parser: instead of the parsers of the library.
        fetcher: gets the documents of URLs; None refuses URLs.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant: str,
        user_id: str | None = None,
        changed: Callable[[], None] | None = None,
        search: Search | None = None,
        parser: Parser | None = None,
        fetcher: Fetcher | None = None,
    ) -> None:
        super().__init__(database, tenant=tenant, user_id=user_id)
        self._changed, self._parser, self._fetcher = changed, parser, fetcher or self._fetcher
        self._search_store = search

    async def search(
        self,
        query: str,
        *,
        collection: str | None = None,
        user_id: str | None = None,
        limit: int = 8,
        filter: Mapping[str, Any] | None = None,
        neighbours: int = 0,
    ) -> builtins.list[Hit]:
        """Passages that answer the query, the best first, each with its citation.

        Args:
            filter: conditions on the metadata of the documents.
            neighbours: so many passages before and after each one come with it, in `Hit.neighbours`.

        Raises:
            ConfigurationError: this object was made without a search.
            InvalidInputError: a filter that makes no sense.
        """
        if self._search_store is None:
            raise ConfigurationError("Searching needs the whole store: open it with MemoryCore.open.")
        around = positive_limit(neighbours, "neighbours", maximum=MAX_NEIGHBOURS)
        hits = await self._search_store(query, collection=collection, user_id=user_id, limit=limit, filter=filter)
        return await self.with_neighbours(hits, around) if around else hits

    async def search_documents(
        self,
        query: str,
        *,
        collection: str | None = None,
        user_id: str | None = None,
        limit: int = 5,
        passages: int = 3,
        filter: Mapping[str, Any] | None = None,
    ) -> builtins.list[FoundDocument]:
        """The documents that answer the query, the best first, each with its best passages.

        A document is as good as its best passage.

        Args:
            limit: documents.
            passages: of each document, at the most.

        Raises:
            ConfigurationError, InvalidInputError: as `search` does.
        """
        documents, each = positive_limit(limit, maximum=1000), positive_limit(passages, "passages", maximum=1000)
        wanted = min(1000, max(50, 4 * documents * each))
        hits = await self.search(query, collection=collection, user_id=user_id, limit=wanted, filter=filter)
        return await self.by_document(hits, limit=documents, passages=each)
