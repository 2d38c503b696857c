"""Bytes -> text, without ever guessing wrong in silence.

In order: a byte-order mark, valid UTF-8, the encoding that was declared, then a guess that is taken
only when it is unambiguous. Otherwise the document is refused with a sentence that says how to name
its encoding: text that was decoded wrongly can't be found and can't be repaired later.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from memory_plugin.errors import DocumentError
from memory_plugin.parsers.base import clean, label, missing

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

# The letters beyond ASCII of one language each: text in windows-1252 keeps within one of these lines.
_WESTERN_ALPHABETS = tuple(
    frozenset(letters)
    for letters in (
        "àâæçéèêëîïôœöùûüÿÀÂÆÇÉÈÊËÎÏÔŒÙÛÜŸñÑ",
        "äöüßÄÖÜéàèêÉ",
        "áéíóúñüçÁÉÍÓÚÑÜªº",
        "àèéìîòóùÀÈÉÌÒÓÙªº",
        "áâãàçéêíóôõúüÁÂÃÀÇÉÊÍÓÔÕÚÜªº",
        "åäöæøéÅÄÖÆØÉ",
        "ëïéèöüáóíúçÉ",
        "àçéèíïòóúüÀÇÉÈÍÏÒÓÚÜ",
    )
)
_WESTERN_MARKS = frozenset("\xa0¡£§©«®°·»¿½¼¾²³µ±×÷–—‘’“”„•…€™")
_WORD_WITH_MARK = re.compile(r"[^\W\d_][¡£§©«®°»¿½¼¾±×÷‘“”„•…€™][^\W\d_]")
_THREE_FOREIGN = re.compile(r"[^\W\d_a-zA-Z]{3}")
_SINGLE_BYTE = ("cp1250", "cp1251", "koi8_r", "cp866", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257")
_MULTI_BYTE = ("cp932", "euc_jp", "gb18030", "big5", "cp949")


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
        raise not_text(name)
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


def _declared_in(data: bytes) -> str | None:
    match = _DECLARED.search(data[:2048])
    return match.group(1).decode("ascii") if match else None


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return None if codecs.lookup(encoding).name in _NO_CHARSET else data.decode(encoding)
    except (UnicodeError, LookupError):  # LookupError: no such encoding, or one that isn't for text
        return None


def _guessed(data: bytes, name: str) -> tuple[str, str]:
    western = _try(data, "cp1252")
    if western is not None and _is_western(western):
        return western, "cp1252"
    encoding = _detect(data)
    text = _try(data, encoding) if encoding else None
    if encoding is None or text is None:
        raise DocumentError(
            f"The encoding of '{label(name)}' cannot be told; save it as UTF-8, or name the encoding with "
            "media_type='text/plain; charset=...'.",
            name=name,
        )
    return text, encoding


def _is_western(text: str) -> bool:
    """Whether text decoded as windows-1252 reads like one Western language, not like another code page."""
    letters = {character for character in set(text) - _WESTERN_MARKS if not character.isascii()}
    if not any(letters <= alphabet for alphabet in _WESTERN_ALPHABETS):
        return False
    foreign = sum(text.count(letter) for letter in letters)
    ascii_letters = sum(map(str.isalpha, text)) - foreign
    return not (foreign * 2 > ascii_letters or _THREE_FOREIGN.search(text) or _WORD_WITH_MARK.search(text))


def _detect(data: bytes) -> str | None:
    """The one encoding that fits much better than any other, None where there is no such thing."""
    try:
        from charset_normalizer import from_bytes
    except ImportError as error:
        raise missing("charset-normalizer", "text that is not UTF-8") from error
    sample = b"".join(_lines_beyond_ascii(data))
    matches = list(from_bytes(sample, cp_isolation=[*_SINGLE_BYTE, *_MULTI_BYTE]))
    if not matches:
        return None
    best = matches[0]
    text = str(best)
    beyond = [character for character in text if not character.isascii()]
    letters = sum(map(str.isalpha, beyond))
    if letters < 16 or letters < 0.7 * len(beyond) or best.chaos > 0.1:
        return None
    if best.encoding in _SINGLE_BYTE and best.coherence < 0.1:
        return None
    for other in matches[1:]:
        close = other.chaos < best.chaos + 0.05 and other.coherence > best.coherence - 0.1
        if close and str(other) != text:
            return None
    return best.encoding


def _lines_beyond_ascii(data: bytes) -> Iterator[bytes]:
    """The lines that tell encodings apart, up to a sample's size."""
    size = 0
    for line in data.split(b"\n"):
        if not line.isascii():
            yield line[:_SAMPLE] + b"\n"
            size += len(line)
            if size >= _SAMPLE:
                return


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
