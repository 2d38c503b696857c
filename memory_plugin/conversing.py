"""What every store can say about its conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from memory_plugin.capabilities.conversation_turns import Turns
    from memory_plugin.core import MemoryCore
    from memory_plugin.db.database import Database


class Conversing:
    """A store that knows what was asked and what came of it."""

    database: Database
    tenant: str
    user_id: str | None

    @property
    def turns(self) -> Turns:
        """The turns of conversations: queries and answers, calls of tools, feedback."""
        from memory_plugin.capabilities.conversation_turns import Turns

        search = cast("MemoryCore", self).recall
        return Turns(self.database, tenant=self.tenant, search=search, user_id=self.user_id)
