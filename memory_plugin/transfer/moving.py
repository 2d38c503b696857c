"""Moving threads from one side to the other: put what is not there, compare, and finish.

Nothing is noted beside the threads themselves: what the target has says how far it is. So a run
that was ended at any point is continued by the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from memory_plugin.errors import DatabaseUnavailableError, MemoryPluginError, StorageFullError
from memory_plugin.transfer.comparing import difference
from memory_plugin.transfer.values import (
    MAX_REASONS,
    Entry,
    Found,
    Place,
    Progress,
    Report,
    Source,
    State,
    Status,
    Target,
    ThreadResult,
    ThreadSize,
    Unreadable,
)

WORKERS = 4
"""Threads that are moved at the same time."""


@dataclass(slots=True)
class _Faults:
    """What went wrong with one thread."""

    reasons: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, place: Place, reason: str) -> None:
        self.count += 1
        if len(self.reasons) < MAX_REASONS:
            where = f"{place.namespace}/{place.checkpoint_id}" if place.namespace else place.checkpoint_id
            self.reasons.append(f"checkpoint {where}: {reason}")

    @property
    def text(self) -> str | None:
        if not self.count:
            return None
        more = f"; and {self.count - len(self.reasons):,} more checkpoints" if self.count > len(self.reasons) else ""
        return "; ".join(self.reasons) + more


class Mover:
    """Moves threads.

    Args:
        verify_only: put nothing, compare everything.
        dry_run: put nothing and compare nothing: only say what would be put.
    """

    def __init__(
        self,
        source: Source,
        target: Target,
        progress: Progress,
        *,
        verify_only: bool = False,
        dry_run: bool = False,
        verify: bool = True,
    ) -> None:
        self.source = source
        self.target = target
        self.progress = progress
        self.verify_only = verify_only
        self.dry_run = dry_run
        self.verify = verify or verify_only

    async def run(self, report: Report) -> None:
        """Move every thread that the source shows; one that cannot be moved does not stop the others.

        Raises:
            MemoryPluginError: one of the databases is gone, or full.
        """
        total = 0
        async for size in self.source.threads():
            total += size.checkpoints
        self.progress.begin("checkpoints", total)
        waiting: asyncio.Queue[ThreadSize | None] = asyncio.Queue(WORKERS)

        async def feed() -> None:
            async with aclosing(cast("Any", self.source.threads())) as sizes:
                async for size in sizes:
                    await waiting.put(size)
            for _ in range(WORKERS):
                await waiting.put(None)

        async def work() -> None:
            while (size := await waiting.get()) is not None:
                report.add(await self._move(size))

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(feed())
                for _ in range(WORKERS):
                    group.create_task(work())
        except ExceptionGroup as several:
            raise several.exceptions[0] from several

    async def _move(self, size: ThreadSize) -> ThreadResult:
        done = _Counter(self.progress, size.checkpoints)
        try:
            return await _ThreadMove(self, size.thread_id, done).run()
        except (DatabaseUnavailableError, StorageFullError):
            raise
        except MemoryPluginError as error:
            return ThreadResult(size.thread_id, "failed", size.checkpoints, reason=str(error))
        except Exception as error:  # noqa: BLE001 - values and serializers are the application's: name the thread
            return ThreadResult(size.thread_id, "failed", size.checkpoints, reason=f"{type(error).__name__}: {error}")
        finally:
            done.rest()


class _Counter:
    """A thread's part of the progress: each checkpoint once, however often it is looked at."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._left = total

    def advance(self, count: int) -> None:
        count = min(count, self._left)
        self._left -= count
        self._progress.advance(count)

    def rest(self) -> None:
        self.advance(self._left)


