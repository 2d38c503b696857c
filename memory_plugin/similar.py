"""Which facts say nearly the same as one that is being written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from memory_plugin.capabilities.languages import of_tenant
from memory_plugin.capabilities.memory_facts import Fact, Near
from memory_plugin.capabilities.memory_nearness import (
    NEAR_MEANING,
    NEAR_WORDS,
    content_words,
    repeats,
    shared,
)
from memory_plugin.capabilities.passages import Passages
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import EmbeddingError, UnsupportedError
from memory_plugin.types import SimilarMemory

logger = logging.getLogger("memory_plugin")

CANDIDATES = 30
"""Facts that share a word with the new one and are looked at."""

FRESH = 30
"""Facts written last, of whatever namespace, that are looked at although the index has them not yet."""

RAREST = 5
"""Words of the new fact by which others are found."""

COMMON = 5_000
"""Facts of the tenant that may have a word by which others are found."""

LOOKED_AT = 2_000
"""Characters of a fact that are compared."""

MEANING_SECONDS = 0.05
"""How long an embedder that works in this process may take; one elsewhere is not asked at all."""

MEANT = 5
"""Facts whose meaning is compared: those that share the most words, of those that share some."""

SOME = 0.2
"""Share of common words from which a fact's meaning is compared."""

_READ = f"""
SELECT item_id, key, content FROM {{s}}.facts_near(
    $1, {of_tenant("$2")}, $3::text, $4::text[], $5::text, {RAREST}, {COMMON}, {CANDIDATES}, {FRESH})
"""


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
        rows = await self._database.fetch(
            self._read,
            self._tenant,
            self._passages.languages.setting,
            text,
            list(fact.namespace),
            fact.user_id,
            repeat=Repeat.READ,
        )
        rows = [row for row in rows if row["content"] != fact.content]  # it itself, where it is written by now
        words = content_words(text)
        measured = {row["item_id"]: (row, content_words(row["content"][:LOOKED_AT])) for row in rows}
        by_words = {item: shared(words, others) for item, (_, others) in measured.items()}
        closest = sorted(by_words, key=lambda item: -by_words[item])[:MEANT]
        by_meaning = await self._by_meaning(
            text, [measured[item][0] for item in closest if SOME <= by_words[item] < NEAR_WORDS]
        )
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
        if not rows or embedder is None or not self._passages.vectors.at_once:
            return {}
        try:
            async with asyncio.timeout(MEANING_SECONDS):
                # one by one, as it is asked for queries: a batch would wake threads for a few short texts
                own = await embedder.embed_query(text)
                others = [await embedder.embed_query(row["content"][:LOOKED_AT]) for row in rows]
        except (TimeoutError, EmbeddingError, UnsupportedError) as error:
            logger.debug("Near duplicates are compared by words alone: %r", error)
            return {}
        cosines = (sum(map(float.__mul__, own, other)) for other in others)
        return {row["item_id"]: cosine for row, cosine in zip(rows, cosines, strict=True)}
