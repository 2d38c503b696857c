"""A database that notes what is sent to it, for promises about round trips."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from memory_plugin.db.database import Connection, Database


class CountingDatabase(Database):
    """Notes every statement in `sent`."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sent: list[str] = []

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Connection]:
        async with super().raw() as connection:
            with connection.query_logger(lambda record: self.sent.append(record.query)):
                yield connection
            await asyncio.sleep(0)  # the driver calls its loggers on the loop's next turn


@asynccontextmanager
async def counted(database: Database) -> AsyncIterator[list[str]]:
    """The statements that an open database sends while inside; each is one round trip."""
    sent: list[str] = []
    original = database.raw

    @asynccontextmanager
    async def raw() -> AsyncIterator[Connection]:
        async with original() as connection:
            with connection.query_logger(lambda record: sent.append(record.query)):
                yield connection
            await asyncio.sleep(0)  # the driver calls its loggers on the loop's next turn

    database.raw = raw  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        database.raw = original  # type: ignore[method-assign]
