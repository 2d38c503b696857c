"""Notices of changes: to streams of the newer era, and to connections of the older one.

Who subscribes must be allowed to read: each address is looked up as the caller's before it is
watched. A notice names the address and nothing else; what is new is read by the caller, who is
asked for their right again then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import anyio
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.subscriptions import ListenHandler, ServerEvent
from mcp.shared.subscriptions import ResourceUpdated
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from mcp_server import reading
from mcp_server.caller import Caller, current_caller
from mcp_server.resources import CONVERSATIONS, MEMORIES, REFERENCES
from memory_plugin.errors import ConfigurationError, InvalidInputError, MemoryPluginError, NotFoundError

if TYPE_CHECKING:
    from memory_plugin.capabilities.changes import Changes, Watch

MAX_ADDRESSES = 100
"""Addresses that one stream may watch."""

MAX_STREAMS = 20
"""Streams that one user may keep open in one process."""

STREAM_SECONDS = 3600.0
"""After this a stream ends in order: who listens again shows anew who they are."""


class Notices:
    """Serves subscriptions, over one connection that listens to the database."""

    def __init__(self) -> None:
        self._changes: Changes | None = None
        self._streams: dict[tuple[str, str | None], int] = {}
        self._sessions: dict[tuple[int, str], tuple[Any, Watch]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    # -- the newer era: a request whose answer is a stream

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Tell of changes until the client goes, or an hour is over.

        Raises:
            MCPError: an address is not the caller's, or cannot be watched.
        """
        caller = await _caller(ctx)
        addresses = list(dict.fromkeys(params.notifications.resource_subscriptions or ()))
        # the lists of tools, prompts and resources never change: nothing is promised of them
        only = SubscriptionFilter(resource_subscriptions=addresses)
        params = params.model_copy(update={"notifications": only})
        if len(addresses) > MAX_ADDRESSES:
            raise MCPError(code=INVALID_PARAMS, message=f"A stream watches at most {MAX_ADDRESSES} addresses.")
        bus = _OneStream()

        def told(address: str) -> Callable[[], None]:
            return lambda: bus.tell(ResourceUpdated(uri=address))

        async with self._counted(caller), AsyncExitStack() as stack:
            for address in addresses:
                watch = await self._watch(caller, address, told(address))
                stack.push_async_callback(watch.stop)
            handler = ListenHandler(bus)
            ending = asyncio.get_running_loop().call_later(STREAM_SECONDS, handler.close)
            try:
                return await handler(ctx, params)
            finally:
                ending.cancel()
                with anyio.CancelScope(shield=True):  # the client went: its watches go all the same
                    await stack.aclose()

    @asynccontextmanager
    async def _counted(self, caller: Caller) -> AsyncIterator[None]:
        who = (caller.core.tenant, caller.user_id)
        if self._streams.get(who, 0) >= MAX_STREAMS:
            raise MCPError(code=INVALID_PARAMS, message=f"At most {MAX_STREAMS} streams at once: end one first.")
        self._streams[who] = self._streams.get(who, 0) + 1
        try:
            yield
        finally:
            self._streams[who] -= 1
            if not self._streams[who]:
                del self._streams[who]

    # -- the older era: a subscription of the connection

    async def subscribe(self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams) -> EmptyResult:
        """Tell this connection of changes of one address from now on.

        Raises:
            MCPError: the address is not the caller's, or cannot be watched.
        """
        caller, address, session = await _caller(ctx), str(params.uri), ctx.session
        key = (id(session), address)
        if sum(owner == id(session) for owner, _ in self._sessions) >= MAX_ADDRESSES:
            raise MCPError(code=INVALID_PARAMS, message=f"A connection watches at most {MAX_ADDRESSES} addresses.")
        if key not in self._sessions:
            watch = await self._watch(caller, address, lambda: self._send(key))
            self._sessions[key] = (session, watch)
        return EmptyResult()

    async def unsubscribe(self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams) -> EmptyResult:
        """Tell this connection no more."""
        await self._drop((id(ctx.session), str(params.uri)))
        return EmptyResult()

    def _send(self, key: tuple[int, str]) -> None:
        task = asyncio.get_running_loop().create_task(self._sent(key))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _sent(self, key: tuple[int, str]) -> None:
        if key not in self._sessions:
            return
        session, _ = self._sessions[key]
        try:
            await session.send_resource_updated(key[1])
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):  # the client has gone
            await self._drop(key)

    async def _drop(self, key: tuple[int, str]) -> None:
        known = self._sessions.pop(key, None)
        if known is not None:
            await known[1].stop()

    # -- both

    async def _watch(self, caller: Caller, address: str, told: Callable[[], None]) -> Watch:
        try:
            what = await watched(caller, address)
            if self._changes is None:
                from memory_plugin.capabilities.changes import Changes  # with it comes the driver

                self._changes = Changes(caller.core.database)
            return await self._changes.watch(caller.core.tenant, what, told)
        except (NotFoundError, InvalidInputError, ConfigurationError) as error:
            raise MCPError(code=INVALID_PARAMS, message=str(error), data={"uri": address}) from error
        except MemoryPluginError as error:
            raise MCPError(code=INTERNAL_ERROR, message=str(error)) from error

    async def close(self) -> None:
        """Stop listening; before the database is closed."""
        changes, self._changes = self._changes, None
        self._sessions.clear()
        if changes is not None:
            await changes.close()


