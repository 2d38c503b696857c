"""What each tool does: one call of the core, then the answer within its budget."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from mcp.server.mcpserver.exceptions import ToolError

from mcp_server import reading
from mcp_server.caller import Caller
from mcp_server.render import date, fit, harmless, label
from mcp_server.results import (
    DATA_NOTICE,
    Answer,
    ConversationList,
    ConversationResult,
    ConversationSummary,
    Forgotten,
    Found,
    Item,
    Kind,
    Passage,
    Recalled,
    References,
    Spoken,
    Stored,
    UserSummary,
    WorkingMemoryWritten,
)
from memory_plugin.types import HIT_KINDS, Source

if TYPE_CHECKING:
    from memory_plugin.types import Conversation, Hit, Message


R = TypeVar("R", Recalled, References)


async def recall(
    caller: Caller,
    query: str,
    *,
    kinds: Sequence[Kind] | None,
    since: str | None,
    until: str | None,
    limit: int,
    max_tokens: int,
) -> Recalled:
    """What is remembered about the query."""
    hits = await caller.core.recall(
        query,
        user_id=caller.user_id,
        kinds=kinds or HIT_KINDS,
        since=moment(since, "since"),
        until=moment(until, "until", end=True),
        limit=limit,
    )
    if not hits:
        nothing = "Nothing is remembered about this. Other words may find more; otherwise ask the user."
        return Recalled(notice=nothing, results=[])
    return _ranked(Recalled, [_found(hit) for hit in hits], max_tokens)


async def search_references(
    caller: Caller, query: str, *, collection: str | None, limit: int, max_tokens: int
) -> References:
    """The passages of the documents that answer the query."""
    hits = await caller.core.search_references(
        query, collection=collection or None, user_id=caller.user_id, limit=limit
    )
    if not hits:
        nothing = "No passage of the stored documents matches this. Other words may find more."
        return References(notice=nothing, results=[])
    return _ranked(References, [Passage(**_about(hit)) for hit in hits], max_tokens)


def _ranked(answer: type[R], found: Sequence[Any], max_tokens: int) -> R:
    def build(count: int, characters: int) -> R:
        kept = [each.cut(characters) for each in found[:count]]
        return answer(
            notice=DATA_NOTICE,
            results=kept,
            truncated=kept != found,
            omitted=len(found) - len(kept) or None,
        )

    return fit(build, count=len(found), longest=max(len(each.text) for each in found), max_tokens=max_tokens)


def _about(hit: Hit) -> dict[str, Any]:
    """What is said of every hit; three digits of the score tell the ranks apart."""
    return {
        "id": harmless(reading.address(hit)),
        "text": harmless(hit.text),
        "date": date(hit.at),
        "score": float(f"{hit.score:.3g}"),
        "source": reading.cited(hit.citation),
    }


def _found(hit: Hit) -> Found:
    is_memory = hit.kind == "memory"
    return Found(
        **_about(hit),
        kind=hit.kind,
        speaker=label(hit.speaker),
        key=reading.named(hit.key) if is_memory else None,
        origin=reading.origin(hit.trust) if is_memory else None,
    )


async def item(caller: Caller, id: str, *, offset: int, max_tokens: int) -> Item:
    """One stored text, from an offset on."""
    whole = await reading.read(caller, id)
    total = len(whole.text)
    if offset and offset >= total:
        raise ToolError(f"The offset {offset} is behind the end: the text has {total} characters.")

    def build(_: int, characters: int) -> Item:
        end = offset + characters
        text = whole.text[offset:end]
        more = end < total
        return whole.model_copy(update={"text": text, "next_offset": end if more else None, "truncated": more})

    part = fit(build, count=1, longest=total - offset, max_tokens=max_tokens)
    if part.truncated and not part.text:
        raise ToolError(f"Nothing of the text fits into max_tokens={max_tokens}: allow a larger answer.")
    return part


async def remember(
    caller: Caller, content: str, *, key: str | None, valid_from: str | None, valid_to: str | None
) -> Stored:
    """Store one fact; who wrote it, and through which program, stays with it."""
    stored = await caller.core.remember(
        content.strip(),
        user_id=caller.user_id,
        key=key or None,
        source=Source(uri=f"mcp:{program}") if (program := label(caller.program, 100)) else None,
        valid_from=moment(valid_from, "valid_from"),
        valid_to=moment(valid_to, "valid_to", end=True),
        trust="assistant",
    )
    notices = {
        "created": "Remembered.",
        "updated": "Remembered; the former text under this key is superseded.",
        "duplicate": "Known already; nothing was written.",
    }
    status = stored.status or "created"
    return Stored(
        notice=notices[status],
        id=str(stored.id),
        status=status,
        version=stored.version,
        key=harmless(key) if key else None,
    )


async def forget(caller: Caller, id: str) -> Forgotten:
    """Forget one memory of the caller, softly."""
    memory = await reading.own_memory(caller, reading.memory_id(id), shared=False)
    await caller.core.forget(item_id=memory.id)
    return Forgotten(notice="Forgotten: it is no longer recalled.", id=str(memory.id), forgotten=True)


async def conversations(
    caller: Caller, *, search: str | None, limit: int, cursor: str | None, max_tokens: int
) -> ConversationList:
    """The caller's conversations; the page ends where the budget does, and the cursor goes on from there."""
    list_them = caller.core.conversations.list
    page = await list_them(user_id=caller.user_id, search=search or None, limit=limit, cursor=cursor or None)
    if not page.items:
        return ConversationList(
            notice="No conversation is stored." if not search else "None matches.", conversations=[]
        )
    found = [_summary(conversation) for conversation in page.items]
    # The cursor of a shorter page is not known yet: keep room for one of its length.
    room = page.cursor or "x" * 160

    def build(count: int, _: int) -> ConversationList:
        return ConversationList(notice=DATA_NOTICE, conversations=found[:count], cursor=room)

    fitting = len(fit(build, count=len(found), longest=0, max_tokens=max_tokens).conversations)
    if fitting == 0:
        raise ToolError("Not even one conversation fits into max_tokens: allow a larger answer.")
    if fitting < len(found):
        page = await list_them(user_id=caller.user_id, search=search or None, limit=fitting, cursor=cursor or None)
    found = [_summary(conversation) for conversation in page.items]
    return ConversationList(notice=DATA_NOTICE, conversations=found, cursor=page.cursor)


