"""A LangGraph agent in the terminal, with the memory as its checkpointer and its store.

    python examples/langgraph_agent.py              # a thread called "main"
    python examples/langgraph_agent.py holidays     # another thread

Leave with an empty line and come back: a thread goes on where it was, even after a crash. What the
agent was told in one thread it finds from every other through its recall tool. And what a tool puts
into the LangGraph store is a memory too: recall finds it, and so does every MCP client.

Without a key for a model the answers come from a small local one made of rules; it knows "I ..."
sentences, questions about yourself, and orders such as A-1042.

    pip install "memory-plugin[embedded,langchain]"
"""

from __future__ import annotations

import sys

from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.runnables import RunnableConfig

from memory_plugin import Memory
from memory_plugin.demo.choice import make_model

USER = "ada"
ORDERS = {
    "A-1042": ("4 stoneware mugs", "80.00 EUR", "delivered"),
    "A-1051": ("1 salad bowl", "35.00 EUR", "in the kiln"),
}


@tool
def order_status(order_id: str, runtime: ToolRuntime) -> str:
    """Say what an order is and where it is.

    Args:
        order_id: such as A-1042.
    """
    if order_id not in ORDERS:
        return f"There is no order {order_id}."
    items, total, status = ORDERS[order_id]
    # the agent's store, by LangGraph's own interface: a row in the same database
    assert runtime.store is not None
    runtime.store.put(("orders", USER), order_id, {"text": f"Ada asked about order {order_id}: {items}"})
    return f"Order {order_id} ({items}, {total}) is {status}."


def main() -> None:
    """Chat until an empty line, then show what is kept."""
    thread_id = sys.argv[1] if len(sys.argv) > 1 else "main"
    config: RunnableConfig = {"configurable": {"thread_id": thread_id, "user_id": USER}}
    with Memory.open(user_id=USER) as memory:
        agent = create_agent(
            make_model(),
            [*memory.tools(), order_status],
            system_prompt="Call remember for lasting facts, and recall before you answer about the user.",
            checkpointer=memory.checkpointer,
            store=memory.store,
        )
        known = len(agent.get_state(config).values.get("messages", []))
        print(f"Thread {thread_id!r} has {known} messages. An empty line ends it.")
        while line := read_line():
            result = agent.invoke({"messages": [{"role": "user", "content": line}]}, config)
            print(f"agent> {result['messages'][-1].text}", flush=True)
        print(f"\nIn the store under ('orders', {USER!r}):")
        for item in memory.store.search(("orders", USER)):
            print(f"  {item.key}: {item.value}")
        print("Recalled for 'mugs':")
        for hit in memory.recall("mugs", kinds=["memory"]):
            print(f"  {hit.at:%F %H:%M} {hit.text}")


def read_line() -> str:
    """The next line, empty at the end of the input."""
    print("you> ", end="", flush=True)
    return sys.stdin.readline().strip()


if __name__ == "__main__":
    main()
