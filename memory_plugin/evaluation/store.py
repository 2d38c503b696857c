"""A store of its own for an evaluation, gone when it is done."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from memory_plugin.core import MemoryCore
from memory_plugin.db.connect import open_database
from memory_plugin.settings import Settings


@asynccontextmanager
async def scratch_store(
    settings: Settings, *, url: str | None = None, embeddings: object = None
) -> AsyncIterator[MemoryCore]:
    """An empty store: a schema of its own on the server of `url`, dropped afterwards.

    Without a URL it is an embedded server, in a directory that is removed afterwards.

    Raises:
        MemoryPluginError: the database cannot be opened.
    """
    changes: dict[str, object] = {"tenant": "evaluation", "user_id": None, "database_url": None}
    if url is None:
        with tempfile.TemporaryDirectory(prefix="memory-plugin-eval-", ignore_cleanup_errors=True) as folder:
            own = settings.model_copy(update={**changes, "data_dir": Path(folder)})
            async with MemoryCore.open(embeddings=embeddings, settings=own) as core:
                yield core
        return
    schema = f"evaluation_{os.getpid()}_{secrets.token_hex(4)}"
    own = settings.model_copy(update={**changes, "db_schema": schema})
    try:
        async with MemoryCore.open(url, embeddings=embeddings, settings=own) as core:
            yield core
    finally:
        async with open_database(url, settings=own) as database:
            await database.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
