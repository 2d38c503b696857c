"""What was asked, what was answered, what the tools did, and what came of it.

Nothing is kept twice: all of it is read from the messages by the views `conversation_turns` and
`conversation_tool_calls`; only feedback has rows of its own.
"""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from memory_plugin.capabilities.conversation_values import OUTCOMES, Feedback, Outcome, ToolCall, ToolStatus, Turn
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import InvalidInputError, NotFoundError
from memory_plugin.jsonable import loads_exact
from memory_plugin.types import Hit
from memory_plugin.validation import clean_text, identifier, moment, optional_identifier, positive_limit

THREADS = 100
"""Conversations that one statement looks through."""

CANDIDATES = 60
"""Messages that a search looks at before it keeps what worked."""

Search = Callable[..., Awaitable[Sequence[Hit]]]

_THREADS_OF = """
SELECT thread_id, active_hour, updated_at FROM {s}.conversations
WHERE tenant_id = $1 AND forgotten_at IS NULL
  AND ($2::text IS NULL OR user_id = $2)
  AND ($3::timestamptz IS NULL OR (active_hour >= date_trunc('hour', $3, 'UTC') AND updated_at >= $3))
  AND ($4::timestamptz IS NULL
       OR (active_hour <= $4 AND (active_hour, updated_at, thread_id) < ($4, $5::timestamptz, $6)))
ORDER BY active_hour DESC, updated_at DESC, thread_id DESC LIMIT $7
"""

# the ids of threads go into the view as a constant: a join would read every conversation there is
_TURNS = """
SELECT thread_id, user_id, turn, seq, query, answer, model, input_tokens, output_tokens, total_tokens, tools,
       tool_calls, tool_errors, asked_at, answered_at, duration, outcome, score, comment
FROM {s}.conversation_turns
WHERE tenant_id = $1 AND thread_id = ANY ($2::text[])
  AND ($3::timestamptz IS NULL OR asked_at >= $3) AND ($4::timestamptz IS NULL OR asked_at < $4)
  AND ($5::text IS NULL OR outcome = $5) AND ($6::text IS NULL OR $6 = ANY (tools))
  AND ($7::boolean IS NULL OR (tool_errors > 0) = $7)
  AND ($8::bigint IS NULL OR turn = $8)
ORDER BY asked_at DESC, turn DESC
"""

_CALLS = """
SELECT thread_id, user_id, seq, result_seq, call_id, tool, arguments::text AS arguments, result, status, called_at,
       returned_at, duration
FROM {s}.conversation_tool_calls
WHERE tenant_id = $1
  AND ($2::timestamptz IS NULL OR returned_at >= $2) AND ($3::timestamptz IS NULL OR returned_at < $3)
  AND ($4::text IS NULL OR status = $4) AND ($5::text IS NULL OR tool = $5)
  AND ($6::text IS NULL OR user_id = $6) AND ($7::text IS NULL OR thread_id = $7)
ORDER BY returned_at DESC, thread_id, result_seq DESC LIMIT $8
"""

_CALLS_OF_TURN = """
SELECT thread_id, user_id, seq, result_seq, call_id, tool, arguments::text AS arguments, result, status, called_at,
       returned_at, duration
FROM {s}.conversation_tool_calls
WHERE tenant_id = $1 AND thread_id = $2 AND result_seq IN (
    SELECT seq FROM {s}.conversation_messages
    WHERE tenant_id = $1 AND thread_id = $2 AND turn = $3 AND role = 'tool')
ORDER BY result_seq
"""

_RATE = """
INSERT INTO {s}.feedback (tenant_id, thread_id, message, given_by, outcome, score, comment, given_at)
SELECT tenant_id, thread_id, message, coalesce($4::text, ''), $5, $6::float8, $7, clock_timestamp()
FROM {s}.conversation_turns
WHERE tenant_id = $1 AND thread_id = $2 AND ($3::bigint IS NULL OR turn = $3)
ORDER BY turn DESC LIMIT 1
ON CONFLICT (tenant_id, thread_id, message, given_by) DO UPDATE
SET outcome = excluded.outcome, score = excluded.score, comment = excluded.comment, given_at = excluded.given_at
RETURNING thread_id, message, given_by, outcome, score, comment, given_at
"""

_FEEDBACK = """
SELECT thread_id, message, given_by, outcome, score, comment, given_at FROM {s}.feedback
WHERE tenant_id = $1 AND thread_id = $2 ORDER BY given_at
"""

