"""LangMem's tools over the store, as they are: what they keep is found by recall and over MCP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from mcp import Client
from pydantic import BaseModel

from mcp_server import create_server
from memory_plugin.memory import Memory

langmem: Any = pytest.importorskip("langmem")

NAMESPACE = ("memories", "{user_id}")
CONFIG: Any = {"configurable": {"user_id": "alice"}}


def tools(memory: Memory) -> tuple[Any, Any]:
    return (
        langmem.create_manage_memory_tool(NAMESPACE, store=memory.store),
        langmem.create_search_memory_tool(NAMESPACE, store=memory.store),
    )


def key_in(answer: str) -> str:
    return answer.rpartition(" ")[2]


async def test_what_its_tools_keep_is_found_everywhere(memory: Memory) -> None:
    manage, search = tools(memory)
    key = key_in(await manage.ainvoke({"content": "Alice prefers green tea", "action": "create"}, CONFIG))
    await manage.ainvoke({"content": "The invoice is paid by bank transfer"}, CONFIG)
    (best, *_) = json.loads(await search.ainvoke({"query": "which drink does she like?"}, CONFIG))
    assert (best["key"], best["namespace"], best["value"]) == (
        key,
        ["memories", "alice"],
        {"content": "Alice prefers green tea"},
    )
    assert best["score"] > 0
    (hit, *_) = await memory.recall("tea", user_id="alice")
    assert (hit.text, hit.key) == ("Alice prefers green tea", key)
    assert await memory.recall("tea", user_id="bob", kinds=["memory"]) == []
    async with Client(create_server(memory.for_tenant(memory.tenant))) as client:
        answer = await client.call_tool("recall", {"query": "green tea"})
        assert "Alice prefers green tea" in str(answer.structured_content)


async def test_its_tools_update_and_delete(memory: Memory) -> None:
    manage, search = tools(memory)
    key = key_in(await manage.ainvoke({"content": "Alice prefers green tea"}, CONFIG))
    await manage.ainvoke({"content": "Alice prefers coffee", "action": "update", "id": key}, CONFIG)
    assert [hit.text for hit in await memory.recall("Alice", user_id="alice")] == ["Alice prefers coffee"]
    await manage.ainvoke({"action": "delete", "id": key}, CONFIG)
    assert json.loads(await search.ainvoke({"query": "coffee"}, CONFIG)) == []
    assert await memory.recall("coffee", user_id="alice") == []


class Meal(BaseModel):
    """What a memory is made of."""

    food: str
    stars: int


async def test_its_sync_tools_work_from_a_thread_with_a_schema(memory: Memory) -> None:
    _, search = tools(memory)
    manage = langmem.create_manage_memory_tool(NAMESPACE, schema=Meal, store=memory.store)
    for food, stars in (("ramen", 5), ("soup", 3)):
        await asyncio.to_thread(manage.invoke, {"content": {"food": food, "stars": stars}}, CONFIG)
    wanted = {"query": "a good meal", "filter": {"content": {"stars": {"$gte": 4}}}}
    found = json.loads(await asyncio.to_thread(search.invoke, wanted, CONFIG))
    assert [item["value"]["content"] for item in found] == [{"food": "ramen", "stars": 5}]


async def test_a_graph_hands_the_store_to_its_tools(memory: Memory) -> None:
    """Without a store of their own the tools take that of the graph they run in."""
    manage = langmem.create_manage_memory_tool(NAMESPACE)
    call = {"name": manage.name, "args": {"content": "Alice keeps bees"}, "id": "1"}
    graph = (
        StateGraph(MessagesState)
        .add_node("ask", lambda _: {"messages": [AIMessage("", tool_calls=[call])]})
        .add_node("tools", ToolNode([manage]))
        .add_edge(START, "ask")
        .add_edge("ask", "tools")
        .compile(store=memory.store)
    )
    *_, answer = (await graph.ainvoke({"messages": []}, CONFIG))["messages"]
    assert isinstance(answer, ToolMessage)
    assert answer.status == "success"
    assert [hit.text for hit in await memory.recall("bees", user_id="alice")] == ["Alice keeps bees"]
