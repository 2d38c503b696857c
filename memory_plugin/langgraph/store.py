"""MemoryStore: LangGraph's long-term store over the store's own memories.

    async with Memory.open() as memory:
        graph = builder.compile(store=memory.store)
        await memory.store.aput(("memories", "alice"), "drink", {"content": "Alice prefers tea"})
        hits = await memory.recall("what does Alice drink?", user_id="alice")

An item *is* a memory: what one writes the other finds, and every value an item ever had is in its
history. A deleted item is found nowhere, and `memories.undo` brings it back.

Searching with a `query` ranks by meaning where there is an embedder: the score is the cosine
similarity, and items without searchable text are left out. Without an embedder the items that
share words with the query come first (the score is BM25's), then all others, without a score.
Both without loss from page to page.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from langgraph.store.base import BaseStore, IndexConfig, Item, Op, Result, SearchItem, TTLConfig

from memory_plugin.capabilities.memory_filters import live_items
from memory_plugin.capabilities.memory_items import ItemQuery, StoredItem
from memory_plugin.capabilities.passages import MEMORY, Candidate
from memory_plugin.capabilities.vectors import QueryVector
from memory_plugin.errors import ConfigurationError, EmbeddingError, MemoryPluginError, WrongLoopError
from memory_plugin.langgraph.opening import Done, Opening
from memory_plugin.langgraph.store_ops import NO_LIMIT, Batch, OpReader
from memory_plugin.validation import MAX_QUERY, clean_text

if TYPE_CHECKING:
    from memory_plugin.bridge import Bridge
    from memory_plugin.core import MemoryCore

logger = logging.getLogger("memory_plugin")

T = TypeVar("T")

SWEEP_MINUTES = 5.0

PAGED = 1_000
"""Items that the pages of a search by meaning are cut from where the vectors have an index; further pages do
without it, and compare every item."""


class MemoryStore(BaseStore):
    """A LangGraph store; made by `Memory.store` or `from_conn_string`.

    Every method of the interface works on the event loop that opened the store; the async ones
    also on any other loop, the sync ones from any other thread. Expired items are found nowhere,
    whether they were swept or not.

    Args:
        core: the open store.
        bridge: the way of calls from elsewhere to it.
        index: `fields` are searched unless a put names others, every text of the value by default.
            The embedder is the core's; `dims` must be its width where both are known.
        ttl: default lifetime, whether reads refresh it, and the pause of the sweeper.
        user_label: the position of the namespace label that is the user (negative from the end);
            by default ("memories", X, ...) belongs to X. Other items belong to the core's user.

    Raises:
        ConfigurationError: `dims` is not the width of the core's embedder.
    """

    supports_ttl = True

    def __init__(
        self,
        core: MemoryCore,
        bridge: Bridge,
        *,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        user_label: int | None = None,
    ) -> None:
        self._core = core
        self._bridge = bridge
        self.index_config = index
        self.ttl_config = ttl
        self._reader = OpReader(
            (index or {}).get("fields"), user_label, core.user_id, redacts=core.settings.secrets != "allow"
        )
        self._sweeper: asyncio.Task[None] | None = None
        if core.observer is not None:
            core.observer.measure(self, "_execute", "store.batch", core.tenant)
        dims = (index or {}).get("dims")
        width = core.embedder.dims if core.embedder is not None else None
        if dims and width and dims != width:
            raise ConfigurationError(
                f"index says {dims} dims, and the embedder of this store has {width}: leave dims out, or "
                "open the store with the embedder that the index was meant for."
            )

    @classmethod
    def from_conn_string(
        cls,
        conn_string: str | None = None,
        *,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        tenant: str | None = None,
        schema: str | None = None,
        **options: Any,
    ) -> Opening[MemoryStore]:
        """A MemoryStore over a database of its own, for `async with` or `with`.

        Args:
            conn_string: `postgresql://` URL; None takes MEMORY_DATABASE_URL or the embedded database.
            index: its `embed` is the embedder: LangChain Embeddings, a function from texts to
                vectors, or "provider:model". Without it, what the settings say.
            options: as for the class.
        """
        return _StoreOpening(
            conn_string,
            lambda core, bridge: cls(core, bridge, index=index, ttl=ttl, **options),
            tenant=tenant,
            schema=schema,
            embeddings=_embedder(index or {}),
        )

    def setup(self) -> Done:
        """Nothing is left to do: opening the store made its schema. May be awaited or just called."""
        return Done()

    # -- the two methods all others are made of

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """As `abatch`, for sync code.

        Raises:
            WrongLoopError: called on the event loop that owns the store.
        """
        return self._bridge.run(self._execute(self._reader.read(ops)))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations: one statement for each kind of them, reads before writes.

        Everything is checked before anything is sent, and the puts are written all or none.

        Raises:
            InvalidNamespaceError: a namespace that LangGraph does not allow.
            InvalidInputError: a value, filter, limit or key that the store cannot work with.
        """
        return await self._await(self._execute(self._reader.read(ops)))

    async def _execute(self, batch: Batch) -> list[Result]:
        items = self._core.memories.items
        results: list[Result] = [None] * batch.size
        if batch.gets:
            for place, item in zip(batch.gets, await items.get(list(batch.gets.values())), strict=True):
                results[place] = None if item is None else _item(item)
        if batch.searches:
            for place, found in zip(batch.searches, await items.search(list(batch.searches.values())), strict=True):
                results[place] = [_search_item(each, None) for each in found]
        for place, (text, query) in batch.ranked.items():
            results[place] = await self._rank(text, query)
        if batch.listings:
            listings = await items.list_namespaces(list(batch.listings.values()))
            for place, namespaces in zip(batch.listings, listings, strict=True):
                results[place] = namespaces
        if batch.puts:
            await items.put(batch.puts)
            self._core.kick()
        return results

    # -- searching with a query

    async def _rank(self, text: str, query: ItemQuery) -> list[SearchItem]:
        """One page of the items that match, the best first; equal ones in the order of their ids."""
        if query.limit == 0:
            return []
        wanted = query.offset + query.limit
        words = clean_text(text, "query", limit=NO_LIMIT)[:MAX_QUERY]
        await self._core.passages.refresh()
        vector, is_complete = await self._embed(words)
        found = await self._core.passages.search(
            words=None if is_complete else words,
            vector=vector,
            kinds=[MEMORY],
            conditions={MEMORY: live_items(query.prefix, query.filter)},
            limit=wanted,
            # pages are cut from one list: the same one while it is long enough, beyond that the exact one
            depth=PAGED if wanted <= PAGED else 0,
        )
        ranked = sorted(found, key=_rank)
        page = ranked[query.offset : wanted]
        rows = await self._core.memories.items.rows([each.id for each in page], refresh=query.refresh)
        results = [_search_item(rows[each.id], _score(each, vector)) for each in page if each.id in rows]
        if vector is None and len(ranked) < wanted:
            results += await self._unranked(query, [each.id for each in ranked], len(page))
        return results

    async def _embed(self, words: str) -> tuple[QueryVector | None, bool]:
        """The vector of a query, None where words must do; and whether all items have vectors to compare it with."""
        passages = self._core.passages
        try:
            vector = await passages.embed_query(words)
            return vector, vector is not None and await passages.fill_within()
        except EmbeddingError as error:
            logger.warning("A search of the store went by words alone: %s", error)
            return None, False

    async def _unranked(self, query: ItemQuery, ranked: Sequence[UUID], taken: int) -> list[SearchItem]:
        """What follows behind all ranked items: the others, the last changed first."""
        rest = ItemQuery(
            query.prefix,
            query.filter,
            limit=query.limit - taken,
            offset=max(0, query.offset - len(ranked)),
            refresh=query.refresh,
            without=ranked,
        )
        (others,) = await self._core.memories.items.search([rest])
        return [_search_item(item, None) for item in others]

    # -- lifetimes

    def sweep_ttl(self) -> Any:
        """Erase the items whose lifetime is over; how many there were.

        In sync code the number, on an event loop an awaitable of it.
        """
        return self._serve(self._core.memories.sweep_expired())

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Any:
        """Sweep again and again until `stop_ttl_sweeper`; without a `ttl` configuration do nothing.

        In sync code the task, or None; on an event loop an awaitable of it.

        Args:
            sweep_interval_minutes: the pause; that of the configuration by default, else 5 minutes.
        """
        return self._serve(self._start_sweeper(sweep_interval_minutes))

    def stop_ttl_sweeper(self, timeout: float | None = None) -> Any:
        """End the sweeper; whether it ended within `timeout` seconds.

        In sync code a bool, on an event loop an awaitable of it.
        """
        return self._serve(self._stop_sweeper(timeout))

    async def _start_sweeper(self, minutes: float | None) -> asyncio.Task[None] | None:
        if self.ttl_config is None:
            return None
        if self._sweeper is None or self._sweeper.done():
            pause = minutes or self.ttl_config.get("sweep_interval_minutes") or SWEEP_MINUTES
            self._sweeper = asyncio.create_task(self._sweep(pause * 60), name="memory-plugin ttl sweeper")
        return self._sweeper

    async def _sweep(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self._core.memories.sweep_expired()
            except MemoryPluginError as error:
                # expired items are not found anyway: they wait for the next round
                logger.warning("Sweeping expired items failed, will try again: %s", error)

    async def _stop_sweeper(self, seconds: float | None = None) -> bool:
        if self._sweeper is None:
            return True
        self._sweeper.cancel()
        done, _ = await asyncio.wait([self._sweeper], timeout=seconds)
        return bool(done)

    async def aclose(self) -> None:
        """End what runs in the background; the store itself stays open."""
        await self._stop_sweeper()

    # -- crossing between loops

    def _serve(self, coroutine: Coroutine[Any, Any, T]) -> Any:
        """The result for sync code, an awaitable for code on an event loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._bridge.run(coroutine)
        return self._await(coroutine)

    async def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that must run on the loop of the store."""
        owner = self._bridge.loop
        if asyncio.get_running_loop() is owner:
            return await coroutine
        if not owner.is_running():
            coroutine.close()
            raise WrongLoopError("The event loop that opened the store has ended: open the store again in this one.")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, owner))


