"""`history` and `undo`: what a fact was before, and back to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from memory_plugin.cli.facts import INDEX_TIMEOUT, show_item
from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column, Output, when
from memory_plugin.cli.session import session_of

if TYPE_CHECKING:
    from memory_plugin.core import MemoryCore
    from memory_plugin.types import MemoryItem

app = typer.Typer(rich_markup_mode=None)

ItemId = Annotated[str, typer.Argument(metavar="ITEM_ID", help="One memory, as `recall` names it.")]


@app.command(epilog=examples("memory-plugin history 01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11"))
def history(context: typer.Context, item_id: ItemId) -> None:
    """Show every version of a fact.

    The first one comes first; what was forgotten is shown too.
    """
    session = session_of(context)

    async def work(core: MemoryCore) -> Sequence[MemoryItem]:
        return await core.memories.history(item_id)

    versions = session.run(work)
    session.output.result({"id": item_id, "versions": versions}, lambda: _show(session.output, versions))


def _show(output: Output, versions: Sequence[MemoryItem]) -> None:
    columns = [
        Column("version", fixed=True, right=True),
        Column("known from", least=10),
        Column("until", least=10),
        Column("text"),
    ]
    output.table(
        columns,
        [[str(each.version), when(each.recorded_at), when(each.superseded_at), each.content] for each in versions],
    )


@app.command(epilog=examples("memory-plugin undo 01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11"))
def undo(context: typer.Context, item_id: ItemId) -> None:
    """Go back to the version of a fact before.

    A forgotten fact is brought back. It comes back as a new version, so undoing twice changes nothing.
    """
    session = session_of(context)

    async def work(core: MemoryCore) -> MemoryItem:
        item = await core.memories.undo(item_id)
        await session.index(core, seconds=INDEX_TIMEOUT)
        return item

    item = session.run(work)
    session.output.result({"memory": item}, lambda: show_item(session.output, item))
