"""Conversations of a realistic size, and the state of a thread as a graph holds it."""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Sequence
from functools import cache
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.base.id import uuid6

HUMAN_LENGTH, AI_LENGTH = 150, 600
"""Characters in a message."""

_COMMON = [
    "the",
    "a",
    "of",
    "to",
    "and",
    "in",
    "that",
    "is",
    "for",
    "on",
    "with",
    "as",
    "at",
    "by",
    "from",
    "this",
    "order",
    "parcel",
    "customer",
    "account",
    "invoice",
    "refund",
    "address",
    "payment",
    "shipment",
    "delay",
    "warehouse",
    "ticket",
    "agent",
    "reply",
    "please",
    "thanks",
    "tomorrow",
    "policy",
    "contract",
    "renewal",
    "upgrade",
    "seat",
    "flight",
    "hotel",
    "booking",
    "train",
    "station",
    "weather",
    "calendar",
    "project",
    "review",
    "budget",
    "report",
    "table",
    "query",
    "server",
    "latency",
    "error",
    "token",
    "model",
    "prompt",
    "summary",
    "detail",
    "first",
    "second",
    "next",
    "before",
    "after",
    "because",
    "however",
    "usually",
    "check",
    "confirm",
    "cancel",
    "change",
    "create",
    "update",
    "remove",
    "describe",
    "explain",
    "compare",
    "recommend",
    "translate",
    "schedule",
    "arrive",
    "leave",
]
_SYLLABLES = [
    "ba",
    "con",
    "der",
    "es",
    "fi",
    "gra",
    "hu",
    "in",
    "jo",
    "ka",
    "len",
    "mo",
    "nar",
    "ou",
    "pre",
    "qui",
    "ras",
    "sto",
    "tem",
    "un",
    "ver",
    "wes",
    "xi",
    "yel",
    "zan",
    "tion",
    "ment",
]
_RARE = 6000


@cache
def _vocabulary() -> tuple[list[str], list[float]]:
    """Words and how often they add up to: few are common, thousands are rare, as in any language.

    Text of common words alone would be compressed to almost nothing, and sizes would say nothing.
    """
    chance = random.Random(7)
    rare = ["".join(chance.choices(_SYLLABLES, k=chance.randint(2, 4))) for _ in range(_RARE)]
    words = [*_COMMON, *rare]
    return words, list(itertools.accumulate(1 / (rank + 3) for rank in range(len(words))))


def _text(chance: random.Random, length: int) -> str:
    words, weights = _vocabulary()
    return " ".join(chance.choices(words, cum_weights=weights, k=length // 3))[:length]


def human(chance: random.Random) -> HumanMessage:
    """What a person says in one turn."""
    return HumanMessage(_text(chance, chance.randint(HUMAN_LENGTH - 50, HUMAN_LENGTH + 50)), id=_id(chance))


def ai(chance: random.Random) -> AIMessage:
    """What a model answers, with what providers say about the answer."""
    read, written = chance.randint(500, 9000), chance.randint(100, 200)
    return AIMessage(
        _text(chance, chance.randint(AI_LENGTH - 150, AI_LENGTH + 150)),
        id=f"run-{_id(chance)}",
        response_metadata={
            "model_name": "model-large-2026-05",
            "model_provider": "provider",
            "finish_reason": "stop",
            "system_fingerprint": f"fp_{chance.getrandbits(40):010x}",
        },
        usage_metadata={
            "input_tokens": read,
            "output_tokens": written,
            "total_tokens": read + written,
            "input_token_details": {"cache_read": read // 2},
        },
    )


def conversation(chance: random.Random, length: int) -> list[BaseMessage]:
    """So many messages, in turns."""
    return [ai(chance) if place % 2 else human(chance) for place in range(length)]


def _id(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


class Thread:
    """A thread as a graph works on it: the loaded list grows by one message at each put.

    The objects in the list stay the same ones from put to put, as LangGraph's reducer leaves them.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any], thread_id: str, chance: random.Random) -> None:
        self.saver = saver
        self.thread_id = thread_id
        self.messages: list[BaseMessage] = []
        self.config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        self._chance = chance
        self._answers: list[AIMessage] = []
        self._begun: CheckpointTuple | None = None
        self._versions: dict[str, Any] = {}
        self._step = -1

    @property
    def newest(self) -> RunnableConfig:
        """The config that names the thread, not a checkpoint."""
        return {"configurable": {"thread_id": self.thread_id, "checkpoint_ns": ""}}

    async def begin(self, length: int) -> None:
        """Store a conversation of this length, then load it as the next run of a graph does."""
        next_version = self.saver.get_next_version
        start = next_version(None, None)
        self._versions = {"__start__": start, "branch:to:agent": next_version(start, None)}
        await self.put(*self.appended(conversation(self._chance, length)))
        self._begun = await self.saver.aget_tuple(self.newest)
        self.take(self._begun)

    def think(self, count: int) -> None:
        """Have so many answers ready, so that making them up is in nobody's time."""
        self._answers += [ai(self._chance) for _ in range(count - len(self._answers))]

    def _answer(self) -> AIMessage:
        return self._answers.pop() if self._answers else ai(self._chance)

    def rewind(self) -> None:
        """Go on from the first checkpoint once more: what is put next is a fork of it."""
        self.take(self._begun)

    async def load(self, saver: BaseCheckpointSaver[Any] | None = None) -> None:
        """Take the state from the database, as seen by this saver from now on."""
        self.saver = saver or self.saver
        self.take(await self.saver.aget_tuple(self.newest))

    def take(self, found: CheckpointTuple | None) -> None:
        """Go on from this checkpoint."""
        assert found is not None
        self.config = found.config
        self.messages = found.checkpoint["channel_values"]["messages"]
        self._versions = dict(found.checkpoint["channel_versions"])

    def appended(self, new: Sequence[BaseMessage] = ()) -> tuple[Checkpoint, CheckpointMetadata, dict[str, Any]]:
        """What the next put stores: the list with one more answer, or with these messages."""
        self.messages = [*self.messages, *(new or (self._answer(),))]
        version = self.saver.get_next_version(self._versions.get("messages"), None)
        self._versions["messages"] = version
        self._step += 1
        checkpoint: Checkpoint = {
            "v": 4,
            "ts": "2026-05-05T05:05:05.050505+00:00",
            "id": str(uuid6(clock_seq=self._step % 16000)),
            "channel_values": {"messages": self.messages},
            "channel_versions": dict(self._versions),
            "versions_seen": {
                "__input__": {},
                "__start__": {"__start__": self._versions["__start__"]},
                "agent": {"branch:to:agent": self._versions["branch:to:agent"]},
            },
            "updated_channels": ["messages"],
        }
        return checkpoint, {"source": "loop", "step": self._step, "parents": {}}, {"messages": version}

    async def put(self, checkpoint: Checkpoint, metadata: CheckpointMetadata, versions: dict[str, Any]) -> None:
        """The put itself: nothing but the saver's own work."""
        self.config = await self.saver.aput(self.config, checkpoint, metadata, versions)

    def writes(self) -> list[tuple[str, Any]]:
        """What a node's task writes."""
        return [("messages", [self._answer()]), ("branch:to:tools", None)]
