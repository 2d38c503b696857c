"""`memory-mcp --check`: does everything work, said to a person and by the exit code."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

from mcp_server.access import open_configured
from memory_plugin.errors import MemoryPluginError

if TYPE_CHECKING:
    from mcp_server.settings import ServerSettings
    from memory_plugin.core import MemoryCore


async def check(settings: ServerSettings) -> int:
    """Open the memory and use each part once; 0 when all work, 1 otherwise."""
    # What goes wrong is printed below, once.
    logging.getLogger("mcp_server").setLevel(logging.CRITICAL)
    try:
        began = time.perf_counter()
        async with open_configured(settings) as core:
            await core.database.fetchval("SELECT 1")
            _say(f"database: ok ({core.database!r}, opened in {time.perf_counter() - began:.1f} s)")
            _say(f"identity: tenant {core.tenant!r}, {f'user {core.user_id!r}' if core.user_id else 'every user'}")
            return 0 if await _embedder_works(core) else 1
    except MemoryPluginError as error:
        _say(f"database: failed: {error}")
        return 1


async def _embedder_works(core: MemoryCore) -> bool:
    if core.embedder is None:
        _say("embedder: none, recall works by words alone")
        return True
    try:
        began = time.perf_counter()
        vector = await core.embedder.embed_query("does this work?")
    except MemoryPluginError as error:
        _say(f"embedder: failed: {error}")
        return False
    _say(f"embedder: ok ({core.embedder.name}, {len(vector)} dimensions, {time.perf_counter() - began:.1f} s)")
    return True


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
