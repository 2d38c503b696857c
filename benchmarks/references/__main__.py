"""The command: sets by path, a progress bar on standard error, Markdown on standard output."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from benchmarks.checkpointer.server import Server, open_server
from benchmarks.pages import machine, place_of
from benchmarks.references.beir import RetrievalSet, docstrings, load
from benchmarks.references.ingest import Ingested, Step, scratch, search_times, write_manual
from benchmarks.references.ingest import load as ingest
from benchmarks.references.systems import Cut, Ranked, compare, compare_sizes
from memory_plugin.chunking import ChunkSizes
from memory_plugin.errors import ConfigurationError
from memory_plugin.evaluation.metrics import percentile

_HELP = """Measure references: how well they are found, how fast they go in, how fast they are searched.

PATH is a folder in the layout of BEIR: corpus.jsonl, queries.jsonl, qrels/test.tsv. Without one a small set is made
of the docstrings of the standard library; it is easier than sets made by people, and compares systems only.
Beside ours stand words and vectors alone, flat BM25 where bm25s and PyStemmer are installed, and LangChain's own
vector store where langchain-postgres is, with the same embedder in the same run. Nothing is kept: without --url an
embedded PostgreSQL runs in a temporary directory.

\b
Examples:
  python -m benchmarks.references data/scifact --write-docs docs/benchmarks.md
  python -m benchmarks.references --quick
  python -m benchmarks.references --only ingest --files 10000 --large 100
  python -m benchmarks.references data/scifact --split train --sizes 220:300,400:512,2000:2000
