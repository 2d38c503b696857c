"""An agent that knows its user without being asked to recall: LangChain's create_agent with the middleware.

    python examples/agent_middleware.py              # a thread called "main"
    python examples/agent_middleware.py holidays     # another thread

Lines that begin with a slash are for the program:

    /memory <question>     what the model would be shown for this question
    /prompt <text>         change the agent's prompt; it counts from the next answer on
    /why                   which prompt the last answer was given with

Without a key for a model the answers come from a small local one made of rules; it does not read
prompts, but /memory shows what any other model is given.

    pip install "memory-plugin[embedded,langchain]"
"""

from __future__ import annotations

import sys
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig

from memory_plugin import Memory
from memory_plugin.demo.choice import make_model

USER, AGENT = "ada", "assistant"
PROMPT = "You are a friendly assistant. Remember lasting facts about the user."


def main() -> None:
    """Chat until an empty line."""
    thread_id = sys.argv[1] if len(sys.argv) > 1 else "main"
    config: RunnableConfig = {"configurable": {"thread_id": thread_id, "user_id": USER}}
    with Memory.open(user_id=USER) as memory:
        middleware = memory.middleware(agent_id=AGENT, prompt_setting="prompt", budget=1000)
        agent = create_agent(
            make_model(), middleware=[middleware], checkpointer=memory.checkpointer, system_prompt=PROMPT
        )
        while line := read_line():
            if line.startswith("/"):
                print(answer_of_the_program(memory, line, config), flush=True)
                continue
            result = agent.invoke({"messages": [{"role": "user", "content": line}]}, config)
            print(f"agent> {result['messages'][-1].text}", flush=True)
            for part, error in middleware.failures.items():
                print(f"(without {part}: {error})")


def answer_of_the_program(memory: Any, line: str, config: RunnableConfig) -> str:
    """What a line with a slash asks for."""
    command, _, text = line.partition(" ")
    if command == "/memory":
        return str(memory.context(agent_id=AGENT).load([HumanMessage(text)], config).text)
    if command == "/prompt":
        setting = memory.agent_settings.set(
            "prompt", text, scope="agent", scope_id=AGENT, set_by=USER, reason="said so in the terminal"
        )
        return f"The prompt is version {setting.version} now."
    if command == "/why":
        used = memory.agent_settings.of_answer("prompt", config["configurable"]["thread_id"], agent_id=AGENT)
        if used is None:
            return "It was given with the prompt of the program."
        return f"It was given with version {used.version}, set by {used.set_by}: {used.value}"
    return "There are /memory, /prompt and /why."


def read_line() -> str:
    """The next line, empty at the end of the input."""
    print("you> ", end="", flush=True)
    return sys.stdin.readline().strip()


if __name__ == "__main__":
    main()
