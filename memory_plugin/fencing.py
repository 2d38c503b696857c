"""Stored text on its way into a prompt: without what a person would not see, and unable to leave its fence."""

from __future__ import annotations

import re

FENCE = "memory-data"
"""The tag around stored text; stored text cannot contain it."""

_GAP = r"[\s\u200b-\u200f\u2060\ufeff]*"
_DELIMITER = re.compile(rf"<(?={_GAP}/?{_GAP}{_GAP.join(map(re.escape, FENCE))})", re.IGNORECASE)
# Control characters, direction overrides, and the tag block: a person does not see them, a model reads them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f\ud800-\udfff]"
)
_LINE_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")


def harmless(text: str) -> str:
    """Stored text as a prompt may carry it: no invisible characters, one kind of line break, no fence in it."""
    if text.isprintable() and "<" not in text:
        return text  # nothing of what is looked for below is printable
    text = _INVISIBLE.sub("", _LINE_BREAKS.sub("\n", text))
    return _DELIMITER.sub("&lt;", text)


def one_line(text: str, characters: int | None = None) -> str:
    """Harmless text on one line, cut to so many characters."""
    line = " ".join(harmless(text).split())
    return line if characters is None or len(line) <= characters else line[: max(characters - 1, 0)] + "…"


def fenced(text: str) -> str:
    """Text between the fences; what is stored in it must be harmless already."""
    return f"<{FENCE}>\n{text}\n</{FENCE}>"
