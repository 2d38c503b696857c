"""MemoryCore: opens the database and holds the capabilities. No framework below this line.

    async with MemoryCore.open() as core:
        await core.remember("Alice prefers tea", user_id="alice")
        hits = await core.recall("what does Alice drink?", user_id="alice")

A plain `with` gives the same object with its methods called without await.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from memory_plugin.bridge import Bridge
from memory_plugin.carrying import Carried
from memory_plugin.conversing import Conversing
from memory_plugin.errors import ConfigurationError
from memory_plugin.indexing import Indexes
from memory_plugin.remembering import Remembers
from memory_plugin.settings import Settings, get_settings
from memory_plugin.sync import SyncProxy
from memory_plugin.tenants import ManyTenants, Views
from memory_plugin.transactions import Transacts
from memory_plugin.types import HIT_KINDS, HitKind, Hits
from memory_plugin.validation import identifier, one_of

if TYPE_CHECKING:
    from memory_plugin.capabilities.agent_settings import AgentSettingsStore
    from memory_plugin.capabilities.checkpoints import Checkpoints
    from memory_plugin.capabilities.conversations import Conversations
    from memory_plugin.capabilities.erasure import Erasure
    from memory_plugin.capabilities.extraction import Extraction
    from memory_plugin.capabilities.languages import Languages
    from memory_plugin.capabilities.memories import Memories
    from memory_plugin.capabilities.passages import Passages
    from memory_plugin.capabilities.references import References
    from memory_plugin.capabilities.retention import Retentions
    from memory_plugin.capabilities.tokens import Tokens
    from memory_plugin.capabilities.user_memory import UserMemories
    from memory_plugin.capabilities.vector_spaces import VectorSpaces
    from memory_plugin.capabilities.working_memory import WorkingMemories
    from memory_plugin.embedding import Embedder, Embedders
    from memory_plugin.errors import EmbeddingError, MemoryPluginError
    from memory_plugin.indexer import Indexer
    from memory_plugin.observer import Observer
    from memory_plugin.ranking import Reranker, Weights
    from memory_plugin.recall import Recall
    from memory_plugin.telemetry import Telemetry
    from memory_plugin.upkeep import Upkeep


class MemoryCore(Carried, Conversing, Remembers, Indexes, ManyTenants, Transacts):
    """The store of one tenant: made by `open`, used in `async with` or `with`."""

    embedder: Embedder | None
    passages: Passages
    spaces: VectorSpaces
    languages: Languages
    conversations: Conversations
    checkpoints: Checkpoints
    memories: Memories
    references: References
    working_memory: WorkingMemories
    user_memory: UserMemories
    agent_settings: AgentSettingsStore
    retention: Retentions
    erasure: Erasure
    extraction: Extraction
    tokens: Tokens

    def __init__(
        self,
        url: str | None,
        *,
        settings: Settings,
        embeddings: object,
        document_embeddings: object = None,
        weights: Weights | None = None,
    ) -> None:
        self._url = url
        self._weights = weights
        self._embeddings = settings.embeddings if embeddings is None else embeddings
        self._document_embeddings = settings.document_embeddings if document_embeddings is None else document_embeddings
        self.settings = settings
        self.tenant = settings.tenant
        self.user_id = settings.user_id
        self._closing: AsyncExitStack | None = None
        self._bridge: Bridge | None = None
        self._recall: Recall
        self._indexer: Indexer
        self._upkeep: Upkeep | None = None
        self.observer: Observer | None = None
        self._shared = Views()

    @classmethod
    def open(
        cls,
        url: str | None = None,
        *,
        tenant: str | None = None,
        user_id: str | None = None,
        embeddings: object = None,
        document_embeddings: object = None,
        schema: str | None = None,
        settings: Settings | None = None,
        weights: Weights | None = None,
        telemetry: bool | Telemetry | None = None,
    ) -> Self:
        """The store, not yet connected: enter it with `async with` or `with`.

        Entering makes the schema in an empty database.

        Args:
            url: `postgresql://` URL; None takes MEMORY_DATABASE_URL, and without that the
                embedded PostgreSQL in MEMORY_DATA_DIR or the user's data directory.
            tenant: whose rows are seen; "default" where nothing says otherwise.
            user_id: the user that facts belong to when a call names none.
            embeddings: any LangChain Embeddings, "provider:model", False for words alone; None
                takes MEMORY_EMBEDDINGS, and without that the offline default.
            document_embeddings: as `embeddings`, for a second vector that passages of documents get, see
                docs/how-to/references.md; False for none, None takes MEMORY_DOCUMENT_EMBEDDINGS, and without
                that `onnx` beside the offline default.
            schema: PostgreSQL schema of the tables, "memory" by default.
            settings: instead of those of the environment.
            weights: how much each signal counts in recall; None takes those that ship for the embedder.
            telemetry: whether to measure, or where to; None takes MEMORY_TELEMETRY.

        Raises (on entering):
            DatabaseUnavailableError, ExtensionMissingError, SchemaVersionError,
            EmbeddedDatabaseError: each message says what to do.
        """
        base = settings or get_settings()
        given = {"tenant": tenant, "user_id": user_id, "db_schema": schema, "telemetry": telemetry}
        changes = {name: value for name, value in given.items() if value is not None}
        if not changes.get("tenant", base.tenant):
            raise ConfigurationError("The tenant is empty: name one, or leave it out for 'default'.")
        return cls(
            url,
            settings=base.model_copy(update=changes),
            embeddings=embeddings,
            document_embeddings=document_embeddings,
            weights=weights,
        )

    # -- opening and closing

    async def __aenter__(self) -> Self:
        if self._closing is not None:
            raise ConfigurationError("This store is open already: open another one, or share this one.")
        if self._bridge is None:
            self._bridge = Bridge.attach()
        async with AsyncExitStack() as stack:
            await self._connect(stack)
            self._closing = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._closing is not None:
            closing, self._closing, self._bridge = self._closing, None, None
            await closing.aclose()

    def __enter__(self) -> Any:
        bridge = Bridge.start()
        self._bridge = bridge
        try:
            bridge.run(self.__aenter__())
        except BaseException:
            self._bridge = None
            bridge.stop()
            raise
        return SyncProxy(self, bridge)

    def __exit__(self, *exc_info: object) -> None:
        bridge = self.bridge
        try:
            bridge.run(self.__aexit__())
        finally:
            bridge.stop()

    async def _connect(self, stack: AsyncExitStack) -> None:
        from memory_plugin.db.connect import open_database
        from memory_plugin.db.migrate import ensure_schema

        self.database = await stack.enter_async_context(
            open_database(self._url, settings=self.settings, tenant=self.tenant)
        )
        if self.settings.telemetry:
            from memory_plugin.observer import Observer

            self.observer = Observer(self.settings, self.database)
            stack.callback(self.observer.close)
        await ensure_schema(self.database, required=self.settings.row_security == "required")
        self._embedders = self._resolve_embedders()
        self.embedder = self._embedders.everything
        self._build()
        stack.push_async_callback(self._indexer.stop)
        stack.push_async_callback(self.extraction.stop)
        stack.push_async_callback(self._shared.stop)
        if self.settings.retention_every is not None:
            from memory_plugin.upkeep import Upkeep

            self._upkeep = Upkeep(self.retention, every=self.settings.retention_every)
            stack.push_async_callback(self._upkeep.stop)
            self._upkeep.start()

    def _resolve_embedders(self) -> Embedders:
        from memory_plugin.embedding import resolve_embedders

        found = resolve_embedders(self._embeddings, self._document_embeddings)
        return found if self.observer is None else found.each(self.observer.embedder)

    def _build(self) -> None:
        from memory_plugin.capabilities.agent_settings import AgentSettingsStore
        from memory_plugin.capabilities.checkpoints import Checkpoints
        from memory_plugin.capabilities.conversations import Conversations
        from memory_plugin.capabilities.erasure import Erasure
        from memory_plugin.capabilities.extraction import Extraction
        from memory_plugin.capabilities.forgetting import Forgetting
        from memory_plugin.capabilities.memories import Memories
        from memory_plugin.capabilities.references import Fetcher, References
        from memory_plugin.capabilities.retention import Retentions
        from memory_plugin.capabilities.tokens import Tokens
        from memory_plugin.capabilities.user_memory import UserMemories
        from memory_plugin.capabilities.vector_spaces import VectorSpaces
        from memory_plugin.capabilities.working_memory import WorkingMemories
        from memory_plugin.indexer import Indexer
        from memory_plugin.recall import Recall
        from memory_plugin.similar import SimilarFacts

        database, tenant = self.database, self.tenant
        self.passages = self._make_passages()
        self.spaces = VectorSpaces(
            database, tenant=tenant, passages=self.passages, index_from=self.settings.vector_index_from
        )
        self.languages = self.passages.languages
        self._indexer = Indexer(self.passages, self.spaces)
        self.conversations = Conversations(
            database,
            tenant=tenant,
            user_id=self.user_id,
            changed=self.kick,
            language=self.passages.languages.setting[0],
            catch_up=self.passages.catch_up,
        )
        self.checkpoints = Checkpoints(database, tenant=tenant)
        self.memories = Memories(
            database,
            tenant=tenant,
            user_id=self.user_id,
            secrets=self.settings.secrets,
            near=SimilarFacts(database, self.passages, tenant=tenant),
        )
        self.references = References(
            database,
            tenant=tenant,
            user_id=self.user_id,
            changed=self.kick,
            search=self.search_references,
            fetcher=Fetcher.of(self.settings),
        )
        self.working_memory = WorkingMemories(database, tenant=tenant)
        self.user_memory = UserMemories(database, tenant=tenant)
        self.agent_settings = AgentSettingsStore(database, tenant=tenant)
        self.retention = Retentions(database, tenant=tenant, default=self.settings.retention(), user_id=self.user_id)
        self._forgetting = Forgetting(database, tenant=tenant)
        self.erasure = Erasure(database, tenant=tenant)
        self.extraction = Extraction(
            database, tenant=tenant, memories=self.memories, secrets=self.settings.secrets, changed=self.kick
        )
        self.tokens = Tokens(database, tenant=tenant)
        self._recall = Recall(self.passages, self.memories, self.conversations, self.references, weights=self._weights)
        if self.observer is not None:
            self.observer.watch(self)

    def _make_passages(self) -> Passages:
        from memory_plugin.capabilities.document_vectors import document_vectors
        from memory_plugin.capabilities.passages import Passages

        seconds, guards = self.settings.embedding_timeout, self._shared.guards
        return Passages(
            self.database,
            tenant=self.tenant,
            language=self.settings.language,
            embedder=self.embedder,
            documents=document_vectors(
                self.database,
                self._embedders,
                tenant=self.tenant,
                query_seconds=seconds,
                guards=guards,
                turn=self._shared.reading,
            ),
            query_seconds=seconds,
            guards=guards,
        )

    @property
    def bridge(self) -> Bridge:
        """The way for sync code to this store.

        Raises:
            ConfigurationError: the store is not open.
        """
        if self._bridge is None:
            raise ConfigurationError("The store is not open: use it inside `async with` or `with`.")
        return self._bridge

    @property
    def embedding_error(self) -> EmbeddingError | None:
        """Why the last query was answered by words alone although there is an embedder; None when it was not."""
        return self._recall.embedding_error

    @property
    def retention_error(self) -> MemoryPluginError | None:
        """Why retention in the background failed the last time; None when it did not, or is off."""
        return None if self._upkeep is None else self._upkeep.last_error

    def kick(self) -> None:
        """Tell the background indexer that something was written."""
        self._indexer.kick()

    def _hurry(self) -> None:
        self._indexer.hurry()

    # -- the three verbs

    async def recall(
        self,
        query: str,
        *,
        user_id: str | None = None,
        thread_id: str | None = None,
        namespace: Sequence[str] | None = None,
        kinds: Sequence[HitKind] = HIT_KINDS,
        limit: int = 8,
        as_of: datetime | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        filter: Mapping[str, Any] | None = None,
        collection: str | None = None,
        weights: Weights | None = None,
        rerank: Reranker | None = None,
        explain: bool = False,
    ) -> Hits:
        """Facts, messages and passages that answer the query, the best first.

        The answer is a list; its `words_only` says why meaning had no part in it, where it had none.
        An empty query, or one of stop words alone without an embedder, finds nothing.

        Args:
            user_id: only what belongs to this user (and what belongs to nobody in particular,
                conversations aside); the store's own user by default, None for everyone.
            thread_id: only what was said in, or remembered from, this thread.
            namespace: only memories under this namespace; leaves messages and references out.
            kinds: which of "memory", "message", "reference".
            as_of: what was known and current at that time.
            since, until: said or recorded in this half-open period.
            filter: conditions on the metadata, such as {"topic": "pricing", "step": {"$gte": 2}}.
            collection: only references of this collection.
            weights: how much each signal counts, instead of the store's.
            rerank: gets the query and at least the 50 best hits, and gives a score for each; a plain
                function (it runs in a worker thread) or a coroutine function.
            explain: leave the signals that had nothing to say in `Hit.parts` too.

        Raises:
            InvalidInputError: an unknown kind, a filter that makes no sense, or a reranker that does
                not give one number for each hit.
        """
        hits = await self._recall.search(
            query,
            user_id=user_id if user_id is not None else self.user_id,
            thread_id=thread_id,
            namespace=namespace,
            kinds=kinds,
            limit=limit,
            as_of=as_of,
            since=since,
            until=until,
            filter=filter,
            collection=collection,
            weights=weights,
            rerank=rerank,
            explain=explain,
        )
        self.kick()
        return hits

    async def search_references(
        self,
        query: str,
        *,
        collection: str | None = None,
        user_id: str | None = None,
        limit: int = 8,
        filter: Mapping[str, Any] | None = None,
    ) -> Hits:
        """Passages of the reference documents, the best first, each with its citation."""
        return await self.recall(
            query, user_id=user_id, kinds=("reference",), limit=limit, filter=filter, collection=collection
        )

    async def forget(
        self,
        *,
        item_id: UUID | str | None = None,
        thread_id: str | None = None,
        user_id: str | None = None,
        hard: bool = False,
    ) -> dict[str, int]:
        """Forget one item, one thread or one user; rows touched, by table.

        Softly, unless `hard` is set: every row is kept, nothing is found or listed any more, and
        `unforget` brings it back. An agent that goes on with a thread brings that back too. Of a
        user the facts, conversations and documents are forgotten so; texts, summary and settings
        stay until they are erased.

        Args:
            hard: erase it, for a user from every table; the answer comes when nothing is left.

        Raises:
            InvalidInputError: not exactly one of the three was named.
            NotFoundError: there is no such item.
            ConflictError: others kept writing for the user who is to be erased.
        """
        one_of(item_id, thread_id, user_id, what="forget")
        if item_id is not None:
            return await self.memories.forget(item_id, hard=hard)
        if thread_id is not None:
            if hard:
                return await self.checkpoints.delete_threads([identifier(thread_id, "thread_id")])
            return await self._forgetting.hide_thread(thread_id)
        if hard:
            return dict((await self.erasure.erase_user(str(user_id))).counts)
        await self.passages.catch_up()  # what waits for the index could not be hidden in it
        return await self._forgetting.hide_user(str(user_id))

    async def unforget(
        self, *, item_id: UUID | str | None = None, thread_id: str | None = None, user_id: str | None = None
    ) -> dict[str, int]:
        """Undo soft forgetting; rows brought back, by table, all 0 where nothing was forgotten.

        Everything comes back as it was, under its old ids and times. A key that another fact has by
        now keeps that one. Of a user comes back what went with the user, not what was forgotten by itself.

        Raises:
            InvalidInputError: not exactly one of the three was named.
            NotFoundError: there is no such item or thread: what was erased is gone.
            ConflictError: another memory has the key of the item by now.
        """
        one_of(item_id, thread_id, user_id, what="bring back")
        await self.passages.catch_up()  # what is being indexed as hidden must be so before it is shown
        if item_id is not None:
            return await self._forgetting.show_item(item_id)
        if thread_id is not None:
            return await self._forgetting.show_thread(thread_id)
        return await self._forgetting.show_user(str(user_id))
