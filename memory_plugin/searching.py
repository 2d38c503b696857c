"""One search: the question is read and embedded, and candidates are found, in as few steps as they take.

Where the embedder is quick, the question is embedded before anything is asked: then one statement
reads it, and finds the candidates of a tenant with few passages too. Otherwise the statement that
reads it comes first, because a name in the question is not embedded, and may be nobody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from memory_plugin.capabilities.passages import MEMORY, MESSAGE, REFERENCE, Scope, Wanted
from memory_plugin.embedding.names import strip_names
from memory_plugin.errors import EmbeddingError
from memory_plugin.ranking import Weights, read_question
from memory_plugin.ranking.periods import periods_of
from memory_plugin.ranking.question import TIME_WORDS, possible_names

if TYPE_CHECKING:
    from uuid import UUID

    from memory_plugin.capabilities.document_vectors import DocumentVectors
    from memory_plugin.capabilities.passages import Candidate, Passages, Reading
    from memory_plugin.capabilities.vectors import QueryVector, Vectors
    from memory_plugin.db.database import Record

OF_WORDS: Final = Weights()
OF_SENTENCES: Final = Weights.of_sentences()

SURROUNDINGS: Final = 2
"""Messages before and after a nominated one that are looked at with it."""


class Search:
    """What a question nominates.

    Args:
        text: the question, not empty.
        kinds: MEMORY, MESSAGE, REFERENCE.
        conditions: what else passages of a kind must fulfil, as `Passages.search` takes it.
        limit: how many each list of each kind nominates.
        facts: of memories only so many may be nominated, the best by words and meaning as `weights` has them, with
            their rows; 0 for all, without.
        weights: None takes those for the model that gives the meaning.

    Attributes:
        question: its cues, once `run` has read it.
        facts: the rows that came with the candidates, by their ids.
        is_cut: whether other memories may have been nominated too.
        words_only: why meaning had no part in it, or None.
        embedding_error: why the question could not be embedded, or None.
    """

    def __init__(
        self,
        passages: Passages,
        text: str,
        kinds: Sequence[int],
        scope: Scope,
        conditions: Mapping[int, tuple[str, list[Any]]],
        limit: int,
        *,
        facts: int,
        weights: Weights | None,
    ) -> None:
        self._passages = passages
        self._text = text
        self._kinds = kinds
        self._scope = scope
        self._conditions = dict(conditions)
        self._weights = weights
        self._vectors = passages.vectors
        self._embedded: tuple[str, Vectors] | None = None
        weights = self.weights
        self._wanted = Wanted(
            None,
            limit,
            SURROUNDINGS if MESSAGE in kinds else 0,
            facts=facts if MEMORY in kinds else 0,
            of_words=weights.words,
            of_meaning=weights.meaning,
        )
        self.facts: Mapping[UUID, Record] = {}
        self.is_cut = False
        self.question = read_question(text)
        self.words_only: str | None = None
        self.embedding_error: EmbeddingError | None = None

    async def run(self) -> list[Candidate]:
        """The candidates."""
        if MESSAGE in self._kinds and self.question.asks_when:
            self._wanted = replace(self._wanted, time_words=await self._passages.time_words(TIME_WORDS))
        documents = self._passages.documents if list(self._kinds) == [REFERENCE] else None
        chosen = None if documents is None else await documents.for_search()
        if documents is not None and chosen is not None:
            self._vectors = chosen
            reading = await self._read_meanwhile(documents)
        else:
            is_quick = self._passages.embedder is None or self._vectors.at_once
            if is_quick:
                await self._embed(self._text)
            reading = await self._read(is_quick and not self._conditions)
        await self._embed(await self._understand(reading))
        found, self.facts, self.is_cut = reading.candidates, reading.facts, reading.is_cut
        if found is None and not self._conditions and reading.is_of_few:
            # who speaks is known now, and the question embedded without them
            names = {*reading.speakers.keys(), *reading.speakers.values()}
            again = await self._passages.read(
                self._text, self._kinds, scope=self._scope, names=names, wanted=self._wanted, vectors=self._vectors
            )
            found, self.facts, self.is_cut = again.candidates, again.facts, again.is_cut
        return await self._by_lists(reading) if found is None else found

    @property
    def weights(self) -> Weights:
        """How much each signal counts: as given, or as it is best for the model that gives the meaning."""
        if self._weights is not None:
            return self._weights
        reads_sentences = getattr(self._vectors.embedder, "reads_sentences", False)
        return OF_SENTENCES if reads_sentences else OF_WORDS

    async def _read(self, is_at_once: bool) -> Reading:
        """What the index knows of the question, once everything that was written is in it."""
        asked_for = possible_names(self._text) if MESSAGE in self._kinds else []

        async def read() -> Reading:
            wanted = self._wanted if is_at_once else None
            return await self._passages.read(
                self._text,
                self._kinds,
                scope=self._scope,
                asked_for=asked_for,
                wanted=wanted,
                vectors=self._vectors,
            )

        reading = await read()
        if reading.is_pending or reading.is_waiting:
            try:
                await self._passages.refresh(words=reading.is_pending, vectors=self._passages.embedder is not None)
            except EmbeddingError as error:
                self._give_up(error)
        if reading.is_pending or (reading.is_waiting and is_at_once and reading.candidates is None):
            reading = await read()
        return reading

    async def _read_meanwhile(self, documents: DocumentVectors) -> Reading:
        """What the index knows of the question, which the model of documents reads at the same time."""
        reading, _ = await asyncio.gather(self._read(is_at_once=False), self._embed(self._text))
        if self.embedding_error is not None:
            documents.give_up(self.embedding_error)
            self.embedding_error = None
        elif not reading.is_waiting:
            return reading
        # that model fails, or has not read all of the documents yet: the other one has
        self._vectors = self._passages.vectors
        return reading

    async def _understand(self, reading: Reading) -> str:
        """Note what the question names; its text without the names of those who speak in the scope.

        A name pulls in all that mentions the name, whatever the question was; who spoke is a signal
        of its own.
        """
        if MESSAGE not in self._kinds:
            return self._text
        names = reading.speakers
        periods = await periods_of(self._text, self._scope.as_of or datetime.now(UTC))
        if names or periods:
            self.question = read_question(self._text, speakers=list(names), periods=periods)
        return strip_names(self._text, {*names.keys(), *names.values()}) if names else self._text

    async def _embed(self, text: str) -> None:
        """Take the vector of the text, or why words alone must do."""
        if self._embedded == (text, self._vectors):
            return
        self._embedded = (text, self._vectors)
        vector: QueryVector | None = None
        if self._passages.embedder is None:
            self.words_only = "This store has no embedder."
        elif self.embedding_error is None:
            try:
                vector = await self._passages.embed_query(text, self._vectors)
            except EmbeddingError as error:
                self._give_up(error)
                return
            self.words_only = None if vector is not None else "The embedder knows no word of the query."
        self._wanted = replace(self._wanted, vector=vector)

    def _give_up(self, error: EmbeddingError) -> None:
        self.embedding_error, self.words_only = error, str(error)
        self._wanted = replace(self._wanted, vector=None)

    async def _by_lists(self, reading: Reading) -> list[Candidate]:
        """The candidates by the lists that indexes give."""
        wanted = self._wanted
        return await self._passages.search(
            words=self._text,
            vector=wanted.vector,
            kinds=self._kinds,
            scope=self._scope,
            conditions=self._conditions,
            limit=wanted.limit,
            surroundings=wanted.surroundings,
            time_words=wanted.time_words,
            reading=reading,
        )
