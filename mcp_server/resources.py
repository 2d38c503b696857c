"""Stored texts as resources, for clients in which a person picks what the model sees.

Templates name one thing each; a few fixed addresses list what there is. All of them answer for the
caller of the request, and are as fenced and labelled as the answers of tools.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.types import Icon

from mcp_server import about, answers, reading
from mcp_server.caller import Caller, current_caller
from mcp_server.render import as_text, date, fit, label
from mcp_server.results import DATA_NOTICE, FLAGGED_NOTICE, Answer, Listed, Passage
from memory_plugin.errors import InvalidInputError, MemoryPluginError, NotFoundError
from memory_plugin.fencing import harmless
from memory_plugin.instruction_signs import reads_like_instruction

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from mcp_server.access import CoreAccess
    from mcp_server.tools import Offer

T = TypeVar("T")

RESOURCE_TOKENS = 10_000
"""Budget of one resource; a person chose it, so it may be larger than the answer of a tool."""

MEMORIES = "memory://memories"
CONVERSATIONS = "memory://conversations"
REFERENCES = "memory://references"
SETTINGS = "memory://settings"

_LISTED = 100
"""Entries of a list at the most: the latest."""

MIME_TYPE = "text/plain"


async def sentence(work: Awaitable[T]) -> T:
    """The result of the work, its foreseeable failures as the protocol wants them for resources."""
    try:
        return await work
    except (NotFoundError, InvalidInputError) as error:
        raise ResourceNotFoundError(str(error)) from error
    except (MemoryPluginError, ToolError) as error:
        raise ResourceError(str(error)) from error


# -- one thing


async def _read(ctx: Context, address: str) -> str:
    caller = await current_caller(ctx)
    return as_text(await answers.item(caller, address, offset=0, max_tokens=RESOURCE_TOKENS))


async def memory(id: str, ctx: Context) -> str:
    """One memory, by the id that recall and remember give."""
    return await sentence(_read(ctx, f"{reading.MEMORY}{id}"))


async def passage(document: str, version: str, chunk: str, ctx: Context) -> str:
    """One passage of a reference document, by the address in its citation."""
    return await sentence(_read(ctx, f"{reading.REFERENCE}{document}/{version}#{chunk}"))


async def document(document: str, version: str, ctx: Context) -> str:
    """One version of a reference document, from its beginning."""
    return await sentence(_read(ctx, f"{reading.REFERENCE}{document}/{version}"))


async def conversation_note(thread_id: str, ctx: Context) -> str:
    """The working memory of one conversation."""
    return await sentence(_read(ctx, f"{reading.WORKING_MEMORY}/{quote(thread_id, safe='')}"))


async def conversation(thread_id: str, ctx: Context) -> str:
    """The latest messages of one conversation."""

    async def latest() -> str:
        caller = await current_caller(ctx)
        return as_text(
            await answers.conversation(caller, thread_id, around=None, limit=200, max_tokens=RESOURCE_TOKENS)
        )

    return await sentence(latest())


def add_templates(server: MCPServer[CoreAccess], icons: list[Icon]) -> None:
    """Register the templates."""
    options: dict[str, Any] = {"mime_type": MIME_TYPE, "icons": icons}
    server.resource(reading.MEMORY + "{id}", title="A memory", **options)(memory)
    server.resource(reading.REFERENCE + "{document}/{version}#{chunk}", title="A cited passage", **options)(passage)
    server.resource(reading.REFERENCE + "{document}/{version}", title="A reference document", **options)(document)
    server.resource(reading.CONVERSATION + "{thread_id}", title="A conversation", **options)(conversation)
    server.resource(reading.WORKING_MEMORY + "/{thread_id}", title="The note about a conversation", **options)(
        conversation_note
    )


# -- what there is


@dataclass(frozen=True, slots=True)
class Fixed:
    """A resource that has one address, and shows each caller what is theirs."""

    name: str
    title: str
    description: str
    answer: Callable[[Caller], Awaitable[Answer]]


async def _memories(caller: Caller) -> Answer:
    page = await caller.core.memories.list(user_id=caller.user_id, limit=_LISTED)
    entries = [
        Passage(
            id=f"{reading.MEMORY}{memory.id}",
            text=harmless(memory.content),
            date=date(memory.valid_from or memory.recorded_at),
            flagged=reads_like_instruction(memory.content) or None,
        )
        for memory in page.items
    ]
    return _listed(entries, more=page.cursor is not None, empty="Nothing is remembered yet.")


async def _conversations(caller: Caller) -> Answer:
    page = await caller.core.conversations.list(user_id=caller.user_id, limit=_LISTED)
    entries = [
        Passage(
            id=reading.said_in(each.thread_id) or "",
            text=label(each.title) or label(each.thread_id) or "",
            date=date(each.updated_at),
        )
        for each in page.items
    ]
    return _listed(entries, more=page.cursor is not None, empty="No conversation is stored.")


async def _references(caller: Caller) -> Answer:
    page = await caller.core.references.list(user_id=caller.user_id, limit=_LISTED)
    entries = [
        Passage(
            id=f"{reading.REFERENCE}{each.id}/{each.version}",
            text=label(each.title) or "",
            date=date(each.updated_at),
            source=label(each.source, 300),
        )
        for each in page.items
    ]
    return _listed(entries, more=page.cursor is not None, empty="No document is stored.")


def _listed(entries: list[Passage], *, more: bool, empty: str) -> Listed:
    if not entries:
        return Listed(notice=empty, results=[])

    def build(count: int, characters: int) -> Listed:
        shown = [each.cut(characters) for each in entries[:count]]
        flagged = any(each.flagged for each in shown)
        return Listed(
            notice=f"{DATA_NOTICE} {FLAGGED_NOTICE}" if flagged else DATA_NOTICE,
            results=shown,
            truncated=more or shown != entries,
        )

    longest = max(len(each.text) for each in entries)
    return fit(build, count=len(entries), longest=longest, max_tokens=RESOURCE_TOKENS)


async def _note(caller: Caller) -> Answer:
    return await answers.item(caller, reading.WORKING_MEMORY, offset=0, max_tokens=RESOURCE_TOKENS)


def fixed_resources(offer: Offer) -> Mapping[str, Fixed]:
    """The resources with a fixed address, by it."""

    async def settings(caller: Caller) -> Answer:
        return await about.settings(
            caller,
            can_write=not offer.read_only,
            can_add_references=offer.add_references,
            max_tokens=RESOURCE_TOKENS,
        )

    return {
        MEMORIES: Fixed("memories", "Memories", "What is remembered, the latest first.", _memories),
        CONVERSATIONS: Fixed("conversations", "Conversations", "Past conversations, the latest first.", _conversations),
        REFERENCES: Fixed("references", "Reference documents", "The stored documents.", _references),
        reading.WORKING_MEMORY: Fixed("working_memory", "Working memory", "The note kept about the user.", _note),
        SETTINGS: Fixed("settings", "Settings", "Whose memory it is, and what may be changed.", settings),
    }


async def read_fixed(resource: Fixed, ctx: Context) -> str:
    """The text of a resource with a fixed address, for the caller of the request."""

    async def read() -> str:
        return as_text(await resource.answer(await current_caller(ctx)))

    return await sentence(read())
