"""What really goes over the wire: a proxy between a store and its server that counts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit


@dataclass(slots=True)
class Wire:
    """Bytes in both directions, the statements that were run, and how often an answer was waited for."""

    url: str = ""
    sent: int = 0
    received: int = 0
    round_trips: int = 0
    connections: int = 0
    statements: list[str] = field(default_factory=list)
    _answered: bool = True

    def count(self, size: int, *, up: bool) -> None:
        if up:
            self.sent += size
            self.round_trips += self._answered
        else:
            self.received += size
        self._answered = not up

    def reset(self) -> None:
        """Count from here on."""
        self.sent = self.received = self.round_trips = self.connections = 0
        self.statements.clear()


class _Statements:
    """Finds the statements in what one client sends; a prepared one counts each time it is run."""

    _STARTUP = 196608

    def __init__(self, run: list[str]) -> None:
        self._run = run
        self._rest = b""
        self._begun = False
        self._prepared: dict[bytes, str] = {}

    def feed(self, data: bytes) -> None:
        self._rest += data
        while True:
            head = 1 if self._begun else 0  # what comes first has no letter
            size = head + int.from_bytes(self._rest[head : head + 4])
            if len(self._rest) < max(size, head + 4):
                return
            message, self._rest = self._rest[:size], self._rest[size:]
            if self._begun:
                self._take(message[:1], message[5:])
            else:
                self._begun = int.from_bytes(message[4:8]) == self._STARTUP

    def _take(self, kind: bytes, body: bytes) -> None:
        if kind == b"Q":
            self._run.append(body[:-1].decode())
        elif kind == b"P":
            name, query, _ = body.split(b"\0", 2)
            self._prepared[name] = query.decode()
        elif kind == b"B":
            self._run.append(self._prepared[body.split(b"\0", 2)[1]])


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    """A way to the server of the URL, a Unix socket, that counts what passes."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    target = f"{query['host'][0]}/.s.PGSQL.{query.get('port', ['5432'])[0]}"
    counted = Wire()

    async def pass_on(
        source: asyncio.StreamReader, target: asyncio.StreamWriter, statements: _Statements | None = None
    ) -> None:
        while data := await source.read(1 << 16):
            counted.count(len(data), up=statements is not None)
            if statements is not None:
                statements.feed(data)
            target.write(data)
            await target.drain()
        target.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(target)
        counted.connections += 1
        await asyncio.gather(
            pass_on(reader, server_writer, _Statements(counted.statements)),
            pass_on(server_reader, writer),
            return_exceptions=True,
        )

    with tempfile.TemporaryDirectory() as folder:
        async with await asyncio.start_unix_server(connected, f"{folder}/.s.PGSQL.5432"):
            counted.url = urlunsplit(parts._replace(query=f"host={quote(folder)}&port=5432"))
            yield counted
