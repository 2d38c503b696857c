"""A user with something in every table, and tables as text to compare."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from memory_plugin import Memory
from memory_plugin.core import MemoryCore
from tests.saver_tools import Writer, said

TABLES = """
SELECT DISTINCT table_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = 'memory' AND column_name = 'tenant_id' AND table_type = 'BASE TABLE' ORDER BY 1
"""

OPINIONS = (
    (
        "INSERT INTO memory.feedback SELECT $1, $2, id, $3, 'good', 0.5, 'kind' FROM memory.messages"
        " WHERE tenant_id = $1 AND thread_id = $2 AND role = 'human' LIMIT 1"
    ),
    (
        "INSERT INTO memory.shared_conversations SELECT $1, 'shared by ' || $3, $2, id FROM memory.messages"
        " WHERE tenant_id = $1 AND thread_id = $2 LIMIT 1"
    ),
    (
        "INSERT INTO memory.proposals (tenant_id, id, thread_id, user_id, content, content_hash, messages)"
        " VALUES ($1, gen_random_uuid(), $2, $3, 'proposed of ' || $3, sha256(convert_to($3, 'UTF8')), '{m1}')"
    ),
)

AT = datetime(2026, 3, 1, 12, 30, 15, 123456, UTC)


async def table_names(core: MemoryCore) -> list[str]:
    """Every table of the store."""
    return [row["table_name"] for row in await core.database.fetch(TABLES)]


async def rows_as_text(core: MemoryCore) -> dict[str, Counter[str]]:
    """Every row of every table, all its columns as one text."""
    found = {}
    for table in await table_names(core):
        rows = await core.database.fetch(
            f'SELECT t::text AS row FROM memory."{table}" t WHERE tenant_id = $1', core.tenant
        )
        found[table] = Counter(row["row"] for row in rows)
    return found


def word_of(user: str) -> str:
    """A word that only this user uses."""
    return f"zanzibarine{user.replace('-', '')}"


class Opaque:
    """A value that no JSON holds: the serializer's bytes are kept."""

    def __init__(self, text: str) -> None:
        self.text = text


async def fill(memory: Memory, user: str) -> dict[str, Any]:
    """Give the user something in every table, queues included; ids of what was made.

    The background indexer does nothing from then on: what waits in its queues waits.
    """
    await memory._indexer.stop()
    memory._indexer.kick = lambda: None  # type: ignore[method-assign]
    word, thread = word_of(user), f"thread-of-{user}"
    await _forgotten_before(memory, user, word)
    await memory.conversations.create(thread, user_id=user, title=f"{word} title", metadata={"topic": word})
    await memory.conversations.append(thread, [f"I say {word}", ("ai", "noted")], user_id=user, at=AT)
    writer = Writer(memory.checkpointer, f"{thread}-agent", user_id=user)
    config = await writer.put(messages=said(f"{word} to the agent"), topic=word, pair=(word, 1.5))
    await memory.checkpointer.aput_writes(config, [("topic", f"{word} pending")], "task-1")
    await writer.put(messages=[*writer.values["messages"], *said("and more")])
    await memory.conversations.merge_buffer(thread, {"mood": word})
    for statement in OPINIONS:
        await memory.database.execute(statement, memory.tenant, thread, user)
    fact = await memory.remember(f"{word} likes tea", user_id=user, key="drink", thread_id=thread, importance=0.7)
    await memory.remember(f"{word} likes coffee", user_id=user, key="drink", valid_from=AT, metadata={"b": 1, "a": 0.1})
    await memory.remember(f"{word} works at Acme", user_id=user, source={"thread_id": thread, "message_id": "m-1"})
    await memory.store.aput((user, "prefs"), "colour", {"shade": word, "n": 2**70})
    document = await memory.references.add(
        text=f"# Notes of {word}\n\nTea at four.\n\n# More\n\nCoffee never.", source=f"notes-{user}.md", user_id=user
    )
    await memory.working_memory.update(f"chat of {word}", thread_id=thread)
    await memory.working_memory.update(f"text of {word}", user_id=user)
    await memory.working_memory.update(f"newer text of {word}", user_id=user)
    await memory.user_memory.save(user, f"a person called {word}")
    await memory.agent_settings.set("tone", {"says": word}, scope="user", scope_id=user, set_by=user, reason="asked")
    await memory.agent_settings.set("tone", None, scope="thread", scope_id=thread)
    await memory.tokens.create(user_id=user, name=f"laptop of {word}")
    await memory.indexed()
    await memory.remember(f"{word} waits for a vector", user_id=user)
    await memory.passages.catch_up()
    await memory.remember(f"{word} waits for the index", user_id=user)
    await memory.conversations.append(thread, f"the last {word}", user_id=user)
    return {"thread": thread, "fact": fact.id, "document": document.id}


async def _forgotten_before(memory: Memory, user: str, word: str) -> None:
    """Something that the user had when forgotten softly, and that stays forgotten."""
    await memory.remember(f"{word} had a cat", user_id=user)
    await memory.conversations.append(f"old-thread-of-{user}", f"the cat of {word}", user_id=user)
    await memory.forget(user_id=user)
