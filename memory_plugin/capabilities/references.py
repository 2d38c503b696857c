"""Reference documents: added from files, texts or bytes, kept by version, cited by passage.

A document belongs to one user, or to nobody in particular and so to everyone of the tenant. Who
names a user sees that user's documents and everyone's, and may remove that user's only; who names
none acts for the whole tenant.
"""

from __future__ import annotations

import asyncio
import builtins
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol

from memory_plugin.capabilities.reference_files import (
    MAX_BYTES,
    Content,
    PathLike,
    find_files,
    in_memory,
    path_text,
    read_file,
    refuse_url,
)
from memory_plugin.capabilities.reference_reader import DOCUMENT, ReferenceReader, StoredChunk, document_of
from memory_plugin.capabilities.reference_removal import ReferenceRemover
from memory_plugin.capabilities.reference_writer import (
    MAX_TITLE,
    Labels,
    Parser,
    Prepared,
    ReferenceWriter,
    checked_metadata,
    prepare,
)
from memory_plugin.db.database import Database, Repeat
from memory_plugin.errors import ConfigurationError, DocumentError, InvalidInputError, UnsupportedError
from memory_plugin.jsonable import loads_exact
from memory_plugin.types import Document, Hit
from memory_plugin.validation import (
    MAX_IDENTIFIER,
    clean_text,
    identifier,
    optional_identifier,
    positive_limit,
)

ReferenceRow = StoredChunk
"""What `References.hydrate` gives for a hit."""

Outcome = Literal["added", "updated", "unchanged", "failed"]

MAX_SOURCE = 2 * MAX_IDENTIFIER
"""Characters a source may have."""

MAX_CONCURRENCY = 32

_FIND = f"""{DOCUMENT}
WHERE d.tenant_id = $1 AND d.collection = $2 AND d.source = $3 AND coalesce(d.user_id, '') = coalesce($4, '')
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """One more file of `add_many` is done: `done` of `total`."""

    done: int
    total: int
    name: str
    status: Outcome
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AddReport:
    """What became of the files: how many by outcome, and the name and reason of each that failed."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: Sequence[tuple[str, str]] = ()


class Search(Protocol):
    """The search of the store, which knows this capability's passages as one kind among others."""

    def __call__(
        self,
        query: str,
        *,
        collection: str | None = None,
        user_id: str | None = None,
        limit: int = 8,
        filter: Mapping[str, Any] | None = None,
    ) -> Awaitable[list[Hit]]:
        """The best passages, each with its citation."""