_PLACES = """
SELECT m.thread_id, m.turn, p.id FROM {s}.passages p
JOIN {s}.conversation_messages m ON m.tenant_id = p.tenant_id AND m.thread_id = p.thread_id AND m.seq = p.seq
WHERE p.tenant_id = $1 AND p.id = ANY ($2::text[]::uuid[]) AND m.tenant_id = $1 AND m.thread_id = ANY ($3::text[])
"""


class Turns:
    """The turns of one tenant's conversations.

    Args:
        search: finds messages: called as `recall` is.
    """

    def __init__(self, database: Database, *, tenant: str, search: Search, user_id: str | None = None) -> None:
        self._database = database
        self._tenant = tenant
        self._user_id = user_id
        self._search = search

    async def list(
        self,
        *,
        thread_id: str | None = None,
        user_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        outcome: Outcome | None = None,
        tool: str | None = None,
        failed: bool | None = None,
        limit: int = 20,
    ) -> list[Turn]:
        """Turns, the latest question first.

        Args:
            since, until: asked in this half-open period.
            outcome: only those with this feedback.
            tool: only those in which this tool was called.
            failed: only those in which the result of a tool was an error, or with False none was.
        """
        size = positive_limit(limit)
        start, end = moment(since, "since"), moment(until, "until")
        if outcome is not None:
            _known(outcome)
        conditions = (start, end, outcome, tool, failed, None)
        if thread_id is not None:
            return (await self._turns([identifier(thread_id, "thread_id")], *conditions))[:size]
        user = optional_identifier(user_id if user_id is not None else self._user_id, "user_id")
        # without conditions each thread has a turn to show
        batch = THREADS if (outcome, tool, failed) != (None, None, None) else min(size + 1, THREADS)
        found: list[Turn] = []
        place: Sequence[Any] = (None, None, None)
        while size:
            threads = await self._database.fetch(
                self._database.sql(_THREADS_OF), self._tenant, user, start, *place, batch, repeat=Repeat.READ
            )
            # what is asked in a thread is never later than the thread's last activity
            found.sort(key=lambda turn: turn.asked_at, reverse=True)
            if not threads or (len(found) >= size and threads[0]["updated_at"] < found[size - 1].asked_at):
                break
            found += await self._turns([row["thread_id"] for row in threads], *conditions)
            last = threads[-1]
            place = (last["active_hour"], last["updated_at"], last["thread_id"])
        return found[:size]

    async def get(self, thread_id: str, turn: int) -> Turn:
        """One turn with all that its tools did.

        Raises:
            NotFoundError: the conversation has no such turn.
        """
        thread, number = identifier(thread_id, "thread_id"), positive_limit(turn, "turn", maximum=2**31)
        found = await self._turns([thread], None, None, None, None, None, number)
        if not found:
            raise NotFoundError(
                f"The conversation {thread!r} has no turn {number}: `turns.list` shows those there are."
            )
        rows = await self._database.fetch(
            self._database.sql(_CALLS_OF_TURN), self._tenant, thread, number, repeat=Repeat.READ
        )
        return dataclasses.replace(found[0], calls=tuple(_call(row) for row in rows))

    async def tool_calls(
        self,
        *,
        status: ToolStatus | None = None,
        tool: str | None = None,
        thread_id: str | None = None,
        user_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
    ) -> builtins.list[ToolCall]:
        """Calls of tools that came back, the latest first.

        Args:
            status: "error" for those that failed, "ok" for the others.
            since, until: came back in this half-open period.
        """
        if status not in {None, "ok", "error"}:
            raise InvalidInputError(f"status must be 'ok' or 'error', not {status!r}.")
        rows = await self._database.fetch(
            self._database.sql(_CALLS),
            self._tenant,
            moment(since, "since"),
            moment(until, "until"),
            status,
            tool,
            optional_identifier(user_id if user_id is not None else self._user_id, "user_id"),
            optional_identifier(thread_id, "thread_id"),
            positive_limit(limit),
            repeat=Repeat.READ,
        )
        return [_call(row) for row in rows]

    async def what_worked(self, query: str, *, user_id: str | None = None, limit: int = 5) -> builtins.list[Turn]:
        """Turns in which somebody asked for something like this, and got it; the likest first.

        It worked where feedback says so; without feedback, where there is an answer and no tool failed.

        Args:
            query: in plain words; messages are searched as `recall` does, by words and by meaning.
        """
        size = positive_limit(limit)
        user = user_id if user_id is not None else self._user_id
        hits = await self._search(query, user_id=user, kinds=("message",), limit=CANDIDATES)
        order: dict[tuple[str, int], int] = {}
        threads = list(dict.fromkeys(hit.thread_id for hit in hits if hit.thread_id is not None))
        if not threads or not size:
            return []
        rows = await self._database.fetch(
            self._database.sql(_PLACES),
            self._tenant,
            [hit.id for hit in hits],
            threads,
            repeat=Repeat.READ,
        )
        ranks = {hit.id: rank for rank, hit in enumerate(hits)}
        for row in rows:
            place = (row["thread_id"], row["turn"])
            order[place] = min(order.get(place, len(hits)), ranks[str(row["id"])])
        turns = await self._turns(threads, None, None, None, None, None, None)
        liked = [turn for turn in turns if turn.worked and (turn.thread_id, turn.turn) in order]
        return sorted(liked, key=lambda turn: order[turn.thread_id, turn.turn])[:size]

    async def rate(
        self,
        thread_id: str,
        outcome: Outcome,
        *,
        turn: int | None = None,
        score: float | None = None,
        comment: str | None = None,
        given_by: str | None = None,
    ) -> Feedback:
        """Say what came of an answer; who says it again changes what was said.

        Args:
            turn: which turn; the last one by default.
            given_by: who says so.

        Raises:
            NotFoundError: the conversation has no such turn.
            InvalidInputError: the outcome is an unknown word.
        """
        thread = identifier(thread_id, "thread_id")
        row = await self._database.fetchrow(
            self._database.sql(_RATE),
            self._tenant,
            thread,
            None if turn is None else positive_limit(turn, "turn", maximum=2**31),
            optional_identifier(given_by, "given_by"),
            _known(outcome),
            score,
            None if comment is None else clean_text(comment, "comment"),
            repeat=Repeat.IDEMPOTENT,
        )
        if row is None:
            raise NotFoundError(
                f"The conversation {thread!r} has no turn{'' if turn is None else f' {turn}'} that could be rated."
            )
        return _feedback(row)

    async def feedback(self, thread_id: str) -> builtins.list[Feedback]:
        """All feedback on a conversation, the oldest first."""
        rows = await self._database.fetch(
            self._database.sql(_FEEDBACK), self._tenant, identifier(thread_id, "thread_id"), repeat=Repeat.READ
        )
        return [_feedback(row) for row in rows]

    async def _turns(self, threads: Sequence[str], *conditions: Any) -> builtins.list[Turn]:
        rows = await self._database.fetch(
            self._database.sql(_TURNS), self._tenant, list(threads), *conditions, repeat=Repeat.READ
        )
        return [_turn(row) for row in rows]


