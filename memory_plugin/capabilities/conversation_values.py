"""What conversations tell about themselves: turns, calls of tools, feedback, and what is shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from memory_plugin.types import Message

Outcome = Literal["good", "bad", "mixed"]
OUTCOMES: tuple[Outcome, ...] = ("good", "bad", "mixed")
ToolStatus = Literal["ok", "error"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool that has come back.

    Attributes:
        seq: of the message that asked for it; None where that is gone.
        arguments: as the model gave them.
        result: what came back as text; for an error what went wrong.
        duration: between the two messages being stored, None where they were stored as one.
    """

    thread_id: str
    tool: str | None
    status: ToolStatus
    result: str
    arguments: Mapping[str, Any] | None
    returned_at: datetime
    call_id: str | None = None
    called_at: datetime | None = None
    duration: timedelta | None = None
    user_id: str | None = None
    seq: int | None = None
    result_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody thought of an answer; `message` is the row of the message that asked for it."""

    thread_id: str
    message: str
    outcome: Outcome
    given_by: str | None
    given_at: datetime
    score: float | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """From one thing that a person said to the next.

    Attributes:
        turn: its number in the conversation, from 1.
        seq: of the message that asked.
        answer: the last words of the agent; None while there are none.
        model: that answered, and the tokens of all answers in between: None where it did not say.
        tools: names of the tools that were called; `tool_errors` counts the results that were errors.
        duration: from the question to the last answer.
        outcome: of the latest feedback, with its `score` and `comment`.
        calls: what the tools were asked and answered, in order; only where one turn was asked for.
    """

    thread_id: str
    turn: int
    seq: int
    query: str
    answer: str | None
    asked_at: datetime
    answered_at: datetime | None = None
    duration: timedelta | None = None
    user_id: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    tools: Sequence[str] = ()
    tool_calls: int = 0
    tool_errors: int = 0
    outcome: Outcome | None = None
    score: float | None = None
    comment: str | None = None
    calls: Sequence[ToolCall] = ()

    @property
    def worked(self) -> bool:
        """Somebody said so; or nobody said otherwise, it was answered, and no tool failed."""
        if self.outcome is not None:
            return self.outcome == "good"
        return self.answer is not None and self.tool_errors == 0


@dataclass(frozen=True, slots=True)
class Share:
    """A conversation that may be read by whoever knows the `id`; `live` shows what is said later too."""

    id: str
    thread_id: str
    created_at: datetime
    live: bool = False
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SharedConversation:
    """What a share shows: the title and the words of people and agents, nothing of who or how."""

    title: str | None
    created_at: datetime
    messages: Sequence[Message] = field(default_factory=tuple)
