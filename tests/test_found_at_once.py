"""The statement that reads a question and answers it among few passages, beside the lists that indexes give."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from typing import Any

import pytest

from memory_plugin.capabilities import passages as passages_module
from memory_plugin.capabilities.memory_items import ItemPut
from memory_plugin.capabilities.passages import MEMORY, MESSAGE, REFERENCE, Candidate, Scope, Wanted
from memory_plugin.core import MemoryCore
from memory_plugin.ranking import Weights, fuse

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
ANIMALS = ("walrus", "otter", "heron", "badger", "lynx")
KINDS = [MEMORY, MESSAGE, REFERENCE]


@pytest.fixture
async def filled(database_url: str) -> AsyncIterator[MemoryCore]:
    """Two users' facts, some superseded, threads with gaps that no search sees, and a document."""
    async with MemoryCore.open(database_url) as core:
        await fill(core)
        yield core


async def fill(core: MemoryCore) -> None:
    for place, animal in enumerate(ANIMALS * 4):
        user = ("ann", "bea", None)[place % 3]
        await core.remember(
            f"The {animal} was seen {place} times near the {ANIMALS[place % 4]}",
            user_id=user, key=f"{animal} {place % 7}",
        )  # fmt: skip
    for user, thread in product(("ann", "bea"), ("one", "two")):
        said: list[Any] = []
        for place in range(14):
            ends = "? [aside]" if place % 3 == 0 else "."
            said.append({"role": "user", "content": f"In May the {ANIMALS[place % 5]} came, turn {place}{ends}"})
            said += [{"role": "assistant", "content": ""}] * (place % 4 * 3)
        await core.conversations.append(f"{user} {thread}", said, user_id=user)
    await core.references.add(text="\n\n".join(f"# {each}\n\nA {each} eats fish." for each in ANIMALS), title="Zoo")
    await core.indexed()


def by_id(candidates: list[Candidate]) -> dict[Any, tuple[Any, ...]]:
    found = {
        each.id: each._replace(words=round(each.words, 4), meaning=each.meaning and round(each.meaning, 4))
        for each in candidates
    }
    assert len(found) == len(candidates)
    return {each: tuple(candidate) for each, candidate in found.items()}


@pytest.mark.parametrize(
    "scope",
    [
        Scope(),
        Scope(user_id="ann"),
        Scope(user_id="ann", thread_id="ann two"),
        Scope(since=datetime.now(UTC) - timedelta(days=1), until=datetime.now(UTC) + timedelta(days=1)),
        Scope(until=START),
        Scope(user_id="bea", as_of=datetime.now(UTC) + timedelta(days=1)),
    ],
    ids=["tenant", "user", "thread", "between", "before all", "as of"],
)
async def test_it_gives_what_the_lists_nominate(filled: MemoryCore, scope: Scope) -> None:
    """Same passages, scores, neighbours and marks, with limits that cut and without."""
    passages = filled.passages
    for question, limit, surroundings in (("walrus in May", 4, 2), ("an otter and a heron", 100, 2), ("lynx", 3, 0)):
        vector = await passages.embed_query(question)
        times = await passages.time_words("may june")
        wanted = Wanted(vector, limit, surroundings, times)
        reading = await passages.read(question, KINDS, scope=scope, wanted=wanted)
        lists = await passages.search(
            words=question, vector=vector, kinds=KINDS, scope=scope, limit=limit, surroundings=surroundings,
            time_words=times,
        )  # fmt: skip
        assert reading.candidates is not None
        assert by_id(reading.candidates) == by_id(lists)
        assert (scope.until == START) == (not lists)


async def test_a_passage_with_several_vectors_is_as_near_as_the_nearest(filled: MemoryCore) -> None:
    """As the lists have it; the others are measured as before."""
    first, second = "A heron reads the weather", "Tax returns of the bank"
    item = {"first": first, "second": second}
    text, ends = f"{first}\n{second}", [len(first), len(first) + 1 + len(second)]
    await filled.memories.items.put([ItemPut(("zoo",), "parts", item, text, ends, index_fields=["first", "second"])])
    await filled.indexed()
    assert await filled.database.fetchval("SELECT max(part) FROM memory.embeddings") == 1
    passages = filled.passages
    for question in ("tax returns", "what does the heron read?"):
        vector = await passages.embed_query(question)
        reading = await passages.read(question, [MEMORY], wanted=Wanted(vector, 100))
        lists = await passages.search(words=question, vector=vector, kinds=[MEMORY], limit=100)
        assert by_id(reading.candidates or []) == by_id(lists)
        nearest = max(lists, key=lambda each: each.meaning or 0)
        assert (await filled.memories.hydrate([nearest.id]))[nearest.id]["key"] == "parts"


async def test_words_alone_nominate_without_a_vector(filled: MemoryCore) -> None:
    """Everything found has a word of the question, and no meaning."""
    reading = await filled.passages.read("walrus", KINDS, wanted=Wanted(None, 50))
    assert reading.candidates
    assert all(each.words > 0 and each.meaning is None for each in reading.candidates)


