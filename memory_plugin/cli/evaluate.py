"""`eval`: how well recall finds what was said, measured on files of questions with known evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Output
from memory_plugin.cli.session import session_of

if TYPE_CHECKING:
    from memory_plugin.evaluation import Dialogue, Evaluation
    from memory_plugin.evaluation.run import Step, Threads
    from memory_plugin.settings import Settings

app = typer.Typer(rich_markup_mode=None)


@app.command(
    "eval",
    epilog=examples(
        "memory-plugin eval locomo10.json",
        "memory-plugin eval locomo10.json beam_100k.json.gz --threads session",
        "memory-plugin --json eval locomo10.json --explain",
    ),
)
def evaluate_recall(
    context: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Conversations with questions, as LoCoMo or BEAM has them.")
    ],
    threads: Annotated[
        Literal["conversation", "session"],
        typer.Option("--threads", help="What is stored as one thread."),
    ] = "conversation",
    embeddings: Annotated[
        str | None,
        typer.Option("--embeddings", metavar="NAME", help="provider:model, or none.  [env: MEMORY_EMBEDDINGS]"),
    ] = None,
    no_baselines: Annotated[bool, typer.Option("--no-baselines", help="Do not rank by other means too.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="With --json: what was found for each question, and why.")
    ] = False,
) -> None:
    """Measure how well recall finds what was said.

    The conversations of the files are stored, their questions asked, and the messages found compared
    with the evidence that the files name. It happens on a database of its own, which is gone
    afterwards; with --url in a schema of its own there. The result is Markdown, or JSON with --json.
    """
    from memory_plugin.evaluation import load, markdown

    session = session_of(context)
    settings = session.settings()
    if embeddings is not None:
        settings = settings.model_copy(update={"embeddings": embeddings})
    dialogues = [dialogue for path in paths for dialogue in load(path)]
    with _progress(session.output) as step:
        found = asyncio.run(
            _evaluate(settings, session.url, dialogues, threads, step, baselines=not no_baselines, explain=explain)
        )
    session.output.result({"evaluations": found}, lambda: session.output.raw(markdown(found)))


async def _evaluate(
    settings: Settings,
    url: str | None,
    dialogues: list[Dialogue],
    threads: Threads,
    step: Step,
    *,
    baselines: bool,
    explain: bool,
) -> list[Evaluation]:
    from memory_plugin.evaluation import evaluate
    from memory_plugin.evaluation.store import scratch_store

    async with scratch_store(settings, url=url) as core:
        return await evaluate(core, dialogues, threads=threads, baselines=baselines, explain=explain, step=step)


@contextmanager
def _progress(output: Output) -> Iterator[Step]:
    """A bar for a person who watches; nothing otherwise."""
    if not output.shows_progress:
        yield lambda _what, _done, _whole: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.aside, transient=True) as bars:
        tasks: dict[tuple[str, int], object] = {}

        def step(what: str, done: int, whole: int) -> None:
            key = (what, whole)
            task = tasks.setdefault(key, bars.add_task(what, total=whole)) if key not in tasks else tasks[key]
            bars.update(task, completed=done)  # type: ignore[arg-type]  # TaskID is rich's own

        yield step
