"""Retention: what is kept, what goes, that a dry run tells the truth, and that agents at work notice nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from langgraph.types import Command, interrupt

from memory_plugin import Memory, Settings
from memory_plugin.capabilities import retention as retention_module
from memory_plugin.capabilities.retention import Retentions
from memory_plugin.durations import duration, short
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.langgraph import ConversationSaver
from memory_plugin.settings import get_settings
from memory_plugin.types import Retention, RetentionReport
from tests.saver_tools import TABLES, Writer, history, opened, place, rows, said, sent_to, values

pytest_plugins = ("tests.saver_fixtures",)

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> None:
    """The indexer locks threads too, and counts rows of its own: here it works when it is asked to."""
    if "store" in request.fixturenames:
        request.getfixturevalue("store").kick = lambda: None


async def everything_is_whole(store: Memory) -> None:
    """Every checkpoint finds its messages and values, and there are no values that nobody refers to."""
    for question in (
        """SELECT c.checkpoint_id FROM {s}.checkpoints c, jsonb_path_query(c.message_refs, '$.*[*]') AS range,
               generate_series((range ->> 0)::bigint, (range ->> 1)::bigint - 1) AS seq
           WHERE c.tenant_id = $1 AND NOT EXISTS (SELECT FROM {s}.messages m
               WHERE m.tenant_id = $1 AND m.thread_id = c.thread_id AND m.seq = seq.seq)""",
        """SELECT b.channel FROM {s}.checkpoint_blobs b WHERE b.tenant_id = $1 AND NOT EXISTS (
               SELECT FROM {s}.checkpoints c WHERE c.tenant_id = $1 AND c.thread_id = b.thread_id
                 AND c.checkpoint_ns = b.checkpoint_ns AND c.versions ->> b.channel = b.version)""",
    ):
        assert await store.database.fetch(store.database.sql(question), store.tenant) == []


async def counts(store: Memory) -> dict[str, int]:
    names = [row["table_name"] for row in await store.database.fetch(TABLES)]
    return {name: await rows(store, name) for name in names}


async def same_counts(store: Memory, policy: Retention | None = None, **options: Any) -> RetentionReport:
    """Apply a policy; the dry run before it, the report, and what is there afterwards must agree."""
    announced = await store.retention.apply(policy, dry_run=True, **options)
    before = await counts(store)
    done = await store.retention.apply(policy, **options)
    after = await counts(store)
    assert announced == RetentionReport(**{**{name: getattr(done, name) for name in done.__slots__}, "dry_run": True})
    went = {name: before[name] - after[name] for name in before}
    removed = {name: went.get(name, 0) for name in done.rows}
    assert removed == done.rows
    await everything_is_whole(store)
    return done


async def age(store: Memory, thread: str, by: timedelta) -> None:
    """Make all of a thread older."""
    for statement in (
        (
            "UPDATE {s}.conversations SET updated_at = updated_at - $3::interval, active_hour = active_hour - $3::interval,"
            " created_at = created_at - $3::interval WHERE tenant_id = $1 AND thread_id = $2"
        ),
        "UPDATE {s}.checkpoints SET created_at = created_at - $3::interval WHERE tenant_id = $1 AND thread_id = $2",
        "UPDATE {s}.messages SET said_at = said_at - $3::interval WHERE tenant_id = $1 AND thread_id = $2",
    ):
        await store.database.execute(store.database.sql(statement), store.tenant, thread, by)


async def thread(saver: ConversationSaver, name: str, turns: int, **more: Any) -> Writer:
    writer = Writer(saver, name, **more)
    for turn in range(turns):
        await writer.put(messages=[*writer.values.get("messages", []), *said(f"{name}{turn}")], topic=turn)
        await saver.aput_writes(writer.config, [("topic", turn)], f"task{turn}")
    return writer


# -- the policies


async def test_nothing_set_keeps_everything(store: Memory, saver: ConversationSaver) -> None:
    await thread(saver, "t", 5)
    await age(store, "t", 1000 * DAY)
    before = await counts(store)
    report = await store.retention.apply()
    assert (report.rows.get("checkpoints", 0), await counts(store)) == (0, before)


@pytest.mark.parametrize(("keep", "left"), [(1, 1), (3, 3), (50, 6)])
async def test_the_last_n_stay_as_they_were(keep: int, left: int, store: Memory, saver: ConversationSaver) -> None:
    await thread(saver, "t", 6)
    before = await history(saver, place("t"))
    report = await same_counts(store, Retention(keep_last=keep))
    assert await history(saver, place("t")) == before[-left:]
    assert report.rows["checkpoints"] == report.rows["checkpoint_writes"] == 6 - left
    assert (report.bytes > 0) == (left < 6)


async def test_the_young_stay_and_the_newest_in_any_case(store: Memory, saver: ConversationSaver) -> None:
    writer = await thread(saver, "t", 3)
    await age(store, "t", 3 * DAY)
    before = await history(saver, place("t"))
    await same_counts(store, Retention(keep_for=DAY))
    assert await history(saver, place("t")) == before[-1:]
    await writer.put(topic="new")
    await same_counts(store, Retention(keep_for=DAY))
    assert len(await history(saver, place("t"))) == 1


async def test_of_two_limits_either_keeps(store: Memory, saver: ConversationSaver) -> None:
    writer = await thread(saver, "t", 4)
    await age(store, "t", 3 * DAY)
    for turn in range(3):
        await writer.put(topic=f"new {turn}")
    await same_counts(store, Retention(keep_last=5, keep_for=DAY))
    assert len(await history(saver, place("t"))) == 5
    await same_counts(store, Retention(keep_last=1, keep_for=DAY))
    assert len(await history(saver, place("t"))) == 3


async def test_messages_stay_and_are_found(store: Memory, saver: ConversationSaver) -> None:
    writer = await thread(saver, "t", 4)
    await writer.put(messages=said("summary"))
    await same_counts(store, Retention(keep_last=1))
    assert await rows(store, "messages") == 5
    assert [hit.text for hit in await store.recall("t2")] == ["t2"]


async def test_every_namespace_keeps_its_own(store: Memory, saver: ConversationSaver) -> None:
    for namespace in ("", "child:1", "child:2"):
        await thread(saver, "t", 4, namespace=namespace)
    report = await same_counts(store, Retention(keep_last=2))
    assert report.rows["checkpoints"] == 6
    for namespace in ("", "child:1", "child:2"):
        assert len(await history(saver, place("t", namespace))) == 2


async def test_messages_of_a_subgraph_go_with_the_last_that_had_them(store: Memory, saver: ConversationSaver) -> None:
    child = Writer(saver, "t", "child:1")
    for turn in range(3):
        await child.put(messages=said(f"inner {turn}"))
    await thread(saver, "t", 1)
    report = await same_counts(store, Retention(keep_last=1))
    assert report.rows["messages"] == 2
    assert (await values(saver, place("t", "child:1")))["messages"] == said("inner 2")


async def test_branches_are_whole(store: Memory, saver: ConversationSaver) -> None:
    writer = await thread(saver, "t", 3)
    branch = writer.fork(writer.config)
    await writer.put(messages=[*writer.values["messages"], *said("left")], topic="left")
    await branch.put(messages=[*branch.values["messages"], *said("right")])
    before = await history(saver, place("t"))
    await same_counts(store, Retention(keep_last=2))
    assert await history(saver, place("t")) == before[-2:]


# -- of one thread


async def test_a_thread_may_have_a_policy_of_its_own(store: Memory, saver: ConversationSaver) -> None:
    for name in ("kept", "short", "usual"):
        await thread(saver, name, 5)
    assert await store.retention.get("kept") is None
    await store.retention.set("kept", Retention())
    await store.retention.set("short", Retention(keep_last=1, expire_after=7 * DAY, expire="checkpoints"))
    assert await store.retention.get("kept") == Retention()
    assert await store.retention.get("short") == Retention(1, None, 7 * DAY, "checkpoints")
    await same_counts(store, Retention(keep_last=3), batch=2)
    assert [len(await history(saver, place(name))) for name in ("kept", "short", "usual")] == [5, 1, 3]
    assert await store.retention.clear("kept") is True
    assert await store.retention.clear("kept") is False
    await same_counts(store, Retention(keep_last=2))
    assert [len(await history(saver, place(name))) for name in ("kept", "short", "usual")] == [2, 1, 2]


async def test_without_a_policy_for_all_those_of_threads_hold(store: Memory, saver: ConversationSaver) -> None:
    for name in ("own", "other"):
        await thread(saver, name, 3)
    await store.retention.set("own", Retention(keep_last=1))
    report = await same_counts(store)
    assert (report.threads, report.pruned) == (1, 1)
    assert [len(await history(saver, place(name))) for name in ("own", "other")] == [1, 3]


async def test_one_thread_alone_by_its_own_policy_or_by_one_that_is_named(
    store: Memory, saver: ConversationSaver
) -> None:
    for name in ("a", "b"):
        await thread(saver, name, 4)
    await store.retention.set("a", Retention(keep_last=3))
    await same_counts(store, thread_id="a")
    assert len(await history(saver, place("a"))) == 3
    report = await same_counts(store, Retention(keep_last=1), thread_id="a")
    assert (len(await history(saver, place("a"))), report.threads) == (1, 1)
    assert len(await history(saver, place("b"))) == 4
    assert (await store.retention.apply(Retention(keep_last=1), thread_id="nobody")).threads == 0


async def test_a_policy_may_come_before_the_thread(store: Memory, saver: ConversationSaver) -> None:
    await store.retention.set("later", Retention(keep_last=1))
    await thread(saver, "later", 3)
    await same_counts(store)
    assert len(await history(saver, place("later"))) == 1


# -- expiry


async def test_an_idle_thread_expires_with_all_in_it(store: Memory, saver: ConversationSaver) -> None:
    for name in ("idle", "busy"):
        await thread(saver, name, 3)
        await store.working_memory.update("focus", thread_id=name)
    await store.conversations.append("chat", ["no agent here"])
    await store.indexed(5)
    for name in ("idle", "chat"):
        await age(store, name, 40 * DAY)
    report = await same_counts(store, Retention(expire_after=30 * DAY))
    assert (report.expired, report.rows["messages"], report.rows["passages"]) == (2, 4, 4)
    assert [each.thread_id for each in (await store.conversations.list()).items] == ["busy"]
    assert len(await history(saver, place("busy"))) == 3
    assert await store.recall("no agent here") == []


async def test_a_step_without_messages_is_activity_too(store: Memory, saver: ConversationSaver) -> None:
    writer = await thread(saver, "t", 2)
    await age(store, "t", 40 * DAY)
    await writer.put(topic="still at work")
    report = await same_counts(store, Retention(expire_after=30 * DAY))
    assert (report.expired, await rows(store, "checkpoints")) == (0, 3)


async def test_an_expired_state_leaves_the_conversation(store: Memory, saver: ConversationSaver) -> None:
    writer = await thread(saver, "t", 3)
    await thread(saver, "t", 2, namespace="child:1")
    await writer.put(messages=[*said("t2"), *said("summary")])
    await store.conversations.append("t", [("ai", "appended")])
    said_before = await store.conversations.messages("t")
    await age(store, "t", 40 * DAY)
    policy = Retention(expire_after=30 * DAY, expire="checkpoints")
    report = await same_counts(store, policy)
    assert (report.emptied, report.expired, await rows(store, "checkpoints")) == (1, 0, 0)
    assert await rows(store, "checkpoint_writes") == 0
    assert [(each.id, each.text) for each in await store.conversations.messages("t")] == [
        (each.id, each.text) for each in said_before
    ]
    conversation = await store.conversations.get("t")
    assert (conversation.message_count, conversation.memory_buffer) == (len(said_before), None)
    assert (await store.retention.apply(policy)).emptied == 0
    fresh = Writer(saver)
    await fresh.put(messages=said("back again"))
    assert [each.text for each in await store.conversations.messages("t")][-1] == "back again"


async def test_the_conversation_of_another_channel_is_left_too(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant, messages_channel="chat") as (store, saver):
        await Writer(saver).put(**{"chat": said("a", "b"), "nul\x00": 1})
        await age(store, "t", 40 * DAY)
        await same_counts(store, Retention(expire_after=30 * DAY, expire="checkpoints"))

        assert [each.text for each in await store.conversations.messages("t")] == ["a", "b"]
        conversation = await store.conversations.get("t")
        assert (conversation.message_count, conversation.memory_buffer) == (2, None)


async def test_a_put_after_its_thread_expired_brings_it_back_whole(store: Memory, saver: ConversationSaver) -> None:
    writer = await thread(saver, "t", 3)
    await age(store, "t", 40 * DAY)
    await store.retention.apply(Retention(expire_after=DAY))
    config = await writer.put(messages=[*writer.values["messages"], *said("late")])
    assert (await values(saver, config)) == writer.values
    await everything_is_whole(store)


# -- graphs


class DeltaState(TypedDict):
    messages: Annotated[list[Any], DeltaChannel(_messages_delta_reducer, snapshot_frequency=4)]
    count: int


def graph(saver: Any, kind: str) -> Any:
    state = DeltaState if kind == "delta" else MessagesState

    def answer(given: Any) -> Any:
        return {"messages": [AIMessage(f"answer {len(given['messages'])}", id=f"a{len(given['messages'])}")]}

    builder = StateGraph(state)
    builder.add_node("answer", answer)
    if kind == "subgraph":
        inner = StateGraph(MessagesState)
        inner.add_node("answer", answer)
        inner.add_edge(START, "answer")
        builder.add_node("inner", inner.compile(checkpointer=True))
        builder.add_edge(START, "inner")
        builder.add_edge("inner", "answer")
    elif kind == "interrupt":
        builder.add_node("ask", lambda state: {"messages": [("human", str(interrupt("sure?")))]})
        builder.add_edge(START, "ask")
        builder.add_edge("ask", "answer")
    else:
        builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=saver)


async def turn(compiled: Any, number: int) -> None:
    await compiled.ainvoke({"messages": said(f"q{number}")}, place())
    if (await compiled.aget_state(place())).interrupts:
        await compiled.ainvoke(Command(resume=f"yes {number}"), place())


def texts(state: Any) -> list[str]:
    return [message.content for message in state.values["messages"]]


@pytest.mark.parametrize("kind", ["plain", "delta", "subgraph", "interrupt"])
async def test_the_state_after_is_the_state_before(kind: str, store: Memory, saver: ConversationSaver) -> None:
    compiled = graph(saver, kind)
    for number in range(7):
        await turn(compiled, number)
    before = await compiled.aget_state(place(), subgraphs=True)
    past = [state async for state in compiled.aget_state_history(place())]
    channels = ["messages"]
    deltas = await saver.aget_delta_channel_history(config=before.config, channels=channels)
    report = await same_counts(store, Retention(keep_last=3))
    after = await compiled.aget_state(place(), subgraphs=True)
    assert report.rows["checkpoints"] > 0
    assert (after.values, after.next, after.metadata, after.config) == (
        before.values,
        before.next,
        before.metadata,
        before.config,
    )
    assert await saver.aget_delta_channel_history(config=before.config, channels=channels) == deltas
    kept = [state async for state in compiled.aget_state_history(place())]
    assert [texts(state) for state in kept[:3]] == [texts(state) for state in past[:3]]
    await turn(compiled, 7)
    assert len(texts(await compiled.aget_state(place()))) > len(texts(before))


async def test_an_interrupt_that_waits_is_answered_after(store: Memory, saver: ConversationSaver) -> None:
    compiled = graph(saver, "interrupt")
    await turn(compiled, 0)
    await compiled.ainvoke({"messages": said("q1")}, place())
    await same_counts(store, Retention(keep_last=1))
    assert (await compiled.aget_state(place())).interrupts
    await compiled.ainvoke(Command(resume="yes"), place())
    assert texts(await compiled.aget_state(place()))[-2:] == ["yes", "answer 5"]


@pytest.mark.parametrize("kind", ["plain", "delta", "subgraph"])
async def test_an_agent_at_work_ends_where_it_would_have_without(kind: str, shared_url: str, tenant: str) -> None:
    oracle = graph(InMemorySaver(), kind)
    async with opened(shared_url, tenant) as (_, saver), opened(shared_url, tenant) as (other, _):
        compiled = graph(saver, kind)
        async with pruning(other, Retention(keep_last=1)):
            for number in range(12):
                await turn(compiled, number)
        for number in range(12):
            await turn(oracle, number)
        assert texts(await compiled.aget_state(place())) == texts(await oracle.aget_state(place()))
        await other.retention.apply(Retention(keep_last=1))
        await everything_is_whole(other)


@asynccontextmanager
async def pruning(store: Memory, policy: Retention) -> AsyncIterator[list[RetentionReport]]:
    """Retention is applied all the time."""
    reports: list[RetentionReport] = []

    async def go_on() -> None:
        while True:
            reports.append(await store.retention.apply(policy))
            await asyncio.sleep(0.002)

    task = asyncio.ensure_future(go_on())
    try:
        yield reports
    finally:
        task.cancel()
        done = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError), done
    assert reports


async def test_many_writers_and_retention_in_a_storm(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (store, saver), opened(shared_url, tenant) as (other, late):
        writers = [Writer((saver, late)[n % 2], f"t{n % 3}", "" if n < 4 else f"child:{n}") for n in range(8)]

        async def write(writer: Writer, number: int) -> None:
            for step in range(15):
                earlier = writer.values.get("messages", [])[-5:]
                await writer.put(messages=[*earlier, *said(f"{number}/{step}")], topic=step)
                await writer.put(other=step)

        async with pruning(other, Retention(keep_last=2)), pruning(store, Retention(keep_last=1)):
            await asyncio.gather(*(write(writer, number) for number, writer in enumerate(writers)))
        await other.retention.apply(Retention(keep_last=1))
        await everything_is_whole(other)
        for writer in writers[4:]:
            assert await values(saver, writer.config) == writer.values


# -- batches


async def test_a_giant_thread_goes_a_part_at_a_time(
    store: Memory, saver: ConversationSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "giant", "z"):
        await thread(saver, name, 23 if name == "giant" else 3)
    await thread(saver, "giant", 9, namespace="child:1")
    before = await history(saver, place("giant"))
    monkeypatch.setattr(retention_module, "CHECKPOINTS", 4)
    monkeypatch.setattr(retention_module, "VALUES", 5)
    whole: list[int] = []

    def progress(report: RetentionReport) -> None:
        whole.append(report.rows.get("checkpoints", 0))

    announced = await store.retention.apply(Retention(keep_last=2), dry_run=True)
    report = await store.retention.apply(Retention(keep_last=2), progress=progress)
    assert (report.rows, report.pruned) == (announced.rows, announced.pruned)
    assert len(whole) > 6 and max(after - earlier for earlier, after in zip(whole, whole[1:], strict=False)) <= 4
    assert await history(saver, place("giant")) == before[-2:]
    await everything_is_whole(store)


@pytest.mark.parametrize("expire", ["thread", "checkpoints"])
async def test_a_giant_thread_expires_a_part_at_a_time(
    expire: Any, store: Memory, saver: ConversationSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await thread(saver, "giant", 23)
    await age(store, "giant", 40 * DAY)
    said_before = [message.text for message in await store.conversations.messages("giant")]
    monkeypatch.setattr(retention_module, "CHECKPOINTS", 4)
    monkeypatch.setattr(retention_module, "VALUES", 5)
    policy = Retention(expire_after=DAY, expire=expire)
    announced = await store.retention.apply(policy, dry_run=True)
    report = await store.retention.apply(policy)
    assert (report.rows, report.expired, report.emptied) == (announced.rows, announced.expired, announced.emptied)
    assert await rows(store, "checkpoints") == await rows(store, "checkpoint_blobs") == 0
    left = [message.text for message in await store.conversations.messages("giant")]
    assert left == (said_before if expire == "checkpoints" else [])


async def test_a_run_that_was_broken_off_is_finished_by_the_next(
    store: Memory, saver: ConversationSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await thread(saver, "giant", 23)
    before = await history(saver, place("giant"))
    monkeypatch.setattr(retention_module, "CHECKPOINTS", 4)

    def stop(report: RetentionReport) -> None:
        if report.rows.get("checkpoints", 0) >= 8:
            raise KeyError("enough")

    with pytest.raises(KeyError):
        await store.retention.apply(Retention(keep_last=2), progress=stop)
    left = await history(saver, place("giant"))
    assert len(left) == 15 and left == [each for each in before if each in left]
    await store.retention.apply(Retention(keep_last=2))
    assert await history(saver, place("giant")) == before[-2:]
    await everything_is_whole(store)


async def test_a_batch_takes_the_same_number_of_statements_however_much_is_in_it(
    store: Memory, saver: ConversationSaver
) -> None:
    await store.retention.apply(Retention(keep_last=1))
    taken = []
    for size in (1, 12):
        for number in range(size):
            await thread(saver, f"{size}-{number}", size)
        async with sent_to(store) as sent:
            await store.retention.apply(Retention(keep_last=1))
            taken.append(sent())
    assert taken[0] <= taken[1] <= 3


async def test_pages_follow_the_key_and_tell_how_far(store: Memory, saver: ConversationSaver) -> None:
    for number in range(7):
        await thread(saver, f"t{number}", 2)
    seen: list[tuple[int, int | None]] = []
    report = await store.retention.apply(
        Retention(keep_last=1), batch=3, progress=lambda report: seen.append((report.threads, report.of))
    )
    assert seen == [(3, 7), (6, 7), (7, 7)]
    assert (report.threads, report.pruned) == (7, 7)


async def test_a_thread_that_is_written_to_is_left_for_the_end(store: Memory, saver: ConversationSaver) -> None:
    for name in ("a", "b", "c"):
        await thread(saver, name, 3)
    async with store.database.transaction() as connection:
        await connection.execute(
            "SELECT FROM memory.conversations WHERE tenant_id = $1 AND thread_id = 'a' FOR UPDATE", store.tenant
        )
        running = asyncio.ensure_future(store.retention.apply(Retention(keep_last=1)))
        for _ in range(200):
            await asyncio.sleep(0.01)
            if await rows(store, "checkpoints") == 5:
                break
        assert not running.done()
    report = await running
    assert (report.rows["checkpoints"], report.pruned, report.threads) == (6, 3, 3)


async def test_other_tenants_are_not_touched(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (store, saver), opened(shared_url, tenant + "-b") as (other, theirs):
        await thread(saver, "t", 3)
        await thread(theirs, "t", 3)
        await store.retention.apply(Retention(keep_last=1))
        await age(store, "t", 9 * DAY)
        await store.retention.apply(Retention(expire_after=DAY))
        assert len(await history(theirs, place("t"))) == await rows(other, "checkpoints") == 3


# -- wrong input, settings


@pytest.mark.parametrize(
    "policy",
    [
        Retention(keep_last=0),
        Retention(keep_last=True),
        Retention(keep_last=2.5),  # type: ignore[arg-type]
        Retention(keep_for=timedelta(0)),
        Retention(expire_after=-DAY),
        Retention(expire_after=timedelta.max),
        Retention(keep_for=30),  # type: ignore[arg-type]
        Retention(expire="messages"),  # type: ignore[arg-type]
        {"keep_last": 1},
    ],
)
async def test_a_policy_that_makes_no_sense_is_refused(policy: Any, store: Memory) -> None:
    for call in (store.retention.apply(policy), store.retention.set("t", policy)):
        with pytest.raises(InvalidInputError, match="must be"):
            await call
    with pytest.raises(InvalidInputError, match="batch"):
        await store.retention.apply(batch=0)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90", timedelta(seconds=90)),
        ("90s", timedelta(seconds=90)),
        ("45m", timedelta(minutes=45)),
        ("12H", timedelta(hours=12)),
        ("1.5d", timedelta(hours=36)),
        ("2w", timedelta(weeks=2)),
        ("P30D", timedelta(days=30)),
        ("PT12H30M", timedelta(hours=12, minutes=30)),
        ("P1W2DT1S", timedelta(days=9, seconds=1)),
    ],
)
def test_times_are_read(text: str, span: timedelta) -> None:
    assert duration(text) == duration(short(span)) == span


@pytest.mark.parametrize("text", ["", "soon", "30x", "-1d", "0", "P", "PT", "1d2h", "999999w", "∞"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        duration(text)


async def test_the_settings_are_the_policy_for_all(
    shared_url: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_RETENTION_KEEP_LAST", "2")
    monkeypatch.setenv("MEMORY_RETENTION_KEEP_FOR", "12h")
    monkeypatch.setenv("MEMORY_RETENTION_EXPIRE_AFTER", "P90D")
    monkeypatch.setenv("MEMORY_RETENTION_EXPIRE", "checkpoints")
    async with opened(shared_url, tenant) as (store, saver):
        assert store.retention.default == Retention(2, timedelta(hours=12), 90 * DAY, "checkpoints")
        await thread(saver, "t", 4)
        await age(store, "t", DAY)
        await same_counts(store)
        assert len(await history(saver, place("t"))) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("KEEP_LAST", "0"), ("KEEP_FOR", "a month"), ("EXPIRE_AFTER", "-1d"), ("EVERY", "0"), ("EXPIRE", "all")],
)
def test_a_setting_that_makes_no_sense_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"MEMORY_RETENTION_{name}", value)
    with pytest.raises(ConfigurationError, match=f"MEMORY_RETENTION_{name} cannot be used"):
        get_settings()


# -- in the background


async def until(condition: Any) -> None:
    for _ in range(300):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it does not come")


@asynccontextmanager
async def kept_up(url: str, tenant: str, **more: Any) -> AsyncIterator[Memory]:
    settings = Settings(tenant=tenant, retention_every=timedelta(seconds=0.05), **more)
    async with Memory.open(url, settings=settings, embeddings=False) as store:
        yield store


async def test_an_open_store_applies_retention_by_itself(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (plain, saver):
        await thread(saver, "t", 4)
        async with kept_up(shared_url, tenant, retention_keep_last=2) as store:
            upkeep = store._upkeep
            assert upkeep is not None
            await until(lambda: upkeep.last_report is not None and upkeep.last_error is None)
        assert len(await history(saver, place("t"))) == 2
        await thread(saver, "t", 2)
        await asyncio.sleep(0.15)
        assert await rows(plain, "checkpoints") == 4, "the task goes with its store"


async def test_one_process_at_a_time(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (store, saver):
        await thread(saver, "t", 4)
        retention = Retentions(store.database, tenant=tenant, default=Retention(keep_last=1))
        async with store.database.transaction() as connection:
            await connection.fetchval(
                "SELECT pg_advisory_xact_lock(hashtext('memory-plugin retention'), hashtext($1 || '/memory'))", tenant
            )
            assert (await retention.apply_alone()).threads == 0
        assert (await retention.apply_alone()).rows["checkpoints"] == 3


async def test_a_failure_in_the_background_is_told_and_ends_nothing(
    shared_url: str, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with kept_up(shared_url, tenant, retention_keep_last=1) as store:
        failing = Retentions(store.database, tenant=tenant, default=Retention(keep_last=1))
        upkeep = store._upkeep
        assert upkeep is not None
        failing.apply_alone = lambda **_: store.retention.apply(batch=0)  # type: ignore[method-assign,assignment]
        upkeep._retention = failing
        await until(lambda: store.retention_error is not None)
        assert isinstance(store.retention_error, InvalidInputError)
        upkeep._retention = store.retention
        await until(lambda: store.retention_error is None)
    assert caplog.text.count("Retention in the background failed") == 1


def test_the_sync_face_has_retention(shared_url: str, tenant: str) -> None:
    with Memory.open(shared_url, tenant=tenant, embeddings=False) as store:
        store.retention.set("t", Retention(keep_last=3))
        assert store.retention.get("t") == Retention(keep_last=3)
        assert store.retention.apply().threads == 1
        assert store.retention.clear("t") is True


# -- the command


def run(url: str, tenant: str, *arguments: str) -> Any:
    from typer.testing import CliRunner

    from memory_plugin.cli import app

    return CliRunner().invoke(app, ["--url", url, "--tenant", tenant, "--json", "prune", *arguments])


async def test_the_command_removes_what_it_announced(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (_, saver):
        for name in ("a", "b"):
            await thread(saver, name, 4)
        announced = await asyncio.to_thread(run, shared_url, tenant, "--keep-last", "2", "--dry-run")
        done = await asyncio.to_thread(run, shared_url, tenant, "--keep-last", "2", "--thread", "a")
        every = await asyncio.to_thread(run, shared_url, tenant, "--keep-last", "2", "--batch", "1")
        reports = [json.loads(each.stdout)["retention"] for each in (announced, done, every)]
        assert [each["rows"]["checkpoints"] for each in reports] == [4, 2, 2]
        assert [each["dry_run"] for each in reports] == [True, False, False]
        assert len(await history(saver, place("a"))) == 2


@pytest.mark.parametrize("wrong", [("--keep-for", "soon"), ("--keep-last", "0"), ("--only-checkpoints",)])
def test_a_wrong_option_is_not_understood(wrong: tuple[str, ...], shared_url: str, tenant: str) -> None:
    assert run(shared_url, tenant, *wrong).exit_code == 2


def test_a_long_text_that_is_no_time_is_refused_at_once() -> None:
    """Its blanks were counted anew from each of them: 8 s of processor for 40 kB."""
    began = time.process_time()
    with pytest.raises(ValueError, match="is not a time"):
        duration(" " * 20_000 + "1" + " " * 20_000 + "x")
    assert time.process_time() - began < 1
