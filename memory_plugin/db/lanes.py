"""Few lanes to the database for many callers: what waits for a lane goes together.

A call that finds a free lane runs at once, with nothing added to it. Only when all lanes are taken
calls wait, without a timer, and the next free lane takes as many of them as fit. So a thousand tasks
need a handful of connections, and a statement for hundreds of them instead of one for each.

One instance belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.db.joined import is_joined
from memory_plugin.errors import DatabaseUnavailableError, MemoryPluginError

LANES = 4

MOST = 500
"""Items that one statement takes."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


_Read = tuple[str, tuple[Any, ...]]


@dataclass(slots=True, eq=False)
class _Call(Generic[Item, Answer]):
    items: Item
    answer: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    caller: Any = None


class Watcher(Protocol):
    """Who wants to know for whom a statement runs."""

    def caller(self) -> Any:
        """Who calls now, when the call begins to wait."""

    def joined(self, callers: Sequence[Any]) -> AbstractContextManager[None]:
        """Entered while a statement runs for these."""


class _Lanes(ABC, Generic[Item, Answer]):
    """Hands calls to lanes; how waiting calls go together is up to the class."""

    watcher: Watcher | None = None

    def __init__(self, lanes: int) -> None:
        self._free = lanes
        self._tasks: set[asyncio.Task[None]] = set()

    async def _call(self, items: Item) -> Answer:
        if is_joined():
            return await self._alone(items)  # it has a connection already, and goes with nobody else's
        if self._free:
            self._free -= 1
            try:
                return await self._alone(items)
            finally:
                self._release()
        call: _Call[Item, Answer] = _Call(items)
        if self.watcher is not None:
            call.caller = self.watcher.caller()
        self._queue(call)
        return await call.answer

    def _release(self) -> None:
        """Give the lane to those who wait, in a task of their own so that the caller before need not stay."""
        calls = self._take()
        if not calls:
            self._free += 1
            return
        task = asyncio.get_running_loop().create_task(self._drive(calls))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, calls: Sequence[_Call[Item, Answer]]) -> None:
        try:
            wanted = [call for call in calls if not call.answer.done()]
            if wanted:
                await self._serve(wanted)
        finally:
            self._release()

    async def _serve(self, calls: list[_Call[Item, Answer]]) -> None:
        try:
            if self.watcher is None:
                await self._together(calls)
            else:
                with self.watcher.joined([call.caller for call in calls]):
                    await self._together(calls)
        except MemoryPluginError as error:
            if len(calls) == 1 or isinstance(error, DatabaseUnavailableError):
                _fail(calls, error)
            else:
                # one of them is to blame, and must not take the others with it
                for call in calls:
                    await self._serve([call])
        except asyncio.CancelledError:
            for call in calls:
                call.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait for an answer must hear it
            _fail(calls, error)

    @abstractmethod
    def _queue(self, call: _Call[Item, Answer]) -> None:
        """Let the call wait."""

    @abstractmethod
    def _take(self) -> Sequence[_Call[Item, Answer]]:
        """The waiting calls that go next, empty when none waits."""

    @abstractmethod
    async def _alone(self, items: Item) -> Answer:
        """The answer to one call."""

    @abstractmethod
    async def _together(self, calls: Sequence[_Call[Item, Answer]]) -> None:
        """Answer these calls."""


class JoinedCalls(_Lanes[list[Item], list[Answer]]):
    """Calls with lists of items; waiting ones are run as one list, each gets its part of the answers.

    The items of one call stay in one run.

    Args:
        run: gives one answer for each item, in order.
        key: items with equal keys of different calls must not be in one run, and keep their order.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[list[Answer]]],
        *,
        key: Callable[[Item], Hashable] | None = None,
        lanes: int = LANES,
        most: int = MOST,
    ) -> None:
        super().__init__(lanes)
        self._waiting: deque[_Call[list[Item], list[Answer]]] = deque()
        self._run = run
        self._key = key
        self._most = most

    async def __call__(self, items: list[Item]) -> list[Answer]:
        """The answers to these items."""
        return await self._call(items) if items else []

    async def _alone(self, items: list[Item]) -> list[Answer]:
        return await self._run(items)

    def _queue(self, call: _Call[list[Item], list[Answer]]) -> None:
        self._waiting.append(call)

    def _take(self) -> list[_Call[list[Item], list[Answer]]]:
        taken: list[_Call[list[Item], list[Answer]]] = []
        passed: list[_Call[list[Item], list[Answer]]] = []
        room = self._most
        keys: set[Hashable] = set()
        while self._waiting and (not taken or room > 0):
            call = self._waiting.popleft()
            own = {self._key(item) for item in call.items} if self._key is not None else set()
            if keys.isdisjoint(own):
                taken.append(call)
                room -= len(call.items)
            else:
                passed.append(call)
            keys |= own  # also those passed over: who comes later must not overtake them
        self._waiting.extendleft(reversed(passed))
        return taken

    async def _together(self, calls: Sequence[_Call[list[Item], list[Answer]]]) -> None:
        answers = await self._run([item for call in calls for item in call.items])
        start = 0
        for call in calls:
            end = start + len(call.items)
            if not call.answer.done():
                call.answer.set_result(answers[start:end])
            start = end


class SharedReads(_Lanes[_Read, list[Record]]):
    """Reading statements; of waiting calls the equal ones share one answer."""

    def __init__(self, database: Database, *, lanes: int = LANES) -> None:
        super().__init__(lanes)
        self._waiting: dict[str, list[_Call[_Read, list[Record]]]] = {}
        self._database = database

    async def fetch(self, statement: str, *arguments: Any) -> list[Record]:
        """All rows of one statement; not to be changed by the caller."""
        return await self._call((statement, arguments))

    async def _alone(self, items: _Read) -> list[Record]:
        statement, arguments = items
        return await self._database.fetch(statement, *arguments, repeat=Repeat.READ)

    def _queue(self, call: _Call[_Read, list[Record]]) -> None:
        self._waiting.setdefault(repr(call.items), []).append(call)

    def _take(self) -> list[_Call[_Read, list[Record]]]:
        return self._waiting.pop(next(iter(self._waiting))) if self._waiting else []

    async def _together(self, calls: Sequence[_Call[_Read, list[Record]]]) -> None:
        rows = await self._alone(calls[0].items)
        for call in calls:
            if not call.answer.done():
                call.answer.set_result(rows)


def _fail(calls: Sequence[_Call[Any, Any]], error: Exception) -> None:
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(error)
