"""A proxy before PostgreSQL that cuts a connection at a chosen moment of a chosen statement."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

Moment = Literal["before", "after"]


@dataclass(slots=True)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    statements: dict[bytes, bytes] = field(default_factory=dict)
    bound: bytes = b""
    silent: bool = False

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Forwards what client and server say.

    Attributes:
        url: where the client finds it.
        asked: how often a client has sent something that it waits for the answer of.
    """

    def __init__(self, url: str, folder: str) -> None:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        self._socket = str(Path(query["host"]) / f".s.PGSQL.{query.get('port', '5432')}")
        self.socket = str(Path(folder) / ".s.PGSQL.5432")
        self.url = urlunsplit(parts._replace(query=urlencode({"host": folder}, quote_via=quote)))
        self.asked = 0
        self._plan: tuple[bytes, Moment] | None = None
        self._links: list[_Link] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self, statement: str, moment: Moment) -> None:
        """Cut the next connection that runs a statement with this text in it.

        `before` the server hears of it, or `after` it is done and before the client hears of that.
        """
        self._plan = (statement.encode(), moment)

    @property
    def waiting(self) -> bool:
        """Whether the connection to cut has not come yet."""
        return self._plan is not None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        answers, server = await asyncio.open_unix_connection(self._socket)
        link = _Link(writer, server)
        self._links.append(link)
        for direction in (self._ask(reader, link), self._answer(answers, link)):
            task = asyncio.create_task(direction)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, reader: asyncio.StreamReader, link: _Link) -> None:
        try:
            length = await reader.readexactly(4)
            link.server.write(length + await reader.readexactly(int.from_bytes(length, "big") - 4))
            while True:
                kind, message = await _message(reader)
                if self._is_wanted(kind, message[5:], link):
                    _, moment = self._plan or ("", "before")
                    self._plan = None
                    if moment == "before":
                        return
                    link.silent = True
                self.asked += kind in b"SQH"
                link.server.write(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if not link.silent:
                link.cut()

    def _is_wanted(self, kind: bytes, body: bytes, link: _Link) -> bool:
        if kind == b"P":
            name, text, _ = body.split(b"\0", 2)
            link.statements[name] = text
        elif kind == b"B":
            _, name, _ = body.split(b"\0", 2)
            link.bound = link.statements.get(name, b"")
        elif kind == b"Q":
            link.bound = body
        return self._plan is not None and kind in b"EQ" and self._plan[0] in link.bound

    async def _answer(self, reader: asyncio.StreamReader, link: _Link) -> None:
        try:
            while True:
                kind, message = await _message(reader)
                if not link.silent:
                    link.client.write(message)
                elif kind == b"Z":
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if link.silent:
                link.client.transport.abort()
            else:
                link.client.close()  # what was said before is delivered
            link.server.transport.abort()

    async def stop(self) -> None:
        """End every connection."""
        for link in self._links:
            link.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """A proxy before the server of the URL, which must be reached by a unix socket."""
    with tempfile.TemporaryDirectory(prefix="proxy-") as folder:
        proxy = Proxy(url, folder)
        server = await asyncio.start_unix_server(proxy.serve, proxy.socket)
        try:
            yield proxy
        finally:
            server.close()
            await proxy.stop()
