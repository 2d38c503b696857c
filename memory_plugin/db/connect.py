"""From a URL or nothing to an open database: the embedded server where none is named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from memory_plugin.db.database import Database
from memory_plugin.db.tenancy import APP_ROLE
from memory_plugin.settings import Settings, get_settings

if TYPE_CHECKING:
    from memory_plugin.db.embedded import EmbeddedServer


async def start_embedded(settings: Settings) -> EmbeddedServer:
    """Start, or join, the embedded server of the settings' data directory."""
    from memory_plugin.db.embedded import EmbeddedServer

    return await asyncio.to_thread(EmbeddedServer.start, settings.data_dir)


@asynccontextmanager
async def open_database(
    url: str | None = None,
    *,
    schema: str | None = None,
    settings: Settings | None = None,
    tenant: str | None = None,
) -> AsyncIterator[Database]:
    """A database that is closed at the end, with the embedded server under it where no URL is named.

    The schema in it is neither made nor checked here.

    Args:
        tenant: whose rows its sessions see, under row security; None opens it as the login alone.

    Raises:
        DatabaseUnavailableError: the server cannot be reached.
    """
    settings = settings or get_settings()
    if url is None and settings.database_url is not None:
        url = settings.database_url.get_secret_value()
    secured = tenant is not None and settings.row_security != "off"
    embedded = await start_embedded(settings) if url is None else None
    try:
        database = Database(
            embedded.url if embedded is not None else str(url),
            schema=schema or settings.db_schema,
            pool_size=settings.pool_size,
            connect_timeout=settings.connect_timeout,
            statement_timeout=settings.statement_timeout,
            prepared=settings.prepared_statements,
            retry_seconds=settings.retry_seconds,
            tenant=tenant if secured else None,
            role=APP_ROLE if secured else None,
        )
        try:
            yield database
        finally:
            await database.close()
    finally:
        if embedded is not None:
            await asyncio.to_thread(embedded.stop)
