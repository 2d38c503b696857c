"""Documents of LangChain and what its loaders give, known by their shape: nothing of it is imported.

A loader gives a document page by page, row by row or whole. What follows one another under one source
is put together again, so that a page that is gone by the next run is gone from the search too.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from memory_plugin.capabilities.reference_files import MAX_BYTES, Content
from memory_plugin.capabilities.reference_preparing import MAX_TITLE, plain_metadata
from memory_plugin.errors import ContentTooLargeError, InvalidInputError
from memory_plugin.parsers.base import PageText
from memory_plugin.validation import MAX_IDENTIFIER, clean_text, replace_unstorable

_SOURCES = ("source", "file_path", "url")
_PAGES = (("page_number", 0), ("page", 1))
"""Where loaders write the page, and what is to be added to count from 1."""

_PLACES = frozenset({*_SOURCES, "page", "page_number", "page_label", "total_pages", "start_index", "title"})
"""What says where a part stands, not what it is: it never makes a part a passage of its own."""

_END = object()


@dataclass(frozen=True, slots=True)
class Part:
    """One document of a loader."""

    text: str
    metadata: Mapping[str, Any]
    source: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """What came under one source: the name to report it by, and what all of its parts agree on."""

    source: str
    name: str
    title: str | None
    metadata: dict[str, Any]
    parts: list[Part]


async def gathered(documents: object) -> AsyncIterator[Group]:
    """The documents by source, as they come: those of one source are held until another begins.

    Raises:
        InvalidInputError: neither documents nor a loader.
    """
    parts: list[Part] = []
    async for document in _each(documents):
        part = _part(document)
        if parts and (part.source is None or part.source != parts[0].source):
            yield _group(parts)
            parts = []
        parts.append(part)
    if parts:
        yield _group(parts)


def pages_content(group: Group) -> Content:
    """The parts of one source as the content of a document; each is hashed with its page and metadata.

    Raises:
        InvalidInputError: nothing to find in it, or a source that cannot be stored.
        ContentTooLargeError: over the size that a document may have.
    """
    source = clean_text(group.source, "source", limit=2 * MAX_IDENTIFIER)
    pages = [
        PageText(
            part.text,
            _page(part.metadata),
            {key: value for key, value in part.metadata.items() if key not in group.metadata and key not in _PLACES},
        )
        for part in group.parts
    ]
    if all(not page.text or page.text.isspace() for page in pages):
        raise InvalidInputError(f"{group.name[:200]!r} is empty: there is nothing to find in it.")
    if sum(len(page.text) for page in pages) > MAX_BYTES:
        raise ContentTooLargeError(
            f"{group.name[:200]!r} is larger than the {MAX_BYTES // 1024**2} MiB a document may have: "
            "split it; nothing was written."
        )
    digest = hashlib.sha256()
    for page in pages:
        digest.update(orjson.dumps((page.text, page.page, page.metadata), option=orjson.OPT_SORT_KEYS))
    return Content("", group.name, source, digest.digest(), pages=pages)


async def _each(documents: object) -> AsyncIterator[object]:
    """What a loader or an iterable gives, one by one; a loader that blocks does so in a thread."""
    load = getattr(documents, "alazy_load", None)
    if callable(load):
        documents = load()
    else:
        load = getattr(documents, "lazy_load", None) or getattr(documents, "load", None)
        if callable(load):
            documents = await asyncio.to_thread(load)
    if isinstance(documents, AsyncIterable):
        async for document in documents:
            yield document
    elif isinstance(documents, Iterable) and not isinstance(documents, str | bytes | Mapping):
        waiting: Iterator[object] = iter(documents)
        while (document := await asyncio.to_thread(next, waiting, _END)) is not _END:
            yield document
    else:
        raise InvalidInputError(
            f"documents must be LangChain documents or a loader of them, not {type(documents).__name__}."
        )


def _part(document: object) -> Part:
    text = getattr(document, "page_content", None)
    if not isinstance(text, str):
        raise InvalidInputError(
            f"A document must have its text in page_content, which {type(document).__name__} has not."
        )
    given = getattr(document, "metadata", None)
    metadata = plain_metadata(given) if isinstance(given, Mapping) else {}
    source = next((str(metadata[key]) for key in _SOURCES if metadata.get(key)), None) or getattr(document, "id", None)
    return Part(replace_unstorable(text), {key: metadata[key] for key in metadata if key}, source or None)


def _group(parts: list[Part]) -> Group:
    first = parts[0]
    source = first.source or f"text:{hashlib.sha256(first.text.encode()).hexdigest()[:32]}"
    shared = {
        key: value
        for key, value in first.metadata.items()
        if all(key in part.metadata and part.metadata[key] == value for part in parts)
    }
    title = shared.get("title")
    return Group(
        source=source,
        name=source,
        title=title[:MAX_TITLE].strip() or None if isinstance(title, str) else None,
        metadata={key: value for key, value in shared.items() if key not in _PLACES},
        parts=parts,
    )


def _page(metadata: Mapping[str, Any]) -> int | None:
    for key, add in _PAGES:
        value = metadata.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value + add < 2**31:
            return value + add
    return None
