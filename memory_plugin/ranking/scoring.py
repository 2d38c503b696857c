"""From candidates to an order: every signal of a candidate, weighed and added up.

Passages of every kind are compared on one scale: the best of the query by words, and by meaning,
counts 1 whatever kind it is of. A message has more to show for itself than that: its neighbours, its
session, who said it and when. Messages are ordered by all of it, and then scaled so that the best of
them counts what it would by words and meaning alone, or a memory could never stand beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from memory_plugin.capabilities.passage_search import MESSAGE, NEARBY, Candidate
from memory_plugin.ranking.question import Question, folded
from memory_plugin.ranking.weights import Weights

PAUSE: Final = timedelta(hours=4)
"""A longer silence in a thread ends a session."""

FIRST_SHARE: Final = 0.75
"""How much of what goes before a message is the one right before it; the rest is the one before that."""

TURN_LENGTH: Final = 24.0
"""Words after stop words up to which the messages of a thread need their context in full."""

BY_ITSELF: Final = ("words", "meaning")
IN_CONTEXT: Final = ("previous", "next", "answer", "session", "speaker", "role", "question", "moment", "period")

_ASSISTANT: Final = frozenset({"ai", "tool", "system", "assistant", "function"})


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate with its score, before anything about it but its numbers was read."""

    candidate: Candidate
    score: float
    signals: tuple[float | None, ...]
    """The weighed signals, in the order of `BY_ITSELF` and `IN_CONTEXT`; None where there was nothing to compare."""
    factor: float = 1.0

    @property
    def parts(self) -> dict[str, float]:
        """What the score is the sum of, by the names of the weights."""
        return {
            name: value * self.factor
            for name, value in zip((*BY_ITSELF, *IN_CONTEXT), self.signals, strict=False)
            if value is not None
        }


def fuse(candidates: Sequence[Candidate], weights: Weights, question: Question | None = None) -> list[Scored]:
    """The candidates by their weighted parts, the best first; equal ones the newest first.

    Candidates that only surround others (`is_context`) count for them and are left out.
    """
    scale = _Scale.of(candidates)
    scored = []
    for each in candidates:
        if each.kind != MESSAGE and not each.is_context:
            words, meaning = scale.parts(each, weights)
            scored.append(Scored(each, (words or 0.0) + (meaning or 0.0), (words, meaning)))
    messages = [each for each in candidates if each.kind == MESSAGE]
    if messages:
        scored += _messages(messages, scale, weights, question or Question(""))
    # sorted is stable: by id and age first, where scores are equal
    scored.sort(key=lambda each: each.candidate.id)
    scored.sort(key=lambda each: (each.score, each.candidate.said_at), reverse=True)
    return scored


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

    def parts(self, candidate: Candidate, weights: Weights) -> tuple[float | None, float | None]:
        meaning = self.meaning(candidate)
        return (
            weights.words * self.words(candidate) if self.best_words > 0 else None,
            weights.meaning * meaning if meaning is not None else None,
        )


def _messages(candidates: Sequence[Candidate], common: _Scale, weights: Weights, question: Question) -> list[Scored]:
    own = _Scale.of(candidates)
    threads: dict[str | None, list[Candidate]] = {}
    for each in sorted(candidates, key=lambda each: each.seq or 0):
        threads.setdefault(each.thread_id, []).append(each)
    signals = [
        (each, values)
        for thread in threads.values()
        for each, values in zip(thread, _thread(thread, own, weights, question), strict=True)
        if not each.is_context
    ]
    scores = [sum(value for value in values if value is not None) for _, values in signals]
    best = max(scores, default=0.0)
    alone = max((sum(part or 0.0 for part in common.parts(each, weights)) for each, _ in signals), default=0.0)
    factor = alone / best if best > 0 and alone > 0 else 1.0
    return [Scored(each, score * factor, values, factor) for (each, values), score in zip(signals, scores, strict=True)]


def _thread(
    thread: Sequence[Candidate], scale: _Scale, weights: Weights, question: Question
) -> list[tuple[float | None, ...]]:
    """The weighed signals of the messages of one thread, in their order."""
    words = [scale.words(each) for each in thread]
    need = min(1.0, TURN_LENGTH * len(thread) / max(1, sum(each.length for each in thread)))
    previous, next_, answer = need * weights.previous, need * weights.next, need * weights.answer
    session, asks = need * weights.session / 3, need * weights.question
    speaker = _speaker_of(question, thread, weights.speaker)
    role = weights.role if question.is_about_me else 0.0
    moment = weights.moment if question.asks_when else 0.0
    signals: list[tuple[float | None, ...]] = []
    for first, last in _sessions(thread):
        best_three = _best_threes(thread, words, first, last)
        for place in range(first, last + 1):
            each = thread[place]
            before = place - 1 if place > first and _adjacent(thread[place - 1], each) else -1
            second = before - 1 if before > first and _adjacent(thread[before - 1], each) else -1
            after = place + 1 if place < last and _adjacent(each, thread[place + 1]) else -1
            said_before = words[before] if before >= 0 else 0.0
            earlier = words[second] if second >= 0 else 0.0
            signals.append(
                (
                    *scale.parts(each, weights),
                    previous * (FIRST_SHARE * said_before + (1 - FIRST_SHARE) * earlier),
                    next_ * words[after] if after >= 0 else 0.0,
                    answer * said_before if before >= 0 and thread[before].asks else 0.0,
                    session * best_three[place - first],
                    speaker[place],
                    role * _role(each) if role else 0.0,
                    asks if each.asks else 0.0,
                    moment if each.dated else 0.0,
                    weights.period * max((period.nearness(each.said_at) for period in question.periods), default=0.0),
                )
            )
    return signals


def _sessions(thread: Sequence[Candidate]) -> list[tuple[int, int]]:
    """The first and the last place of each session."""
    times = [each.said_at for each in thread]
    ends = [place for place in range(len(thread) - 1) if times[place + 1] - times[place] > PAUSE]
    return list(zip([0, *(end + 1 for end in ends)], [*ends, len(thread) - 1], strict=True))


def _adjacent(one: Candidate, other: Candidate) -> bool:
    return (other.seq or 0) - (one.seq or 0) <= NEARBY


def _best_threes(thread: Sequence[Candidate], words: Sequence[float], first: int, last: int) -> list[float]:
    """For each message of a session, the sum of the three best by words among those near it."""
    places = [each.seq or 0 for each in thread[first : last + 1]]
    sums = []
    start = end = 0
    for seq in places:
        while seq - places[start] > NEARBY:
            start += 1
        while end < len(places) and places[end] - seq <= NEARBY:
            end += 1
        sums.append(sum(sorted(words[first + start : first + end])[-3:]))
    return sums


def _speaker_of(question: Question, thread: Sequence[Candidate], weight: float) -> list[float]:
    """For messages of the one speaker whom the question names, against others; 0 where it names none or several."""
    if len(question.speakers) != 1:
        return [0.0] * len(thread)
    (name,) = question.speakers
    known = {speaker: folded(speaker) == name for speaker in {each.speaker for each in thread} if speaker is not None}
    return [weight if known.get(each.speaker or "") else -weight for each in thread]


def _role(candidate: Candidate) -> float:
    if candidate.speaker in _ASSISTANT:
        return -1.0
    return 1.0 if candidate.speaker in {"human", "user"} else 0.0
