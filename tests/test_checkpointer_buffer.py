"""What else a checkpoint leaves in the store: the memory buffer, the user, and never a secret."""

from __future__ import annotations

import datetime as dt
import operator
from typing import Annotated, Any

import orjson
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from memory_plugin import Memory
from memory_plugin.errors import InvalidInputError
from memory_plugin.langgraph import ConversationSaver
from memory_plugin.settings import Settings
from tests.counting import counted
from tests.saver_tools import Writer, checkpoint, dump, history, opened, place, rows, said, sent_to, values

pytest_plugins = ("tests.saver_fixtures",)


async def buffer(store: Memory, thread: str = "t") -> Any:
    return await store.conversations.get_buffer(thread)


async def found(store: Memory, containment: dict[str, Any]) -> list[str]:
    return sorted(each.thread_id for each in await store.conversations.find_by_buffer(containment))


# -- the memory buffer


async def test_the_buffer_is_the_latest_root_state_without_messages(saver: ConversationSaver, store: Memory) -> None:
    writer = Writer(saver)
    await writer.put(messages=said("a"), user_preferences={"topic": "pricing", "tags": ["x"]}, step_count=1)
    assert await buffer(store) == {"user_preferences": {"topic": "pricing", "tags": ["x"]}, "step_count": 1}

    await writer.put(step_count=2, archive=said("old"))
    assert await buffer(store) == {"user_preferences": {"topic": "pricing", "tags": ["x"]}, "step_count": 2}

    await Writer(saver, namespace="sub:1").put(inner="not shown", step_count=9)
    assert (await buffer(store))["step_count"] == 2

    del writer.values["step_count"]
    await writer.put(other=None)
    assert await buffer(store) == {"user_preferences": {"topic": "pricing", "tags": ["x"]}, "other": None}


async def test_containment_finds_conversations_by_their_state(saver: ConversationSaver, store: Memory) -> None:
    for number, topic in enumerate(["pricing", "support", "pricing"]):
        await Writer(saver, f"t{number}").put(messages=said("a"), user_preferences={"topic": topic, "number": number})

    assert await found(store, {"user_preferences": {"topic": "pricing"}}) == ["t0", "t2"]
    assert await found(store, {"user_preferences": {"number": 1}}) == ["t1"]


async def test_the_search_uses_its_index(database_url: str) -> None:
    """The very statement that the search sends, over conversations enough for it to matter."""
    async with Memory.open(database_url, embeddings=False) as store:
        await store.database.execute("""
            INSERT INTO memory.conversations (tenant_id, thread_id, memory_buffer)
            SELECT 'default', 'bulk-' || n, jsonb_build_object('topic', 'topic ' || n, 'text', repeat('x', 300))
            FROM generate_series(1, 5000) AS n""")
        await Writer(store.checkpointer, "wanted").put(topic={"name": "pricing", "deep": [1]})
        await store.database.as_login().execute("ANALYZE memory.conversations")
        async with counted(store.database) as sent:
            assert await found(store, {"topic": {"name": "pricing"}}) == ["wanted"]
        (statement,) = [each for each in sent if "memory_buffer @>" in each]
        plan = await store.database.fetch(f"EXPLAIN {statement}", "default", '{"topic": {"name": "pricing"}}', 20)

    text = "\n".join(row[0] for row in plan)
    assert "conversations_memory_buffer_idx" in text
    assert "Seq Scan" not in text


async def test_a_conversation_without_a_graph_has_no_buffer(store: Memory) -> None:
    await store.conversations.create("made", title="x")
    await store.conversations.append("said", [HumanMessage("a")])

    sql = "SELECT count(*) FROM memory.conversations WHERE tenant_id = $1 AND memory_buffer IS NULL"
    assert await store.database.fetchval(sql, store.tenant) == 2
    assert await found(store, {}) == []


class Order(MessagesState):
    topic: str
    cart: Annotated[list[str], operator.add]
    plan: dict[str, Any]


