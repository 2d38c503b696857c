"""What really goes over the wire: a proxy between a store and its server that counts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit


@dataclass(slots=True)
class Wire:
    """Bytes in both directions, and how often an answer was waited for."""

    url: str = ""
    sent: int = 0
    received: int = 0
    round_trips: int = 0
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
        self.sent = self.received = self.round_trips = 0


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    """A way to the server of the URL, a Unix socket, that counts what passes."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    target = f"{query['host'][0]}/.s.PGSQL.{query.get('port', ['5432'])[0]}"
    counted = Wire()

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, up: bool) -> None:
        while data := await source.read(1 << 16):
            counted.count(len(data), up=up)
            target.write(data)
            await target.drain()
        target.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(target)
        await asyncio.gather(
            pass_on(reader, server_writer, up=True), pass_on(server_reader, writer, up=False), return_exceptions=True
        )

    with tempfile.TemporaryDirectory() as folder:
        async with await asyncio.start_unix_server(connected, f"{folder}/.s.PGSQL.5432"):
            counted.url = urlunsplit(parts._replace(query=f"host={quote(folder)}&port=5432"))
            yield counted
