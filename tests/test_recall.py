"""Recall: what was remembered, said or ingested is found by words and by meaning, dated and scored."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.capabilities.passages import Candidate
from memory_plugin.core import MemoryCore
from memory_plugin.errors import ContentTooLargeError, EmbeddingError, InvalidInputError
from memory_plugin.memory import Memory
from memory_plugin.recall import Weights, fuse
from memory_plugin.types import uuid7
from tests.refusing import read_only


async def test_a_fact_is_found_by_its_words(core: MemoryCore) -> None:
    await core.remember("Alice prefers green tea in the morning", user_id="alice")
    await core.remember("Alice works at a bakery", user_id="alice")
    hits = await core.recall("which tea does she prefer?", user_id="alice")
    assert hits[0].text == "Alice prefers green tea in the morning"
    assert hits[0].kind == "memory"
    assert hits[0].at is not None


async def test_a_fact_is_found_by_meaning_without_a_common_word(memory: Memory) -> None:
    await memory.remember("She adores her two puppies", user_id="alice")
    await memory.remember("The invoice is paid by bank transfer", user_id="alice")
    assert await memory.indexed(10)
    hits = await memory.recall("dogs", user_id="alice")
    assert hits[0].text == "She adores her two puppies"
    assert hits[0].parts["meaning"] > 0


async def test_a_message_is_found_with_its_speaker_and_time(core: MemoryCore) -> None:
    said = datetime(2024, 5, 7, 9, 30, tzinfo=UTC)
    await core.conversations.append(
        "t1", [{"role": "user", "name": "Caroline", "content": "I adopted a rescue greyhound"}], at=said, user_id="u"
    )
    (hit,) = await core.recall("greyhound", user_id="u")
    assert (hit.kind, hit.speaker, hit.at, hit.thread_id) == ("message", "Caroline", said, "t1")


async def test_of_an_edited_message_only_the_newest_version_is_found(memory: Memory) -> None:
    await memory.conversations.append("t", [{"type": "human", "id": "m1", "content": "my favourite colour is teal"}])
    await memory.conversations.append("t", [{"type": "human", "id": "m1", "content": "my favourite colour is ochre"}])
    hits = await memory.recall("favourite colour", kinds=["message"])
    assert [hit.text for hit in hits] == ["my favourite colour is ochre"]


async def test_users_do_not_see_each_other(core: MemoryCore) -> None:
    for user in ("alice", "bob"):
        await core.remember(f"{user} owns a sailing boat", user_id=user)
        await core.conversations.append(f"thread of {user}", [f"{user} sails a boat"], user_id=user)
    hits = await core.recall("boat", user_id="bob")
    assert {hit.user_id for hit in hits} == {"bob"}
    assert len(hits) == 2


async def test_what_belongs_to_nobody_in_particular_is_everyones(core: MemoryCore) -> None:
    await core.remember("The office closes at six", namespace=("company",))
    assert [hit.text for hit in await core.recall("office", user_id="bob")] == ["The office closes at six"]


async def test_tenants_do_not_see_each_other(database_url: str) -> None:
    async with (
        MemoryCore.open(database_url, tenant="a", embeddings=False) as a,
        MemoryCore.open(database_url, tenant="b", embeddings=False) as b,
    ):
        await a.remember("the vault code is in the blue folder", user_id="u")
        assert await b.recall("vault code", user_id="u") == []
        assert len(await a.recall("vault code", user_id="u")) == 1


async def test_kinds_threads_and_times_narrow_the_search(core: MemoryCore) -> None:
    old, new = datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
    await core.remember("a pelican statue")
    await core.conversations.append("t1", ["a pelican in spring"], at=old)
    await core.conversations.append("t2", ["a pelican in autumn"], at=new)
    assert {hit.kind for hit in await core.recall("pelican", kinds=["message"])} == {"message"}
    assert [hit.thread_id for hit in await core.recall("pelican", thread_id="t2")] == ["t2"]
    assert [hit.at for hit in await core.recall("pelican", until=new)] == [old]
    assert [hit.at for hit in await core.recall("pelican", since=new, kinds=["message"])] == [new]


async def test_a_superseded_value_is_not_found_but_was_true_then(core: MemoryCore) -> None:
    await core.remember("Lives in Lisbon", user_id="u", key="home")
    between = datetime.now(UTC)
    await core.remember("Lives in Oslo", user_id="u", key="home")
    assert [hit.text for hit in await core.recall("lives", user_id="u")] == ["Lives in Oslo"]
    assert [hit.text for hit in await core.recall("lives", user_id="u", as_of=between)] == ["Lives in Lisbon"]


async def test_metadata_filters_with_operators(core: MemoryCore) -> None:
    for year in (2021, 2022, 2023):
        await core.remember(f"report of {year}", user_id="u", metadata={"year": year})
    hits = await core.recall("report", user_id="u", filter={"year": {"$gte": 2022}})
    assert {hit.metadata["year"] for hit in hits} == {2022, 2023}


async def test_a_namespace_narrows_to_what_is_under_it(core: MemoryCore) -> None:
    await core.remember("alpha compass", namespace=("projects", "alpha"))
    await core.remember("beta compass", namespace=("projects", "beta"))
    hits = await core.recall("compass", namespace=("projects", "alpha"))
    assert [hit.text for hit in hits] == ["alpha compass"]


async def test_languages_without_spaces_are_found_by_words(core: MemoryCore) -> None:
    await core.remember("我住在北京，喜欢喝绿茶", user_id="u")
    await core.remember("東京で犬を二匹飼っています", user_id="u")
    assert (await core.recall("绿茶", user_id="u"))[0].text.startswith("我住在北京")
    assert (await core.recall("犬", user_id="u"))[0].text.startswith("東京")


@pytest.mark.parametrize("query", ["", "   ", "\n"])
async def test_an_empty_query_finds_nothing(core: MemoryCore, query: str) -> None:
    await core.remember("something")
    assert await core.recall(query) == []


async def test_stop_words_alone_find_nothing_by_words(core: MemoryCore) -> None:
    await core.remember("the one and only")
    assert await core.recall("the and of") == []


async def test_a_query_of_100_kilobytes_is_answered(core: MemoryCore) -> None:
    await core.remember("the needle is here")
    assert (await core.recall("needle " + "hay stack " * 10_000))[0].text == "the needle is here"


async def test_a_memory_with_more_words_than_an_index_row_holds_harms_nobody(core: MemoryCore) -> None:
    await core.remember("giraffe " + " ".join(f"word{number:x}" for number in range(70_000)))
    await core.remember("a small giraffe")
    assert len(await core.recall("giraffe")) == 2


async def test_operators_and_quotes_in_a_query_are_plain_text(core: MemoryCore) -> None:
    await core.remember("it's a c:\\windows\\path & more | less ! (really)")
    assert len(await core.recall("it's c:\\windows & | ! ( ) <-> :* '\"")) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"query": "x\x00y"}, "NUL"),
        ({"query": "\ud800"}, "surrogate"),
        ({"query": 5}, "must be text"),
        ({"query": "x", "kinds": ["memories"]}, "Unknown kind"),
        ({"query": "x", "limit": -1}, "limit"),
        ({"query": "x", "filter": {"a": {"$regex": "b"}}}, "regex"),
        ({"query": "x", "since": "yesterday"}, "datetime"),
    ],
)
async def test_bad_arguments_get_one_clear_error(core: MemoryCore, arguments: dict, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        await core.recall(**arguments)


async def test_a_query_that_is_absurdly_long_is_refused(core: MemoryCore) -> None:
    with pytest.raises(ContentTooLargeError):
        await core.recall("x" * 2_000_000)


async def test_an_unknown_user_finds_nothing(core: MemoryCore) -> None:
    await core.remember("private", user_id="alice")
    assert await core.recall("private", user_id="nobody") == []


@pytest.mark.parametrize(("reads", "more"), [(True, 1.4), (False, 1.0)])
async def test_meaning_counts_more_for_a_model_that_reads_sentences(
    database_url: str, reads: bool, more: float
) -> None:
    class Model:
        name, dims, reads_sentences = "model", 2, reads

        async def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[0.6, 0.8] for _ in texts]

        async def embed_query(self, text: str) -> list[float]:
            return [0.6, 0.8]

    async with MemoryCore.open(database_url, embeddings=Model()) as core:
        await core.remember("Alice likes tea", user_id="u")
        await core.indexed()
        (hit,) = await core.recall("tea", user_id="u", explain=True)
    assert hit.parts["meaning"] / hit.parts["words"] == pytest.approx(more)


class BrokenEmbedder:
    """An embedder whose service is down."""

    name = "broken"
    dims = 4

    async def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise EmbeddingError("the service is down")

    async def embed_query(self, text: str) -> list[float]:
        raise EmbeddingError("the service is down")


async def test_a_broken_embedder_neither_stops_writing_nor_finding_by_words(database_url: str) -> None:
    async with MemoryCore.open(database_url, embeddings=BrokenEmbedder()) as core:
        await core.remember("found by words", user_id="u")
        assert [hit.text for hit in await core.recall("words", user_id="u")] == ["found by words"]
        with pytest.raises(EmbeddingError):
            await core.indexed(5)


async def test_two_embedders_never_mix_their_spaces(database_url: str) -> None:
    class Fixed:
        def __init__(self, name: str, vector: list[float]) -> None:
            self.name, self.vector, self.dims = name, vector, len(vector)

        async def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [self.vector for _ in texts]

        async def embed_query(self, text: str) -> list[float]:
            return self.vector

    async with MemoryCore.open(database_url, embeddings=Fixed("one", [1.0, 0.0])) as core:
        await core.remember("a lighthouse", user_id="u")
        await core.indexed(5)
    async with MemoryCore.open(database_url, embeddings=Fixed("two", [0.0, 1.0, 0.0])) as core:
        assert await core.recall("unrelated", user_id="u") == []
        await core.indexed(5)
        assert [hit.text for hit in await core.recall("unrelated", user_id="u")] == ["a lighthouse"]
        widths = await core.database.fetch("SELECT vector_dims(vector) AS w FROM memory.embeddings ORDER BY 1")
        assert [row["w"] for row in widths] == [2, 3]


async def test_the_word_score_is_exactly_bm25(core: MemoryCore) -> None:
    texts = [
        "the red fox jumps over the lazy dog",
        "a red red apple",
        "foxes and hounds hunting together in the forest at night",
        "nothing of interest",
    ]
    for text in texts:
        await core.remember(text, namespace=("bm25",))
    await core.passages.catch_up()
    query = "red fox"
    candidates = await core.passages.search(words=query, vector=None, kinds=[1])
    rows = await core.database.fetch("SELECT id, content FROM memory.memories")
    content = {row["id"]: row["content"] for row in rows}
    documents = [set_of_stems(text) for text in texts]
    for candidate in candidates:
        terms = set_of_stems(content[candidate.id])
        expected = 0.0
        for term in ("red", "fox"):
            containing = sum(term in document for document in documents)
            tf = terms.get(term, 0)
            length = sum(terms.values())
            weight = tf * 1.9 / (tf + 0.9 * (0.6 + 0.4 * length / 12.0)) if tf else 0.0
            expected += math.log(1 + (4 - containing + 0.5) / (containing + 0.5)) * weight
        assert candidate.words == pytest.approx(expected, rel=1e-4)
    assert len(candidates) == 3


def set_of_stems(text: str) -> dict[str, int]:
    """Term frequencies after the stop words and the stemming that the texts above need."""
    stems = {"foxes": "fox", "jumps": "jump", "hounds": "hound", "hunting": "hunt", "together": "togeth"}
    stop = {"the", "a", "over", "and", "in", "at", "of"}
    counts: dict[str, int] = {}
    for word in text.split():
        if word not in stop:
            stem = stems.get(word, word)
            counts[stem] = counts.get(stem, 0) + 1
    return counts


async def test_whatever_deletes_passages_the_statistics_of_words_stay_true(core: MemoryCore) -> None:
    item = await core.remember("a quiet harbour", user_id="u")
    await core.conversations.append("t", ["the harbour at night", "another harbour"])
    await core.references.add(text="# Harbours\n\nA harbour shelters ships.", source="h.md")
    await core.passages.catch_up()
    await core.forget(item_id=item.id, hard=True)
    await core.conversations.delete("t")
    left = await core.database.fetch("SELECT kind, passages FROM memory.corpus_statistics ORDER BY kind")
    assert [tuple(row) for row in left] == [(1, 0), (2, 0), (3, 1)]
    assert await core.database.fetchval("SELECT sum(passages) FROM memory.term_statistics WHERE kind < 3") == 0


async def test_a_message_that_arrives_while_its_thread_is_indexed_is_not_lost(core: MemoryCore) -> None:
    import asyncio

    async def write() -> None:
        for number in range(30):
            await core.conversations.append("t", [f"walrus number {number}"])

    async def index() -> None:
        for _ in range(60):
            await core.passages.catch_up()

    await asyncio.gather(write(), index(), index())
    await core.passages.catch_up()
    assert await core.database.fetchval("SELECT count(*) FROM memory.passages") == 30
    assert (await core.passages.backlog()).words == 0


async def test_a_database_that_takes_no_writes_answers_with_what_is_indexed(
    memory: Memory, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await memory.remember("Alice likes tea", user_id="alice")
    assert await memory.indexed(10)
    await memory._indexer.stop()
    memory.kick = lambda: None  # type: ignore[method-assign]
    await memory.remember("Alice likes tea from Assam", user_id="alice")
    async with read_only(database_url) as reader:
        for _ in range(2):
            (hit,) = await reader.recall("tea", user_id="alice")
            assert (hit.text, hit.parts["meaning"] > 0) == ("Alice likes tea", True)
    (said,) = [record.getMessage() for record in caplog.records if "leave out" in record.getMessage()]
    assert "is read-only" in said
    assert len(await memory.recall("tea", user_id="alice")) == 2


@given(
    st.lists(
        st.tuples(st.floats(0, 50), st.one_of(st.none(), st.floats(-1, 1))),
        min_size=1,
        max_size=30,
    )
)
def test_fusion_ranks_whatever_wins_by_both_first(scores: list[tuple[float, float | None]]) -> None:
    now = datetime.now(UTC)
    candidates = [
        Candidate(uuid7(), 1, words, meaning, now - timedelta(seconds=place), None, None, None, None, None)
        for place, (words, meaning) in enumerate(scores)
    ]
    ranked = fuse(candidates, Weights())
    assert len(ranked) == len(candidates)
    totals = [each.score for each in ranked]
    assert totals == sorted(totals, reverse=True)
    assert all(0 <= total <= 1 + Weights().fact + 1e-9 for total in totals)
