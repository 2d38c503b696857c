"""Searches by meaning in a space with an index: 20,000 vectors of 50 users, checked against an exact scan."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from memory_plugin.capabilities import nearest
from memory_plugin.capabilities.passages import MEMORY, Scope
from memory_plugin.capabilities.vectors import QueryVector
from memory_plugin.core import MemoryCore
from memory_plugin.langgraph.store import MemoryStore
from tests.conftest import run_sql, with_database
from tests.counting import counted

DIMS = 16
USERS = 50
EACH = 400


class Numbers:
    """Reads a vector from its text."""

    name = "numbers"
    dims: int | None = DIMS

    async def embed_documents(self, texts: Any) -> list[list[float]]:
        return [self.vector(text) for text in texts]

    async def embed_query(self, text: str) -> list[float]:
        return self.vector(text)

    def vector(self, text: str) -> list[float]:
        numbers = random.Random(text)
        return [numbers.gauss(0, 1) for _ in range(DIMS)]


ROWS = f"""
INSERT INTO memory.memories (tenant_id, id, item_id, namespace, key, content, content_hash, value, user_id)
SELECT 'default', gen_random_uuid(), gen_random_uuid(), ARRAY['memories', 'u' || n % {USERS}], n::text, 'fact ' || n,
       sha256(n::text::bytea), jsonb_build_object('content', 'fact ' || n), 'u' || n % {USERS}
FROM generate_series(1, {USERS * EACH}) AS n
"""
PASSAGES = """
INSERT INTO memory.passages (tenant_id, id, kind, user_id, said_at, length, lexemes, weights)
SELECT tenant_id, id, 1, user_id, recorded_at, 2, '', '{}/268435456' FROM memory.memories
"""
VECTORS = f"""
INSERT INTO memory.embeddings (tenant_id, model_id, passage_id, vector)
SELECT p.tenant_id, m.model_id, p.id, v.vector FROM memory.embedding_models m, memory.passages p, LATERAL (
    SELECT l2_normalize(array_agg(random() + random() + random() - 1.5)::real[]::vector::halfvec) AS vector
    FROM generate_series(1, {DIMS}) WHERE p.id IS NOT NULL
) AS v
"""


@pytest.fixture(scope="module")
def crowd(server_url: str, template: str, worker_id: str) -> Iterator[str]:
    """A database with the vectors and their index."""
    name = f"crowd_{worker_id}"
    run_sql(server_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    url = with_database(server_url, name)

    async def index() -> None:
        async with MemoryCore.open(url, embeddings=Numbers()) as core:
            await core.indexed()
            await asyncio.to_thread(run_sql, url, ROWS, PASSAGES, VECTORS, "ANALYZE")
            assert await core.spaces.tend()

    asyncio.run(index())
    yield url
    run_sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def core(crowd: str) -> AsyncIterator[MemoryCore]:
    async with MemoryCore.open(crowd, embeddings=Numbers()) as opened:
        yield opened


async def vector_of(core: MemoryCore, text: str) -> QueryVector:
    vector = await core.passages.embed_query(text)
    assert vector is not None
    assert vector.space.is_indexed
    return vector


async def exact(core: MemoryCore, vector: QueryVector, where: str = "true", limit: int = 10) -> set[Any]:
    rows = await core.database.fetch(
        f"""SELECT p.id FROM memory.passages p JOIN memory.embeddings e ON e.passage_id = p.id WHERE {where}
        ORDER BY (e.vector <#> $1::text::halfvec) + 0 LIMIT {limit}""",
        str(list(vector)),
    )
    return {row["id"] for row in rows}


async def found(core: MemoryCore, vector: QueryVector, scope: Scope | None = None) -> set[Any]:
    candidates = await core.passages.search(words=None, vector=vector, kinds=[MEMORY], scope=scope or Scope(), limit=10)
    return {each.id for each in candidates}


async def test_each_of_fifty_users_finds_ten_of_ten(core: MemoryCore) -> None:
    store = MemoryStore(core, core.bridge)
    hits = 0
    for user in (f"u{number}" for number in range(USERS)):
        items = await store.asearch(("memories", user), query=f"a question of {user}", limit=10)
        assert len(items) == 10
        wanted = await exact(core, await vector_of(core, f"a question of {user}"), f"p.user_id = '{user}'")
        rows = await core.database.fetch("SELECT id FROM memory.memories WHERE key = ANY ($1)", [i.key for i in items])
        hits += len(wanted & {row["id"] for row in rows})
    assert hits >= 0.95 * 10 * USERS


