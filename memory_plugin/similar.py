"""Which facts say nearly the same as one that is being written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from memory_plugin.capabilities.memory_facts import Fact, Near
from memory_plugin.capabilities.memory_nearness import (
    NEAR_MEANING,
    NEAR_WORDS,
    content_words,
    repeats,
    shared,
)
from memory_plugin.capabilities.memory_writes import LIVE, fill
from memory_plugin.capabilities.passages import MEMORY, Passages, Scope
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import EmbeddingError, UnsupportedError
from memory_plugin.types import SimilarMemory

logger = logging.getLogger("memory_plugin")

CANDIDATES = 20
"""Facts that share words with the new one and are looked at."""

FRESH = 100
"""Facts written last that are looked at although the index has them not yet."""

LOOKED_AT = 2_000
"""Characters of a fact that are compared."""

MEANING_SECONDS = 0.05
"""How long an embedder that works in this process may take; one elsewhere is not asked at all."""

_OF_NAMESPACE = (
    "EXISTS (SELECT FROM {{s}}.memories m WHERE m.tenant_id = p.tenant_id AND m.id = p.id "
    "AND m.namespace = {0}::text[])"
)

_READ = fill(
    """
SELECT m.item_id, m.key, m.content FROM {s}.memories m
WHERE m.tenant_id = $1 AND m.namespace = $2::text[] AND {live}
  AND m.id = ANY ($3::text[]::uuid[] || ARRAY(
      SELECT q.item::uuid FROM {s}.index_queue q WHERE q.tenant_id = $1 AND q.kind = 1 ORDER BY q.item DESC LIMIT $4))
""",
    live=LIVE,
)


class SimilarFacts:
    """Finds the neighbours of a fact within its namespace, without writing or waiting for anything."""

    def __init__(self, database: Database, passages: Passages, *, tenant: str) -> None:
        self._database = database
        self._passages = passages
        self._tenant = tenant
        self._read = database.sql(_READ)

    async def __call__(self, fact: Fact) -> list[Near]:
        """The nearest first; what was written a moment ago is among them.

        Words say what is near; where the embedder works in this process, meaning does too.
        """
        text = fact.content[:LOOKED_AT]
        found = await self._passages.search(
            words=text,
            vector=None,
            kinds=(MEMORY,),
            scope=Scope(user_id=fact.user_id),
            conditions={MEMORY: (_OF_NAMESPACE, [list(fact.namespace)])},
            limit=CANDIDATES,
        )
        rows = await self._database.fetch(
            self._read,
            self._tenant,
            list(fact.namespace),
            [str(candidate.id) for candidate in found],
            FRESH,
            repeat=Repeat.READ,
        )
        rows = [row for row in rows if row["content"] != fact.content]  # it itself, where it is written by now
        words = content_words(text)
        measured = {row["item_id"]: (row, content_words(row["content"][:LOOKED_AT])) for row in rows}
        by_words = {item: shared(words, others) for item, (_, others) in measured.items()}
        by_meaning = await self._by_meaning(text, [row for row, _ in measured.values()])
        near: list[Near] = []
        for item, (row, others) in measured.items():
            share, cosine = by_words[item], by_meaning.get(item, 0.0)
            if share < NEAR_WORDS and cosine < NEAR_MEANING:
                continue
            similar = SimilarMemory(
                id=item,
                content=row["content"],
                similarity=round(share if share >= NEAR_WORDS else cosine, 3),
                key=row["key"],
                by="words" if share >= NEAR_WORDS else "meaning",
            )
            near.append(Near(similar, repeats=repeats(words, others)))
        return sorted(near, key=lambda each: (-each.fact.similarity, str(each.fact.id)))

    async def _by_meaning(self, text: str, rows: Sequence[Record]) -> dict[object, float]:
        """Cosines by item, none where no embedder answers at once."""
        embedder = self._passages.embedder
        if not rows or embedder is None or not getattr(embedder, "at_once", False):
            return {}
        texts = [text, *(row["content"][:LOOKED_AT] for row in rows)]
        try:
            async with asyncio.timeout(MEANING_SECONDS):
                own, *others = await embedder.embed_documents(texts)
        except (TimeoutError, EmbeddingError, UnsupportedError) as error:
            logger.debug("Near duplicates are compared by words alone: %r", error)
            return {}
        cosines = (sum(map(float.__mul__, own, other)) for other in others)
        return {row["item_id"]: cosine for row, cosine in zip(rows, cosines, strict=True)}
