"""One fact, one row, every face: what one face writes, the others show."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.documents import Document as LangChainDocument
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from mcp import Client

from mcp_server import create_server
from memory_plugin.errors import WrongLoopError
from memory_plugin.langgraph import ConversationSaver, MemoryStore
from memory_plugin.memory import Memory


def chat_graph() -> StateGraph:
    """An agent that repeats what it heard."""

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"Noted: {state['messages'][-1].content}")]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer")


async def test_what_the_checkpointer_writes_history_recall_and_mcp_show(memory: Memory) -> None:
    graph = chat_graph().compile(checkpointer=memory.checkpointer)
    config = {"configurable": {"thread_id": "t1", "user_id": "alice"}}
    await graph.ainvoke({"messages": [HumanMessage("My sister Vera keeps bees")]}, config)

    state = (await graph.aget_state(config)).values["messages"]
    assert await memory.history("t1").aget_messages() == state
    stored = await memory.conversations.messages("t1")
    found = {hit.id for hit in await memory.recall("who keeps bees?", user_id="alice")}
    assert str(stored[0].id) in found, "recall finds the very row that the checkpointer wrote"
    assert (await memory.conversations.get("t1")).user_id == "alice"
    async with Client(create_server(memory)) as client:
        answer = await client.call_tool("recall", {"query": "bees"})
        assert "Vera keeps bees" in str(answer.structured_content)
    assert await memory.database.fetchval("SELECT count(*) FROM memory.messages") == 2


async def test_what_an_assistant_remembers_over_mcp_an_agents_tool_recalls(memory: Memory) -> None:
    async with Client(create_server(memory)) as client:
        await client.call_tool("remember", {"content": "The user is allergic to peanuts"})
    tools = {tool.name: tool for tool in memory.tools()}
    assert "allergic to peanuts" in await tools["recall"].ainvoke({"query": "allergies"})


async def test_a_store_item_is_a_memory_and_the_other_way_round(memory: Memory) -> None:
    await memory.store.aput(("memories", "bob"), "food", {"text": "Bob dislikes coriander"})
    (hit,) = await memory.recall("coriander", user_id="bob")
    assert (hit.kind, hit.key, hit.namespace) == ("memory", "food", ("memories", "bob"))
    item = await memory.remember("Bob cycles to work", user_id="bob", key="commute")
    found = await memory.store.aget(("memories", "bob"), "commute")
    assert found is not None
    assert found.value["content"] == item.content
    found_by_meaning = await memory.store.asearch(("memories", "bob"), query="bicycle")
    assert found_by_meaning[0].key == "commute"


async def test_tools_run_inside_a_graph_for_the_user_of_its_config(memory: Memory) -> None:
    graph = (
        StateGraph(MessagesState)
        .add_node("tools", ToolNode(memory.tools()))
        .add_edge(START, "tools")
        .compile(checkpointer=memory.checkpointer)
    )
    call = AIMessage("", tool_calls=[{"name": "remember", "args": {"content": "Carol plays the cello"}, "id": "c1"}])
    result = await graph.ainvoke({"messages": [call]}, {"configurable": {"thread_id": "t", "user_id": "carol"}})
    assert isinstance(result["messages"][-1], ToolMessage)
    (item,) = (await memory.memories.list(user_id="carol")).items
    assert (item.content, item.thread_id) == ("Carol plays the cello", "t")


async def test_what_recall_returned_to_an_agent_is_not_found_again_as_if_said(memory: Memory) -> None:
    await memory.history("t").aadd_messages(
        [ToolMessage("1. [2024-01-01, memory] Dora owns a parrot", tool_call_id="c", name="recall")]
    )
    assert await memory.recall("parrot", kinds=["message"]) == []


async def test_references_are_found_by_every_face_with_their_citation(memory: Memory) -> None:
    await memory.references.add(
        text="# Kettle\n\n## Descaling\n\nUse vinegar once a month.", title="Manual", source="manual.md"
    )
    (hit, *_) = await memory.search_references("how do I descale the kettle?")
    assert hit.citation is not None
    assert (hit.citation.title, hit.citation.section) == ("Manual", "Kettle > Descaling")
    documents = await memory.retriever(limit=1).ainvoke("descale kettle")
    assert isinstance(documents[0], LangChainDocument)
    assert documents[0].metadata["uri"] == hit.citation.uri
    async with Client(create_server(memory)) as client:
        answer = await client.call_tool("search_references", {"query": "descale"})
        assert "vinegar" in str(answer.structured_content)
        assert "Manual" in str(answer.structured_content)


def test_every_face_works_in_a_plain_with(database_url: str) -> None:
    with Memory.open(database_url) as memory:
        graph = chat_graph().compile(checkpointer=memory.checkpointer, store=memory.store)
        config = {"configurable": {"thread_id": "t", "user_id": "erin"}}
        graph.invoke({"messages": [("human", "I collect stamps")]}, config)
        assert [message.content for message in memory.history("t").messages] == [
            "I collect stamps",
            "Noted: I collect stamps",
        ]
        assert memory.recall("stamps", user_id="erin")[0].text == "I collect stamps"
        memory.store.put(("notes",), "k", {"text": "a note"})
        assert memory.store.get(("notes",), "k").value == {"text": "a note"}
        assert [step.values["messages"] for step in graph.get_state_history(config)][0][0].content == "I collect stamps"
        tools = {tool.name: tool for tool in memory.tools(user_id="erin")}
        assert "stamps" in tools["recall"].invoke({"query": "stamps"})
        assert memory.retriever().invoke("anything") == []


def test_the_retriever_gives_a_program_without_a_loop_what_it_gives_others(database_url: str) -> None:
    """Texts, ids, citations and all other metadata, for each of its settings."""
    text = "# Kettle\n\nA kettle of two litres.\n\n## Descaling\n\nUse vinegar.\n\n## Storing\n\nDry the kettle."
    others: list[dict[str, Any]] = [
        {}, {"limit": 1}, {"neighbours": 1, "limit": 1}, {"collection": "none"}, {"filter": {"audience": "staff"}},
    ]  # fmt: skip
    with Memory.open(database_url) as memory:
        memory.references.add(text=text, title="Manual", source="manual.md", metadata={"audience": "staff"})
        found = [memory.retriever(**each).invoke("how do I descale the kettle?") for each in others]
        batched = memory.retriever().batch(["descale", "kettle"])

    async def awaited() -> list[Any]:
        async with Memory.open(database_url) as memory:
            question = "how do I descale the kettle?"
            return [await memory.retriever(**each).ainvoke(question) for each in others]

    assert found == asyncio.run(awaited())
    assert [len(documents) for documents in found] == [3, 1, 1, 0, 3]
    assert found[0][0].metadata | {"score": 1.0, "uri": ""} == {
        "audience": "staff", "citation": "Manual, Kettle > Descaling, line 5", "uri": "", "title": "Manual",
        "source": "manual.md", "version": 1, "section": "Kettle > Descaling", "line": 5, "score": 1.0,
    }  # fmt: skip
    assert all(documents for documents in batched)


async def test_a_sync_call_on_the_stores_own_loop_says_what_to_do(memory: Memory) -> None:
    with pytest.raises(WrongLoopError, match="await the async method"):
        memory.checkpointer.get_tuple({"configurable": {"thread_id": "t"}})
    with pytest.raises(WrongLoopError):
        _ = memory.history("t").messages


async def test_a_sync_call_from_another_thread_beside_the_loop_works(memory: Memory) -> None:
    await memory.history("t").aadd_messages([HumanMessage("hi")])
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.extend(memory.history("t").messages))
    thread.start()
    while thread.is_alive():  # noqa: ASYNC110 - a thread has no event
        await asyncio.sleep(0.01)
    assert [message.content for message in seen] == ["hi"]


async def test_the_official_way_to_open_a_saver_and_a_store_works(database_url: str) -> None:
    async with ConversationSaver.from_conn_string(database_url) as saver:
        await saver.setup()
        graph = chat_graph().compile(checkpointer=saver)
        await graph.ainvoke({"messages": [("human", "hi")]}, {"configurable": {"thread_id": "t"}})
    async with MemoryStore.from_conn_string(database_url) as store:
        await store.setup()
        await store.aput(("a",), "k", {"x": 1})


def test_the_official_way_works_in_a_plain_with(database_url: str) -> None:
    with ConversationSaver.from_conn_string(database_url) as saver:
        saver.setup()
        chat_graph().compile(checkpointer=saver).invoke(
            {"messages": [("human", "hi")]}, {"configurable": {"thread_id": "t"}}
        )
    with MemoryStore.from_conn_string(database_url) as store:
        store.setup()
        store.put(("a",), "k", {"x": 1})
        assert store.get(("a",), "k").value == {"x": 1}