async def test_it_leaves_a_question_to_the_lists_while_anything_waits(filled: MemoryCore) -> None:
    """What is not in the index yet would be missing."""
    await filled._indexer.stop()
    filled.kick = lambda: None  # type: ignore[method-assign]
    await filled.remember("A walrus that nobody indexed")
    reading = await filled.passages.read("walrus", KINDS, wanted=Wanted(None, 50))
    assert reading.is_pending
    assert reading.candidates is None


async def test_it_leaves_a_question_to_the_lists_where_there_are_many(
    filled: MemoryCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring everything would take longer than asking indexes."""
    monkeypatch.setattr(passages_module, "FEW", 20)
    reading = await filled.passages.read("walrus", KINDS, wanted=Wanted(None, 50))
    assert reading.terms
    assert reading.candidates is None


def scale_of(candidates: list[Candidate]) -> tuple[float, ...]:
    meanings = [each.meaning for each in candidates if each.meaning is not None]
    return max(each.words for each in candidates), min(meanings), max(meanings)


async def test_the_rows_of_the_best_facts_come_with_the_candidates(filled: MemoryCore) -> None:
    """As many as are asked for, by the weights that are given, as if they were read by their ids."""
    passages = filled.passages
    vector = await passages.embed_query("walrus and otter")
    for of_words, of_meaning in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)):
        wanted = Wanted(vector, 50, 2, facts=6, of_words=of_words, of_meaning=of_meaning)
        reading = await passages.read("walrus and otter", KINDS, wanted=wanted)
        all_of_them = (await passages.read("walrus and otter", KINDS, wanted=Wanted(vector, 50, 2))).candidates or []
        facts = [each for each in all_of_them if each.kind == MEMORY]
        weights = Weights(words=of_words, meaning=of_meaning)
        kept = [each for each in reading.candidates or [] if each.kind == MEMORY]
        assert {each.id for each in kept} >= set(reading.facts)
        assert len(kept) <= 6 + 3 < len(facts)
        assert scale_of(reading.candidates or []) == scale_of(all_of_them), "scores must not depend on what is left out"
        best = [each.candidate.id for each in fuse(facts, weights)][:6]
        # equal scores may be cut in any order
        least = min(each.score for each in fuse(facts, weights) if each.candidate.id in best)
        scores = {each.candidate.id: each.score for each in fuse(facts, weights)}
        assert len(reading.facts) == 6 < len(facts)
        assert all(scores[id] >= least - 1e-9 for id in reading.facts)
        for id, row in (await filled.memories.hydrate(list(reading.facts))).items():
            assert {name: reading.facts[id][name] for name in row.keys()} == dict(row)  # noqa: SIM118 - a record


async def test_where_the_best_facts_came_to_their_end_the_others_are_found(filled: MemoryCore) -> None:
    """Of many facts only the best are given at first."""
    await filled.remember_many([f"The walrus sleeps, night {place}" for place in range(40)], user_id="ann")
    await filled.indexed()
    before = await filled.recall("walrus sleeps", user_id="ann", kinds=["memory"], limit=40)
    ended = [hit.id for hit in before[:20]]
    await filled.database.execute(
        "UPDATE memory.memories SET expires_at = now() - interval '1 second' WHERE item_id = ANY ($1::uuid[])", ended
    )
    after = await filled.recall("walrus sleeps", user_id="ann", kinds=["memory"], limit=4)
    assert [hit.text for hit in after] == [hit.text for hit in before[20:24]]


async def test_an_expired_fact_does_not_come_with_its_passage(filled: MemoryCore) -> None:
    await filled.database.execute("UPDATE memory.memories SET expires_at = now() - interval '1 second'")
    reading = await filled.passages.read("walrus", KINDS, wanted=Wanted(None, 50, facts=50))
    assert any(each.kind == MEMORY for each in reading.candidates or [])
    assert not reading.facts
    assert not await filled.recall("walrus", kinds=["memory"])


@pytest.mark.parametrize("come_along", [0, 3], ids=["none", "some"])
async def test_a_recall_answers_the_same_with_facts_that_come_along_and_without(
    filled: MemoryCore, monkeypatch: pytest.MonkeyPatch, come_along: int
) -> None:
    """What did not come along is read by its ids."""
    for place, memory in enumerate((await filled.memories.list(limit=20)).items):
        await filled.database.execute(
            "UPDATE memory.memories SET importance = $2 WHERE item_id = $1", memory.id, place % 5 / 4
        )
    asked = [("walrus in May", {}), ("otter", {"kinds": ["memory"], "limit": 2}), ("heron", {"explain": True})]
    answers = [await filled.recall(question, **how) for question, how in asked]  # type: ignore[arg-type]
    read = filled.passages.read

    async def fewer(*arguments: Any, **named: Any) -> Any:
        reading = await read(*arguments, **named)
        assert reading.facts
        return dataclasses.replace(reading, facts=dict(islice(reading.facts.items(), come_along)))

    monkeypatch.setattr(filled.passages, "read", fewer)
    assert [await filled.recall(question, **how) for question, how in asked] == answers  # type: ignore[arg-type]
