"""What can be known and done about the vector spaces of a tenant, and the index of a large one.

Up to some thousand vectors an exact scan of what a search may see is quicker than any index. A space
that has grown past `index_from` gets an HNSW index of its own, made without a lock on writers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from memory_plugin.capabilities import vector_sql as sql
from memory_plugin.capabilities.vectors import Space, Vectors, model_id
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import DatabaseError, InvalidInputError, MemoryPluginError, NotFoundError
from memory_plugin.types import HIT_KINDS, HitKind

if TYPE_CHECKING:
    from memory_plugin.capabilities.passages import Passages

logger = logging.getLogger("memory_plugin")

INDEX_FROM: Final = 20_000
"""Vectors of one space from which on it has an index: an exact scan of that many takes about 10 ms."""

LARGEST_INDEXED: Final = 4_000
"""Numbers a vector may have to be indexed, by pgvector; wider ones are searched exactly."""

DROP_BATCH: Final = 10_000

SpaceState = Literal["building", "ready", "retired"]
IndexState = Literal["none", "building", "ready", "broken"]


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """The vectors of one model.

    Attributes:
        name: of the model.
        kind: what it is for, "reference" for documents alone; None for everything.
        state: `ready` from the moment all passages had their vectors; `retired` ones get no new vectors.
        passages: how many have a vector, of `of_all`.
        vectors: how many there are: a store item with several indexed fields has one for each.
        waiting: passages queued for their vector, the refused ones among them.
        refused: passages whose text the model failed on; they are tried again later.
        index: of its HNSW index.
        is_own: whether it is that of a model this store uses.
    """

    name: str
    kind: HitKind | None
    dims: int
    state: SpaceState
    passages: int
    of_all: int
    vectors: int
    waiting: int
    refused: int
    index: IndexState
    created_at: datetime
    ready_at: datetime | None
    retired_at: datetime | None
    is_own: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the building of a space, or of its index, is: `done` of `total`, 0 while that is not known."""

    step: Literal["vectors", "documents", "index"]
    done: int
    total: int


