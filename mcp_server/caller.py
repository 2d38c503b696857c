"""Who is asking: known from the token, or the configuration of the process; never from an argument of a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mcp.server.mcpserver import Context

from mcp_server.access import CoreAccess
from mcp_server.identity import READ, WRITE, current_identity
from memory_plugin.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from memory_plugin.core import MemoryCore
    from memory_plugin.types import Conversation


@dataclass(frozen=True, slots=True)
class Caller:
    """The memory that a request may use, and the user it acts for (None: the whole tenant).

    Attributes:
        program: the client's own name.
        scopes: some of `read`, `write`, `service`.
    """

    core: MemoryCore
    user_id: str | None
    program: str | None = None
    scopes: frozenset[str] = frozenset({READ, WRITE})

    def may_see(self, owner: str | None) -> bool:
        """Whether a row of that owner belongs to the caller."""
        return self.user_id is None or owner == self.user_id

    async def conversation(self, thread_id: str) -> Conversation:
        """The caller's own conversation of that id.

        Raises:
            NotFoundError: there is none, or it is somebody else's.
        """
        unknown = NotFoundError(
            f"There is no conversation {thread_id!r:.80}: the tool conversations lists those there are."
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
    client = ctx.request_context.session.client_params
    return await caller_of(access, client.client_info.name if client is not None else None)


async def caller_of(access: CoreAccess, program: str | None = None) -> Caller:
    """Who the request that is being answered acts for.

    Raises:
        MemoryPluginError: the memory cannot be opened, or nobody said who it is where somebody must.
    """
    core = await access.core()
    identity = current_identity()
    if identity is not None:
        tenant = core.for_tenant(identity.tenant if identity.tenant is not None else core.tenant)
        return Caller(tenant, identity.user_id, program, identity.scopes)
    if access.needs_identity:
        raise ConfigurationError("This request carries no identity: send it through the server's own HTTP application.")
    return Caller(core, core.user_id, program)
