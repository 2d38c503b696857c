"""Facts from elsewhere: remembered one by one, counted by what became of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from memory_plugin.capabilities.memories import Memories
from memory_plugin.capabilities.memory_values import USERS_ROOT, normalised_hash
from memory_plugin.errors import InvalidInputError
from memory_plugin.portable.importing import Failure
from memory_plugin.types import MemoryItem, WriteStatus
from memory_plugin.validation import clean_text

LONGEST_NAME = 200
"""Characters of a key that is made from names; a longer one becomes a digest."""


class Remembering(Protocol):
    """A store that facts go into."""

    memories: Memories
    user_id: str | None

    async def remember(
        self,
        content: str,
        *,
        user_id: str | None = None,
        thread_id: str | None = None,
        agent_id: str | None = None,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        valid_from: datetime | None = None,
        similar: bool = True,
    ) -> MemoryItem:
        """Store a fact."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact to remember, and the line it is from."""

    line: int
    content: str
    key: str | None
    metadata: Mapping[str, Any]
    user_id: str | None = None
    thread_id: str | None = None
    agent_id: str | None = None
    valid_from: datetime | None = None


@dataclass(slots=True)
class FactsReport:
    """What became of the facts; `counts` has created, updated and duplicate."""

    counts: Counter[WriteStatus] = field(default_factory=Counter)
    failed: list[Failure] = field(default_factory=list)


FactsProgress = Callable[[FactsReport], None]


def key_of(*names: str) -> str:
    """A key made from names, the same for the same names."""
    key = ":".join(names)
    return key if len(key) <= LONGEST_NAME else f"{names[0]}:{hashlib.sha256(key.encode()).hexdigest()}"


async def remember_all(
    memory: Remembering,
    facts: Iterable[Fact | Failure],
    *,
    dry_run: bool = False,
    on_progress: FactsProgress | None = None,
) -> FactsReport:
    """Remember each fact; one that cannot be stored is in the report, and the rest goes in.

    Args:
        dry_run: write nothing, and say what would become of each.
    """
    report = FactsReport()
    for fact in facts:
        if isinstance(fact, Failure):
            report.failed.append(fact)
            continue
        try:
            status = await (_foreseen(memory, fact) if dry_run else _remembered(memory, fact))
        except InvalidInputError as error:
            report.failed.append(Failure(fact.line, "memory", str(error)))
            continue
        report.counts[status] += 1
        if on_progress is not None:
            on_progress(report)
    return report


async def _remembered(memory: Remembering, fact: Fact) -> WriteStatus:
    item = await memory.remember(
        fact.content,
        user_id=fact.user_id,
        thread_id=fact.thread_id,
        agent_id=fact.agent_id,
        key=fact.key,
        metadata=fact.metadata,
        valid_from=fact.valid_from,
        similar=False,
    )
    assert item.status is not None  # on the answer of a write it is set
    return item.status


async def _foreseen(memory: Remembering, fact: Fact) -> WriteStatus:
    if not clean_text(fact.content, "The content of a memory").strip():
        raise InvalidInputError("The content of a memory is empty: give the fact as text.")
    user = fact.user_id if fact.user_id is not None else memory.user_id
    namespace = (USERS_ROOT, user) if user else (USERS_ROOT,)
    held = None if fact.key is None else await memory.memories.get_by_key(namespace, fact.key)
    if held is None:
        return "created"
    same = normalised_hash(held.content) == normalised_hash(fact.content) and held.metadata == fact.metadata
    return "duplicate" if same else "updated"
