"""From candidates to an order: every signal of a candidate, weighed and added up.

Passages of every kind are compared on one scale: the best of the query by words, and by meaning,
counts 1 whatever kind it is of. A message has more to show for itself than that: its neighbours, its
session, who said it and when. Messages are ordered by all of it, and then scaled so that the best of
them counts what it would by words and meaning alone, or a memory could never stand beside them. What
somebody chose to remember counts more than what was merely said beside something that matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from memory_plugin.capabilities.passage_search import MEMORY, MESSAGE, NEARBY, REFERENCE, Candidate
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


class Scored(NamedTuple):
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
    others = [each for each in candidates if each.kind != MESSAGE and not each.is_context]
    scored = []
    for each, signals in zip(others, scale.both(others, weights), strict=True):
        factor = 1 + weights.fact if each.kind == MEMORY else 1.0
        of_words, of_meaning = signals
        if each.kind == REFERENCE:
            of_words = None if of_words is None else of_words * (1 + weights.passage)
            of_meaning = None if of_meaning is None else of_meaning * (1 - weights.passage)
        score = ((of_words or 0.0) + (of_meaning or 0.0)) * factor
        scored.append(Scored(each, score, (of_words, of_meaning), factor))
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

    def words(self, candidates: Sequence[Candidate], weight: float) -> list[float | None]:
        """The weighed words; None where no candidate has any."""
        if self.best_words <= 0:
            return [None] * len(candidates)
        return [weight * (each.words / self.best_words) for each in candidates]

    def meaning(self, candidates: Sequence[Candidate], weight: float) -> list[float | None]:
        """The weighed meaning; None where a candidate has no vector."""
        low, span = self.low, self.high - self.low
        if span <= 0:
            return [None if each.meaning is None else weight for each in candidates]
        return [None if each.meaning is None else weight * ((each.meaning - low) / span) for each in candidates]

    def both(self, candidates: Sequence[Candidate], weights: Weights) -> list[tuple[float | None, float | None]]:
        """Words and meaning of each."""
        words, meaning = self.words(candidates, weights.words), self.meaning(candidates, weights.meaning)
        return list(zip(words, meaning, strict=True))


def _messages(candidates: Sequence[Candidate], common: _Scale, weights: Weights, question: Question) -> list[Scored]:
    own = _Scale.of(candidates)
    threads: dict[str | None, list[Candidate]] = {}
    for each in sorted(candidates, key=lambda each: each.seq or 0):
        threads.setdefault(each.thread_id, []).append(each)
    scored = [each for thread in threads.values() for each in _thread(thread, own, weights, question)]
    best = max((each.score for each in scored), default=0.0)
    hits = [each.candidate for each in scored]
    alone = max(((words or 0.0) + (meaning or 0.0) for words, meaning in common.both(hits, weights)), default=0.0)
    if best <= 0:
        return scored
    factor = alone / best if alone > 0 else min(1.0, 1.0 / best)
    return [Scored(each.candidate, each.score * factor, each.signals, factor) for each in scored]


def _thread(thread: Sequence[Candidate], scale: _Scale, weights: Weights, question: Question) -> list[Scored]:
    """The messages of one thread that were nominated, in their order."""
    by_itself = scale.both(thread, weights)
    words = [value or 0.0 for value in scale.words(thread, 1.0)]
    seqs = [each.seq or 0 for each in thread]
    need = min(1.0, TURN_LENGTH * len(thread) / max(1, sum(each.length for each in thread)))
    previous, next_, answer = need * weights.previous, need * weights.next, need * weights.answer
    session, asks = need * weights.session / 3, need * weights.question
    speaker = _speaker_of(question, thread, weights.speaker)
    role = _role_of(question, thread, weights.role)
    moment = weights.moment if question.asks_when else 0.0
    scored: list[Scored] = []
    for first, last in _sessions(thread):
        best_three = _best_threes(seqs[first : last + 1], words[first : last + 1])
        for place in range(first, last + 1):
            each = thread[place]
            if each.is_context:
                continue
            before = earlier = after = reply = 0.0
            # what no search sees (calls of tools, empty messages) may lie between two turns
            if place > first and seqs[place] - seqs[place - 1] <= NEARBY:
                before = words[place - 1]
                reply = before if thread[place - 1].asks else 0.0
                if place - 1 > first and seqs[place - 1] - seqs[place - 2] <= NEARBY:
                    earlier = words[place - 2]
            if place < last and seqs[place + 1] - seqs[place] <= NEARBY:
                after = words[place + 1]
            of_words, of_meaning = by_itself[place]
            context = (
                previous * (FIRST_SHARE * before + (1 - FIRST_SHARE) * earlier),
                next_ * after,
                answer * reply,
                session * best_three[place - first],
                speaker[place],
                role[place],
                asks if each.asks else 0.0,
                moment if each.dated else 0.0,
                _in_period(question, each.said_at, weights.period) if question.periods else 0.0,
            )
            score = (of_words or 0.0) + (of_meaning or 0.0) + sum(context)
            scored.append(Scored(each, score, (of_words, of_meaning, *context)))
    return scored


def _sessions(thread: Sequence[Candidate]) -> list[tuple[int, int]]:
    """The first and the last place of each session."""
    times = [each.said_at for each in thread]
    ends = [place for place in range(len(thread) - 1) if times[place + 1] - times[place] > PAUSE]
    return list(zip([0, *(end + 1 for end in ends)], [*ends, len(thread) - 1], strict=True))


def _best_threes(seqs: Sequence[int], words: Sequence[float]) -> list[float]:
    """For each message of a session, the sum of the three best by words among those near it."""
    sums = []
    start = end = 0
    for seq in seqs:
        while seq - seqs[start] > NEARBY:
            start += 1
        while end < len(seqs) and seqs[end] - seq <= NEARBY:
            end += 1
        sums.append(sum(sorted(words[start:end])[-3:]))
    return sums


def _speaker_of(question: Question, thread: Sequence[Candidate], weight: float) -> list[float]:
    """For messages of the one speaker whom the question names, against others; 0 where it names none or several."""
    if len(question.speakers) != 1:
        return [0.0] * len(thread)
    (name,) = question.speakers
    known = {speaker: folded(speaker) == name for speaker in {each.speaker for each in thread} if speaker is not None}
    return [weight if known.get(each.speaker or "") else -weight for each in thread]


def _role_of(question: Question, thread: Sequence[Candidate], weight: float) -> list[float]:
    """For what the user said, against what the assistant did, where the question is about "me"."""
    if not question.is_about_me or not weight:
        return [0.0] * len(thread)
    return [
        -weight if each.speaker in _ASSISTANT else weight if each.speaker in {"human", "user"} else 0.0
        for each in thread
    ]


def _in_period(question: Question, at: datetime, weight: float) -> float:
    return weight * max(period.nearness(at) for period in question.periods)
