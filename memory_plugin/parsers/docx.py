"""Word documents (.docx), read from their XML with the standard library.

The file is a ZIP archive. Only the few parts with text are opened, none beyond the limit on bytes
whatever the archive declares, and document type declarations, which Word never writes, are refused,
so that no entity can be expanded.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from xml.etree import ElementTree as ET

from memory_plugin.errors import DocumentError, MemoryPluginError
from memory_plugin.parsers.base import Extract, HeadingPath, ParseLimits, TextWriter, label, too_large
from memory_plugin.parsers.tabular import write_table

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT = b"http://purl.oclc.org/ooxml/wordprocessingml/main"
_TRANSITIONAL = b"http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_TITLE = "{http://purl.org/dc/elements/1.1/}title"
# other archives, by a part that only they have, and what to do with them
_OTHERS = {
    "xl/workbook.xml": "an Excel workbook; save each of its sheets as CSV",
    "ppt/presentation.xml": "a PowerPoint presentation; save it as PDF",
    "META-INF/container.xml": "an e-book; save it as HTML or PDF",
    "mimetype": "an OpenDocument file; save it as DOCX or PDF",
}
_ARCHIVE = "an archive without a Word document in it; add the files in it one by one"
_MAX_ENTRIES = 10_000
_CHUNK = 1 << 16
# what Word doesn't show: deleted text, field codes, the second copy of a drawing
_UNSEEN = frozenset({f"{_W}del", f"{_W}moveFrom", f"{_W}instrText", f"{_W}delText", f"{_W}pPr", f"{_W}rPr", _FALLBACK})
_CHARACTERS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-", f"{_W}p": "\n"}
# how zipfile reports an archive that is broken, encrypted or packed by a method it doesn't know
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
_HEADING = re.compile(r"heading\s*(\d)$", re.IGNORECASE)


class _Style(NamedTuple):
    level: int | None  # of the heading, from 1
    listed: bool
    is_title: bool


_PLAIN = _Style(None, False, False)


def parse_docx(data: bytes, *, name: str, limits: ParseLimits) -> Extract:
    """Headings, paragraphs, list items and tables of a Word document, then its notes.

    Raises:
        ContentTooLargeError: it unpacks to more than the limit.
        DocumentError: not a Word document, broken, or protected by a password.
    """
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise DocumentError(
            f"'{label(name)}' is an old Office file or protected by a password; save it as .docx without one.",
            name=name,
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = _Parts(archive, name, limits)
            return _extract(parts, name, limits)
    except MemoryPluginError:
        raise
    except (*_UNREADABLE, ET.ParseError) as error:
        raise _broken(name, label(str(error))) from error


def _broken(name: str, reason: str) -> DocumentError:
    return DocumentError(f"'{label(name)}' is not a readable Word document ({reason}); save it again.", name=name)


class _Parts:
    """The parts of the archive, unpacked within the limit."""

    def __init__(self, archive: zipfile.ZipFile, name: str, limits: ParseLimits) -> None:
        self._archive = archive
        self._name = name
        self._limit = self._left = min(limits.max_bytes, limits.max_rebuilt_bytes)
        entries = archive.infolist()
        if len(entries) > _MAX_ENTRIES:
            raise too_large(name, "parts", _MAX_ENTRIES)
        self._sizes = {entry.filename: entry.file_size for entry in entries}

    def __contains__(self, part: str) -> bool:
        return part in self._sizes

    def read(self, part: str) -> bytes:
        """Unpack a part; neither what it declares nor what it is may be over the limit."""
        if self._sizes[part] > self._left:
            raise too_large(self._name, "bytes when unpacked", self._limit)
        data = bytearray()
        with self._archive.open(part) as stream:
            while piece := stream.read(_CHUNK):
                data += piece
                if len(data) > self._left:
                    raise too_large(self._name, "bytes when unpacked", self._limit)
        self._left -= len(data)  # one allowance for all parts together
        for encoding in ("ascii", "utf-16-le", "utf-16-be"):
            if "<!DOCTYPE".encode(encoding) in data or "<!ENTITY".encode(encoding) in data:
                raise _broken(self._name, "it declares XML entities")
        return bytes(data).replace(_STRICT, _TRANSITIONAL)


def _extract(parts: _Parts, name: str, limits: ParseLimits) -> Extract:
    if "word/document.xml" not in parts:
        what = next((what for part, what in _OTHERS.items() if part in parts), _ARCHIVE)
        raise DocumentError(f"'{label(name)}' is {what}.", name=name)
    writer = TextWriter(name, limits)
    styles = _styles(parts.read("word/styles.xml")) if "word/styles.xml" in parts else {}
    body = _Body(writer, styles)
    body.read(parts.read("word/document.xml"))
    for part, heading in (("word/footnotes.xml", "Footnotes"), ("word/endnotes.xml", "Endnotes")):
        if part in parts:
            body.path = HeadingPath()
            body.path.enter(1, heading)
            body.read(parts.read(part))
    title = None
    if "docProps/core.xml" in parts:
        title = _tree(parts.read("docProps/core.xml")).findtext(_TITLE)
    if not writer.blocks:
        raise DocumentError(f"'{label(name)}' holds no text.", name=name)
    return Extract(writer.text, writer.blocks, MEDIA_TYPE, title=title or body.title)


def _tree(xml: bytes) -> ET.Element:
    return ET.fromstring(xml)  # noqa: S314  no declarations: `_Parts.read` refuses them


def _styles(xml: bytes) -> Mapping[str, _Style]:
    """What each paragraph style means, those it is based on included."""
    based: dict[str, str] = {}
    own: dict[str, _Style] = {}
    for style in _tree(xml).iter(f"{_W}style"):
        key = style.get(f"{_W}styleId", "")
        name = _value(style.find(f"{_W}name")) or ""
        based[key] = _value(style.find(f"{_W}basedOn")) or ""
        heading = _HEADING.match(name)
        level = int(heading[1]) if heading else _outline_level(style.find(f"{_W}pPr"))
        own[key] = _Style(level, name.lower().startswith("list "), name.lower() == "title")
    found: dict[str, _Style] = {}
    for key in own:
        base, hops = key, 0
        while own.get(base, _PLAIN) == _PLAIN and base in based and hops < 16:
            base, hops = based[base], hops + 1
        found[key] = own.get(base, _PLAIN)
    return found


def _value(element: ET.Element | None) -> str | None:
    return None if element is None else element.get(f"{_W}val")


def _outline_level(properties: ET.Element | None) -> int | None:
    value = _value(properties.find(f"{_W}outlineLvl")) if properties is not None else None
    return int(value) + 1 if value is not None and value in tuple("012345678") else None


class _Body:
    """Writes the paragraphs and tables of one part after the other."""

    def __init__(self, writer: TextWriter, styles: Mapping[str, _Style]) -> None:
        self.writer = writer
        self.styles = styles
        self.path = HeadingPath()
        self.title: str | None = None

    def read(self, xml: bytes) -> None:
        """Read a part as a stream, so that its tree is never there as a whole."""
        open_blocks = 0  # paragraphs and tables we are in: one may hold others
        container: ET.Element | None = None
        for event, element in ET.iterparse(io.BytesIO(xml), events=("start", "end")):  # noqa: S314  likewise
            if element.tag not in (f"{_W}p", f"{_W}tbl"):
                if container is None or element.tag == f"{_W}body":
                    container = element
                continue
            open_blocks += 1 if event == "start" else -1
            if event == "end" and not open_blocks:
                if element.tag == f"{_W}p":
                    self.paragraph(element)
                else:
                    self.table(element)
                element.clear()
                if container is not None:
                    container.clear()

    def paragraph(self, element: ET.Element) -> None:
        text = _text(element).strip()
        if not text:
            return
        properties = element.find(f"{_W}pPr")
        style = _PLAIN
        indent = 0
        listed = False
        if properties is not None:
            style = self.styles.get(_value(properties.find(f"{_W}pStyle")) or "", _PLAIN)
            numbering = properties.find(f"{_W}numPr")
            listed = numbering is not None or style.listed
            depth = _value(numbering.find(f"{_W}ilvl")) if numbering is not None else None
            indent = int(depth) if depth is not None and depth in tuple("012345678") else 0
        level = _outline_level(properties) or style.level
        if style.is_title:
            self.title = self.title or label(text)
        if level is not None:
            self.path.enter(level, text)
            self.writer.add(text, "heading", heading_path=self.path.path)
        elif listed:
            self.writer.add("  " * indent + "- " + text, "list", heading_path=self.path.path)
        else:
            self.writer.add(text, heading_path=self.path.path)

    def table(self, element: ET.Element) -> None:
        rows = [[_text(cell).strip() for cell in row.iterfind(f"{_W}tc")] for row in _below(element, f"{_W}tr")]
        rows = [row for row in rows if any(row)]
        if not rows:
            return
        if all(len(row) == 1 for row in rows):  # a frame around text
            for row in rows:
                self.writer.add(row[0], heading_path=self.path.path)
        else:
            write_table(self.writer, rows[0], ((None, row) for row in rows[1:]), self.path.path)


def _below(element: ET.Element, tag: str) -> Iterator[ET.Element]:
    """The rows of a table, also those inside a content control, but not those of a table in it."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag == f"{_W}sdt":
            for content in child.iterfind(f"{_W}sdtContent"):
                yield from content.iterfind(tag)


def _text(element: ET.Element) -> str:
    """The visible text below an element, without recursion: a file may nest its elements at will."""
    parts: list[str] = []
    stack = [iter(element)]
    while stack:
        child = next(stack[-1], None)
        if child is None:
            stack.pop()
        elif child.tag not in _UNSEEN:
            if child.tag == f"{_W}t":
                parts.append(child.text or "")
            else:
                if parts and child.tag in _CHARACTERS:
                    parts.append(_CHARACTERS[child.tag])
                stack.append(iter(child))
    return "".join(parts)
