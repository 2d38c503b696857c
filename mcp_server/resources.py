"""Stored texts as resources, for clients in which a person picks what the model sees; and the prompt."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.types import INTERNAL_ERROR

from mcp_server import about, answers, reading
from mcp_server.caller import current_caller
from mcp_server.render import DEFAULT_TOKENS, as_text
from memory_plugin.errors import InvalidInputError, MemoryPluginError, NotFoundError

if TYPE_CHECKING:
    from mcp_server.access import CoreAccess

T = TypeVar("T")

RESOURCE_TOKENS = 10_000
"""Budget of one resource; a person chose it, so it may be larger than the answer of a tool."""


async def _sentence(work: Awaitable[T]) -> T:
    """The result of the work, its foreseeable failures as the protocol wants them for resources."""
    try:
        return await work
    except (NotFoundError, InvalidInputError) as error:
        raise ResourceNotFoundError(str(error)) from error
    except (MemoryPluginError, ToolError) as error:
        raise ResourceError(str(error)) from error


async def _read(ctx: Context, address: str) -> str:
    caller = await current_caller(ctx)
    return as_text(await answers.item(caller, address, offset=0, max_tokens=RESOURCE_TOKENS))


async def memory(id: str, ctx: Context) -> str:
    """One memory, by the id that recall and remember give."""
    return await _sentence(_read(ctx, f"{reading.MEMORY}{id}"))


async def passage(document: str, version: str, chunk: str, ctx: Context) -> str:
    """One passage of a reference document, by the address in its citation."""
    return await _sentence(_read(ctx, f"{reading.REFERENCE}{document}/{version}#{chunk}"))


async def document(document: str, version: str, ctx: Context) -> str:
    """One version of a reference document, from its beginning."""
    return await _sentence(_read(ctx, f"{reading.REFERENCE}{document}/{version}"))


async def conversation(thread_id: str, ctx: Context) -> str:
    """The latest messages of one conversation."""

    async def latest() -> str:
        caller = await current_caller(ctx)
        return as_text(
            await answers.conversation(caller, thread_id, around=None, limit=200, max_tokens=RESOURCE_TOKENS)
        )

    return await _sentence(latest())


async def about_me(ctx: Context) -> str:
    """Ask what is remembered about you, with the summary and the working memory kept about you."""
    question = (
        "What do you know about me? Call recall a few times (who I am, my preferences, my people and projects, what "
        "I decided lately), then tell me in a short list, with dates, what is remembered and what you are unsure of."
    )
    try:
        caller = await current_caller(ctx)
        known = await about.about_user(caller, max_tokens=DEFAULT_TOKENS)
    except MemoryPluginError as error:
        raise MCPError(code=INTERNAL_ERROR, message=str(error)) from error
    return "\n\n".join([question, *(as_text(part) for part in known)])


def add_resources(server: MCPServer[CoreAccess]) -> None:
    """Register the resource templates and the prompt."""
    options: dict[str, Any] = {"mime_type": "text/plain"}
    server.resource(reading.MEMORY + "{id}", title="A memory", **options)(memory)
    server.resource(reading.REFERENCE + "{document}/{version}#{chunk}", title="A cited passage", **options)(passage)
    server.resource(reading.REFERENCE + "{document}/{version}", title="A reference document", **options)(document)
    server.resource(reading.CONVERSATION + "{thread_id}", title="A conversation", **options)(conversation)
    server.prompt(title="What do you know about me?")(about_me)
