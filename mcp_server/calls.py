"""Calls of tools over HTTP, answered where they arrive.

For each request of the older era the protocol library sets up a transport of its own: three tasks, four queues, and an
answer that goes through all of them, half a millisecond. A call whose answer is one JSON document needs none of it:
the library has a way for single exchanges, which it takes for the newer era. Everything else is the library's.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
from mcp.server.connection import Connection
from mcp.server.runner import serve_one
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp.types import ErrorData, JSONRPCError, JSONRPCRequest, JSONRPCResponse, jsonrpc_message_adapter
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from mcp_server.guard import MCP_PATH

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server
    from mcp.shared.dispatcher import CallOptions
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mcp_server.access import CoreAccess

logger = logging.getLogger(__name__)

_VERSIONS: Final = {version.encode(): version for version in HANDSHAKE_PROTOCOL_VERSIONS}
_JSON: Final = b"application/json"

_READ: Final = frozenset({b"mcp-protocol-version", b"content-type", b"accept", b"content-length"})

_MOST: Final = 64 * 1024
"""Bytes of a body that is read here."""


class Calls:
    """Answers calls of tools; passes on what it does not know.

    Args:
        app: the library's application.
        server: whose tools are called, by a lifespan that gives this `access`.
    """

    def __init__(self, app: ASGIApp, server: Server[CoreAccess], access: CoreAccess) -> None:
        self._app = app
        self._server = server
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        version = _version_of(scope)
        if version is None:
            await self._app(scope, receive, send)
            return
        read = _Read(receive)
        call = _call_in(await read.body())
        if call is None:
            await self._app(scope, read.again, send)
            return
        answer = await self._answer(call, version, Request(scope))
        content = answer.model_dump_json(by_alias=True, exclude_unset=True).encode()
        length = str(len(content)).encode()
        headers = [(b"content-type", _JSON), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, call: JSONRPCRequest, version: str, request: Request) -> JSONRPCResponse | JSONRPCError:
        exchange = _Exchange(call.id, ServerMessageMetadata(request_context=request))
        connection = Connection.from_envelope(version, None, None)
        try:
            result = await serve_one(
                self._server, exchange, call.method, call.params, connection=connection, lifespan_state=self._access
            )
        except Exception as error:  # the border to the wire: what the library tells of each kind is told here
            told = handler_exception_to_error_data(error)
            if told is None:
                logger.exception("The handler of %r failed", call.method)
                told = ErrorData(code=0, message=str(error))
            return JSONRPCError(jsonrpc="2.0", id=call.id, error=told)
        return JSONRPCResponse(jsonrpc="2.0", id=call.id, result=result)


@dataclass
class _Exchange:
    """What the library wants to know of a request, where nothing can be sent to the client but its answer."""

    request_id: int | str
    message_metadata: ServerMessageMetadata
    transport: TransportContext = field(
        default_factory=lambda: TransportContext(kind="streamable-http", can_send_request=False)
    )
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)
    can_send_request: bool = False

    async def send_raw_request(
        self,
        method: str,
        params: Mapping[str, Any] | None,  # noqa: ARG002
        opts: CallOptions | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Raises NoBackChannelError."""
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """An answer that is one document has no place for it."""

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """As above."""


class _Read:
    """The body of a request, and the same once more for somebody else."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: deque[Message] = deque()

    async def body(self) -> bytes | None:
        """All of it; None where the client went away, or it is longer than it said."""
        parts: list[bytes] = []
        while True:
            message = await self._receive()
            self._messages.append(message)
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)
            if sum(map(len, parts)) > _MOST:
                return None

    async def again(self) -> Message:
        """As ASGI has it."""
        return self._messages.popleft() if self._messages else await self._receive()


def _version_of(scope: Scope) -> str | None:
    """The version of the protocol that a request for here speaks; None for those that are the library's."""
    if scope["type"] != "http" or scope["path"] != MCP_PATH or scope["method"] != "POST":
        return None
    told: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _READ:
            if name in told:
                return None
            told[name] = value
        elif name == b"mcp-session-id":
            return None  # the library knows which there are, if it serves any
    version = _VERSIONS.get(told.get(b"mcp-protocol-version", b""))
    takes = (each.partition(b";")[0].strip() for each in told.get(b"accept", b"").split(b","))
    length = told.get(b"content-length", b"")
    is_json = told.get(b"content-type", b"").partition(b";")[0].strip() == _JSON and _JSON in takes
    return version if is_json and length.isdigit() and int(length) <= _MOST else None


def _call_in(body: bytes | None) -> JSONRPCRequest | None:
    """The call of a tool; None where it is none, for the library to say what is wrong."""
    if body is None:
        return None
    try:
        message = jsonrpc_message_adapter.validate_python(from_json(body), by_name=False)
    except (ValueError, ValidationError):
        return None
    return message if isinstance(message, JSONRPCRequest) and message.method == "tools/call" else None