async def _caller(ctx: ServerRequestContext[Any, Any]) -> Caller:
    try:
        return await current_caller(Context(request_context=ctx))
    except MemoryPluginError as error:
        raise MCPError(code=INTERNAL_ERROR, message=str(error)) from error


async def watched(caller: Caller, address: str) -> str:
    """What the database calls the thing under an address, once it is known to be the caller's.

    Raises:
        NotFoundError: there is nothing there for this caller, or nothing that changes.
        InvalidInputError: it is no address.
        ConfigurationError: it is a user's, and no user is configured.
    """
    lists = {MEMORIES: "memories", CONVERSATIONS: "conversations", REFERENCES: "documents"}
    if address in lists:
        return f"{lists[address]} all" if caller.user_id is None else f"{lists[address]} of {caller.user_id}"
    if address == reading.WORKING_MEMORY or address.startswith(f"{reading.WORKING_MEMORY}/"):
        thread_id = unquote(address.removeprefix(reading.WORKING_MEMORY).removeprefix("/")) or None
        owner = await reading.working_memory_owner(caller, thread_id)
        return f"note chat {owner['thread_id']}" if "thread_id" in owner else f"note user {owner['user_id']}"
    if address.startswith(reading.CONVERSATION):
        thread, message = reading.thread_of(address)
        if message is None:
            return f"conversations one {(await caller.conversation(thread)).thread_id}"
    elif address.startswith(reading.REFERENCE):
        document = address.removeprefix(reading.REFERENCE).partition("/")[0]
        return f"documents one {(await caller.core.references.get(document, user_id=caller.user_id)).id}"
    elif address.startswith(reading.MEMORY):
        return f"memories one {(await reading.own_memory(caller, reading.memory_id(address))).id}"
    raise NotFoundError("Nothing that changes is under this address: see the lists of resources and templates.")


class _OneStream:
    """What the library's handler listens to; made for one stream, so nothing can reach another's."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[ServerEvent], None]] = []

    def tell(self, event: ServerEvent) -> None:
        """Hand the event to the stream."""
        for listener in self._listeners:
            listener(event)

    async def publish(self, event: ServerEvent) -> None:
        """As the library wants it."""
        self.tell(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Register the stream."""
        self._listeners.append(listener)
        return self._listeners.clear


def methods(notices: Notices, *, sessions: bool) -> Sequence[tuple[str, Any, Any]]:
    """The methods that subscriptions need, those of the older era where its connections last."""
    newer = [("subscriptions/listen", SubscriptionsListenRequestParams, notices.listen)]
    older = [
        ("resources/subscribe", SubscribeRequestParams, notices.subscribe),
        ("resources/unsubscribe", UnsubscribeRequestParams, notices.unsubscribe),
    ]
    return [*newer, *older] if sessions else newer
