"""PDF: the text of each page, by pypdf."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from memory_plugin.errors import DocumentError, MemoryPluginError
from memory_plugin.parsers.base import Extract, ParseLimits, TextWriter, label, missing, too_large

if TYPE_CHECKING:
    from pypdf import PdfReader

_LIGATURES = str.maketrans(
    {
        "\ufb00": "ff",
        "\ufb01": "fi",
        "\ufb02": "fl",
        "\ufb03": "ffi",
        "\ufb04": "ffl",
        "\u00a0": " ",
        "\x0c": "\n",
    }
)
_HYPHEN_AT_LINE_END = re.compile(r"(?<=[a-zà-öø-ÿ])[-\u00ad]\n(?=[a-zà-öø-ÿ])")
_LINE_END_SPACE = re.compile(r"[ \t]+\n")
_FILE_TITLE = re.compile(
    r"(?:untitled|microsoft (?:word|powerpoint) - .*|.*\.(?:docx?|pdf|pptx?|tex|dvi|indd))$", re.IGNORECASE
)


def parse_pdf(data: bytes, *, name: str, limits: ParseLimits) -> Extract:
    """The text of a PDF, each page a block with its number; words divided at line ends are joined.

    Raises:
        ContentTooLargeError: more pages or text than allowed.
        DocumentError: broken, protected by a password, or without text (a scan).
        UnsupportedError: pypdf isn't installed, or the encryption needs another package.
    """
    try:
        import pypdf
    except ImportError as error:
        raise missing("pypdf", "PDF") from error
    _quiet()
    writer = TextWriter(name, limits)
    with _broken(name):
        reader = pypdf.PdfReader(io.BytesIO(data), strict=False)
        _unlock(reader, name)
        pages = len(reader.pages)
        if pages > limits.max_pages:
            raise too_large(name, "pages", limits.max_pages)
        for number in range(pages):
            writer.add(_page_text(reader.pages[number].extract_text()), page=number + 1)
        title = _title(reader)
    if not writer.blocks:
        raise DocumentError(
            f"'{label(name)}' holds no text, only pictures of {pages} page{'s' * (pages != 1)}; run OCR on it first.",
            name=name,
        )
    return Extract(writer.text, writer.blocks, "application/pdf", title=title, metadata={"pages": pages})


def _quiet() -> None:
    """Keep pypdf's remarks on sloppy files off the terminal, unless the application asked for them."""
    logger = logging.getLogger("pypdf")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


@contextmanager
def _broken(name: str) -> Iterator[None]:
    from pypdf.errors import DependencyError

    try:
        yield
    except MemoryPluginError:
        raise
    except DependencyError as error:
        raise missing("cryptography", f"the encryption of '{label(name)}'") from error
    except Exception as error:  # broken files make pypdf raise nearly anything, as its docs say
        reason = label(str(error)).rstrip(".") or type(error).__name__
        raise DocumentError(
            f"'{label(name)}' is not a readable PDF ({reason}); save it again from a PDF viewer.", name=name
        ) from error


def _unlock(reader: PdfReader, name: str) -> None:
    # many files are encrypted with an empty password, only to forbid printing
    if reader.is_encrypted and not reader.decrypt(""):
        raise DocumentError(
            f"'{label(name)}' is protected by a password; save a copy without one and add that.", name=name
        )


def _page_text(text: str) -> str:
    text = _LINE_END_SPACE.sub("\n", text.translate(_LIGATURES))
    return _HYPHEN_AT_LINE_END.sub("", text).replace("\u00ad", "").strip()


def _title(reader: PdfReader) -> str | None:
    title = reader.metadata.title if reader.metadata else None
    title = title.strip() if isinstance(title, str) else ""
    return title if title and not _FILE_TITLE.match(title[:500]) else None
