"""A message is one row, whoever holds it, and a conversation costs what it says."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langgraph.checkpoint.memory import InMemorySaver

from memory_plugin import Memory
from memory_plugin.db.database import Database
from memory_plugin.langgraph import ConversationSaver
from tests.saver_tools import Writer, checkpoint, history, opened, place, rows, said, sent_to, values

pytest_plugins = ("tests.saver_fixtures",)


async def texts(store: Memory, thread: str = "t") -> list[str]:
    return [message.text for message in await store.conversations.messages(thread)]


# -- forks and edits


async def test_forks_share_what_they_have_in_common(saver: ConversationSaver, store: Memory) -> None:
    trunk = Writer(saver)
    await trunk.put(messages=said("a", "b"))
    left, right = trunk.fork(trunk.config), trunk.fork(trunk.config)
    left_config = await left.put(messages=[*trunk.values["messages"], *said("left")])
    right_config = await right.put(messages=[*trunk.values["messages"], *said("right")])

    assert (await values(saver, left_config))["messages"] == said("a", "b", "left")
    assert (await values(saver, right_config))["messages"] == said("a", "b", "right")
    assert await rows(store, "messages") == 4
    assert await texts(store) == ["a", "b", "right"]
    assert (await store.conversations.get("t")).message_count == 3


@pytest.mark.parametrize("cold", [True, False])
@pytest.mark.parametrize(
    ("edited", "new_rows"),
    [
        (said("a", "c", "d"), 0),
        (said("d"), 0),
        (said("d", "c", "b", "a"), 0),
        (said("a", "b", "c", "d", "e"), 1),
        ([*said("a"), HumanMessage("B!", id="id-b"), *said("c", "d")], 1),
        ([SystemMessage("summary", id="s"), *said("d")], 1),
        (said("x", "a", "y", "d", "z"), 3),
        ([*said("a", "a"), *said("b")], 0),
    ],
    ids=["removed", "most removed", "reversed", "appended", "edited", "summarised", "inserted", "doubled"],
)
async def test_an_edit_stores_only_what_is_new(
    edited: list[BaseMessage], new_rows: int, cold: bool, saver: ConversationSaver, store: Memory
) -> None:
    writer = Writer(saver)
    before = await writer.put(messages=said("a", "b", "c", "d"))
    if cold:
        saver._known.clear()
    await writer.put(messages=edited)

    assert (await values(saver, place()))["messages"] == edited
    assert (await values(saver, before))["messages"] == said("a", "b", "c", "d")
    assert await rows(store, "messages") == 4 + new_rows
    assert await texts(store) == [message.text for message in edited]
    assert (await store.conversations.get("t")).message_count == len(edited)


async def test_a_list_that_becomes_empty_is_empty(saver: ConversationSaver, store: Memory) -> None:
    writer = Writer(saver)
    await writer.put(messages=said("a", "b"))
    await writer.put(messages=[])

    assert (await values(saver, place()))["messages"] == []
    assert await texts(store) == []
    assert (await store.conversations.get("t")).message_count == 0
    assert await store.conversations.get_buffer("t") is None


@pytest.mark.parametrize("how", ["channel without a value", "state without the channel"])
async def test_a_state_without_messages_counts_none(how: str, saver: ConversationSaver, store: Memory) -> None:
    writer = Writer(saver)
    await writer.put(messages=said("a", "b"))
    if how == "channel without a value":
        version = saver.get_next_version(writer.versions["messages"], None)
        state = checkpoint({}, {"messages": version})
        await saver.aput(writer.config, state, {"source": "loop", "step": 5}, {"messages": version})
    else:
        await Writer(saver).put(topic="x")

    assert await texts(store) == []
    assert (await store.conversations.get("t")).message_count == 0


async def test_messages_without_ids_that_say_the_same_are_said_twice(saver: ConversationSaver, store: Memory) -> None:
    writer, same = Writer(saver), [HumanMessage("yes"), HumanMessage("yes")]
    await writer.put(messages=same)
    await writer.put(messages=[*same, HumanMessage("yes")])
    saver._known.clear()
    await writer.put(messages=[*same, HumanMessage("yes"), AIMessage("no")])

    assert (await values(saver, place()))["messages"] == [*same, HumanMessage("yes"), AIMessage("no")]
    assert await rows(store, "messages") == 4


async def test_the_same_message_in_two_channels_is_one_row(saver: ConversationSaver, store: Memory) -> None:
    writer, both = Writer(saver), said("a", "b")
    await writer.put(archive=both, messages=both)
    await writer.put(archive=[*both, *said("c")])
    await writer.put(messages=[*both, *said("c")])

    assert await values(saver, place()) == {"archive": said("a", "b", "c"), "messages": said("a", "b", "c")}
    assert await rows(store, "messages") == 3
    assert await rows(store, "messages", "origin = 0") == 3
    assert (await store.conversations.get("t")).message_count == 3


async def test_messages_of_a_subgraph_are_not_the_conversation_until_it_has_them(
    saver: ConversationSaver, store: Memory
) -> None:
    root, sub = Writer(saver), Writer(saver, namespace="agent:1")
    await root.put(messages=said("question"))
    await sub.put(messages=[*root.values["messages"], *said("thought")])
    await store.indexed()
    assert await texts(store) == ["question"]
    assert await rows(store, "messages", "origin = 2") == 1
    assert [hit.text for hit in await store.recall("thought")] == []

    await root.put(messages=[*root.values["messages"], sub.values["messages"][-1], *said("answer")])

    assert await texts(store) == ["question", "thought", "answer"]
    assert await rows(store, "messages") == 3
    assert await rows(store, "messages", "origin = 2") == 0
    assert (await store.conversations.get("t")).message_count == 3
    await store.indexed()
    assert [hit.text for hit in await store.recall("thought")][:1] == ["thought"]
    assert (await values(saver, place("t", "agent:1")))["messages"] == said("question", "thought")


@pytest.mark.parametrize("face", ["count", "recall", "history", "copy"])
async def test_the_conversation_may_be_another_channel(face: str, shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant, messages_channel="dialogue") as (store, saver):
        writer = Writer(saver)
        await writer.put(dialogue=said("first question"), messages=said("scratch of the agent"))
        await writer.put(dialogue=[*writer.values["dialogue"], AIMessage("an answer", id="x")], topic="x")
        await store.indexed()

        if face == "count":
            assert (await store.conversations.get("t")).message_count == 2
            assert await buffer_of(store) == {"topic": "x"}
        elif face == "recall":
            assert [hit.text for hit in await store.recall("question")] == ["first question"]
            assert await store.recall("scratch") == []
        elif face == "copy":
            await saver.acopy_thread("t", "twin")
            assert await texts(store, "twin") == ["first question", "an answer"]
        else:
            assert await texts(store) == ["first question", "an answer"]


async def buffer_of(store: Memory) -> Any:
    return await store.conversations.get_buffer("t")


# -- changed in place


def in_content(message: Any) -> None:
    message.content = "changed"


def in_kwargs(message: Any) -> None:
    message.additional_kwargs["deep"]["list"].append(1)


def in_blocks(message: Any) -> None:
    message.content[0]["text"] = "changed"


def in_extra(message: Any) -> None:
    message.favourite = "red"


def in_type_only(message: Any) -> None:
    message.response_metadata["n"] = 1.0  # 1 == 1.0


def in_nan(message: Any) -> None:
    message.response_metadata["n"] = float("nan")


@pytest.mark.parametrize("change", [in_content, in_kwargs, in_blocks, in_extra, in_type_only, in_nan])
async def test_a_message_changed_in_place_is_noticed(change: Any, saver: ConversationSaver, store: Memory) -> None:
    message = AIMessage(
        [{"type": "text", "text": "as it was"}],
        id="1",
        additional_kwargs={"deep": {"list": []}},
        favourite="blue",
        response_metadata={"n": 1},
    )
    original = copy.deepcopy(message)
    writer = Writer(saver)
    first = await writer.put(messages=[*said("a"), message])
    change(message)
    second = await writer.put(messages=[*writer.values["messages"], *said("b")])

    assert repr((await values(saver, first))["messages"][1]) == repr(original)
    assert repr((await values(saver, second))["messages"][1]) == repr(message)
    assert await rows(store, "messages") == 4


async def test_a_message_that_was_read_and_changed_is_noticed(saver: ConversationSaver) -> None:
    writer = Writer(saver)
    await writer.put(messages=said("a", "b"))
    writer.values = await values(saver, place())
    writer.values["messages"][0].content = "changed"
    await writer.put(messages=writer.values["messages"])

    assert [message.content for message in (await values(saver, place()))["messages"]] == ["changed", "b"]


async def test_what_changes_after_the_call_is_not_stored(saver: ConversationSaver) -> None:
    """LangGraph goes on with the same objects while a put is under way."""
    import asyncio

    writer = Writer(saver)
    messages, items = said("a"), [1]
    pending = asyncio.ensure_future(writer.put(messages=messages, items=items))
    await asyncio.sleep(0)
    messages[0].content = "changed"
    messages.append(HumanMessage("more"))
    items.append(2)
    await pending

    assert await values(saver, place()) == {"messages": said("a"), "items": [1]}


# -- what it costs


class Spy:
    """Counts the bytes of the arguments that a database is given."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        for name in ("fetch", "fetchrow", "fetchval", "execute"):
            monkeypatch.setattr(database, name, self._counting(getattr(database, name)))

    def _counting(self, method: Any) -> Any:
        async def call(statement: str, *arguments: Any, **options: Any) -> Any:
            self.bytes += len(repr(arguments))
            return await method(statement, *arguments, **options)

        return call


