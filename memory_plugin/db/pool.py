"""The pool of one event loop: an idle connection is taken and given back without awaiting.

SQLAlchemy's engine owns it like any other pool: it makes the connections, and whoever asks the
engine waits in the same line as the statements that run on the raw connection.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, cast

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, Pool
from sqlalchemy.util import await_only, greenlet_spawn


class LoopPool(Pool):
    """At most `pool_size` connections; the one used last is taken first, who waited longest is served first.

    All of it happens on one event loop, so nothing is locked. While anybody waits nothing is idle:
    what comes back goes to the head of the line at once.

    Args:
        creator: how SQLAlchemy opens a connection.
        pool_size: connections at the most, at least one.
        timeout: seconds to wait for a connection before `sqlalchemy.exc.TimeoutError`.
        options: what every pool of SQLAlchemy takes.
    """

    _is_asyncio = True

    def __init__(self, creator: Any, pool_size: int = 8, timeout: float = 30.0, **options: Any) -> None:
        super().__init__(creator, **options)
        self._size = pool_size
        self._timeout = timeout
        self._idle: list[ConnectionPoolEntry] = []
        # each is answered with a connection, or with None: the right to make one
        self._line: deque[asyncio.Future[ConnectionPoolEntry | None]] = deque()
        self._made = 0
        self._disposed = False
        self._retired = 0.0

    # -- without awaiting

    def take(self, tenant: str | None = None) -> ConnectionPoolEntry | None:
        """An idle connection that is open as far as the client knows; None where there is none.

        Args:
            tenant: one whose session sees this tenant's rows already is taken before others.
        """
        idle = self._idle
        while idle:
            entry = idle.pop(_place_of(tenant, idle))
            if _is_open(entry):
                return entry
            self._made -= 1
        return None

    def give(self, entry: ConnectionPoolEntry) -> None:
        """Take a connection back; a closed one leaves its place to another."""
        if _is_open(entry) and (self._disposed or cast("Any", entry).starttime <= self._retired):
            _driver(entry).terminate()
        if not _is_open(entry):
            self._vacate()
        elif (turn := self._next_turn()) is not None:
            turn.set_result(entry)
        else:
            self._idle.append(entry)

    def retire(self) -> None:
        """Replace every connection that there is now: the idle ones at once, the others when they come back."""
        idle, self._idle = self._idle, []
        self._made -= len(idle)
        self._retired = time.time()
        for entry in idle:
            _driver(entry).terminate()

    def _vacate(self) -> None:
        if (turn := self._next_turn()) is not None:
            turn.set_result(None)
        else:
            self._made -= 1

    def _next_turn(self) -> asyncio.Future[ConnectionPoolEntry | None] | None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():  # neither cancelled nor too late
                return turn
        return None

    # -- with awaiting

    async def acquire(self) -> ConnectionPoolEntry:
        """A connection: an idle one, a new one, or the next that is given back.

        Raises:
            sqlalchemy.exc.TimeoutError: none was given back in time.
        """
        entry = self.take()
        if entry is not None:
            return entry
        if self._made < self._size:
            self._made += 1
        else:
            entry = await self._wait()
        if entry is not None:
            return entry
        try:
            return cast("ConnectionPoolEntry", await greenlet_spawn(self._create_connection))
        except BaseException:
            self._vacate()
            raise

    async def _wait(self) -> ConnectionPoolEntry | None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[ConnectionPoolEntry | None] = loop.create_future()
        self._line.append(turn)
        timer = loop.call_later(self._timeout, self._be_late, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                given = turn.result()  # it came in the same moment: to the next in line
                if given is None:
                    self._vacate()
                else:
                    self.give(given)
            raise
        finally:
            timer.cancel()

    def _be_late(self, turn: asyncio.Future[ConnectionPoolEntry | None]) -> None:
        if not turn.done():
            turn.set_exception(PoolTimeout(f"none of {self._size} connections was free for {self._timeout:g} s"))

    # -- what SQLAlchemy asks of a pool

    def _do_get(self) -> ConnectionPoolEntry:
        return await_only(self.acquire())

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        self.give(record)

    def recreate(self) -> LoopPool:
        """An empty pool of the same kind, for the engine to go on with after `dispose`."""
        return type(self)(
            self._creator,
            pool_size=self._size,
            timeout=self._timeout,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            pre_ping=self._pre_ping,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )

    def dispose(self) -> None:
        """Close what is idle now; what is in use is closed when it comes back."""
        self._disposed = True
        idle, self._idle = self._idle, []
        self._made -= len(idle)
        try:
            while idle:
                idle.pop().close()
        finally:
            for entry in idle:  # closing was interrupted: no time for goodbyes
                _driver(entry).terminate()

    def status(self) -> str:
        """The counts, for a log."""
        return f"{self.size()} at the most, {self.checkedin()} idle, {self.checkedout()} in use"

    def size(self) -> int:
        """Connections at the most."""
        return self._size

    def checkedin(self) -> int:
        """Connections that are idle."""
        return len(self._idle)

    def checkedout(self) -> int:
        """Connections in use, or being opened."""
        return self._made - len(self._idle)

    def waiting(self) -> int:
        """Callers in line for a connection."""
        return sum(not turn.done() for turn in list(self._line))


def _place_of(tenant: str | None, idle: list[ConnectionPoolEntry]) -> int:
    """The place of the latest connection that was told this tenant; of the latest where none was."""
    for place in range(len(idle) - 1, -1, -1):
        if getattr(idle[place].driver_connection, "tenant", None) == tenant:
            return place
    return -1


def _driver(entry: ConnectionPoolEntry) -> Any:
    return entry.driver_connection


def _is_open(entry: ConnectionPoolEntry) -> bool:
    connection = entry.driver_connection
    return connection is not None and not connection.is_closed()
