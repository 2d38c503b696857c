"""Being told of changes: one connection that listens, for all who want to hear of something.

PostgreSQL tells what has changed (`tell_listeners` in the schema) only to tenants with a row in
`listeners`, which this module keeps there while somebody watches. Messages are told of when they are
indexed, so the writing of checkpoints has nothing to do with it.

A notice says "look again", never what there is to see, and several changes may come as one. After a
lost connection all are told to look again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final

from memory_plugin.db.database import Connection, Database, Repeat
from memory_plugin.errors import DatabaseError, UnsupportedError
from memory_plugin.types import uuid7

logger = logging.getLogger(__name__)

CHANNEL: Final = "memory_changed"

RENEW: Final = 30.0
"""Seconds after which a process says again that it listens."""

_LASTS: Final = 3 * RENEW
_PROBE: Final = 3.0
_PAUSE: Final = 2.0

_HERE = """
INSERT INTO {s}.listeners (tenant_id, id, until) VALUES ($1, $2, now() + make_interval(secs => $3))
ON CONFLICT (tenant_id, id) DO UPDATE SET until = excluded.until
"""
_AWAY = "DELETE FROM {s}.listeners WHERE tenant_id = $1 AND (id = $2 OR until < now() - interval '1 hour')"

Told = Callable[[], None]


class Watch:
    """One who wants to hear of one thing; `stop` ends it."""

    def __init__(self, changes: Changes, tenant: str, heard: str, told: Told) -> None:
        self.tenant = tenant
        self.heard = heard
        self.told = told
        self._changes = changes

    async def stop(self) -> None:
        """Hear nothing any more; doing so again does nothing."""
        await self._changes.forget(self)


class Changes:
    """Tells of changes in one database, of any tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._id = uuid7()
        self._watches: dict[str, set[Watch]] = {}
        self._told: set[str] = set()  # tenants who were told that this process listens
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._probe = asyncio.Event()
        self._here = database.sql(_HERE)
        self._away = database.sql(_AWAY)

    async def watch(self, tenant: str, what: str, told: Told) -> Watch:
        """Call `told`, on this loop, whenever something changes.

        Args:
            what: as the database names it: `memories one <id>`, `conversations of <user>`,
                `documents all`, `note chat <thread>`, `note user <user>`.

        Raises:
            DatabaseError: no connection can be had.
            UnsupportedError: notices do not come through, as behind a pooler that shares connections.
        """
        watch = Watch(self, tenant, self._hash(tenant, what), told)
        async with self._lock:
            if self._connection is None:
                await self._listen()
            self._watches.setdefault(watch.heard, set()).add(watch)
            try:
                await self._say_here()
            except BaseException:
                self._watches[watch.heard].discard(watch)
                raise
            if self._task is None:
                self._task = asyncio.create_task(self._keep_listening(), name="memory changes")
        return watch

    async def forget(self, watch: Watch) -> None:
        """End a watch; with the last one the connection goes too."""
        async with self._lock:
            others = self._watches.get(watch.heard, set())
            others.discard(watch)
            if not others:
                self._watches.pop(watch.heard, None)
            if not self._watches:
                await self._stop()

    async def close(self) -> None:
        """End all watches."""
        async with self._lock:
            self._watches.clear()
            await self._stop()

    def _hash(self, tenant: str, what: str) -> str:
        return sha256(f"{self._database.schema}\x1f{tenant}\x1f{what}".encode()).hexdigest()

    async def _listen(self) -> None:
        connection = await self._database.connect_alone()
        self._probe.clear()
        self._lost.clear()
        try:
            await connection.add_listener(CHANNEL, self._heard)
            connection.add_termination_listener(self._ended)
            await self._database.execute(f"SELECT pg_notify('{CHANNEL}', $1)", str(self._id), repeat=Repeat.READ)
            async with asyncio.timeout(_PROBE):
                await self._probe.wait()
        except TimeoutError:
            connection.terminate()
            raise UnsupportedError(
                "Changes cannot be told: notices of the database do not arrive, as behind a pooler that shares "
                "connections. Give the server a direct connection, or read again from time to time."
            ) from None
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def _say_here(self) -> None:
        for tenant in sorted({watch.tenant for watches in self._watches.values() for watch in watches}):
            self._told.add(tenant)
            database = self._database.for_tenant(tenant)
            await database.execute(self._here, tenant, self._id, _LASTS, repeat=Repeat.IDEMPOTENT)

    async def _keep_listening(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RENEW):
                    await self._lost.wait()
            try:
                async with self._lock:
                    if self._lost.is_set():
                        await self._listen()
                        self._tell_all()
                    await self._say_here()
            except (DatabaseError, UnsupportedError, OSError) as error:
                logger.warning("Changes are not heard at the moment: %s", error)
                self._lost.set()
                await asyncio.sleep(_PAUSE)

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if payload == str(self._id):
            self._probe.set()
        for watch in list(self._watches.get(str(payload), ())):
            watch.told()

    def _tell_all(self) -> None:
        for watches in list(self._watches.values()):
            for watch in list(watches):
                watch.told()

    def _ended(self, connection: object) -> None:
        if connection is self._connection:
            self._lost.set()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.terminate()
        tenants, self._told = self._told, set()
        with suppress(DatabaseError):  # the rows go by themselves when their time is over
            for tenant in tenants:
                database = self._database.for_tenant(tenant)
                await database.execute(self._away, tenant, self._id, repeat=Repeat.IDEMPOTENT)
