"""From candidates to an order: every signal of a candidate, weighed and added up.

Passages of every kind are compared on one scale: the best of the query by words, and by meaning,
counts 1 whatever kind it is of. A message has more to show for itself than that: its neighbours, its
session, who said it and when. Messages are ordered by all of it, and then scaled so that the best of
them counts what it would by words and meaning alone, or a memory could never stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from heapq import nlargest
from typing import Final

from memory_plugin.capabilities.passages import MESSAGE, Candidate
from memory_plugin.ranking.question import Question, folded
from memory_plugin.ranking.weights import Weights

PAUSE: Final = timedelta(hours=4)
"""A longer silence in a thread ends a session."""

WINDOW: Final = 8
"""Messages on each side that belong to the same matter."""

TURN_LENGTH: Final = 24.0
"""Words after stop words up to which the messages of a thread need their context in full."""

_ASSISTANT: Final = frozenset({"ai", "tool", "system", "assistant", "function"})


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate with its parts, before anything about it but its numbers was read."""

    candidate: Candidate
    parts: Mapping[str, float]

    @property
    def score(self) -> float:
        """The sum of the parts."""
        return sum(self.parts.values())


def fuse(candidates: Sequence[Candidate], weights: Weights, question: Question | None = None) -> list[Scored]:
    """The candidates by their weighted parts, the best first; equal ones the newest first.

    Candidates that only surround others (`is_context`) count for them and are left out.
    """
    scale = _Scale.of(candidates)
    scored = [Scored(each, scale.parts(each, weights)) for each in candidates if each.kind != MESSAGE]
    messages = [each for each in candidates if each.kind == MESSAGE]
    if messages:
        scored += _messages(messages, scale, weights, question or Question(""))
    return sorted(
        (each for each in scored if not each.candidate.is_context),
        key=lambda each: (-each.score, -each.candidate.said_at.timestamp(), each.candidate.id),
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """What the numbers of a set of candidates are measured by."""

    best_words: float
    low: float
    high: float

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> _Scale:
        meanings = [each.meaning for each in candidates if each.meaning is not None]
        return cls(
            max((each.words for each in candidates), default=0.0),
            min(meanings, default=0.0),
            max(meanings, default=0.0),
        )

    def words(self, candidate: Candidate) -> float:
        return candidate.words / self.best_words if self.best_words > 0 else 0.0

    def meaning(self, candidate: Candidate) -> float | None:
        if candidate.meaning is None:
            return None
        return (candidate.meaning - self.low) / (self.high - self.low) if self.high > self.low else 1.0

    def parts(self, candidate: Candidate, weights: Weights) -> dict[str, float]:
        parts = {"words": weights.words * self.words(candidate)} if self.best_words > 0 else {}
        meaning = self.meaning(candidate)
        if meaning is not None:
            parts["meaning"] = weights.meaning * meaning
        return parts


def _messages(candidates: Sequence[Candidate], common: _Scale, weights: Weights, question: Question) -> list[Scored]:
    own = _Scale.of(candidates)
    threads: dict[str | None, list[Candidate]] = {}
    for each in sorted(candidates, key=lambda each: (each.thread_id or "", each.seq or 0)):
        threads.setdefault(each.thread_id, []).append(each)
    scored = [each for thread in threads.values() for each in _thread(thread, own, weights, question)]
    best = max((each.score for each in scored if not each.candidate.is_context), default=0.0)
    alone = max((sum(common.parts(each, weights).values()) for each in candidates if not each.is_context), default=0.0)
    if best <= 0 or alone <= 0:
        return scored
    factor = alone / best
    return [Scored(each.candidate, {name: value * factor for name, value in each.parts.items()}) for each in scored]


def _thread(thread: Sequence[Candidate], scale: _Scale, weights: Weights, question: Question) -> list[Scored]:
    """The messages of one thread, in their order."""
    words = [scale.words(each) for each in thread]
    need = min(1.0, TURN_LENGTH * len(thread) / max(1, sum(each.length for each in thread)))
    speaker = _speaker_of(question, thread)
    scored = []
    first = 0
    for last in _session_ends(thread):
        session = range(first, last + 1)
        for place in session:
            each = thread[place]
            parts = scale.parts(each, weights)
            before = place - 1 if place > first and _adjacent(thread[place - 1], each) else None
            after = place + 1 if place < last and _adjacent(each, thread[place + 1]) else None
            signals = {
                "previous": need * words[before] if before is not None else 0.0,
                "next": need * words[after] if after is not None else 0.0,
                "answer": need * words[before] if before is not None and thread[before].asks else 0.0,
                "session": need * _best_three(thread, words, place, session),
                "speaker": speaker[place],
                "role": _role(each) if question.is_about_me else 0.0,
                "question": need * each.asks,
                "moment": float(each.dated) if question.asks_when else 0.0,
                "period": max((period.nearness(each.said_at) for period in question.periods), default=0.0),
            }
            parts |= {name: getattr(weights, name) * value for name, value in signals.items()}
            scored.append(Scored(each, parts))
        first = last + 1
    return scored


def _session_ends(thread: Sequence[Candidate]) -> list[int]:
    """The last place of each session."""
    last = len(thread) - 1
    return [
        place
        for place in range(len(thread))
        if place == last or thread[place + 1].said_at - thread[place].said_at > PAUSE
    ]


def _adjacent(one: Candidate, other: Candidate) -> bool:
    # what no search sees (calls of tools, empty messages) may lie between two turns
    return (other.seq or 0) - (one.seq or 0) <= WINDOW


def _best_three(thread: Sequence[Candidate], words: Sequence[float], place: int, session: range) -> float:
    seq = thread[place].seq or 0
    first, last = place, place
    while first > session.start and seq - (thread[first - 1].seq or 0) <= WINDOW:
        first -= 1
    while last < session.stop - 1 and (thread[last + 1].seq or 0) - seq <= WINDOW:
        last += 1
    return sum(nlargest(3, words[first : last + 1])) / 3


def _speaker_of(question: Question, thread: Sequence[Candidate]) -> list[float]:
    """1 for messages of the one speaker whom the question names, -1 for others, 0 where it names none or several."""
    if len(question.speakers) != 1:
        return [0.0] * len(thread)
    (name,) = question.speakers
    return [1.0 if each.speaker is not None and folded(each.speaker) == name else -1.0 for each in thread]


def _role(candidate: Candidate) -> float:
    if candidate.speaker in _ASSISTANT:
        return -1.0
    return 1.0 if candidate.speaker in {"human", "user"} else 0.0
