"""The protocol library's server, with resources that answer for the caller and errors that say what to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context
from mcp.types import INVALID_PARAMS, GetPromptResult, Icon, InputRequiredResult, RequestParams
from mcp.types import Resource as ListedResource
from pydantic import AnyUrl

from mcp_server.access import CoreAccess
from mcp_server.resources import MIME_TYPE, Fixed, read_fixed

if TYPE_CHECKING:
    from mcp_server.wire import Incoming, Outgoing

P = TypeVar("P", bound=RequestParams)


async def lists_stay(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Say that the lists never change; the library concludes from streams of notices that they do."""
    result = await call_next(ctx)
    if ctx.method == "server/discover" and isinstance(result, dict):
        for offered in ("tools", "prompts", "resources"):
            result["capabilities"].get(offered, {}).pop("listChanged", None)
    return result


class MemoryServer(MCPServer[CoreAccess]):
    """A server whose fixed resources know who asks, which those of the library do not.

    Attributes:
        fixed: the resources with a fixed address, by it.
    """

    fixed: Mapping[str, Fixed] = {}
    fixed_icons: list[Icon]

    def answer(
        self, method: str, params: type[P], handler: Callable[[ServerRequestContext[Any, Any], P], Awaitable[Any]]
    ) -> None:
        """Answer a method that the library offers no decorator for, or one that does not know who asks."""
        self._lowlevel_server.add_request_handler(method, params, handler)

    async def run_over(self, incoming: Incoming, outgoing: Outgoing) -> None:
        """Serve over lines of text.

        The library's own way over standard input and output, `run_stdio_async`, hands each line to worker threads.
        """
        from mcp_server.streams import Answers, Messages

        server = self._lowlevel_server
        options = server.create_initialization_options()
        await server.run(Messages(incoming), Answers(outgoing, incoming), options)

    async def list_resources(self) -> list[ListedResource]:
        """All resources with an address of their own."""
        own = [
            ListedResource(
                uri=address,
                name=each.name,
                title=each.title,
                description=each.description,
                mime_type=MIME_TYPE,
                icons=self.fixed_icons,
            )
            for address, each in self.fixed.items()
        ]
        return [*own, *await super().list_resources()]

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[CoreAccess, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """The text of a resource.

        Raises:
            ResourceNotFoundError: there is nothing under the address for this caller.
            ResourceError: it cannot be read.
        """
        resource = self.fixed.get(str(uri))
        if resource is None or context is None:
            return await super().read_resource(uri, context)
        return [ReadResourceContents(content=await read_fixed(resource, cast("Any", context)), mime_type=MIME_TYPE)]

    async def get_prompt(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        context: Context[CoreAccess, Any] | None = None,
    ) -> GetPromptResult | InputRequiredResult:
        """A prompt with its arguments put in.

        Raises:
            MCPError: there is none of that name, or an argument is missing.
        """
        prompts = {each.name: each for each in await self.list_prompts()}
        if name not in prompts:
            raise MCPError(
                code=INVALID_PARAMS, message=f"There is no prompt {name!r:.80}: use one of {', '.join(prompts)}."
            )
        given = {key: value for key, value in (arguments or {}).items() if str(value).strip()}
        for argument in prompts[name].arguments or ():
            if argument.required and argument.name not in given:
                raise MCPError(
                    code=INVALID_PARAMS,
                    message=f"The prompt {name} needs {argument.name}: {argument.description or 'give some text'}.",
                )
        return await super().get_prompt(name, given, context)
