"""How much a connection reads at a time.

asyncio asks for 256 KB with every read, and shrinks the answer to what came, which is a few hundred bytes nearly
always. The rest is free again, but what is allocated next lies in it: so the heap of a loaded process is torn into
ever more holes that are too small for the next read, and grows by tens of megabytes although nothing is kept.
"""

from __future__ import annotations

from typing import Any, cast

import asyncpg

__all__ = ["READ", "read_little"]

READ = 32 * 1024
"""Bytes that are asked for at a time: PostgreSQL sends 8 KB at the most. A long answer is read in a few more parts."""


def read_little(connection: asyncpg.Connection) -> None:
    """Let the connection ask for little at a time; those over TLS read into a buffer of their own anyway."""
    transport = cast("Any", connection)._transport  # noqa: SLF001 - asyncpg has no word for it
    if hasattr(transport, "max_size"):  # asyncio's own, for sockets without TLS
        transport.max_size = READ
