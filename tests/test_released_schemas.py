"""Each released schema with rows in every table: brought up, read by today's library, taken back, and nothing lost.

`tests/data/released_NNNN.sql` holds rows as the release of that revision wrote them. They are frozen, as the
revisions are.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from memory_plugin import Memory
from memory_plugin.db import migrate
from memory_plugin.db.database import Database

DATA = Path(__file__).parent / "data"
RELEASED = ["0001", "0002", "0003", "0004", "0005"]

# Made from the others: read anew when a store is opened, and by revisions that weigh words in another way.
DERIVED = {
    "passages", "term_statistics", "corpus_statistics", "embeddings", "embedding_models", "index_queue",
    "embedding_queue",
}  # fmt: skip

Rows = dict[str, list[str]]


class Eight:
    """The embedder that the rows were written with: what was embedded then is compared now."""

    name, dims, at_once = "tiny", 8, True

    async def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [await self.embed_query(text) for text in texts]

    async def embed_query(self, text: str) -> list[float]:
        vector = [0.1] * 8
        for word in text.lower().split():
            vector[sum(map(ord, word)) % 8] += 1
        return vector


async def load(url: str, revision: str) -> None:
    """The revision in an empty database, with its rows; as a restore puts them in, without triggers."""
    database = Database(url)
    await migrate.upgrade(database, revision)
    await database.close()
    connection = await asyncpg.connect(url)
    await connection.execute("SET session_replication_role = replica")
    for table in await tables_of(connection):
        await connection.execute(f"DELETE FROM memory.{table}")  # what a revision puts in by itself
    await connection.execute((DATA / f"released_{revision}.sql").read_text("utf-8"))
    await connection.close()


async def tables_of(connection: Any) -> list[str]:
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'memory'::regnamespace AND relkind = 'r' "
        "AND relname <> 'alembic_version' ORDER BY 1"
    )
    return [row["relname"] for row in rows]


async def rows_of(url: str) -> Rows:
    connection = await asyncpg.connect(url)
    found = {}
    for table in await tables_of(connection):
        rows = await connection.fetch(f"SELECT to_jsonb(t)::text AS row FROM memory.{table} t ORDER BY 1")
        found[table] = [row["row"] for row in rows]
    await connection.close()
    return found


async def migrated(url: str, *revisions: str) -> None:
    database = Database(url)
    for revision in revisions:
        await (migrate.upgrade if revision == "head" else migrate.downgrade)(database, revision)
    await database.close()


@pytest.mark.parametrize("revision", RELEASED)
async def test_up_to_the_head_and_back_changes_no_row(empty_database_url: str, revision: str) -> None:
    await load(empty_database_url, revision)
    before = await rows_of(empty_database_url)
    assert [table for table, rows in before.items() if not rows] == [], "a table that nothing is tried on"
    await migrated(empty_database_url, "head", revision)
    after = await rows_of(empty_database_url)
    assert after.keys() == before.keys()
    for table in before.keys() - DERIVED:
        assert after[table] == before[table], table
    for table in DERIVED - {"term_statistics", "corpus_statistics"}:
        assert len(after[table]) == len(before[table]), table


@pytest.mark.parametrize("revision", RELEASED)
async def test_what_a_release_wrote_is_found_by_today_and_still_there_after_going_back(
    empty_database_url: str, revision: str
) -> None:
    await load(empty_database_url, revision)
    before = await rows_of(empty_database_url)
    await migrated(empty_database_url, "head")
    async with Memory.open(empty_database_url, embeddings=Eight()) as memory:
        await memory.indexed(30)
        await facts_are_found(memory)
        await conversations_are_read(memory)
        await documents_and_texts_are_read(memory)
    async with Memory.open(empty_database_url, tenant="other", embeddings=False) as other:
        hits = await other.recall("kiln", user_id="alice")
        assert [hit.text for hit in hits if hit.kind == "memory"] == ["Another tenant knows the kiln too"]
    await migrated(empty_database_url, revision)
    after = await rows_of(empty_database_url)
    for table in before.keys() - DERIVED:
        assert without_reading(after[table]) == without_reading(before[table]), table


def without_reading(rows: list[str]) -> list[dict[str, Any]]:
    """The rows without what reading changes: when a fact was last asked for."""
    parsed = [json.loads(row) for row in rows]
    return [
        {name: value for name, value in row.items() if name not in {"last_accessed_at", "accessed_at"}}
        for row in parsed
    ]


async def facts_are_found(memory: Memory) -> None:
    hits = await memory.recall("what is Alice allergic to, peanuts?", user_id="alice", kinds=("memory",))
    assert hits[0].text == "Alice is allergic to peanuts and to soy"
    assert hits[0].key == "diet"
    assert all("mauve" not in hit.text for hit in await memory.recall("mauve colour", user_id="alice"))
    versions = await memory.memories.history(hits[0].id)  # the oldest first
    assert [version.content for version in versions][0] == "Alice is allergic to peanuts"
    item = await memory.store.aget(("team", "plans"), "q1")
    assert item is not None
    assert item.value == {"title": "Ship the spring release", "order": ["b", "a"]}
    found = await memory.store.asearch(("memories", "bob"), query="tea")
    assert found[0].value["cups"] == 3


async def conversations_are_read(memory: Memory) -> None:
    config = {"configurable": {"thread_id": "graph"}}
    states = [each async for each in memory.checkpointer.alist(config)]
    assert len(states) > 8
    latest = await memory.checkpointer.aget_tuple(config)
    assert latest is not None
    values = latest.checkpoint["channel_values"]
    assert [message.text for message in values["messages"]][-2:] == ["another way", "Noted."]
    assert values["seen"] == {1, "a"}
    assert values["price"] == Decimal("12.50")
    assert values["raw"] == b"\x00\xff"
    assert values["when"] == datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
    waiting = await memory.checkpointer.aget_tuple({"configurable": {"thread_id": "waiting"}})
    assert waiting is not None
    assert any(channel == "__interrupt__" for _, channel, _ in waiting.pending_writes or [])
    history = await memory.history("chat").aget_messages()
    assert [message.text for message in history] == ["When was the kiln bought?", "In 2019."]
    listed = await memory.conversations.list(user_id="carol")
    assert [each.title for each in listed.items] == ["The kiln"]
    (found,) = await memory.conversations.find_by_buffer({"user_preferences": {"topic": "pricing"}})
    assert found.thread_id == "chat"


async def documents_and_texts_are_read(memory: Memory) -> None:
    hits = await memory.search_references("are refunds paid in cash?")
    assert hits[0].citation.title == "Handbook"
    document = hits[0].citation.uri.split("/")[3]
    assert (await memory.references.versions(document))[0].version == 2
    text = await memory.working_memory.get(user_id="alice")
    assert text is not None
    assert text.content == "- buy clay\n- fire the kiln"
    summary = await memory.user_memory.get("alice")
    assert summary is not None
    assert summary.version == 2
    active = await memory.agent_settings.active("prompt", agent_id="potter")
    assert active is not None
    assert active.value == {"text": "Be kind."}
