"""Long-term memories: what is remembered, superseded, undone and forgotten; items, namespaces, filters."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import RFC_4122, UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.capabilities.memories import Memories
from memory_plugin.capabilities.memory_filters import NamespacePattern, compile_filter, prefix_condition
from memory_plugin.capabilities.memory_items import ItemKey, ItemPut, ItemQuery, NamespaceQuery
from memory_plugin.capabilities.passages import Passages
from memory_plugin.db.database import Database
from memory_plugin.errors import (
    ConflictError,
    ContentTooLargeError,
    InvalidInputError,
    NotFoundError,
)
from memory_plugin.types import Source, uuid7


@pytest.fixture
def memories(database: Database) -> Memories:
    return Memories(database, tenant="acme")


async def count(database: Database, table: str, condition: str = "true") -> int:
    return int(await database.fetchval(f"SELECT count(*) FROM memory.{table} WHERE {condition}"))


async def expire(database: Database, key: str) -> None:
    """Let the lifetime of an item be over."""
    await database.execute("UPDATE memory.memories SET expires_at = now() - interval '1 second' WHERE key = $1", key)


# ---------------------------------------------------------------- remember


async def test_a_new_fact_is_created_under_its_user(memories: Memories) -> None:
    item = await memories.remember("Alice prefers tea", user_id="alice")
    assert (item.status, item.namespace, item.version, item.user_id) == (
        "created",
        ("memories", "alice"),
        1,
        "alice",
    )


async def test_a_fact_of_nobody_goes_to_the_common_namespace(memories: Memories) -> None:
    item = await memories.remember("The office closes at six")
    assert (item.namespace, item.user_id) == (("memories",), None)


async def test_the_user_of_the_store_is_the_default(database: Database) -> None:
    item = await Memories(database, tenant="acme", user_id="bob").remember("Bob likes jazz")
    assert (item.namespace, item.user_id) == (("memories", "bob"), "bob")


async def test_the_namespace_tells_whose_fact_it_is(memories: Memories) -> None:
    item = await memories.remember("Carol is left-handed", namespace=("memories", "carol", "body"))
    assert item.user_id == "carol"


async def test_a_remembered_fact_reads_as_a_store_item(memories: Memories) -> None:
    item = await memories.remember("Alice prefers tea", user_id="alice", metadata={"topic": "drinks"})
    (stored,) = await memories.items.get([ItemKey(item.namespace, item.key)])
    assert stored is not None
    assert stored.value == {"content": "Alice prefers tea"}


async def test_everything_given_is_kept(memories: Memories) -> None:
    since, until = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    written = await memories.remember(
        "Dan works at Acme",
        user_id="dan",
        agent_id="scribe",
        key="job",
        value={"b": 1, "a": 2},
        metadata={"topic": "work"},
        source={"thread_id": "t1", "message_id": "m1"},
        importance=0.9,
        trust="document",
        valid_from=since,
        valid_to=until,
    )
    read = await memories.get(written.id)
    assert (read.thread_id, read.agent_id, read.importance, read.trust) == ("t1", "scribe", 0.9, "document")
    assert (read.valid_from, read.valid_to, read.metadata) == (since, until, {"topic": "work"})
    assert read.source == Source(thread_id="t1", message_id="m1")
    assert list(read.value) == ["b", "a"]


@pytest.mark.parametrize("again", ["alice  PREFERS\ttea", "Ａlice prefers tea", " Alice prefers tea\n"])
async def test_the_same_text_in_other_clothes_is_a_duplicate(memories: Memories, again: str) -> None:
    first = await memories.remember("Alice prefers tea", user_id="alice")
    second = await memories.remember(again, user_id="alice")
    assert (second.status, second.id, second.content) == ("duplicate", first.id, "Alice prefers tea")


async def test_the_same_text_of_another_user_is_no_duplicate(memories: Memories) -> None:
    await memories.remember("prefers tea", user_id="alice")
    assert (await memories.remember("prefers tea", user_id="bob")).status == "created"


async def test_a_fact_put_into_the_store_is_known(memories: Memories) -> None:
    await memories.items.put(
        [ItemPut(("memories", "alice"), "k", {"content": "Alice prefers tea"}, content="Alice prefers tea")]
    )
    known = await memories.remember("alice prefers tea", user_id="alice")
    assert (known.status, known.key) == ("duplicate", "k")


async def test_another_text_under_the_key_supersedes(memories: Memories) -> None:
    first = await memories.remember("Alice lives in Rome", user_id="alice", key="home")
    second = await memories.remember("Alice lives in Oslo", user_id="alice", key="home")
    assert (second.status, second.id, second.version, second.created_at) == (
        "updated",
        first.id,
        2,
        first.created_at,
    )


async def test_the_same_text_under_the_key_is_a_duplicate(memories: Memories) -> None:
    await memories.remember("Alice lives in Rome", user_id="alice", key="home", metadata={"a": 1})
    again = await memories.remember("alice lives in rome", user_id="alice", key="home")
    assert (again.status, again.version, again.metadata) == ("duplicate", 1, {"a": 1})


@pytest.mark.parametrize(
    "change",
    [{"metadata": {"a": 2}}, {"value": {"city": "Rome"}}, {"valid_to": datetime(2025, 1, 1, tzinfo=UTC)}],
)
async def test_the_same_text_with_something_new_about_it_supersedes(memories: Memories, change: Any) -> None:
    await memories.remember("Alice lives in Rome", user_id="alice", key="home", metadata={"a": 1})
    assert (await memories.remember("Alice lives in Rome", user_id="alice", key="home", **change)).status == "updated"


async def test_a_key_holds_its_text_even_if_another_key_has_it_too(memories: Memories) -> None:
    await memories.remember("likes tea", user_id="alice", key="first")
    await memories.remember("likes tea", user_id="alice", key="second")
    found = await memories.get_by_key(("memories", "alice"), "second")
    assert found is not None


async def test_a_text_whose_own_key_was_given_to_another_fact_gets_one_of_its_own(memories: Memories) -> None:
    first = await memories.remember("status: on", user_id="alice")
    await memories.remember("status: off", user_id="alice", key=first.key)
    again = await memories.remember("status: on", user_id="alice")
    assert (again.status, again.key != first.key) == ("created", True)
    assert (await memories.get(first.id)).content == "status: off"


async def test_many_writers_of_one_text_make_one_memory(database: Database, memories: Memories) -> None:
    items = await asyncio.gather(*(memories.remember("Alice prefers tea", user_id="alice") for _ in range(24)))
    assert sorted(item.status or "" for item in items) == ["created"] + ["duplicate"] * 23
    assert await count(database, "memories") == 1


async def test_many_writers_of_one_key_lose_no_version(memories: Memories) -> None:
    items = await asyncio.gather(*(memories.remember(f"mood {n}", user_id="alice", key="mood") for n in range(24)))
    history = await memories.history(items[0].id)
    assert [item.version for item in history] == list(range(1, 25))
    assert {item.content for item in history} == {f"mood {n}" for n in range(24)}
    assert [item.superseded_at is None for item in history] == [False] * 23 + [True]
    assert all(a.superseded_at == b.recorded_at for a, b in itertools.pairwise(history))


async def test_another_tenant_sees_nothing(database: Database, memories: Memories) -> None:
    item = await memories.remember("secret", user_id="alice")
    other = Memories(database, tenant="rival")
    with pytest.raises(NotFoundError):
        await other.get(item.id)
    assert (await other.list()).items == []
    assert (await other.remember("secret", user_id="alice")).status == "created"


BAD_FACTS: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"content": " \n"}, InvalidInputError),
    ({"content": "a\x00b"}, InvalidInputError),
    ({"content": "\ud800"}, InvalidInputError),
    ({"content": "x" * 1_000_001}, ContentTooLargeError),
    ({"content": "x", "importance": 1.5}, InvalidInputError),
    ({"content": "x", "importance": math.nan}, InvalidInputError),
    ({"content": "x", "trust": "rumour"}, InvalidInputError),
    ({"content": "x", "namespace": ()}, InvalidInputError),
    ({"content": "x", "namespace": ("a", "")}, InvalidInputError),
    ({"content": "x", "namespace": ("n" * 500,) * 5}, InvalidInputError),
    ({"content": "x", "source": {"page": "1"}}, InvalidInputError),
    ({"content": "x", "metadata": {"when": datetime(2024, 1, 1, tzinfo=UTC)}}, InvalidInputError),
    (
        {
            "content": "x",
            "valid_from": datetime(2025, 1, 1, tzinfo=UTC),
            "valid_to": datetime(2024, 1, 1, tzinfo=UTC),
        },
        InvalidInputError,
    ),
]


async def test_what_cannot_be_kept_is_refused(database: Database, memories: Memories) -> None:
    for arguments, error in BAD_FACTS:
        with pytest.raises(error):
            await memories.remember(**arguments)
    assert await count(database, "memories") == 0


async def test_the_error_names_what_is_no_json(memories: Memories) -> None:
    with pytest.raises(InvalidInputError, match=r"\['when'\]\[1\] is of type datetime"):
        await memories.remember("x", metadata={"when": [1, datetime(2024, 1, 1, tzinfo=UTC)]})


# ---------------------------------------------------------------- reading


async def test_a_memory_is_read_as_it_was_known_at_a_time(memories: Memories) -> None:
    first = await memories.remember("Alice lives in Rome", user_id="alice", key="home")
    await memories.remember("Alice lives in Oslo", user_id="alice", key="home")
    assert first.recorded_at is not None
    assert (await memories.get(first.id, as_of=first.recorded_at)).content == "Alice lives in Rome"
    assert (await memories.get(str(first.id))).content == "Alice lives in Oslo"
    with pytest.raises(NotFoundError):
        await memories.get(first.id, as_of=first.recorded_at - timedelta(seconds=1))


async def test_a_wrong_id_is_refused(memories: Memories) -> None:
    with pytest.raises(InvalidInputError):
        await memories.get("42")


async def test_listing_goes_page_by_page_without_losing_or_repeating(memories: Memories) -> None:
    for n in range(7):
        await memories.remember(f"fact {n}", user_id="alice")
    await memories.remember("other", user_id="bob")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await memories.list(user_id="alice", limit=3, cursor=cursor)
        seen += [item.content for item in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [f"fact {n}" for n in reversed(range(7))]


async def test_listing_stays_below_its_namespace(memories: Memories) -> None:
    for namespace in (("a",), ("a", "b"), ("ab",), ("b",)):
        await memories.remember("x", namespace=namespace)
    assert {item.namespace for item in (await memories.list(namespace=("a",))).items} == {("a",), ("a", "b")}


async def test_a_foreign_cursor_is_refused(memories: Memories) -> None:
    with pytest.raises(InvalidInputError):
        await memories.list(cursor="bm9uc2Vuc2U=")


# ---------------------------------------------------------------- undo and forget


async def test_undo_brings_the_version_before_back(memories: Memories) -> None:
    await memories.remember("Alice lives in Rome", user_id="alice", key="home", metadata={"a": 1})
    item = await memories.remember("Alice lives in Oslo", user_id="alice", key="home")
    undone = await memories.undo(item.id)
    assert (undone.content, undone.version, undone.metadata) == ("Alice lives in Rome", 3, {"a": 1})
    assert [version.content[-4:] for version in await memories.history(item.id)] == ["Rome", "Oslo", "Rome"]


async def test_undo_brings_a_forgotten_memory_back(memories: Memories) -> None:
    item = await memories.remember("Alice lives in Rome", user_id="alice", key="home")
    await memories.forget(item.id)
    assert (await memories.undo(item.id)).content == "Alice lives in Rome"
    assert await memories.get_by_key(("memories", "alice"), "home") is not None


async def test_undo_of_the_only_version_says_what_to_do(memories: Memories) -> None:
    item = await memories.remember("once", user_id="alice")
    with pytest.raises(InvalidInputError, match="forget it"):
        await memories.undo(item.id)


async def test_undo_does_not_push_another_memory_from_its_key(memories: Memories) -> None:
    item = await memories.remember("Alice lives in Rome", user_id="alice", key="home")
    await memories.forget(item.id)
    await memories.remember("Alice lives in Oslo", user_id="alice", key="home")
    with pytest.raises(ConflictError):
        await memories.undo(item.id)


async def test_undo_outlives_the_lifetime_the_forgotten_version_had(database: Database, memories: Memories) -> None:
    await memories.items.put([ItemPut(("n",), "k", {"a": 1}, ttl_minutes=5)])
    found = await memories.get_by_key(("n",), "k")
    assert found is not None
    await memories.forget(found.id)
    await memories.undo(found.id)
    await database.execute(
        "UPDATE memory.memories SET expires_at = now() - interval '1 s' "
        "WHERE superseded_at IS NOT NULL AND expires_at IS NOT NULL"
    )
    assert await memories.sweep_expired() == 0
    assert len(await memories.history(found.id)) == 2


async def test_a_forgotten_memory_is_found_nowhere_but_in_its_history(memories: Memories) -> None:
    item = await memories.remember("Alice prefers tea", user_id="alice")
    assert (await memories.forget(item.id))["memories"] == 1
    with pytest.raises(NotFoundError):
        await memories.get(item.id)
    assert await memories.get_by_key(item.namespace, item.key) is None
    assert (await memories.list()).items == []
    assert await memories.items.get([ItemKey(item.namespace, item.key)]) == [None]
    assert await memories.items.search([ItemQuery()]) == [[]]
    assert await memories.items.list_namespaces([NamespaceQuery()]) == [[]]
    assert len(await memories.history(item.id)) == 1


async def test_forgetting_twice_touches_nothing_and_an_unknown_one_is_an_error(memories: Memories) -> None:
    item = await memories.remember("Alice prefers tea", user_id="alice")
    await memories.forget(item.id)
    assert set((await memories.forget(item.id)).values()) == {0}
    with pytest.raises(NotFoundError):
        await memories.forget(uuid4())


async def test_erasing_leaves_no_row_of_any_version(database: Database, memories: Memories) -> None:
    passages = Passages(database, tenant="acme")
    item = await memories.remember("Alice lives in Rome", user_id="alice", key="home")
    await memories.remember("Alice lives in Oslo", user_id="alice", key="home")
    await passages.catch_up()
    await memories.remember("Alice lives in Kyoto", user_id="alice", key="home")
    counts = await memories.forget(item.id, hard=True)
    assert counts == {"memories": 3, "passages": 2, "embeddings": 0, "embedding_queue": 0, "index_queue": 1}
    for table in ("memories", "passages", "index_queue"):
        assert await count(database, table) == 0
    with pytest.raises(NotFoundError):
        await memories.history(item.id)


async def test_erasing_a_user_leaves_the_others(database: Database, memories: Memories) -> None:
    await memories.remember("likes tea", user_id="alice")
    await memories.remember("Alice lives in Rome", user_id="alice", key="home")
    await memories.remember("Alice lives in Oslo", user_id="alice", key="home")
    await memories.remember("likes beer", user_id="bob")
    assert (await memories.forget_user("alice"))["memories"] == 2
    assert (await memories.forget_user("alice", hard=True))["memories"] == 3
    assert [item.user_id for item in (await memories.list()).items] == ["bob"]


async def test_erasing_while_others_write_ends_well(memories: Memories) -> None:
    async def write(n: int) -> None:
        await memories.items.put(
            [ItemPut(("memories", "alice"), str(key), {"n": n}, user_id="alice") for key in range(20)]
        )

    await asyncio.gather(*(write(n) for n in range(6)), *(memories.forget_user("alice", hard=True) for _ in range(6)))
    await memories.forget_user("alice", hard=True)
    assert (await memories.forget_user("alice", hard=True))["memories"] == 0


# ---------------------------------------------------------------- the search index


async def test_what_is_superseded_leaves_the_index(database: Database, memories: Memories) -> None:
    passages = Passages(database, tenant="acme")
    first = await memories.remember("Alice lives in Rome", user_id="alice", key="home")
    await passages.catch_up()
    second = await memories.remember("Alice lives in Oslo", user_id="alice", key="home")
    await memories.remember("Alice lives in Kyoto", user_id="alice", key="home")
    closed = await database.fetchval("SELECT live_until FROM memory.passages")
    assert closed == second.recorded_at
    assert await count(database, "index_queue") == 2, "the middle version is found by as_of too"
    await passages.catch_up()
    found = await passages.search(words="Alice lives", vector=None, kinds=[1])
    rows = await memories.hydrate([candidate.id for candidate in found])
    assert [(row["content"], row["item_id"]) for row in rows.values()] == [("Alice lives in Kyoto", first.id)]


async def test_an_item_without_text_is_not_queued(database: Database, memories: Memories) -> None:
    await memories.items.put([ItemPut(("n",), "k", {"a": 1})])
    assert await count(database, "index_queue") == 0


# ---------------------------------------------------------------- items


async def test_an_unchanged_put_makes_no_version(database: Database, memories: Memories) -> None:
    put = ItemPut(("n",), "k", {"a": 1}, content="x")
    await memories.items.put([put])
    await memories.items.put([put])
    assert await count(database, "memories") == 1


async def test_a_float_and_an_integer_are_different_values(memories: Memories) -> None:
    await memories.items.put([ItemPut(("n",), "k", {"a": 1})])
    await memories.items.put([ItemPut(("n",), "k", {"a": 1.0})])
    (item,) = await memories.items.get([ItemKey(("n",), "k")])
    assert item is not None
    assert type(item.value["a"]) is float


async def test_a_put_keeps_what_was_known_about_the_memory(memories: Memories) -> None:
    first = await memories.remember("likes tea", user_id="alice", key="drink", metadata={"a": 1}, importance=0.75)
    await memories.items.put([ItemPut(first.namespace, "drink", {"content": "likes coffee"}, content="likes coffee")])
    now = await memories.get(first.id)
    assert (now.content, now.user_id, now.metadata, now.importance) == (
        "likes coffee",
        "alice",
        {"a": 1},
        0.75,
    )


async def test_a_deleted_item_comes_again_as_a_new_one(memories: Memories) -> None:
    await memories.items.put([ItemPut(("n",), "k", {"a": 1})])
    first = await memories.get_by_key(("n",), "k")
    await memories.items.put([ItemPut(("n",), "k", None)])
    assert await memories.get_by_key(("n",), "k") is None
    await memories.items.put([ItemPut(("n",), "k", {"a": 1})])
    second = await memories.get_by_key(("n",), "k")
    assert first is not None
    assert second is not None
    assert (second.version, second.id != first.id) == (1, True)


async def test_batches_of_the_same_keys_in_other_order_do_not_block_each_other(
    database: Database, memories: Memories
) -> None:
    async def write(writer: int) -> None:
        keys = range(30) if writer % 2 else reversed(range(30))
        await memories.items.put([ItemPut(("n",), str(key), {"writer": writer}) for key in keys])

    await asyncio.gather(*(write(writer) for writer in range(8)))
    assert await count(database, "memories", "superseded_at IS NULL") == 30
    assert await count(database, "memories") == 240


async def test_a_bad_put_writes_nothing_of_its_batch(database: Database, memories: Memories) -> None:
    with pytest.raises(InvalidInputError, match="'bad'"):
        await memories.items.put([ItemPut(("n",), "good", {"a": 1}), ItemPut(("n",), "bad", {"a": object()})])
    assert await count(database, "memories") == 0


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=st.dictionaries(st.text(), VALUES, max_size=4), data=st.data())
async def test_every_value_and_path_comes_back(database: Database, value: dict[str, Any], data: st.DataObject) -> None:
    """NUL, surrogates and odd floats in values; quotes, commas, braces and backslashes in paths."""
    labels = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=8)
    namespace = tuple(data.draw(st.lists(labels, min_size=1, max_size=3)))
    key = data.draw(st.sampled_from(['"', "\\", "a,b", "{}", "NULL", ""]) | labels)
    items = Memories(database, tenant=str(uuid4())).items
    await items.put([ItemPut(namespace, key, value)])
    (item,) = await items.get([ItemKey(namespace, key)])
    assert item is not None
    assert (item.namespace, item.key, item.value) == (namespace, key, value)
    assert orjson.dumps(list(item.value)) == orjson.dumps(list(value)) if all(map(str.isascii, value)) else True
    assert await items.list_namespaces([NamespaceQuery()]) == [[namespace]]


async def test_an_expired_item_is_found_nowhere(database: Database, memories: Memories) -> None:
    await memories.items.put([ItemPut(("n",), "k", {"a": 1}, content="short-lived", ttl_minutes=10)])
    found = await memories.get_by_key(("n",), "k")
    assert found is not None
    await expire(database, "k")
    assert await memories.get_by_key(("n",), "k") is None
    assert await memories.items.get([ItemKey(("n",), "k", refresh=True)]) == [None]
    assert await memories.items.search([ItemQuery(refresh=True)]) == [[]]
    assert await memories.items.list_namespaces([NamespaceQuery()]) == [[]]
    assert (await memories.list()).items == []
    assert (
        await memories.hydrate(
            [UUID(row["item"]) for row in await database.fetch("SELECT item FROM memory.index_queue")]
        )
        == {}
    )
    for ask in (memories.get, memories.history, memories.undo):
        with pytest.raises(NotFoundError):
            await ask(found.id)


async def test_an_expired_key_is_free_for_a_new_item(database: Database, memories: Memories) -> None:
    await memories.items.put([ItemPut(("memories",), "k", {"content": "old"}, content="old", ttl_minutes=10)])
    first = await memories.get_by_key(("memories",), "k")
    await expire(database, "k")
    second = await memories.remember("old", key="k")
    assert first is not None
    assert (second.status, second.version, second.id != first.id) == ("created", 1, True)


async def test_a_refreshing_read_lets_an_item_live_longer(database: Database, memories: Memories) -> None:
    await memories.items.put([ItemPut(("n",), "k", {"a": 1}, ttl_minutes=0.5)])

    async def left() -> float:
        seconds = await database.fetchval("SELECT extract(epoch FROM expires_at - now())::float8 FROM memory.memories")
        await database.execute("UPDATE memory.memories SET expires_at = now() + interval '1 second'")
        return float(seconds)

    assert 25 < await left() <= 30
    await memories.items.get([ItemKey(("n",), "k", refresh=False)])
    assert await left() <= 1
    await memories.items.get([ItemKey(("n",), "k", refresh=True)])
    assert await left() > 25
    await memories.items.search([ItemQuery(("n",), refresh=True)])
    assert await left() > 25
    await memories.items.put([ItemPut(("n",), "k", {"a": 1}, ttl_minutes=0.5)])
    assert await left() > 25
    await memories.items.put([ItemPut(("n",), "k", {"a": 1})])
    assert await database.fetchval("SELECT expires_at FROM memory.memories") is None


async def test_sweeping_erases_expired_items_with_all_their_versions(database: Database, memories: Memories) -> None:
    passages = Passages(database, tenant="acme")
    for value in ({"a": 1}, {"a": 2}):
        await memories.items.put([ItemPut(("n",), "k", value, content=str(value), ttl_minutes=10)])
    await memories.items.put([ItemPut(("n",), "stays", {"a": 1}, content="x", ttl_minutes=10)])
    await passages.catch_up()
    await database.execute(
        "UPDATE memory.memories SET expires_at = now() - interval '1 s' WHERE key = 'k' AND superseded_at IS NULL"
    )
    assert await memories.sweep_expired() == 1
    assert [row["key"] for row in await database.fetch("SELECT key FROM memory.memories")] == ["stays"]
    assert await count(database, "passages") == 1


async def test_the_versions_before_expire_with_their_item_only(database: Database, memories: Memories) -> None:
    await memories.items.put([ItemPut(("n",), "k", {"a": 1}, ttl_minutes=10)])
    await memories.items.put([ItemPut(("n",), "k", {"a": 2})])
    assert await count(database, "memories", "expires_at IS NOT NULL") == 0


async def test_a_lifetime_that_makes_no_sense_is_refused(memories: Memories) -> None:
    bad: list[Any] = [-1, math.inf, math.nan, "1", 1e12]
    for ttl in bad:
        with pytest.raises(InvalidInputError, match="ttl"):
            await memories.items.put([ItemPut(("n",), "k", {"a": 1}, ttl_minutes=ttl)])


async def test_each_operation_is_one_statement(database: Database, memories: Memories) -> None:
    asked: list[str] = []
    fetch = database.fetch

    async def counting(statement: str, *arguments: Any, **options: Any) -> Any:
        asked.append(statement)
        return await fetch(statement, *arguments, **options)

    database.fetch = counting  # type: ignore[method-assign]
    await memories.remember("a", user_id="alice")
    await memories.items.put([ItemPut(("n",), str(n), {"n": n}, content="x") for n in range(5)])
    await memories.items.get([ItemKey(("n",), str(n), refresh=True) for n in range(5)])
    await memories.items.search([ItemQuery(("n",), filter={"n": n}) for n in range(5)])
    await memories.items.list_namespaces([NamespaceQuery(max_depth=n) for n in range(5)])
    assert len(asked) == 5


async def test_a_search_gives_the_last_changed_first(memories: Memories) -> None:
    for key in "abc":
        await memories.items.put([ItemPut(("n",), key, {"v": 1})])
    await memories.items.put([ItemPut(("n",), "a", {"v": 2})])
    (found,) = await memories.items.search([ItemQuery(("n",))])
    assert [item.key for item in found] == ["a", "c", "b"]
    (page,) = await memories.items.search([ItemQuery(("n",), limit=1, offset=1)])
    assert [item.key for item in page] == ["c"]


async def test_a_query_that_makes_no_sense_is_refused(memories: Memories) -> None:
    for query in (ItemQuery(limit=-1), ItemQuery(offset=-1), ItemQuery(filter={"a": {"$near": 1}})):
        with pytest.raises(InvalidInputError):
            await memories.items.search([query])


# ---------------------------------------------------------------- namespaces

LABELS = st.sampled_from(["a", "b", "ab", "a\x01", "ä", "A", "~", "\U0010ffff", "*"])
PATHS = st.lists(LABELS, min_size=1, max_size=4).map(tuple)


@given(paths=st.sets(PATHS, max_size=12), prefix=st.lists(LABELS, max_size=3).map(tuple))
async def test_the_range_of_a_prefix_holds_what_begins_with_it(
    database: Database, paths: set[tuple[str, ...]], prefix: tuple[str, ...]
) -> None:
    memories = Memories(database, tenant=str(uuid4()))
    await memories.items.put([ItemPut(path, "k", {}) for path in paths])
    (found,) = await memories.items.search([ItemQuery(prefix, limit=100)])
    assert {item.namespace for item in found} == {path for path in paths if path[: len(prefix)] == prefix}


@given(
    paths=st.sets(PATHS, max_size=12),
    patterns=st.lists(
        st.builds(NamespacePattern, st.sampled_from(["prefix", "suffix"]), st.lists(LABELS, max_size=3).map(tuple)),
        max_size=2,
    ),
    depth=st.none() | st.integers(0, 4),
    offset=st.integers(0, 3),
    limit=st.integers(0, 5),
)
async def test_listing_namespaces_finds_each_once_and_sorted(
    database: Database,
    paths: set[tuple[str, ...]],
    patterns: list[NamespacePattern],
    depth: int | None,
    offset: int,
    limit: int,
) -> None:
    def matches(path: tuple[str, ...], pattern: NamespacePattern) -> bool:
        size = len(pattern.path)
        part = path[:size] if pattern.end == "prefix" else path[len(path) - size :]
        return len(path) >= size and all(p in ("*", label) for label, p in zip(part, pattern.path, strict=True))

    memories = Memories(database, tenant=str(uuid4()))
    await memories.items.put([ItemPut(path, key, {}) for path in paths for key in "xy"])
    query = NamespaceQuery(patterns, depth, limit, offset)
    (found,) = await memories.items.list_namespaces([query])
    expected = sorted({path[:depth] for path in paths if all(matches(path, pattern) for pattern in patterns)})
    assert found == expected[offset : offset + limit]


async def test_a_prefix_is_read_from_the_index(database: Database, memories: Memories) -> None:
    await database.execute(
        "INSERT INTO memory.memories (tenant_id, id, item_id, namespace, key, content_hash, value) "
        "SELECT 'acme', gen_random_uuid(), gen_random_uuid(), "
        "ARRAY['users', (n % 200)::text, 'facts'], n::text, '', '{}' "
        "FROM generate_series(1, 20000) AS n"
    )
    await database.execute("ANALYZE memory.memories")
    condition = prefix_condition(("users", "7"))
    plan = await database.fetch(
        f"EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM memory.memories m WHERE m.tenant_id = 'acme' "
        f"AND m.superseded_at IS NULL AND {condition.numbered(1)}",
        *condition.arguments,
    )
    text = "\n".join(row[0] for row in plan)
    assert "memories_current_key" in text
    assert "namespace >=" in text.split("Index Cond")[1].splitlines()[0]
    (namespaces,) = await memories.items.list_namespaces([NamespaceQuery(max_depth=2, limit=1000)])
    assert len(namespaces) == 200


# ---------------------------------------------------------------- filters

DOCUMENT = {
    "n": 5,
    "f": 2.5,
    "zero": -0.0,
    "big": 1e20,
    "s": "hello",
    "day": "2024-05-01",
    "t": True,
    "nil": None,
    "tags": ["red", "blue"],
    "rows": [{"a": 1, "b": 2}, {"a": 2}],
    "who": {"name": "Ada", "age": 36, "home": {"city": "London"}},
    "a.b": 1,
}


FILTERS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"n": 5}, True),
    ({"n": 5.0}, True),
    ({"n": "5"}, False),
    ({"t": True}, True),
    ({"t": 1}, False),
    ({"zero": 0}, True),
    ({"big": 10**20}, True),
    ({"big": {"$gt": 5}}, True),
    ({"nil": None}, True),
    ({"missing": None}, True),
    ({"missing": 1}, False),
    ({"a.b": 1}, True),
    ({"n": {"$eq": 5}, "s": "hello"}, True),
    ({"n": {"$eq": 5}, "s": "bye"}, False),
    ({"n": {"$ne": 5}}, False),
    ({"missing": {"$ne": 1}}, True),
    ({"missing": {"$ne": None}}, False),
    ({"n": {"$gt": 4.99, "$lt": 5.01}}, True),
    ({"n": {"$gte": 5, "$lte": 5}}, True),
    ({"n": {"$gt": 10}}, False),
    ({"n": {"$lt": math.inf}}, True),
    ({"s": {"$gt": 1}}, False),
    ({"missing": {"$lt": 1}}, False),
    ({"t": {"$gt": 0}}, False),
    ({"day": {"$gte": "2024-01-01", "$lt": "2025-01-01"}}, True),
    ({"n": {"$gt": "1"}}, False),
    ({"n": {"$in": [1, 5]}}, True),
    ({"zero": {"$in": [0, 7]}}, True),
    ({"n": {"$in": []}}, False),
    ({"n": {"$nin": [1, 2]}}, True),
    ({"n": {"$nin": [5]}}, False),
    ({"s": {"$exists": True}, "missing": {"$exists": False}, "nil": {"$exists": True}}, True),
    ({"who": {"home": {"city": {"$exists": True}}}}, True),
    ({"tags": {"$contains": "red"}}, True),
    ({"tags": {"$contains": ["red", "blue"]}}, True),
    ({"tags": {"$contains": "re"}}, False),
    ({"s": {"$contains": "ell"}}, True),
    ({"rows": {"$contains": {"a": 2}}}, True),
    ({"who": {"$contains": {"age": 36}}}, True),
    ({"n": {"$contains": 5}}, False),
    ({"who": {"name": "Ada"}}, True),
    ({"who": {"home": {"city": "Paris"}}}, False),
    ({"who": {"age": {"$gt": 30}}}, True),
    ({"who": {}}, True),
    ({"n": {}}, False),
    ({"who": {"$eq": {"name": "Ada"}}}, False),
    ({"tags": ["red", "blue"]}, True),
    ({"tags": ["blue", "red"]}, False),
    ({"tags": ("red", "blue")}, True),
    ({"rows": [{"a": 1}, {"a": {"$gte": 2}}]}, True),
    ({"rows": [{"a": 1}]}, False),
    ({"s": [{"a": 1}]}, False),
    ({"n": {"$eq": math.nan}}, False),
    ({"n": {"$ne": math.nan}}, True),
]


async def test_filters_find_what_they_describe(memories: Memories) -> None:
    await memories.items.put([ItemPut(("n",), "k", DOCUMENT)])
    found = await memories.items.search([ItemQuery(filter=filter) for filter, _ in FILTERS])
    assert [(filter, bool(items)) for (filter, _), items in zip(FILTERS, found, strict=True)] == FILTERS


@pytest.mark.parametrize(
    "filter",
    [
        {"n": {"$near": 1}},
        {"n": {"$gt": 1, "m": 2}},
        {"n": {"$gt": None}},
        {"n": {"$gt": [1]}},
        {"n": {"$gt": math.nan}},
        {"n": {"$in": "abc"}},
        {"n": {"$exists": 1}},
        {"n": {1, 2}},
        {"n\x00": 1},
        {1: 1},
        {"$or": []},
        ["n"],
        {f"f{n}": n for n in range(600)},
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(filter: Any) -> None:
    with pytest.raises(InvalidInputError):
        compile_filter(filter, "m.value")


def test_a_filter_nested_without_end_is_refused() -> None:
    filter: dict[str, Any] = {"a": 1}
    for _ in range(100):
        filter = {"a": filter}
    with pytest.raises(InvalidInputError, match="levels"):
        compile_filter(filter, "m.value")


NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00")).filter(
    lambda name: not name.startswith("$")
)


@given(name=NAMES, value=VALUES, other=VALUES)
async def test_a_filter_finds_the_document_it_was_made_of(
    database: Database, name: str, value: Any, other: Any
) -> None:
    """Whatever is in names and values is data: it is bound, and never read as SQL or as a pattern."""
    items = Memories(database, tenant=str(uuid4())).items
    await items.put([ItemPut(("n",), "k", {"other": other, name: value})])
    (found,) = await items.search([ItemQuery(filter={name: {"$eq": value}})])
    assert len(found) == 1


def test_the_parameters_of_a_filter_are_counted_from_where_it_begins() -> None:
    sql, arguments = compile_filter({"a": {"$gt": 1, "$ne": "x"}}, "m.metadata", first_parameter=4)
    assert arguments == ["a", "1", '"x"']
    assert "$4" in sql
    assert "$6" in sql
    assert "$7" not in sql


def test_ids_made_one_after_the_other_are_in_their_order() -> None:
    """So that rows written in one go lie together; two within a quarter of a microsecond may change places."""
    ids = [uuid7() for _ in range(2_000)]
    assert all(each.version == 7 and each.variant == RFC_4122 for each in ids)
    assert len(set(ids)) == len(ids)
    assert sum(later < earlier for earlier, later in pairwise(ids)) < 100
    at = ids[0].int >> 80
    assert abs(at - time.time() * 1000) < 60_000