async def test_the_hundredth_turn_costs_what_the_tenth_did(
    saver: ConversationSaver, store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "kick", lambda: None)  # the index of words has statements of its own
    spy, writer, sizes, counts = Spy(store.database, monkeypatch), Writer(saver), [], []
    messages: list[BaseMessage] = []
    for turn in range(100):
        before = spy.bytes
        messages = [
            *messages,
            HumanMessage(f"question {turn:03}", id=f"q{turn:03}"),
            AIMessage("x" * 500, id=f"a{turn:03}"),
        ]
        await writer.put(messages=messages)
        sizes.append(spy.bytes - before)
        if turn in (9, 99):
            counts.append([await rows(store, table) for table in ("messages", "checkpoints", "checkpoint_blobs")])

    assert sizes[99] < sizes[10] + 40
    assert counts == [[20, 10, 0], [200, 100, 0]]
    refs = await store.database.fetchval(
        "SELECT max(length(message_refs::text)) FROM memory.checkpoints WHERE tenant_id = $1", store.tenant
    )
    assert refs < 60  # a range or two, however long the conversation


async def test_every_operation_of_a_warm_saver_is_one_statement(saver: ConversationSaver, store: Memory) -> None:
    store.kick = lambda: None  # type: ignore[method-assign]
    writer = Writer(saver)
    await writer.put(messages=said("a"), topic="x")
    sub = Writer(saver, namespace="sub:1")

    async with sent_to(store) as sent:
        await writer.put(messages=[*writer.values["messages"], *said("b")])
        assert sent() == 1
        await writer.put(topic="y")
        assert sent() == 2
        config = await writer.put(messages=said("b"))
        assert sent() == 3
        await saver.aput_writes(config, [("messages", said("c")), ("topic", 1)], "task")
        assert sent() == 4
        found = await saver.aget_tuple(place())
        assert sent() == 5
        assert found is not None
        writer.values = dict(found.checkpoint["channel_values"])
        await writer.put(messages=[*writer.values["messages"], *said("c")])
        assert sent() == 6
        await sub.put(messages=[*writer.values["messages"], *said("d")])
        assert sent() == 7
        await writer.put(messages=[*writer.values["messages"], sub.values["messages"][-1]])
        assert sent() == 8
        assert len([each async for each in saver.alist(place(), limit=8)]) == 6
        assert sent() == 9


