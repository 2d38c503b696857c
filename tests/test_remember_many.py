"""Many facts at once: the answers and the history of one after the other, in a few statements."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from memory_plugin import indexer
from memory_plugin.capabilities.memory_batches import BATCH
from memory_plugin.core import MemoryCore
from memory_plugin.errors import InvalidInputError, SecretRefusedError
from memory_plugin.portable.facts import Fact, remember_all
from memory_plugin.portable.importing import Failure
from tests.counting import counted

SECRET = "The wifi password is hunter2"


def some_facts(seed: int, count: int) -> list[Any]:
    """Few texts, keys and users, so that most meet one another."""
    chance = random.Random(seed)
    facts: list[Any] = []
    for _ in range(count):
        text = f"Fact {chance.randrange(12)} is {chance.choice(['so', 'SO', 'otherwise'])}"
        fact: dict[str, Any] = {"content": text, "user_id": chance.choice(["a", "b"])}
        if chance.random() < 0.5:
            fact["key"] = f"key {chance.randrange(4)}"
        if chance.random() < 0.3:
            fact["metadata"] = {"n": chance.randrange(2)}
        facts.append(text if chance.random() < 0.1 else fact)
    return facts


async def state_of(core: MemoryCore) -> list[tuple[Any, ...]]:
    rows = await core.database.fetch(
        "SELECT namespace, key, version, content, metadata::text AS metadata, superseded_at IS NULL AS is_current "
        "FROM memory.memories WHERE tenant_id = $1",
        core.tenant,
    )
    return sorted((tuple(row["namespace"]), row["key"], row["version"], *tuple(row)[3:]) for row in rows)


@pytest.mark.parametrize("seed", [1, 2])
async def test_many_at_once_answer_as_one_by_one(database_url: str, seed: int) -> None:
    """Also where they repeat and supersede each other, and what was there before."""
    async with MemoryCore.open(database_url, embeddings="none") as core:
        singly, together = core.for_tenant("singly"), core.for_tenant("together")
        for part in (1, 2):
            facts = some_facts(10 * seed + part, 60)
            one_by_one = [
                await singly.remember(**({"content": fact} if isinstance(fact, str) else fact), similar=False)
                for fact in facts
            ]
            at_once = await together.remember_many(facts)
            assert [(item.status, item.version, item.key, item.content) for item in at_once] == [
                (item.status, item.version, item.key, item.content) for item in one_by_one
            ]
        assert {item.status for item in at_once} == {"created", "updated", "duplicate"}
        assert await state_of(together) == await state_of(singly)
        found = await together.recall("otherwise", user_id="a", kinds=("memory",))
        assert found and all("otherwise" in hit.text for hit in found)


async def test_a_thousand_facts_are_two_statements(core: MemoryCore) -> None:
    core.kick = lambda: None  # type: ignore[method-assign]
    async with counted(core.database) as sent:
        answers = await core.remember_many(f"Fact number {place}" for place in range(2 * BATCH))
    assert len(sent) == 2
    assert [answer.content for answer in answers] == [f"Fact number {place}" for place in range(2 * BATCH)]
    assert {answer.status for answer in answers} == {"created"}


@pytest.mark.parametrize(("count", "left"), [(2 * BATCH, 0), (20, 20)])
async def test_what_fills_a_statement_is_indexed_while_more_is_written(
    core: MemoryCore, monkeypatch: pytest.MonkeyPatch, count: int, left: int
) -> None:
    """Few facts wait for others to come, which a conversation's do."""
    monkeypatch.setattr(indexer, "QUIET", 60.0)
    await core.remember_many(f"Fact number {place}" for place in range(count))
    async with asyncio.timeout(20):
        while True:
            await asyncio.sleep(0.1)
            waiting = await core.database.fetchval("SELECT count(*) FROM memory.index_queue")
            if waiting == left:
                break


@pytest.mark.parametrize("wrong", [SECRET, "  ", {"content": "x", "colour": "red"}, {"key": "k"}, 7])
async def test_one_that_cannot_be_stored_keeps_all_out_or_fails_alone(core: MemoryCore, wrong: Any) -> None:
    facts = ["Alice likes tea", wrong, {"content": "Bob likes tea", "user_id": "bob"}]
    with pytest.raises(InvalidInputError) as refused:
        await core.remember_many(facts, user_id="alice")
    assert "at place 1" in refused.value.__notes__[0]
    assert await core.database.fetchval("SELECT count(*) FROM memory.memories") == 0
    first, error, last = await core.remember_many(facts, user_id="alice", keep_going=True)
    assert isinstance(error, SecretRefusedError if wrong == SECRET else InvalidInputError)
    assert not isinstance(first, InvalidInputError) and first.user_id == "alice"
    assert not isinstance(last, InvalidInputError) and last.namespace == ("memories", "bob")


async def test_credentials_are_redacted_in_many_as_in_one(core: MemoryCore) -> None:
    (item,) = await core.remember_many([SECRET], user_id="alice", secrets="redact")
    assert "hunter2" not in item.content
    assert item.findings


async def test_an_import_is_written_in_batches(core: MemoryCore) -> None:
    facts = [Fact(place, f"Imported {place % 40}", None, {}, user_id="u") for place in range(60)]
    given = [*facts[:30], Failure(99, "memory", "unreadable"), Fact(100, " ", None, {}), *facts[30:]]
    foreseen = await remember_all(core, given, dry_run=True)
    assert [failure.line for failure in foreseen.failed] == [99, 100]
    seen: list[int] = []
    async with counted(core.database) as sent:
        report = await remember_all(core, given, on_progress=lambda now: seen.append(now.counts.total()))
        await core._indexer.stop()
    assert report.counts == {"created": 40, "duplicate": 20}
    assert [failure.line for failure in report.failed] == [99, 100]
    assert seen == list(range(1, 61))
    assert len(sent) == 2  # the second for those that repeat the first


def test_a_plain_with_has_it_too(database_url: str) -> None:
    with MemoryCore.open(database_url, embeddings="none") as core:
        assert [item.status for item in core.remember_many(["One", "one"])] == ["created", "duplicate"]
