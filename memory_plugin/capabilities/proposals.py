"""Facts that were proposed, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from memory_plugin.capabilities import extraction_sql as sql
from memory_plugin.capabilities.memories import Memories
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.db.joined import together
from memory_plugin.errors import ConflictError, InvalidInputError, NotFoundError
from memory_plugin.types import MemoryItem, Page, Source
from memory_plugin.validation import identifier, optional_identifier, positive_limit

ProposalStatus = Literal["open", "accepted", "rejected"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A fact that a model took from messages."""

    id: UUID
    thread_id: str
    user_id: str | None
    content: str
    messages: Sequence[str]
    importance: float
    status: ProposalStatus
    created_at: datetime
    subject: str | None = None
    attribute: str | None = None
    valid_from: datetime | None = None
    model: str | None = None
    memory_id: UUID | None = None
    decided_at: datetime | None = None


@dataclass(slots=True)
class ExtractionReport:
    """What an extraction did so far.

    `dropped` are facts that were malformed, rested on nothing that a person said, or held a credential;
    `known` those that were remembered or proposed before; `failed` calls that gave no answer, whose
    messages are read again in the next run; `passed_over` messages that were given up.
    """

    threads: int = 0
    messages: int = 0
    proposals: int = 0
    known: int = 0
    dropped: int = 0
    calls: int = 0
    failed: int = 0
    passed_over: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    errors: list[str] = field(default_factory=list)
    dry_run: bool = False


class Proposals:
    """Lists proposals, and remembers those that are accepted.

    Args:
        memories: where an accepted proposal is remembered.
        changed: told when one was.
    """

    def __init__(self, database: Database, *, tenant: str, memories: Memories, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._database = database
        self._tenant = tenant
        self._memories = memories

    async def proposals(
        self,
        *,
        status: ProposalStatus | None = "open",
        user_id: str | None = None,
        thread_id: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[Proposal]:
        """What was proposed, the newest first.

        Args:
            status: only these; None takes all.
        """
        count = positive_limit(limit)
        rows = await self._database.fetch(
            self._database.sql(sql.LIST),
            self._tenant,
            status,
            optional_identifier(user_id, "user_id"),
            optional_identifier(thread_id, "thread_id"),
            None if cursor is None else _proposal_id(cursor),
            count + 1,
            repeat=Repeat.READ,
        )
        items = [_proposal(row) for row in rows[:count]]
        return Page(items, str(items[-1].id) if len(rows) > count > 0 else None)

    async def accept(
        self, proposal_id: UUID | str, *, content: str | None = None, key: str | None = None
    ) -> MemoryItem:
        """Remember what was proposed, with the message it rests on as its source.

        Args:
            content: in other words than the model's.
            key: the name of the fact, in place of subject and attribute.

        Raises:
            NotFoundError: there is no such proposal.
            ConflictError: it was decided on before.
        """
        async with together(self._database):
            proposal = await self._locked(proposal_id)
            named = key is None and proposal.subject is not None and proposal.attribute is not None
            about = {"messages": list(proposal.messages), "proposed_by": proposal.model}
            item = await self._memories.remember(
                proposal.content if content is None else content,
                user_id=proposal.user_id,
                thread_id=proposal.thread_id,
                key=key,
                subject=proposal.subject if named else None,
                attribute=proposal.attribute if named else None,
                metadata={name: value for name, value in about.items() if value},
                source=Source(thread_id=proposal.thread_id, message_id=proposal.messages[0]),
                importance=proposal.importance,
                trust="assistant",
                valid_from=proposal.valid_from,
            )
            await self._decide(proposal, "accepted", item.id)
        self._changed()
        return item

    async def reject(self, proposal_id: UUID | str) -> Proposal:
        """Keep it out; it is not proposed again.

        Raises:
            NotFoundError: there is no such proposal.
            ConflictError: it was decided on before.
        """
        async with together(self._database):
            return await self._decide(await self._locked(proposal_id), "rejected", None)

    async def _locked(self, proposal_id: UUID | str) -> Proposal:
        wanted = _proposal_id(proposal_id)
        row = await self._database.fetchrow(self._database.sql(sql.LOCK), self._tenant, wanted)
        if row is None:
            raise NotFoundError(f"There is no proposal {wanted}: `proposals()` shows those there are.")
        if row["status"] != "open":
            raise ConflictError(f"The proposal {wanted} was {row['status']} already.")
        return _proposal(row)

    async def _decide(self, proposal: Proposal, status: ProposalStatus, memory: UUID | None) -> Proposal:
        row = await self._database.fetchrow(self._database.sql(sql.DECIDE), self._tenant, proposal.id, status, memory)
        assert row is not None  # it is locked
        return _proposal(row)


def _proposal_id(value: UUID | str) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(identifier(value, "proposal id"))
    except ValueError as error:
        raise InvalidInputError(f"{value!r:.100} is not the id of a proposal: those are UUIDs.") from error


def _proposal(row: Record) -> Proposal:
    return Proposal(**{**dict(row), "importance": round(row["importance"], 6)})
