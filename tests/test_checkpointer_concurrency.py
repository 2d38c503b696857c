"""Many writers, cancelled ones, and ones whose thread is deleted under them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from langchain_core.messages import BaseMessage

from memory_plugin import Memory
from memory_plugin.capabilities.checkpoints import _unlocked
from memory_plugin.errors import DatabaseError
from memory_plugin.langgraph import ConversationSaver
from tests.saver_tools import Writer, checkpoint, history, opened, place, rows, said, values

pytest_plugins = ("tests.saver_fixtures",)


async def everything_is_whole(store: Memory, saver: ConversationSaver) -> None:
    """Every reference of every checkpoint finds its messages."""
    dangling = await store.database.fetch(
        store.database.sql("""
            SELECT c.thread_id, c.checkpoint_id, seq FROM {s}.checkpoints c,
                   jsonb_path_query(c.message_refs, '$.*[*]') AS range,
                   generate_series((range ->> 0)::bigint, (range ->> 1)::bigint - 1) AS seq
            WHERE c.tenant_id = $1 AND NOT EXISTS (
                SELECT FROM {s}.messages m
                WHERE m.tenant_id = $1 AND m.thread_id = c.thread_id AND m.seq = seq.seq)"""),
        store.tenant,
    )
    assert dangling == []


# -- many at once


async def test_sixty_four_conversations_at_once(saver: ConversationSaver, store: Memory) -> None:
    async def converse(number: int) -> None:
        writer = Writer(saver, f"t{number}")
        messages: list[BaseMessage] = []
        for turn in range(4):
            messages = [*messages, *said(f"{number}/{turn}")]
            config = await writer.put(messages=messages, turn=turn)
            await saver.aput_writes(config, [("turn", turn)], f"task-{turn}")
            found = await saver.aget_tuple(place(f"t{number}"))
            assert found is not None
            assert found.checkpoint["channel_values"] == {"messages": messages, "turn": turn}

    await asyncio.gather(*map(converse, range(64)))

    assert await rows(store, "messages") == 64 * 4
    assert await rows(store, "conversations") == 64


async def test_parallel_branches_of_one_thread(saver: ConversationSaver, store: Memory) -> None:
    """Subgraphs run side by side, each in its namespace, all starting from the conversation so far."""
    root = Writer(saver)
    await root.put(messages=said("a", "b"))

    async def branch(number: int) -> None:
        writer = Writer(saver, namespace=f"branch:{number}")
        for turn in range(3):
            earlier = writer.values.get("messages", root.values["messages"])
            await writer.put(messages=[*earlier, *said(f"{number}/{turn}")])

    await asyncio.gather(*map(branch, range(16)))

    for number in range(16):
        found = await values(saver, place("t", f"branch:{number}"))
        assert found["messages"] == said("a", "b", *(f"{number}/{turn}" for turn in range(3)))
    assert await rows(store, "messages") == 2 + 16 * 3
    await everything_is_whole(store, saver)


async def test_sixty_four_tasks_fork_one_thread(saver: ConversationSaver, store: Memory) -> None:
    """All from one parent, in one namespace, and with messages of the same ids."""
    trunk = Writer(saver)
    parent = await trunk.put(messages=said("a"), topic="start")

    async def branch(number: int) -> Any:
        writer = trunk.fork(parent)
        for text in ("same", f"own {number}"):
            config = await writer.put(messages=[*writer.values["messages"], *said(text)], topic=number)
            await saver.aput_writes(config, [("topic", number)], f"task {number}")
        return config

    for number, config in enumerate(await asyncio.gather(*map(branch, range(64)))):
        found = await saver.aget_tuple(config)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"messages": said("a", "same", f"own {number}"), "topic": number}
        assert found.pending_writes == [(f"task {number}", "topic", number)]

    assert await rows(store, "messages") == 1 + 1 + 64
    assert len(await history(saver, place())) == 1 + 2 * 64
    await everything_is_whole(store, saver)


async def test_two_stores_append_to_one_thread_from_the_same_parent(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (store, here), opened(shared_url, tenant) as (_, there):
        trunk = Writer(here)
        parent = await trunk.put(messages=said("a"))
        await values(there, parent)
        writers = []
        for number in range(8):
            writer = trunk.fork(parent)
            writer.saver = (here, there)[number % 2]
            writers.append(writer)
        for turn in range(3):
            await asyncio.gather(
                *(
                    writer.put(messages=[*writer.values["messages"], *said(f"{number}/{turn}")])
                    for number, writer in enumerate(writers)
                )
            )

        for number, writer in enumerate(writers):
            for saver in (here, there):
                found = await values(saver, writer.config)
                assert found["messages"] == said("a", *(f"{number}/{turn}" for turn in range(3)))
        assert await rows(store, "messages") == 1 + 8 * 3
        await everything_is_whole(store, here)


# -- cancelled


async def test_a_cancelled_put_is_whole_or_not_there(saver: ConversationSaver, store: Memory) -> None:
    store.kick = lambda: None  # type: ignore[method-assign]
    writer, chance = Writer(saver), random.Random(7)
    await writer.put(messages=said("start"), topic=0)
    for number in range(60):
        state = {"messages": [*writer.values["messages"], *said(f"{number}a", f"{number}b")], "topic": number}
        versions = {name: saver.get_next_version(version, None) for name, version in writer.versions.items()}
        given = checkpoint(state, versions)
        task = asyncio.ensure_future(saver.aput(writer.config, given, {"source": "loop", "step": number}, versions))
        await asyncio.sleep(chance.random() * 0.002)
        task.cancel()
        done = await asyncio.gather(task, return_exceptions=True)

        found = await saver.aget_tuple(place(checkpoint_id=given["id"]))
        if found is None:
            assert isinstance(done[0], asyncio.CancelledError)
        else:
            assert found.checkpoint["channel_values"] == state
            writer.config, writer.values, writer.versions = place(checkpoint_id=given["id"]), state, versions

    assert store.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    final = await writer.put(messages=[*writer.values["messages"], *said("end")])
    assert (await values(saver, final))["messages"] == writer.values["messages"]
    assert await rows(store, "messages", "NOT EXISTS (SELECT FROM memory.checkpoints)") == 0
    await everything_is_whole(store, saver)


@pytest.mark.parametrize("operation", ["aget_tuple", "alist", "aput_writes", "adelete_thread"])
async def test_the_pool_outlives_cancelled_calls(operation: str, saver: ConversationSaver, store: Memory) -> None:
    store.kick = lambda: None  # type: ignore[method-assign]
    config = await Writer(saver).put(messages=said("a"))

    async def call() -> None:
        if operation == "alist":
            async for _ in saver.alist(place()):
                pass
        elif operation == "aput_writes":
            await saver.aput_writes(config, [("x", 1)], "task")
        else:
            await getattr(saver, operation)(config if operation == "aget_tuple" else "t")

    for number in range(20):
        task = asyncio.ensure_future(call())
        await asyncio.sleep(number * 0.0001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert store.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await asyncio.gather(*(call() for _ in range(20)))


@pytest.mark.parametrize("operation", ["copy", "prune", "delete_for_runs", "delete_thread"])
async def test_cancelled_upkeep_is_done_or_not_begun(operation: str, saver: ConversationSaver, store: Memory) -> None:
    store.kick = lambda: None  # type: ignore[method-assign]
    outcomes = set()
    for number in range(16):
        thread = f"t{number}"
        writer = Writer(saver, thread)
        for text in ("a", "b", "c"):
            await writer.put(
                {"run_id": f"run {number} {text}"}, messages=[*writer.values.get("messages", []), *said(text)]
            )
        calls = {
            "copy": lambda: saver.acopy_thread(thread, f"copy {number}"),
            "prune": lambda: saver.aprune([thread]),
            "delete_for_runs": lambda: saver.adelete_for_runs([f"run {number} c", f"run {number} b"]),
            "delete_thread": lambda: saver.adelete_thread(thread),
        }
        task = asyncio.ensure_future(calls[operation]())
        await asyncio.sleep(number * 0.0004)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        await asyncio.sleep(0)
        left, copied = len(await history(saver, place(thread))), len(await history(saver, place(f"copy {number}")))
        outcomes.add((left, copied))
        if left:
            said_last = (await values(saver, place(thread)))["messages"]
            assert said_last == said("a", *("bc" if operation != "delete_for_runs" or left == 3 else ""))

    done = {"copy": (3, 3), "prune": (1, 0), "delete_for_runs": (1, 0), "delete_thread": (0, 0)}[operation]
    assert outcomes <= {(3, 0), done}
    assert store.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await everything_is_whole(store, saver)


# -- deleted meanwhile


async def test_late_writes_of_a_deleted_thread_are_seen_nowhere(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (store, saver), opened(shared_url, tenant) as (_, other):
        for _ in range(10):
            config = await Writer(saver).put(messages=said("a"))
            await asyncio.gather(
                *(saver.aput_writes(config, [("x", number)], f"task {number}") for number in range(8)),
                other.adelete_thread("t"),
            )
            assert await saver.aget_tuple(place()) is None
            assert await history(saver, None) == []

            fresh = await Writer(saver).put(messages=said("b"))
            found = await saver.aget_tuple(fresh)
            assert found is not None
            assert found.pending_writes == []
            await other.adelete_thread("t")
            assert await rows(store, "checkpoint_writes") == 0


async def erase_by_another_store(url: str, tenant: str, how: str) -> None:
    async with opened(url, tenant) as (store, other):
        if how == "delete_thread":
            await other.adelete_thread("t")
        elif how == "delete_for_runs":
            await other.adelete_for_runs(["run"])
        elif how == "forget":
            await store.forget(thread_id="t", hard=True)
        else:
            await store.conversations.clear("t")


@pytest.mark.parametrize("how", ["delete_thread", "delete_for_runs", "forget", "clear"])
@pytest.mark.parametrize("reused", [True, False])
async def test_a_late_put_stores_all_it_needs(how: str, reused: bool, shared_url: str, tenant: str) -> None:
    """A run that goes on after its thread was deleted elsewhere: nothing it puts may point into the void."""
    async with opened(shared_url, tenant) as (store, saver):
        writer = Writer(saver)
        await writer.put({"run_id": "run"}, messages=said("a", "b", "c"), topic="x", items=[1, 2])
        await erase_by_another_store(shared_url, tenant, how)
        if reused:  # a new conversation took the same numbers
            await Writer(saver).put(messages=said("other", "another"), topic="y")
        config = await writer.put(messages=[*writer.values["messages"], *said("d")])

        assert await values(saver, config) == {"messages": said("a", "b", "c", "d"), "topic": "x", "items": [1, 2]}
        await everything_is_whole(store, saver)
        config = await writer.put(topic="z")
        assert (await values(saver, config))["messages"] == said("a", "b", "c", "d")


async def test_messages_that_were_deleted_with_their_run_can_be_said_again(shared_url: str, tenant: str) -> None:
    """A front end that tries again sends the same messages with the same ids."""
    async with opened(shared_url, tenant) as (store, saver):
        writer = Writer(saver)
        parent = await writer.put(messages=said("a"))
        again = writer.fork(parent)
        await writer.put({"run_id": "run"}, messages=[*writer.values["messages"], *said("b")])
        await erase_by_another_store(shared_url, tenant, "delete_for_runs")
        assert await rows(store, "messages") == 1
        config = await again.put(messages=[*again.values["messages"], *said("b")])

        assert (await values(saver, config))["messages"] == said("a", "b")
        await everything_is_whole(store, saver)


@pytest.mark.parametrize("how", ["delete_thread", "prune"])
async def test_a_put_that_waits_for_a_deletion_sees_it(
    how: str, saver: ConversationSaver, store: Memory, shared_url: str
) -> None:
    """The deletion holds the lock on the conversation while the put arrives: its snapshot is older."""
    writer = Writer(saver)
    old = await writer.put(messages=said("a", "b"), topic="x")
    branch = writer.fork(old)
    await writer.put(messages=[*writer.values["messages"], *said("c")], topic="y")
    connection = await asyncpg.connect(shared_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM memory.conversations WHERE tenant_id = $1 FOR UPDATE", store.tenant)
            late = asyncio.ensure_future(branch.put(messages=[*branch.values["messages"], *said("d")]))
            quiet = asyncio.ensure_future(writer.fork(old).put(topic="z"))
            await waiting_for_a_lock(store, 2)
            for table in (
                ("conversations", "messages", "checkpoints", "checkpoint_blobs")
                if how == "delete_thread"
                else ("checkpoint_blobs", "checkpoints")
            ):
                which = (
                    "true"
                    if how == "delete_thread"
                    else f"{'version' if table == 'checkpoint_blobs' else 'checkpoint_id'} = $2"
                )
                key = (
                    []
                    if how == "delete_thread"
                    else [
                        branch.versions["topic"]
                        if table == "checkpoint_blobs"
                        else old["configurable"]["checkpoint_id"]
                    ]
                )
                await connection.execute(
                    f"DELETE FROM memory.{table} WHERE tenant_id = $1 AND {which}", store.tenant, *key
                )
    finally:
        await connection.close()

    assert await values(saver, await late) == {"messages": said("a", "b", "d"), "topic": "x"}
    assert (await values(saver, await quiet))["topic"] == "z"
    await everything_is_whole(store, saver)


@pytest.mark.parametrize(("deadlocks", "fails"), [(1, False), (5, False), (6, True)])
async def test_what_a_deadlock_ended_is_tried_again(deadlocks: int, fails: bool) -> None:
    calls = []

    async def run() -> str:
        calls.append(1)
        if len(calls) <= deadlocks:
            raise DatabaseError("deadlock detected", sqlstate="40P01")
        return "done"

    if fails:
        with pytest.raises(DatabaseError):
            await _unlocked(run)
    else:
        assert await _unlocked(run) == "done"


async def test_other_errors_are_not_tried_again() -> None:
    calls = []

    async def run() -> None:
        calls.append(1)
        raise DatabaseError("something else", sqlstate="XX000")

    with pytest.raises(DatabaseError):
        await _unlocked(run)
    assert len(calls) == 1


async def waiting_for_a_lock(store: Memory, count: int) -> None:
    for _ in range(200):
        await asyncio.sleep(0.02)
        waiting = await store.database.as_login().fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        if waiting >= count:
            return
    pytest.fail("nobody waits")


@asynccontextmanager
async def deleting(saver: ConversationSaver) -> AsyncIterator[None]:
    """Something is deleted all the time."""

    async def go_on() -> None:
        while True:
            for erase in (
                lambda: saver.adelete_thread("t"),
                lambda: saver.aprune(["t"]),
                lambda: saver.adelete_for_runs(["run-1", "run-2"]),
            ):
                await asyncio.sleep(0.004)
                await erase()

    task = asyncio.ensure_future(go_on())
    yield
    task.cancel()
    done = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError), done


async def test_writers_and_deletions_in_a_storm_leave_only_whole_checkpoints(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (store, saver), opened(shared_url, tenant) as (_, other):
        store.kick = lambda: None  # type: ignore[method-assign]

        async def write(number: int) -> None:
            writer = Writer((saver, other)[number % 2], namespace="" if number < 3 else f"sub:{number}")
            for turn in range(25):
                earlier = writer.values.get("messages", [])
                await writer.put(
                    {"run_id": f"run-{turn % 3}"}, messages=[*earlier[-6:], *said(f"{number}/{turn}")], topic=turn
                )
                await writer.put(other=turn)

        async with deleting(other):
            await asyncio.gather(*map(write, range(6)))

        await everything_is_whole(store, saver)
        for each in await history(saver, place()):
            found: dict[str, Any] = each["checkpoint"]["channel_values"]
            assert found.keys() >= {"messages", "topic"}, each["place"]
            owner, turn = found["messages"][-1].text.split("/")
            first = max(0, int(turn) - 6)
            assert [m.text for m in found["messages"]] == [f"{owner}/{t}" for t in range(first, int(turn) + 1)]
            assert found["topic"] == int(turn)
