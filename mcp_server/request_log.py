"""A line for each request: who, what kind, how it went, how long it took. Never what was said or stored."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from mcp_server.metrics import Metrics

logger = logging.getLogger("mcp_server.requests")

_NOTE = "memory.request"
_UNSAFE = re.compile(r"[^\w.:@/{}+-]", re.ASCII)
_LONGEST = 100


@dataclass(slots=True)
class Note:
    """What is known about a request so far; each part of the server writes down what it learns.

    Attributes:
        what: the route with placeholders, and the method of the protocol with the tool: no id, no text.
        who: the key of the identity.
    """

    what: str = "-"
    who: str = "-"


def note_of(scope: Any) -> Note:
    """The note that goes with a request; one that nobody reads where requests are not logged."""
    found = scope.setdefault(_NOTE, None) or Note()
    scope[_NOTE] = found
    return found


class RequestLog:
    """Writes the line when the answer is complete, or when the client went away.

    Args:
        metrics: told of every request too.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics | None = None) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request by the application, and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        note, began, status, size = note_of(scope), time.perf_counter(), 0, 0

        async def watch(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            seconds = time.perf_counter() - began
            if self._metrics is not None:
                self._metrics.request(scope["method"], note.what, status, seconds)
            if logger.isEnabledFor(logging.INFO):
                _write(scope["method"], note, status, seconds, size)


def _write(method: str, note: Note, status: int, seconds: float, size: int) -> None:
    method, what, who = _plain(method), _plain(note.what), _plain(note.who)
    logger.info(
        "%s %s status=%d ms=%.1f bytes=%d who=%s",
        method,
        what,
        status,
        seconds * 1000,
        size,
        who,
        extra={
            "http.request.method": method,
            "http.route": what,
            "http.response.status_code": status,
            "http.server.request.duration": round(seconds, 6),
            "http.response.body.size": size,
            "enduser.id": who,
        },
    )


def _plain(text: str) -> str:
    """The text as one word of a line, whatever a client put into it."""
    return _UNSAFE.sub("_", text)[:_LONGEST] or "-"
