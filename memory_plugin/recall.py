"""Recall: read the question, nominate candidates by words and by meaning, rank them, and cite.

Both lists nominate whatever kind it is of; what ranks them then, and how much each signal counts, is
in `memory_plugin.ranking`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from memory_plugin.capabilities.memory_filters import filter_condition, prefix_condition
from memory_plugin.capabilities.passages import CANDIDATES, MEMORY, MESSAGE, REFERENCE, Scope
from memory_plugin.errors import EmbeddingError, InvalidInputError
from memory_plugin.jsonable import loads_exact
from memory_plugin.ranking import Reranker, Scored, Weights, fuse, reranked
from memory_plugin.ranking.rerank import DEPTH
from memory_plugin.searching import Search
from memory_plugin.types import HIT_KINDS, Hit, HitKind, Hits, Message
from memory_plugin.validation import (
    MAX_QUERY,
    clean_text,
    moment,
    namespace_path,
    optional_identifier,
    positive_limit,
)

if TYPE_CHECKING:
    from memory_plugin.capabilities.conversations import Conversations
    from memory_plugin.capabilities.memories import Memories
    from memory_plugin.capabilities.passages import Passages
    from memory_plugin.capabilities.references import ReferenceRow, References
    from memory_plugin.db.database import Record

KINDS: Final = (MEMORY, MESSAGE, REFERENCE)
KIND_NUMBERS: Final[Mapping[str, int]] = {"memory": MEMORY, "message": MESSAGE, "reference": REFERENCE}


SPARE: Final = 4
"""Hits that are read beyond those asked for, in case some fall out."""

SOME: Final = 8
"""Those that are read at first beyond twice as many as asked for, at the most."""


class Recall:
    """The one search over memories, messages and references."""

    def __init__(
        self,
        passages: Passages,
        memories: Memories,
        conversations: Conversations,
        references: References,
        *,
        weights: Weights | None = None,
    ) -> None:
        self._passages = passages
        self._memories = memories
        self._conversations = conversations
        self._references = references
        self._weights = weights
        self.embedding_error: EmbeddingError | None = None
        """Why the last query could not be embedded: it was answered by words alone."""

    async def search(
        self,
        query: str,
        *,
        user_id: str | None,
        thread_id: str | None,
        namespace: Sequence[str] | None,
        kinds: Sequence[HitKind],
        limit: int,
        as_of: datetime | None,
        since: datetime | None,
        until: datetime | None,
        filter: Mapping[str, Any] | None,
        collection: str | None,
        weights: Weights | None = None,
        rerank: Reranker | None = None,
        explain: bool = False,
    ) -> Hits:
        """As `MemoryCore.recall`, with everything resolved."""
        text = clean_text(query, "query", limit=10 * MAX_QUERY)[:MAX_QUERY]
        size = positive_limit(limit, maximum=1000)
        scope = Scope(
            user_id=optional_identifier(user_id, "user_id"),
            thread_id=optional_identifier(thread_id, "thread_id"),
            since=moment(since, "since"),
            until=moment(until, "until"),
            as_of=moment(as_of, "as_of"),
        )
        numbers = _kind_numbers(kinds, namespace)
        conditions = self._conditions(numbers, namespace, filter, collection, scope.as_of)
        if not text.strip() or size == 0 or not numbers:
            return Hits()
        wanted = size if rerank is None else max(size, DEPTH)

        async def found(facts: int) -> tuple[Search, list[Hit]]:
            limit, given = max(CANDIDATES, 2 * size), weights or self._weights
            search = Search(self._passages, text, numbers, scope, conditions, limit, facts=facts, weights=given)
            candidates, chosen = await search.run(), search.weights
            ranked = [each for each in fuse(candidates, chosen, search.question) if each.score > 0]
            hits = _Found(scope.as_of, chosen, explain=explain)
            return search, await self._hits(ranked, wanted, hits, search.facts)

        search, hits = await found(2 * wanted + SOME)
        if len(hits) < wanted and search.is_cut:
            search, hits = await found(0)  # most of the best came to their end
        self.embedding_error = search.embedding_error
        if rerank is not None:
            hits = (await reranked(rerank, text, hits))[:size]
        return Hits(hits, words_only=search.words_only)

    def _conditions(
        self,
        kinds: Sequence[int],
        namespace: Sequence[str] | None,
        filter: Mapping[str, Any] | None,
        collection: str | None,
        as_of: datetime | None,
    ) -> dict[int, tuple[str, list[Any]]]:
        """What else each kind must fulfil, as SQL on the passage `p`."""
        conditions: dict[int, tuple[str, list[Any]]] = {}
        memory = _Conjunction()
        if namespace is not None:
            memory.add(*prefix_condition(namespace_path(namespace), "m.namespace"))
        if as_of is not None:
            memory.add("coalesce(m.valid_from <= {0}, true) AND coalesce(m.valid_to > {0}, true)", [as_of])
        if filter is not None:
            memory.add(*filter_condition(filter, "m.metadata"))
            conditions[MESSAGE] = _exists(
                "conversations m", "m.thread_id = p.thread_id", filter_condition(filter, "m.metadata")
            )
        if memory.parts:
            conditions[MEMORY] = _exists("memories m", "m.id = p.id", memory.condition())
        reference = _Conjunction()
        if collection is not None:
            reference.add("m.collection = {0}", [collection])
        if filter is not None:
            reference.add(*filter_condition(filter, "m.metadata"))
        if reference.parts:
            conditions[REFERENCE] = _exists("documents m", "m.id = p.document_id", reference.condition())
        return {kind: condition for kind, condition in conditions.items() if kind in kinds}

    async def _hits(self, ranked: Sequence[Scored], size: int, hits: _Found, facts: Mapping[UUID, Record]) -> list[Hit]:
        """The first `size` with everything a person wants to know about them.

        More are read than asked for: what expired, or repeats a message, falls out here, and importance, which only
        the rows know, changes the order. The rows of `facts` are known already.
        """
        start, end = 0, hits.first_read(ranked, size)
        while len(hits) < size and start < len(ranked):
            some = ranked[start:end]
            ids = {kind: [each.candidate.id for each in some if each.candidate.kind == kind] for kind in KINDS}
            places = [
                (str(each.candidate.thread_id), int(each.candidate.seq or 0))
                for each in some
                if each.candidate.kind == MESSAGE
            ]
            unread = [id for id in ids[MEMORY] if id not in facts]
            memories, messages, references = await _together(
                partial(self._memories.hydrate, unread) if unread else None,
                partial(self._conversations.hydrate, places) if places else None,
                partial(self._references.hydrate, ids[REFERENCE]) if ids[REFERENCE] else None,
            )
            memories |= facts
            for each in some:
                hits.add(each, memories, messages, references)
            start, end = end, end + size
        return hits.best(size)


class _Found:
    """Hits as their rows come in, each message once."""

    def __init__(self, as_of: datetime | None, weights: Weights, *, explain: bool) -> None:
        self._as_of = as_of
        self._moment = as_of or datetime.now(UTC)
        self._weights = weights
        self._explain = explain
        # of a fact only its row: hardly half of those that are read are among the best
        self._found: list[tuple[float, Hit | tuple[Scored, Record]]] = []
        self._said: dict[tuple[str | None, str], int] = {}

    def __len__(self) -> int:
        return len(self._found)

    def first_read(self, ranked: Sequence[Scored], size: int) -> int:
        """How many to read at first: a few more than asked for, and those that importance may bring among them."""
        least = ranked[size - 1].score - abs(self._weights.importance) if len(ranked) > size else 0.0
        end = min(size + SPARE, len(ranked))
        while end < min(2 * size + SOME, len(ranked)) and ranked[end].score > least:
            end += 1
        return end

    def add(
        self,
        scored: Scored,
        memories: Mapping[UUID, Record],
        messages: Mapping[tuple[str, int], Message],
        references: Mapping[UUID, ReferenceRow],
    ) -> None:
        """Take a candidate, if what was read has its row and the row is to be seen."""
        candidate = scored.candidate
        if candidate.kind == MEMORY:
            row = memories.get(candidate.id)
            # the row has the last word: the index may have been made while the fact was superseded
            if row is not None and self._is_current(row):
                self._found.append((scored.score + self._importance(row), (scored, row)))
        elif candidate.kind == MESSAGE:
            message = messages.get((str(candidate.thread_id), int(candidate.seq or 0)))
            if message is not None:
                self._add_message(_message_hit(scored, message, self._parts(scored.parts)))
        elif (row_of_chunk := references.get(candidate.id)) is not None:
            self._found.append((scored.score, _reference_hit(scored, row_of_chunk, self._parts(scored.parts))))

    def _add_message(self, hit: Hit) -> None:
        # of an edited message the newest version stays, in the better place of the two
        place = self._said.get((hit.thread_id, hit.message_id)) if hit.message_id else None
        if place is not None:
            earlier = self._found[place][1]
            assert isinstance(earlier, Hit)
            if (hit.at or _EPOCH) > (earlier.at or _EPOCH):
                self._found[place] = (hit.score, hit)
            return
        if hit.message_id:
            self._said[hit.thread_id, hit.message_id] = len(self._found)
        self._found.append((hit.score, hit))

    def _is_current(self, row: Record) -> bool:
        valid_to, superseded_at = row["valid_to"], row["superseded_at"]
        if valid_to is not None and valid_to <= self._moment:
            return False
        return superseded_at is None or (self._as_of is not None and superseded_at > self._as_of)

    def _importance(self, row: Record) -> float:
        return self._weights.importance * (round(float(row["importance"]), 6) - 0.5)

    def _parts(self, parts: dict[str, float]) -> dict[str, float]:
        """All of them where they are asked for, else those that had something to say."""
        return parts if self._explain else {name: part for name, part in parts.items() if part}

    def best(self, size: int) -> list[Hit]:
        """The first ones."""
        self._found.sort(key=lambda each: -each[0])
        return [hit if isinstance(hit, Hit) else self._memory_hit(*hit) for _, hit in self._found[:size]]

    def _memory_hit(self, scored: Scored, row: Record) -> Hit:
        parts = self._parts({**scored.parts, "importance": self._importance(row)})
        source = None if row["source"] is None else loads_exact(row["source"])
        return Hit(
            kind="memory",
            id=str(row["item_id"]),
            text=row["content"],
            score=sum(parts.values()),
            at=row["valid_from"] or row["recorded_at"],
            user_id=row["user_id"],
            thread_id=row["thread_id"],
            message_id=None if source is None else source.get("message_id"),
            namespace=tuple(row["namespace"]),
            key=row["key"],
            metadata=loads_exact(row["metadata"]),
            trust=row["trust"],
            flagged=scored.candidate.flagged,
            parts=parts,
        )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Conjunction:
    """Conditions joined by AND, their arguments renumbered one after the other."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.arguments: list[Any] = []

    def add(self, template: str, arguments: Sequence[Any]) -> None:
        first = len(self.arguments)
        self.parts.append(template.format(*(f"{{{first + place}}}" for place in range(len(arguments)))))
        self.arguments.extend(arguments)

    def condition(self) -> tuple[str, list[Any]]:
        return " AND ".join(f"({part})" for part in self.parts), self.arguments


