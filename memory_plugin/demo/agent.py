"""The demo's agent: a shop assistant with the memory's tools and two of its own, one of which asks a person first."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, interrupt

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

    from memory_plugin.memory import Memory

APPROVAL_LIMIT = 30.0
"""EUR; a person must approve a refund above it."""

_PROMPT = """\
You are the assistant of Kiln & Co, a shop for stoneware. Be brief.
- Call remember for each lasting fact the customer tells about themselves, one sentence a call.
- Call recall before you answer anything about the customer; do not answer it from memory of your own.
- Call order_status for questions about an order, and refund when the customer asks for a refund: whether it needs
  approval is checked by the tool, so do not ask for confirmation yourself.
- Call search_references for questions about rules or interfaces, and cite what you use.
"""

_ORDERS = {
    "A-1042": {"items": "4 stoneware mugs", "total": "80.00 EUR", "status": "delivered, the carrier reported damage"},
    "A-1051": {"items": "1 salad bowl", "total": "35.00 EUR", "status": "in the kiln, leaves next week"},
}


class SupportState(MessagesState):
    """The agent's state; what is in `refund` can be queried as `memory_buffer -> 'refund'`."""

    refund: NotRequired[dict[str, Any]]


@tool
def order_status(order_id: str) -> str:
    """Look up what was ordered and where it is.

    Args:
        order_id: such as A-1042.
    """
    order = _ORDERS.get(order_id.strip().upper())
    if order is None:
        return f"There is no order {order_id}."
    return json.dumps({"order_id": order_id.strip().upper(), **order})


@tool
def refund(order_id: str, amount: float, reason: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Refund an amount for an order; larger amounts wait until a person has approved them.

    Args:
        order_id: such as A-1042.
        amount: in EUR.
        reason: what the customer says.
    """
    decision: Mapping[str, Any] = {"approved": True, "by": "the rules for small amounts"}
    if amount > APPROVAL_LIMIT:
        question = f"Refund {amount:.2f} EUR for order {order_id}: approve?"
        decision = interrupt({"question": question, "order_id": order_id, "amount": amount, "reason": reason})
    outcome = {
        "order_id": order_id,
        "amount": amount,
        "currency": "EUR",
        "status": "approved" if decision.get("approved") is True else "declined",
        "by": str(decision.get("by") or "a person"),
    }
    message = ToolMessage(json.dumps(outcome), tool_call_id=tool_call_id, name="refund")
    return Command(update={"refund": outcome, "messages": [message]})


def build_agent(memory: Memory, model: BaseChatModel) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The agent over an open memory: by LangChain's `create_agent` where that is installed, else by hand."""
    tools: list[BaseTool] = [*memory.tools(), order_status, refund]
    try:
        from langchain.agents import AgentState, create_agent
    except ImportError:
        return build_graph(memory, model, tools)

    class AgentSupportState(AgentState[Any]):
        refund: NotRequired[dict[str, Any]]

    return create_agent(
        model, tools, system_prompt=_PROMPT, state_schema=AgentSupportState, checkpointer=memory.checkpointer
    )


def build_graph(
    memory: Memory, model: BaseChatModel, tools: Sequence[BaseTool]
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The same agent as a graph of two nodes: the model, and the tools it calls."""
    with_tools = model.bind_tools(tools)

    async def ask(state: SupportState) -> dict[str, Any]:
        return {"messages": [await with_tools.ainvoke([SystemMessage(_PROMPT), *state["messages"]])]}

    graph = StateGraph(SupportState)
    graph.add_node("model", ask)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=memory.checkpointer)


def preload() -> None:
    """Import what the agent will need: a process that waits for work can do that meanwhile."""
    for module in ("memory_plugin.memory", "memory_plugin.langgraph.checkpointer", "langchain.agents"):
        with contextlib.suppress(ImportError):  # langchain may not be there
            importlib.import_module(module)


async def turn(
    agent: CompiledStateGraph[Any, Any, Any, Any], given: str | Command[Any], config: RunnableConfig
) -> AsyncIterator[dict[str, Any]]:
    """Run the agent on what a person said, or on a decision, and tell what happens as plain dicts.

    `event` is "call" (name, args), "result" (name, text), "say" (text) or "interrupt" (value).
    """
    start: Any = {"messages": [{"role": "user", "content": given}]} if isinstance(given, str) else given
    async for update in agent.astream(start, config, stream_mode="updates"):
        for node, change in update.items():
            if node == "__interrupt__":
                for each in change:
                    yield {"event": "interrupt", "value": each.value}
                continue
            for part in change if isinstance(change, list) else [change]:
                for message in (part or {}).get("messages", ()):
                    for event in _events_of(message):
                        yield event


def _events_of(message: BaseMessage) -> list[dict[str, Any]]:
    if isinstance(message, ToolMessage):
        return [{"event": "result", "name": message.name, "text": message.text}]
    if not isinstance(message, AIMessage):
        return []
    events: list[dict[str, Any]] = [{"event": "say", "text": message.text}] if message.text else []
    return [*events, *({"event": "call", "name": call["name"], "args": call["args"]} for call in message.tool_calls)]
