"""Settings of agents as LangChain tools: an agent reads them, and changes those it may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import Field

from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.fencing import harmless
from memory_plugin.jsonable import dumps_exact
from memory_plugin.langchain.tools import make_tool
from memory_plugin.types import AgentSettings, SettingsScope

if TYPE_CHECKING:
    from memory_plugin.bridge import Bridge
    from memory_plugin.core import MemoryCore

Schemas = Mapping[str, Mapping[str, Any] | None]


def make_settings_tools(
    core: MemoryCore,
    bridge: Bridge,
    *,
    read: Sequence[str] = (),
    change: Sequence[str] | Schemas = (),
    scope: SettingsScope = "user",
    agent_id: str | None = None,
    user_id: str | None = None,
) -> list[BaseTool]:
    """The tools `read_setting` and, where something may be changed, `change_setting`.

    Raises:
        ConfigurationError: nothing is named, the scope is none, or it needs an `agent_id`.
    """
    if isinstance(read, str) or isinstance(change, str):
        raise ConfigurationError("read and change are lists of names of settings: put the name into a list.")
    schemas = dict(change) if isinstance(change, Mapping) else dict.fromkeys(change)
    names = tuple(dict.fromkeys([*read, *schemas]))
    if not names:
        raise ConfigurationError("The agent may neither read nor change a setting: name some in read or change.")
    if scope not in get_args(SettingsScope):
        raise ConfigurationError(
            f"{scope!r} is not a scope of settings: use one of {', '.join(get_args(SettingsScope))}."
        )
    if scope == "agent" and agent_id is None:
        raise ConfigurationError("Settings of an agent need its name: give agent_id.")
    verbs = _Verbs(core, names, schemas, scope, agent_id, user_id)
    known = ", ".join(names)
    tools: list[BaseTool] = [
        make_tool(
            bridge, verbs.read_setting, "read_setting", f"Read how you are set up, with who set it and why: {known}."
        )
    ]
    if schemas:
        what = (
            f"Change how you are set up: {', '.join(schemas)}. Do it only when the user asks for it; "
            "every change is kept, with your reason."
        )
        tools.append(make_tool(bridge, verbs.change_setting, "change_setting", what))
    return tools


class _Verbs:
    """What the tools do, as coroutines whose parameters are the tools' schemas."""

    def __init__(
        self,
        core: MemoryCore,
        names: Sequence[str],
        schemas: Schemas,
        scope: SettingsScope,
        agent_id: str | None,
        user_id: str | None,
    ) -> None:
        self._core = core
        self._names = names
        self._schemas = schemas
        self._scope = scope
        self._agent_id = agent_id
        self._user_id = user_id

    async def read_setting(
        self, name: Annotated[str, Field(description="Which setting")], config: RunnableConfig
    ) -> str:
        _allowed(name, self._names, "read")
        user, thread = self._who(config)
        found = await self._core.agent_settings.active(name, agent_id=self._agent_id, user_id=user, thread_id=thread)
        return f"{name} is not set." if found is None else _shown(found)

    async def change_setting(
        self,
        name: Annotated[str, Field(description="Which setting")],
        value: Annotated[
            Any, Field(description="The whole new value: text, a number, true or false, a list or an object")
        ],
        reason: Annotated[str, Field(description="Why, in one sentence")],
        config: RunnableConfig,
    ) -> str:
        _allowed(name, tuple(self._schemas), "changed")
        user, thread = self._who(config)
        scope_id = {"tenant": "", "agent": self._agent_id, "user": user, "thread": thread}[self._scope]
        if scope_id is None:
            raise InvalidInputError(f"It is not known which {self._scope} this is: the setting cannot be changed here.")
        written = await self._core.agent_settings.set(
            name,
            value,
            scope=self._scope,
            scope_id=scope_id,
            set_by=f"agent {self._agent_id}" if self._agent_id else "agent",
            reason=reason,
            schema=self._schemas[name],
        )
        return f"{name} is set (version {written.version} for this {self._scope})."

    def _who(self, config: RunnableConfig) -> tuple[str | None, str | None]:
        """The user and the thread of the run."""
        configurable = config.get("configurable") or {}
        user, thread = configurable.get("user_id", self._user_id), configurable.get("thread_id")
        return None if user is None else str(user), None if thread is None else str(thread)


def _allowed(name: str, names: Sequence[str], what: str) -> None:
    if name not in names:
        raise InvalidInputError(f"{name!r} cannot be {what} by you: only {', '.join(names)} can.")


def _shown(setting: AgentSettings) -> str:
    owner = f"{setting.scope} {setting.scope_id}" if setting.scope_id else setting.scope
    who = f", set by {setting.set_by}" if setting.set_by else ""
    why = f", because: {setting.reason}" if setting.reason else ""
    about = f"version {setting.version} of the {owner}, since {setting.valid_from:%Y-%m-%d}{who}{why}"
    return harmless(f"{setting.name} is {dumps_exact(setting.value)} ({about})")
