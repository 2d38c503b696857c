"""Other ways to rank the same messages, for comparison.

Each sees one dialogue at a time, as recall does with `user_id`. None of them goes through the store's
own ranking; vectors come from the store's embedder, full-text ranks from its PostgreSQL.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memory_plugin.evaluation.metrics import DEPTH

if TYPE_CHECKING:
    from memory_plugin.core import MemoryCore
    from memory_plugin.evaluation.datasets import Dialogue

WORDS = "BM25 (bm25s)"
FULL_TEXT = "PostgreSQL ts_rank_cd"
MEANING = "vectors alone"
FUSED = "reciprocal rank fusion (k = 60)"

_FULL_TEXT = """
WITH query AS (
    SELECT string_agg(quote_literal(lexeme), ' | ')::tsquery AS terms FROM unnest(to_tsvector('english', $1))
), documents AS (
    SELECT place, to_tsvector('english', text) AS words FROM unnest($2::text[]) WITH ORDINALITY AS d (text, place)
)
SELECT place - 1 AS place FROM documents, query WHERE words @@ terms
ORDER BY ts_rank_cd(words, terms) DESC, place LIMIT $3
"""


class Baselines:
    """The rankings of one dialogue by other means; those whose package is missing are left out."""

    def __init__(self, core: MemoryCore, dialogue: Dialogue) -> None:
        self._core = core
        self._ids = [turn.id for turn in dialogue.turns]
        self._texts = [f"{turn.name}: {turn.text}" if turn.name else turn.text for turn in dialogue.turns]
        self._index: Any = None
        self._matrix: Any = None

    async def prepare(self) -> None:
        """Build what the rankings need: an index of words, and the vectors."""
        if importlib.util.find_spec("bm25s") is not None:
            import bm25s

            self._index = bm25s.BM25(k1=0.9, b=0.4)
            self._index.index(self._tokens(self._texts), show_progress=False)
        if self._core.embedder is not None and importlib.util.find_spec("numpy") is not None:
            import numpy as np

            self._matrix = np.asarray(await self._core.embedder.embed_documents(self._texts), np.float32)

    @staticmethod
    def _tokens(texts: Sequence[str]) -> Any:
        import bm25s

        return bm25s.tokenize(list(texts), stopwords="en", show_progress=False)

    async def rank(self, query: str) -> dict[str, list[str]]:
        """The ids of the best turns by each way."""
        lists: dict[str, list[int]] = {}
        if self._index is not None:
            lists[WORDS] = self._by_words(query)
        lists[FULL_TEXT] = await self._by_full_text(query)
        if self._matrix is not None and self._core.embedder is not None:
            vector = await self._core.embedder.embed_query(query)
            lists[MEANING] = [int(place) for place in (self._matrix @ vector).argsort()[::-1][:100]]
            if WORDS in lists:
                lists[FUSED] = _fused(lists[WORDS], lists[MEANING])
        return {name: [self._ids[place] for place in places[:DEPTH]] for name, places in lists.items()}

    def _by_words(self, query: str) -> list[int]:
        size = min(100, len(self._texts))
        places, scores = self._index.retrieve(self._tokens([query]), k=size, show_progress=False)
        return [int(place) for place, value in zip(places[0], scores[0], strict=True) if value > 0]

    async def _by_full_text(self, query: str) -> list[int]:
        rows = await self._core.database.fetch(_FULL_TEXT, query, self._texts, DEPTH)
        return [row["place"] for row in rows]


def _fused(*lists: Sequence[int]) -> list[int]:
    totals: dict[int, float] = {}
    for ranking in lists:
        for place, item in enumerate(ranking, start=1):
            totals[item] = totals.get(item, 0.0) + 1 / (60 + place)
    return sorted(totals, key=lambda item: (-totals[item], item))
