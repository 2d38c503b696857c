"""MemoryMiddleware: the memory of an agent that LangChain's `create_agent` makes.

    async with Memory.open() as memory:
        agent = create_agent(model, middleware=[memory.middleware()], checkpointer=memory.checkpointer)

This module needs the extra `langchain`; graphs without `create_agent` use `MemoryContext`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import AgentState, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool

from memory_plugin.errors import ConfigurationError, MemoryPluginError
from memory_plugin.langchain.context import LoadedMemory, MemoryContext, Propose, Said

if TYPE_CHECKING:
    from langgraph.runtime import Runtime

    from memory_plugin.bridge import Bridge
    from memory_plugin.core import MemoryCore


class MemoryMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Puts what is known before the model and offers the tools; made by `Memory.middleware`.

    What it adds goes into the request to the model alone: state, checkpoints and history hold only
    what was said. It is loaded anew for each call of the model, so that what a tool has just
    remembered counts at once.

    Args:
        context: loads what is added.
        tools: that the agent gets with it.
    """

    def __init__(self, context: MemoryContext, tools: Sequence[BaseTool] = ()) -> None:
        super().__init__()
        self.context = context
        self.tools = list(tools)

    @property
    def failures(self) -> Mapping[str, Exception]:
        """What could not be loaded the last time, and why."""
        return self.context.failures

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Load, and call the model with it."""
        loaded = self.context.load(request.messages)
        return _noted(handler(_with(request, loaded)), loaded)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Load, and call the model with it."""
        loaded = await self.context.aload(request.messages)
        return _noted(await handler(_with(request, loaded)), loaded)


class ProposingMiddleware(MemoryMiddleware):
    """A `MemoryMiddleware` that hands each finished turn to a function, so that it may propose what to remember."""

    def __init__(self, context: MemoryContext, tools: Sequence[BaseTool], propose: Propose) -> None:
        super().__init__(context, tools)
        self._propose = propose

    @property
    def name(self) -> str:
        """The same as without proposals: the nodes of a graph keep their names."""
        return MemoryMiddleware.__name__

    def after_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> None:  # noqa: ARG002 - LangChain's interface
        """Hand over what was said in this turn."""
        self.context.propose(self._propose, state["messages"])

    async def aafter_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> None:  # noqa: ARG002 - likewise
        """Hand over what was said in this turn."""
        await self.context.apropose(self._propose, state["messages"])


def make_middleware(
    context: MemoryContext, tools: Sequence[BaseTool], *, wanted: bool | Sequence[str] = True, propose: Propose | None
) -> MemoryMiddleware:
    """The middleware with the tools that are wanted.

    Raises:
        ConfigurationError: a tool is wanted that there is not.
    """
    names = [tool.name for tool in tools]
    chosen = names if wanted is True else [] if wanted is False else list(wanted)
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise ConfigurationError(f"There is no tool {unknown[0]!r}: choose from {', '.join(names)}.")
    kept = [tool for tool in tools if tool.name in chosen]
    return MemoryMiddleware(context, kept) if propose is None else ProposingMiddleware(context, kept, propose)


def extracting(core: MemoryCore, bridge: Bridge, model: Any) -> Propose:
    """A function that lets a chat model read what is stored of the turn's conversation; see `Extraction.run`."""

    async def propose(said: Said) -> None:
        if said.thread_id is None:
            return
        report = await bridge.reach(core.extraction.run(model, thread_id=said.thread_id))
        if report.errors:
            raise MemoryPluginError(report.errors[-1])

    return propose


def _with(request: ModelRequest[Any], loaded: LoadedMemory) -> ModelRequest[Any]:
    changed = request.override(system_message=loaded.system(request.system_message))
    return changed.override(model_settings={**request.model_settings, **loaded.model}) if loaded.model else changed


def _noted(response: ModelResponse[Any], loaded: LoadedMemory) -> ModelResponse[Any]:
    if not loaded.settings:
        return response
    result = [loaded.note(message) if isinstance(message, AIMessage) else message for message in response.result]
    return ModelResponse(result=result, structured_response=response.structured_response)
