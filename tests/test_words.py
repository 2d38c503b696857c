"""Words: text in several languages and without spaces is found, ranked by exact BM25 within its tenant."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from memory_plugin.capabilities.languages import AVERAGE_LENGTH
from memory_plugin.core import MemoryCore
from memory_plugin.db import migrate
from memory_plugin.db.database import Database
from memory_plugin.errors import InvalidInputError
from memory_plugin.settings import Settings
from tests.conftest import run_sql

CHINESE = ["我住在北京市朝阳区", "我喜欢喝绿茶", "京剧在上海也很受欢迎", "明天的天气很好"]
JAPANESE = ["私は東京に住んでいます", "緑茶が好きです", "来週京都へ旅行します"]
THAI = ["ฉันชอบดื่มชาเขียว", "บ้านของฉันอยู่ที่กรุงเทพ", "พรุ่งนี้ฝนจะตก"]
ENGLISH = ["Alice drinks green tea in the morning", "The houses in Rome are expensive", "Bob's dog is called Rex"]
GERMAN = ["Die Häuser in München sind teuer", "Alice trinkt am liebsten grünen Tee", "Der Hund von Bob heißt Rex"]


@pytest.fixture
async def mixed(database_url: str) -> AsyncIterator[MemoryCore]:
    """A tenant of two languages, with text of five."""
    settings = Settings().model_copy(update={"language": "english, german"})
    async with MemoryCore.open(database_url, embeddings=False, settings=settings) as core:
        for text in (*CHINESE, *JAPANESE, *THAI, *ENGLISH, *GERMAN):
            await core.remember(text, user_id="u")
        yield core


ANSWERS = {
    "北京": CHINESE[0],
    "喝茶": CHINESE[1],
    "上海": CHINESE[2],
    "东京在哪里？天气": CHINESE[3],
    "東京": JAPANESE[0],
    "緑茶": JAPANESE[1],
    "京都旅行": JAPANESE[2],
    "ชาเขียว": THAI[0],
    "กรุงเทพ": THAI[1],
    "ฝน": THAI[2],
    "which house is expensive?": ENGLISH[1],
    "welches Haus ist teuer?": GERMAN[0],
    "wer trinkt grüne Tees?": GERMAN[1],
    "what do they drink in the mornings?": ENGLISH[0],
}


async def test_text_of_any_language_is_found(mixed: MemoryCore) -> None:
    assert {query: (await mixed.recall(query, user_id="u"))[0].text for query in ANSWERS} == ANSWERS


async def test_what_has_no_words_finds_nothing(mixed: MemoryCore) -> None:
    for query in ("", " \n", "the of and", "der die das", "?!"):
        assert await mixed.recall(query, user_id="u") == []


async def test_a_text_is_read_in_the_language_that_it_is_in(mixed: MemoryCore) -> None:
    await mixed.passages.catch_up()
    rows = await mixed.database.fetch(
        "SELECT content, tsvector_to_array(lexemes) AS lexemes FROM memory.passages JOIN memory.memories USING (id)"
    )
    lexemes = {row["content"]: set(row["lexemes"]) for row in rows}
    assert lexemes[GERMAN[0]] == {"haus", "munch", "teu"}
    assert lexemes[ENGLISH[1]] == {"hous", "rome", "expens"}


# ---------------------------------------------------------------- accents

ACCENTED = ["A café in Zürich", "She wrote two résumés", "Smörgåsbord in Malmö", "Una mañana en Bogotá"]


async def test_words_meet_without_their_accents(database_url: str) -> None:
    """However either side is written: composed, decomposed, or without."""
    asked = {
        "cafes": 0,
        "ZURICH": 0,
        "cafe\u0301": 0,
        "resume": 1,
        "résumé": 1,
        "smorgasbord": 2,
        "malmo": 2,
        "Mañana": 3,
    }
    async with MemoryCore.open(database_url, embeddings=False) as core:
        for fact in ACCENTED:
            await core.remember(fact, user_id="u")
        for query, place in asked.items():
            assert [hit.text for hit in await core.recall(query, user_id="u")] == [ACCENTED[place]], query
        await check_scores(core, list(asked))


async def test_accents_serve_the_stemmer_and_the_stop_words(database: Database) -> None:
    """The stem with accents and the one without; "für" and "können" say nothing, with or without a look at accents."""

    async def read(language: str, text: str) -> set[str]:
        words = "SELECT tsvector_to_array(memory.words($1::text::regconfig, $2))"
        return set(await database.fetchval(words, language, text))

    assert await read("french", "ma tarte préférée") == {"tart", "prefer", "prefere"}
    assert await read("german", "für große Häuser können") == {"gross", "haus"}
    assert await read("russian", "новый йод") == {"нов", "йод"}
    assert await read("english", "it's C:\\é'") == {"c", "e"}


# as the second revision left the words of facts behind
WITH_ACCENTS = (
    (
        "UPDATE memory.passages p SET lexemes = to_tsvector('english', m.content) "
        "FROM memory.memories m WHERE m.tenant_id = p.tenant_id AND m.id = p.id"
    ),
    (
        "UPDATE memory.passages SET length = memory.words_length(lexemes), "
        "weights = memory.words_weights(lexemes, 12), keys = memory.term_keys(tenant_id, kind, lexemes)"
    ),
    "DELETE FROM memory.term_statistics",
    (
        "INSERT INTO memory.term_statistics (tenant_id, kind, term, passages) "
        "SELECT tenant_id, kind, memory.term_id(lexeme), count(*) FROM memory.passages, unnest(lexemes) GROUP BY 1, 2, 3"
    ),
)


async def test_what_was_stored_before_loses_its_accents_with_the_migration(database_url: str) -> None:
    async with MemoryCore.open(database_url, embeddings=False) as core:
        for fact in (*ACCENTED, *ENGLISH):
            await core.remember(fact, user_id="u")
        await core.passages.catch_up()
        await asyncio.to_thread(run_sql, database_url, *WITH_ACCENTS)
        await migrate.downgrade(core.database, "0002")
        await migrate.upgrade(core.database)
    async with MemoryCore.open(database_url, embeddings=False) as core:
        assert [hit.text for hit in await core.recall("cafe", user_id="u")] == [ACCENTED[0]]
        assert await core.recall("résumé", user_id="u")
        assert await core.recall("resume", user_id="u") == []
        await check_scores(core, ["cafe zurich", "green tea"])
        assert await core.languages.reread() == 1  # the only word with a second form
        assert [hit.text for hit in await core.recall("resume", user_id="u")] == [ACCENTED[1]]


# ---------------------------------------------------------------- exact BM25


def bm25(query: list[str], documents: dict[Any, dict[str, int]], kind: int = 1) -> dict[Any, float]:
    """By the book: k1 = 0.9, b = 0.4, the inverse document frequency of these documents alone."""
    scores = {}
    for name, counts in documents.items():
        norm = 0.9 * (1 - 0.4 + 0.4 * sum(counts.values()) / AVERAGE_LENGTH[kind])
        score = 0.0
        for term in query:
            containing = sum(term in other for other in documents.values())
            idf = math.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
            tf = counts.get(term, 0)
            score += idf * tf * 1.9 / (tf + norm)
        scores[name] = score
    return scores


async def documents_of(core: MemoryCore) -> dict[Any, dict[str, int]]:
    rows = await core.database.fetch(
        "SELECT id, lexeme, cardinality(positions) AS n FROM memory.passages, unnest(lexemes) WHERE tenant_id = $1",
        core.tenant,
    )
    documents: dict[Any, dict[str, int]] = {}
    for row in rows:
        documents.setdefault(row["id"], {})[row["lexeme"]] = row["n"]
    return documents


async def check_scores(core: MemoryCore, queries: list[str]) -> None:
    documents = await documents_of(core)
    for query in queries:
        languages = await core.languages.get()
        rows = await core.database.fetch("SELECT memory.query_words($1, $2) AS word", languages, query)
        wanted = {name: score for name, score in bm25([row["word"] for row in rows], documents).items() if score > 0}
        found = await core.passages.search(words=query, vector=None, kinds=[1])
        assert {each.id: each.words for each in found} == pytest.approx(wanted, rel=1e-4)


async def test_scores_are_exactly_bm25_in_several_languages_and_tenants(database_url: str) -> None:
    """Each tenant has its own document frequencies, also after it changed its languages."""
    texts = {"one": [*ENGLISH, *GERMAN, *CHINESE], "two": [*ENGLISH * 2, "green green tea", *THAI]}
    queries = ["green tea", "welches Haus?", "houses of Rome", "北京的绿茶", "ชาเขียว Alice"]
    async with MemoryCore.open(database_url, embeddings=False) as core:
        tenants = [core.for_tenant(name) for name in texts]
        for tenant, facts in zip(tenants, texts.values(), strict=True):
            for place, fact in enumerate(facts):
                await tenant.remember(fact, user_id="u", key=str(place))
            await tenant.passages.catch_up()
            await check_scores(tenant, queries)
        seen: list[tuple[int, int]] = []
        assert await tenants[0].languages.set(["german", "english"], progress=lambda *now: seen.append(now)) > 0
        assert seen == [(10, 10)]
        assert await tenants[0].languages.get() == ["german", "english"]
        assert await tenants[1].languages.get() == ["english"]
        for tenant in tenants:
            await check_scores(tenant, queries)
        assert (await tenants[0].recall("Haus", user_id="u"))[0].text == GERMAN[0]
        assert await tenants[0].languages.reread() == 0


async def test_an_unknown_language_is_refused(core: MemoryCore) -> None:
    with pytest.raises(InvalidInputError, match="klingon"):
        await core.languages.set(["english", "klingon"])
    assert await core.languages.get() == ["english"]
