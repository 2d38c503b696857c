"""Which old code page a text is in, said only where there is one answer.

Latin code pages differ in a few letters, and statistics on a short text often name the wrong one. So
a decoding counts as possible only when all its letters are of one language; when several are possible
and differ, or for other scripts, charset-normalizer is asked, and believed when its lead is clear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from memory_plugin.parsers.base import missing

_SAMPLE = 65_536


def _cased(*alphabets: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(letters) | {letter.upper() for letter in letters} for letters in alphabets)


# The letters beyond ASCII of one language a line, by code page.
_ALPHABETS: Mapping[str, tuple[frozenset[str], ...]] = {
    "cp1252": _cased(
        "àâæçéèêëîïôœöùûüÿñ",
        "äöüßéàèê",
        "áéíóúñüçªº",
        "àèéìîòóùªº",
        "áâãàçéêíóôõúüªº",
        "åäöæøé",
        "ëïéèöüáóíúç",
        "àçéèíïòóúü",
    ),
    "cp1250": _cased("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ"),
    "cp1254": _cased("çğıöşüâîûİ"),
    "cp1257": _cased("ąčęėįšųūž", "āčēģīķļņšūž", "äöõüšž"),
}
_MARKS = frozenset("\xa0¡£§©«®°·»¿½¼¾²³µ±×÷–—‘’“”„•…€™")
_WORD_WITH_MARK = re.compile(r"[^\W\d_][¡£§©«®°»¿½¼¾²³µ±×÷‘“”„•…€™][^\W\d_]")
_LETTER_BEFORE_FOREIGN = re.compile(r"[^\W\d_][^\x00-\x7f]")
_LONG_RUN = re.compile(r"[^\W\d_a-zA-Z]{5}")

_CYRILLIC, _CJK = "\u0400-\u04ff", "\u3000-\u30ff\u3400-\u9fff\uac00-\ud7a3\uff00-\uffef"
_SCRIPTS: Mapping[str, str] = {
    **dict.fromkeys(("cp1251", "koi8_r", "cp866"), _CYRILLIC),
    "cp1253": "\u0370-\u03ff",
    "cp1255": "\u0590-\u05ff",
    "cp1256": "\u0600-\u06ff",
    **dict.fromkeys(("cp932", "euc_jp", "gb18030", "big5", "cp949"), _CJK),
}
_MULTI_BYTE = frozenset({"cp932", "euc_jp", "gb18030", "big5", "cp949"})


def guess(data: bytes) -> str | None:
    """The code page of a text that is not UTF-8, None where it cannot be told.

    Raises:
        UnsupportedError: charset-normalizer is needed and isn't installed.
    """
    possible = {
        encoding: text
        for encoding in _ALPHABETS
        if (text := _decoded(data, encoding)) is not None and _is_one_language(text, encoding)
    }
    if len(set(possible.values())) == 1:
        return next(iter(possible))
    sample = b"".join(_lines_beyond_ascii(data))
    return _leader(sample, list(possible)) if possible else _other_script(sample)


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _is_one_language(text: str, encoding: str) -> bool:
    letters = {character for character in set(text) - _MARKS if not character.isascii()}
    if not any(letters <= alphabet for alphabet in _ALPHABETS[encoding]):
        return False
    foreign = sum(text.count(letter) for letter in letters)
    ascii_letters = sum(map(str.isalpha, text)) - foreign
    if foreign > ascii_letters or _LONG_RUN.search(text) or _WORD_WITH_MARK.search(text):
        return False
    # a capital after a small letter: these bytes are small letters elsewhere
    return not any(pair[0].islower() and pair[1].isupper() for pair in _LETTER_BEFORE_FOREIGN.findall(text))


def _leader(sample: bytes, encodings: Sequence[str]) -> str | None:
    """The encoding whose text reads most like a language, if no other comes near."""
    try:
        from charset_normalizer import from_bytes
    except ImportError as error:
        raise missing("charset-normalizer", "text that is not UTF-8") from error
    matches = list(from_bytes(sample, cp_isolation=list(encodings)))
    if not matches or matches[0].chaos > 0.1:
        return None
    best = matches[0]
    for other in matches[1:]:
        close = other.chaos < best.chaos + 0.05 and other.coherence > best.coherence - 0.1
        if close and str(other) != str(best):
            return None
    certain = best.coherence >= 0.1 or best.encoding in _MULTI_BYTE
    return best.encoding if certain else None


def _other_script(sample: bytes) -> str | None:
    """The leader among the code pages of other scripts, if its text is words in that script."""
    encoding = _leader(sample, list(_SCRIPTS))
    text = _decoded(sample, encoding) if encoding else None
    if encoding is None or text is None or encoding not in _SCRIPTS:
        return None
    words = re.findall(f"[{_SCRIPTS[encoding]}]+", text)
    letters = sum(map(len, words))
    beyond = sum(1 for character in text if not character.isascii() and character not in _MARKS)
    varied = len(set("".join(words))) >= 6
    return encoding if varied and letters >= max(16, 0.9 * beyond, 2 * len(words)) else None


def _lines_beyond_ascii(data: bytes) -> Iterator[bytes]:
    """The lines that tell encodings apart, up to a sample's size."""
    size = 0
    for line in data.split(b"\n"):
        if not line.isascii():
            yield line + b"\n"
            size += len(line)
            if size >= _SAMPLE:
                return
