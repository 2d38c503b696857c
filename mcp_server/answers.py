"""What each tool does: one call of the core, then the answer within its budget."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from mcp.server.mcpserver.exceptions import ToolError

from mcp_server import reading
from mcp_server.caller import Caller
from mcp_server.render import date, fit, label
from mcp_server.results import (
    DATA_NOTICE,
    FLAGGED_NOTICE,
    WORDS_ONLY,
    Added,
    ConversationList,
    ConversationResult,
    ConversationSummary,
    Entry,
    Forgotten,
    Found,
    Item,
    Kind,
    Passage,
    Recalled,
    References,
    Similar,
    Spoken,
    Stored,
    WorkingMemoryWritten,
)
from memory_plugin.fencing import harmless
from memory_plugin.instruction_signs import reads_like_instruction
from memory_plugin.types import HIT_KINDS, Source

if TYPE_CHECKING:
    from memory_plugin.types import Conversation, Hit, Hits, Message, SimilarMemory


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
        return Recalled(notice=nothing + _how_searched(hits), results=[])
    return _ranked(Recalled, [_found(hit) for hit in hits], max_tokens, _how_searched(hits))


async def search_references(
    caller: Caller, query: str, *, collection: str | None, limit: int, max_tokens: int
) -> References:
    """The passages of the documents that answer the query."""
    hits = await caller.core.search_references(
        query, collection=collection or None, user_id=caller.user_id, limit=limit
    )
    if not hits:
        nothing = "No passage of the stored documents matches this. Other words may find more."
        return References(notice=nothing + _how_searched(hits), results=[])
    return _ranked(References, [Passage(**_about(hit)) for hit in hits], max_tokens, _how_searched(hits))


def _how_searched(hits: Hits) -> str:
    """That meaning had no part in a search; in the notice, so that the schemas need no field for it."""
    return f" {WORDS_ONLY}" if hits.words_only is not None else ""


def _ranked(answer: type[R], found: Sequence[Any], max_tokens: int, how: str) -> R:
    def build(count: int, characters: int) -> R:
        kept = [each.cut(characters) for each in found[:count]]
        return answer(
            notice=_notice(kept) + how,
            results=kept,
            truncated=kept != found,
            omitted=len(found) - len(kept) or None,
        )

    return fit(build, count=len(found), longest=max(len(each.text) for each in found), max_tokens=max_tokens)


def _notice(shown: Sequence[Entry]) -> str:
    """What is said with stored texts, and besides where one of them is flagged."""
    return f"{DATA_NOTICE} {FLAGGED_NOTICE}" if any(entry.flagged for entry in shown) else DATA_NOTICE


def _about(hit: Hit) -> dict[str, Any]:
    """What is said of every hit; three digits of the score tell the ranks apart."""
    return {
        "id": harmless(reading.address(hit)),
        "text": harmless(hit.text),
        "date": date(hit.at),
        "score": float(f"{hit.score:.3g}"),
        "source": reading.cited(hit.citation),
        "flagged": hit.flagged or None,
    }


def _found(hit: Hit) -> Found:
    about = _about(hit)
    if hit.kind == "memory":
        about["source"] = reading.said_in(hit.thread_id, hit.message_id)
    return Found(
        **about,
        kind=hit.kind,
        speaker=label(hit.speaker),
        key=reading.named(hit.key) if hit.kind == "memory" else None,
        origin=reading.origin(hit.trust),
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
    caller: Caller,
    content: str,
    *,
    key: str | None,
    valid_from: str | None,
    valid_to: str | None,
    replaces: SimilarMemory | None = None,
    similar: SimilarMemory | None = None,
) -> Stored:
    """Store one fact; who wrote it, and through which program, stays with it.

    Args:
        replaces: the memory that it is the new text of.
        similar: a memory that says nearly the same, which the answer names.
    """
    stored = await caller.core.remember(
        content.strip(),
        user_id=caller.user_id,
        key=replaces.key if replaces is not None else key or None,
        source=Source(uri=f"mcp:{program}") if (program := label(caller.program, 100)) else None,
        valid_from=moment(valid_from, "valid_from"),
        valid_to=moment(valid_to, "valid_to", end=True),
        trust="assistant",
        similar=False,  # it was looked for before, in time to ask
    )
    status = stored.status or "created"
    flagged = reads_like_instruction(content)
    beside = similar if status == "created" and replaces is None else None
    return Stored(
        notice=_stored_notice(status, flagged=flagged, beside=beside),
        id=str(stored.id),
        status=status,
        version=stored.version,
        key=harmless(key) if key else None,
        flagged=flagged or None,
        similar=[_similar(beside)] if beside is not None else None,
    )


def _stored_notice(status: str, *, flagged: bool, beside: SimilarMemory | None) -> str:
    notice = {
        "created": "Remembered.",
        "updated": "Remembered; the former text is superseded.",
        "duplicate": "Known already; nothing was written.",
    }[status]
    if flagged:
        notice += " It reads like an instruction to an assistant and will be shown as flagged."
    if beside is not None:
        notice += " Another memory says nearly the same: if it is the same fact, forget the one that no longer holds."
    return notice


def _similar(near: SimilarMemory) -> Similar:
    return Similar(id=str(near.id), text=label(near.content, 300) or "")


async def keep_old(caller: Caller, near: SimilarMemory) -> Stored:
    """The answer where a person chose the memory that there was already."""
    memory = await reading.own_memory(caller, reading.memory_id(str(near.id)), shared=False)
    return Stored(
        notice="Nothing was written: the user keeps the memory that there is.",
        id=str(memory.id),
        status="duplicate",
        version=memory.version,
        similar=[_similar(near)],
    )


async def add_reference(caller: Caller, text: str, *, title: str, source: str | None, collection: str | None) -> Added:
    """Store a document of the caller's; the same source again is its next version."""
    document = await caller.core.references.add(
        text=text,
        title=title.strip(),
        source=source or None,
        collection=collection or "default",
        user_id=caller.user_id,
    )
    status = document.status or "added"
    notices = {
        "added": "Added.",
        "updated": "Added as the next version of the document.",
        "unchanged": "Known already; nothing was written.",
    }
    return Added(
        notice=notices[status],
        id=f"{reading.REFERENCE}{document.id}/{document.version}",
        status=status,
        version=document.version,
        passages=document.chunk_count,
    )