async def test_a_new_thread_is_one_statement_from_the_start(saver: ConversationSaver, store: Memory) -> None:
    store.kick = lambda: None  # type: ignore[method-assign]
    async with sent_to(store) as sent:
        assert await saver.aget_tuple(place()) is None
        await Writer(saver).put(messages=said("a"), topic="x")

    assert sent() == 2


async def test_a_cold_saver_reads_once_and_stores_nothing_again(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (_, first):
        writer = Writer(first)
        await writer.put(messages=said("a", "b"), topic="x")
    async with opened(shared_url, tenant) as (store, cold):
        writer.saver = cold
        store.kick = lambda: None  # type: ignore[method-assign]
        async with sent_to(store) as sent:
            await writer.put(messages=[*said("a", "b"), *said("c")])
            await writer.put(messages=[*writer.values["messages"], *said("d")])

        assert sent() == 3
        assert await rows(store, "messages") == 4


async def test_what_is_known_of_a_thread_is_bounded(saver: ConversationSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    from memory_plugin.langgraph import known

    monkeypatch.setattr(known, "SMALL_THREAD", 20)
    monkeypatch.setattr(known, "MAX_CHECKPOINTS", 4)
    monkeypatch.setattr(known, "MAX_THREADS", 3)
    oracle = InMemorySaver()
    writers = [Writer(each, f"t{number}") for number in range(5) for each in (saver, oracle)]
    for turn in range(30):
        for writer in writers:
            kept = writer.values.get("messages", [])[-3:]
            await writer.put(messages=[*kept, *said(f"{turn}")])

    ours = saver._known
    assert len(ours._kept) <= 3
    assert all(len(thread.rows) <= 40 and len(thread.checkpoints) <= 4 for thread in ours._kept.values())
    for number in range(5):
        config = place(f"t{number}")
        assert [each["checkpoint"]["channel_values"] for each in await history(saver, config)] == [
            each["checkpoint"]["channel_values"] for each in await history(oracle, config)
        ]