class References(ReferenceReader, ReferenceRemover):
    """Reads and writes reference documents.

    Args:
        user_id: the user when a call names none; None acts for the whole tenant.
        changed: called after each write.
        search: what `search` hands on to.
        parser: instead of the parsers of the library.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant: str,
        user_id: str | None = None,
        changed: Callable[[], None] | None = None,
        search: Search | None = None,
        parser: Parser | None = None,
    ) -> None:
        super().__init__(database, tenant=tenant, user_id=user_id)
        self._changed = changed
        self._search_store = search
        self._parser = parser
        self._writer = ReferenceWriter(database, tenant=tenant)
        self._find = database.sql(_FIND)

    # -- adding

    async def add(
        self,
        path: PathLike | None = None,
        *,
        text: str | None = None,
        data: bytes | None = None,
        title: str | None = None,
        source: str | None = None,
        collection: str = "default",
        user_id: str | None = None,
        media_type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Document:
        """Store a document, or the next version of it; exactly one of `path`, `text` and `data`.

        A document is known by tenant, collection, source and user. The same bytes again are
        `unchanged` and not even parsed, whatever the media type; another title or more metadata
        are taken over without a version (`updated`).

        Args:
            title: by default what the document calls itself, else its name.
            source: a name that stays the same through versions. By default the absolute path; a
                text or data without one is known by its content, so that another text is another
                document.
            media_type: by default told from the name and the content.
            metadata: added to what earlier versions had, and to what the parser finds.

        Raises:
            InvalidInputError: a URL, not exactly one content, or an argument that cannot be stored.
            ContentTooLargeError: over a limit.
            DocumentError: the file cannot be read or parsed, or has no text.
            UnsupportedError: the package for its format is not installed.
        """
        if sum(value is not None for value in (path, text, data)) != 1:
            raise InvalidInputError("Give exactly one of path, text and data.")
        labels = self._labels(collection, user_id, title, media_type, metadata)
        source = None if source is None else _source(source)
        if path is not None:
            refuse_url(path)
            content = await asyncio.to_thread(read_file, _path(path), source)
        elif text is not None:
            content = await asyncio.to_thread(_of_text, text, source)
        else:
            content = await asyncio.to_thread(_of_data, data, source)
        return await self._add(content, labels)

    async def add_many(
        self,
        paths: Iterable[PathLike] | PathLike,
        *,
        collection: str = "default",
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        concurrency: int = 2,
        executor: Executor | None = None,
    ) -> AddReport:
        """Store files, folders with all below them, and glob patterns; one bad file stops nothing.

        In folders and patterns hidden files and unknown kinds are passed over. A run that was cut
        short is taken up by running it again: what is stored is skipped by its hash. At most
        `concurrency` documents are in memory at once.

        Args:
            on_progress: called on the event loop after each file.
            executor: where to parse. By default threads, which are safe everywhere; a
                `ProcessPoolExecutor` is faster for many PDFs, where the program can start one.

        Raises:
            DatabaseError: the database failed, so that going on is of no use.
            InvalidInputError: an argument that cannot be stored.
        """
        labels = self._labels(collection, user_id, None, None, metadata)
        if not 1 <= positive_limit(concurrency, "concurrency") <= MAX_CONCURRENCY:
            raise InvalidInputError(f"concurrency must be from 1 to {MAX_CONCURRENCY}, not {concurrency}.")
        named = paths if isinstance(paths, str | os.PathLike) else builtins.list(paths)
        found = await asyncio.to_thread(lambda: find_files(named, _extensions()))
        tally = _Tally(len(found.files) + len(found.problems), on_progress)
        for name, reason in found.problems:
            tally.done(name, "failed", reason)
        waiting = iter(found.files)

        async def work() -> None:
            for file in waiting:
                try:
                    content = await asyncio.to_thread(read_file, file)
                    document = await self._add(content, labels, executor)
                    del content
                except (InvalidInputError, DocumentError, UnsupportedError) as error:
                    tally.done(path_text(file), "failed", str(error))
                else:
                    tally.done(path_text(file), document.status or "unchanged")

        await _all_or_first_error([work() for _ in range(min(concurrency, len(found.files)))])
        return tally.report()

    async def _add(self, content: Content, labels: Labels, executor: Executor | None = None) -> Document:
        prepared: Prepared | None = None
        while True:
            stored = await self._stored(content, labels)
            if stored is not None and stored.content_hash == content.digest.hex():
                document = await self._relabel(stored, labels)
            else:
                if prepared is None:
                    work = partial(prepare, self._parser, content, labels.media_type, labels.title)
                    prepared = await asyncio.get_running_loop().run_in_executor(executor, work)
                document = await self._writer.write(content, labels, prepared, stored.title if stored else None)
            if document is not None:
                if document.status != "unchanged" and self._changed is not None:
                    self._changed()
                return document
            # another writer stored the same content, or removed the document: look again

    async def _stored(self, content: Content, labels: Labels) -> Document | None:
        row = await self._database.fetchrow(
            self._find, self._tenant, labels.collection, content.source, labels.user_id, repeat=Repeat.READ
        )
        return document_of(row) if row is not None else None

    async def _relabel(self, document: Document, labels: Labels) -> Document | None:
        """The document with the title and metadata given, where they are news; None when it is gone."""
        title = labels.title if labels.title != document.title else None
        metadata = labels.metadata or {}
        if title is None and {**document.metadata, **metadata} == document.metadata:
            return replace(document, status="unchanged")
        row = await self._writer.relabel(document.id, title, metadata)
        if row is None:
            return None
        return replace(
            document,
            title=row["title"],
            metadata=loads_exact(row["metadata"]),
            updated_at=row["updated_at"],
            status="updated",
        )

    def _labels(
        self,
        collection: str,
        user_id: str | None,
        title: str | None,
        media_type: str | None,
        metadata: Mapping[str, Any] | None,
    ) -> Labels:
        return Labels(
            identifier(collection, "collection"),
            self._user(user_id),
            None if title is None else identifier(clean_text(title, "title", limit=MAX_TITLE), "title"),
            optional_identifier(media_type, "media_type"),
            checked_metadata(metadata),
        )

    # -- searching

    async def search(
        self,
        query: str,
        *,
        collection: str | None = None,
        user_id: str | None = None,
        limit: int = 8,
        filter: Mapping[str, Any] | None = None,
    ) -> builtins.list[Hit]:
        """Passages that answer the query, the best first, each with its citation.

        Raises:
            ConfigurationError: this object was made without a search.
            InvalidInputError: a filter that makes no sense.
        """
        if self._search_store is None:
            raise ConfigurationError("Searching needs the whole store: open it with MemoryCore.open.")
        return await self._search_store(query, collection=collection, user_id=user_id, limit=limit, filter=filter)


@dataclass(slots=True)
class _Tally:
    """Counts outcomes and tells of each."""

    total: int
    on_progress: Callable[[Progress], None] | None
    counts: Counter[str] = field(default_factory=Counter)
    failures: builtins.list[tuple[str, str]] = field(default_factory=builtins.list)

    def done(self, name: str, status: Outcome, reason: str | None = None) -> None:
        self.counts[status] += 1
        if reason is not None:
            self.failures.append((name, reason))
        if self.on_progress is not None:
            self.on_progress(Progress(self.counts.total(), self.total, name, status, reason))

    def report(self) -> AddReport:
        counts = self.counts
        return AddReport(counts["added"], counts["updated"], counts["unchanged"], self.failures)


async def _all_or_first_error(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all to the end; the first error ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _path(path: object) -> PathLike:
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str) or not str(path):
        raise InvalidInputError("path must be the path of a file, as text or as a Path.")
    return path


def _of_text(text: str, source: str | None) -> Content:
    text = clean_text(text, "text", limit=MAX_BYTES)
    if not text.strip():
        raise InvalidInputError("text is empty: there is nothing to find in it.")
    return in_memory(text, source=source)


def _of_data(data: object, source: str | None) -> Content:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidInputError(f"data must be bytes, not {type(data).__name__}: pass a text as text=.")
    return in_memory(bytes(data), source=source)


def _source(source: object) -> str:
    if source == "":
        raise InvalidInputError("source is empty: leave it out, or name where the document is from.")
    return clean_text(source, "source", limit=MAX_SOURCE)


def _extensions() -> frozenset[str]:
    from memory_plugin.parsers import EXTENSIONS

    return frozenset(EXTENSIONS)
