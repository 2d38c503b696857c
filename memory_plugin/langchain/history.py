"""ConversationHistory: LangChain's chat message history over the store's conversations.

langchain-core deprecates chat histories in favour of checkpointers and will drop them in 2.0;
everything that depends on them is in this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage

from memory_plugin.langchain.messages import message_from_body
from memory_plugin.validation import identifier

if TYPE_CHECKING:
    from memory_plugin.bridge import Bridge


class _Conversations(Protocol):
    async def messages(self, thread_id: str, *, limit: int | None = None) -> Sequence[Any]: ...

    async def append(self, thread_id: str, messages: Sequence[Any], *, user_id: str | None = None) -> Any: ...

    async def clear(self, thread_id: str) -> int: ...


class Store(Protocol):
    """What a history is over: an open store, or a provider over an application's own tables."""

    @property
    def conversations(self) -> _Conversations:
        """Its messages."""


class ConversationHistory(BaseChatMessageHistory):
    """The messages of one thread, whichever face wrote them; made by `Memory.history`.

    Args:
        core: the open store, or a `TableMemoryProvider`.
        bridge: the way of sync calls to it.
        thread_id: any session id; numbers and UUIDs are taken as they print.
        limit: show only the newest so many messages, oldest first; None shows all.
        user_id: whose conversation it becomes if it is new.
    """

    def __init__(
        self,
        core: Store,
        bridge: Bridge,
        thread_id: object,
        *,
        limit: int | None = None,
        user_id: str | None = None,
    ) -> None:
        self._core = core
        self._bridge = bridge
        self._limit = limit
        self._user_id = user_id
        self.thread_id = identifier(thread_id, "thread_id")

    async def aget_messages(self) -> list[BaseMessage]:
        """The messages, oldest first."""
        stored = await self._core.conversations.messages(self.thread_id, limit=self._limit)
        return [message_from_body(message.body) for message in stored]

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages at the end, all of them in one statement or none."""
        await self._core.conversations.append(self.thread_id, list(messages), user_id=self._user_id)

    async def aclear(self) -> None:
        """Erase all that was said in the thread; its title and user stay."""
        await self._core.conversations.clear(self.thread_id)

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # the base declares an attribute
        """The messages, oldest first; from a thread without the store's loop."""
        return self._bridge.run(self.aget_messages())

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """`aadd_messages` from a thread without the store's loop."""
        self._bridge.run(self.aadd_messages(messages))

    def clear(self) -> None:
        """`aclear` from a thread without the store's loop."""
        self._bridge.run(self.aclear())
