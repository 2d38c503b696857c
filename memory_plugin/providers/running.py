"""Runs work on a connection of an engine of either kind, written once for both.

The work is a plain function of a `Connection`. An `AsyncEngine` runs it inside `run_sync`; an
`Engine` in a worker thread, so that the event loop goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from memory_plugin.bridge import Bridge
from memory_plugin.errors import ConfigurationError
from memory_plugin.providers.failures import FAILURES, is_busy, translate

T = TypeVar("T")

ATTEMPTS = 8
"""How often a transaction is tried while others are in its way."""


class Again(Exception):  # noqa: N818 - a signal between the parts, not an error that anybody sees
    """Somebody else wrote first: the transaction is to be done again from its start."""


class Runner:
    """Transactions on an engine that belongs to the application."""

    def __init__(self, engine: Engine | AsyncEngine) -> None:
        if not isinstance(engine, Engine | AsyncEngine):
            raise ConfigurationError(
                f"The engine is a {type(engine).__name__}: pass what create_engine() or create_async_engine() gives."
            )
        self._engine = engine
        self._bridge: Bridge | None = None
        self._started: Bridge | None = None

    @property
    def dialect(self) -> str:
        """postgresql, mysql, mariadb or sqlite."""
        return self._engine.dialect.name

    @property
    def target(self) -> str:
        """What to call the database in a message: without its password."""
        return f"the database {self._engine.url.render_as_string(hide_password=True)}"

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run it in a transaction of its own, again where others were in the way.

        Raises:
            DatabaseError: of the kind that says what happened.
            Again: others were in the way each time.
        """
        for attempt in range(ATTEMPTS):
            try:
                return await self._once(work)
            except Again:
                if attempt == ATTEMPTS - 1:
                    raise
            except FAILURES as error:
                if not is_busy(error) or attempt == ATTEMPTS - 1:
                    raise translate(error, self.target) from error
            await asyncio.sleep(random.random() * 0.005 * 2**attempt)  # noqa: S311 - only to part them
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, work: Callable[[Connection], T]) -> T:
        engine = self._engine
        if isinstance(engine, AsyncEngine):
            async with engine.begin() as connection:
                return await connection.run_sync(work)

        def call() -> T:
            with engine.begin() as connection:
                return work(connection)

        # a database in memory is another one in another thread
        if isinstance(engine.pool, SingletonThreadPool | StaticPool):
            return call()
        return await asyncio.to_thread(call)

    @property
    def bridge(self) -> Bridge:
        """The way of sync calls: to the running loop where an AsyncEngine is used in one, else to a loop of its own."""
        if self._bridge is None:
            self._bridge = self._running() or self.start()
        return self._bridge

    def _running(self) -> Bridge | None:
        if isinstance(self._engine, Engine):
            return None
        try:
            return Bridge.attach()
        except RuntimeError:  # no loop runs here
            return None

    def start(self) -> Bridge:
        """Start a loop for sync calls; `stop` ends it."""
        self._bridge = self._started = Bridge.start()
        return self._started

    def stop(self) -> None:
        """End the loop that was started, and give back the connections that belong to it; the engine stays usable."""
        started, self._started, self._bridge = self._started, None, None
        if started is not None:
            if isinstance(self._engine, AsyncEngine):
                started.run(self._engine.dispose())
            started.stop()
