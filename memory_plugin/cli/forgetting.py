"""`forget` and `unforget`: one memory, one conversation or one user, hidden or erased."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from memory_plugin.cli import options
from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column, Output, counted, when
from memory_plugin.cli.session import session_of
from memory_plugin.errors import NotFoundError

if TYPE_CHECKING:
    from memory_plugin.capabilities.erasure import ErasureReceipt
    from memory_plugin.core import MemoryCore

app = typer.Typer(rich_markup_mode=None)

ItemId = Annotated[str | None, typer.Argument(metavar="ITEM_ID", help="One memory, as `recall` names it.")]


@app.command(
    epilog=examples(
        "memory-plugin forget 01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11",
        "memory-plugin forget --thread support-42",
        "memory-plugin forget --user alice --hard --yes",
    ),
)
def forget(
    context: typer.Context,
    item_id: ItemId = None,
    thread: Annotated[str | None, typer.Option("--thread", metavar="ID", help="A conversation.")] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="The facts, conversations and documents of a user.")
    ] = None,
    hard: Annotated[bool, typer.Option("--hard", help="Erase it; of a user everything, from every table.")] = False,
    yes: options.Yes = False,
) -> None:
    """Forget one memory, one conversation or one user.

    It is only hidden, and `unforget` brings it back, unless --hard is given. Before anything is erased
    you are asked. The rows touched are counted for each table; who erases a user gets a receipt: what
    was erased, and that a search of every table found nothing left.
    """
    session = session_of(context)
    if sum(name is not None for name in (item_id, thread, user)) != 1:
        context.fail("Name exactly one of ITEM_ID, --thread and --user.")
    what = _what(item_id, thread, user)
    if hard:
        session.confirm(f"Erase {what} for good?", yes=yes)

    async def work(core: MemoryCore) -> tuple[dict[str, int], ErasureReceipt | None]:
        receipt = None
        if hard and user is not None:
            receipt = await core.erasure.erase_user(user, mentions=True)
            counts = dict(receipt.counts)
        else:
            counts = await core.forget(item_id=item_id, thread_id=thread, user_id=user, hard=hard)
        if not any(counts.values()):
            raise NotFoundError(f"Nothing is stored of {what} for the tenant {core.tenant!r}: check the name.")
        return counts, receipt

    counts, receipt = session.run(work)
    document: dict[str, Any] = {"forgotten": what, "rows": counts}
    if receipt is not None:
        document["receipt"] = receipt
    session.output.result(document, lambda: _show(session.output, counts, receipt))


def _what(item_id: str | None, thread: str | None, user: str | None) -> str:
    if item_id is not None:
        return f"the memory {item_id}"
    return f"the conversation {thread!r}" if thread is not None else f"all of the user {user!r}"


def _show(output: Output, counts: dict[str, int], receipt: ErasureReceipt | None) -> None:
    output.counts(counts)
    if receipt is None:
        return
    output.line()
    output.facts(
        [
            ("user", receipt.user_id),
            ("erased", counted(sum(receipt.counts.values()), "row")),
            ("left", f"{sum(receipt.left.values())}, in {counted(receipt.looked_at, 'column')} of all tables"),
            ("proved", when(receipt.at)),
            ("took", f"{receipt.seconds:.1f} s"),
        ]
    )
    if receipt.mentions:
        output.line()
        output.line("Rows of others, or of nobody, that name the user; they were left as they are:")
        output.table(
            [Column("column", fixed=True), Column("rows", fixed=True, right=True)],
            [(place, f"{number:,}") for place, number in receipt.mentions.items()],
        )


@app.command(
    epilog=examples(
        "memory-plugin unforget 01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11",
        "memory-plugin unforget --thread support-42",
        "memory-plugin unforget --user alice",
    ),
)
def unforget(
    context: typer.Context,
    item_id: ItemId = None,
    thread: Annotated[str | None, typer.Option("--thread", metavar="ID", help="A conversation.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="What went with a user.")] = None,
) -> None:
    """Bring back what was forgotten and not erased.

    It comes back as it was. A fact whose key has another fact by now stays forgotten.
    """
    session = session_of(context)
    if sum(name is not None for name in (item_id, thread, user)) != 1:
        context.fail("Name exactly one of ITEM_ID, --thread and --user.")
    what = _what(item_id, thread, user)

    async def work(core: MemoryCore) -> dict[str, int]:
        counts = await core.unforget(item_id=item_id, thread_id=thread, user_id=user)
        if not any(counts.values()):
            raise NotFoundError(f"Nothing of {what} is forgotten for the tenant {core.tenant!r}: check the name.")
        return counts

    counts = session.run(work)
    session.output.result({"brought_back": what, "rows": counts}, lambda: session.output.counts(counts))
