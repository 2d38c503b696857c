"""Checkpoints to put, and what a checkpointer gives back in a form that can be compared."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from memory_plugin import Memory
from memory_plugin.core import MemoryCore
from memory_plugin.langgraph import ConversationSaver
from tests.counting import counted

_steps = itertools.count(1)


def place(thread: object = "t", namespace: str = "", checkpoint_id: str | None = None, **more: Any) -> Any:
    """A config."""
    found: dict[str, Any] = {"thread_id": thread, "checkpoint_ns": namespace, **more}
    if checkpoint_id is not None:
        found["checkpoint_id"] = checkpoint_id
    return {"configurable": found}


def checkpoint(values: Mapping[str, Any], versions: Mapping[str, Any], **more: Any) -> Any:
    """A checkpoint with a new id, later than all before."""
    return {
        **empty_checkpoint(),
        "id": str(uuid6(clock_seq=next(_steps) % 16000)),
        "channel_values": dict(values),
        "channel_versions": dict(versions),
        **more,
    }


def said(*texts: str) -> list[BaseMessage]:
    """Human messages with ids like their texts."""
    return [HumanMessage(text, id=f"id-{text}") for text in texts]


class Writer:
    """Puts checkpoints one after the other as LangGraph does: only what changed gets a new version."""

    def __init__(self, saver: BaseCheckpointSaver[Any], thread: object = "t", namespace: str = "", **more: Any) -> None:
        self.saver = saver
        self.config = place(thread, namespace, **more)
        self.values: dict[str, Any] = {}
        self.versions: dict[str, Any] = {}
        self._more = more

    async def put(self, metadata: Mapping[str, Any] | None = None, **changes: Any) -> Any:
        """Put the state with these channels changed; the config of the new checkpoint."""
        self.values |= changes
        fresh = {name: self.saver.get_next_version(self.versions.get(name), None) for name in changes}
        self.versions |= fresh
        stored = await self.saver.aput(
            self.config,
            checkpoint(self.values, self.versions),
            {"source": "loop", "step": next(_steps), "parents": {}, **(metadata or {})},  # type: ignore[typeddict-item]
            fresh,
        )
        self.config = {"configurable": {**stored["configurable"], **self._more}}
        return stored

    def fork(self, config: Any) -> Writer:
        """A writer that goes on from an earlier checkpoint with the present values."""
        other = Writer(self.saver)
        other.config, other.values, other.versions = config, dict(self.values), dict(self.versions)
        return other


async def values(saver: BaseCheckpointSaver[Any], config: Any) -> dict[str, Any]:
    """The channel values at a config."""
    found = await saver.aget_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]


def comparable(found: CheckpointTuple) -> dict[str, Any]:
    """All of a tuple that a caller can rely on."""
    configurable = found.config["configurable"]
    return {
        "place": (configurable["thread_id"], configurable["checkpoint_ns"], configurable["checkpoint_id"]),
        "parent": found.parent_config and found.parent_config["configurable"]["checkpoint_id"],
        "checkpoint": found.checkpoint,
        "metadata": found.metadata,
        "writes": found.pending_writes,
    }


async def history(saver: BaseCheckpointSaver[Any], config: Any = None, **options: Any) -> list[dict[str, Any]]:
    """Everything listed, in the same order for every saver."""
    listed = [comparable(each) async for each in saver.alist(config, **options)]
    return sorted(listed, key=lambda each: each["place"])


async def rows(core: MemoryCore, table: str, where: str = "true") -> int:
    """How many rows a table has for this tenant."""
    sql = f"SELECT count(*) FROM {{s}}.{table} WHERE tenant_id = $1 AND {where}"
    return int(await core.database.fetchval(core.database.sql(sql), core.tenant))


TABLES = """
SELECT table_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = 'memory' AND column_name = 'tenant_id' AND table_type = 'BASE TABLE'
"""


async def dump(core: MemoryCore) -> str:
    """Every row of every table of this tenant as text, bytes as text too."""
    found = []
    for row in await core.database.fetch(TABLES):
        name = row["table_name"]
        for each in await core.database.fetch(
            core.database.sql(f'SELECT * FROM {{s}}."{name}" WHERE tenant_id = $1'), core.tenant
        ):
            for column, value in each.items():
                text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
                found.append(f"{name}.{column}: {text}")
    return "\n".join(found)


@asynccontextmanager
async def sent_to(core: MemoryCore) -> AsyncIterator[Callable[[], int]]:
    """How many statements the store has sent so far; what the driver asks about types is not counted."""
    async with counted(core.database) as statements:
        yield lambda: sum('"memory".' in each for each in statements)


@asynccontextmanager
async def opened(url: str, tenant: str, **options: Any) -> AsyncIterator[tuple[Memory, ConversationSaver]]:
    """A store without an embedder, and its checkpointer with these options."""
    async with Memory.open(url, tenant=tenant, embeddings=False) as memory:
        yield memory, memory.make_checkpointer(**options)
        await memory._indexer.stop()
        assert memory.database.engine.pool.checkedout() == 0, "a connection was not given back"  # type: ignore[attr-defined]
