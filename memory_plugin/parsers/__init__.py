"""Documents -> text and chunks. One module per format; `parse` finds the right one.

Everything here is plain computation on what the caller hands over: no network, no file system. The
packages that read PDF, Markdown and YAML load when the first such document comes along.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memory_plugin.chunking import DEFAULT_SIZES, ChunkSizes, iter_chunks
from memory_plugin.errors import DocumentError
from memory_plugin.parsers.base import Extract, PageText, ParseLimits, clean_value, label, too_large
from memory_plugin.parsers.decoding import decode
from memory_plugin.parsers.detect import (
    EXTENSION_FORMATS,
    Format,
    by_declaration,
    by_first_bytes,
    by_look,
    extension,
    language_of,
    media_type_parts,
    stem,
)
from memory_plugin.types import Chunk, ParsedDocument

__all__ = ["EXTENSIONS", "PageText", "ParseLimits", "Reading", "parse", "read", "read_pages", "supported_extensions"]

# the file name endings whose format is known, lower-case, with the dot
EXTENSIONS: frozenset[str] = frozenset(EXTENSION_FORMATS)

_DEFAULT_LIMITS = ParseLimits()

# one such character makes each character of a text take four bytes
_WIDE = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}")
# formats that are cut where they stand, line by line, and so cost little more than their text
_AS_IT_STANDS: frozenset[Format] = frozenset({"text", "markdown", "code"})


def supported_extensions() -> tuple[str, ...]:
    """`EXTENSIONS` in order. A file with any other name is read too when it looks like text."""
    return tuple(sorted(EXTENSIONS))


@dataclass(frozen=True, slots=True)
class Reading:
    """A document whose text is read; its chunks are cut while they are taken.

    Each chunk is `text[chunk.start:chunk.end]`.
    """

    name: str
    title: str
    media_type: str
    text: str
    metadata: Mapping[str, Any]
    _extract: Extract
    _limits: ParseLimits

    def chunks(self, sizes: ChunkSizes = DEFAULT_SIZES) -> Iterator[Chunk]:
        """The chunks in order; to be taken once.

        Raises:
            ContentTooLargeError: there are more than the limit.
        """
        extract = self._extract
        chunks = iter_chunks(extract.text, extract.blocks, sizes=sizes, numbered=extract.numbered)
        for number, chunk in enumerate(chunks):
            if number >= self._limits.max_chunks:
                raise too_large(self.name, "chunks", self._limits.max_chunks)
            yield chunk


def parse(
    data: bytes | str,
    *,
    name: str,
    media_type: str | None = None,
    title: str | None = None,
    limits: ParseLimits = _DEFAULT_LIMITS,
    sizes: ChunkSizes = DEFAULT_SIZES,
) -> ParsedDocument:
    """`read` a document and cut it into chunks, all at once.

    Raises:
        ContentTooLargeError, DocumentError, UnsupportedError: as `read` does; also where there is no text.
    """
    reading = read(data, name=name, media_type=media_type, title=title, limits=limits)
    chunks = list(reading.chunks(sizes))
    if not chunks:
        raise DocumentError(f"'{label(name)}' holds no text.", name=name)
    return ParsedDocument(reading.title, reading.media_type, reading.text, chunks, reading.metadata)


def read(
    data: bytes | str,
    *,
    name: str,
    media_type: str | None = None,
    title: str | None = None,
    limits: ParseLimits = _DEFAULT_LIMITS,
    parts: Mapping[str, bytes] | None = None,
) -> Reading:
    """The text of a document, ready to be cut into chunks.

    The format follows from the first bytes, then `media_type` (whose `charset` is believed), then the
    extension in `name`, then the look of the text. For Markdown, reStructuredText, code and plain
    text, the text is the file as it was written; for other formats what could be extracted.
    `title` wins over what the document calls itself; failing both it is the name of the file.
    `parts` are the files that an API description refers to, by the paths that lead there from its folder.

    CPU only and safe in threads: a coroutine calls it in a worker.

    Raises:
        ContentTooLargeError: over one of the `limits`.
        DocumentError: empty, broken, protected, binary, or in an encoding that cannot be told.
        UnsupportedError: the package that reads this format isn't installed.
    """
    size = len(data) if isinstance(data, bytes) else _utf8_size(data)
    if size > limits.max_bytes:
        raise too_large(name, "bytes", limits.max_bytes)
    extract, encoding = _extract(data, name, media_type, limits, size, parts or {})
    return _reading(extract, name, title, limits, {"encoding": encoding} if encoding else {})


def read_pages(
    pages: Sequence[PageText],
    *,
    name: str,
    media_type: str | None = None,
    title: str | None = None,
    limits: ParseLimits = _DEFAULT_LIMITS,
) -> Reading:
    """The texts of a document's parts as one document, each paragraph with the page and metadata of its part.

    A single part without page and metadata is read as a file of its name would be, where that is a kind of
    text; parts with metadata of their own make chunks of their own.

    Raises:
        ContentTooLargeError, DocumentError, UnsupportedError: as `read` does.
    """
    if len(pages) == 1 and pages[0].page is None and not pages[0].metadata:
        kind = by_declaration(name, media_type_parts(media_type)[0])
        if kind in _AS_IT_STANDS:
            return read(pages[0].text, name=name, media_type=media_type, title=title, limits=limits)
    from memory_plugin.parsers.plain import parse_pages

    extract = parse_pages(pages, name=name, media_type=media_type, limits=limits)
    return _reading(extract, name, title, limits, {})


def _reading(
    extract: Extract, name: str, title: str | None, limits: ParseLimits, metadata: Mapping[str, Any]
) -> Reading:
    return Reading(
        name=name,
        title=label(title or "") or label(extract.title or "") or label(stem(name)) or "Untitled",
        media_type=extract.media_type,
        text=extract.text,
        metadata=clean_value({**metadata, **extract.metadata}),
        _extract=extract,
        _limits=limits,
    )


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _extract(
    data: bytes | str, name: str, media_type: str | None, limits: ParseLimits, size: int, parts: Mapping[str, bytes]
) -> tuple[Extract, str | None]:
    """What the parser found, and the encoding of a text that came as bytes."""
    bare_type, charset = media_type_parts(media_type)
    if not data:
        raise DocumentError(f"'{label(name)}' is empty.", name=name)
    declared = by_declaration(name, bare_type)
    found = (by_first_bytes(data) if isinstance(data, bytes) else None) or declared
    if found in ("pdf", "docx"):
        if isinstance(data, str):
            raise DocumentError(f"'{label(name)}' came as text; pass the bytes of the {found.upper()} file.", name=name)
        return _extract_binary(data, found, name, limits), None
    if size > limits.max_wide_bytes and isinstance(data, bytes) and _WIDE.search(data):
        raise too_large(name, "bytes", limits.max_wide_bytes, "a text with emoji in it")
    text, encoding = decode(data, name=name, charset=charset)
    if not text or text.isspace():
        raise DocumentError(f"'{label(name)}' is empty.", name=name)
    found = found or by_look(text, bare_type)
    if found not in _AS_IT_STANDS and size > limits.max_rebuilt_bytes:
        raise too_large(name, "bytes", limits.max_rebuilt_bytes, f"a document of the kind {found!r}")
    extract = _extract_text(text, found, name, bare_type, limits, parts)
    return extract, encoding if isinstance(data, bytes) else None


def _extract_binary(data: bytes, found: Format, name: str, limits: ParseLimits) -> Extract:
    if found == "pdf":
        from memory_plugin.parsers.pdf import parse_pdf

        return parse_pdf(data, name=name, limits=limits)
    from memory_plugin.parsers.docx import parse_docx

    return parse_docx(data, name=name, limits=limits)


def _extract_text(
    text: str, found: Format, name: str, media_type: str, limits: ParseLimits, parts: Mapping[str, bytes]
) -> Extract:
    if found == "markdown":
        from memory_plugin.parsers.markdown import parse_markdown

        return parse_markdown(text)
    if found == "html":
        from memory_plugin.parsers.html import parse_html

        return parse_html(text, name=name, limits=limits)
    if found == "rst":
        from memory_plugin.parsers.rst import parse_rst

        return parse_rst(text)
    if found == "csv":
        from memory_plugin.parsers.tabular import parse_csv

        tabs = extension(name) == ".tsv" or media_type == "text/tab-separated-values"
        return parse_csv(text, name=name, limits=limits, delimiter="\t" if tabs else None)
    if found == "jsonl":
        from memory_plugin.parsers.structured import parse_json_lines

        return parse_json_lines(text, name=name, limits=limits)
    if found in ("json", "yaml"):
        from memory_plugin.parsers.structured import parse_json, parse_yaml

        parser = parse_json if found == "json" else parse_yaml
        return parser(text, name=name, limits=limits, parts=parts)
    if found == "code":
        from memory_plugin.parsers.code import parse_code

        return parse_code(text, language_of(extension(name), media_type))
    from memory_plugin.parsers.plain import parse_plain

    return parse_plain(text)
