"""Whole conversations: titles, summaries, shares, branches and merges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph

from memory_plugin import Memory
from memory_plugin.capabilities.conversation_care import SUMMARY_PART, shortened
from memory_plugin.errors import ConfigurationError, ConflictError, InvalidInputError, NotFoundError
from tests.user_data import rows_as_text


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Memory]:
    """A store that ranks by words alone."""
    async with Memory.open(database_url, embeddings=False, user_id="alice") as opened:
        yield opened


async def said(store: Memory, thread: str) -> list[str]:
    return [message.text for message in await store.conversations.messages(thread)]


# -- titles


async def test_a_title_is_the_beginning_of_the_first_question(store: Memory) -> None:
    await store.conversations.append(
        "t", [SystemMessage("Be kind."), AIMessage("Hi!"), HumanMessage("My mug\narrived broken, what can I do?")]
    )
    assert (await store.conversations.entitle("t")).title == "My mug arrived broken, what…"
    await store.conversations.append("t", "Something else")
    assert (await store.conversations.entitle("t")).title == "My mug arrived broken, what…"


@given(st.text(alphabet="ab ,.", max_size=80))
def test_a_short_title_is_the_text_and_a_long_one_its_beginning(text: str) -> None:
    made, line = shortened(text), " ".join(text.split())
    assert len(made) <= 30
    assert made == line if len(line) <= 30 else line.startswith(made.removesuffix("…"))


async def test_a_person_s_title_is_never_overwritten(store: Memory) -> None:
    await store.conversations.append("t", "Hello there")
    await store.conversations.set_title("t", "By a person")
    model = FakeListChatModel(responses=["By a model"])
    assert (await store.conversations.entitle("t")).title == "By a person"
    assert (await store.conversations.entitle("t", model=model)).title == "By a person"
    await store.conversations.set_title("t", None)
    assert (await store.conversations.entitle("t")).title == "Hello there"
    assert (await store.conversations.entitle("t", model=model)).title == "By a model"
    await store.conversations.create("t", title="By a person again")
    assert (await store.conversations.entitle("t", model=model)).title == "By a person again"


async def test_a_title_that_a_person_gives_while_the_model_thinks_wins(store: Memory) -> None:
    await store.conversations.append("t", "Hello there")

    async def slow(prompt: str) -> str:
        await store.conversations.set_title("t", "By a person")
        return "By a model"

    assert (await store.conversations.entitle("t", model=slow)).title == "By a person"


async def test_what_has_no_question_gets_no_title(store: Memory) -> None:
    await store.conversations.append("t", [AIMessage("Anybody there?")])
    assert (await store.conversations.entitle("t")).title is None
    with pytest.raises(NotFoundError):
        await store.conversations.entitle("nowhere")


# -- summaries


async def test_a_summary_takes_in_what_was_said_since_the_last(store: Memory) -> None:
    prompts: list[str] = []

    def model(prompt: str) -> str:
        prompts.append(prompt)
        return f"summary {len(prompts)}"

    await store.conversations.append("t", ["one", ("ai", "two"), ToolMessage("secret", tool_call_id="c")])
    assert await store.conversations.summarize("t", model) == "summary 1"
    assert await store.conversations.summarize("t", model) == "summary 1"
    await store.conversations.append("t", ["three"])
    assert await store.conversations.summarize("t", model) == "summary 2"
    assert [prompt.partition("Conversation:\n")[2] for prompt in prompts] == ["human: one\nai: two", "human: three"]
    assert "summary 1" in prompts[1]
    assert await store.conversations.summary("t") == "summary 2"


async def test_what_was_made_of_the_words_goes_with_them(store: Memory) -> None:
    for thread, title in (("t", None), ("named", "By a person")):
        await store.conversations.create(thread, title=title)
        await store.conversations.append(thread, "a secret")
        await store.conversations.summarize(thread, lambda prompt: "a secret")
        await store.conversations.entitle(thread)
        await store.conversations.share(thread)
        await store.conversations.clear(thread)
        assert await store.conversations.summary(thread) is None
        assert (await store.conversations.get(thread)).title == title
        assert await store.conversations.shares(thread) == []


async def test_a_long_conversation_is_read_in_parts(store: Memory) -> None:
    lengths: list[int] = []

    async def model(prompt: str) -> str:
        lengths.append(len(prompt))
        return "so far"

    await store.conversations.append("t", ["x" * (SUMMARY_PART // 2), "y" * (2 * SUMMARY_PART), "z"])
    await store.conversations.summarize("t", model)
    assert len(lengths) == 4
    assert max(lengths) < SUMMARY_PART + 1_000


async def test_any_model_will_do(store: Memory) -> None:
    class Plain:
        def invoke(self, prompt: str) -> AIMessage:
            return AIMessage([{"type": "text", "text": "by invoke"}])

    class Callable:
        async def __call__(self, prompt: str) -> str:
            return "by call"

    for number, (model, words) in enumerate(
        [
            (FakeListChatModel(responses=["by a chat model"]), "by a chat model"),
            (Plain(), "by invoke"),
            (Callable(), "by call"),
            (lambda prompt: asyncio.sleep(0, "by a promise"), "by a promise"),
        ]
    ):
        await store.conversations.append(f"t{number}", "Hello")
        assert await store.conversations.summarize(f"t{number}", model) == words
    with pytest.raises(ConfigurationError, match="no model"):
        await store.conversations.append("u", "Hello") and await store.conversations.summarize("u", 7)
    with pytest.raises(InvalidInputError, match="no text"):
        await store.conversations.summarize("u", lambda prompt: " ")
    assert await store.conversations.summary("u") is None
    with pytest.raises(NotFoundError):
        await store.conversations.summarize("nowhere", Plain())


# -- shares


async def test_a_share_shows_what_was_said_until_then_and_nothing_else(store: Memory) -> None:
    call = {"name": "f", "args": {"key": "secret"}, "id": "c"}
    await store.conversations.create("t", title="A mug", metadata={"secret": 1})
    await store.conversations.append(
        "t",
        [SystemMessage("secret prompt"), "Hello", AIMessage("", tool_calls=[call]),
         ToolMessage("secret result", tool_call_id="c"), AIMessage("Hi", additional_kwargs={"secret": 1})],
    )  # fmt: skip
    share, live = await store.conversations.share("t"), await store.conversations.share("t", live=True)
    await store.conversations.append("t", "a secret for later")
    shown = await store.conversations.shared(share.id)
    assert (shown.title, [(m.role, m.text) for m in shown.messages]) == ("A mug", [("human", "Hello"), ("ai", "Hi")])
    assert "secret" not in repr(shown)
    assert "alice" not in repr(shown)
    assert [m.text for m in (await store.conversations.shared(live.id)).messages] == [
        "Hello",
        "Hi",
        "a secret for later",
    ]
    assert await store.conversations.shares("t") == [share, live]
    assert await store.conversations.unshare(share.id)
    assert not await store.conversations.unshare(share.id)
    await store.conversations.delete("t")
    for gone in (share, live):
        with pytest.raises(NotFoundError, match="Nothing is shared"):
            await store.conversations.shared(gone.id)


async def test_a_share_ends_and_is_of_its_tenant(store: Memory, database_url: str) -> None:
    await store.conversations.append("t", "Hello")
    over = await store.conversations.share("t", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    share = await store.conversations.share("t", expires_at=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(NotFoundError):
        await store.conversations.shared(over.id)
    async with Memory.open(database_url, tenant="other", embeddings=False) as other:
        with pytest.raises(NotFoundError):
            await other.conversations.shared(share.id)
        assert not await other.conversations.unshare(share.id)
        with pytest.raises(NotFoundError):
            await other.conversations.share("t")
    await store.forget(thread_id="t")
    with pytest.raises(NotFoundError):
        await store.conversations.shared(share.id)


# -- branches


def graph_of(store: Memory) -> Any:
    class State(MessagesState):
        mood: str

    async def answer(state: State) -> dict[str, Any]:
        words = state["messages"][-1].text
        return {"messages": [AIMessage(f"answer to {words}")], "mood": words}

    return StateGraph(State).add_node(answer).add_edge(START, "answer").compile(checkpointer=store.checkpointer)


def place(thread: str) -> Any:
    return {"configurable": {"thread_id": thread, "user_id": "alice"}}


async def ask(graph: Any, thread: str, *texts: str) -> None:
    for text in texts:
        await graph.ainvoke({"messages": [("user", text)]}, place(thread))


async def test_a_branch_goes_on_with_the_state_as_it_was_at_that_message(store: Memory) -> None:
    graph = graph_of(store)
    await ask(graph, "t", "one", "two", "three")
    await store.working_memory.update("notes", thread_id="t")
    await store.conversations.set_title("t", "A title")
    branch = await store.conversations.branch("t", upto=4)
    assert (branch.title, branch.user_id, branch.message_count) == ("A title", "alice", 4)
    assert branch.metadata["branched_from"] == {"thread_id": "t", "seq": 4}
    whole = ["one", "answer to one", "two", "answer to two"]
    state = await graph.aget_state(place(branch.thread_id))
    assert ([m.text for m in state.values["messages"]], state.values["mood"], state.next) == (whole, "two", ())
    assert await said(store, branch.thread_id) == whole
    await ask(graph, branch.thread_id, "sunflower")
    assert await said(store, branch.thread_id) == [*whole, "sunflower", "answer to sunflower"]
    assert await said(store, "t") == [*whole, "three", "answer to three"]
    assert (await store.working_memory.get(thread_id=branch.thread_id)).content == "notes"  # type: ignore[union-attr]
    everything = await rows_as_text(store)
    assert not [row for rows in everything.values() for row in rows if branch.thread_id in row and "three" in row]
    assert {hit.thread_id for hit in await store.recall("sunflower", kinds=("message",))} == {branch.thread_id}


async def test_a_branch_of_the_whole_and_one_without_an_agent(store: Memory) -> None:
    graph = graph_of(store)
    await ask(graph, "t", "one")
    whole = await store.conversations.branch("t", new_thread_id="u", title="Another")
    assert (whole.thread_id, whole.title) == ("u", "Another")
    await ask(graph, "u", "two")
    assert await said(store, "u") == ["one", "answer to one", "two", "answer to two"]
    await store.conversations.append("plain", ["a", "b", "c"])
    part = await store.conversations.branch("plain", upto=2)
    assert (await said(store, part.thread_id), part.message_count) == (["a", "b"], 2)
    with pytest.raises(InvalidInputError, match="already"):
        await store.conversations.branch("t", new_thread_id="plain")
    with pytest.raises(NotFoundError, match="no message"):
        await store.conversations.branch("plain", upto=0)
    with pytest.raises(NotFoundError):
        await store.conversations.branch("nowhere")


# -- duplicates


TALK: list[BaseMessage | str] = ["Hello", AIMessage("Hi"), "My mug is broken", AIMessage("Which order?")]


async def test_conversations_that_begin_alike_are_found(store: Memory) -> None:
    for thread, messages in {
        "long": [*TALK, "A-1042", AIMessage("Thanks")],
        "short": TALK,
        "same": TALK,
        "other": [*TALK[:3], AIMessage("What mug?")],
        "greeting": TALK[:2],
        "greeting again": TALK[:2],
    }.items():
        await store.conversations.append(thread, messages)
    await store.conversations.append("of bob", TALK, user_id="bob")
    groups = await store.conversations.duplicates()
    assert {frozenset(group) for group in groups} == {
        frozenset({"long", "short", "same"}),
        frozenset({"greeting", "greeting again"}),
    }
    assert next(group for group in groups if len(group) == 3)[0] == "long"
    assert await store.conversations.duplicates(user_id="bob") == []


async def test_a_merge_adds_what_only_the_other_has_and_erases_it(store: Memory) -> None:
    await store.conversations.append("keep", [*TALK, "yes", "yes"])
    await store.conversations.append("gone", [*TALK, "yes", "A-1042", AIMessage("Thanks", name="bot")])
    await store.conversations.create("gone", title="The mug", metadata={"a": 1, "b": 1})
    await store.conversations.create("keep", metadata={"b": 2})
    await store.conversations.merge_buffer("gone", {"cart": 1})
    await store.turns.rate("gone", "good", turn=2)
    await store.turns.rate("gone", "bad", turn=4)
    await store.working_memory.update("notes", thread_id="gone")
    fact = await store.remember("Alice has a mug", thread_id="gone", source={"thread_id": "gone", "message_id": "m"})
    await store.conversations.share("gone")
    merged = await store.conversations.merge("keep", "gone")
    texts = [*(m if isinstance(m, str) else m.text for m in TALK), "yes", "yes", "A-1042", "Thanks"]
    assert await said(store, "keep") == texts
    assert (merged.title, merged.metadata, merged.message_count) == ("The mug", {"a": 1, "b": 2}, len(texts))
    assert merged.memory_buffer == {"cart": 1}
    assert [(turn.query, turn.outcome) for turn in await store.turns.list(thread_id="keep") if turn.outcome] == [
        ("A-1042", "bad"),
        ("My mug is broken", "good"),
    ]
    assert (await store.working_memory.get(thread_id="keep")).content == "notes"  # type: ignore[union-attr]
    assert (await store.memories.get(fact.id)).thread_id == "keep"
    with pytest.raises(NotFoundError):
        await store.conversations.get("gone")
    await store.indexed()
    everything = await rows_as_text(store)
    assert not [row for rows in everything.values() for row in rows if "gone" in row]
    assert [hit.thread_id for hit in await store.recall("A-1042", kinds=("message",))] == ["keep"]


async def test_what_cannot_be_merged_is_left_as_it_is(store: Memory) -> None:
    await store.conversations.append("t", TALK)
    await store.conversations.append("of bob", TALK, user_id="bob")
    with pytest.raises(ConflictError, match="two users"):
        await store.conversations.merge("t", "of bob")
    with pytest.raises(InvalidInputError, match="itself"):
        await store.conversations.merge("t", "t")
    with pytest.raises(NotFoundError, match="nowhere"):
        await store.conversations.merge("t", "nowhere")
    assert len(await said(store, "t")) == len(await said(store, "of bob")) == 4
