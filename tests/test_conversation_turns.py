"""What was asked, what was answered, what the tools did, and what came of it: from the messages themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES

from memory_plugin import Memory
from memory_plugin.capabilities.conversation_values import Turn
from memory_plugin.errors import InvalidInputError, NotFoundError

AT = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Memory]:
    """A store that ranks by words alone."""
    async with Memory.open(database_url, embeddings=False) as opened:
        yield opened


def called(name: str, call_id: str, tokens: int = 0, **arguments: object) -> AIMessage:
    usage = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    return AIMessage(
        "",
        tool_calls=[{"name": name, "args": arguments, "id": call_id}],
        usage_metadata=usage if tokens else None,  # type: ignore[arg-type]
    )


def answered(text: str, tokens: int = 0, model: str = "small-1") -> AIMessage:
    usage = {"input_tokens": tokens, "output_tokens": 2, "total_tokens": tokens + 2}
    return AIMessage(
        text,
        usage_metadata=usage if tokens else None,  # type: ignore[arg-type]
        response_metadata={"model_name": model},
    )


async def say(store: Memory, thread: str, *messages: BaseMessage, user: str = "alice", at: datetime = AT) -> None:
    """Messages that are a second apart."""
    times = [at + timedelta(seconds=number) for number in range(len(messages))]
    await store.conversations.append(thread, list(messages), at=times, user_id=user)


@pytest.fixture
async def filled(store: Memory) -> Memory:
    """Two conversations of Alice and one of Bob."""
    await say(
        store,
        "refunds",
        SystemMessage("Be kind."),
        HumanMessage("Refund order 1093 please"),
        called("find_order", "c1", 10, number=1093, ratio=1e16),
        ToolMessage("no such order", tool_call_id="c1", status="error"),
        called("find_order", "c2", 20, number=1039),
        called("pay", "c3"),
        ToolMessage("found", tool_call_id="c2"),
        ToolMessage("paid", tool_call_id="c3"),
        answered("It is paid.", 30),
        HumanMessage("Thank you"),
    )
    await say(
        store,
        "more",
        HumanMessage("I want a refund for my mug"),
        called("pay", "c4", amount=5),
        ToolMessage("paid 5", tool_call_id="c4", name="pay"),
        answered("Done.", model="large-2"),
        at=AT + timedelta(days=7),
    )
    await say(
        store,
        "bob",
        HumanMessage("A refund, now"),
        called("pay", "c5"),
        ToolMessage("card refused", tool_call_id="c5", status="error"),
        answered("I could not."),
        user="bob",
        at=AT + timedelta(days=8),
    )
    return store


async def test_a_turn_is_what_was_asked_answered_used_and_spent(filled: Memory) -> None:
    last, first = await filled.turns.list(thread_id="refunds")
    assert (last.turn, last.query, last.answer, last.tools, last.worked) == (2, "Thank you", None, (), False)
    assert first == Turn(
        thread_id="refunds",
        turn=1,
        seq=2,
        query="Refund order 1093 please",
        answer="It is paid.",
        asked_at=AT + timedelta(seconds=1),
        answered_at=AT + timedelta(seconds=8),
        duration=timedelta(seconds=7),
        user_id="alice",
        model="small-1",
        input_tokens=60,
        output_tokens=4,
        total_tokens=64,
        tools=("find_order", "pay"),
        tool_calls=3,
        tool_errors=1,
    )
    whole = await filled.turns.get("refunds", 1)
    assert [(call.tool, call.status, call.result, call.arguments) for call in whole.calls] == [
        ("find_order", "error", "no such order", {"number": 1093, "ratio": 1e16}),
        ("find_order", "ok", "found", {"number": 1039}),
        ("pay", "ok", "paid", {}),
    ]
    assert [call.duration for call in whole.calls] == [timedelta(seconds=n) for n in (1, 2, 2)]
    with pytest.raises(NotFoundError, match="no turn 9"):
        await filled.turns.get("refunds", 9)


async def test_which_tool_calls_failed_in_a_time(filled: Memory) -> None:
    async def failed(**wanted: object) -> list[str]:
        return [call.result for call in await filled.turns.tool_calls(status="error", **wanted)]  # type: ignore[arg-type]

    assert await failed() == ["card refused", "no such order"]
    assert await failed(since=AT + timedelta(days=1)) == ["card refused"]
    assert await failed(until=AT + timedelta(days=1)) == ["no such order"]
    assert await failed(user_id="alice") == ["no such order"]
    assert await failed(tool="pay") == ["card refused"]
    assert await failed(thread_id="more") == []
    assert [call.result for call in await filled.turns.tool_calls(status="ok", limit=1)] == ["paid 5"]
    with pytest.raises(InvalidInputError, match="'ok' or 'error'"):
        await filled.turns.tool_calls(status="broken")  # type: ignore[arg-type]


async def test_turns_by_person_tool_failure_and_time(filled: Memory) -> None:
    async def found(**wanted: object) -> list[tuple[str, int]]:
        return [(turn.thread_id, turn.turn) for turn in await filled.turns.list(**wanted)]  # type: ignore[arg-type]

    everything = [("bob", 1), ("more", 1), ("refunds", 2), ("refunds", 1)]
    assert await found() == everything
    assert await found(limit=2) == everything[:2]
    assert await found(user_id="alice") == everything[1:]
    assert await found(tool="find_order") == [("refunds", 1)]
    assert await found(failed=True) == [("bob", 1), ("refunds", 1)]
    assert await found(failed=False, user_id="alice") == [("more", 1), ("refunds", 2)]
    assert await found(since=AT + timedelta(days=1), until=AT + timedelta(days=8)) == [("more", 1)]


async def test_many_threads_are_read_in_batches_and_the_latest_questions_come_first(
    store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory_plugin.capabilities.conversation_turns.THREADS", 2)
    for number in range(7):
        await say(store, f"t{number}", HumanMessage(f"question {number}"), at=AT + timedelta(hours=number * 5 % 7))
    turns = await store.turns.list(limit=5)
    assert len(turns) == 5
    everything = await store.turns.list(limit=50)
    assert [turn.query for turn in everything] == [f"question {n}" for n in (4, 1, 5, 2, 6, 3, 0)]


async def test_what_worked_when_somebody_asked_for_it(filled: Memory) -> None:
    """By feedback where there is some; else a turn with an answer in which no tool failed."""

    async def worked(query: str, **wanted: object) -> list[str]:
        return [turn.query for turn in await filled.turns.what_worked(query, **wanted)]  # type: ignore[arg-type]

    assert await worked("refund") == ["I want a refund for my mug"]
    rated = await filled.turns.rate("refunds", "good", turn=1, score=0.9, comment="solved", given_by="alice")
    assert (rated.outcome, rated.score, rated.given_by) == ("good", 0.9, "alice")
    assert set(await worked("refund")) == {"I want a refund for my mug", "Refund order 1093 please"}
    await filled.turns.rate("more", "bad")
    assert await worked("refund") == ["Refund order 1093 please"]
    assert await worked("refund", user_id="bob") == []
    assert await worked("weather") == []


async def test_feedback_is_one_per_person_and_the_latest_counts(filled: Memory) -> None:
    await filled.turns.rate("more", "bad", given_by="bob")
    await filled.turns.rate("more", "mixed", given_by="bob", comment="well")
    assert [(each.given_by, each.outcome) for each in await filled.turns.feedback("more")] == [("bob", "mixed")]
    await filled.turns.rate("more", "good")
    (turn,) = await filled.turns.list(outcome="good")
    assert (turn.thread_id, turn.worked) == ("more", True)
    with pytest.raises(InvalidInputError, match="one of good, bad, mixed"):
        await filled.turns.rate("more", "fine")  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="no turn 7"):
        await filled.turns.rate("more", "good", turn=7)
    with pytest.raises(NotFoundError, match="could be rated"):
        await filled.turns.rate("nowhere", "good")
    assert (await filled.conversations.delete("more"))["feedback"] == 2


async def test_the_same_by_sql(filled: Memory) -> None:
    """The views say what the API says, to whoever reads the database."""
    rows = await filled.database.fetch(
        "SELECT tool, arguments ->> 'number' AS number, result FROM memory.conversation_tool_calls "
        "WHERE tenant_id = 'default' AND status = 'error' AND returned_at < '2026-03-08' ORDER BY returned_at"
    )
    assert [tuple(row) for row in rows] == [("find_order", "1093", "no such order")]
    rows = await filled.database.fetch(
        "SELECT model, sum(total_tokens)::int AS spent FROM memory.conversation_turns "
        "WHERE tenant_id = 'default' AND model IS NOT NULL GROUP BY model ORDER BY model"
    )
    assert [tuple(row) for row in rows] == [("large-2", None), ("small-1", 64)]


async def test_views_read_one_thread_by_its_key_alone(filled: Memory) -> None:
    """What is asked of a view reaches the keys of the tables below it."""
    for view in ("conversation_messages", "conversation_turns", "conversation_tool_calls"):
        async with filled.database.raw() as connection:
            await connection.execute("SET enable_seqscan = off")
            plan = await connection.fetch(
                f"EXPLAIN SELECT * FROM memory.{view} WHERE tenant_id = 'default' AND thread_id = 'more'"
            )
            await connection.execute("RESET enable_seqscan")
        text = "\n".join(row[0] for row in plan)
        assert "Seq Scan" not in text.replace("seq", ""), text
        assert text.count("thread_id = 'more'") >= 2, text


CONFIG: Any = {"configurable": {"thread_id": "g", "user_id": "alice"}}


def graph_of(store: Memory) -> Any:
    async def answer(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [AIMessage(f"answer to {state['messages'][-1].text}")]}

    return StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile(checkpointer=store.checkpointer)


async def asked(store: Memory) -> list[tuple[str, str | None]]:
    return [(turn.query, turn.answer) for turn in reversed(await store.turns.list(thread_id="g"))]


async def test_the_turns_of_a_graph_follow_its_state(store: Memory) -> None:
    """An abandoned fork is not in it."""

    async def answer(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [AIMessage(f"answer to {state['messages'][-1].text}")]}

    graph = graph_of(store)
    for text in ("one", "two"):
        await graph.ainvoke({"messages": [("user", text)]}, CONFIG)  # type: ignore[arg-type]

    assert await asked(store) == [("one", "answer to one"), ("two", "answer to two")]
    states = [state async for state in graph.aget_state_history(CONFIG)]  # type: ignore[arg-type]
    after_one = next(state for state in states if len(state.values["messages"]) == 2 and not state.next)
    await graph.ainvoke({"messages": [("user", "other")]}, after_one.config)  # type: ignore[arg-type]
    assert await asked(store) == [("one", "answer to one"), ("other", "answer to other")]


async def test_what_a_state_was_trimmed_of_was_asked_all_the_same(store: Memory) -> None:
    """And the summary in its place is no question."""
    graph = graph_of(store)
    for text in ("one", "two"):
        await graph.ainvoke({"messages": [("user", text)]}, CONFIG)
    summary = HumanMessage("one was asked", additional_kwargs={"lc_source": "summarization"})
    kept = (await graph.aget_state(CONFIG)).values["messages"][2:]  # type: ignore[arg-type]
    await graph.aupdate_state(CONFIG, {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), summary, *kept]})  # type: ignore[arg-type]
    await store.conversations.append("g", [("user", "by hand")])
    assert await asked(store) == [("one", "answer to one"), ("two", "answer to two"), ("by hand", None)]


async def test_another_tenant_and_a_forgotten_thread_are_not_seen(filled: Memory, database_url: str) -> None:
    async with Memory.open(database_url, tenant="other", embeddings=False) as other:
        assert await other.turns.list() == []
        assert await other.turns.tool_calls() == []
        with pytest.raises(NotFoundError):
            await other.turns.rate("more", "good")
    await filled.forget(thread_id="more")
    assert await filled.turns.list(thread_id="more") == []
    assert "more" not in {call.thread_id for call in await filled.turns.tool_calls()}


def test_turns_without_await(database_url: str) -> None:
    with Memory.open(database_url, embeddings=False) as plain:
        plain.conversations.append("t", ["Hello", ("ai", "Hi")])
        assert plain.turns.rate("t", "good").outcome == "good"
        assert [turn.answer for turn in plain.turns.what_worked("hello")] == ["Hi"]
