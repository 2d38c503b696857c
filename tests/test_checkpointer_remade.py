"""What a saver knows of a thread, where others delete the thread, make it anew, or use it at the same moment."""

from __future__ import annotations

import sys
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from memory_plugin import Memory, Retention
from memory_plugin.langgraph import ConversationSaver
from memory_plugin.langgraph.buffer import buffer_of
from memory_plugin.langgraph.codec import ValueCodec
from memory_plugin.langgraph.entries import entry_of
from memory_plugin.langgraph.known import KnownMessages, View
from tests.saver_tools import Writer, checkpoint, opened, place, said, values

pytest_plugins = ("tests.saver_fixtures",)


async def texts(saver: ConversationSaver, config: Any = None) -> list[str]:
    """What the messages of a state say."""
    return [message.text for message in (await values(saver, config or place()))["messages"]]


# -- threads that were deleted, and begun again under their id


@pytest.mark.parametrize("looked", [True, False])
async def test_a_thread_begun_again_shows_nothing_of_its_past(looked: bool, shared_url: str, tenant: str) -> None:
    """Another process deleted the conversation; rows get the numbers that old ones had."""
    async with opened(shared_url, tenant) as (_, saver), opened(shared_url, tenant) as (_, other):
        await Writer(saver).put(messages=said("a", "b", "c"))
        await other.adelete_thread("t")
        if looked:
            assert await saver.aget_tuple(place()) is None
        writer = Writer(saver)
        messages = said("x", "y", "z")
        for number in range(1, 4):
            await writer.put(messages=messages[:number])

        assert await texts(saver) == await texts(other) == ["x", "y", "z"]


async def test_what_another_put_into_the_thread_begun_again_is_read_from_there(shared_url: str, tenant: str) -> None:
    """New rows that stand right behind the numbers of old ones prove nothing about these."""
    async with opened(shared_url, tenant) as (_, saver), opened(shared_url, tenant) as (_, other):
        await Writer(saver).put(messages=said("a", "b", "c"))
        await other.adelete_thread("t")
        theirs = await Writer(other).put(messages=said("x", "y", "z"))
        await Writer(saver).put(messages=said("mine"))

        assert await texts(saver, theirs) == ["x", "y", "z"]
        assert await texts(saver) == ["mine"]


async def test_a_message_of_the_deleted_thread_may_be_said_again(shared_url: str, tenant: str) -> None:
    """Rows that were never held whole are noticed to be others when they are read."""
    odd = AIMessage("odd", id="odd", additional_kwargs={"pair": (1, 2)})
    async with opened(shared_url, tenant) as (_, saver), opened(shared_url, tenant) as (_, other):
        await Writer(saver).put(messages=[odd])
        await other.adelete_thread("t")
        writer = Writer(other)
        writer.config = await writer.put(messages=said("x"))
        mine = Writer(saver)
        mine.config, mine.values, mine.versions = writer.config, await values(saver, place()), dict(writer.versions)
        await mine.put(messages=[*mine.values["messages"], odd])

        assert await texts(saver) == await texts(other) == ["x", "odd"]


