"""What a conversation costs: on the wire, in rows and on disk. Counted, not timed."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from memory_plugin import Memory
from memory_plugin.db.database import Database
from memory_plugin.langgraph import ConversationSaver
from tests.saver_tools import Writer, opened, place, rows, said, sent_to
from tests.wire import wire

pytest_plugins = ("tests.saver_fixtures",)

TABLES = ("conversations", "messages", "checkpoints", "checkpoint_blobs", "checkpoint_writes")


@cache
def turn_of(number: int, size: int = 500) -> list[BaseMessage]:
    """A question and an answer, of letters that no compression makes small."""
    chance = random.Random(number)
    question, answer = ("".join(chance.choices(string.ascii_letters + " ", k=size)) for _ in range(2))
    return [
        HumanMessage(f"question {number:04} {question}", id=f"q{number:04}"),
        AIMessage(f"answer {number:04} {answer}", id=f"a{number:04}"),
    ]


def conversation(turns: int, size: int = 500) -> list[BaseMessage]:
    return [message for number in range(turns) for message in turn_of(number, size)]


# -- round trips


async def test_every_operation_is_one_round_trip(shared_url: str, tenant: str) -> None:
    async with wire(shared_url) as counted, opened(counted.url, tenant) as (store, saver):
        store.kick = lambda: None  # type: ignore[method-assign]
        trips: dict[str, list[int]] = {}

        async def count(name: str, awaitable: Any) -> Any:
            counted.reset()
            result = await awaitable
            trips.setdefault(name, []).append(counted.round_trips)
            return result

        for attempt in range(3):  # the first prepares the statements
            writer = Writer(saver, f"t{attempt}")
            here = place(f"t{attempt}")
            await count("nothing there", saver.aget_tuple(here))
            await count("first put", writer.put(messages=said("a"), topic="x"))
            await count("put", writer.put(messages=said("a", "b"), topic="y"))
            await count("quiet put", writer.put(topic="z"))
            config = await count("edit", writer.put(messages=said("b", "c")))
            await count("put_writes", saver.aput_writes(config, [("messages", said("d")), ("topic", "w")], "task"))
            await count("get", saver.aget_tuple(here))
            await count("get by id", saver.aget_tuple(config))
            await count("list", listed(saver, here, limit=8))
            await count("filtered list", listed(saver, here, limit=8, filter={"source": "loop"}, before=config))
            await count("delta history", saver.aget_delta_channel_history(config=config, channels=["topic"]))
            await count("copy", saver.acopy_thread(f"t{attempt}", f"copy{attempt}"))

    assert {name: counts[-1] for name, counts in trips.items()} == dict.fromkeys(trips, 1)


@pytest.mark.parametrize("operation", ["adelete_thread", "aprune", "adelete_for_runs"])
async def test_housekeeping_does_not_grow_with_the_thread(
    operation: str, saver: ConversationSaver, store: Memory
) -> None:
    store.kick = lambda: None  # type: ignore[method-assign]
    counts = []
    for length in (2, 40):
        writer = Writer(saver, f"t{length}")
        for number in range(length):
            await writer.put({"run_id": f"r{length}"}, messages=conversation(number + 1, 10))
        argument: Any = {"adelete_thread": f"t{length}", "aprune": [f"t{length}"]}.get(operation, [f"r{length}"])
        async with sent_to(store) as sent:
            await getattr(saver, operation)(argument)
            counts.append(sent())

    assert counts == [2, 2]  # the lock on the conversation, and the removal


async def listed(saver: ConversationSaver, config: Any, **options: Any) -> list[Any]:
    return [each async for each in saver.alist(config, **options)]


# -- bytes


async def test_a_put_sends_what_is_new_however_long_the_thread(shared_url: str, tenant: str) -> None:
    sizes: dict[int, tuple[int, int]] = {}
    async with wire(shared_url) as counted, opened(counted.url, tenant) as (store, saver):
        store.kick = lambda: None  # type: ignore[method-assign]
        for turns in (2, 20, 400):
            writer = Writer(saver, f"t{turns:03}")
            await writer.put(messages=conversation(turns), topic="x")
            await writer.put(messages=conversation(turns + 1))
            counted.reset()
            await writer.put(messages=conversation(turns + 2))
            sizes[turns] = (counted.sent, counted.received)

    assert max(sent for sent, _ in sizes.values()) - min(sent for sent, _ in sizes.values()) < 100
    assert sizes[400][0] < 4000  # two messages of 500 characters, as text and as JSON
    assert len({received for _, received in sizes.values()}) == 1


async def test_a_step_that_says_nothing_sends_little(shared_url: str, tenant: str) -> None:
    async with wire(shared_url) as counted, opened(counted.url, tenant) as (store, saver):
        store.kick = lambda: None  # type: ignore[method-assign]
        writer = Writer(saver)
        await writer.put(messages=conversation(100), notes=["n" * 100] * 2000, topic="x")
        await writer.put(topic="y")
        counted.reset()
        config = await writer.put(topic="z")
        quiet = counted.sent
        await saver.aput_writes(config, [("topic", "v")], "first")
        counted.reset()
        await saver.aput_writes(config, [("topic", "w")], "task")

    assert quiet < 4000
    assert counted.sent < 1000


# -- a list is read as it is consumed


@contextmanager
def rows_read(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows each statement gave."""
    counts: list[int] = []
    original = database.fetch

    async def fetch(*arguments: Any, **options: Any) -> Any:
        found = await original(*arguments, **options)
        counts.append(len(found))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(database, "fetch", fetch)
        yield counts


