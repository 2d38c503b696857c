"""The systems that rank the same documents for the same questions, with the same embedder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from statistics import fmean, median
from typing import Any

from benchmarks.checkpointer.server import Server, run_sql, with_database
from benchmarks.references.beir import DEPTH, RetrievalSet, Text, ndcg, recall
from memory_plugin import Hit, Memory, Weights
from memory_plugin.capabilities.reference_preparing import Parser
from memory_plugin.chunking import ChunkSizes
from memory_plugin.embedding import OnnxEmbedder, StaticEmbedder

OURS = "references.search"
WORDS = "references.search, words alone (BM25)"
FLAT = "flat BM25 (bm25s)"
VECTORS = "references.search, vectors alone"
QUICK = "references.search, static vectors alone"
LANGCHAIN = "LangChain PGVectorStore, the same model"
LANGCHAIN_QUICK = "LangChain PGVectorStore, static vectors"

Ranker = Callable[[str], Awaitable[Sequence[str]]]
Step = Callable[[str, int, int], None]


@dataclass(slots=True)
class Ranked:
    """How one system did on one set."""

    name: str
    ndcg: float
    recall: float
    milliseconds: float
    seconds: float
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Cut:
    """How well passages of one size were found: nDCG@10 by words and meaning, and by each alone."""

    target: int
    maximum: int
    passages: int
    both: float
    words: float
    meaning: float


async def compare_sizes(server: Server, data: RetrievalSet, sizes: Sequence[ChunkSizes], step: Step) -> list[Cut]:
    """Our search over the same set, cut into passages of each of the sizes in turn."""
    from memory_plugin.parsers import parse

    results = []
    for size in sizes:
        await _fresh(server, "bench_references_sizes")
        try:
            maker = _ours(with_database(server.url, "bench_references_sizes"), data.corpus, step)
            maker.parser = partial(parse, sizes=size)
            async with maker as rank:
                name = f"{size.target} ({size.maximum}) tokens"
                found = [
                    (await _measured(name, one, data, 0.0, step)).ndcg
                    for one in (rank, maker.by_words, maker.by_meaning)
                ]
                results.append(Cut(size.target, size.maximum, await maker.count(), *found))
        finally:
            await run_sql(server.url, "DROP DATABASE bench_references_sizes WITH (FORCE)")
    return results


async def _fresh(server: Server, database: str) -> None:
    await run_sql(server.url, f"DROP DATABASE IF EXISTS {database} WITH (FORCE)", f"CREATE DATABASE {database}")


async def compare(server: Server, data: RetrievalSet, step: Step) -> list[Ranked]:
    """Every system on one set, each on a database of its own that is dropped again."""
    makers: dict[str, Any] = {OURS: _ours, QUICK: _quick, WORDS: _words}
    if find_spec("bm25s") is not None and find_spec("Stemmer") is not None:
        makers[FLAT] = _flat
    if find_spec("langchain_postgres") is not None:
        makers |= {LANGCHAIN: _langchain, LANGCHAIN_QUICK: _langchain_quick}
    results = []
    for number, (name, make) in enumerate(makers.items()):
        database = f"bench_references_{number}"
        await _fresh(server, database)
        try:
            started = time.perf_counter()
            maker = make(with_database(server.url, database), data.corpus, step)
            async with maker as rank:
                results.append(await _measured(name, rank, data, time.perf_counter() - started, step))
                if name == OURS:
                    results.append(await _measured(VECTORS, maker.by_meaning, data, results[-1].seconds, step))
        finally:
            await run_sql(server.url, f"DROP DATABASE {database} WITH (FORCE)")
    return results


async def _measured(name: str, rank: Ranker, data: RetrievalSet, seconds: float, step: Step) -> Ranked:
    gains, found, times = [], [], []
    for number, (key, question) in enumerate(data.queries.items(), start=1):
        started = time.perf_counter()
        ranking = list(dict.fromkeys(await rank(question)))
        times.append(1000 * (time.perf_counter() - started))
        # of argument retrieval sets: a question that is a document of the set does not find itself
        ranking = [each for each in ranking if each != key or key in data.relevant[key]]
        gains.append(ndcg(ranking, data.relevant[key]))
        found.append(recall(ranking, data.relevant[key]))
        step(name, number, len(data.queries))
    return Ranked(name, fmean(gains or [0.0]), fmean(found or [0.0]), median(times or [0.0]), seconds)


class _ours:  # noqa: N801 - makers are functions to whoever calls them
    """Our store, with what it has by default; `parser` is what cuts documents, where it is another one."""

    embeddings: object = None
    document_embeddings: object = None
    parser: Parser | None = None

    def __init__(self, url: str, corpus: Sequence[Text], step: Step) -> None:
        self._memory = Memory.open(url, embeddings=self.embeddings, document_embeddings=self.document_embeddings)
        self._corpus = corpus
        self._step = step

    async def __aenter__(self) -> Ranker:
        memory = await self._memory.__aenter__()
        memory.references._parser = self.parser  # noqa: SLF001 - sizes are set once, and here they are compared
        waiting = iter(enumerate(self._corpus, start=1))

        async def work() -> None:
            for number, each in waiting:
                if each.whole.strip():
                    await memory.references.add(text=each.whole, source=each.id, title=each.title or None)
                self._step("storing", number, len(self._corpus))

        await asyncio.gather(*(work() for _ in range(4)))
        await memory.indexed()
        await memory.spaces.build_documents()

        async def rank(question: str) -> Sequence[str]:
            return _sources(await memory.references.search(question, limit=5 * DEPTH))

        return rank

    async def by_meaning(self, question: str) -> Sequence[str]:
        """The ranking without the words."""
        return await self._weighed(question, Weights(words=0.0))

    async def by_words(self, question: str) -> Sequence[str]:
        """The ranking without the meaning."""
        return await self._weighed(question, Weights(meaning=0.0))

    async def _weighed(self, question: str, weights: Weights) -> Sequence[str]:
        return _sources(await self._memory.recall(question, kinds=("reference",), limit=5 * DEPTH, weights=weights))

    async def count(self) -> int:
        """How many passages there are."""
        passages: int = await self._memory.database.fetchval("SELECT count(*) FROM memory.chunks")
        return passages

    async def __aexit__(self, *exc_info: object) -> None:
        await self._memory.__aexit__(*exc_info)


def _sources(hits: Sequence[Hit]) -> list[str]:
    """The documents of the hits, in their order."""
    return [hit.citation.source or "" for hit in hits if hit.citation]


class _quick(_ours):  # noqa: N801 - likewise
    """Our store without the model for documents."""

    document_embeddings = False


class _words(_ours):  # noqa: N801 - likewise
    """Our store without an embedder."""

    embeddings = False


class _flat:  # noqa: N801 - likewise
    """BM25 over whole documents, in memory."""

    def __init__(self, url: str, corpus: Sequence[Text], step: Step) -> None:  # noqa: ARG002 - as the others
        self._corpus = corpus

    async def __aenter__(self) -> Ranker:
        import bm25s
        import Stemmer

        stemmer = Stemmer.Stemmer("english")

        def tokens(texts: list[str]) -> Any:
            return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)

        index = bm25s.BM25(k1=0.9, b=0.4)
        index.index(tokens([each.whole for each in self._corpus]), show_progress=False)
        size = min(5 * DEPTH, len(self._corpus))

        async def rank(question: str) -> Sequence[str]:
            places, scores = index.retrieve(tokens([question]), k=size, show_progress=False)
            return [self._corpus[int(place)].id for place, score in zip(places[0], scores[0], strict=True) if score > 0]

        return rank

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing is kept."""


