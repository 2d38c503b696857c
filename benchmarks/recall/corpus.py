"""Invented texts whose words come as often as those of people do: few all the time, most hardly ever."""

from __future__ import annotations

import random
from bisect import bisect
from itertools import accumulate

WORDS = 60_000
"""Different words; a language model's tokens would be fewer, a company's names and numbers more."""

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


class Corpus:
    """Draws texts of 6 to 30 words, and questions about them.

    The frequency of a word falls with its rank as 1 / (rank + 5): the commonest stands in one text in three,
    half of all words in one text in a hundred thousand.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        naming = random.Random(seed)
        names: dict[str, None] = {}
        while len(names) < WORDS:
            names["".join(naming.choices(_SYLLABLES, k=naming.choice((2, 3, 3, 4)))) + naming.choice("kmnrt")] = None
        self.words = list(names)
        self._sums = list(accumulate(1 / (rank + 5) for rank in range(WORDS)))

    def _word(self) -> str:
        return self.words[bisect(self._sums, self._chance.random() * self._sums[-1])]

    def text(self) -> str:
        """One text."""
        return " ".join(self._word() for _ in range(self._chance.randint(6, 30)))

    def question(self, text: str) -> str:
        """A question to which the text is an answer: five of its words, three that stand everywhere."""
        words = text.split()
        about = self._chance.sample(words, k=min(5, len(words)))
        return "what about the " + " ".join([*about, *self._chance.choices(self.words[:40], k=3)])
