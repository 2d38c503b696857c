"""What is moved: checkpoints as both sides give them, and what became of each thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol

Status = Literal["new", "continued", "unchanged", "failed"]

MAX_REASONS = 3
"""Faults of one thread that are told in full; of more only how many there are."""


class Place(NamedTuple):
    """A checkpoint within its thread; sorts parents before children, as LangGraph's ids do."""

    checkpoint_id: str
    namespace: str


class ThreadSize(NamedTuple):
    """A thread and how many checkpoints it has."""

    thread_id: str
    checkpoints: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What an index says of a checkpoint, without its values: `at` is its own time, where it has one."""

    writes: int
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Write:
    """A pending write at its place among those of its task."""

    task_id: str
    task_path: str
    idx: int
    channel: str
    value: Any


@dataclass(frozen=True, slots=True)
class State:
    """A checkpoint as its saver gives it, with its writes in the order of LangGraph."""

    place: Place
    parent_id: str | None
    checkpoint: dict[str, Any]
    metadata: dict[str, Any]
    writes: Sequence[Write]

    @property
    def versions(self) -> dict[str, Any]:
        """The version of each channel."""
        versions: dict[str, Any] = self.checkpoint["channel_versions"]
        return versions

    @property
    def values(self) -> dict[str, Any]:
        """The value of each channel that has one."""
        values: dict[str, Any] = self.checkpoint["channel_values"]
        return values


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A checkpoint that its own side cannot give, and why."""

    place: Place
    reason: str


Found = State | Unreadable


class Source(Protocol):
    """One of the two databases, as a place where threads are."""

    def threads(self) -> AsyncIterator[ThreadSize]:
        """All threads that have a checkpoint, by id."""

    async def index(self, thread_id: str) -> dict[Place, Entry]:
        """What the thread has, without values."""

    def batches(self, thread_id: str, places: Sequence[Place]) -> AsyncIterator[list[Found]]:
        """These checkpoints in this order, as many at a time as memory may hold; absent ones are left out."""


class Target(Source, Protocol):
    """One of the two databases, as a place where threads are put."""

    async def put(self, thread_id: str, states: Sequence[tuple[State, Mapping[str, Any]]]) -> None:
        """Store checkpoints, each with the versions that differ from those of its parent."""

    async def date(self, thread_id: str, times: Mapping[Place, datetime]) -> None:
        """Give what was put the times it had."""

    async def finish(self, thread_id: str, index: Mapping[Place, Entry], *, ahead: bool) -> None:
        """The thread is complete and verified; `ahead` says that it has gone on there."""

    async def is_finished(self, thread_id: str, index: Mapping[Place, Entry]) -> bool:
        """Whether the thread was finished before, with these checkpoints."""


@dataclass(frozen=True, slots=True)
class ThreadResult:
    """What became of one thread.

    `checkpoints` are those in the source, `written` those put by this run, `compared` those whose
    values were compared with what the target gives back.
    """

    thread_id: str
    status: Status
    checkpoints: int
    written: int = 0
    compared: int = 0
    reason: str | None = None


@dataclass(slots=True)
class ItemCounts:
    """What became of the items of the store."""

    new: int = 0
    updated: int = 0
    unchanged: int = 0
    kept: int = 0
    """Changed or deleted in the target since: left as they are there."""
    expired: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)

    def fail(self, reason: str) -> None:
        """Count an item that could not be moved, and keep the reasons of the first hundred."""
        self.failed += 1
        if len(self.reasons) < 100:
            self.reasons.append(reason)


@dataclass(slots=True)
class Report:
    """What a run did."""

    threads: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(("new", "continued", "unchanged"), 0))
    failures: list[ThreadResult] = field(default_factory=list)
    checkpoints: int = 0
    written: int = 0
    compared: int = 0
    items: ItemCounts | None = None
    seconds: float = 0.0

    def add(self, result: ThreadResult) -> None:
        """Count a thread."""
        if result.status == "failed":
            self.failures.append(result)
        else:
            self.threads[result.status] += 1
        self.checkpoints += result.checkpoints
        self.written += result.written
        self.compared += result.compared

    @property
    def is_complete(self) -> bool:
        """Whether everything was moved, and nothing differs."""
        return not self.failures and (self.items is None or not self.items.failed)


class Progress(Protocol):
    """Hears how far it is."""

    def begin(self, what: str, total: int) -> None:
        """A part begins: "checkpoints" or "items"."""

    def advance(self, count: int) -> None:
        """So many more are done."""


def time_of(text: Any) -> datetime | None:
    """The time in a checkpoint's `ts`; None where there is none. Without a zone it is UTC."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