class _ThreadMove:
    """One thread on its way."""

    def __init__(self, mover: Mover, thread_id: str, done: _Counter) -> None:
        self._source = mover.source
        self._target = mover.target
        self._mover = mover
        self._id = thread_id
        self._done = done
        self._faults = _Faults()
        self._versions: dict[Place, tuple[Mapping[str, Any], frozenset[str]]] = {}
        self._written = 0
        self._compared = 0

    async def run(self) -> ThreadResult:
        index = await self._source.index(self._id)
        there = await self._target.index(self._id)
        ahead = there.keys() - index.keys()
        missing = {place for place, entry in index.items() if _is_missing(place, entry, there)}
        status: Status = "unchanged" if not missing else "continued" if there else "new"
        mover = self._mover
        conflict = _conflict(index, there)
        if missing and conflict:
            return self._result(index, "failed", conflict)
        if mover.dry_run:
            return self._result(index, status, None)
        if mover.verify_only:
            return await self._verified(index, there, "unchanged", ahead=bool(ahead))
        if not missing and await self._target.is_finished(self._id, index):
            return self._result(index, "unchanged", None)
        await self._put(sorted(index), index, missing, there)
        return await self._verified(index, index | there, status, ahead=bool(ahead))

    def _result(self, index: Mapping[Place, Entry], status: Status, reason: str | None) -> ThreadResult:
        return ThreadResult(self._id, status, len(index), self._written, self._compared, reason)

    # -- putting

    async def _put(
        self,
        places: Sequence[Place],
        index: Mapping[Place, Entry],
        missing: set[Place],
        there: Mapping[Place, Entry],
    ) -> None:
        wanted = [place for place in places if place in missing]
        async for batch in _each(self._source.batches(self._id, wanted)):
            states = [each for each in batch if isinstance(each, State)]
            for each in batch:
                if isinstance(each, Unreadable):
                    self._faults.add(each.place, each.reason)
            await self._target.put(self._id, [(state, self._new_versions(state)) for state in states])
            times = {state.place: at for state in states if (at := index[state.place].at) is not None}
            await self._target.date(self._id, times)
            self._written += len(states)
            self._done.advance(len(states) // 2)
        # of a run that was ended between storing a batch and dating it
        undated = {
            place: at
            for place in places
            if place not in missing and (at := index[place].at) is not None and there[place].at not in {None, at}
        }
        await self._target.date(self._id, undated)

    def _new_versions(self, state: State) -> dict[str, Any]:
        """The versions that the parent has not: all where the parent was not put by this run."""
        versions, present = state.versions, frozenset(state.values)
        self._versions[state.place] = (versions, present)
        parent = self._versions.get(Place(state.parent_id or "", state.place.namespace))
        if parent is None:
            return versions
        old, had = parent
        return {
            name: version
            for name, version in versions.items()
            if old.get(name) != version or (name in present) != (name in had)
        }

    # -- comparing

    async def _verified(
        self, index: Mapping[Place, Entry], there: Mapping[Place, Entry], status: Status, *, ahead: bool
    ) -> ThreadResult:
        if self._mover.verify:
            known = {place for place in index if place in there}
            for place in sorted(index.keys() - known):
                self._faults.add(place, "it is not there")
            async for batch in _each(self._source.batches(self._id, sorted(known))):
                await self._compare(batch, ahead=ahead)
                self._done.advance(len(batch))
        if self._faults.count:
            return self._result(index, "failed", self._faults.text)
        if not self._mover.verify_only:
            await self._target.finish(self._id, index, ahead=ahead)
        return self._result(index, status, None)

    async def _compare(self, batch: Sequence[Found], *, ahead: bool) -> None:
        targets: dict[Place, Found] = {}
        states = [each for each in batch if isinstance(each, State)]
        async for found in _each(self._target.batches(self._id, [state.place for state in states])):
            targets |= {each.place: each for each in found}
        for each in batch:
            if isinstance(each, Unreadable):
                if self._mover.verify_only:
                    self._faults.add(each.place, each.reason)
                continue
            other = targets.get(each.place)
            if isinstance(other, State):
                differs = difference(each, other, ahead=ahead)
            else:
                differs = "it is not there" if other is None else f"it cannot be read there: {other.reason}"
            if differs is not None:
                self._faults.add(each.place, differs)
            self._compared += 1


def _is_missing(place: Place, entry: Entry, there: Mapping[Place, Entry]) -> bool:
    return place not in there or there[place].writes < entry.writes


def _conflict(index: Mapping[Place, Entry], there: Mapping[Place, Entry]) -> str | None:
    """Why nothing may be added: the thread went on in the target by itself."""
    common = index.keys() & there.keys()
    if there and not common:
        return "another conversation with this id is there already: delete or rename one of the two"
    newest = max(common, default=None)
    if newest is not None and any(place > newest for place in there.keys() - index.keys()):
        return "it went on both in the source and in the target: delete it in the target to move it anew"
    return None


def _each(batches: AsyncIterator[list[Found]]) -> AsyncIterator[list[Found]]:
    return _closing(batches)


async def _closing(batches: AsyncIterator[list[Found]]) -> AsyncIterator[list[Found]]:
    async with aclosing(cast("Any", batches)) as all_of_them:
        async for batch in all_of_them:
            yield batch
