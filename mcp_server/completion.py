"""What may stand in an argument of a template or a prompt: ids and threads of the caller's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.types import CompleteRequestParams, CompleteResult, Completion, PromptReference

from mcp_server import reading
from mcp_server.caller import Caller, current_caller
from memory_plugin.errors import MemoryPluginError

_SHOWN = 20
"""Suggestions at the most; a client shows a few."""

_LOOKED_AT = 200


async def complete(ctx: ServerRequestContext[Any, Any], params: CompleteRequestParams) -> CompleteResult:
    """Suggestions for what was typed so far; none where nothing fits, or the memory cannot be opened."""
    name, typed = params.argument.name, params.argument.value.strip()
    given = (params.context.arguments if params.context is not None else None) or {}
    about = params.ref.name if isinstance(params.ref, PromptReference) else params.ref.uri
    try:
        caller = await current_caller(Context(request_context=ctx))
        values = await _values(caller, about, name, typed, given)
    except MemoryPluginError:
        values = []  # a suggestion is no place for an error: using the value tells it
    shown = list(values[:_SHOWN])
    return CompleteResult(completion=Completion(values=shown, has_more=len(values) > _SHOWN))


async def _values(caller: Caller, about: str, name: str, typed: str, given: dict[str, str]) -> Sequence[str]:
    if name == "thread_id":
        return await _threads(caller, typed)
    if name == "topic":
        page = await caller.core.conversations.list(user_id=caller.user_id, search=typed or None, limit=_SHOWN)
        return [each.title for each in page.items if each.title and typed.lower() in each.title.lower()]
    if name == "id" and about.startswith(reading.MEMORY):
        return await _memories(caller, typed)
    if about.startswith(reading.REFERENCE):
        return await _references(caller, name, typed, given)
    return []


async def _threads(caller: Caller, typed: str) -> list[str]:
    list_them = caller.core.conversations.list
    latest = await list_them(user_id=caller.user_id, limit=_LOOKED_AT)
    found = [each.thread_id for each in latest.items if each.thread_id.startswith(typed)]
    if typed and len(found) <= _SHOWN:
        by_words = await list_them(user_id=caller.user_id, search=typed, limit=_SHOWN)
        found += [each.thread_id for each in by_words.items]
    return list(dict.fromkeys(found))


async def _memories(caller: Caller, typed: str) -> list[str]:
    """Ids, by how they begin or by what the memory says."""
    latest = await caller.core.memories.list(user_id=caller.user_id, limit=_LOOKED_AT)
    return [
        str(each.id)
        for each in latest.items
        if str(each.id).startswith(typed.lower()) or (typed and typed.lower() in each.content.lower())
    ]


async def _references(caller: Caller, name: str, typed: str, given: dict[str, str]) -> list[str]:
    references = caller.core.references
    if name == "document":
        page = await references.list(user_id=caller.user_id, limit=_LOOKED_AT)
        return [
            str(each.id)
            for each in page.items
            if str(each.id).startswith(typed.lower()) or (typed and typed.lower() in each.title.lower())
        ]
    if "document" not in given:
        return []
    document = await references.get(given["document"], user_id=caller.user_id)
    if name == "version":
        return [str(number) for number in range(document.version, 0, -1) if str(number).startswith(typed)]
    version = given.get("version", "")
    chunks = await references.chunks(
        document.id,
        version=int(version) if version.isdecimal() else None,
        limit=_LOOKED_AT,
        user_id=caller.user_id,
    )
    return [chunk for each in chunks if (chunk := each.citation.uri.rpartition("#")[2]).startswith(typed)]
