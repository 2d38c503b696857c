"""Listing conversations by user, metadata, time and text: what is found, in which order, and by which index."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memory_plugin.capabilities import conversation_sql
from memory_plugin.capabilities.thread_listing import Wanted, statement
from memory_plugin.core import MemoryCore
from memory_plugin.errors import InvalidInputError
from tests.counting import counted


async def found(core: MemoryCore, **options: Any) -> list[str]:
    """The ids of all pages, two threads a page."""
    seen: list[str] = []
    cursor = None
    while True:
        page = await core.conversations.list(limit=2, cursor=cursor, **options)
        seen += [each.thread_id for each in page.items]
        cursor = page.cursor
        if cursor is None:
            return seen


@pytest.mark.parametrize(
    "search", ["invoice", "INVOICE", "invo", "zurich invoice", "Zürich", "zür", "invoice zu", "straße", "strasse"]
)
async def test_titles_are_found_without_case_and_accents(search: str, core: MemoryCore) -> None:
    await core.conversations.create("a", title="Invoice for Zürich, Langstraße")
    await core.conversations.create("b", title="Something else")
    assert await found(core, search=search.replace("straße", "langstraße").replace("strasse", "langstrasse")) == ["a"]


@pytest.mark.parametrize("search", ["support-4", "Support 42", "42"])
async def test_ids_are_found(search: str, core: MemoryCore) -> None:
    await core.conversations.create("support-42")
    await core.conversations.create("sales-7")
    assert await found(core, search=search) == ["support-42"]


@pytest.mark.parametrize("search", ["cafes", "CAFÉ", "the café", "resume", "broken mug", "mugs bro"])
async def test_what_was_said_is_found_at_once(search: str, core: MemoryCore) -> None:
    await core.conversations.append("a", ["The cafés lost my résumé", "My mug arrived broken"])
    await core.conversations.append("b", ["Nothing of interest", "mug"])
    assert await found(core, search=search) == ["a"]


async def test_scripts_without_spaces_are_found(core: MemoryCore) -> None:
    await core.conversations.create("a", title="東京の天気")
    await core.conversations.append("b", ["京都の天気はどう"])
    assert set(await found(core, search="天気")) == {"a", "b"}


@pytest.mark.parametrize("search", ["%", "'", "' | 'x", "a:*", "\\", "!", "& |", "…", "the"])
async def test_signs_in_a_search_are_no_language(search: str, core: MemoryCore) -> None:
    await core.conversations.create("t", title="plain")
    assert await found(core, search=search) == []


async def test_titles_come_first_by_relevance_and_the_latest_otherwise(core: MemoryCore) -> None:
    await core.conversations.append("title", ["hello"])
    await core.conversations.set_title("title", "The kettle")
    await core.conversations.append("often", ["kettle", "kettle again", "a kettle"])
    await core.conversations.append("once", ["somewhere in a longer message there was a kettle on the stove"])
    assert await found(core, search="kettle") == ["once", "often", "title"]
    assert await found(core, search="kettle", order="relevance") == ["title", "often", "once"]


async def test_metadata_users_and_times_narrow_a_listing(core: MemoryCore) -> None:
    for number in range(6):
        await core.conversations.append(f"t{number}", ["x"], user_id="alice" if number % 2 else "bob")
        await core.conversations.create(
            f"t{number}", metadata={"plan": {"tier": number % 3}, "tags": ["a", str(number)]}
        )
        await core.database.execute(
            "UPDATE memory.conversations SET updated_at = $2::timestamptz,"
            " active_hour = date_trunc('hour', $2::timestamptz, 'UTC') WHERE thread_id = $1",
            f"t{number}",
            datetime(2026, 3, 1, 9, 30, tzinfo=UTC) + timedelta(minutes=20 * number),
        )
    assert await found(core, metadata={"plan": {"tier": 1}}) == ["t4", "t1"]
    assert await found(core, metadata={"tags": ["3"]}, user_id="alice") == ["t3"]
    since, until = datetime(2026, 3, 1, 9, 50, tzinfo=UTC), datetime(2026, 3, 1, 10, 50, tzinfo=UTC)
    assert await found(core, since=since, until=until) == ["t3", "t2", "t1"]
    assert await found(core, since=since, user_id="bob") == ["t4", "t2"]


async def test_what_is_hidden_or_of_others_is_not_found(core: MemoryCore, database_url: str) -> None:
    await core.conversations.append("t", ["secret kettle"])
    async with MemoryCore.open(database_url, tenant="other", embeddings=False) as other:
        assert await found(other, search="kettle") == []
    await core.forget(thread_id="t")
    assert await found(core, search="kettle") == []


async def test_wrong_orders_and_cursors_are_refused(core: MemoryCore) -> None:
    for number in range(3):
        await core.conversations.create(f"t{number}", title="tea")
    recent = await core.conversations.list(limit=1)
    for options in ({"order": "random"}, {"order": "relevance", "cursor": recent.cursor}, {"metadata": ["x"]}):
        with pytest.raises(InvalidInputError):
            await core.conversations.list(**options)  # type: ignore[arg-type]


async def test_a_page_is_one_statement(core: MemoryCore) -> None:
    for number in range(5):
        await core.conversations.append(f"t{number}", ["kettle"], user_id="alice")
    first = await core.conversations.list(search="kettle", limit=2)
    async with counted(core.database) as sent:
        await core.conversations.list(search="kettle", limit=2, cursor=first.cursor)
        await core.conversations.list(metadata={}, user_id="alice", since=datetime(2020, 1, 1, tzinfo=UTC))
    assert len(sent) == 2


FILL = (
    (
        "INSERT INTO memory.conversations (tenant_id, thread_id, user_id, title, metadata, updated_at, active_hour)"
        " SELECT 'tenant' || n % 20, 't' || n, 'user' || n % 200, 'title ' || n, jsonb_build_object('number', n),"
        " now() - n * interval '1 minute', date_trunc('hour', now() - n * interval '1 minute', 'UTC')"
        " FROM generate_series(1, 20000) AS n"
    ),
    (
        "INSERT INTO memory.passages (tenant_id, id, kind, user_id, thread_id, seq, said_at, length, lexemes, weights)"
        " SELECT 'tenant' || n % 20, gen_random_uuid(), 2, 'user' || n % 200, 't' || n, 1, now(), 2,"
        " to_tsvector('english', 'wörd' || n || ' common'), '{1:1}/268435456' FROM generate_series(1, 20000) AS n"
    ),
)


@pytest.mark.parametrize("analyzed", [True, False])
async def test_every_listing_goes_through_an_index(analyzed: bool, core: MemoryCore) -> None:
    owner, mine = core.database.as_login(), core.for_tenant("tenant7").database
    for text in FILL:
        await owner.execute(text)
    for table in ("conversations", "passages") if analyzed else ():
        await owner.execute(f"ANALYZE memory.{table}")
    now = datetime.now(UTC)
    cases = {
        Wanted(): "conversations_recent_idx",
        Wanted(user_id="user7"): "conversations_user_idx",
        Wanted(metadata=json.dumps({"number": 4007})): "conversations_metadata_idx",
        Wanted(since=now - timedelta(hours=3), until=now - timedelta(hours=1)): "conversations_recent_idx",
        Wanted(search="title 4007"): "conversations_words_idx",
        Wanted(search="word4007"): "passages_folded_idx",
        Wanted(search="word400", user_id="user7", order="relevance"): "passages_folded_idx",
    }
    for wanted, index in cases.items():
        query, arguments = statement(conversation_sql.OF_CONVERSATION, "tenant7", "english", wanted, None, 21)
        plan = await mine.fetch("EXPLAIN " + mine.sql(query), *arguments)
        text = "\n".join(row[0] for row in plan)
        assert "Seq Scan on conversations" not in text and "Seq Scan on passages" not in text, (wanted, text)
        if analyzed:
            assert index in text, (wanted, text)
