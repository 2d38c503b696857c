"""Names of speakers in queries."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_REMOVED = "\ufdd0"  # a noncharacter: stands where a name was until the sentence is tidied
# Thai to Khmer, kana, Han: scripts without spaces, where a name ends without a word border
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_TIDY: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"[(\[\"'“‘]\s*{_REMOVED}\s*[)\]\"'”’]"), _REMOVED),  # quotes or brackets left empty
    # the comma of an enumeration or an address
    (re.compile(rf"{_REMOVED}\s*[,:]|,\s*{_REMOVED}(?=\s*(?:[.?!]|$))"), _REMOVED),
    (re.compile(rf"\s*{_REMOVED}\s*(?=[,.;:?!)\]])|(?<=[(\[])\s*{_REMOVED}\s*"), ""),
    (re.compile(rf"\s*{_REMOVED}\s*"), " "),
    (re.compile(r"\s+"), " "),
)


def strip_names(text: str, names: Iterable[str]) -> str:
    """The query without the names of known speakers, for embedding.

    A name in a query pulls in every text that mentions the name, whatever the question was: who spoke
    is better matched as a field of its own. Whole words are removed in any case, with a possessive
    or contraction ("Ann's", "James'", "Ann'll") and an "@" before them; the punctuation and spaces
    around are tidied. Without a match, or if no word would be left, the text comes back unchanged.
    """
    plain = unicodedata.normalize("NFC", text)
    folded = " ".join(plain.casefold().split())
    # a substring test rules out almost every name, so that the pattern stays small
    present = {name for name in map(_plain_name, names) if name and name.casefold() in folded}
    if not present:
        return text
    marks = re.escape("".join({char for char in plain if unicodedata.category(char)[0] == "M"}))
    stripped, count = re.subn(_names_pattern(present, marks), _REMOVED, plain, flags=re.IGNORECASE)
    if not count:
        return text
    for found, replacement in _TIDY:
        stripped = found.sub(replacement, stripped)
    stripped = stripped.strip()
    return stripped if any(map(str.isalnum, stripped)) else text


@lru_cache(maxsize=8192)
def _plain_name(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())


def _names_pattern(names: Iterable[str], marks: str) -> str:
    r"""Any of the names as a whole word; `marks` are the text's combining marks, which `\w` leaves out."""
    letter = rf"[\w{marks}]"
    strict_left = rf"(?<!{letter})(?<!{letter}[-.@])@?"
    strict_right = rf"(?:['’](?:s|d|ll)|(?<=s)['’])?(?!{letter}|[-'’.@]{letter})"
    loose_right = f"(?![{marks}])" if marks else ""
    # names with the same borders share them, so that a thousand names cost one look at most places
    groups: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names, key=len, reverse=True):  # the longest first: "Mary Ann" before "Mary"
        left = "" if len(name) > 1 and _UNSPACED.match(name[0]) else strict_left
        right = loose_right if len(name) > 1 and _UNSPACED.match(name[-1]) else strict_right
        groups.setdefault((left, right), []).append(r"\s+".join(map(re.escape, name.split(" "))))
    return "|".join(f"{left}(?:{'|'.join(words)}){right}" for (left, right), words in groups.items())
