"""The vector spaces of a tenant: one for each model, built beside each other, each with its own index.

A model that is new to a tenant makes a new space. While the background fills it, searches go on with
the newest space that is complete and whose model can still be opened; from the moment the last
passage has its vector they use the new one. Vectors of two models are never compared.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import randrange
from typing import TYPE_CHECKING, Final
from uuid import UUID

from memory_plugin.capabilities import vector_sql as sql
from memory_plugin.capabilities.memory_values import texts_of
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import EmbeddingError, MemoryPluginError

if TYPE_CHECKING:
    from memory_plugin.embedding import Embedder
    from memory_plugin.embedding.guard import Guard

logger = logging.getLogger("memory_plugin")

FILL_BATCH: Final = 256
FILL_CHARS: Final = 50_000
"""Passages that are embedded at once, and about how many characters of them by a model that takes its time: one that
reads 500 a second, on a machine that has other work, is done within the time an embedder is given."""

SEED_BATCH: Final = 200_000
FEW: Final = 1_000
"""Passages that a search queues for their vectors where the space is new."""


LOOK_AGAIN: Final = 60.0
"""Seconds until a process looks again which spaces there are, and whether one has an index."""

_FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Space:
    """A space as statements use it: its number, its width, whether it is complete and has an index."""

    number: int
    dims: int
    name: str
    is_ready: bool = False
    is_indexed: bool = False


class QueryVector(list[float]):
    """The vector of a query, and the space that it may be compared in."""

    __slots__ = ("space",)

    def __init__(self, vector: Sequence[float], space: Space) -> None:
        super().__init__(vector)
        self.space = space


def model_id(name: str) -> int:
    """The number a vector space goes by in the tables: the same for every tenant and process."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


