"""Conversations: threads, their messages, and the agent's live state beside them."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from memory_plugin.core import MemoryCore
from memory_plugin.errors import ContentTooLargeError, InvalidInputError, NotFoundError
from memory_plugin.memory import Memory
from tests.counting import counted

EVERY_TYPE: list[BaseMessage] = [
    HumanMessage("hello", id="h1", name="Ada"),
    AIMessage(
        "",
        id="a1",
        tool_calls=[{"name": "look_up", "args": {"q": "tea", "n": 2, "deep": {"x": [1, None, 2.5]}}, "id": "c1"}],
        usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
        response_metadata={"model_name": "m", "finish_reason": "tool_calls"},
    ),
    ToolMessage("found", tool_call_id="c1", name="look_up", artifact={"rows": [1, 2]}, status="success"),
    ToolMessage("with a live artifact", tool_call_id="c2", artifact={1, 2, 3}),
    SystemMessage("be kind"),
    HumanMessage(
        [{"type": "text", "text": "what is this?"}, {"type": "image", "base64": "aGk=", "mime_type": "image/png"}]
    ),
    RemoveMessage(id="h1"),
    ChatMessage("free role", role="critic"),
    FunctionMessage("old style", name="f"),
    AIMessageChunk("part"),
    AIMessage("with a refusal", additional_kwargs={"refusal": None, "nested": {"b": 1, "a": [True]}}),
]


@pytest.mark.parametrize("message", EVERY_TYPE, ids=lambda message: f"{type(message).__name__}-{message.id}")
async def test_every_message_type_comes_back_equal(memory: Memory, message: BaseMessage) -> None:
    history = memory.history("t")
    await history.aadd_messages([message])
    (back,) = await history.aget_messages()
    if isinstance(getattr(message, "artifact", None), set):
        assert back.content == message.content  # a set has no JSON form: history shows it readably
    else:
        assert back == message
        assert type(back) is type(message)


async def test_bulk_is_ordered_and_one_statement(memory: Memory) -> None:
    messages = [HumanMessage(f"number {number}") for number in range(500)]
    history = memory.history("bulk")
    await memory.history("before").aadd_messages([HumanMessage("the driver learns the types")])
    async with counted(memory.database) as statements:
        await history.aadd_messages(messages)
    assert len(statements) == 1
    assert [message.content for message in await history.aget_messages()] == [m.content for m in messages]


async def test_the_newest_n_come_oldest_first(memory: Memory) -> None:
    await memory.history("t").aadd_messages([HumanMessage(str(number)) for number in range(10)])
    assert [message.content for message in await memory.history("t", limit=3).aget_messages()] == ["7", "8", "9"]


@pytest.mark.parametrize(
    "session", ["plain", "with/slash?&% ünïcode 会话", 42, uuid.uuid4(), "x" * 512, "'; DROP TABLE"]
)
async def test_any_session_id_works(memory: Memory, session: object) -> None:
    await memory.history(session).aadd_messages([HumanMessage("hi")])
    assert len(await memory.history(session).aget_messages()) == 1
    assert (await memory.conversations.get(str(session))).message_count == 1


@pytest.mark.parametrize("session", ["", None, "\x00", "x" * 513])
async def test_a_session_id_that_cannot_be_stored_is_refused(memory: Memory, session: object) -> None:
    with pytest.raises(InvalidInputError):
        memory.history(session)


async def test_clear_erases_what_was_said_and_keeps_the_conversation(memory: Memory) -> None:
    await memory.conversations.create("t", title="Tea", user_id="u")
    history = memory.history("t")
    await history.aadd_messages([HumanMessage("about tea")])
    await memory.indexed(5)
    await history.aclear()
    assert await history.aget_messages() == []
    assert await memory.recall("tea") == []
    kept = await memory.conversations.get("t")
    assert (kept.title, kept.message_count) == ("Tea", 0)
    await history.aadd_messages([HumanMessage("again")])
    assert [message.content for message in await history.aget_messages()] == ["again"]


async def test_concurrent_writers_lose_nothing(memory: Memory) -> None:
    await asyncio.gather(
        *(memory.history("t").aadd_messages([HumanMessage(str(n)), AIMessage(str(n))]) for n in range(40))
    )
    stored = await memory.conversations.messages("t")
    assert [message.seq for message in stored] == list(range(1, 81))
    pairs = [(stored[place].text, stored[place + 1].text) for place in range(0, 80, 2)]
    assert all(one == other for one, other in pairs), "what was added together stays together"


async def test_append_takes_every_shape_of_message(core: MemoryCore) -> None:
    await core.conversations.append(
        "t",
        ["plain", ("ai", "a pair"), {"role": "assistant", "content": "a dict"}, HumanMessage("an object", name="Bo")],
    )
    stored = await core.conversations.messages("t")
    assert [(message.role, message.text) for message in stored] == [
        ("human", "plain"),
        ("ai", "a pair"),
        ("ai", "a dict"),
        ("human", "an object"),
    ]
    assert stored[3].name == "Bo"


async def test_append_keeps_when_things_were_said(core: MemoryCore) -> None:
    start = datetime(2023, 5, 8, tzinfo=UTC)
    times = [start, start + timedelta(hours=1)]
    await core.conversations.append("t", ["one", "two"], at=times)
    assert [message.at for message in await core.conversations.messages("t")] == times


async def test_append_with_the_wrong_number_of_times_writes_nothing(core: MemoryCore) -> None:
    with pytest.raises(InvalidInputError, match="2 messages but 1 times"):
        await core.conversations.append("t", ["one", "two"], at=[datetime.now(UTC)])
    assert await core.conversations.messages("t") == []


@pytest.mark.parametrize("bad", [object(), 5, {"content": "no role"}, ("a", "b", "c"), None])
async def test_what_is_no_message_is_refused_and_nothing_is_written(core: MemoryCore, bad: object) -> None:
    with pytest.raises(InvalidInputError):
        await core.conversations.append("t", ["fine", bad])
    assert await core.conversations.messages("t") == []


async def test_hostile_text_comes_back_or_is_replaced_but_never_crashes(memory: Memory) -> None:
    messages = [
        HumanMessage("nul \x00 byte"),
        HumanMessage("half \ud800 pair"),
        AIMessage("nan", additional_kwargs={"x": float("nan")}),
    ]
    await memory.history("t").aadd_messages(messages)
    back = await memory.history("t").aget_messages()
    assert [message.content for message in back[:2]] == [message.content for message in messages[:2]]
    assert back[2].additional_kwargs["x"] != back[2].additional_kwargs["x"]


async def test_a_message_of_10_megabytes_is_stored(memory: Memory) -> None:
    text = "long " * 2_000_000
    await memory.history("t").aadd_messages([HumanMessage(text)])
    assert (await memory.history("t").aget_messages())[0].content == text
    await memory.passages.catch_up()


async def test_a_message_beyond_the_limit_is_refused(core: MemoryCore) -> None:
    with pytest.raises(ContentTooLargeError, match="split it"):
        await core.conversations.append("t", ["x" * 17_000_000])
    assert await core.conversations.messages("t") == []


async def test_an_unknown_conversation_is_not_found(core: MemoryCore) -> None:
    with pytest.raises(NotFoundError, match="conversations.list"):
        await core.conversations.get("nope")
    assert await core.conversations.messages("nope") == []
    assert (await core.conversations.delete("nope"))["conversations"] == 0


async def test_listing_is_newest_first_by_user_with_a_cursor(core: MemoryCore) -> None:
    for number in range(7):
        await core.conversations.append(f"t{number}", [f"hello {number}"], user_id="u")
    await core.conversations.append("other", ["x"], user_id="v")
    await core.conversations.append("t2", ["back again"])
    seen: list[str] = []
    cursor = None
    while True:
        page = await core.conversations.list(user_id="u", limit=3, cursor=cursor)
        seen += [conversation.thread_id for conversation in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == ["t2", "t6", "t5", "t4", "t3", "t1", "t0"]


async def test_listing_searches_titles_literally(core: MemoryCore) -> None:
    await core.conversations.create("a", title="100% Tea")
    await core.conversations.create("b", title="100 cups")
    assert [c.thread_id for c in (await core.conversations.list(search="100%")).items] == ["a"]


async def test_a_cursor_that_is_not_ours_is_refused(core: MemoryCore) -> None:
    with pytest.raises(InvalidInputError, match="cursor"):
        await core.conversations.list(cursor="bm9wZQ==")


async def test_deleting_takes_everything_of_the_thread(memory: Memory) -> None:
    await memory.conversations.append("t", ["the secret garden"])
    await memory.working_memory.update("focus", thread_id="t")
    await memory.indexed(5)
    counts = await memory.conversations.delete("t")
    assert counts["messages"] == counts["conversations"] == counts["passages"] == counts["working_memory"] == 1
    assert await memory.recall("garden") == []


async def test_the_buffer_is_set_merged_and_found_by_what_is_in_it(core: MemoryCore) -> None:
    assert await core.conversations.get_buffer("t") is None
    await core.conversations.merge_buffer("t", {"user_preferences": {"topic": "pricing"}, "step": 1})
    assert await core.conversations.merge_buffer("t", {"step": 2}) == {
        "user_preferences": {"topic": "pricing"},
        "step": 2,
    }
    await core.conversations.set_buffer("other", {"user_preferences": {"topic": "support"}})
    found = await core.conversations.find_by_buffer({"user_preferences": {"topic": "pricing"}})
    assert [conversation.thread_id for conversation in found] == ["t"]
    await core.conversations.set_buffer("t", None)
    assert await core.conversations.get_buffer("t") is None


async def test_the_buffer_is_found_through_its_index(core: MemoryCore) -> None:
    await core.database.execute(
        "INSERT INTO memory.conversations (tenant_id, thread_id, memory_buffer) "
        "SELECT 'default', 't' || n, jsonb_build_object('topic', 'topic ' || n) FROM generate_series(1, 5000) AS n"
    )
    owner = core.database.as_login()
    await owner.execute("ANALYZE memory.conversations")
    plan = await owner.fetch(
        "EXPLAIN SELECT * FROM memory.conversations WHERE tenant_id = 'default' AND memory_buffer @> '{\"topic\": \"topic 77\"}'"
    )
    assert "conversations_memory_buffer_idx" in "\n".join(row[0] for row in plan)


async def test_appending_is_one_statement_and_reading_is_one(core: MemoryCore) -> None:
    await core.conversations.append("before", ["the driver learns the types"])
    async with counted(core.database) as statements:
        await core.conversations.append("t", ["one", "two"])
        await core.conversations.messages("t")
    assert len(statements) == 2


def test_the_sync_face_has_the_same_methods(database_url: str) -> None:
    with Memory.open(database_url, embeddings=False) as memory:
        history = memory.history("t")
        history.add_user_message("hello")
        history.add_ai_message("hi")
        assert [message.content for message in history.messages] == ["hello", "hi"]
        assert memory.conversations.get("t").message_count == 2
        assert [hit.text for hit in memory.recall("hello")] == ["hello"]
        history.clear()
        assert history.messages == []