async def test_the_buffer_is_live_while_a_graph_runs(saver: ConversationSaver, store: Memory) -> None:
    def choose(state: Any) -> Any:
        return {"topic": "fruit", "cart": ["apple"], "plan": {"steps": [1, {"done": False}]}}

    def inner(state: Any) -> Any:
        return {"topic": "only inside", "cart": []}

    def ask(state: Any) -> Any:
        return {"cart": [interrupt("what else?")], "messages": [AIMessage("done", id="d")]}

    sub = StateGraph(Order).add_node("inner", inner).add_edge(START, "inner").compile()

    def inside(state: Any) -> Any:
        sub.invoke(state)
        return {}

    builder = StateGraph(Order).add_sequence([("choose", choose), ("inside", inside), ("ask", ask)])
    graph = builder.add_edge(START, "choose").compile(checkpointer=saver)
    chosen = {"topic": "fruit", "cart": ["apple"], "plan": {"steps": [1, {"done": False}]}}

    await graph.ainvoke({"messages": said("hi"), "cart": []}, place())
    assert await buffer(store) == chosen  # while it waits
    await graph.ainvoke(Command(resume="pear"), place())
    assert await buffer(store) == {**chosen, "cart": ["apple", "pear"]}
    assert await found(store, {"plan": {"steps": [{"done": False}]}, "cart": ["pear"]}) == ["t"]

    past = [each async for each in graph.aget_state_history(place())]
    forked = await graph.aupdate_state(past[-2].config, {"topic": "forked"}, as_node="choose")
    assert await buffer(store) == {"topic": "forked", "cart": []}  # the newest state is the fork's
    await graph.ainvoke(None, forked)
    assert (await buffer(store))["topic"] == (await graph.aget_state(place())).values["topic"] == "forked"


@pytest.mark.parametrize("process", ["the same", "another"])
async def test_a_fork_shows_nothing_of_the_branch_it_leaves(
    process: str, saver: ConversationSaver, store: Memory
) -> None:
    trunk = Writer(saver)
    parent = await trunk.put(topic="x")
    fork = trunk.fork(parent)
    await trunk.put(plan="of the other branch")
    await store.conversations.merge_buffer("t", {"mine": 1})
    if process == "another":
        saver._known.clear()
    await fork.put(topic="y")

    assert await buffer(store) == {"topic": "y", "mine": 1}


async def test_what_json_cannot_hold_is_readable_all_the_same(saver: ConversationSaver, store: Memory) -> None:
    await Writer(saver).put(when=dt.datetime(2020, 1, 2, tzinfo=dt.UTC), raw=b"xyz", chosen={"b", "a"}, pair=(1, 2))

    shown = await buffer(store)
    assert shown["pair"] == [1, 2]
    assert "2020-01-02" in str(shown["when"])
    assert shown["raw"] == "<3 bytes>"
    assert sorted(shown["chosen"]) == ["a", "b"]


async def test_own_channels_of_langgraph_are_not_shown(saver: ConversationSaver, store: Memory) -> None:
    await Writer(saver).put(messages=[], __start__={"messages": []}, **{"branch:to:x": None}, __pregel_tasks=[1])

    assert await buffer(store) is None


async def test_a_state_of_messages_alone_has_no_buffer(saver: ConversationSaver, store: Memory) -> None:
    writer = Writer(saver)
    await writer.put(messages=[])
    await writer.put(messages=said("a"), notes=said("b"))
    await writer.put(messages=[])

    assert await store.database.fetchval(
        "SELECT memory_buffer IS NULL FROM memory.conversations WHERE tenant_id = $1", store.tenant
    )


async def test_what_the_application_merged_in_outlives_puts(saver: ConversationSaver, store: Memory) -> None:
    writer = Writer(saver)
    await store.conversations.merge_buffer("t", {"plan": "gold", "topic": "mine"})
    await writer.put(topic="the graph's", messages=said("a"))
    assert await buffer(store) == {"plan": "gold", "topic": "the graph's"}
    await store.conversations.merge_buffer("t", {"seen": [1]})
    await writer.put(topic="again")
    await writer.put(messages=said("a", "b"))

    assert await buffer(store) == {"plan": "gold", "topic": "again", "seen": [1]}