"""

GROUPS = ("quality", "ingest", "search")
PLACE = place_of("references")


def command(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Sets in the layout of BEIR.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A minute: fewer documents, files and passages.")] = False,
    only: Annotated[str, typer.Option("--only", metavar="NAMES", help=f"Of {', '.join(GROUPS)}; with commas.")] = "",
    files: Annotated[int, typer.Option("--files", metavar="N", help="Small files that go in.")] = 10_000,
    large: Annotated[int, typer.Option("--large", metavar="MB", help="Megabytes of the one large file.")] = 100,
    chunks: Annotated[int, typer.Option("--chunks", metavar="N", help="Passages that are searched.")] = 100_000,
    sizes: Annotated[
        str, typer.Option("--sizes", metavar="N:MAX,...", help="Only compare passages of these sizes in tokens.")
    ] = "",
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Whose judgements: test, train, dev.")] = "test",
    docs: Annotated[
        Path | None, typer.Option("--write-docs", metavar="FILE", help="Replace the tables of this page.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything to a file.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="A server where databases may be made and dropped.")
    ] = None,
) -> None:
    """Run and report."""
    groups = [name.strip() for name in only.split(",") if name.strip()] or list(GROUPS)
    if unknown := [name for name in groups if name not in GROUPS]:
        raise typer.BadParameter(f"{unknown[0]!r} is nothing that is measured.", param_hint="--only")
    if docs is not None and not PLACE.is_on(docs):
        raise typer.BadParameter(f"the page must have {PLACE.begin} and {PLACE.end}.", param_hint="--write-docs")
    try:
        sets = [load(path, split) for path in paths or ()]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="PATH") from error
    cuts = _sizes(sizes)
    if cuts:
        groups = ["sizes"]
    if quick:
        files, large, chunks = 200, 2, 2_000
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=2) as bar:
        task = bar.add_task("", total=None)

        def step(what: str, done: int, whole: int) -> None:
            bar.update(task, description=what, completed=done, total=whole)

        report = asyncio.run(
            measure(groups, sets, step, quick=quick, files=files, large=large, chunks=chunks, url=url, sizes=cuts)
        )
    sys.stdout.write(markdown(report))
    if docs is not None:
        PLACE.write(docs, markdown(report))
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=1, default=asdict) + "\n", "utf-8")


def _sizes(text: str) -> list[ChunkSizes]:
    """The sizes in "400:512,2000:2000"."""
    try:
        pairs = [part.split(":") for part in text.split(",") if part.strip()]
        return [ChunkSizes(int(target), int(maximum)) for target, maximum in pairs]
    except (ValueError, ConfigurationError) as error:
        raise typer.BadParameter(f"{error}: write 400:512,2000:2000.", param_hint="--sizes") from error


async def measure(
    groups: Sequence[str],
    sets: Sequence[RetrievalSet],
    step: Step,
    *,
    quick: bool = False,
    files: int,
    large: float,
    chunks: int,
    url: str | None = None,
    questions: int = 200,
    sizes: Sequence[ChunkSizes] = (),
) -> dict[str, Any]:
    """All that was asked for, by group."""
    report: dict[str, Any] = {}
    before = os.getloadavg()[0]
    async with open_server(url, synchronous=False) as server:
        chosen = [] if not {"quality", "sizes"} & set(groups) else sets or [docstrings(150 if quick else None)]
        if "sizes" in groups:
            report["sizes"] = [
                {"set": each.name, "queries": len(each.queries), "cuts": await compare_sizes(server, each, sizes, step)}
                for each in chosen
            ]
        if "quality" in groups:
            report["quality"] = [
                {"set": each.name, "documents": len(each.corpus), "queries": len(each.queries), "systems": found}
                for each in chosen
                for found in [await compare(server, each, step)]
            ]
        if "ingest" in groups:
            few = min(files, 500)
            report["ingest"] = [
                await _ingest(server, f"{few:,} files of 2 KB", few, 2_000, step),
                await _ingest(server, f"{files:,} files of 2 KB", files, 2_000, step),
                await _ingest(server, f"one file of {large:g} MB", 1, int(large * 1_000_000), step),
            ]
        if "search" in groups:
            report["search"] = await _search(server, chunks, questions, step)
        report["facts"] = machine(await server.version(), (before, os.getloadavg()[0]))
    return report


async def _ingest(server: Server, name: str, files: int, size: int, step: Step) -> Ingested:
    with tempfile.TemporaryDirectory(prefix="memory-plugin-references-") as folder:
        for number in range(files):
            write_manual(Path(folder, f"{number:06}.md"), size, number)
        return await ingest(server, Path(folder), name, step)


async def _search(server: Server, chunks: int, questions: int, step: Step) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="memory-plugin-references-") as folder:
        for number in range(20):
            write_manual(Path(folder, f"{number}.md"), chunks * 460 // 20, number)  # about what one passage has
        async with scratch(server) as memory:
            await memory.references.add_many(
                folder, on_progress=lambda progress: step("storing", progress.done, progress.total or 0)
            )
            await memory.indexed()
            await memory.spaces.tend()
            building = "SELECT count(*) FROM pg_stat_progress_create_index"
            while await memory.database.fetchval(building):  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.5)  # the store makes it by itself, behind the indexing
            await memory.database.as_login().execute("VACUUM (ANALYZE)")  # as the server does within minutes
            times = await search_times(memory, questions, step)
            stored = await memory.database.fetchval("SELECT count(*) FROM memory.chunks")
    return {"chunks": stored, "p50": percentile(times, 0.5), "p95": percentile(times, 0.95)}


def markdown(report: dict[str, Any]) -> str:
    """The report for people."""
    lines: list[str] = []
    for each in report.get("quality", ()):
        lines += [
            f"### {each['set']}: {each['documents']:,} documents, {each['queries']:,} questions",
            "",
            "| system | nDCG@10 | recall@10 | median ms | seconds to store |",
            "|---|---|---|---|---|",
            *(_quality(one) for one in each["systems"]),
            "",
        ]
    for each in report.get("sizes", ()):
        lines += [
            f"### {each['set']}, {each['queries']:,} questions: nDCG@10 by the size of passages",
            "",
            "| up to (at the most) | passages | words and meaning | words alone | meaning alone |",
            "|---|---|---|---|---|",
            *(_cut(one) for one in each["cuts"]),
            "",
        ]
    if "ingest" in report:
        lines += ["| load | MB/s | chunks/s | limited by | stages | most memory |", "|---|---|---|---|---|---|"]
        lines += [*(_ingested(one) for one in report["ingest"]), ""]
    if found := report.get("search"):
        lines += [
            f"Search over {found['chunks']:,} passages: median {found['p50']:.1f} ms, 95% under {found['p95']:.1f} ms.",
            "",
        ]
    lines += [f"- {name}: {value}" for name, value in report.get("facts", {}).items()]
    return "\n".join(lines) + "\n"


def _quality(one: Ranked) -> str:
    return f"| {one.name} | {one.ndcg:.3f} | {one.recall:.3f} | {one.milliseconds:.1f} | {one.seconds:.0f} |"


def _cut(one: Cut) -> str:
    found = " | ".join(f"{value:.3f}" for value in (one.both, one.words, one.meaning))
    return f"| {one.target} ({one.maximum}) tokens | {one.passages:,} | {found} |"


def _ingested(one: Ingested) -> str:
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in one.stages.items())
    rates = f"{one.megabytes / one.seconds:.2f} | {one.chunks / one.seconds:,.0f}"
    memory = f"{one.peak / 2**20:.0f} MB, {one.base / 2**20:.0f} before"
    return f"| {one.name} | {rates} | {one.limiting} | {stages} | {memory} |"


def main() -> None:
    """Run the command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=_HELP)(command)
    app(prog_name="python -m benchmarks.references")


if __name__ == "__main__":
    main()
