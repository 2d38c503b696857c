"""Facts from elsewhere: remembered by the hundred, counted by what became of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Protocol

from memory_plugin.capabilities.memories import Memories
from memory_plugin.capabilities.memory_batches import BATCH
from memory_plugin.capabilities.memory_facts import NewFact
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

    async def remember_many(
        self, facts: Iterable[str | NewFact], *, keep_going: bool
    ) -> list[MemoryItem | InvalidInputError]:
        """Store facts; the answers in their order, an error for each that cannot be stored."""


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
    given = iter(facts)
    while batch := list(islice(given, BATCH)):
        answers = await (_all_foreseen if dry_run else _remembered)(
            memory, [each for each in batch if isinstance(each, Fact)]
        )
        results = iter(answers)
        for each in batch:
            answer = each if isinstance(each, Failure) else next(results)
            if isinstance(each, Fact) and isinstance(answer, InvalidInputError):
                answer = Failure(each.line, "memory", str(answer))
            if isinstance(answer, Failure):
                report.failed.append(answer)
                continue
            assert not isinstance(answer, InvalidInputError)  # those are of facts
            report.counts[answer] += 1
            if on_progress is not None:
                on_progress(report)
    return report


async def _remembered(memory: Remembering, facts: Sequence[Fact]) -> list[WriteStatus | InvalidInputError]:
    items = await memory.remember_many([_new(fact) for fact in facts], keep_going=True)
    return [item if isinstance(item, InvalidInputError) else item.status or "created" for item in items]


def _new(fact: Fact) -> NewFact:
    new = NewFact(
        content=fact.content,
        thread_id=fact.thread_id,
        agent_id=fact.agent_id,
        key=fact.key,
        metadata=fact.metadata,
        valid_from=fact.valid_from,
    )
    if fact.user_id is not None:
        new["user_id"] = fact.user_id
    return new


async def _all_foreseen(memory: Remembering, facts: Sequence[Fact]) -> list[WriteStatus | InvalidInputError]:
    answers: list[WriteStatus | InvalidInputError] = []
    for fact in facts:
        try:
            answers.append(await _foreseen(memory, fact))
        except InvalidInputError as error:
            answers.append(error)
    return answers


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
