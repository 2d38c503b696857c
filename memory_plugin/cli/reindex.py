"""`reindex`: the words and the vectors of everything, made anew where they are missing or not as they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from memory_plugin.cli import options
from memory_plugin.cli.bars import Report, building, steps
from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column, Output, counted
from memory_plugin.cli.session import session_of

if TYPE_CHECKING:
    from memory_plugin.capabilities.vector_spaces import EmbeddingSpace
    from memory_plugin.core import MemoryCore

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog=examples(
        "memory-plugin reindex --dry-run",
        "memory-plugin reindex",
        "memory-plugin reindex --embeddings onnx --retire-others",
        "memory-plugin reindex --languages english,german",
        "memory-plugin reindex --drop wordllama:l2_supercat:256 --yes",
    ),
)
def reindex(
    context: typer.Context,
    embeddings: Annotated[
        str | None,
        typer.Option("--embeddings", metavar="MODEL", help="Vectors of this model, instead of MEMORY_EMBEDDINGS."),
    ] = None,
    languages: Annotated[
        str | None,
        typer.Option("--languages", metavar="NAMES", help="Give the tenant languages of its own: english,german."),
    ] = None,
    words: Annotated[bool, typer.Option("--words", help="Read all words anew, in the languages there are.")] = False,
    retire_others: Annotated[
        bool, typer.Option("--retire-others", help="At the end: no more vectors of any other model.")
    ] = False,
    drop: Annotated[
        str | None, typer.Option("--drop", metavar="MODEL", help="Delete the vectors of this model, and do no more.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, and say how far everything is.")] = False,
    yes: options.Yes = False,
) -> None:
    """Complete the search index, and build new vectors.

    What waits is indexed, what has no vector gets one, and a large space gets its index. A model that is
    new is built beside the others: searches use the old vectors until the new ones are complete. Programs
    may be at work meanwhile. A run that was broken off is simply started again, and goes on where it was.

    The new model is in use where programs are opened with it: set MEMORY_EMBEDDINGS first, or afterwards.
    """
    session = session_of(context)
    if drop is not None and not dry_run and not (yes or session.output.ask(f"Delete all vectors of {drop}?")):
        raise typer.Abort

    async def work(core: MemoryCore) -> dict[str, Any]:
        done: dict[str, Any] = {}
        if not dry_run:
            with steps(session.output) as report:
                if drop is not None:
                    done["dropped"] = await core.spaces.drop(drop)
                else:
                    await _words(core, languages, done, report, anew=words)
                    await _vectors(core, embeddings, done, report, retire_others=retire_others)
        return {
            **done,
            "languages": await core.languages.get(),
            "waiting": (await core.passages.backlog()).words,
            "spaces": await core.spaces.list(),
            "index_error": None if core.spaces.last_error is None else str(core.spaces.last_error),
        }

    found = session.run(work)
    session.output.result(found, lambda: _show(session.output, found))


async def _words(core: MemoryCore, languages: str | None, done: dict[str, Any], report: Report, *, anew: bool) -> None:
    def step(so_far: int, of: int) -> None:
        report("Words", so_far, of)

    done["indexed"] = await core.passages.catch_up()
    if languages is not None:
        done["reworded"] = await core.languages.set(languages.split(","), progress=step)
    elif anew:
        done["reworded"] = await core.languages.reread(progress=step)


async def _vectors(
    core: MemoryCore, embeddings: str | None, done: dict[str, Any], report: Report, *, retire_others: bool
) -> None:
    if embeddings is None and core.embedder is None:
        return
    space = await core.spaces.build(embeddings, progress=building(report))
    done["model"] = space.name
    await core.spaces.build_documents(progress=building(report))
    if retire_others:
        others = [each for each in await core.spaces.list() if not each.is_own and each.state != "retired"]
        for other in others:
            await core.spaces.retire(other.name)
        done["retired"] = [other.name for other in others]


def _show(output: Output, found: dict[str, Any]) -> None:
    spaces: list[EmbeddingSpace] = found["spaces"]
    if "dropped" in found:
        output.line(f"{counted(found['dropped'], 'vector')} deleted.")
    if found.get("reworded") is not None:
        output.line(f"The words of {counted(found['reworded'], 'passage')} changed.")
    output.facts(
        [
            ("languages", ", ".join(found["languages"])),
            ("waiting for words", f"{found['waiting']:,}"),
            ("index", found["index_error"]),
        ]
    )
    if not spaces:
        output.note("There are no vectors: searches go by words alone.")
        return
    columns = [
        Column("model", least=12),
        Column("for", fixed=True),
        Column("state", fixed=True),
        Column("vectors for", fixed=True, right=True),
        Column("waiting", fixed=True, right=True),
        Column("refused", fixed=True, right=True),
        Column("index", fixed=True),
    ]
    output.table(columns, [_row(space) for space in spaces])


def _row(space: EmbeddingSpace) -> list[str]:
    state = f"{space.state}, in use" if space.is_own else space.state
    return [
        f"{space.name} ({space.dims})",
        "documents" if space.kind == "reference" else "everything",
        state,
        f"{space.passages:,} of {space.of_all:,}",
        f"{space.waiting:,}",
        f"{space.refused:,}",
        space.index,
    ]
