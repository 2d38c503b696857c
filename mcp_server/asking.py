"""What a person should decide: erasing for good, and two memories that say nearly the same.

A client that can ask the person is given the question. With one that cannot, erasing takes a second
call with a code that only the first answer told, and a memory like another is stored beside it, with
the answer naming the other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from mcp_server import reading
from mcp_server.caller import Caller, current_caller
from mcp_server.render import label
from memory_plugin.types import MemoryItem, SimilarMemory

LIKENESS = 0.75
"""Similarity from which on a person is asked, and an assistant told: more than remember reports to a program."""

_MOST_WORDS = 60
"""Longer texts are not compared: those that differ in one word of many may differ in all that matters."""

Me = Annotated[Caller, Resolve(current_caller)]

RESOLVED = AcceptedElicitation[Any]
"""What the protocol library puts each caller into. Kept, because pydantic forgets a class that nobody keeps, and making
it anew for each call takes a millisecond."""


def can_ask(ctx: Context) -> bool:
    """Whether the client can put a form before a person."""
    capabilities = ctx.client_capabilities
    asking = capabilities.elicitation if capabilities is not None else None
    return asking is not None and (asking.form is not None or asking.url is None)


# -- erasing


class EraseForGood(BaseModel):
    """What the person answers."""

    erase: bool = Field(title="Erase for good", description="It cannot be brought back, not from its history either.")


@dataclass(frozen=True, slots=True)
class Agreed:
    """The person, or the second call, agreed; or nothing needed their agreement."""


async def may_erase(
    caller: Me, id: str, erase: bool, confirm: str | None, ctx: Context
) -> Agreed | Elicit[EraseForGood]:
    """Ask before anything is erased for good.

    Raises:
        ToolError: the client cannot ask, and the call did not confirm.
        NotFoundError: there is no such memory of the caller's.
    """
    if not erase:
        return Agreed()
    memory = await reading.own_memory(caller, reading.memory_id(id), shared=False)
    text = label(memory.content, 300)
    if can_ask(ctx):
        return Elicit(f"Erase this memory for good, with its history? “{text}”", EraseForGood)
    code = _code(memory)
    if confirm is not None and confirm.strip().lower() == code:
        return Agreed()
    raise ToolError(
        f"Nothing was erased: ask the user whether to erase “{text}” for good, which cannot be undone. "
        f"If they say yes, call forget again with erase=true and confirm={code}."
    )


def _code(memory: MemoryItem) -> str:
    """What a caller knows only after having been asked; another for each version of each memory."""
    return hashlib.sha256(f"erase {memory.id} {memory.version}".encode()).hexdigest()[:8]


def agreed(outcome: ElicitationResult[EraseForGood]) -> None:
    """Go on only when the person agreed.

    Raises:
        ToolError: they did not.
    """
    if isinstance(outcome, AcceptedElicitation) and (isinstance(outcome.data, Agreed) or outcome.data.erase):
        return
    raise ToolError("Nothing was erased: the user did not agree.")


# -- two that say nearly the same


class NearlyTheSame(BaseModel):
    """What the person answers."""

    choice: Literal["keep both", "replace the old one", "keep the old one"] = Field(
        title="What to keep", description="The old one stays in the history when it is replaced."
    )


@dataclass(frozen=True, slots=True)
class StoreIt:
    """Nothing has to be decided."""


async def nearest(caller: Me, content: str, key: str | None) -> SimilarMemory | None:
    """The caller's memory that says nearly the same; None with a key, which names the one that is meant."""
    if key or not 3 <= len(content.split()) <= _MOST_WORDS:
        return None
    for near in await caller.core.memories.near(content, user_id=caller.user_id):
        same = " ".join(near.content.split()).casefold() == " ".join(content.split()).casefold()
        if not same and near.similarity >= LIKENESS:
            return near
    return None


Nearest = Annotated[SimilarMemory | None, Resolve(nearest)]


async def what_to_keep(near: Nearest, content: str, ctx: Context) -> StoreIt | Elicit[NearlyTheSame]:
    """Ask where a memory says nearly the same and the client can ask."""
    if near is None or not can_ask(ctx):
        return StoreIt()
    return Elicit(
        f"A memory says nearly the same: “{label(near.content, 300)}”. What should become of the new one, "
        f"“{label(content, 300)}”?",
        NearlyTheSame,
    )