def _known(outcome: str) -> str:
    if outcome not in OUTCOMES:
        raise InvalidInputError(f"outcome must be one of {', '.join(OUTCOMES)}, not {outcome!r}.")
    return outcome


def _turn(row: Record) -> Turn:
    return Turn(
        thread_id=row["thread_id"],
        turn=row["turn"],
        seq=row["seq"],
        query=row["query"] or "",
        answer=row["answer"],
        asked_at=row["asked_at"],
        answered_at=row["answered_at"],
        duration=row["duration"],
        user_id=row["user_id"],
        model=row["model"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        total_tokens=row["total_tokens"],
        tools=tuple(row["tools"]),
        tool_calls=row["tool_calls"],
        tool_errors=row["tool_errors"],
        outcome=row["outcome"],
        score=row["score"],
        comment=row["comment"],
    )


def _call(row: Record) -> ToolCall:
    return ToolCall(
        thread_id=row["thread_id"],
        tool=row["tool"],
        status=row["status"],
        result=row["result"] or "",
        arguments=None if row["arguments"] is None else loads_exact(row["arguments"]),
        returned_at=row["returned_at"],
        call_id=row["call_id"],
        called_at=row["called_at"],
        duration=row["duration"],
        user_id=row["user_id"],
        seq=row["seq"],
        result_seq=row["result_seq"],
    )


def _feedback(row: Record) -> Feedback:
    message: UUID = row["message"]
    return Feedback(
        thread_id=row["thread_id"],
        message=str(message),
        outcome=row["outcome"],
        given_by=row["given_by"] or None,
        given_at=row["given_at"],
        score=row["score"],
        comment=row["comment"],
    )
