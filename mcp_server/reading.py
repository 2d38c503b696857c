"""The addresses of stored texts, and reading what they name, each with a check of whose it is.

`memory://memory/<id>`, `memory://reference/<document>/<version>#<chunk>`,
`memory://conversation/<thread>#<message>`, `memory://working-memory` (the user's) and
`memory://working-memory/<thread>`; a bare id is that of a memory. A conversation as a whole is not read
here: it has a page of messages, not one text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote
from uuid import UUID

from mcp_server.caller import Caller
from mcp_server.render import date, label
from mcp_server.results import DATA_NOTICE, FLAGGED_NOTICE, Item
from memory_plugin.errors import ConfigurationError, InvalidInputError, NotFoundError
from memory_plugin.fencing import harmless
from memory_plugin.instruction_signs import reads_like_instruction

if TYPE_CHECKING:
    from memory_plugin.capabilities.reference_reader import StoredChunk
    from memory_plugin.types import Citation, Hit, MemoryItem, Message, Source

_MADE = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A key that was made from the text, as it is written: known in a fifth of the time that reading it takes."""

MEMORY = "memory://memory/"
REFERENCE = "memory://reference/"
CONVERSATION = "memory://conversation/"
WORKING_MEMORY = "memory://working-memory"


def address(hit: Hit) -> str:
    """How the tools name a hit: what `read_item` and `forget` take."""
    if hit.kind == "reference" and hit.citation is not None:
        return hit.citation.uri
    if hit.kind == "message" and hit.thread_id is not None:
        return f"{CONVERSATION}{quote(hit.thread_id, safe='')}#{hit.id}"
    return hit.id


def said_in(thread_id: str | None, message_id: str | None = None) -> str | None:
    """The address of the conversation, or the message, that something is from."""
    if thread_id is None:
        return None
    return f"{CONVERSATION}{quote(thread_id, safe='')}{f'#{quote(message_id)}' if message_id else ''}"


def _origin_of(source: Source | None) -> str | None:
    """Where a memory is from: the address of the message, or what the writer gave."""
    if source is None:
        return None
    return label(source.uri, 300) if source.uri else said_in(source.thread_id, source.message_id)


def cited(citation: Citation | None) -> str | None:
    """A citation for a person: title and place, and where the document came from."""
    if citation is None:
        return None
    text = str(citation)
    if citation.source and citation.source not in text:
        text = f"{text} ({citation.source})"
    return label(text, 300)


def memory_id(id: str) -> UUID:
    """The id of a memory, bare or as an address.

    Raises:
        InvalidInputError: it is not one.
    """
    try:
        return UUID(id.strip().removeprefix(MEMORY))
    except ValueError:
        raise InvalidInputError(
            f"{label(id, 80)!r} is not the id of a memory: take the id of a result of kind memory from recall."
        ) from None


def thread_of(address: str) -> tuple[str, str | None]:
    """The thread, and the message where one is named; a text that is no address is a thread id."""
    if not address.startswith(CONVERSATION):
        return address, None
    thread, _, message = address.removeprefix(CONVERSATION).partition("#")
    return unquote(thread), message or None


def message_of(address: str) -> str:
    """The message that an address names; a text that is no address is the id of a message."""
    return thread_of(address)[1] or address


def position(messages: Sequence[Message], message_id: str) -> int:
    """Where a message stands in its conversation.

    Raises:
        NotFoundError: it is not in it.
    """
    for index, message in enumerate(messages):
        if message_id in {str(message.id), message.message_id}:
            return index
    raise NotFoundError(f"There is no message {label(message_id, 80)!r} in this conversation.")


async def read(caller: Caller, id: str) -> Item:
    """The whole of what an address names, or of the memory with that id.

    Raises:
        NotFoundError: there is nothing there for this caller.
        InvalidInputError: it is neither an address nor an id.
    """
    id = id.strip()
    if id.startswith(CONVERSATION):
        item = await _message(caller, id)
    elif id.startswith(REFERENCE):
        item = await (_passage(caller, id) if "#" in id else _document(caller, id))
    elif id == WORKING_MEMORY or id.startswith(f"{WORKING_MEMORY}/"):
        item = await _working_memory(caller, id)
    else:
        item = _item(await own_memory(caller, memory_id(id)))
    return item.model_copy(update={"notice": f"{item.notice} {FLAGGED_NOTICE}"}) if item.flagged else item


async def own_memory(caller: Caller, id: UUID, *, shared: bool = True) -> MemoryItem:
    """A memory of the caller, or with `shared` one that belongs to nobody in particular.

    Raises:
        NotFoundError: there is none, or it is somebody else's.
    """
    # in the same words for both, so that nobody learns which ids others have
    unknown = NotFoundError(f"There is no memory {id}: take the id of a result of kind memory from recall.")
    try:
        memory = await caller.core.memories.get(id)
    except NotFoundError:
        raise unknown from None
    if caller.may_see(memory.user_id) or (shared and memory.user_id is None):
        return memory
    raise unknown


