"""`references`: documents that are searched and cited."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory_plugin.cli import options
from memory_plugin.cli.facts import CATCH_UP_TIMEOUT, explained
from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column, Output, counted, when
from memory_plugin.cli.reference_adding import Adding, processes, progress
from memory_plugin.cli.session import UsageError, session_of
from memory_plugin.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from memory_plugin.capabilities.reference_reader import StoredChunk
    from memory_plugin.capabilities.references import DocumentVersion, FoundDocument
    from memory_plugin.core import MemoryCore
    from memory_plugin.types import Document, Hit, Page

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Add, list, read, search and remove reference documents.",
    epilog=examples("memory-plugin references add docs/", 'memory-plugin references search "rate limits"'),
)

CITATION = "memory://"
MAX_JOBS = 4

DocumentId = Annotated[str, typer.Argument(metavar="ID", help="Id of the document, as `references list` names it.")]


@app.command(
    epilog=examples(
        "memory-plugin references add handbook.pdf notes/",
        'memory-plugin references add "docs/**/*.md" --collection product --metadata audience=staff',
    ),
)
def add(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files, folders, or patterns in quotes.")],
    collection: Annotated[
        str, typer.Option("--collection", metavar="NAME", help="Where they are kept together.")
    ] = "default",
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="Whose they are; everybody's by default.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, max=32, metavar="N", help="Files read at once; as many as cores by default."),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", metavar="NAME=VALUE", help="About each of them, to search by; may be repeated."),
    ] = None,
    remove_missing: Annotated[
        bool, typer.Option("--remove-missing", help="Remove documents whose files left the folders.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Leave the reading at the end to the next program that opens the store.")
    ] = False,
) -> None:
    """Store documents, or the next version of those that changed.

    Folders are read with all below them; hidden files and unknown kinds are passed over there. What did
    not change is skipped, so that a run that was ended is taken up by running it again. When a file fails
    the others are stored all the same, and the exit code is 1. URLs need MEMORY_REFERENCE_URLS.

    At the end the model for documents reads them, some ten passages a second. All of it is found before
    that, by words and by the vectors of words, so that nothing is lost by ending this with Ctrl-C.
    """
    session = session_of(context)
    adding = Adding()
    about = options.metadata(metadata)
    workers = min(jobs or os.cpu_count() or 1, MAX_JOBS if jobs is None else jobs)

    async def work(core: MemoryCore) -> None:
        with progress(session.output, adding.files) as on_progress, processes(paths, workers) as executor:
            await core.references.add_many(
                paths,
                collection=collection,
                user_id=user,
                metadata=about,
                on_progress=on_progress,
                concurrency=max(workers, 2),
                executor=executor,
            )
        await adding.look_for_missing(core, paths, collection=collection, user_id=user, remove=remove_missing)
        await session.index(core, seconds=None, doing="Indexing")
        if not no_wait:
            await session.read_documents(core)

    try:
        session.run(work)
    except KeyboardInterrupt:
        adding.show(session.output, is_interrupted=True)
        raise
    adding.show(session.output)
    if adding.has_failed:
        raise typer.Exit(1)


@app.command(
    "list",
    epilog=examples(
        "memory-plugin references list",
        "memory-plugin references list --collection product --limit 100",
    ),
)
def list_(
    context: typer.Context,
    collection: options.Collection = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="What this user sees: their own and everybody's.")
    ] = None,
    limit: options.Limit = 20,
    cursor: options.Cursor = None,
) -> None:
    """List documents, the newest first."""
    session = session_of(context)

    async def work(core: MemoryCore) -> Page[Document]:
        return await core.references.list(collection=collection, user_id=user, limit=limit, cursor=cursor)

    page = session.run(work)
    session.output.result({"documents": page.items, "cursor": page.cursor}, lambda: _show_page(session.output, page))


def _show_page(output: Output, page: Page[Document]) -> None:
    if not page.items:
        output.note("There are no reference documents.")
        return
    columns = [
        Column("id", fixed=True),
        Column("title", least=12),
        Column("collection", least=10),
        Column("version", fixed=True, right=True),
        Column("passages", fixed=True, right=True),
        Column("updated", least=10),
    ]
    rows = [
        (str(each.id), each.title, each.collection, str(each.version), f"{each.chunk_count:,}", when(each.updated_at))
        for each in page.items
    ]
    output.table(columns, rows)
    if page.cursor:
        output.note(f"There are more: --cursor {page.cursor}")


@app.command(
    epilog=examples(
        "memory-plugin references show 01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11 --limit 5",
        'memory-plugin references show "memory://reference/01997c1e-.../1#01997c1f-..."',
    ),
)
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ID", help="A document, a passage, or a citation (memory://...).")],
    start: Annotated[int, typer.Option("--start", min=0, metavar="N", help="Passages to skip.")] = 0,
    limit: options.Limit = 20,
) -> None:
    """Show a document, or one passage of it."""
    session = session_of(context)

    found, passages = session.run(lambda core: _find(core, name, start, limit))
    session.output.result(
        {"document": found, "passages": passages}, lambda: _show_document(session.output, found, passages)
    )


async def _find(core: MemoryCore, name: str, start: int, limit: int) -> tuple[Document, list[StoredChunk]]:
    """The document of that id with its passages, or with the one that has the id or the citation."""
    references = core.references
    if name.startswith(CITATION) and "#" not in name:
        document, version = split_address(name)
        return await references.get(document), await references.chunks(
            document, version=version, start=start, limit=limit
        )
    if name.startswith(CITATION):
        passage = await references.resolve(name)
    else:
        with suppress(NotFoundError):
            found = await references.get(name)
            return found, await references.chunks(found.id, start=start, limit=limit)
        passage = await references.chunk(name)
    return await references.get(passage.document_id), [passage]


def split_address(name: str) -> tuple[str, int | None]:
    """The document and the version of `memory://reference/<document>/<version>`, which may leave the version out.

    Raises:
        InvalidInputError: it reads otherwise.
    """
    document, _, version = name.removeprefix("memory://reference/").partition("/")
    if document.startswith(CITATION) or (version and not version.isdecimal()):
        raise InvalidInputError(f"{name[:200]!r} must read memory://reference/<document>/<version>#<passage>.")
    return document, int(version) if version else None


def _show_document(output: Output, document: Document, passages: list[StoredChunk]) -> None:
    output.facts(
        [
            ("title", document.title),
            ("id", str(document.id)),
            ("source", document.source),
            ("collection", document.collection),
            ("user", document.user_id),
            ("type", document.media_type),
            ("version", str(document.version)),
            ("updated", when(document.updated_at)),
            ("metadata", ", ".join(f"{name}={value}" for name, value in document.metadata.items())),
            ("passages", f"{document.chunk_count:,}"),
        ]
    )
    for passage in passages:
        output.line()
        output.line(f"{passage.ordinal + 1}. {passage.citation}", style="bold")
        output.line(passage.text)
    end = passages[-1].ordinal + 1 if passages else document.chunk_count
    if len(passages) > 1 and end < document.chunk_count:
        output.note(f"\n{counted(document.chunk_count - end, 'passage')} more: --start {end}")


@app.command(epilog=examples("memory-plugin references versions 01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11"))
def versions(context: typer.Context, document_id: DocumentId) -> None:
    """List the versions of a document that are kept."""
    session = session_of(context)

    async def work(core: MemoryCore) -> list[DocumentVersion]:
        return await core.references.versions(document_id)

    found = session.run(work)
    session.output.result(
        {"document_id": document_id, "versions": found}, lambda: _show_versions(session.output, found)
    )


def _show_versions(output: Output, found: list[DocumentVersion]) -> None:
    columns = [
        Column("version", fixed=True, right=True),
        Column("title", least=12),
        Column("passages", fixed=True, right=True),
        Column("stored", least=10),
        Column("", fixed=True),
    ]
    output.table(
        columns,
        [
            (str(each.version), each.title, f"{each.chunk_count:,}", when(each.created_at), "current" * each.current)
            for each in found
        ],
    )


@app.command(
    epilog=examples(
        "memory-plugin references prune --yes",
        "memory-plugin references prune 01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11 --keep 3",
    )
)
def prune(
    context: typer.Context,
    document_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Of this document only; of all by default.")
    ] = None,
    keep: Annotated[
        int, typer.Option("--keep", min=1, metavar="N", help="Versions that stay, the current one included.")
    ] = 1,
    yes: options.Yes = False,
) -> None:
    """Erase old versions; their citations resolve no more."""
    session = session_of(context)
    which = f"the document {document_id}" if document_id else "all documents"
    session.confirm(f"Erase all but the last {counted(keep, 'version')} of {which}?", yes=yes)

    async def work(core: MemoryCore) -> dict[str, int]:
        return await core.references.prune_versions(document_id, keep=keep)

    counts = session.run(work)
    session.output.result({"rows": counts}, lambda: session.output.counts(counts))


@app.command(
    epilog=examples(
        "memory-plugin references remove 01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11",
        "memory-plugin references remove --collection product --yes",
    )
)
def remove(
    context: typer.Context,
    document_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Id of the document.")] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", metavar="NAME", help="All documents of this collection instead.")
    ] = None,
    yes: options.Yes = False,
) -> None:
    """Erase a document with all its versions, or a whole collection."""
    session = session_of(context)
    if (document_id is None) == (collection is None):
        raise UsageError("Name a document by its ID, or a collection with --collection.")
    which = f"the document {document_id}" if document_id else f"all documents of the collection {collection}"
    session.confirm(f"Erase {which} with all versions?", yes=yes)

    async def work(core: MemoryCore) -> dict[str, int]:
        if document_id is None:
            return await core.references.remove_collection(collection or "")
        return await core.references.remove(document_id)

    counts = session.run(work)
    which_json = {"document_id": document_id} if document_id else {"collection": collection}
    session.output.result({**which_json, "rows": counts}, lambda: session.output.counts(counts))


@app.command(
    epilog=examples(
        'memory-plugin references search "how long is the warranty?"',
        'memory-plugin references search "rate limits" --collection product --limit 3',
    ),
)
def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question, or a few words.")],
    collection: options.Collection = None,
    user: options.User = None,
    limit: options.Limit = 8,
    filter_: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="NAME=VALUE", help="Whose metadata has this; may be repeated."),
    ] = None,
    neighbours: Annotated[
        int, typer.Option("--neighbours", min=0, max=20, metavar="N", help="With so many passages before and after.")
    ] = 0,
    by_document: Annotated[bool, typer.Option("--by-document", help="The best documents, each with passages.")] = False,
    explain: options.Explain = False,
) -> None:
    """Find passages that answer a question, each with its citation."""
    session = session_of(context)
    about = options.metadata(filter_, "--filter")

    async def work(core: MemoryCore) -> tuple[Sequence[Hit], list[FoundDocument]]:
        await session.index(core, seconds=CATCH_UP_TIMEOUT)
        references = core.references
        if by_document:
            found = await references.search_documents(
                query, collection=collection, user_id=user, limit=limit, filter=about
            )
            hits = await references.with_neighbours([hit for each in found for hit in each.hits], neighbours)
            return hits, found
        return await references.search(
            query, collection=collection, user_id=user, limit=limit, filter=about, neighbours=neighbours
        ), []

    hits, found = session.run(work)
    result = {"query": query, "documents": found} if by_document else {"query": query, "hits": hits}
    session.output.result(result, lambda: _show_passages(session.output, _in_place(hits), explain=explain))


def _show_passages(output: Output, hits: Sequence[Hit], *, explain: bool) -> None:
    """Each passage under what cites it and where to open it, the best first."""
    if not hits:
        output.note("Nothing was found.")
    for number, hit in enumerate(hits, start=1):
        if number > 1:
            output.line()
        output.line(f"{number}. {hit.citation} - {_opened_by(hit)}", style="bold", whole=True)
        output.line(hit.text)
        output.line(f"[{hit.id}] score {hit.score:.2f}")
        if explain:
            output.line(f"= {explained(hit)}")


def _opened_by(hit: Hit) -> str:
    """What opens the document that a passage is from: its file, as seen from here, its URL, or else the citation."""
    from memory_plugin.capabilities.reference_files import is_url

    citation = hit.citation
    source = (citation.source if citation else None) or ""
    if is_url(source):
        return source
    if not Path(source).is_absolute():
        return citation.uri if citation else hit.id
    path = Path(source)
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    is_in_part = hit.metadata.get("kind") in {"operation", "webhook", "schema"} and "file" in hit.metadata
    return f"{path.as_posix()} (in {hit.metadata['file']})" if is_in_part else path.as_posix()


def _in_place(hits: Sequence[Hit]) -> list[Hit]:
    """The hits for a person, who reads a passage between its neighbours."""
    shown = []
    for hit in hits:
        start = (hit.citation.start if hit.citation else None) or 0
        around = [
            *((each.citation.start or 0, each.text) for each in hit.neighbours if each.citation),
            (start, hit.text),
        ]
        shown.append(replace(hit, text="\n\n".join(text for _, text in sorted(around))))
    return shown
