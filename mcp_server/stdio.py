"""Standard input and output, with an end that is always orderly.

A client ends the server by closing its standard input; a person or a supervisor by a signal. The
protocol library reads on a thread that no signal wakes, so here a signal makes the input end, and
both ways lead through the same shutdown: requests finish, connections close, the embedded database
is released.
"""

from __future__ import annotations

import asyncio
import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mcp.server import MCPServer

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from mcp_server.access import CoreAccess


class EndableInput(io.RawIOBase):
    """Reads a file descriptor until it ends, or until `end` is called from anywhere."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._ended, self._end = os.pipe()
        os.set_blocking(self._end, False)
        self._released = False

    def readable(self) -> bool:
        """Say that it is for reading."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Wait for input; 0 at its end."""
        ready, _, _ = select.select([self._descriptor, self._ended], [], [])
        if self._ended in ready:
            return 0
        view = memoryview(buffer)
        data = os.read(self._descriptor, len(view))
        view[: len(data)] = data
        return len(data)

    def end(self) -> None:
        """Let the reader see the end of the input; safe in a signal handler, and after `release`."""
        if not self._released:
            with suppress(BlockingIOError):  # it has been told often enough
                os.write(self._end, b"\0")

    def release(self) -> None:
        """Give the pipe back; only when nobody reads any more."""
        self._released = True
        os.close(self._ended)
        os.close(self._end)


async def serve_stdio(server: MCPServer[CoreAccess]) -> None:
    """Serve until standard input ends, SIGINT, SIGTERM, or nobody reads the answers any more."""
    with _until_the_client_left():
        await _serve(server)


@contextmanager
def _until_the_client_left() -> Iterator[None]:
    """A client that went away is an end like any other."""
    try:
        yield
    except* BrokenPipeError:
        pass


async def _serve(server: MCPServer[CoreAccess]) -> None:
    if sys.platform == "win32":
        await server.run_stdio_async()
        return
    with _endable_stdin() as stdin:
        loop = asyncio.get_running_loop()

        def interrupted() -> None:
            stdin.end()
            loop.remove_signal_handler(signal.SIGINT)  # pressed again, it ends the process at once

        loop.add_signal_handler(signal.SIGINT, interrupted)
        loop.add_signal_handler(signal.SIGTERM, stdin.end)
        await server.run_stdio_async()


@contextmanager
def _endable_stdin() -> Iterator[EndableInput]:
    """Put an input that can be ended in the place of `sys.stdin`.

    Descriptor 0 itself reads as empty meanwhile, so that no child process takes the client's words.
    """
    wire = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    source = EndableInput(wire)
    former, sys.stdin = sys.stdin, io.TextIOWrapper(io.BufferedReader(source), encoding="utf-8")
    try:
        yield source
    finally:
        sys.stdin = former
        os.dup2(wire, 0)
        os.close(wire)
        source.release()