class _langchain:  # noqa: N801 - likewise
    """LangChain's own vector store on PostgreSQL, whole documents, the embedder that ours has for documents."""

    embedder: type[StaticEmbedder | OnnxEmbedder] = OnnxEmbedder

    def __init__(self, url: str, corpus: Sequence[Text], step: Step) -> None:
        self._url = url.replace("postgresql://", "postgresql+asyncpg://", 1)
        self._corpus = corpus
        self._step = step
        self._engine: Any = None

    async def __aenter__(self) -> Ranker:
        from langchain_core.documents import Document
        from langchain_core.embeddings import Embeddings
        from langchain_postgres import PGEngine, PGVectorStore

        embedder = self.embedder()

        class Same(Embeddings):
            """An embedder of ours, in LangChain's form."""

            async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
                return [list(vector) for vector in await embedder.embed_documents(texts)]

            async def aembed_query(self, text: str) -> list[float]:
                return list(await embedder.embed_query(text))

            def embed_documents(self, texts: list[str]) -> list[list[float]]:
                return asyncio.run(self.aembed_documents(texts))

            def embed_query(self, text: str) -> list[float]:
                return asyncio.run(self.aembed_query(text))

        self._engine = PGEngine.from_connection_string(url=self._url)
        await self._engine.ainit_vectorstore_table("passages", len(await embedder.embed_query("width")))
        store = await PGVectorStore.create(self._engine, embedding_service=Same(), table_name="passages")
        for first in range(0, len(self._corpus), 200):
            batch = self._corpus[first : first + 200]
            await store.aadd_documents(
                [Document(page_content=each.whole, metadata={"source": each.id}) for each in batch]
            )
            self._step("storing", first + len(batch), len(self._corpus))

        async def rank(question: str) -> Sequence[str]:
            return [each.metadata["source"] for each in await store.asimilarity_search(question, k=5 * DEPTH)]

        return rank

    async def __aexit__(self, *exc_info: object) -> None:
        if self._engine is not None:
            await self._engine.close()


class _langchain_quick(_langchain):  # noqa: N801 - likewise
    """The same with the embedder that ours has for everything."""

    embedder = StaticEmbedder
