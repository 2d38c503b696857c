"""The vectors of documents alone, by a model that reads them better than the one for everything, and takes its time.

Every passage has a vector of the store's own model, which is quick: what was just added is found by meaning at once.
Passages of documents get one more, in the background. Once all of them have it, searches of documents alone use it;
while some wait for theirs, and wherever memories and messages are searched too, the store's own model does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from memory_plugin.capabilities import vector_sql as sql
from memory_plugin.capabilities.passage_search import REFERENCE
from memory_plugin.capabilities.vectors import LOOK_AGAIN, Vectors, model_id
from memory_plugin.db.database import Database, Repeat
from memory_plugin.db.joined import apart
from memory_plugin.errors import EmbeddingError

if TYPE_CHECKING:
    from memory_plugin.embedding import Embedder, Embedders
    from memory_plugin.embedding.guard import Guard

logger = logging.getLogger("memory_plugin")


def document_vectors(
    database: Database,
    embedders: Embedders,
    *,
    tenant: str,
    query_seconds: float | None = None,
    guards: dict[str, Guard] | None = None,
    turn: asyncio.Lock | None = None,
) -> DocumentVectors | None:
    """Those of a tenant; None where documents get no vector beside that of everything."""
    if embedders.documents is None:
        return None
    return DocumentVectors(
        database,
        tenant=tenant,
        embedder=embedders.documents,
        up_to=embedders.documents_up_to,
        query_seconds=query_seconds,
        guards=guards,
        turn=turn,
    )


class DocumentVectors:
    """Those of one tenant.

    Args:
        embedder: the model that reads documents.
        up_to: passages beyond which they get none, and those that are there are not searched; None for any number.
        query_seconds: how long a search waits for the vector of its query.
        guards: of the embedders, see `Vectors`.
        turn: held while passages are read, by all tenants of the process: together they would take its threads, and
            a tenant twice would read the same passages.

    Attributes:
        vectors: of passages of documents, and of questions about them.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant: str,
        embedder: Embedder,
        up_to: int | None = None,
        query_seconds: float | None = None,
        guards: dict[str, Guard] | None = None,
        turn: asyncio.Lock | None = None,
    ) -> None:
        self.vectors = Vectors(
            database, tenant=tenant, embedder=embedder, kind=REFERENCE, query_seconds=query_seconds, guards=guards
        )
        self._database = database
        self._tenant = tenant
        self._embedder = embedder
        self._up_to = up_to
        self._turn = turn or asyncio.Lock()
        self._is_complete = False
        self._is_retired = False
        self._looked_at = -LOOK_AGAIN

    @apart
    async def for_search(self) -> Vectors | None:
        """What to embed a question about documents with; None where the model for everything has to do."""
        is_old = self._is_complete and self.vectors.searched is None
        if is_old or time.monotonic() - self._looked_at > LOOK_AGAIN:
            self._looked_at = time.monotonic()
            try:
                self._is_complete = await self.vectors.is_complete()
            except EmbeddingError as error:
                self.give_up(error)
        return self.vectors if self._is_complete else None

    def give_up(self, error: EmbeddingError) -> None:
        """Leave searches to the model for everything for a while."""
        logger.warning("Documents are searched with the model for everything for now: %s", error)
        self._is_complete, self._looked_at = False, time.monotonic()

    @apart
    async def fill_some(self) -> int:
        """Give a batch of passages of documents their vectors; how many, 0 when there is nothing to do.

        Raises:
            EmbeddingError: the embedder failed; what was done before stays done.
        """
        async with self._turn:
            if not await self._is_wanted():
                return 0
            done = await self.vectors.fill_some()
            if not done:
                self._looked_at = -LOOK_AGAIN
            return done

    async def _is_wanted(self) -> bool:
        """Whether the tenant has documents, and not too many; the model is not even loaded otherwise."""
        passages = await self._database.fetchval(
            self._database.sql(sql.OF_KIND), self._tenant, str(REFERENCE), repeat=Repeat.READ
        )
        if not passages:
            return False
        if self._up_to is None or passages <= self._up_to:
            self._is_retired = False
            return True
        if self._is_retired:
            return False
        # those that are there stay: they count again when somebody chooses the model, or documents were removed
        self._is_complete, self._is_retired = False, True
        self._looked_at = time.monotonic()
        self.vectors.use(self._embedder)
        await self._database.fetchval(
            self._database.sql(sql.RETIRE),
            self._tenant,
            model_id(self._embedder.name),
            str(REFERENCE),
            repeat=Repeat.IDEMPOTENT,
        )
        return False
