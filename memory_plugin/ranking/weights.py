"""How much each signal counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from memory_plugin.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each signal counts; 0 switches one off, and a negative one counts against a hit.

    Each signal is a number from 0 to 1 (`speaker` and `role` from -1 to 1) before it is weighed.
    `words` and `meaning` hold for everything, `fact` and `importance` for memories, the others for
    messages; those marked with (c) are signals of context, which count the less the longer the
    messages of the thread are: a long message stands for itself.

    Attributes:
        words: BM25, divided by that of the best candidate.
        meaning: similarity of the vectors, stretched over the range of the candidates.
        fact: how much more the words and the meaning of a memory count than those of what was merely said.
        importance: what a memory of importance 1 gains over one of importance 0.
        previous: (c) the words of the messages before it: the last counts three quarters, the one before it a quarter.
        next: (c) the words of the message after it.
        answer: (c) the words of the message before it, if that is a question.
        session: (c) the mean of the three best by words within eight messages on each side.
        speaker: said by the one whom the question names, -1 by somebody else.
        role: said by the user, where the question is about "me"; -1 by the assistant.
        question: (c) the message is itself a question.
        moment: has a word of time, where the question asks when.
        period: said in the time that the question names; half of it in the week afterwards.
        passage: how much more the words of a passage of a document count, and how much less its meaning:
            documents are written in the words they are asked for, talk is not.
    """

    words: float = 0.5
    meaning: float = 0.5
    fact: float = 0.5
    importance: float = 0.05
    previous: float = 0.4
    next: float = 0.2
    answer: float = 0.25
    session: float = 0.6
    speaker: float = 0.25
    role: float = 0.2
    question: float = -0.12
    moment: float = 0.25
    period: float = 0.5
    passage: float = 0.2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InvalidInputError(f"The weight {field.name!r} is {value!r}: give a finite number.")

    @classmethod
    def of_sentences(cls) -> Weights:
        """For a model that reads a text as a whole: its similarity tells more than the mean of the meanings of words.

        Measured with all-MiniLM-L6-v2, see docs/explanation/ranking.md.
        """
        return cls(meaning=0.7, session=0.4)

    @classmethod
    def plain(cls) -> Weights:
        """Words, meaning and importance alone: no signal of conversations."""
        return cls(
            passage=0.0, fact=0.0, previous=0.0, next=0.0, answer=0.0, session=0.0,
            speaker=0.0, role=0.0, question=0.0, moment=0.0, period=0.0,
        )  # fmt: skip
