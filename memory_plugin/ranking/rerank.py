"""A last word from outside: a cross-encoder, a model, a rule of the application."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from memory_plugin.errors import InvalidInputError
from memory_plugin.types import Hit

Reranker = Callable[[str, list[Hit]], "Sequence[float] | Awaitable[Sequence[float]]"]
"""Gets the query and the hits, the best first; gives a score for each, higher is better."""

DEPTH = 50
"""How many hits at least are handed to a reranker, as far as there are so many."""


async def reranked(rerank: Reranker, query: str, hits: Sequence[Hit]) -> list[Hit]:
    """The hits by the scores that the reranker gives them; equal ones stay as they were.

    A plain function runs in a worker thread, so that a model does not hold up the event loop. What it
    added to the score of a hit is its part `rerank`.

    Raises:
        InvalidInputError: it gave something else than one number for each hit.
    """
    if not hits:
        return []
    if inspect.iscoroutinefunction(rerank):
        given = await rerank(query, list(hits))
    else:
        given = await asyncio.to_thread(rerank, query, list(hits))
        if inspect.isawaitable(given):
            given = await given
    try:
        scores = [float(score) for score in given]
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            "The reranker must give a sequence of numbers, one for each hit it was given."
        ) from error
    if len(scores) != len(hits) or any(math.isnan(score) for score in scores):
        raise InvalidInputError(
            f"The reranker gave {len(scores)} scores for {len(hits)} hits: give one number for each, none of them NaN."
        )
    changed = [
        replace(hit, score=score, parts={**hit.parts, "rerank": score - hit.score})
        for hit, score in zip(hits, scores, strict=True)
    ]
    return sorted(changed, key=lambda hit: -hit.score)
