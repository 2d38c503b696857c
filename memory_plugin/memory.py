"""Memory: the store with its LangChain and LangGraph faces."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

from memory_plugin.core import MemoryCore
from memory_plugin.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.tools import BaseTool
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from memory_plugin.langchain.context import ContextOptions, MemoryContext, Propose
    from memory_plugin.langchain.history import ConversationHistory
    from memory_plugin.langchain.middleware import MemoryMiddleware
    from memory_plugin.langchain.retriever import ReferenceRetriever
    from memory_plugin.langgraph.checkpointer import ConversationSaver
    from memory_plugin.langgraph.store import MemoryStore
    from memory_plugin.types import SettingsScope, WorkingMemoryScope


class Memory(MemoryCore):
    """One store, every face.

        async with Memory.open() as memory:
            agent = create_agent(model, tools=memory.tools(), checkpointer=memory.checkpointer, store=memory.store)

    In a plain `with` the same methods are called without await; the checkpointer, the store, the
    history, the tools and the retriever have both faces anyway.
    """

    async def __aexit__(self, *exc_info: object) -> None:
        for face in ("checkpointer", "store"):
            self.__dict__.pop(face, None)
        await super().__aexit__(*exc_info)

    @cached_property
    def checkpointer(self) -> ConversationSaver:
        """The LangGraph checkpointer; its messages are what `history` shows and `recall` finds."""
        return self.make_checkpointer()

    def make_checkpointer(self, *, serde: SerializerProtocol | None = None, **options: Any) -> ConversationSaver:
        """A checkpointer with a serializer or options of its own (see `ConversationSaver`)."""
        from memory_plugin.langgraph.checkpointer import ConversationSaver

        return ConversationSaver(self, self.bridge, serde=serde, **options)

    @cached_property
    def store(self) -> MemoryStore:
        """The LangGraph store; its items are memories, found by `recall` too."""
        from memory_plugin.langgraph.store import MemoryStore

        return MemoryStore(self, self.bridge)

    def history(
        self, thread_id: object, *, limit: int | None = None, user_id: str | None = None
    ) -> ConversationHistory:
        """The LangChain chat history of a thread.

        Args:
            limit: show only the newest so many messages.
        """
        from memory_plugin.langchain.history import ConversationHistory

        return ConversationHistory(self, self.bridge, thread_id, limit=limit, user_id=user_id)

    def tools(self, *, user_id: str | None = None, working_memory: WorkingMemoryScope = "chat") -> list[BaseTool]:
        """LangChain tools: remember, recall, search_references, update_working_memory.

        Args:
            working_memory: which one the agent keeps: that of the chat, or that of the user.
        """
        from memory_plugin.langchain.tools import make_tools

        user = user_id if user_id is not None else self.user_id
        return make_tools(self, self.bridge, user_id=user, working_memory=working_memory)

    def settings_tools(
        self,
        *,
        read: Sequence[str] = (),
        change: Sequence[str] | Mapping[str, Mapping[str, Any] | None] = (),
        scope: SettingsScope = "user",
        agent_id: str | None = None,
        user_id: str | None = None,
    ) -> list[BaseTool]:
        """LangChain tools by which an agent reads settings and changes those it may.

        Args:
            read: names of settings it may read; what it may change it may read too.
            change: names of settings it may change, or a mapping from names to the JSON Schema
                that a new value must fit (None for any value).
            scope: what it changes them for: this "user", this "thread", the "agent" itself or the "tenant".
            agent_id: whose settings count; needed where `scope` is "agent".
            user_id: who the user is where the run's config names nobody.
        """
        from memory_plugin.langchain.settings_tools import make_settings_tools

        user = user_id if user_id is not None else self.user_id
        return make_settings_tools(
            self, self.bridge, read=read, change=change, scope=scope, agent_id=agent_id, user_id=user
        )

    def context(self, **options: Unpack[ContextOptions]) -> MemoryContext:
        """What a graph without `create_agent` puts before its model; the options are those of `MemoryContext`."""
        from memory_plugin.langchain.context import MemoryContext

        return MemoryContext(self, self.bridge, **options)

    def middleware(
        self,
        *,
        tools: bool | Sequence[str] = True,
        propose: Propose | BaseChatModel | None = None,
        **options: Unpack[ContextOptions],
    ) -> MemoryMiddleware:
        """Middleware for LangChain's `create_agent`: memory before the model, tools, proposals after the agent.

        Args:
            tools: which of `Memory.tools` the agent gets: all, none, or those named.
            propose: a chat model that reads each finished turn, for `memory.extraction`; or a function or
                coroutine function that gets the turn as a `Said`. What fails there is reported and stops nothing.
            options: those of `MemoryContext`.

        Raises:
            UnsupportedError: `langchain` is not installed.
        """
        try:
            from memory_plugin.langchain.middleware import extracting, make_middleware
        except ImportError as error:
            raise UnsupportedError(
                "The middleware needs the package langchain: pip install 'memory-plugin[langchain]'."
            ) from error
        offered = self.tools(
            user_id=options.get("user_id"), working_memory=options.get("working_memory", "chat") or "chat"
        )
        if propose is not None and hasattr(propose, "ainvoke"):
            propose = extracting(self, self.bridge, propose)
        return make_middleware(self.context(**options), offered, wanted=tools, propose=propose)

    def retriever(
        self,
        *,
        collection: str | None = None,
        user_id: str | None = None,
        limit: int = 8,
        filter: dict[str, Any] | None = None,
        neighbours: int = 0,
    ) -> ReferenceRetriever:
        """A LangChain retriever over the reference documents.

        Args:
            neighbours: each text goes on with so many passages before and after the one found.
        """
        from memory_plugin.langchain.retriever import ReferenceRetriever

        return ReferenceRetriever(
            core=self,
            bridge=self.bridge,
            collection=collection,
            user_id=user_id,
            limit=limit,
            filter=filter,
            neighbours=neighbours,
        )