@pytest.mark.parametrize("walks", [True, False])
async def test_a_filter_leaves_the_whole_limit(core: MemoryCore, monkeypatch: pytest.MonkeyPatch, walks: bool) -> None:
    """Also where the index is walked for a filter that one in fifty vectors fulfils."""
    if walks:
        monkeypatch.setattr(nearest, "EXACT", 0)
    hits = 0
    for number in range(20):
        vector = await vector_of(core, f"question {number}")
        ids = await found(core, vector, Scope(user_id=f"u{number}"))
        assert len(ids) == 10
        hits += len(ids & await exact(core, vector, f"p.user_id = 'u{number}'"))
    assert hits >= 0.95 * 200


async def test_a_search_of_all_is_as_good_as_an_exact_one(core: MemoryCore) -> None:
    hits = 0
    for number in range(30):
        vector = await vector_of(core, f"question {number}")
        hits += len(await found(core, vector) & await exact(core, vector))
    assert hits >= 0.95 * 300


async def test_an_index_that_gives_too_little_is_made_up_for(core: MemoryCore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk is cut short on its way to those that lie farthest from the question."""
    monkeypatch.setattr(nearest, "EXACT", 0)
    monkeypatch.setattr(nearest, "MOST_VISITED", 1)
    vector = await vector_of(core, "question")
    opposite = QueryVector([-number for number in vector], vector.space)
    far = await exact(core, opposite, limit=12)
    candidates = await core.passages.search(
        words=None, vector=vector, kinds=[MEMORY], conditions={MEMORY: ("p.id = ANY ({0})", [list(far)])}, limit=10
    )
    assert len({each.id for each in candidates} & far) == 10


async def test_pages_are_cut_from_one_list(core: MemoryCore) -> None:
    store = MemoryStore(core, core.bridge)
    pages = [await store.asearch((), query="question", limit=40, offset=start) for start in range(0, 200, 40)]
    keys = [item.key for page in pages for item in page]
    assert len(keys) == len(set(keys)) == 200
    assert keys == [item.key for item in await store.asearch((), query="question", limit=200)]


async def test_a_search_is_one_statement_that_walks_the_index(core: MemoryCore) -> None:
    vector = await vector_of(core, "question")
    async with counted(core.database) as sent:
        await found(core, vector)
    (statement,) = sent
    plan = await plan_of(core, statement, vector)
    (walk,) = [line for line in plan.splitlines() if "_hnsw on embeddings" in line]
    assert "never executed" not in walk
    others = [line for line in plan.splitlines() if "Seq Scan on embeddings" in line]
    assert all("never executed" in line for line in others)


async def test_the_settings_of_the_walk_end_with_the_statement(core: MemoryCore) -> None:
    async with core.database.raw() as connection:
        before = await connection.fetchval("SELECT current_setting('hnsw.iterative_scan', true)")
    await found(core, await vector_of(core, "question"))
    for _ in range(8):
        async with core.database.raw() as connection:
            after = await connection.fetchval("SELECT current_setting('hnsw.iterative_scan', true)")
            assert after in {before, "off", ""}


async def test_namespaces_are_listed_by_their_index(core: MemoryCore) -> None:
    """Of 20,000 items in 50 namespaces as many rows are read as there are namespaces."""
    store = MemoryStore(core, core.bridge)
    async with counted(core.database) as sent:
        found = await store.alist_namespaces(prefix=("memories",), limit=USERS)
    assert len(found) == USERS
    (statement,) = sent
    arguments = [core.tenant, ["memories"], ["memories\x01"], USERS, 0]
    rows = await core.database.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement}", *arguments)
    scans = [row[0] for row in rows if " on memories" in row[0]]
    assert scans
    assert all("memories_current_key" in scan for scan in scans)
    assert all("rows=1.00 " in scan for scan in scans)


async def plan_of(core: MemoryCore, statement: str, vector: QueryVector) -> str:
    from memory_plugin.embedding import vector_text

    rows = await core.database.fetch(f"EXPLAIN ANALYZE {statement}", core.tenant, 10, vector_text(vector))
    return "\n".join(row[0] for row in rows)
