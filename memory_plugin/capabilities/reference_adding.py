"""Adding reference documents: one by one, or very many, a few at a time."""

from __future__ import annotations

import asyncio
import builtins
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from memory_plugin.capabilities.reference_files import (
    MAX_BYTES,
    Content,
    PathLike,
    find_files,
    in_memory,
    is_url,
    path_text,
    read_file,
)
from memory_plugin.capabilities.reference_loading import gathered, pages_content
from memory_plugin.capabilities.reference_parts import bundles_among, parts_of
from memory_plugin.capabilities.reference_preparing import MAX_TITLE, Parser, Prepared, checked_metadata, prepare
from memory_plugin.capabilities.reference_reader import DOCUMENT, ReferenceAccess, document_of
from memory_plugin.capabilities.reference_web import Fetcher
from memory_plugin.capabilities.reference_writer import Labels, ReferenceWriter
from memory_plugin.db.database import Database, Repeat
from memory_plugin.errors import DocumentError, InvalidInputError, UnsupportedError
from memory_plugin.jsonable import loads_exact
from memory_plugin.types import Document
from memory_plugin.validation import MAX_IDENTIFIER, clean_text, identifier, optional_identifier, positive_limit

Outcome = Literal["added", "updated", "unchanged", "failed"]

MAX_SOURCE = 2 * MAX_IDENTIFIER
"""Characters a source may have."""

MAX_CONCURRENCY = 32

ROOM = 256 * 1024 * 1024
"""Bytes that documents being read may take together, by `reading_cost`; a larger one is read alone."""

_FIND = f"""{DOCUMENT}
WHERE d.tenant_id = $1 AND d.collection = $2 AND d.source = $3 AND coalesce(d.user_id, '') = coalesce($4, '')
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """One more file of `add_many` is done: `done` of `total`, which is None where a loader does not say.

    `reason` says why it failed, `notices` what was read with it and what was left out.
    """

    done: int
    total: int | None
    name: str
    status: Outcome
    reason: str | None = None
    notices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class AddReport:
    """What became of the files: how many by outcome, and the name and reason of each that failed.

    `notices` say of an API description in several files, by its name, what was read with it and what was not.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: Sequence[tuple[str, str]] = ()
    notices: Sequence[tuple[str, str]] = ()


