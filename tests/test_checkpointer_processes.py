"""Several processes over one database: each with nothing but the database in common."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import Memory
from memory_plugin.langgraph import ConversationSaver
from tests.saver_tools import Writer, history, place, rows, said, values

pytest_plugins = ("tests.saver_fixtures",)

PROCESS = """
import asyncio, json, sys
from memory_plugin.langgraph import ConversationSaver
from tests.saver_tools import Writer, place, said, values

async def main():
    url, tenant, name, turns, mode = sys.argv[1:]
    async with ConversationSaver.from_conn_string(url, tenant=tenant) as saver:
        print("ready", flush=True)
        sys.stdin.readline()
        said_last = ""
        for turn in range(int(turns)):
            writer = Writer(saver)
            if mode == "branch" and turn:
                writer.config, writer.values, writer.versions = last.config, last.values, last.versions
            else:  # goes on from whatever is the latest, whoever wrote it
                latest = await saver.aget_tuple(place())
                writer.config = latest.config
                writer.values = dict(latest.checkpoint["channel_values"])
                writer.versions = dict(latest.checkpoint["channel_versions"])
            config = await writer.put(messages=[*writer.values["messages"], *said(f"{name}/{turn}")], topic=f"{name}{turn}")
            await saver.aput_writes(config, [("topic", f"{name}{turn}")], f"task-{name}")
            last = writer
        print(json.dumps([config["configurable"]["checkpoint_id"], [m.text for m in writer.values["messages"]]]))

asyncio.run(main())
"""

GRAPH = """
import asyncio, sys
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from memory_plugin.langgraph import ConversationSaver

async def main():
    url, tenant, given = sys.argv[1:]
    def ask(state):
        return {"messages": [AIMessage(f"you said {interrupt('well?')}", id=f"a{len(state['messages'])}")]}
    async with ConversationSaver.from_conn_string(url, tenant=tenant) as saver:
        graph = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=saver)
        question = {"messages": [HumanMessage(given, id=given)]} if given.startswith("q") else Command(resume=given)
        await graph.ainvoke(question, {"configurable": {"thread_id": "t"}})

asyncio.run(main())
"""


async def started(program: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def side_by_side(url: str, tenant: str, mode: str, turns: int) -> list[Any]:
    """Two processes write at the same time; for each its last checkpoint and what is to be in it."""
    processes = [await started(PROCESS, url, tenant, name, str(turns), mode) for name in ("left", "right")]
    for each in processes:
        assert each.stdout is not None
        assert await each.stdout.readline() == b"ready\n", (await each.communicate())[1].decode()
    outcomes = await asyncio.wait_for(asyncio.gather(*(each.communicate(b"go\n") for each in processes)), 60)
    assert [each.returncode for each in processes] == [0, 0], [errors.decode() for _, errors in outcomes]
    return [json.loads(output) for output, _ in outcomes]


@pytest.mark.parametrize("mode", ["branch", "latest"])
async def test_two_processes_write_one_thread(
    mode: str, saver: ConversationSaver, store: Memory, shared_url: str, tenant: str
) -> None:
    turns = 30
    await Writer(saver).put(messages=said("start"), topic="start")
    for checkpoint_id, texts in await side_by_side(shared_url, tenant, mode, turns):
        found = await values(saver, place(checkpoint_id=checkpoint_id))
        assert [message.text for message in found["messages"]] == texts

    listed = await history(saver, place())
    assert len(listed) == 2 * turns + 1
    by_id = {each["place"][2]: each for each in listed}
    for each in listed:  # each says what its parent said, and one thing more
        if each["parent"] is not None:
            said_before = by_id[each["parent"]]["checkpoint"]["channel_values"]["messages"]
            *before, last = each["checkpoint"]["channel_values"]["messages"]
            assert before == said_before
            assert each["checkpoint"]["channel_values"]["topic"] == last.text.replace("/", "")
            assert [value for _, _, value in each["writes"]] == [last.text.replace("/", "")]
    assert await rows(store, "messages") == 2 * turns + 1  # no message twice, none lost


async def test_a_graph_is_taken_up_by_another_process(
    saver: ConversationSaver, store: Memory, shared_url: str, tenant: str
) -> None:
    for given in ("q1", "yes"):
        process = await started(GRAPH, shared_url, tenant, given)
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, errors.decode()
    found = await values(saver, place())

    texts = ["q1", "you said yes"]
    assert [message.text for message in found["messages"]] == texts
    assert [message.text for message in await store.conversations.messages("t")] == texts
    assert await rows(store, "messages") == 2


async def test_a_process_that_is_killed_leaves_only_whole_checkpoints(
    saver: ConversationSaver, store: Memory, shared_url: str, tenant: str
) -> None:
    await Writer(saver).put(messages=said("start"), topic="start")
    process = await started(PROCESS, shared_url, tenant, "left", "100000", "branch")
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdin.write(b"go\n")
    for _ in range(1000):
        if len(await history(saver, place(), limit=20)) == 20:
            break
        await asyncio.sleep(0.01)
    process.kill()
    await process.communicate()

    latest = await values(saver, place())
    texts = [message.text for message in latest["messages"]]
    assert texts == ["start", *(f"left/{turn}" for turn in range(len(texts) - 1))]
    assert latest["topic"] == texts[-1].replace("/", "")
    assert [message.text for message in await store.conversations.messages("t")] == texts
