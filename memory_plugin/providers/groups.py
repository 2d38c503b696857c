"""The provider under the names of the store, so that what is made for the store works over it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from memory_plugin.providers.message_rows import StoredMessage
from memory_plugin.types import WorkingMemory

if TYPE_CHECKING:
    from memory_plugin.providers.provider import TableMemoryProvider


class TableConversations:
    """What a chat history needs of `Memory.conversations`."""

    def __init__(self, provider: TableMemoryProvider) -> None:
        self._provider = provider

    async def messages(self, thread_id: str, *, limit: int | None = None) -> list[StoredMessage]:
        """The messages of a chat, oldest first."""
        return await self._provider.get_messages(thread_id, limit=limit)

    async def append(
        self, thread_id: str, messages: Sequence[Any], *, at: datetime | None = None, user_id: str | None = None
    ) -> list[StoredMessage]:
        """Add messages at the end of a chat, all of them or none."""
        return await self._provider.save_messages(thread_id, messages, at=at, user_id=user_id)

    async def clear(self, thread_id: str) -> int:
        """Remove all messages of a chat; how many there were."""
        return await self._provider.clear_messages(thread_id)


class TableWorkingMemories:
    """What tools and middleware need of `Memory.working_memory`."""

    def __init__(self, provider: TableMemoryProvider) -> None:
        self._provider = provider

    async def get(self, *, thread_id: str | None = None, user_id: str | None = None) -> WorkingMemory | None:
        """The current text, None while nothing was written."""
        return await self._provider.get_working_memory(thread_id=thread_id, user_id=user_id)

    async def update(
        self,
        content: str,
        *,
        thread_id: str | None = None,
        user_id: str | None = None,
        expected_version: int | None = None,
    ) -> WorkingMemory:
        """Replace the text; the same text again makes no version."""
        return await self._provider.update_working_memory(
            content, thread_id=thread_id, user_id=user_id, expected_version=expected_version
        )

    async def delete(self, *, thread_id: str | None = None, user_id: str | None = None) -> dict[str, int]:
        """Erase the text; rows erased, by table."""
        return {"working_memory": await self._provider.delete_working_memory(thread_id=thread_id, user_id=user_id)}