class ReferenceAdder(ReferenceAccess):
    """Stores documents, each as the next version of what is there under its source."""

    def __init__(self, database: Database, *, tenant: str, user_id: str | None = None) -> None:
        super().__init__(database, tenant=tenant, user_id=user_id)
        self._changed: Callable[[], None] | None = None
        self._parser: Parser | None = None
        self._fetcher = Fetcher()
        self._writer = ReferenceWriter(database, tenant=tenant)
        self._find = database.sql(_FIND)

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
            path: of a file, or a URL that MEMORY_REFERENCE_URLS allows.
            title: by default what the document calls itself, else its name.
            source: a name that stays the same through versions. By default the absolute path or the
                URL; a text or data without one is known by its content, so that another text is
                another document.
            media_type: by default told from the name and the content.
            metadata: added to what earlier versions had, and to what the parser finds.

        Raises:
            InvalidInputError: not exactly one content, a URL that is not allowed, or an argument
                that cannot be stored.
            ContentTooLargeError: over a limit.
            DocumentError: the file cannot be read, fetched or parsed, or has no text.
            UnsupportedError: the package for its format is not installed.
        """
        if sum(value is not None for value in (path, text, data)) != 1:
            raise InvalidInputError("Give exactly one of path, text and data.")
        labels = self._labels(collection, user_id, title, media_type, metadata)
        source = None if source is None else _source(source)
        if isinstance(path, str) and is_url(path):
            content = await self._fetcher.fetch(path, source)
        elif path is not None:
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
        """Store files, folders with all below them, glob patterns and URLs; one bad file stops nothing.

        In folders and patterns hidden files and unknown kinds are passed over. A run that was cut
        short is taken up by running it again: what is stored is skipped by its hash. At most
        `concurrency` documents are in memory at once, and a large one by itself. The files that an API
        description refers to are read with it, and are no documents of their own in folders and patterns,
        unless they say that they are descriptions or schemas.

        Args:
            on_progress: called on the event loop after each file.
            executor: where to parse. By default threads, which are safe everywhere; a
                `ProcessPoolExecutor` uses more than one core, where the program can start processes.

        Raises:
            DatabaseError: the database failed, so that going on is of no use.
            InvalidInputError: an argument that cannot be stored.
        """
        labels = self._labels(collection, user_id, None, None, metadata)
        workers = _concurrency(concurrency)
        named = paths if isinstance(paths, str | os.PathLike) else builtins.list(paths)
        found = await asyncio.to_thread(lambda: find_files(named, _extensions()))
        bundles = await asyncio.to_thread(bundles_among, found.files)
        fragments = bundles.fragments - found.named
        files = [file for file in found.files if not fragments or file.resolve() not in fragments]
        places: builtins.list[Path | str] = [*files, *found.urls]
        tally = _Tally(len(places) + len(found.problems), on_progress)
        for name, reason in found.problems:
            tally.done(name, "failed", reason)
        waiting = iter(places)
        room = _Room(ROOM)

        async def work() -> None:
            for place in waiting:
                name = place if isinstance(place, str) else path_text(place)
                more = bundles.sizes.get(place, 0) if isinstance(place, Path) else 0
                async with room.taken(reading_cost(place, more)):
                    await self._one_of_many(tally, name, partial(self._content, place), labels, executor)

        await _all_or_first_error([work() for _ in range(min(workers, len(places)))])
        return tally.report()

    async def add_documents(
        self,
        documents: object,
        *,
        collection: str = "default",
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> AddReport:
        """Store LangChain documents, or all that a document loader gives; one bad document stops nothing.

        Documents that follow one another with the same `source` in their metadata are the pages of one
        reference document, which is known by that source: loaded again, it is the next version of it.
        What the metadata of all of them agree on becomes the metadata of the document, the rest that of
        the passages; `page` (from 0) or `page_number` (from 1) is cited. Without a source a document is
        known by its `id`, else by its text.

        Args:
            documents: an iterable or async iterable of objects with `page_content` and `metadata`, or
                a loader with `alazy_load`, `lazy_load` or `load`.
            on_progress: called on the event loop after each source.

        Raises:
            DatabaseError: the database failed, so that going on is of no use.
            InvalidInputError: neither documents nor a loader, or an argument that cannot be stored.
        """
        labels = self._labels(collection, user_id, None, None, metadata)
        tally = _Tally(None, on_progress)
        seen: set[str] = set()
        async for group in gathered(documents):
            if group.source in seen:
                reason = "Its parts came with other sources between them: let those of one source follow one another."
                tally.done(group.name, "failed", reason)
                continue
            seen.add(group.source)
            own = labels._replace(metadata={**group.metadata, **(labels.metadata or {})}, title=group.title)
            await self._one_of_many(tally, group.name, partial(_in_thread, pages_content, group), own, None)
        return tally.report()

    async def _one_of_many(
        self,
        tally: _Tally,
        name: str,
        read: Callable[[], Coroutine[Any, Any, Content]],
        labels: Labels,
        executor: Executor | None,
    ) -> None:
        """Add one of many documents: what is wrong with it is noted and stops nothing."""
        try:
            content = await read()
            document = await self._add(content, labels, executor)
        except (InvalidInputError, DocumentError, UnsupportedError) as error:
            tally.done(name, "failed", str(error))
        else:
            tally.done(name, document.status or "unchanged", notices=content.notices)

    async def _content(self, place: Path | str) -> Content:
        if isinstance(place, str):
            content = await self._fetcher.fetch(place)
            content.notices = (await asyncio.to_thread(parts_of, None, content.data)).notices
            return content
        return await asyncio.to_thread(read_file, place)

    async def _add(self, content: Content, labels: Labels, executor: Executor | None = None) -> Document:
        prepared: Prepared | None = None
        while True:
            stored = await self._stored(content, labels)
            if stored is not None and stored.content_hash == content.digest.hex():
                document = await self._relabel(stored, labels)
            else:
                if prepared is None:
                    media_type = labels.media_type or content.media_type
                    work = partial(prepare, self._parser, content, media_type, labels.title)
                    prepared = await asyncio.get_running_loop().run_in_executor(executor, work)
                    content.forget_data()  # also where a process had a copy
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


def reading_cost(place: Path | str, more: int = 0) -> int:
    """About how many bytes of memory it takes to read a file: its size, by how its kind is held; 0 if unknown.

    Args:
        more: bytes of other files that are read with it.
    """
    if isinstance(place, str):
        return MAX_BYTES
    try:
        size = place.stat().st_size
    except (OSError, ValueError):
        return 0  # reading it will say what is wrong
    return 8 * more + size * (3 if place.suffix.lower() in {".md", ".markdown", ".txt", ".text", ".log", ".pdf"} else 8)


class _Room:
    """So many bytes for all who read; one who needs more gets all of it, alone."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def taken(self, wanted: int) -> AsyncIterator[None]:
        """Wait for room, and give it back."""
        share = min(wanted, self._size)
        async with self._changed:
            await self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            async with self._changed:
                self._free += share
                self._changed.notify_all()


@dataclass(slots=True)
class _Tally:
    """Counts outcomes and tells of each."""

    total: int | None
    on_progress: Callable[[Progress], None] | None
    counts: Counter[str] = field(default_factory=Counter)
    failures: builtins.list[tuple[str, str]] = field(default_factory=builtins.list)
    notices: builtins.list[tuple[str, str]] = field(default_factory=builtins.list)

    def done(self, name: str, status: Outcome, reason: str | None = None, notices: Sequence[str] = ()) -> None:
        self.counts[status] += 1
        if reason is not None:
            self.failures.append((name, reason))
        self.notices.extend((name, notice) for notice in notices)
        if self.on_progress is not None:
            self.on_progress(Progress(self.counts.total(), self.total, name, status, reason, notices))

    def report(self) -> AddReport:
        counts = self.counts
        return AddReport(counts["added"], counts["updated"], counts["unchanged"], self.failures, self.notices)


async def _all_or_first_error(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all to the end; the first error ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _in_thread(function: Callable[[Any], Content], argument: object) -> Content:
    return await asyncio.to_thread(function, argument)


def _concurrency(concurrency: int) -> int:
    if not 1 <= positive_limit(concurrency, "concurrency") <= MAX_CONCURRENCY:
        raise InvalidInputError(f"concurrency must be from 1 to {MAX_CONCURRENCY}, not {concurrency}.")
    return concurrency


def _path(path: object) -> PathLike:
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str) or not str(path):
        raise InvalidInputError("path must be the path of a file, as text or as a Path.")
    return path


def _of_text(text: str, source: str | None) -> Content:
    text = clean_text(text, "text", limit=MAX_BYTES)
    if not text or text.isspace():
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
