"""How far the order of the words is that of BM25, computed over every passage of a tenant."""

from __future__ import annotations

import math
from collections.abc import Sequence

from memory_plugin.capabilities.passage_search import MEMORY, SPARSE_SIZE
from memory_plugin.core import MemoryCore

TOP = 10

# the score of every passage, by the same weights but with all terms of the question; no candidates
_EXACT = """
SELECT id, -(weights <#> $2::text::sparsevec) AS score FROM {s}.passages
WHERE tenant_id = $1 AND kind = 1 ORDER BY weights <#> $2::text::sparsevec, id LIMIT $3
"""


def rarity(passages: int, containing: int) -> float:
    """BM25's weight of a term, by its formula."""
    return math.log(1 + (max(passages - containing, 0) + 0.5) / (containing + 0.5))


async def agreement(core: MemoryCore, tenant: str, questions: Sequence[str]) -> float:
    """The part of the best ten by BM25 over all passages that the search by words has among its best ten.

    Passages that score the same as the tenth count as one of the ten.
    """
    database, right, wanted = core.database, 0, 0
    for question in questions:
        terms = await core.passages.query_terms(question, [MEMORY])
        weights = {row["term"]: rarity(row["passages"], row["containing"]) for row in terms}
        vector = f"{{{','.join(f'{term}:{weight:.6g}' for term, weight in weights.items())}}}/{SPARSE_SIZE}"
        best = await database.fetch(database.sql(_EXACT), tenant, vector, TOP)
        least = best[-1]["score"]
        found = await core.passages.search(words=question, vector=None, kinds=[MEMORY])
        ranked = sorted(found, key=lambda each: -each.words)[:TOP]
        right += sum(each.words >= least - 1e-4 for each in ranked)
        wanted += len(best)
    return right / wanted