def _exists(table: str, join: str, condition: tuple[str, list[Any]]) -> tuple[str, list[Any]]:
    template, arguments = condition
    return (
        f"EXISTS (SELECT FROM {{{{s}}}}.{table} WHERE m.tenant_id = p.tenant_id AND {join} AND {template})",
        arguments,
    )


def _kind_numbers(kinds: Sequence[HitKind], namespace: Sequence[str] | None) -> list[int]:
    names = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    for name in names:
        if name not in KIND_NUMBERS:
            raise InvalidInputError(f"Unknown kind {name!r}: use {', '.join(HIT_KINDS)}.")
    numbers = [KIND_NUMBERS[name] for name in dict.fromkeys(names)]
    return [number for number in numbers if namespace is None or number == MEMORY]


def _message_hit(scored: Scored, message: Message, parts: dict[str, float]) -> Hit:
    return Hit(
        kind="message",
        id=str(message.id),
        text=message.text,
        score=scored.score,
        at=message.at,
        user_id=scored.candidate.user_id,
        thread_id=message.thread_id,
        message_id=message.message_id,
        speaker=message.name or message.role,
        trust={"human": "user", "ai": "assistant", "tool": "tool", "system": "system"}.get(message.role, "user"),
        flagged=scored.candidate.flagged,
        parts=parts,
    )


def _reference_hit(scored: Scored, row: ReferenceRow, parts: dict[str, float]) -> Hit:
    return Hit(
        kind="reference",
        id=str(scored.candidate.id),
        text=row.text,
        score=scored.score,
        at=scored.candidate.said_at,
        user_id=scored.candidate.user_id,
        metadata=row.metadata,
        citation=row.citation,
        trust="document",
        flagged=scored.candidate.flagged,
        parts=parts,
    )


async def _together(*reads: Callable[[], Awaitable[dict[Any, Any]]] | None) -> list[dict[Any, Any]]:
    """What each gives, at the same time; nothing for None."""
    found: list[dict[Any, Any]] = [{} for _ in reads]
    wanted = [(place, read) for place, read in enumerate(reads) if read is not None]
    if len(wanted) == 1:
        # most answers are of one kind, and need no task of their own
        ((place, read),) = wanted
        found[place] = await read()
        return found
    for (place, _), answer in zip(wanted, await asyncio.gather(*(read() for _, read in wanted)), strict=True):
        found[place] = answer
    return found
