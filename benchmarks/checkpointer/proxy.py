"""A proxy that makes a server far away, and counts what passes. It runs in a process of its own.

Half of the delay is spent in each direction; what is sent in order arrives in order, and any amount may
be on its way at once, as on a real network with enough bandwidth. A round trip is counted whenever the client
speaks after the server did: statements sent together are one.

Commands are lines on standard input: `delay SECONDS` (the whole round trip) and `take` (what was counted
since the last `take`). Each is answered by a line of JSON on standard output; the end of the input ends it.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Traffic:
    """Round trips, and bytes from the client's point of view."""

    round_trips: int = 0
    sent: int = 0
    received: int = 0


class _Line:
    """What the connections of one proxy share."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.traffic = Traffic()


class _Side(asyncio.Protocol):
    """One end of a connection: passes on what it reads to the other end, in time."""

    def __init__(self, line: _Line, other: _Side | None = None) -> None:
        self._line = line
        self._of_client = other is None
        self._due: deque[tuple[float, bytes | None]] = deque()
        self._early: list[bytes | None] = []
        self.other = other
        self.transport: asyncio.Transport | None = None
        self.heard_server = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        traffic = self._line.traffic
        if self._of_client:
            if self.heard_server:
                traffic.round_trips += 1
                self.heard_server = False
            traffic.sent += len(data)
        else:
            traffic.received += len(data)
        self._pass(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._pass(None)

    def join(self, other: _Side) -> None:
        """The other end is there: send it what came before it was."""
        self.other = other
        early, self._early = self._early, []
        for data in early:
            self._pass(data)

    def _pass(self, data: bytes | None) -> None:
        if self.other is None:
            self._early.append(data)
        elif self._line.delay == 0 and not self._due:
            self._deliver(data)
        else:
            loop = asyncio.get_running_loop()
            self._due.append((loop.time() + self._line.delay / 2, data))
            if len(self._due) == 1:
                loop.call_at(self._due[0][0], self._arrive)

    def _arrive(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due and self._due[0][0] <= loop.time():
            self._deliver(self._due.popleft()[1])
        if self._due:
            loop.call_at(self._due[0][0], self._arrive)

    def _deliver(self, data: bytes | None) -> None:
        other = self.other
        if other is None or other.transport is None:
            return
        if data is None:
            other.transport.close()
        elif not other.transport.is_closing():
            if not self._of_client:
                other.heard_server = True
            other.transport.write(data)


async def _serve(host: str, port: int) -> None:
    """Pass connections on to this host, or to this socket where the port is 0, until the input ends."""
    loop, line = asyncio.get_running_loop(), _Line()
    joining: set[asyncio.Task[None]] = set()

    def accept() -> asyncio.Protocol:
        client = _Side(line)

        async def connect() -> None:
            server = _Side(line, client)
            try:
                if port:
                    await loop.create_connection(lambda: server, host, port)
                else:
                    await loop.create_unix_connection(lambda: server, host)
            except OSError:
                if client.transport is not None:
                    client.transport.close()
            else:
                client.join(server)

        task = loop.create_task(connect())
        joining.add(task)
        task.add_done_callback(joining.discard)
        return client

    server = await loop.create_server(accept, "127.0.0.1", 0)
    _say({"port": server.sockets[0].getsockname()[1]})
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while command := (await commands.readline()).decode().split():
        if command[0] == "delay":
            line.delay = float(command[1])
            _say({"delay": line.delay})
        else:
            _say(asdict(line.traffic))
            line.traffic = Traffic()
    server.close()


def _say(answer: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


class Proxy:
    """A running proxy, as the benchmark sees it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    async def _ask(self, command: str) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n".encode())
        return cast("dict[str, float]", json.loads(await self._process.stdout.readline()))

    async def delay(self, seconds: float) -> None:
        """Let a round trip take so much longer from now on."""
        await self._ask(f"delay {seconds}")

    async def take(self) -> Traffic:
        """What passed since this was last asked."""
        counted = await self._ask("take")
        return Traffic(int(counted["round_trips"]), int(counted["sent"]), int(counted["received"]))


@asynccontextmanager
async def running_proxy(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy before this host, or before this socket where the port is 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, host, str(port),
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        started = json.loads(await process.stdout.readline())
        yield Proxy(process, started["port"])
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


def main() -> None:
    """Serve with a selector whose clock is finer than a millisecond, as epoll's is not."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(_serve(sys.argv[1], int(sys.argv[2])))


if __name__ == "__main__":
    main()
