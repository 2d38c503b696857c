"""Standard input and output on the event loop itself: no thread stands between a message and whoever waits for it.

Handing a line to a worker thread and back takes up to half a millisecond, and an answer took four of these ways. The
descriptors stay as they are, blocking: whoever started the server may share them.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import socket
import stat
import termios
from contextlib import suppress
from typing import Final, Self

import anyio.to_thread

_CHUNK: Final = 1 << 16


class Incoming:
    """The lines of a descriptor, which is read when there is something to read; an asynchronous iterator.

    `end` makes it end after what it has.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._unread = bytearray()
        self._looked = 0  # so much of it has no end of a line
        self._is_over = False
        self._readable: asyncio.Event | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while (end := self._unread.find(b"\n", self._looked)) < 0:
            self._looked = len(self._unread)
            if self._is_over or not (chunk := await self._read()):
                return self._rest()
            self._unread += chunk
        return self._taken(end + 1)

    def end(self) -> None:
        """Let the reader see the end of the input; for a handler of signals of the event loop."""
        self._is_over = True
        if self._readable is not None:
            self._readable.set()

    def _taken(self, size: int) -> str:
        line = self._unread[:size].decode("utf-8", "replace")
        del self._unread[:size]
        self._looked = 0
        return line

    def _rest(self) -> str:
        self._is_over = True
        if not self._unread:
            raise StopAsyncIteration
        return self._taken(len(self._unread))

    async def _read(self) -> bytes:
        """What has come; nothing at the end."""
        loop = asyncio.get_running_loop()
        self._readable = asyncio.Event()
        try:
            loop.add_reader(self._descriptor, self._readable.set)
        except PermissionError:  # a file, which is never waited for
            await asyncio.sleep(0)
        else:
            try:
                await self._readable.wait()
            finally:
                loop.remove_reader(self._descriptor)
        self._readable = None
        return b"" if self._is_over else os.read(self._descriptor, _CHUNK)


class Outgoing:
    """Writes to a descriptor: at once where that cannot block, else from a worker thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        mode = os.fstat(descriptor).st_mode
        self._is_pipe = stat.S_ISFIFO(mode) and hasattr(fcntl, "F_GETPIPE_SZ")
        self._socket = socket.socket(fileno=os.dup(descriptor)) if stat.S_ISSOCK(mode) else None

    async def write(self, text: str) -> int:
        """Write all of it. Raises BrokenPipeError where nobody reads any more."""
        data = text.encode("utf-8", "surrogatepass")
        written = self._at_once(data)
        if written < len(data):
            await anyio.to_thread.run_sync(self._all_of, data[written:])
        return len(text)

    def close(self) -> None:
        """Let go of what was made for it; the descriptor stays open."""
        if self._socket is not None:
            self._socket.close()

    def _at_once(self, data: bytes) -> int:
        """Write as much as there is room for; how much that was."""
        if self._socket is not None:
            with suppress(BlockingIOError):
                return self._socket.send(data, socket.MSG_DONTWAIT)
        elif self._is_pipe and len(data) <= self._room():
            return os.write(self._descriptor, data)
        return 0

    def _room(self) -> int:
        """How much an empty pipe takes; 0 where it is not empty: it holds pages, not bytes."""
        unread = array.array("i", [0])
        fcntl.ioctl(self._descriptor, termios.FIONREAD, unread)
        return 0 if unread[0] else fcntl.fcntl(self._descriptor, fcntl.F_GETPIPE_SZ)

    def _all_of(self, data: bytes) -> None:
        unsent = memoryview(data)
        while unsent:
            unsent = unsent[os.write(self._descriptor, unsent) :]