class _StoreOpening(Opening[MemoryStore]):
    """Ends the sweeper before the store is closed under it."""

    _store: MemoryStore | None = None

    async def __aenter__(self) -> MemoryStore:
        self._store = await super().__aenter__()
        return self._store

    async def __aexit__(self, *exc_info: object) -> None:
        if self._store is not None:
            await self._store.aclose()
        await super().__aexit__(*exc_info)

    def __enter__(self) -> MemoryStore:
        self._store = super().__enter__()
        return self._store

    def __exit__(self, *exc_info: object) -> None:
        if self._store is not None and self._core is not None:
            self._core.bridge.run(self._store.aclose())
        super().__exit__(*exc_info)


def _embedder(index: IndexConfig) -> object:
    """What `embeddings` of an open call should be for an index configuration."""
    embed = index.get("embed")
    dims = index.get("dims")
    if embed is None or isinstance(embed, str) or not dims:
        return embed
    from memory_plugin.embedding import LangChainEmbedder

    return LangChainEmbedder(embed, dims=dims)


def _score(candidate: Candidate, vector: QueryVector | None) -> float | None:
    return candidate.words if vector is None else candidate.meaning


def _rank(candidate: Candidate) -> tuple[bool, float, float, UUID]:
    """The nearest first, then what has no vector yet by its words; equal ones by id."""
    meaning = candidate.meaning
    return meaning is None, -(meaning or 0.0), -candidate.words, candidate.id


def _item(item: StoredItem) -> Item:
    return Item(
        value=item.value,
        key=item.key,
        namespace=item.namespace,
        created_at=item.created_at,
        updated_at=item.updated_at,
    )


def _search_item(item: StoredItem, score: float | None) -> SearchItem:
    return SearchItem(
        namespace=item.namespace,
        key=item.key,
        value=item.value,
        created_at=item.created_at,
        updated_at=item.updated_at,
        score=score,
    )