async def forget(caller: Caller, id: str, *, erase: bool = False) -> Forgotten:
    """Forget one memory of the caller: softly, or with its history for good."""
    memory = await reading.own_memory(caller, reading.memory_id(id), shared=False)
    await caller.core.forget(item_id=memory.id, hard=erase)
    notice = "Erased for good." if erase else "Forgotten: it is no longer recalled."
    return Forgotten(notice=notice, id=str(memory.id), forgotten=True, erased=erase)


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
    wanted = min(limit, len(messages))
    first = max(0, min(anchor - wanted // 2, len(messages) - wanted))
    flagged = await caller.core.passages.flagged([message.id for message in messages[first : first + wanted]])
    spoken = [_spoken(message, flagged=message.id in flagged) for message in messages]

    def build(count: int, characters: int) -> ConversationResult:
        start = max(0, min(anchor - count // 2, len(spoken) - count))
        window = spoken[start : start + count]
        kept = [each.cut(characters) for each in window]
        return ConversationResult(
            notice=_notice(kept) if spoken else "Nothing was said in this conversation.",
            thread_id=harmless(thread_id),
            title=label(owned.title),
            messages=kept,
            earlier=start,
            later=len(spoken) - start - len(window),
            truncated=kept != window or count < wanted,
        )

    shown = build(wanted, max((len(each.text) for each in spoken), default=0)).messages
    longest = max((len(each.text) for each in shown), default=0)
    return fit(build, count=wanted, longest=longest, max_tokens=max_tokens)


def _spoken(message: Message, *, flagged: bool) -> Spoken:
    return Spoken(
        id=str(message.id),
        role=label(message.role) or "unknown",
        name=label(message.name),
        date=date(message.at),
        text=harmless(message.text),
        flagged=flagged or None,
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
