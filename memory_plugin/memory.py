"""Memory: the store with its LangChain and LangGraph faces."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from memory_plugin.core import MemoryCore

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from memory_plugin.langchain.history import ConversationHistory
    from memory_plugin.langchain.retriever import ReferenceRetriever
    from memory_plugin.langgraph.checkpointer import ConversationSaver
    from memory_plugin.langgraph.store import MemoryStore


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

    def tools(self, *, user_id: str | None = None) -> list[BaseTool]:
        """LangChain tools: remember, recall, search_references, update_working_memory."""
        from memory_plugin.langchain.tools import make_tools

        return make_tools(self, self.bridge, user_id=user_id if user_id is not None else self.user_id)

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