class Vectors:
    """Gives passages their vectors, and queries theirs.

    Args:
        embedder: the model to use; None leaves all to the words.
        kind: of the passages that it is for; None for all.
        query_seconds: how long a search waits for the vector of its query.
        guards: of the embedders by name, shared with other tenants: what hangs is found out once.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant: str,
        embedder: Embedder | None,
        kind: int | None = None,
        query_seconds: float | None = None,
        guards: dict[str, Guard] | None = None,
    ) -> None:
        self._database = database
        self._tenant = tenant
        self._kind = None if kind is None else str(kind)
        self._query_seconds = query_seconds
        self._guards: dict[str, Guard] = {} if guards is None else guards
        self._own = embedder
        self._space: Space | None = None
        self._before: Space | None = None
        self._looked_at = 0.0
        self._seeded = False
        self._unsayable: set[str] = set()

    @property
    def embedder(self) -> Embedder | None:
        """The model of this store; None without one."""
        return self._own

    def _guard(self, embedder: Embedder) -> Guard:
        from memory_plugin.embedding.guard import QUERY_SECONDS, Guard

        known = self._guards.get(embedder.name)
        if known is None or known.embedder is not embedder:
            known = Guard(embedder, query_seconds=self._query_seconds or QUERY_SECONDS)
            self._guards[embedder.name] = known
        return known

    # -- which space

    async def own_space(self) -> tuple[Space, Guard] | None:
        """The space of this store's model, made known to the tenant the first time."""
        if self._own is None:
            return None
        guard = self._guard(self._own)
        if self._space is None:
            self._space = await self._register(guard)
        return self._space, guard

    async def _register(self, guard: Guard) -> Space:
        dims, number, database = await guard.width(), model_id(guard.name), self._database
        # most processes find it known: they write nothing, and so may use a database that is read-only
        row = await database.fetchrow(database.sql(sql.KNOWN), self._tenant, number, self._kind, repeat=Repeat.READ)
        if row is None:
            row = await database.fetchrow(
                database.sql(sql.REGISTER),
                self._tenant,
                number,
                guard.name,
                dims,
                getattr(guard.embedder, "spec", None),
                self._kind,
                repeat=Repeat.IDEMPOTENT,
            )
        if row is not None and row["dims"] != dims:
            raise EmbeddingError(
                f"The embedder {guard.name!r} gives {dims} numbers, but its vectors in this store have "
                f"{row['dims']}: give the changed model another name, so that its vectors are kept apart."
            )
        return Space(number, dims, guard.name, is_ready=row is not None and row["ready_at"] is not None)

    async def _search_space(self) -> tuple[Space, Guard] | None:
        """The space that a search uses now: the own one once it is ready, else the one before it."""
        own = await self.own_space()
        if own is None:
            return None
        space, guard = own
        if time.monotonic() - self._looked_at > LOOK_AGAIN or not space.is_ready:
            await self._look(space)
            space = self._space or space
        if space.is_ready or self._before is None:
            return space, guard
        return self._before, self._guards[self._before.name]

    @property
    def at_once(self) -> bool:
        """Whether the embedder answers as quickly as it is asked, and costs nothing."""
        return self._own is not None and self._guard(self._own).at_once

    @property
    def searched(self) -> int | None:
        """The number of the space that a search uses now, as far as that is known without asking; else None."""
        space = self._space
        if space is None or not space.is_ready or time.monotonic() - self._looked_at > LOOK_AGAIN:
            return None
        return space.number

    async def _look(self, own: Space) -> None:
        """Read which spaces there are; while the own one is being built, find the one to search meanwhile."""
        rows = await self.rows()
        self._before = None
        for row in rows:
            if row["number"] == own.number:
                self._space = replace(own, is_ready=row["ready_at"] is not None, is_indexed=bool(row["indexed"]))
        if self._kind is None and self._space is not None and not self._space.is_ready:
            usable = (row for row in rows if _is_complete(row) and row["kind"] is None)
            self._before = next(filter(None, map(self._opened, usable)), None)
        self._looked_at = time.monotonic()

    async def is_complete(self) -> bool:
        """Whether the own space is there with all its vectors; asking for it makes nothing known to the tenant."""
        if self._own is None:
            return False
        if self._space is None or time.monotonic() - self._looked_at > LOOK_AGAIN:
            number = model_id(self._own.name)
            if not any(row["number"] == number and _is_complete(row) for row in await self.rows()):
                return False
        found = await self._search_space()
        return found is not None and found[0].is_ready

    async def rows(self) -> list[Record]:
        """The spaces of the tenant as they are stored; of the own one, whether it has an index that can be used."""
        own = self._space.number if self._space is not None else -1
        index = self._database.sql(f"{{s}}.{sql.index_name(self._tenant, own)}")
        return await self._database.fetch(
            self._database.sql(sql.SPACES), self._tenant, str(own), index, repeat=Repeat.READ
        )

    def _opened(self, row: Record) -> Space | None:
        """The space of a row, if its model can be opened here."""
        guard = self._guards.get(row["name"])
        if guard is None and row["spec"] is not None and row["name"] not in self._unsayable:
            from memory_plugin.embedding import resolve_embedder

            try:
                embedder = resolve_embedder(row["spec"])
            except MemoryPluginError:
                embedder = None
            if embedder is None or embedder.name != row["name"]:
                self._unsayable.add(row["name"])
                return None
            guard = self._guard(embedder)
        if guard is None:
            return None
        return Space(row["number"], row["dims"], row["name"], is_ready=True)

    # -- vectors of queries

    async def embed_query(self, query: str) -> QueryVector | None:
        """The query's vector; None without an embedder, or where the text has no known token.

        Raises:
            EmbeddingError: the embedder failed, or gave no answer in time.
        """
        if self._own is None or not query.strip():
            return None
        found = await self._search_space()
        if found is None:
            return None
        space, guard = found
        vector = await guard.query(query)
        return QueryVector(vector, space) if any(vector) else None

    # -- vectors of passages

    async def fill(self) -> int:
        """Give every passage that waits its vector; how many were done.

        A space that is new is made complete. No connection is held while the embedder works.

        Raises:
            EmbeddingError: the embedder failed; what was done before stays done.
        """
        total = 0
        while done := await self.fill_some():
            total += done
        return total

    async def fill_some(self, *, seconds: float | None = None) -> int:
        """One batch of what waits; 0 when nothing does, and then the space is ready.

        Args:
            seconds: how long the embedder may take, where a search waits for it.

        Raises:
            EmbeddingError: the embedder failed, or gave no answer in time.
        """
        own = await self.own_space()
        if own is None:
            return 0
        space, guard = own
        if space.is_ready:
            return await self._fill_batch(space, guard, scattered=not guard.at_once, seconds=seconds)
        await self._look(space)
        if self._before is not None and (
            done := await self._fill_batch(self._before, self._guards[self._before.name], seconds=seconds)
        ):
            return done
        if not self._seeded:
            self._seeded = not await self._seed(space, SEED_BATCH if seconds is None else FEW)
        done = await self._fill_batch(space, guard, scattered=True, seconds=seconds)
        return done or await self._switch(space)

    async def fill_at_once(self) -> int:
        """One batch of what waits, where the embedder is quick enough to do so during a search.

        What was just written is then found by meaning too, without waiting for the background.

        Raises:
            EmbeddingError: the embedder failed, or gave no answer in the time a search may wait.
        """
        found = await self._search_space()
        if found is None or not found[1].at_once:
            return 0
        return await self._fill_searched(*found, found[1].query_seconds)

    async def fill_within(self, seconds: float | None = None) -> bool:
        """Embed what waits in the space that is searched, as far as the time allows; whether nothing waits any more.

        Raises:
            EmbeddingError: the embedder failed.
        """
        found = await self._search_space()
        if found is None:
            return True
        space, guard = found
        until = time.monotonic() + (guard.query_seconds if seconds is None else seconds)
        while not guard.is_resting and (left := until - time.monotonic()) > 0:
            if not await self._fill_searched(space, guard, left):
                return True
        return False

    async def _fill_searched(self, space: Space, guard: Guard, seconds: float) -> int:
        """A batch of the space that a search is about to use."""
        if space.is_ready:
            return await self._fill_batch(space, guard, seconds=seconds)
        return await self.fill_some(seconds=seconds)

    async def _seed(self, space: Space, most: int = SEED_BATCH) -> int:
        """Queue what was there before the space was; how many passages that were."""
        return int(
            await self._database.fetchval(
                self._database.sql(sql.SEED), self._tenant, space.number, most, self._kind, repeat=Repeat.IDEMPOTENT
            )
        )

    async def _switch(self, space: Space) -> int:
        """Let searches use the space, unless passages came in that nobody queued; how many those were."""
        if missed := await self._seed(space):
            return missed
        switched = await self._database.fetchval(
            self._database.sql(sql.SWITCH), self._tenant, space.number, repeat=Repeat.IDEMPOTENT
        )
        if switched:
            logger.info("Searches by meaning use %s from now on.", space.name)
        await self._look(space)
        return 0

    async def _fill_batch(
        self, space: Space, guard: Guard, *, scattered: bool = False, seconds: float | None = None
    ) -> int:
        database, statement = self._database, self._database.sql(sql.WAITING)

        async def waiting(start: UUID) -> list[Record]:
            return await database.fetch(statement, self._tenant, space.number, FILL_BATCH, start, repeat=Repeat.READ)

        if (start := await self._somewhere(space) if scattered else _FIRST) is None:
            return 0
        if not (rows := await waiting(start) or (await waiting(_FIRST) if start != _FIRST else [])):
            return 0
        if not guard.at_once:
            ends = accumulate(len(row["text"]) for row in rows)
            rows = [row for row, end in zip(rows, ends, strict=True) if end <= FILL_CHARS] or rows[:1]
        try:
            await self._embed(space, guard, rows, seconds)
        except EmbeddingError:
            if seconds is not None or guard.is_resting:
                raise
            await self._embed_apart(space, guard, rows)
        return len(rows)

    async def _somewhere(self, space: Space) -> UUID | None:
        """A place in the queue, None if it is empty: processes that work it off together begin at different ones."""
        queue = self._database.sql(sql.ENDS)
        row = await self._database.fetchrow(queue, self._tenant, space.number, repeat=Repeat.READ)
        if row is None or row["first"] is None:
            return None
        # ids of what was written at one time lie close together, among all that there could be
        return UUID(int=row["first"].int + randrange(row["last"].int - row["first"].int + 1))  # noqa: S311 - no secret

    async def _embed(self, space: Space, guard: Guard, rows: Sequence[Record], seconds: float | None = None) -> None:
        parts = [
            (str(row["passage_id"]), str(part), text)
            for row in rows
            for part, text in enumerate(texts_of(row["text"], row["ends"]))
        ]
        vectors = await guard.documents([text for _, _, text in parts], seconds=seconds)
        await self._keep(space, [(passage, part) for passage, part, _ in parts], vectors)

    async def _embed_apart(self, space: Space, guard: Guard, rows: Sequence[Record]) -> None:
        """One by one what failed together, if the model works at all: one text must not hold up the others.

        Raises:
            EmbeddingError: the model fails on any text.
        """
        await guard.documents(["Is anybody there?"])
        for row in rows:
            try:
                await self._embed(space, guard, [row])
            except EmbeddingError as error:
                logger.warning("%s refused the text of passage %s: %s", space.name, row["passage_id"], error)
                await self._database.execute(
                    self._database.sql(sql.REFUSED),
                    self._tenant,
                    space.number,
                    row["passage_id"],
                    repeat=Repeat.IDEMPOTENT,
                )

    async def _keep(self, space: Space, places: Sequence[tuple[str, str]], vectors: Sequence[Sequence[float]]) -> None:
        from memory_plugin.embedding import vector_text

        await self._database.execute(
            self._database.sql(sql.STORE),
            self._tenant,
            space.number,
            [passage for passage, _ in places],
            [part for _, part in places],
            [vector_text(vector) for vector in vectors],
            repeat=Repeat.IDEMPOTENT,
        )

    async def refill(self, progress: Callable[[int], None] | None = None) -> int:
        """Embed whatever has no vector, also what nobody queued; how many passages.

        Args:
            progress: called after every batch with the number so far.

        Raises:
            EmbeddingError: the embedder failed; try again to go on.
        """
        own = await self.own_space()
        if own is None:
            return 0
        while await self._seed(own[0]):
            pass
        total = 0
        while done := await self.fill_some():
            total += done
            if progress is not None:
                progress(total)
        return total

    def beside(self, embedder: Embedder) -> Vectors:
        """The same for another model; searches use the spaces of this one until that model's is ready."""
        if self._own is not None:
            self._guard(self._own)
        return Vectors(
            self._database,
            tenant=self._tenant,
            embedder=embedder,
            query_seconds=self._query_seconds,
            guards=self._guards,
        )

    def use(self, embedder: Embedder) -> None:
        """From now on this is the model of the store."""
        if self._own is not None:
            self._guard(self._own)
        self._own, self._space, self._before, self._seeded = embedder, None, None, False

    def look_again(self) -> None:
        """Read with the next search which spaces there are, and whether they have an index."""
        self._looked_at = 0.0


def _is_complete(row: Record) -> bool:
    """Whether every passage that the space of a row is for has its vector, and new ones get theirs."""
    return row["ready_at"] is not None and row["retired_at"] is None
