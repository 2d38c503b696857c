"""The statement of a search reads little: neither other tenants' rows, nor whole threads, nor all terms."""

from __future__ import annotations

from typing import Any

import pytest

from memory_plugin.capabilities.passage_search import (
    MEMORY,
    MESSAGE,
    NAME_RARITY,
    Scope,
    SearchBuilder,
    _rarity,
    nominating,
    term_id,
)
from memory_plugin.core import MemoryCore
from memory_plugin.db.database import Database


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
        return await core.database.fetch(statement)


async def test_the_numbers_of_a_queries_terms_are_looked_up_one_by_one(words_only: MemoryCore) -> None:
    """Even where there are no statistics of tables: a join would read all the terms that the tenant has."""
    passages, database = words_only.passages, words_only.database
    await database.execute(
        "INSERT INTO memory.term_statistics (tenant_id, kind, term, passages) "
        "SELECT 'default', 1, place, 1 FROM generate_series(1, 3000) AS place"
    )
    plan = await database.fetch(
        "EXPLAIN " + passages._read,
        *("default", passages.languages.setting, "walrus beach", [1, 2, 3], [], None, None, "-1", []),
    )
    text = "\n".join(row[0] for row in plan)
    assert "(term = t.term)" in text
    assert "Seq Scan on term_statistics" not in text


async def test_neighbours_are_read_from_nearby(words_only: MemoryCore) -> None:
    """A thread of 400 messages, one that matches: of the index of threads a handful of rows is read."""
    said = [{"role": "user", "content": "walrus" if place == 200 else f"turn {place}"} for place in range(400)]
    await words_only.conversations.append("t", said, user_id="u")
    await words_only.indexed()
    await words_only.database.execute("ANALYZE memory.passages")
    terms = await words_only.passages.query_terms("walrus", [MESSAGE])
    builder = SearchBuilder(words_only.database, "default", Scope(user_id="u"), 10)
    builder.add(MESSAGE, terms, None)
    statement, arguments = builder.build(2, None)
    plan = await words_only.database.fetch("EXPLAIN (ANALYZE, TIMING OFF) " + statement, *arguments)
    lines = [row[0] for row in plan if "passages_thread_idx" in row[0]]
    assert len(lines) == 2, "\n".join(row[0] for row in plan)
    assert all("rows=2.00" in line or "rows=2 " in line for line in lines)


async def test_many_that_come_at_once_leave_statistics_behind(words_only: MemoryCore) -> None:
    """Searches come before autovacuum does: without statistics, the planner would read a tenant for each hit."""
    said = [{"role": "user", "content": f"turn {place}"} for place in range(1_100)]
    await words_only.conversations.append("t", said, user_id="u")
    await words_only.indexed()
    known = "SELECT reltuples FROM pg_class WHERE oid = 'memory.passages'::regclass"
    assert await words_only.database.fetchval(known) >= 500


def test_the_rarest_terms_nominate_within_the_budget() -> None:
    """A twentieth of the passages, but no less than 5,000 and no more than 20,000; one term always does."""

    def term(number: int, containing: int, passages: int) -> Any:
        return {"lexeme": str(number), "term": number, "containing": containing, "passages": passages}

    counts = {1: 30_000, 2: 5, 3: 10_000, 4: 4_000}
    for passages, chosen in ((50_000, [2, 4]), (290_000, [2, 4, 3]), (5_000_000, [2, 4, 3])):
        assert nominating([term(number, count, passages) for number, count in counts.items()]) == chosen
    assert nominating([term(1, 90_000, 100_000)]) == [1]


async def test_a_name_is_no_rare_word_to_what_is_said(words_only: MemoryCore) -> None:
    """Who is called may be rare in a tenant, and stands in half of what is said to them; to facts it is a word."""
    found = {
        row["lexeme"]: row["is_name"]
        for row in await words_only.passages.query_terms("When does Ann drink tea?", [MESSAGE], ["Ann", "Ann Lee"])
    }
    assert found == {"ann": True, "drink": False, "tea": False}
    rare: Any = {"passages": 1000, "containing": 2, "is_name": True}
    assert _rarity(rare, MESSAGE) == NAME_RARITY < _rarity(rare, MEMORY) == _rarity({**rare, "is_name": False}, MESSAGE)
