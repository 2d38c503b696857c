"""`create_agent` with middleware over the checkpointer: the states it leaves with LangGraph's saver in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NotRequired

import pytest
from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from memory_plugin import Memory
from tests.graph_tools import Drive, outcome
from tests.saver_tools import opened, place

pytest_plugins = ("tests.saver_fixtures",)

HERE = place()


class Scripted(BaseChatModel):
    """Calls the tools that the last human message names, then says what they answered."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **options: Any) -> Any:
        last = messages[-1]
        if not isinstance(last, HumanMessage) or not last.text.startswith("call "):
            return _said(AIMessage(f"{len(messages)}: {last.text[-60:]}"))
        calls = [
            {"name": name, "args": {"text": text}, "id": f"call-{len(messages)}-{number}", "type": "tool_call"}
            for number, name_text in enumerate(last.text[5:].split(", "))
            for name, text in [name_text.split(" ", 1)]
        ]
        return _said(AIMessage("", tool_calls=calls))


def _said(message: AIMessage) -> ChatResult:
    message.usage_metadata = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    return ChatResult(generations=[ChatGeneration(message=message)])


@tool
def echo(text: str) -> str:
    """Say it again."""
    return f"echo {text}"


@tool
def send(text: str) -> str:
    """Send it."""
    return f"sent {text}"


class Counting(AgentState):
    """A state with more in it than messages."""

    calls: NotRequired[int]
    prices: NotRequired[dict[str, Any]]


class Counter(AgentMiddleware):
    """A middleware with a state of its own, that hooks in everywhere."""

    state_schema = Counting

    def before_agent(self, state: Any, runtime: Any) -> Any:
        return {"prices": {"seen": len(state["messages"]), "exact": (1, 1e16, b"\x00")}}

    def before_model(self, state: Any, runtime: Any) -> Any:
        return {"calls": state.get("calls", 0) + 1}

    def after_model(self, state: Any, runtime: Any) -> Any:
        last = state["messages"][-1]
        return {"messages": [last.model_copy(update={"additional_kwargs": {"counted": state["calls"]}})]}


def agent(saver: Any, *middleware: Any, **options: Any) -> Any:
    return create_agent(Scripted(), [echo, send], middleware=middleware, checkpointer=saver, **options)


def asks(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text, id=f"id of {text}")]}


async def tools(drive: Drive) -> Any:
    graph = agent(drive.saver)
    results = [await drive.invoke(graph, asks(text), HERE) for text in ("call echo a, send b, echo c", "hello")]
    return results, await drive.history(graph, HERE)


async def state_of_a_middleware(drive: Drive) -> Any:
    graph = agent(drive.saver, Counter(), TodoListMiddleware())
    results = [await drive.invoke(graph, asks(text), HERE) for text in ("call echo a", "hello")]
    return results, await drive.history(graph, HERE)


async def a_human_in_the_loop(drive: Drive) -> Any:
    graph = agent(drive.saver, HumanInTheLoopMiddleware({"send": True}), Counter())
    await drive.invoke(graph, asks("call echo a, send b, send c"), HERE)
    waiting = await drive.state(graph, HERE)
    decisions: list[Any] = [
        {"type": "edit", "edited_action": {"name": "send", "args": {"text": "edited"}}},
        {"type": "reject", "message": "not this one"},
    ]
    await drive.invoke(graph, Command(resume={"decisions": decisions}), HERE)
    await drive.invoke(graph, asks("call send again"), HERE)
    await drive.invoke(graph, Command(resume={"decisions": [{"type": "approve"}]}), HERE)
    return waiting, await drive.history(graph, HERE)


async def summaries(drive: Drive) -> Any:
    graph = agent(drive.saver, SummarizationMiddleware(Scripted(), trigger=("messages", 6), keep=("messages", 2)))
    for turn in range(6):
        await drive.invoke(graph, asks(f"call echo {turn}" if turn % 3 == 0 else f"question {turn}"), HERE)
    return await drive.history(graph, HERE)


async def a_limit_on_calls(drive: Drive) -> Any:
    graph = agent(drive.saver, ModelCallLimitMiddleware(thread_limit=3, exit_behavior="end"))
    for turn in range(4):
        await drive.invoke(graph, asks(f"question {turn}"), HERE)
    return await drive.history(graph, HERE)


async def time_travel(drive: Drive) -> Any:
    graph = agent(drive.saver, Counter())
    for turn in range(2):
        await drive.invoke(graph, asks(f"call echo {turn}"), HERE)
    past = await drive.history(graph, HERE)
    before_tools = next(each for each in past if each.next == ("tools",))
    called = before_tools.values["messages"][-1]
    answer = ToolMessage("made up", tool_call_id=called.tool_calls[0]["id"], name="echo")
    forked = await drive.update(graph, before_tools.config, {"messages": [answer]}, as_node="tools")
    await drive.invoke(graph, None, forked)
    await drive.invoke(graph, None, past[-2].config)
    return await drive.history(graph, HERE)


async def an_agent_as_a_tool_of_another(drive: Drive) -> Any:
    inner = create_agent(Scripted(), [echo], name="inner")

    @tool
    def ask_inner(text: str) -> str:
        """Ask the other agent."""
        return inner.invoke(asks(f"call echo {text}"))["messages"][-1].text

    graph = create_agent(Scripted(), [ask_inner], checkpointer=drive.saver, name="outer")
    for turn in range(2):
        await drive.invoke(graph, asks(f"call ask_inner {turn}"), HERE)
    return await drive.history(graph, HERE)


CASES: list[Callable[[Drive], Awaitable[Any]]] = [
    tools, state_of_a_middleware, a_human_in_the_loop, summaries, a_limit_on_calls, time_travel,
    an_agent_as_a_tool_of_another,
]  # fmt: skip


@pytest.mark.parametrize("run", CASES, ids=lambda run: run.__name__)
async def test_an_agent_leaves_what_it_leaves_in_memory(run: Any, shared_url: str, tenant: str) -> None:
    expected = await outcome(run, Drive(InMemorySaver()))
    async with opened(shared_url, tenant) as (store, saver):
        found = await outcome(run, Drive(saver))
        state = await saver.aget_tuple(HERE)
        assert state is not None
        shown = [each.text for each in await store.conversations.messages("t")]

    assert found[0] == expected[0]
    assert found[1] == expected[1]
    assert shown == [each.text for each in state.checkpoint["channel_values"]["messages"]]


@pytest.mark.parametrize("run", CASES, ids=lambda run: run.__name__)
def test_a_sync_agent_does_too(run: Any, shared_url: str, tenant: str) -> None:
    expected = asyncio.run(outcome(run, Drive(InMemorySaver(), sync=True)))
    with Memory.open(shared_url, tenant=tenant, embeddings=False) as memory:
        found = asyncio.run(outcome(run, Drive(memory.checkpointer, sync=True)))

    assert found[0] == expected[0]
    assert found[1] == expected[1]


async def test_the_state_of_a_middleware_can_be_found(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (store, saver):
        await Drive(saver).invoke(agent(saver, Counter()), asks("call echo a"), HERE)

        assert (await store.conversations.get_buffer("t") or {})["calls"] == 2
        found = await store.conversations.find_by_buffer({"calls": 2, "prices": {"seen": 1}})
        assert [each.thread_id for each in found] == ["t"]
        assert await store.conversations.find_by_buffer({"calls": 3}) == []