@pytest.mark.parametrize(("taken", "pages"), [(1, [8]), (8, [8]), (9, [8, 64]), (72, [8, 64]), (73, [8, 64, 28])])
async def test_a_list_reads_no_further_than_it_is_consumed(
    taken: int, pages: list[int], saver: ConversationSaver, store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "kick", lambda: None)  # the indexer reads too
    writer = Writer(saver)
    for number in range(100):
        await writer.put(topic=number)
    with rows_read(store.database, monkeypatch) as counts:
        found = 0
        async for _ in saver.alist(place()):
            found += 1
            if found == taken:
                break

    assert counts == pages


async def test_one_item_of_a_long_thread_is_few_bytes(shared_url: str, tenant: str) -> None:
    async with wire(shared_url) as counted, opened(counted.url, tenant) as (_, saver):
        writer = Writer(saver)
        for number in range(60):
            await writer.put(messages=[HumanMessage("x" * 20_000, id=str(number))])
        counted.reset()
        async for _ in saver.alist(place()):
            break
        one = counted.received
        counted.reset()
        await listed(saver, place(), limit=1)
        limited = counted.received
        counted.reset()
        await listed(saver, place())

    assert one < 10 * 20_000
    assert limited < 2 * 20_000
    assert counted.received > 60 * 20_000


def test_a_sync_list_reads_no_further_either(shared_url: str, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Memory.open(shared_url, tenant=tenant, embeddings=False) as memory:
        monkeypatch.setattr(memory.checkpointer._core, "kick", lambda: None)  # the indexer reads rows too
        graph = graph_of(memory.checkpointer)
        for number in range(8):
            graph.invoke({"messages": turn_of(number)}, place())
        with rows_read(memory.checkpointer._core.database, monkeypatch) as counts:
            next(iter(memory.checkpointer.list(place())))

    assert counts == [8]


# -- rows and disk


def graph_of(saver: Any) -> Any:
    def answer(state: Any) -> Any:
        return {"messages": turn_of(len(state["messages"]))[1:]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile(checkpointer=saver)


async def test_every_turn_of_a_graph_writes_as_many_rows(saver: ConversationSaver, store: Memory) -> None:
    graph = graph_of(saver)
    counts = []
    for number in range(31):
        if number % 10 == 0 and number:
            counts.append([await rows(store, table) for table in TABLES])
        await graph.ainvoke({"messages": turn_of(number)[:1]}, place(), durability="sync")

    first, second, third = counts
    growth = [late - early for early, late in zip(first, second, strict=True)]
    assert growth == [late - early for early, late in zip(second, third, strict=True)]
    assert growth[0] == 0
    assert growth[1] == 20  # a question and an answer a turn
    assert growth[2] == 30  # a checkpoint a step


async def disk(database: Database, tables: Any, schema: str = "memory") -> int:
    """Bytes on disk, with indexes and what is stored out of line."""
    sql = "SELECT sum(pg_total_relation_size(format('%I.%I', $1::text, name)::regclass))::bigint FROM unnest($2::text[]) AS name"
    return int(await database.fetchval(sql, schema, list(tables)))


async def test_storage_grows_with_the_turns_and_not_with_their_square(database_url: str) -> None:
    async with opened(database_url, "t") as (store, saver):
        store.kick = lambda: None  # type: ignore[method-assign]
        writer, sizes = Writer(saver), {0: await disk(store.database, TABLES)}
        for number in range(1, 201):
            await writer.put(messages=conversation(number), topic=f"topic {number}")
            if number in (50, 100, 200):
                sizes[number] = await disk(store.database, TABLES)

    assert sizes[200] - sizes[100] < 2.6 * (sizes[100] - sizes[50])
    assert sizes[200] - sizes[0] < 200 * 6000  # of 2,000 bytes a turn, as text and as JSON, and its checkpoint


async def test_a_tenth_of_the_official_savers_storage_is_enough(database_url: str) -> None:
    postgres = pytest.importorskip("langgraph.checkpoint.postgres.aio")
    async with opened(database_url, "t") as (store, saver):
        empty = await disk(store.database, TABLES)
        await hundred_turns(saver)
        await store.indexed()
        ours = await disk(store.database, TABLES) - empty
        with_index = await disk(store.database, [*TABLES, "passages", "index_queue"]) - empty
        async with postgres.AsyncPostgresSaver.from_conn_string(database_url) as official:
            await official.setup()
            await hundred_turns(official)
        theirs = await disk(store.database, ("checkpoints", "checkpoint_blobs", "checkpoint_writes"), "public")

    assert ours < theirs / 10, (ours, theirs)
    assert with_index < theirs / 5, (with_index, theirs)  # and all of it can be searched


async def hundred_turns(saver: Any) -> None:
    graph = graph_of(saver)
    for number in range(100):
        await graph.ainvoke({"messages": turn_of(number)[:1]}, place(), durability="sync")
