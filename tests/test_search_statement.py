"""The statement of a search reads little: neither other tenants' rows, nor whole threads, nor all terms."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest

from memory_plugin.capabilities import passage_search
from memory_plugin.capabilities import passages as passages_module
from memory_plugin.capabilities.passage_search import (
    CANDIDATES,
    MEMORY,
    MESSAGE,
    NAME_RARITY,
    Scope,
    SearchBuilder,
    nominating,
    term_id,
)
from memory_plugin.core import MemoryCore
from memory_plugin.db.database import Database
from memory_plugin.settings import Settings
from memory_plugin.types import HIT_KINDS
from tests.counting import counted


@pytest.fixture
async def words_only(database_url: str) -> Any:
    async with MemoryCore.open(database_url, embeddings="none") as core:
        yield core


async def test_every_word_has_a_number_of_its_own(database: Database) -> None:
    """20,000 words in a space of 28 bits: one pair may meet by chance, thousands would be a fault."""
    words = [f"word{place}" for place in range(20_000)]
    numbers = await database.fetch("SELECT memory.term_id(word) AS number FROM unnest($1::text[]) AS w (word)", words)
    assert [row["number"] for row in numbers[:50]] == [term_id(word) for word in words[:50]]
    assert len({row["number"] for row in numbers}) >= len(words) - 5
    assert max(row["number"] for row in numbers) > 1 << 27


@pytest.mark.parametrize("kind", [MEMORY, MESSAGE])
async def test_the_keys_of_a_search_are_those_of_the_index(database: Database, kind: int) -> None:
    builder = SearchBuilder(database, "tenant of two", Scope(), 10)
    for lexeme in ("walrus", "über", "東"):
        keys = await database.fetchval(
            "SELECT memory.term_keys('tenant of two', $1::int::smallint, $2::text::tsvector)", kind, f"'{lexeme}'"
        )
        assert keys == [builder._key(term_id(lexeme), kind)]


async def test_tenants_share_no_keys(database_url: str) -> None:
    """The same words in two tenants: the index of one leads to no row of the other."""
    for tenant in ("a", "b"):
        async with MemoryCore.open(database_url, tenant=tenant, embeddings="none") as core:
            await core.remember("Walruses sleep on the beach", user_id="u")
            await core.indexed()
    rows = await core_rows(database_url, "SELECT tenant_id, keys FROM memory.passages")
    assert len(rows) == 2
    assert not set(rows[0]["keys"]) & set(rows[1]["keys"])
    assert len(rows[0]["keys"]) == len(rows[1]["keys"]) > 2


async def core_rows(url: str, statement: str) -> Any:
    async with MemoryCore.open(url, embeddings="none") as core:
        return await core.database.as_login().fetch(statement)


async def test_the_numbers_of_a_queries_terms_are_looked_up_one_by_one(database_url: str) -> None:
    """Even where there are no statistics of tables: a join would read all the terms that the tenant has."""
    settings = Settings().model_copy(update={"pool_size": 1})
    async with MemoryCore.open(database_url, embeddings="none", settings=settings) as core:
        await core.database.execute(
            "INSERT INTO memory.term_statistics (tenant_id, kind, term, passages) "
            "SELECT 'default', 1, place, 1 FROM generate_series(1, 3000) AS place"
        )
        await core.passages.read("walrus beach", [MEMORY])
        before = await rows_read(core, "term_statistics")
        await core.passages.read("walrus beach", [MEMORY])
        assert await rows_read(core, "term_statistics") == before


async def rows_read(core: MemoryCore, table: str) -> int:
    """How many rows of a table were read so far, by scans of it or by way of an index."""
    await core.database.fetch("SELECT pg_stat_force_next_flush()")
    await core.database.fetch("SELECT pg_stat_clear_snapshot()")
    statement = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = $1"
    return int(await core.database.fetchval(statement, table))


async def test_neighbours_are_read_from_nearby(words_only: MemoryCore) -> None:
    """A thread of 400 messages, one that matches: of the index of threads a handful of rows is read."""
    said = [{"role": "user", "content": "walrus" if place == 200 else f"turn {place}"} for place in range(400)]
    await words_only.conversations.append("t", said, user_id="u")
    await words_only.indexed()
    await words_only.database.as_login().execute("ANALYZE memory.passages")
    terms = await words_only.passages.query_terms("walrus", [MESSAGE])
    builder = SearchBuilder(words_only.database, "default", Scope(user_id="u"), 10)
    builder.add(MESSAGE, terms, None)
    statement, arguments = builder.build(2, None)
    plan = await words_only.database.fetch("EXPLAIN (ANALYZE, TIMING OFF) " + statement, *arguments)
    lines = [row[0] for row in plan if "passages_thread_idx" in row[0]]
    assert len(lines) == 2, "\n".join(row[0] for row in plan)
    assert all("rows=2.00" in line or "rows=2 " in line for line in lines)


async def scans_of(core: MemoryCore, *indexes: str) -> list[int]:
    """How often each index was read so far, by all connections that are at rest."""
    await core.database.fetch("SELECT pg_stat_force_next_flush()")
    await core.database.fetch("SELECT pg_stat_clear_snapshot()")
    rows = await core.database.fetch("SELECT indexrelname, idx_scan FROM pg_stat_user_indexes")
    counts = {row["indexrelname"]: row["idx_scan"] for row in rows}
    return [counts[name] for name in indexes]


async def test_words_are_found_by_the_index_of_words_or_among_the_few_of_a_user(database_url: str) -> None:
    """Without statistics as well as with them: never by way of all passages of the tenant."""
    settings = Settings().model_copy(update={"pool_size": 1})
    async with MemoryCore.open(database_url, embeddings="none", settings=settings) as core:
        await core.remember_many(f"walrus number {place} of the north" for place in range(600))
        await core.remember_many([f"walrus {place} is mine" for place in range(20)], user_id="few")
        await core.passages.catch_up()
        for prepare in ("SELECT 1", "ANALYZE"):
            await core.database.execute(prepare)
            for user, by_words, by_user in ((None, 1, 0), ("few", 0, 4)):
                await core.passages.read("walrus", [MEMORY])
                before = await scans_of(core, "passages_keys_idx", "passages_user_idx")
                found = await core.passages.search(words="walrus", vector=None, kinds=[MEMORY], scope=Scope(user))
                after = await scans_of(core, "passages_keys_idx", "passages_user_idx")
                assert len(found) == CANDIDATES
                assert [now - then for then, now in zip(before, after, strict=True)] == [by_words, by_user]


@pytest.mark.parametrize("few", [True, False], ids=["among few", "among many"])
async def test_a_recall_is_one_to_four_statements(
    database_url: str, monkeypatch: pytest.MonkeyPatch, few: bool
) -> None:
    """One that reads the question, among many one for candidates, and one for the text of each kind of the best; the
    facts come with the candidates among few."""
    monkeypatch.setattr(passages_module, "FEW", 3_000 if few else 0)
    async with MemoryCore.open(database_url) as core:
        await core.remember("Walruses sleep on the beach", user_id="u")
        await core.conversations.append("t", [{"role": "user", "content": "I saw a walrus"}], user_id="u")
        await core.recall("When do walruses sleep?", user_id="u")
        await core.indexed()
        await core._indexer.stop()
        core.kick = lambda: None  # type: ignore[method-assign]
        asked = (
            {("memory",): 1, ("message",): 2, HIT_KINDS: 2} if few else {("memory",): 3, ("message",): 3, HIT_KINDS: 4}
        )
        for kinds, statements in asked.items():
            await core.recall("Where do walruses sleep?", user_id="u", kinds=kinds)  # type: ignore[arg-type]
            async with counted(core.database) as sent:
                hits = await core.recall("When did I see walruses?", user_id="u", kinds=kinds)  # type: ignore[arg-type]
            assert hits and hits.words_only is None
            assert len(sent) == statements, sent


async def test_many_that_come_at_once_leave_statistics_behind(words_only: MemoryCore) -> None:
    """Searches come before autovacuum does: without statistics, the planner would read a tenant for each hit."""
    said = [{"role": "user", "content": f"turn {place}"} for place in range(1_100)]
    await words_only.conversations.append("t", said, user_id="u")
    await words_only.indexed()
    known = "SELECT reltuples FROM pg_class WHERE oid = 'memory.passages'::regclass"
    assert await words_only.database.fetchval(known) >= 500


def _term(number: int, containing: int, passages: int) -> Any:
    weight = math.log(1 + (passages - containing + 0.5) / (containing + 0.5))
    return {"lexeme": str(number), "term": number, "containing": containing, "passages": passages, "weight": weight}


def test_the_rarest_terms_nominate_within_the_budget() -> None:
    """A sixty-fourth of the passages, but no less than 2,000 and no more than 5,000; the only term always does."""
    counts = {1: 30_000, 2: 5, 3: 3_400, 4: 1_500}
    for passages, chosen in ((50_000, [2, 4]), (360_000, [2, 4, 3]), (5_000_000, [2, 4])):
        of_tenant = counts if passages < 1_000_000 else {**counts, 3: 3_600}
        assert nominating([_term(number, count, passages) for number, count in of_tenant.items()])[0] == chosen
    assert nominating([_term(1, 90_000, 100_000)]) == ([1], [], [])


def test_the_weightiest_pairs_of_the_other_terms_nominate_within_their_budget() -> None:
    terms = [_term(number, count, 100_000) for number, count in ((1, 1_900), (2, 5_000), (3, 9_000), (4, 10_000))]
    assert nominating(terms) == ([1], [(2, 3), (2, 4)], []), "450 and 500 passages; the third pair's 900 are too many"
    many = [_term(number, 2_000 + number, 100_000) for number in range(7)]
    assert nominating(many) == ([0], [(1, 2), (1, 3), (1, 4), (2, 3), (1, 5), (2, 4)], [])


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        ([3_000, 4_000, 90_000], [(0, 1)]),  # 120 passages; 2,700 have one of them and the third
        ([20_000, 20_000, 20_000, 21_000], [(0, 1, 2)]),  # 800, another one has as many; pairs have 4,000
        ([60_000, 70_000], [(0, 1)]),
        ([60_000] * 9, [(0, 1, 2, 3, 4, 5)]),
    ],
    ids=["pairs", "three", "all", "no more than six"],
)
def test_where_every_term_is_common_they_nominate_together(counts: list[int], groups: list[tuple[int, ...]]) -> None:
    """What has the rarest by itself is looked at only where they bring hardly anything."""
    terms = [_term(number, count, 100_000) for number, count in enumerate(counts)]
    assert nominating(terms) == ([], groups, [0])


def test_a_question_of_thousands_of_common_words_is_read_at_once() -> None:
    terms = [_term(number, 30_000 + number, 100_000) for number in range(5_000)]
    started = time.process_time()
    assert nominating(terms)[2] == [0]
    assert time.process_time() - started < 0.5


async def test_common_words_that_never_stand_together_are_found(
    words_only: MemoryCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passages_module, "FEW", 0)
    monkeypatch.setattr(passage_search, "LEAST_WORD_BUDGET", 5)
    monkeypatch.setattr(passage_search, "GROUP_BUDGET", 1)
    await words_only.remember_many([f"walrus number {place}" for place in range(30)])
    await words_only.remember_many([f"seal number {place}" for place in range(40)])
    await words_only.indexed()
    async with counted(words_only.database) as sent:
        hits = await words_only.recall("a walrus or a seal?", limit=20)
    assert "best_by_terms" in sent[-2] + sent[-1]
    assert {hit.text.split()[0] for hit in hits} == {"walrus"}, "the rarer one is what is fallen back on"
    await words_only.remember("a seal beside a walrus")
    await words_only.indexed()
    assert (await words_only.recall("a walrus or a seal?"))[0].text == "a seal beside a walrus"


@pytest.mark.parametrize("user", [None, "u"])
async def test_what_has_a_pair_of_common_words_is_found_and_measured_once(
    words_only: MemoryCore, user: str | None
) -> None:
    facts = [f"walrus {place}" for place in range(60)] + [f"seal {place}" for place in range(60)]
    both = ["a seal beside a walrus", "the walrus and the seal", "a narwhal, a walrus and a seal"]
    await words_only.remember_many([*facts, *both], user_id="u")
    await words_only.indexed()
    reading = await words_only.passages.read("seal walrus narwhal", [MEMORY])
    builder = SearchBuilder(words_only.database, "default", Scope(user_id=user), 10)
    keys = {term["lexeme"]: builder._key(term["term"], MEMORY) for term in reading.terms}
    query = "{" + ",".join(f"{term['term']}:{term['weight']}" for term in reading.terms) + f"}}/{1 << 28}"
    rows = await words_only.database.fetch(
        "SELECT m.content, n.score FROM memory.found_by_terms("
        "'default', 1::smallint, $1::text::int4[], $2::text::int4[], $3::text::sparsevec, 10, $4, true, NULL, NULL, NULL, NULL) n "
        "JOIN memory.memories m ON m.id = n.id ORDER BY n.score DESC",
        f"{{{keys['narwhal']}}}",
        f"{{{{{keys['seal']},{keys['walrus']}}}}}",
        query,
        user,
    )
    assert {row["content"] for row in rows[:3]} == set(both)
    assert len({row["content"] for row in rows}) == len(rows) == (3 if user is None else 10)


async def test_a_name_is_no_rare_word_to_what_is_said(words_only: MemoryCore) -> None:
    """Who is called may be rare in a tenant, and stands in half of what is said to them; to facts it is a word."""
    said = [{"role": "user", "content": f"turn {place}"} for place in range(20)]
    await words_only.conversations.append("t", [*said, {"role": "user", "content": "Ann drinks tea"}], user_id="u")
    await words_only.remember("Ann drinks tea")
    await words_only.passages.catch_up()
    terms = await words_only.passages.query_terms("does Ann drink", [MEMORY, MESSAGE], ["Ann", "Ann Lee"])
    weights = {(row["lexeme"], row["kind"]): row["weight"] for row in terms}
    rare = math.log(1 + (21 - 1 + 0.5) / (1 + 0.5))
    assert weights["ann", MESSAGE] == NAME_RARITY < weights["drink", MESSAGE] == pytest.approx(rare)
    assert weights["ann", MEMORY] == weights["drink", MEMORY] == pytest.approx(math.log(1 + 0.5 / 1.5))


@pytest.mark.parametrize("way", ["new words", "words read anew", "words that go"])
async def test_whoever_counts_words_takes_the_corpus_before_any_term(
    words_only: MemoryCore, database: Database, way: str
) -> None:
    """So two of them never wait for each other."""
    fact = await words_only.remember("The walruses are sleeping", user_id="u")
    await words_only.indexed()
    async with database.transaction() as other:
        await other.execute("SELECT FROM memory.corpus_statistics FOR UPDATE")
        if way == "new words":
            await words_only.remember("Walruses swim", user_id="u")
            counting: asyncio.Task[object] = asyncio.create_task(words_only.passages.catch_up())
        elif way == "words that go":
            counting = asyncio.create_task(words_only.forget(item_id=fact.id, hard=True))
        else:
            counting = asyncio.create_task(words_only.passages.languages.set(["german"]))
        while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        free = await other.fetchval(
            "SELECT count(*) FROM (SELECT FROM memory.term_statistics FOR UPDATE SKIP LOCKED) t"
        )
        assert free == await other.fetchval("SELECT count(*) FROM memory.term_statistics")
    await counting
