"""How well a ranking finds the evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from statistics import fmean

DEPTH = 10
"""Places of a ranking that are looked at."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over questions.

    The part of the evidence within the first 5 and the first 10, whether any of it is within the
    first 10, whether all is, and one over the place of the first (0 beyond the tenth).
    """

    questions: int
    recall_5: float
    recall_10: float
    hit_10: float
    all_10: float
    reciprocal_rank: float


def score(ranking: Sequence[str], gold: AbstractSet[str]) -> Scores:
    """The scores of one question."""
    found = [turn in gold for turn in dict.fromkeys(ranking[:DEPTH])]
    first = next((place for place, right in enumerate(found, start=1) if right), None)
    return Scores(
        questions=1,
        recall_5=sum(found[:5]) / len(gold),
        recall_10=sum(found) / len(gold),
        hit_10=float(first is not None),
        all_10=float(sum(found) == len(gold)),
        reciprocal_rank=1 / first if first is not None else 0.0,
    )


def mean(scores: Iterable[Scores]) -> Scores:
    """The means over questions, each counting the same; zeros where there are none."""
    each = list(scores)
    if not each:
        return Scores(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return Scores(
        questions=len(each),
        recall_5=fmean(one.recall_5 for one in each),
        recall_10=fmean(one.recall_10 for one in each),
        hit_10=fmean(one.hit_10 for one in each),
        all_10=fmean(one.all_10 for one in each),
        reciprocal_rank=fmean(one.reciprocal_rank for one in each),
    )


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` of the values do not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(part * (len(ordered) - 1)))] if ordered else 0.0