class VectorSpaces:
    """Lists, builds, retires and drops the spaces of one tenant.

    Args:
        passages: whose vectors they are.
        index_from: vectors from which on a space gets an index by itself; 0 is never.
    """

    def __init__(self, database: Database, *, tenant: str, passages: Passages, index_from: int = INDEX_FROM) -> None:
        self._database = database
        self._tenant = tenant
        self._vectors = passages.vectors
        self._documents = passages.documents
        self._index_from = index_from
        self.last_error: MemoryPluginError | None = None
        """Why the last index could not be made; None when it could."""

    async def list(self) -> list[EmbeddingSpace]:
        """Every space, those being built first, then the newest."""
        return [await self._described(row) for row in await self._vectors.rows()]

    def _own_names(self) -> set[str]:
        """The names of the models that the store uses."""
        used = [self._vectors] if self._documents is None else [self._vectors, self._documents.vectors]
        return {vectors.embedder.name for vectors in used if vectors.embedder is not None}

    async def _described(self, row: Record) -> EmbeddingSpace:
        state: SpaceState = "ready" if row["ready_at"] is not None else "building"
        return EmbeddingSpace(
            name=row["name"],
            kind=None if row["kind"] is None else HIT_KINDS[row["kind"] - 1],
            dims=row["dims"],
            state="retired" if row["retired_at"] is not None else state,
            index=await self._index_state(row["number"]),
            created_at=row["created_at"],
            ready_at=row["ready_at"],
            retired_at=row["retired_at"],
            is_own=row["name"] in self._own_names(),
            **await self._counts(row["number"]),
        )

    async def _counts(self, number: int) -> dict[str, Any]:
        row = await self._database.fetchrow(self._database.sql(sql.COUNTS), self._tenant, number, repeat=Repeat.READ)
        return dict(row or {})

    async def build(
        self, embeddings: object = None, *, progress: Callable[[Progress], None] | None = None
    ) -> EmbeddingSpace:
        """Build the space of a model beside the others, then let searches of this store use it.

        What was done before is not done again, so a build that was broken off goes on where it was.
        Until the end searches use the space they used before; other processes use the new one once
        they are opened with its model.

        Args:
            embeddings: as for `Memory.open`; None is the model of this store.
            progress: called after every batch.

        Raises:
            EmbeddingError: the embedder failed; try again to go on.
            UnsupportedError, ConfigurationError: there is no such model.
            InvalidInputError: this store has no model, and none was given.
        """
        from memory_plugin.embedding import resolve_embedder

        own = self._vectors.embedder
        embedder = own if embeddings is None else resolve_embedder(embeddings)
        if embedder is None:
            raise InvalidInputError("There is no model to build a space with: name one, or set MEMORY_EMBEDDINGS.")
        vectors = self._vectors if embedder is own else self._vectors.beside(embedder)
        await vectors.own_space()
        begun = await self._counts(model_id(embedder.name))

        def report(done: int) -> None:
            if progress is not None:
                progress(Progress("vectors", min(begun["passages"] + done, begun["of_all"]), begun["of_all"]))

        report(0)
        await vectors.refill(report)
        await self._tend(vectors, progress)
        if embedder is not own:
            self._vectors.use(embedder)
        self._vectors.look_again()
        (space,) = [space for space in await self.list() if space.name == embedder.name]
        return space

    async def build_documents(self, *, progress: Callable[[Progress], None] | None = None) -> EmbeddingSpace | None:
        """Complete the space of the model for documents alone; None where there is no such model, or nothing for it.

        Args:
            progress: called after every batch.

        Raises:
            EmbeddingError: the embedder failed; try again to go on.
        """
        if self._documents is None or (embedder := self._documents.vectors.embedder) is None:
            return None
        while await self._documents.fill_some():
            if progress is not None:
                counts = await self._counts(model_id(embedder.name))
                progress(Progress("documents", counts["passages"], counts["of_all"]))
        await self.tend(progress)
        return next((space for space in await self.list() if space.name == embedder.name), None)

    async def retire(self, name: str) -> None:
        """Make no more vectors of this model; those that are there stay until `drop`.

        A store that is opened with the model again takes it out of retirement.

        Raises:
            NotFoundError: the tenant has no such space.
            InvalidInputError: it is the one that this store uses.
        """
        number = await self._other(name)
        await self._database.fetchval(
            self._database.sql(sql.RETIRE), self._tenant, number, None, repeat=Repeat.IDEMPOTENT
        )

    async def drop(self, name: str) -> int:
        """Delete a space with its vectors and its index; how many vectors there were.

        Raises:
            NotFoundError: the tenant has no such space.
            InvalidInputError: it is the one that this store uses.
        """
        await self.retire(name)
        number, total = model_id(name), 0
        await self._drop_index(number)
        while gone := await self._drop_some(number):
            total += gone
        await self._database.execute(self._database.sql(sql.DROP_MODEL), self._tenant, number, repeat=Repeat.IDEMPOTENT)
        return total

    async def _drop_some(self, number: int) -> int:
        tag = await self._database.execute(
            self._database.sql(sql.DROP_SOME), self._tenant, number, DROP_BATCH, repeat=Repeat.IDEMPOTENT
        )
        return int(tag.rpartition(" ")[2])

    async def _other(self, name: str) -> int:
        """The number of a space that is not the own one."""
        if name in self._own_names():
            raise InvalidInputError(f"{name!r} is a model that this store uses: open the store with another one first.")
        if all(row["name"] != name for row in await self._vectors.rows()):
            raise NotFoundError(
                f"There are no vectors of a model {name!r}: `memory-plugin reindex --dry-run` lists them."
            )
        return model_id(name)

    # -- the index of a large space

    async def tend(self, progress: Callable[[Progress], None] | None = None) -> bool:
        """Make the index of an own space where it has grown large enough; whether one was made.

        What goes wrong is kept in `last_error`: searches do without it.
        """
        made = await self._tend(self._vectors, progress)
        documents = None if self._documents is None else await self._documents.for_search()
        return made if documents is None else await self._tend(documents, progress) or made

    async def _tend(self, vectors: Vectors, progress: Callable[[Progress], None] | None) -> bool:
        own = await vectors.own_space()
        if own is None or not self._index_from or own[0].dims > LARGEST_INDEXED:
            return False
        space = own[0]
        arguments = (self._tenant, space.number, self._index_from)
        found = await self._database.fetchval(self._database.sql(sql.AT_LEAST), *arguments, repeat=Repeat.READ)
        if found < self._index_from or await self._index_state(space.number) in {"ready", "building"}:
            return False
        try:
            await self._make_index(space, progress)
        except DatabaseError as error:
            if self.last_error is None:
                logger.warning("The index of the vectors could not be made, searches by meaning are slower: %s", error)
            self.last_error = error
            return False
        self.last_error = None
        for used in (self._vectors, vectors):
            used.look_again()
        return True

    async def _make_index(self, space: Space, progress: Callable[[Progress], None] | None) -> None:
        await self._drop_index(space.number)  # one that is there now was left behind by somebody who died making it
        statement = self._database.sql(sql.create_index(self._tenant, space.number, space.dims))
        making = asyncio.ensure_future(self._database.as_login().execute(statement))
        try:
            while not (await asyncio.wait({making}, timeout=0.5))[0]:
                if progress is not None:
                    await self._report_index(progress)
            await making
        finally:
            making.cancel()

    async def _report_index(self, progress: Callable[[Progress], None]) -> None:
        row = await self._database.fetchrow(
            sql.INDEX_PROGRESS, self._database.sql("{s}.embeddings"), repeat=Repeat.READ
        )
        if row is not None:
            progress(Progress("index", row["done"], row["total"]))

    async def _drop_index(self, number: int) -> None:
        await self._database.as_login().execute(
            self._database.sql(f"DROP INDEX CONCURRENTLY IF EXISTS {{s}}.{sql.index_name(self._tenant, number)}")
        )

    async def _index_state(self, number: int) -> IndexState:
        name = self._database.sql(f"{{s}}.{sql.index_name(self._tenant, number)}")
        row = await self._database.fetchrow(sql.INDEX_STATE, name, repeat=Repeat.READ)
        if row is None:
            return "none"
        return "ready" if row["valid"] else "building" if row["building"] else "broken"
