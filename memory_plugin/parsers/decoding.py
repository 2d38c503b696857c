"""Bytes -> text, without ever guessing wrong in silence.

In order: a byte-order mark, valid UTF-8, the encoding that was declared, then a guess that is taken
only when it is unambiguous. Otherwise the document is refused with a sentence that says how to name
its encoding: text that was decoded wrongly can't be found and can't be repaired later.
"""

from __future__ import annotations

import codecs
import re

from memory_plugin.errors import DocumentError
from memory_plugin.parsers.base import clean, label
from memory_plugin.parsers.code_pages import guess

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(
    rb"""(?:<meta[^>]{0,200}charset|<\?xml[^>]{0,200}encoding)\s*=\s*["']?\s*([\w.:-]{2,40})""", re.IGNORECASE
)
# what browsers, too, read as windows-1252
_LATIN_1 = frozenset({"ascii", "us-ascii", "latin-1", "latin1", "iso-8859-1", "iso8859-1", "iso_8859-1", "l1"})
# codecs of Python that no document is written in
_NO_CHARSET = frozenset({"unicode_escape", "raw_unicode_escape", "utf-7", "idna", "punycode", "undefined", "charmap"})
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MAX_CONTROL_SHARE = 0.02
_SAMPLE = 65_536
_ZERO_SHARE, _LEAST_ZEROS = 0.9, 8


def decode(data: bytes | str, *, name: str, charset: str | None = None) -> tuple[str, str]:
    """The text of a document and the name of its encoding; a byte-order mark is left out.

    `charset` is what the sender declared; text that is already a `str` is only checked.

    Raises:
        DocumentError: not text, or in an encoding that cannot be told.
        UnsupportedError: the guess needs a package that isn't installed.
    """
    if isinstance(data, str):
        text, encoding = data.removeprefix("\ufeff"), "str"
    else:
        text, encoding = _decoded(data, name, charset)
    _refuse_binary(text, name)
    return clean(text), encoding


def _decoded(data: bytes, name: str, charset: str | None) -> tuple[str, str]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data[len(mark) :].decode(encoding), encoding
            except UnicodeDecodeError as error:
                at = error.start + len(mark)
                raise DocumentError(
                    f"'{label(name)}' is marked as {encoding.upper()} but broken at byte {at:,}; save it as UTF-8.",
                    name=name,
                ) from error
    declared = charset or _declared_in(data)
    wide = declared is not None and declared.lower().startswith(("utf-16", "utf-32", "utf16", "utf32"))
    if b"\x00" in data[:_SAMPLE] and not wide:
        return _unmarked(data, name)
    stateful = b"\x1b" in data and declared is not None  # ISO-2022: ASCII bytes that mean something else
    if not (stateful or wide) and (text := _try(data, "utf-8")) is not None:
        return text, "utf-8"
    if declared:
        encoding = "cp1252" if declared.lower() in _LATIN_1 else declared
        if (text := _try(data, encoding)) is not None:
            return text, encoding.lower()
    if (text := _try(data, "utf-8")) is not None:
        return text, "utf-8"
    return _guessed(data, name)


def _unmarked(data: bytes, name: str) -> tuple[str, str]:
    """UTF-16 without a byte-order mark, where it is plain: every second byte of Western text is zero, no other is."""
    even, odd = data[:_SAMPLE:2], data[1:_SAMPLE:2]
    for encoding, zeros, letters in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        plain = 0 not in letters and zeros.count(0) >= _ZERO_SHARE * len(zeros) >= _LEAST_ZEROS
        if plain and (text := _try(data, encoding)) is not None:
            return text, encoding
    raise not_text(name)


def _declared_in(data: bytes) -> str | None:
    match = _DECLARED.search(data[:2048])
    return match.group(1).decode("ascii") if match else None


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return None if codecs.lookup(encoding).name in _NO_CHARSET else data.decode(encoding)
    except (UnicodeError, LookupError):  # LookupError: no such encoding, or one that isn't for text
        return None


def _guessed(data: bytes, name: str) -> tuple[str, str]:
    encoding = guess(data)
    text = _try(data, encoding) if encoding else None
    if encoding is None or text is None:
        raise DocumentError(
            f"The encoding of '{label(name)}' cannot be told; save it as UTF-8, or name the encoding with "
            "media_type='text/plain; charset=...'.",
            name=name,
        )
    return text, encoding


def _refuse_binary(text: str, name: str) -> None:
    for sample in (text[:_SAMPLE], text):
        controls = sum(1 for _ in _CONTROL.finditer(sample))
        if controls > _MAX_CONTROL_SHARE * len(sample):
            raise not_text(name)


def not_text(name: str) -> DocumentError:
    """The error for a file of bytes that mean nothing to any parser."""
    return DocumentError(
        f"'{label(name)}' holds binary data that no parser reads; convert it to text, Markdown, HTML, PDF or DOCX.",
        name=name,
    )
