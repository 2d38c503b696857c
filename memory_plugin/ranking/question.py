"""What a question says about its answer beyond its words: whom it names, whom it is about, and when.

The cues are those of English. A question in another language has none of them, and is ranked by what
needs no language: words, meaning, neighbours, sessions, speakers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from memory_plugin.ranking.periods import Period

_WHEN = re.compile(
    r"^\s*(?:and |so |but )?(?:when|since when|until when|how long|how many (?:days|weeks|months|years)|"
    r"(?:in |on |at )?(?:what|which) (?:date|day|week|month|year|time|season))\b",
    re.IGNORECASE,
)
_FIRST_PERSON = re.compile(r"\b(?:i|i['’](?:m|ve|d|ll)|me|my|mine|myself|we|our|ours|us)\b", re.IGNORECASE)
_WORD = re.compile(r"\w+(?:[-.]\w+)*")

MAX_NAMES: Final = 64
"""Words of a question that are looked up as names of speakers."""

TIME_WORDS: Final = (
    "yesterday today tonight tomorrow last next ago week weekend month year day recently since soon "
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july "
    "august september october november december summer winter spring autumn morning afternoon evening "
    + " ".join(map(str, range(1950, 2050)))
)
"""A message that says when has one of these."""


@dataclass(frozen=True, slots=True)
class Question:
    """A query with what was found out about it.

    `speakers` are the names of speakers in it, folded for comparison, in the order they come.
    """

    text: str
    speakers: tuple[str, ...] = ()
    periods: tuple[Period, ...] = ()
    asks_when: bool = False
    is_about_me: bool = False


def read_question(text: str, *, speakers: Sequence[str] = (), periods: Sequence[Period] = ()) -> Question:
    """The question with its cues.

    Args:
        speakers: first words of the names of speakers that stand in it.
        periods: the times that it names.
    """
    head = text[:2000]
    return Question(
        text=text,
        speakers=tuple(dict.fromkeys(folded(name) for name in speakers)),
        periods=tuple(periods),
        asks_when=_WHEN.search(head) is not None,
        is_about_me=_FIRST_PERSON.search(head) is not None,
    )


def possible_names(text: str) -> list[str]:
    """The words of a query that may be the first word of a speaker's name, at most MAX_NAMES.

    Where the query has capitals, only words that begin with one, or with a sign of a script
    without capitals.
    """
    words = list(dict.fromkeys(_WORD.findall(text[:2000])))
    if any(word[0].isupper() for word in words):
        words = [word for word in words if not word[0].islower()]
    return [word for word in words if not word[0].isdigit()][:MAX_NAMES]


def folded(name: str) -> str:
    """The first word of a name, for comparison."""
    return name.split(" ", 1)[0].lower()