def _summary(conversation: Conversation) -> ConversationSummary:
    return ConversationSummary(
        thread_id=harmless(conversation.thread_id),
        title=label(conversation.title, 120),
        messages=conversation.message_count,
        updated=date(conversation.updated_at) or "",
    )


async def conversation(
    caller: Caller, thread_id: str, *, around: str | None, limit: int, max_tokens: int
) -> ConversationResult:
    """The latest messages of a conversation of the caller, or those around one of them."""
    thread_id, mentioned = reading.thread_of(thread_id)
    around = reading.message_of(around) if around else mentioned
    owned = await caller.conversation(thread_id)
    messages = await caller.core.conversations.messages(thread_id)
    anchor = len(messages) - 1 if around is None else reading.position(messages, around)
    spoken = [_spoken(message) for message in messages]

    def build(count: int, characters: int) -> ConversationResult:
        start = max(0, min(anchor - count // 2, len(spoken) - count))
        window = spoken[start : start + count]
        kept = [each.cut(characters) for each in window]
        return ConversationResult(
            notice=DATA_NOTICE if spoken else "Nothing was said in this conversation.",
            thread_id=harmless(thread_id),
            title=label(owned.title),
            messages=kept,
            earlier=start,
            later=len(spoken) - start - len(window),
            truncated=kept != window or count < wanted,
        )

    wanted = min(limit, len(spoken))
    shown = build(wanted, max((len(each.text) for each in spoken), default=0)).messages
    longest = max((len(each.text) for each in shown), default=0)
    return fit(build, count=wanted, longest=longest, max_tokens=max_tokens)


def _spoken(message: Message) -> Spoken:
    return Spoken(
        id=str(message.id),
        role=label(message.role) or "unknown",
        name=label(message.name),
        date=date(message.at),
        text=harmless(message.text),
    )


async def update_working_memory(
    caller: Caller, content: str, thread_id: str | None, *, expected_version: int | None
) -> WorkingMemoryWritten:
    """Replace the note; the answer does not repeat it."""
    owner = await reading.working_memory_owner(caller, thread_id)
    written = await caller.core.working_memory.update(content, **owner, expected_version=expected_version)
    return WorkingMemoryWritten(
        notice="Written.", scope=written.scope, version=written.version, updated=date(written.updated_at) or ""
    )


async def about_user(caller: Caller, *, max_tokens: int) -> list[Answer]:
    """What is kept about the user without a search: the summary and the working memory, where there are any."""
    if caller.user_id is None:
        return []
    known: list[Answer] = []
    summary = await caller.core.user_memory.get(caller.user_id)
    if summary is not None:
        content, updated = harmless(summary.content), date(summary.updated_at)

        def build(_: int, characters: int) -> UserSummary:
            return UserSummary(
                notice=f"The summary kept about the user. {DATA_NOTICE}",
                content=content[:characters],
                updated=updated,
                truncated=characters < len(content),
            )

        known.append(fit(build, count=1, longest=len(content), max_tokens=max_tokens))
    note = await caller.core.working_memory.get(user_id=caller.user_id)
    if note is not None:
        known.append(await item(caller, reading.WORKING_MEMORY, offset=0, max_tokens=max_tokens))
    return known


def moment(value: str | None, what: str, *, end: bool = False) -> datetime | None:
    """A date or time that a model wrote; a plain date begins at midnight UTC, and as an `end` lasts the whole day.

    Raises:
        ToolError: it is not ISO 8601.
    """
    if value is None or not value.strip():
        return None
    text = value.strip()
    try:
        at = datetime.fromisoformat(text)
        whole_day = len(text) <= len("2026-01-31")
        at = at + timedelta(days=1) if end and whole_day else at
    except (ValueError, OverflowError):
        today = datetime.now(UTC).date().isoformat()
        raise ToolError(
            f"{what} must be an ISO date such as {today} (today) or a time such as {today}T09:00:00Z."
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