def _item(memory: MemoryItem) -> Item:
    text = harmless(memory.content)
    return Item(
        notice=DATA_NOTICE,
        id=str(memory.id),
        kind="memory",
        text=text,
        date=date(memory.valid_from or memory.recorded_at),
        version=memory.version,
        key=named(memory.key),
        origin=origin(memory.trust),
        source=_origin_of(memory.source),
        flagged=reads_like_instruction(memory.content) or None,
        characters=len(text),
    )


async def _message(caller: Caller, id: str) -> Item:
    thread_id, message_id = thread_of(id)
    if message_id is None:
        raise InvalidInputError("That is a whole conversation: read it with the tool conversations.")
    await caller.conversation(thread_id)
    messages = await caller.core.conversations.messages(thread_id)
    message = messages[position(messages, message_id)]
    text = harmless(message.text)
    said_by = label(message.name or message.role)
    return Item(
        notice=DATA_NOTICE,
        id=harmless(id),
        kind="message",
        text=text,
        date=date(message.at),
        source=f"said by {said_by}" if said_by else None,
        flagged=bool(await caller.core.passages.flagged([message.id])) or None,
        characters=len(text),
    )


async def _passage(caller: Caller, uri: str) -> Item:
    chunk = await caller.core.references.resolve(uri, user_id=caller.user_id)
    text = harmless(chunk.text)
    return Item(
        notice=DATA_NOTICE,
        id=chunk.citation.uri,
        kind="reference",
        text=text,
        date=date(chunk.at),
        source=cited(chunk.citation),
        flagged=bool(await caller.core.passages.flagged([chunk.id])) or None,
        characters=len(text),
    )


async def _document(caller: Caller, uri: str) -> Item:
    document, _, version = uri.removeprefix(REFERENCE).partition("/")
    if version and not version.isdecimal():
        raise InvalidInputError(f"{label(version, 40)!r} is no version of a document: versions count from 1.")
    chunks = await caller.core.references.chunks(
        document, version=int(version) if version else None, user_id=caller.user_id
    )
    text = harmless(_joined(chunks))
    first = chunks[0] if chunks else None
    return Item(
        notice=DATA_NOTICE,
        id=uri,
        kind="reference",
        text=text,
        date=date(first.at) if first is not None else None,
        source=label(first.citation.title) if first is not None else None,
        flagged=bool(await caller.core.passages.flagged([chunk.id for chunk in chunks])) or None,
        characters=len(text),
    )


async def _working_memory(caller: Caller, id: str) -> Item:
    thread_id = unquote(id.removeprefix(WORKING_MEMORY).removeprefix("/")) or None
    note = await caller.core.working_memory.get(**await working_memory_owner(caller, thread_id))
    text = harmless(note.content) if note is not None else ""
    return Item(
        notice=DATA_NOTICE if note is not None else "Nothing is written in this working memory yet.",
        id=harmless(id),
        kind="working_memory",
        text=text,
        date=date(note.updated_at) if note is not None else None,
        version=note.version if note is not None else 0,
        flagged=reads_like_instruction(text) or None,
        characters=len(text),
    )


async def working_memory_owner(caller: Caller, thread_id: str | None) -> dict[str, str]:
    """Whose working memory is meant: that of one of the caller's conversations, or the caller's own.

    Raises:
        NotFoundError: the conversation is not the caller's.
        ConfigurationError: no user is configured.
    """
    if thread_id:
        thread_id, _ = thread_of(thread_id)
        await caller.conversation(thread_id)
        return {"thread_id": thread_id}
    if caller.user_id is None:
        raise ConfigurationError(
            "No user is configured: give a thread_id, or start the server with --user or MEMORY_USER_ID."
        )
    return {"user_id": caller.user_id}


def _joined(chunks: Sequence[StoredChunk]) -> str:
    """The passages as one text: what two of them share is said once."""
    parts: list[str] = []
    reached = 0
    for chunk in chunks:
        start, end = chunk.citation.start or 0, chunk.citation.end or 0
        parts.append(chunk.text[max(reached - start, 0) :] if start < reached else f"\n\n{chunk.text}")
        reached = max(reached, end)
    return "".join(parts).strip()


def origin(trust: str | None) -> str | None:
    """Who vouches for a text, where that is not the user."""
    return None if trust in {None, "user"} else trust


def named(key: str | None) -> str | None:
    """The key of a memory where somebody chose it; the ones made from the text say nothing."""
    if key is None or _MADE.fullmatch(key):
        return None
    try:
        UUID(key)
    except ValueError:
        return harmless(key)
    return None
