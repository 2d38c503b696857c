"""The index is made in batches beside those who write: nobody waits for it, and nothing is missed or left over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from memory_plugin.core import MemoryCore
from memory_plugin.db.database import Connection

MANY = 30
"""Messages that the index reads beside the writers of their thread."""


@asynccontextmanager
async def halfway(core: MemoryCore) -> AsyncIterator[Connection]:
    """The indexer is at work on what is queued, and has not counted its words yet; it goes on at the end."""
    await core.conversations.append("before", ["the statistics have their rows"])
    await core.passages.catch_up()
    await core.conversations.append("talk", [f"message{number} about kettles" for number in range(MANY)])
    async with core.database.raw() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT FROM memory.corpus_statistics FOR UPDATE")
        indexing = asyncio.create_task(core.passages.catch_up())
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND $1 = ANY (pg_blocking_pids(pid))"
        mine = await connection.fetchval("SELECT pg_backend_pid()")
        for _ in range(2_000):
            if await core.database.fetchval(waiting, mine):
                break
            await asyncio.sleep(0.01)
        try:
            yield connection
        finally:
            await transaction.rollback()
            await indexing


async def found(core: MemoryCore, word: str) -> list[str]:
    return [hit.text for hit in await core.recall(word, limit=100, kinds=("message",)) if word in hit.text]


async def statistics_are_true(core: MemoryCore) -> None:
    counted = "SELECT kind, term, passages FROM memory.term_statistics WHERE passages > 0 ORDER BY 1, 2"
    recounted = (
        "SELECT kind, memory.term_id(lexeme) AS term, count(*) AS passages FROM memory.passages, unnest(lexemes) "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert await core.database.fetch(counted) == await core.database.fetch(recounted)
    totals = await core.database.fetch("SELECT kind, passages, total_length FROM memory.corpus_statistics ORDER BY 1")
    assert [row for row in totals if row["passages"]] == await core.database.fetch(
        "SELECT kind, count(*) AS passages, sum(length)::bigint AS total_length FROM memory.passages "
        "GROUP BY 1 ORDER BY 1"
    )


async def test_a_writer_of_the_thread_does_not_wait_and_is_not_missed(core: MemoryCore) -> None:
    async with halfway(core):
        await asyncio.wait_for(core.conversations.append("talk", ["one more, about saucers"]), 5)
    assert len(await found(core, "kettles")) == MANY
    assert await found(core, "saucers") == ["one more, about saucers"]
    assert (await core.passages.backlog()).words == 0
    await statistics_are_true(core)


async def test_a_thread_that_is_hidden_meanwhile_is_hidden_in_the_index(core: MemoryCore) -> None:
    async with halfway(core):
        await core.database.execute("UPDATE memory.conversations SET forgotten_at = now() WHERE thread_id = 'talk'")
    assert await found(core, "kettles") == []
    await core.database.execute("UPDATE memory.conversations SET forgotten_at = NULL WHERE thread_id = 'talk'")
    assert len(await found(core, "kettles")) == MANY


async def test_a_message_that_joins_the_state_meanwhile_is_indexed(core: MemoryCore) -> None:
    """As `put_checkpoints` does with one that was internal to a subgraph."""
    await core.conversations.append("talk", ["whispered about spoons"])
    await core.database.execute("UPDATE memory.messages SET origin = 2 WHERE thread_id = 'talk'")
    async with halfway(core):
        await core.database.execute(
            "WITH moved AS (UPDATE memory.messages SET origin = 0 WHERE thread_id = 'talk' AND text ~ 'spoons') "
            "UPDATE memory.conversations SET indexed_seq = least(indexed_seq, 0) WHERE thread_id = 'talk'"
        )
    assert await found(core, "spoons") == ["whispered about spoons"]
    await statistics_are_true(core)


async def test_a_thread_that_is_removed_meanwhile_leaves_nothing(core: MemoryCore) -> None:
    async with halfway(core):
        removing = asyncio.create_task(core.conversations.delete("talk"))
        await asyncio.sleep(0.1)
    await removing
    assert await core.database.fetchval("SELECT count(*) FROM memory.passages WHERE thread_id = 'talk'") == 0
    assert (await core.passages.backlog()).words == 0
    await statistics_are_true(core)


async def test_more_than_a_batch_of_threads_and_messages_is_indexed_whole(core: MemoryCore) -> None:
    """Some threads alone are more than a batch, and there are more of them than a batch takes."""
    for number in range(205):
        said = 505 if number in (7, 8) else 1
        await core.conversations.append(f"thread{number}", [f"kettle{number}" for _ in range(said)])
    await core.remember_many([f"fact number {number}" for number in range(2_001)])
    await core.passages.catch_up()
    assert await core.database.fetchval("SELECT count(*) FROM memory.passages") == 203 + 2 * 505 + 2_001
    assert await core.database.fetchval(
        "SELECT bool_and(indexed_seq = message_seq) FROM memory.conversations WHERE tenant_id = $1", core.tenant
    )
    assert (await core.passages.backlog()).words == 0
    await statistics_are_true(core)
    await core.forget(user_id="nobody", hard=True)
    await core.conversations.delete("thread7")
    await statistics_are_true(core)


async def test_a_batch_takes_no_longer_because_tables_without_statistics_have_grown(core: MemoryCore) -> None:
    """New words are matched with the counted ones by key, whatever the planner believes of tables never analysed."""
    core.kick = lambda: None  # type: ignore[method-assign]
    for table in ("term_statistics", "memories", "index_queue"):
        await core.database.as_login().execute(f"ALTER TABLE memory.{table} SET (autovacuum_enabled = false)")
    seconds = []
    for batch in range(3):
        facts = [" ".join(f"word{batch}x{place}x{word}" for word in range(10)) for place in range(2_000)]
        await core.remember_many(facts, user_id="u")
        began = time.perf_counter()
        await core.passages.catch_up()
        seconds.append(time.perf_counter() - began)
    assert await core.database.fetchval("SELECT count(*) FROM memory.term_statistics") > 59_900
    assert max(seconds[1:]) < 5 * seconds[0] + 1, seconds
