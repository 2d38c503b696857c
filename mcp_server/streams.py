"""A client's messages, and the answers to them, without a task between the pipe and whoever handles them.

The protocol library reads lines in one task, writes them in another, and hands each message over: an answer waited
twice for the event loop to come round. It takes any pair of streams instead, such as these.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter
from pydantic import ValidationError

if TYPE_CHECKING:
    from mcp_server.wire import Incoming, Outgoing


class _Closing:
    """What the library enters and leaves a stream by."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """The descriptors are their owner's to close."""


class Messages(_Closing):
    """The messages of the lines that come in; what is no message is an error, which the library answers."""

    def __init__(self, lines: Incoming) -> None:
        self._lines = lines

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        line = await anext(self._lines)
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValidationError as error:
            return error

    async def receive(self) -> SessionMessage | Exception:
        """The next one. Raises anyio.EndOfStream."""
        try:
            return await anext(self)
        except StopAsyncIteration:
            raise anyio.EndOfStream from None


class Answers(_Closing):
    """Writes a message to a line, one after the other; where nobody reads any more, nothing more is read either."""

    def __init__(self, outgoing: Outgoing, lines: Incoming) -> None:
        self._outgoing = outgoing
        self._lines = lines
        self._turn = anyio.Lock(fast_acquire=True)

    async def send(self, message: SessionMessage, /) -> None:
        """Write one. Raises anyio.BrokenResourceError where nobody reads."""
        line = message.message.model_dump_json(by_alias=True, exclude_unset=True) + "\n"
        async with self._turn:
            try:
                await self._outgoing.write(line)
            except BrokenPipeError as error:
                self._lines.end()
                raise anyio.BrokenResourceError from error
