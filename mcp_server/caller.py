"""Who is asking: known from the configuration of the process, never from an argument of a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mcp.server.mcpserver import Context

from mcp_server.access import CoreAccess
from memory_plugin.errors import NotFoundError

if TYPE_CHECKING:
    from memory_plugin.core import MemoryCore
    from memory_plugin.types import Conversation


@dataclass(frozen=True, slots=True)
class Caller:
    """The memory that a request may use, and the user it acts for (None: the whole tenant)."""

    core: MemoryCore
    user_id: str | None
    program: str | None = None

    def may_see(self, owner: str | None) -> bool:
        """Whether a row of that owner belongs to the caller."""
        return self.user_id is None or owner == self.user_id

    async def conversation(self, thread_id: str) -> Conversation:
        """The caller's own conversation of that id.

        Raises:
            NotFoundError: there is none, or it is somebody else's.
        """
        unknown = NotFoundError(
            f"There is no conversation {thread_id!r:.80}: list_conversations names those there are."
        )
        try:
            found = await self.core.conversations.get(thread_id)
        except NotFoundError:
            raise unknown from None
        if not self.may_see(found.user_id):
            raise unknown  # in the same words, so that nobody learns which ids others have
        return found


async def current_caller(ctx: Context) -> Caller:
    """The caller of this request, once the memory is open.

    Raises:
        MemoryPluginError: the memory cannot be opened.
    """
    access = cast("CoreAccess", ctx.request_context.lifespan_context)
    core = await access.core()
    client = ctx.request_context.session.client_params
    return Caller(core, core.user_id, client.client_info.name if client is not None else None)
