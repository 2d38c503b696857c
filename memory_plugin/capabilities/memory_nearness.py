"""How near two facts are by their words, and whether one only repeats the other.

Two facts that share most of their words are near: one repeats the other, or it has another value for
the same thing. Words cannot tell these apart by their number ("lives in Rome", "lives in Oslo"), nor do
vectors. So nearness is for reporting, and merging asks for more: that one of the two says all that the
other says, in the same order, and nothing beyond that could change its sense.
"""

from __future__ import annotations

import re

NEAR_WORDS = 0.5
"""Share of common words from which a fact is reported: 1% of 349 facts about four people had a
neighbour as near, and 28 of 30 pairs that say the same (`python -m benchmarks.near_duplicates`)."""

NEAR_MEANING = 0.86
"""Cosine, with the offline embedder, from which a fact is reported: 3% of those 349, and 28 of those 30."""

SAME_WORDS = 0.6
"""Share of common words that a fact needs to be merged, besides saying the same."""

MOST_WORDS = 400
"""Words of a fact that are compared."""

_WORD = re.compile(r"\w+(?:['’]\w+)?")

# words that carry no fact of their own; tenses and negations are not among them
_EMPTY_WORDS = (
    "a an and are as at be been being by do does for from has have he her his in is it its i me my of on or our "
    "she so that the their them they this to us we with you your"
)
_EMPTY = frozenset(_EMPTY_WORDS.split())
_TURNING_WORDS = (
    "almost barely can't cannot could didn't doesn't don't except former formerly hardly hasn't if instead isn't "
    "less may maybe might more most neither never no nobody nor not nothing only perhaps planned plans rather "
    "stopped than unless until used wanted wants was wasn't were weren't will without won't would yet zero one "
    "two three four five six seven eight nine ten eleven twelve half twice had"
)
_TURNING = frozenset(_TURNING_WORDS.split())
"""Words that turn what is said into something else, however few they are."""


def content_words(text: str) -> list[str]:
    """The words of a fact that carry it, case folded, without plurals and genitives, in their order."""
    found: list[str] = []
    for match in _WORD.finditer(text.casefold()):
        word = match[0].replace("’", "'").removesuffix("'s")
        if word in _EMPTY:
            continue
        plural = len(word) > 3 and word.endswith("s") and not word.endswith("ss") and word not in _TURNING
        found.append(word[:-1] if plural else word)
        if len(found) == MOST_WORDS:
            break
    return found


def shared(one: list[str], other: list[str]) -> float:
    """Common words as a share of all words of both, each counted once: 0 to 1."""
    first, second = set(one), set(other)
    return len(first & second) / len(first | second) if first or second else 0.0


def repeats(one: list[str], other: list[str]) -> bool:
    """Whether one of the two says all that the other says, in its order, and nothing that changes the sense."""
    shorter, longer = sorted((one, other), key=len)
    rest = list(longer)
    place = 0
    for word in shorter:
        try:
            place = rest.index(word, place)
        except ValueError:
            return False
        del rest[place]
    beyond = [word for word in rest if word in _TURNING or any(character.isdigit() for character in word)]
    return not beyond and shared(one, other) >= SAME_WORDS