async def test_the_buffer_of_a_thread_begun_again_is_there(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (store, saver), opened(shared_url, tenant) as (_, other):
        await Writer(saver).put(topic="x")
        await other.adelete_thread("t")
        await Writer(saver).put(topic="x")

        assert await store.conversations.get_buffer("t") == {"topic": "x"}


async def test_a_late_step_without_messages_makes_the_buffer_too(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (store, saver), opened(shared_url, tenant) as (_, other):
        writer = Writer(saver)
        await writer.put(topic="x")
        await other.adelete_thread("t")
        await writer.put(topic="x")

        assert await store.conversations.get_buffer("t") == {"topic": "x"}


@pytest.mark.parametrize("known", [True, False])
async def test_a_step_after_its_checkpoints_expired_says_nothing_twice(
    known: bool, saver: ConversationSaver, store: Memory
) -> None:
    """The messages stayed as the conversation, and become those of the state again."""
    writer = Writer(saver)
    await writer.put(messages=said("a", "b"))
    for table, column in (("conversations", "updated_at"), ("checkpoints", "created_at")):
        statement = f"UPDATE {{s}}.{table} SET {column} = {column} - interval '9 days' WHERE tenant_id = $1"
        await store.database.execute(store.database.sql(statement), store.tenant)
    assert (await store.retention.apply(Retention(expire_after=timedelta(8), expire="checkpoints"))).emptied == 1
    if not known:
        saver._known.clear()
    await store.conversations.append("t", [HumanMessage("beside", id="beside")])
    for messages in (said("a", "b", "c"), said("a", "b", "c", "d")):
        await writer.put(messages=messages)

        assert (await values(saver, place()))["messages"] == messages
        shown = [message.text for message in await store.conversations.messages("t")]
        assert sorted(shown) == sorted(["beside", *(message.text for message in messages)])
        assert (await store.conversations.get("t")).message_count == len(shown)


# -- messages as they were put, and as they are read


async def test_what_the_serializer_makes_plain_is_read_as_often_as_you_like(saver: ConversationSaver) -> None:
    """A tuple comes back as a list, as from any LangGraph saver: then it can be held whole."""
    writer = Writer(saver)
    messages = [*said("a"), AIMessage("b", id="b", additional_kwargs={"pair": (1, 2)})]
    config = await writer.put(messages=messages)
    first = await values(saver, config)
    for _ in range(3):
        assert await values(saver, config) == first
    await writer.put(messages=[*first["messages"], *said("c")])

    assert first["messages"][1].additional_kwargs == {"pair": [1, 2]}
    assert await texts(saver) == ["a", "b", "c"]


async def test_what_is_dropped_while_a_parent_is_read_is_read_whole(
    saver: ConversationSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer leaves out what was held when it was asked for; meanwhile that is known no more."""
    writer = Writer(saver)
    await writer.put(messages=said("a", "b"))
    known = saver._known.thread("t")
    known.checkpoints.clear()
    checkpoints, get = saver._core.checkpoints, saver._core.checkpoints.get

    async def get_and_forget(*arguments: Any, **options: Any) -> Any:
        row = await get(*arguments, **options)
        known.reset()
        return row

    monkeypatch.setattr(checkpoints, "get", get_and_forget)
    await writer.put(x=1)
    monkeypatch.setattr(checkpoints, "get", get)
    await writer.put(messages=[*writer.values["messages"], *said("c")])

    assert await texts(saver) == ["a", "b", "c"]


async def test_versions_that_were_read_belong_to_the_reader(saver: ConversationSaver) -> None:
    """LangGraph goes on with the versions it read, and copies a later checkpoint beside its parent."""
    writer = Writer(saver)
    early = await writer.put(messages=said("a"))
    read = await saver.aget_tuple(early)
    assert read is not None
    await writer.put(messages=said("a", "b"))
    read.checkpoint["channel_versions"].update(writer.versions)
    copied = await saver.aput(early, checkpoint(writer.values, writer.versions), {"source": "fork"}, {})

    assert await texts(saver, copied) == ["a", "b"]


# -- forks that change only some of the state


@pytest.mark.parametrize("early", [("a", "b"), (), None])
@pytest.mark.parametrize("warm", [True, False])
async def test_a_fork_that_says_nothing_counts_its_own_messages(
    warm: bool, early: tuple[str, ...] | None, store: Memory, saver: ConversationSaver
) -> None:
    writer = Writer(saver)
    branch = writer.fork(await writer.put(**({"x": 0} if early is None else {"messages": said(*early)})))
    branch.values, branch.versions = dict(writer.values), dict(writer.versions)
    late = await writer.put(messages=said("a", "b", "c", "d"))
    if not warm:
        saver._known.clear()
        await saver.aget_tuple(place())
    await branch.put(x=1)
    assert (await store.conversations.get("t")).message_count == len(early or ())
    await writer.fork(late).put(x=2)

    assert (await store.conversations.get("t")).message_count == 4


async def test_a_fork_that_only_says_something_shows_its_own_buffer(store: Memory, saver: ConversationSaver) -> None:
    writer = Writer(saver)
    early = await writer.put(messages=said("a"), topic="early")
    branch = writer.fork(early)
    await writer.put(topic="late")
    await branch.put(messages=said("a", "b"))

    assert await store.conversations.get_buffer("t") == {"topic": "early"}


async def test_a_copy_of_the_first_state_shows_what_that_had(store: Memory, saver: ConversationSaver) -> None:
    writer = Writer(saver)
    first = await writer.put(topic="early")
    copied = checkpoint(writer.values, writer.versions)
    await writer.put(topic="late", messages=said("a"))
    saver._known.clear()
    await saver.aget_tuple(first)
    await saver.aput(place(), copied | {"id": checkpoint({}, {})["id"]}, {"source": "fork"}, {})

    conversation = await store.conversations.get("t")
    assert (conversation.message_count, conversation.memory_buffer) == (0, {"topic": "early"})


# -- threads of the process


def test_memory_is_counted_while_other_threads_put() -> None:
    """Whoever makes room looks at conversations that others are about to store something in."""
    kept = KnownMessages(1)
    known = kept.thread("t")
    entry = entry_of(HumanMessage("a", id="a"))
    codec = ValueCodec(JsonPlusSerializer())
    end = time.monotonic() + 0.5
    failures: list[BaseException] = []

    def repeat(step: Any) -> None:
        try:
            while time.monotonic() < end:
                step()
        except BaseException as error:  # noqa: BLE001 - whatever a thread fails with, the test is to see
            failures.append(error)

    numbers = iter(range(10**9))

    def show() -> None:
        known.show(("", str(next(numbers) % 40)), View([entry], []))

    def shown() -> None:
        name = str(next(numbers) % 40)
        options: Any = {"conversation_channel": "messages", "limit": 1000}
        buffer_of(codec, {name: 1}, {name: "1"}, [], known.buffer_parts, **options)

    steps = (show, shown, shown, lambda: known.footprint, lambda: kept.thread(str(next(numbers))))
    others = [threading.Thread(target=repeat, args=(step,)) for step in steps]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for each in others:
            each.start()
        for each in others:
            each.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