@pytest.mark.parametrize("limit", [200, 1000, 10_240])
async def test_the_buffer_is_bounded_and_says_what_is_left_out(limit: int, shared_url: str, tenant: str) -> None:
    async with Memory.open(shared_url, tenant=tenant, embeddings=False, settings=Settings(buffer_limit=limit)) as store:
        writer = Writer(store.checkpointer)
        await writer.put(
            small="x", large="y" * limit, larger=["z" * limit] * 3, model=HumanMessage("m" * limit), number=1
        )
        shown = await buffer(store)
        assert shown == {"small": "x", "number": 1, "$truncated": ["large", "larger", "model"]}
        assert len(orjson.dumps(shown)) <= limit

        await writer.put(larger="short now", large=None, model=None)
        assert await buffer(store) == {"small": "x", "number": 1, "larger": "short now", "large": None, "model": None}

        for number in range(40):
            writer.values[f"channel{number:02}"] = "v" * (limit // 20)
        await writer.put(**{f"channel{number:02}": "v" * (limit // 20) for number in range(40)})
        shown = await buffer(store)
        assert len(shown) + len(shown["$truncated"]) == 45 + 1
        assert len(orjson.dumps({name: value for name, value in shown.items() if name != "$truncated"})) <= limit


async def test_without_a_limit_there_is_no_buffer(shared_url: str, tenant: str) -> None:
    async with Memory.open(shared_url, tenant=tenant, embeddings=False, settings=Settings(buffer_limit=0)) as store:
        await Writer(store.checkpointer).put(topic="x")
        assert await buffer(store) is None


async def test_an_unchanged_buffer_is_not_written_again(saver: ConversationSaver, store: Memory) -> None:
    store.kick = lambda: None  # type: ignore[method-assign]
    writer = Writer(saver)
    await writer.put(topic="x")
    where = "SELECT ctid::text || xmin::text FROM memory.conversations WHERE tenant_id = $1"
    before = await store.database.fetchval(where, store.tenant)
    async with sent_to(store) as sent:
        await writer.put(topic="x")
        assert sent() == 1

    assert await store.database.fetchval(where, store.tenant) == before


async def test_the_buffer_follows_a_state_that_another_store_wrote(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (store, here), opened(shared_url, tenant) as (_, there):
        for saver, topic in ((here, "x"), (there, "y"), (here, "x")):
            writer = Writer(saver)
            if await saver.aget_tuple(place()) is not None:
                writer.values = await values(saver, place())
            await writer.put(topic=topic)
            assert await buffer(store) == {"topic": topic}


async def test_the_buffer_forgets_a_run_that_was_deleted(saver: ConversationSaver, store: Memory) -> None:
    writer = Writer(saver)
    await writer.put({"run_id": "1"}, topic="kept", messages=said("a"))
    await writer.put({"run_id": "2"}, secret="of run two", messages=said("a", "b"))
    await store.conversations.merge_buffer("t", {"plan": "gold"})
    await saver.adelete_for_runs(["2"])

    assert await buffer(store) == {"plan": "gold"}
    assert (await store.conversations.get("t")).message_count == 1
    assert [message.text for message in await store.conversations.messages("t")] == ["a"]
    assert "run two" not in await dump(store)
    again = Writer(saver)
    again.values = await values(saver, place())
    await again.put(topic="new")
    assert await buffer(store) == {"plan": "gold", "topic": "new"}


# -- the user and secrets


async def test_the_user_of_the_config_is_the_user_of_the_conversation(saver: ConversationSaver, store: Memory) -> None:
    await Writer(saver, "plain", user_id="u1").put(messages=said("a"))
    await Writer(saver, "number", user_id=7).put(messages=said("a"))
    await Writer(saver, "no messages", user_id="u2").put(topic="x")
    await store.conversations.create("made before")
    made_before = Writer(saver, "made before", user_id="u3")
    await made_before.put(topic="x")
    await made_before.put(other="y")
    stranger = Writer(saver, "plain", user_id="somebody else")
    await stranger.put(messages=said("a", "b"))
    await Writer(saver, "nobody", user_id="").put(messages=said("a"))
    await saver.aput(
        {**place("metadata"), "metadata": {"user_id": "u4"}},
        {**(await saver.aget_tuple(place("plain"))).checkpoint, "id": "1"},
        {},
        {},
    )  # type: ignore[typeddict-item, union-attr]

    users = {each.thread_id: each.user_id for each in (await store.conversations.list()).items}
    assert users == {
        "plain": "u1", "number": "7", "no messages": "u2", "made before": "u3", "nobody": None, "metadata": "u4",
    }  # fmt: skip


async def test_the_user_of_the_store_is_the_default(shared_url: str, tenant: str) -> None:
    async with Memory.open(shared_url, tenant=tenant, user_id="owner", embeddings=False) as store:
        await Writer(store.checkpointer).put(topic="x")
        assert (await store.conversations.get("t")).user_id == "owner"


async def test_an_endless_user_id_is_refused_in_words(saver: ConversationSaver) -> None:
    with pytest.raises(InvalidInputError, match="user_id"):
        await Writer(saver, user_id="x" * 1000).put(topic="x")


async def test_secrets_of_the_config_are_stored_nowhere(shared_url: str, tenant: str) -> None:
    secrets = {
        "openai_api_key": "sk-111", "password": "hunter2", "accessToken": "tok-222", "X-Api-Key": "key-333",
        "database_url_password": "pw-444", "my_own": "mine-555",
    }  # fmt: skip
    async with opened(shared_url, tenant, secret_names=["my_own"]) as (store, saver):
        config = place("t", "", "p", **secrets, model="gpt", max_tokens=5)
        config["metadata"] = {"client_secret": "cs-666", "purpose": "test"}
        state = {"x": 1}
        await saver.aput(
            config, {**checkpoint_of(state)}, {"source": "loop", "step": 1, "nested": {"api_key": "n-777"}}, {"x": "1"}
        )  # type: ignore[typeddict-unknown-key]
        text = await dump(store)
        (row,) = await history(saver, place())

    for secret in [*secrets.values(), "cs-666", "n-777"]:
        assert secret not in text
    assert row["metadata"] == {
        "source": "loop", "step": 1, "nested": {}, "model": "gpt", "max_tokens": 5, "purpose": "test",
    }  # fmt: skip


def checkpoint_of(state: dict[str, Any]) -> Any:
    return checkpoint(state, dict.fromkeys(state, "1"))


# -- encryption


async def test_nothing_is_readable_beside_an_encrypting_serializer(shared_url: str, tenant: str) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    hidden = [f"plaintext{number:02}" for number in range(16)]
    async with opened(shared_url, tenant, serde=serde) as (store, saver):
        writer = Writer(saver)
        message = AIMessage(
            hidden[0], id=hidden[1], name=hidden[2], additional_kwargs={hidden[3]: 1},
            tool_calls=[{"name": hidden[4], "args": {"x": hidden[5]}, "id": "c", "type": "tool_call"}],
        )  # fmt: skip
        state = {
            "messages": [HumanMessage(hidden[6], id="1"), message], "text": hidden[7], "deep": {"x": [hidden[8], 424242]},
            "number": 31337421, "raw": hidden[9].encode(),
        }  # fmt: skip
        config = await writer.put({"note": hidden[10], "writes": {"node": hidden[11]}}, **state)
        await saver.aput_writes(config, [("messages", [HumanMessage(hidden[12])]), ("text", hidden[13])], "task")
        extra = checkpoint_of({"text": hidden[14]})
        extra["pending_sends"] = [{"node": "n", "arg": hidden[15]}]
        await saver.aput(config, extra, {"source": "loop", "step": 1, "run_id": "r"}, {"text": "1"})
        await store.indexed()
        await saver.acopy_thread("t", "copy")
        await store.indexed()
        text = await dump(store)

        for value in [*hidden, "424242", "31337421"]:
            assert value not in text, value
            assert value.encode().hex() not in text
        assert await buffer(store) is None
        assert await rows(store, "passages") == 0
        stored = await saver.aget_tuple(config)
        assert stored is not None
        assert stored.checkpoint["channel_values"] == state
        assert stored.metadata["note"] == hidden[10]  # type: ignore[typeddict-item]
        assert stored.pending_writes == [("task", "messages", [HumanMessage(hidden[12])]), ("task", "text", hidden[13])]
        latest = await saver.aget_tuple(place())
        assert latest is not None
        assert latest.checkpoint["pending_sends"] == extra["pending_sends"]  # type: ignore[typeddict-item]
        writer.config = config
        await writer.put(messages=[*state["messages"], HumanMessage("more", id="2")])
        assert (
            await rows(store, "messages", "thread_id = 't'") == 3
        )  # encrypted anew each time, and one row all the same


async def test_hidden_metadata_cannot_be_filtered_on_unless_it_is_declared(shared_url: str, tenant: str) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    async with opened(shared_url, tenant, serde=serde, plain_metadata=["purpose"]) as (_, saver):
        await Writer(saver).put({"purpose": "test", "note": "x"}, topic="x")
        assert len(await history(saver, place(), filter={"purpose": "test", "source": "loop"})) == 1
        with pytest.raises(InvalidInputError, match="plain_metadata"):
            await history(saver, place(), filter={"note": "x"})


async def test_what_was_stored_before_encryption_can_still_be_read(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (_, saver):
        writer = Writer(saver)
        await writer.put(messages=said("a"), topic="x")
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    async with opened(shared_url, tenant, serde=serde) as (_, saver):
        assert await values(saver, place()) == {"messages": said("a"), "topic": "x"}
        writer.saver = saver
        await writer.put(messages=said("a", "b"))
        assert await values(saver, place()) == {"messages": said("a", "b"), "topic": "x"}
