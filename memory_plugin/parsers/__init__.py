"""Documents -> text and chunks. One module per format; `parse` finds the right one.

Everything here is plain computation on what the caller hands over: no network, no file system. The
packages that read PDF, Markdown and YAML load when the first such document comes along.
"""

from __future__ import annotations

from collections.abc import Iterator

from memory_plugin.chunking import iter_chunks
from memory_plugin.errors import DocumentError
from memory_plugin.parsers.base import Extract, ParseLimits, clean_value, label, too_large
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

__all__ = ["EXTENSIONS", "ParseLimits", "parse", "supported_extensions"]

# the file name endings whose format is known, lower-case, with the dot
EXTENSIONS: frozenset[str] = frozenset(EXTENSION_FORMATS)

_DEFAULT_LIMITS = ParseLimits()


def supported_extensions() -> tuple[str, ...]:
    """`EXTENSIONS` in order. A file with any other name is read too when it looks like text."""
    return tuple(sorted(EXTENSIONS))


def parse(
    data: bytes | str,
    *,
    name: str,
    media_type: str | None = None,
    title: str | None = None,
    limits: ParseLimits = _DEFAULT_LIMITS,
) -> ParsedDocument:
    """Read a document and cut it into chunks, each of them `document.text[chunk.start:chunk.end]`.

    The format follows from the first bytes, then `media_type` (whose `charset` is believed), then the
    extension in `name`, then the look of the text. For Markdown, reStructuredText, code and plain
    text, `document.text` is the file as it was written; for other formats what could be extracted.
    `title` wins over what the document calls itself; failing both it is the name of the file.

    CPU only and safe in threads: a coroutine calls it in a worker.

    Raises:
        ContentTooLargeError: over one of the `limits`.
        DocumentError: empty, broken, protected, binary, or in an encoding that cannot be told.
        UnsupportedError: the package that reads this format isn't installed.
    """
    size = len(data) if isinstance(data, bytes) else _utf8_size(data)
    if size > limits.max_bytes:
        raise too_large(name, "bytes", limits.max_bytes, "max_bytes")
    extract, encoding = _extract(data, name, media_type, limits)
    if len(extract.text) > limits.max_characters:
        raise too_large(name, "characters", limits.max_characters, "max_characters")
    chunks = list(_chunks(extract, name, limits))
    if not chunks:
        raise DocumentError(f"'{label(name)}' holds no text.", name=name)
    metadata = {"encoding": encoding, **extract.metadata} if encoding else dict(extract.metadata)
    return ParsedDocument(
        title=label(title or "") or label(extract.title or "") or label(stem(name)) or "Untitled",
        media_type=extract.media_type,
        text=extract.text,
        chunks=chunks,
        metadata=clean_value(metadata),
    )


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _chunks(extract: Extract, name: str, limits: ParseLimits) -> Iterator[Chunk]:
    for number, chunk in enumerate(iter_chunks(extract.text, extract.blocks, numbered=extract.numbered)):
        if number >= limits.max_chunks:
            raise too_large(name, "chunks", limits.max_chunks, "max_chunks")
        yield chunk


def _extract(data: bytes | str, name: str, media_type: str | None, limits: ParseLimits) -> tuple[Extract, str | None]:
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
    text, encoding = decode(data, name=name, charset=charset)
    if not text.strip():
        raise DocumentError(f"'{label(name)}' is empty.", name=name)
    extract = _extract_text(text, found or by_look(text, bare_type), name, bare_type, limits)
    return extract, encoding if isinstance(data, bytes) else None


def _extract_binary(data: bytes, found: Format, name: str, limits: ParseLimits) -> Extract:
    if found == "pdf":
        from memory_plugin.parsers.pdf import parse_pdf

        return parse_pdf(data, name=name, limits=limits)
    from memory_plugin.parsers.docx import parse_docx

    return parse_docx(data, name=name, limits=limits)


def _extract_text(text: str, found: Format, name: str, media_type: str, limits: ParseLimits) -> Extract:
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
    if found in ("json", "jsonl", "yaml"):
        from memory_plugin.parsers.structured import parse_json, parse_json_lines, parse_yaml

        parser = {"json": parse_json, "jsonl": parse_json_lines, "yaml": parse_yaml}[found]
        return parser(text, name=name, limits=limits)
    if found == "code":
        from memory_plugin.parsers.code import parse_code

        return parse_code(text, language_of(extension(name), media_type))
    from memory_plugin.parsers.plain import parse_plain

    return parse_plain(text)
