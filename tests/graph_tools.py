"""Graphs driven through either face of LangGraph, and what they leave in a form that can be compared."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import StateSnapshot

_RANDOM = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # checkpoints, tasks, messages
    r"|\b[0-9a-f]{32}\b"  # interrupts
)
_VERSION = re.compile(r"\b0+(\d+)\.[0-9a-f.]{10,}(-\d\d)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00")


class Drive:
    """Runs graphs over one checkpointer, by the async methods or by the sync ones.

    Each step is stored before the next begins, unless `durability` is given: LangGraph goes on changing
    sets and messages in place while a put of the step before still waits for its turn.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any], *, sync: bool = False) -> None:
        self.saver = saver
        self.sync = sync

    async def _call(self, owner: Any, name: str, *arguments: Any, **options: Any) -> Any:
        if self.sync:
            return await asyncio.to_thread(getattr(owner, name), *arguments, **options)
        return await getattr(owner, f"a{name}")(*arguments, **options)

    async def invoke(self, graph: Any, given: Any, config: Any, **options: Any) -> Any:
        return await self._call(graph, "invoke", given, config, **{"durability": "sync", **options})

    async def fail(self, graph: Any, given: Any, config: Any, **options: Any) -> str:
        """Run a graph that raises; what it raised."""
        try:
            await self.invoke(graph, given, config, **options)
        except Exception as error:  # noqa: BLE001 - whatever a graph raises
            return repr(error)
        raise AssertionError("nothing was raised")

    async def update(self, graph: Any, config: Any, values: Any, **options: Any) -> Any:
        return await self._call(graph, "update_state", config, values, **options)

    async def state(self, graph: Any, config: Any, **options: Any) -> StateSnapshot:
        return await self._call(graph, "get_state", config, **options)

    async def history(self, graph: Any, config: Any, **options: Any) -> list[StateSnapshot]:
        if self.sync:
            return await asyncio.to_thread(lambda: list(graph.get_state_history(config, **options)))
        return [each async for each in graph.aget_state_history(config, **options)]

    async def stream(self, graph: Any, given: Any, config: Any, **options: Any) -> list[Any]:
        options = {"durability": "sync", **options}
        if self.sync:
            return await asyncio.to_thread(lambda: list(graph.stream(given, config, **options)))
        return [each async for each in graph.astream(given, config, **options)]

    async def stored(self) -> list[Any]:
        """Every checkpoint of every thread and namespace, complete."""
        if self.sync:
            found = await asyncio.to_thread(lambda: list(self.saver.list(None)))
        else:
            found = [each async for each in self.saver.alist(None)]
        return sorted(found, key=lambda each: (_bare(each.config), each.config["configurable"]["checkpoint_id"]))


def _bare(config: Any) -> tuple[str, str]:
    """Thread and namespace without what is random in it."""
    return config["configurable"]["thread_id"], _RANDOM.sub("", config["configurable"]["checkpoint_ns"])


def comparable(value: Any) -> str:
    """The value as text, with numbers for random ids in the order in which they are met."""
    numbers: dict[str, str] = {}
    text = _TIME.sub("(time)", _VERSION.sub(r"v\1", _text(value)))
    return _RANDOM.sub(lambda match: numbers.setdefault(match.group(), f"#{len(numbers)}"), text)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ",\n".join(f"{name!r}: {_text(value[name])}" for name in sorted(value, key=repr)) + "}"
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return f"{type(value).__name__}({_text(value._asdict())})"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}[" + ",\n".join(map(_text, value)) + "]"
    if isinstance(value, BaseMessage):  # the keys of dicts in messages come back in any order
        fields = {**value.__dict__, **(value.__pydantic_extra__ or {})}
        if _RANDOM.fullmatch(value.id or ""):
            fields["id"] = None  # LangGraph gives it while the message is being stored: before, or just after
        return f"{type(value).__name__}({_text(fields)})"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}" + repr(sorted(value, key=repr))
    return repr(value)


async def outcome(run: Callable[[Drive], Awaitable[Any]], drive: Drive) -> tuple[str, str]:
    """What a conversation with a graph gives back, and everything that is stored afterwards."""
    given = await run(drive)
    return comparable(given), comparable(await drive.stored())
