"""Standard input and output, with an end that is always orderly.

A client ends the server by closing its standard input; a person or a supervisor by a signal. A signal
makes the input end here, so that both ways lead through the same shutdown: requests finish, connections
close, the embedded database is released.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp_server.memory_server import MemoryServer


async def serve_stdio(server: MemoryServer) -> None:
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


async def _serve(server: MemoryServer) -> None:
    if sys.platform == "win32":
        await server.run_stdio_async()
        return
    from mcp_server.wire import Incoming, Outgoing

    with _own_descriptors() as (reading, writing), closing(Outgoing(writing)) as outgoing:
        incoming = Incoming(reading)
        loop = asyncio.get_running_loop()

        def interrupted() -> None:
            incoming.end()
            loop.remove_signal_handler(signal.SIGINT)  # pressed again, it ends the process at once

        loop.add_signal_handler(signal.SIGINT, interrupted)
        loop.add_signal_handler(signal.SIGTERM, incoming.end)
        await server.run_over(incoming, outgoing)


@contextmanager
def _own_descriptors() -> Iterator[tuple[int, int]]:
    """The client's descriptors, to this server alone.

    Descriptor 0 reads as empty meanwhile, and what is written to 1 goes where errors go: no child process takes the
    client's words, and nothing that is printed comes between answers.
    """
    reading, writing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # there is no standard error
        os.dup2(nothing, 1)
    os.close(nothing)
    try:
        yield reading, writing
    finally:
        for own, descriptor in ((reading, 0), (writing, 1)):
            os.dup2(own, descriptor)
            os.close(own)
