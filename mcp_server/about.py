"""What is known without a search: about the user, and about how this memory is set up."""

from __future__ import annotations

import json

from mcp_server import answers, reading
from mcp_server.caller import Caller
from mcp_server.identity import WRITE
from mcp_server.render import date, fit, label
from mcp_server.results import DATA_NOTICE, Answer, MemorySettings, Setting, UserSummary
from memory_plugin.fencing import harmless
from memory_plugin.instruction_signs import reads_like_instruction
from memory_plugin.types import AgentSettings

_MOST_SETTINGS = 50


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
                flagged=reads_like_instruction(content) or None,
                truncated=characters < len(content),
            )

        known.append(fit(build, count=1, longest=len(content), max_tokens=max_tokens))
    note = await caller.core.working_memory.get(user_id=caller.user_id)
    if note is not None:
        known.append(await answers.item(caller, reading.WORKING_MEMORY, offset=0, max_tokens=max_tokens))
    return known


async def settings(caller: Caller, *, can_write: bool, can_add_references: bool, max_tokens: int) -> MemorySettings:
    """Whose memory it is, what may be done with it, and the settings that the user's agents share.

    Without a user those are the tenant's; one user never reads what the operator set for all.
    """
    read = caller.core.agent_settings.current
    if caller.user_id is not None:
        stored = await read(scope="user", scope_id=caller.user_id, limit=_MOST_SETTINGS)
    else:
        stored = await read(scope="tenant", limit=_MOST_SETTINGS)
    shown = [_setting(each) for each in stored]
    embedder = caller.core.embedder
    writes = can_write and WRITE in caller.scopes

    def build(count: int, characters: int) -> MemorySettings:
        fitting = [_cut(each, characters) for each in shown[:count]]
        return MemorySettings(
            notice=DATA_NOTICE if shown else "No settings are stored for the user's agents.",
            user=harmless(caller.user_id) if caller.user_id is not None else "everyone of the tenant",
            can_write=writes,
            can_add_references=writes and can_add_references,
            search=f"words and meaning ({embedder.name})" if embedder is not None else "words",
            settings=fitting,
            truncated=fitting != shown,
        )

    longest = max((len(each.text) for each in shown), default=0)
    return fit(build, count=len(shown), longest=longest, max_tokens=max_tokens)


def _setting(stored: AgentSettings) -> Setting:
    return Setting(
        name=label(stored.name) or "",
        text=harmless(json.dumps(stored.value, ensure_ascii=False)),
        date=date(stored.valid_from) or "",
        version=stored.version,
    )


def _cut(setting: Setting, characters: int) -> Setting:
    if len(setting.text) <= characters:
        return setting
    return setting.model_copy(update={"text": setting.text[: max(characters - 1, 0)] + "…"})
