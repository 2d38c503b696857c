"""Databases of LangGraph's own PostgreSQL saver and store, moved here and back."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.store.postgres.aio import AsyncPostgresStore
from langgraph.types import Command

from memory_plugin import Memory
from memory_plugin.errors import ConfigurationError, NotFoundError, UnsupportedError
from memory_plugin.transfer import official_schema
from memory_plugin.transfer.comparing import kept_metadata, same
from tests.conftest import run_sql, with_database
from tests.saver_tools import Writer, history, said
from tests.transfer_tools import (
    config,
    delta_graph,
    exported,
    fill,
    graph,
    human,
    imported,
    official,
    quiet,
    rows,
    run,
)

ROOT = Path(__file__).resolve().parent.parent
_numbers = itertools.count(1)

OFFICIAL_TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")


@pytest.fixture(scope="module")
def filled(server_url: str, worker_id: str) -> Iterator[str]:
    """The name of an official database with threads of every kind, to be copied."""
    name = f"official_{worker_id}"
    run_sql(server_url, f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")

    async def make() -> None:
        async with official(with_database(server_url, name)) as saver:
            await fill(saver)

    asyncio.run(make())
    yield name
    run_sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def source(server_url: str, filled: str, worker_id: str) -> Iterator[str]:
    """An official database with threads of every kind, of the test's own."""
    name = f"source_{worker_id}_{next(_numbers)}"
    run_sql(server_url, f"CREATE DATABASE {name} TEMPLATE {filled} STRATEGY FILE_COPY")
    yield with_database(server_url, name)
    run_sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def cleaned(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without credentials in metadata; and the version of packets that an old checkpoint had none of is anyone's."""
    for each in listed:
        each["metadata"] = kept_metadata(each["metadata"])
        if each["checkpoint"]["v"] < 4:
            each["checkpoint"]["channel_versions"].pop("__pregel_tasks", None)
    return listed


async def assert_equal(one: BaseCheckpointSaver[Any], other: BaseCheckpointSaver[Any], *threads: str) -> None:
    """Both savers give the same for every checkpoint of these threads."""
    for thread in threads:
        mine, theirs = cleaned(await history(one, config(thread))), cleaned(await history(other, config(thread)))
        assert [each["place"] for each in mine] == [each["place"] for each in theirs]
        assert mine
        for left, right in zip(mine, theirs, strict=True):
            assert same(left, right), f"{left}\n!=\n{right}"


async def table(url: str, name: str) -> list[tuple[Any, ...]]:
    """All rows of a table, where they stand and by whom they were written."""
    return await rows(url, f"SELECT t.ctid::text, t.xmin::text, t::text FROM {name} t ORDER BY t.ctid")


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memory_plugin.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "MEMORY_EMBEDDINGS": "none", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# ---------------------------------------------------------------- what is kept


async def test_every_checkpoint_is_what_the_official_saver_gives(source: str, database_url: str) -> None:
    report = await imported(database_url, source)
    assert (report.threads, report.failures) == ({"new": 3, "continued": 0, "unchanged": 0}, [])
    assert report.written == report.compared == report.checkpoints > 50
    async with official(source) as theirs, quiet(database_url) as memory:
        await assert_equal(theirs, memory.checkpointer, "talk", "asks", "delta")


async def test_an_open_question_is_answered_here_as_there(source: str, database_url: str) -> None:
    await imported(database_url, source)
    async with official(source) as theirs, quiet(database_url) as memory:
        expected = await graph(theirs).ainvoke(Command(resume=7), config("asks"))
        answered = await graph(memory.checkpointer).ainvoke(Command(resume=7), config("asks"))
        assert same(answered, expected)
        assert answered["messages"][-1].content == "you said 7"


async def test_a_conversation_goes_on_here_as_there(source: str, database_url: str) -> None:
    """The fan-out, the subgraph that remembers, and all values."""
    await imported(database_url, source)
    async with official(source) as theirs, quiet(database_url) as memory:
        expected = await graph(theirs).ainvoke(human("next"), config("talk"))
        assert same(await graph(memory.checkpointer).ainvoke(human("next"), config("talk")), expected)


async def test_a_delta_channel_goes_on_here_as_there(source: str, database_url: str) -> None:
    await imported(database_url, source)
    async with official(source) as theirs, quiet(database_url) as memory:
        one, other = delta_graph(theirs), delta_graph(memory.checkpointer)
        assert same((await other.aget_state(config("delta"))).values, (await one.aget_state(config("delta"))).values)
        expected = await one.ainvoke(human("last"), config("delta"))
        assert same(await other.ainvoke(human("last"), config("delta")), expected)


async def test_messages_are_rows_of_the_conversation_and_not_copies(source: str, database_url: str) -> None:
    await imported(database_url, source)
    async with quiet(database_url) as memory:
        texts = [each.text for each in await memory.conversations.messages("delta")]
        assert texts == []  # a delta channel has its messages in writes
        said_twice = await rows(
            database_url,
            "SELECT message_id FROM memory.messages WHERE thread_id = 'asks' GROUP BY 1 HAVING count(*) > 1",
        )
        assert said_twice == []


async def test_the_user_is_known_and_the_secret_is_not(source: str, database_url: str) -> None:
    await imported(database_url, source)
    owners = await rows(database_url, "SELECT thread_id, user_id FROM memory.conversations ORDER BY 1")
    assert owners == [("asks", "bob"), ("delta", None), ("talk", "alice")]
    stored = await rows(database_url, "SELECT metadata::text FROM memory.checkpoints WHERE thread_id = 'talk'")
    assert all("sk-secret" not in text for (text,) in stored)
    assert any("plain" in text for (text,) in stored)


async def test_times_are_those_of_the_checkpoints(source: str, database_url: str) -> None:
    await run(
        source,
        """
        UPDATE checkpoints SET checkpoint = jsonb_set(checkpoint, '{ts}', to_jsonb(
            to_char((checkpoint ->> 'ts')::timestamptz AT TIME ZONE 'UTC' - interval '2 years',
                    'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')))
        """,
    )
    await imported(database_url, source)
    first, last = (
        await rows(
            source,
            "SELECT min((checkpoint->>'ts')::timestamptz), max((checkpoint->>'ts')::timestamptz) FROM"
            " checkpoints WHERE thread_id = 'asks' AND checkpoint_ns = ''",
        )
    )[0]
    ((created, updated, hour),) = await rows(
        database_url, "SELECT created_at, updated_at, active_hour FROM memory.conversations WHERE thread_id = 'asks'"
    )
    assert (created, updated) == (first, last)
    assert hour == last.replace(minute=0, second=0, microsecond=0)
    stored = await rows(
        database_url, "SELECT count(*) FROM memory.checkpoints WHERE created_at > now() - interval '1 year'"
    )
    assert stored == [(0,)]
    said_at = await rows(database_url, "SELECT said_at FROM memory.messages WHERE thread_id = 'asks' ORDER BY seq")
    assert all(first <= at <= last for (at,) in said_at)
    assert said_at == sorted(said_at)
    async with quiet(database_url) as memory:
        assert await memory.indexed()
    passages = await rows(
        database_url,
        "SELECT p.said_at = m.said_at FROM memory.passages p JOIN memory.messages m USING (tenant_id, thread_id, seq)",
    )
    assert passages
    assert all(equal for (equal,) in passages)


async def test_what_was_indexed_too_early_gets_its_time_too(source: str, database_url: str) -> None:
    """Another process may index a thread while it comes in."""
    await run(
        source, "UPDATE checkpoints SET checkpoint = jsonb_set(checkpoint, '{ts}', '\"2024-03-01T12:00:00+00:00\"')"
    )
    await imported(database_url, source, verify=False)
    async with quiet(database_url) as memory:
        await memory.indexed()
    await run(
        database_url,
        "UPDATE memory.passages SET said_at = now()",
        "UPDATE memory.conversations SET created_at = now()",
    )
    await imported(database_url, source)
    assert await rows(database_url, "SELECT DISTINCT said_at FROM memory.passages") == [
        (datetime(2024, 3, 1, 12, tzinfo=UTC),)
    ]


# ---------------------------------------------------------------- again and again


async def test_a_second_run_changes_nothing(source: str, database_url: str) -> None:
    await imported(database_url, source)
    names = ("conversations", "checkpoints", "checkpoint_blobs", "checkpoint_writes", "messages")
    before = [await table(database_url, f"memory.{name}") for name in names]
    report = await imported(database_url, source)
    assert report.threads == {"new": 0, "continued": 0, "unchanged": 3}
    assert [await table(database_url, f"memory.{name}") for name in names] == before


async def test_what_was_added_in_the_source_follows(source: str, database_url: str) -> None:
    await imported(database_url, source)
    async with official(source) as theirs:
        await graph(theirs).ainvoke(human("later"), config("talk"))
        report = await imported(database_url, source)
        assert report.threads == {"new": 0, "continued": 1, "unchanged": 2}
        async with quiet(database_url) as memory:
            await assert_equal(theirs, memory.checkpointer, "talk")


async def test_a_thread_that_went_on_here_is_left_alone(source: str, database_url: str) -> None:
    await imported(database_url, source)
    async with quiet(database_url) as memory:
        await graph(memory.checkpointer).ainvoke(Command(resume=7), config("asks"))
    before = await table(database_url, "memory.conversations")
    report = await imported(database_url, source)
    assert report.threads == {"new": 0, "continued": 0, "unchanged": 3}
    assert await table(database_url, "memory.conversations") == before
    assert (await imported(database_url, source, verify_only=True)).is_complete


async def test_a_thread_that_went_on_in_both_is_named(source: str, database_url: str) -> None:
    await imported(database_url, source)
    async with quiet(database_url) as memory, official(source) as theirs:
        await graph(memory.checkpointer).ainvoke(human("here"), config("talk"))
        await graph(theirs).ainvoke(human("there"), config("talk"))
    report = await imported(database_url, source)
    (failure,) = report.failures
    assert failure.thread_id == "talk"
    assert "both" in str(failure.reason)


async def test_a_killed_run_is_continued(source: str, database_url: str) -> None:
    async with official(source) as theirs:
        for thread in range(4):
            writer = Writer(theirs, f"many-{thread}")
            for number in range(40):
                await writer.put(messages=said(*"abcdef", str(number)), payload="x" * 1000)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "memory_plugin.cli"),
            *("--url", database_url, "import", "langgraph", "--from", source),
            cwd=ROOT,
            env={**os.environ, "MEMORY_EMBEDDINGS": "none"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.returncode is None:
            if (await rows(database_url, "SELECT count(*) FROM memory.checkpoints"))[0][0] >= 5:
                break
            await asyncio.sleep(0.002)
        assert process.returncode is None, "it was over too soon"
        process.send_signal(signal.SIGKILL)
        await process.wait()
        ((stored,),) = await rows(database_url, "SELECT count(*) FROM memory.checkpoints")
        report = await imported(database_url, source)
        assert report.is_complete
        assert report.written + stored >= report.checkpoints
        async with quiet(database_url) as memory:
            await assert_equal(theirs, memory.checkpointer, "talk", "asks", "delta", *(f"many-{n}" for n in range(4)))
        times = await rows(
            database_url,
            "SELECT count(*) FROM memory.checkpoints WHERE created_at::text <> "
            "((checkpoint ->> 'ts')::timestamptz)::text",
        )
        assert times == [(0,)]


async def test_two_runs_at_once_do_each_other_no_harm(source: str, database_url: str) -> None:
    first, second = await asyncio.gather(imported(database_url, source), imported(database_url, source))
    assert first.is_complete
    assert second.is_complete
    async with official(source) as theirs, quiet(database_url) as memory:
        await assert_equal(theirs, memory.checkpointer, "talk", "asks", "delta")
        assert (await imported(database_url, source)).written == 0
    doubled = await rows(
        database_url,
        "SELECT thread_id, message_id, text FROM memory.messages GROUP BY 1, 2, 3 HAVING count(*) > 1",
    )
    assert doubled == []


async def test_the_source_is_seen_as_it_was_when_the_run_began(source: str, database_url: str) -> None:
    """And is only read."""

    class Meddling:
        def begin(self, what: str, total: int) -> None:
            run_in_thread(source)

        def advance(self, count: int) -> None:
            pass

    def run_in_thread(url: str) -> None:
        import threading

        thread = threading.Thread(target=run_sql, args=(url, "DELETE FROM checkpoint_blobs", "DELETE FROM checkpoints"))
        thread.start()
        thread.join()

    from memory_plugin.transfer import Options, import_langgraph

    async with quiet(database_url) as memory:
        report = await import_langgraph(memory, source, Options(), Meddling())
    assert report.is_complete
    assert report.written > 50


# ---------------------------------------------------------------- what is damaged, old or foreign


async def test_a_damaged_value_is_named_and_the_rest_goes_on(source: str, database_url: str) -> None:
    await run(
        source,
        r"UPDATE checkpoint_blobs SET blob = '\xc1c1' WHERE thread_id = 'talk' AND channel = 'messages' AND version ="
        " (SELECT max(version) FROM checkpoint_blobs WHERE thread_id = 'talk' AND channel = 'messages' AND checkpoint_ns = '')",
    )
    report = await imported(database_url, source)
    assert report.threads["new"] == 2
    (failure,) = report.failures
    assert failure.thread_id == "talk"
    assert "channel 'messages'" in str(failure.reason)
    assert 0 < failure.written < failure.checkpoints


async def test_a_class_that_cannot_be_imported_is_no_silent_dict(source: str, database_url: str) -> None:
    await run(
        source,
        "UPDATE checkpoint_blobs SET blob = decode(replace(encode(blob, 'hex'), encode('Basket', 'hex'),"
        " encode('Casket', 'hex')), 'hex') WHERE thread_id = 'asks'",
    )
    (failure,) = (await imported(database_url, source)).failures
    assert "tests.transfer_tools.Casket cannot be imported" in str(failure.reason)


async def test_packets_of_old_checkpoints_come_with_their_children(source: str, database_url: str) -> None:
    """Before version 4 a checkpoint's packets stood in the writes of its parent."""
    await run(
        source,
        "UPDATE checkpoints SET checkpoint = jsonb_set(checkpoint #- '{channel_versions,__pregel_tasks}', '{v}', '3')",
        "INSERT INTO checkpoint_blobs SELECT thread_id, checkpoint_ns, 'gone', 'v1', 'empty', NULL FROM checkpoints"
        " ON CONFLICT DO NOTHING",
        "UPDATE checkpoints SET checkpoint = jsonb_set(checkpoint, '{channel_versions,gone}', '\"v1\"')",
    )
    report = await imported(database_url, source)
    assert report.failures == []
    async with official(source) as theirs, quiet(database_url) as memory:
        await assert_equal(theirs, memory.checkpointer, "talk", "asks")
        listed = await history(memory.checkpointer, config("talk"))
        assert any("__pregel_tasks" in each["checkpoint"]["channel_values"] for each in listed)


async def test_a_child_with_an_earlier_id_than_its_parent_comes_too(empty_database_url: str, database_url: str) -> None:
    """Clocks of two machines differ."""
    async with official(empty_database_url) as theirs:
        writer = Writer(theirs)
        await writer.put(messages=said("a"), topic="tea", data=[1])
        await writer.put(messages=said("a", "b"))
        await writer.put(topic="cake")
        await run(
            empty_database_url,
            "UPDATE checkpoints SET checkpoint_id = '0' || checkpoint_id,"
            " checkpoint = jsonb_set(checkpoint, '{id}', to_jsonb('0' || checkpoint_id))"
            " WHERE checkpoint_id = (SELECT max(checkpoint_id) FROM checkpoints)",
        )
        assert (await imported(database_url, empty_database_url)).is_complete
        async with quiet(database_url) as memory:
            await assert_equal(theirs, memory.checkpointer, "t")


async def test_writes_keep_their_places(empty_database_url: str, database_url: str) -> None:
    """Special ones, gaps, several tasks, paths that sort otherwise than ids."""
    async with official(empty_database_url) as theirs:
        stored = await Writer(theirs).put(topic="tea")
        await theirs.aput_writes(stored, [("a", 1), ("__interrupt__", ["x"]), ("b", {"y"})], "task-2", "~path, 1")
        await theirs.aput_writes(stored, [("c", None), ("c", b"\x00")], "task-1", "~path, 2")
        await theirs.aput_writes(stored, [("__error__", "late")], "task-1", "~path, 2")
        await imported(database_url, empty_database_url)
        query = "SELECT task_id, task_path, idx, channel FROM {}checkpoint_writes ORDER BY 1, 2, 3"
        assert await rows(database_url, query.format("memory.")) == await rows(empty_database_url, query.format(""))
        async with quiet(database_url) as memory:
            await assert_equal(theirs, memory.checkpointer, "t")


async def test_a_value_of_five_megabytes_comes_in_one_piece(empty_database_url: str, database_url: str) -> None:
    async with official(empty_database_url) as theirs:
        writer = Writer(theirs)
        for number in range(4):
            await writer.put(blob=os.urandom(5 << 20), number=number)
        assert (await imported(database_url, empty_database_url)).is_complete
        async with quiet(database_url) as memory:
            await assert_equal(theirs, memory.checkpointer, "t")


async def test_tables_that_cannot_be_moved_are_refused_by_name(empty_database_url: str, database_url: str) -> None:
    with pytest.raises(NotFoundError, match="no tables of LangGraph"):
        await imported(database_url, empty_database_url)
    with pytest.raises(ConfigurationError, match="memory-plugin itself"):
        await imported(
            database_url, f"{database_url}{'&' if '?' in database_url else '?'}options=-csearch_path%3Dmemory"
        )
    async with official(empty_database_url):
        await run(
            empty_database_url,
            "ALTER TABLE checkpoint_writes DROP COLUMN task_path",
            "DELETE FROM checkpoint_migrations WHERE v > 8",
        )
    with pytest.raises(UnsupportedError, match="at migration 8 and 9 is needed"):
        await imported(database_url, empty_database_url)
    await run(empty_database_url, "ALTER TABLE checkpoints DROP COLUMN checkpoint_id")
    with pytest.raises(UnsupportedError, match="ShallowPostgresSaver"):
        await imported(database_url, empty_database_url)


async def test_an_encrypted_database_stays_encrypted(
    empty_database_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGGRAPH_AES_KEY", "0123456789abcdef")
    serde = EncryptedSerializer.from_pycryptodome_aes()
    async with official(empty_database_url) as theirs:
        theirs.serde = serde
        await Writer(theirs).put(messages=said("hello"), data={"ssn": "123-45-6789"})
        (failure,) = (await imported(database_url, empty_database_url)).failures
        assert "--encrypted" in str(failure.reason)
        assert (await imported(database_url, empty_database_url, encrypted=True)).is_complete
        async with quiet(database_url) as memory:
            await assert_equal(theirs, memory.make_checkpointer(serde=serde), "t")
    stored = await rows(
        database_url, "SELECT b::text FROM memory.checkpoint_blobs b UNION ALL SELECT m::text FROM memory.messages m"
    )
    assert stored
    assert all("123-45" not in text and "hello" not in text for (text,) in stored)


async def test_a_serializer_of_the_application_is_used(source: str, database_url: str) -> None:
    report = await imported(database_url, source, serde="langgraph.checkpoint.serde.jsonplus:JsonPlusSerializer")
    assert report.is_complete
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        await imported(database_url, source, serde="nowhere:Nothing")


# ---------------------------------------------------------------- the way back


async def test_there_and_back_every_row_is_as_it_was(source: str, database_url: str, empty_database_url: str) -> None:
    await imported(database_url, source)
    report = await exported(database_url, empty_database_url)
    assert report.is_complete
    assert report.compared == report.checkpoints > 50
    async with official(source) as one, official(empty_database_url) as other:
        await assert_equal(one, other, "talk", "asks", "delta")
        for thread in ("talk", "asks"):
            there = [each async for each in graph(one).aget_state_history(config(thread))]
            back = [each async for each in graph(other).aget_state_history(config(thread))]
            assert [each.values.keys() for each in back] == [each.values.keys() for each in there]
            assert all(same(left.values, right.values) for left, right in zip(back, there, strict=True))
            assert [each.next for each in back] == [each.next for each in there]
    query = "SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint::text FROM checkpoints ORDER BY 1, 2, 3"
    assert await rows(empty_database_url, query) == await rows(source, query)
    query = "SELECT thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel FROM checkpoint_writes ORDER BY 1, 2, 3, 4, 6"
    assert await rows(empty_database_url, query) == await rows(source, query)


async def test_a_conversation_of_ours_goes_on_with_the_official_saver(
    database_url: str, empty_database_url: str
) -> None:
    async with quiet(database_url) as memory:
        await fill(memory.checkpointer)
        report = await exported(database_url, empty_database_url)
        assert report.threads["new"] == 3
        assert report.is_complete
        assert (await exported(database_url, empty_database_url)).threads["unchanged"] == 3
        async with official(empty_database_url) as theirs:
            for thread, make in (("talk", graph), ("asks", graph), ("delta", delta_graph)):
                there, here = make(theirs), make(memory.checkpointer)
                expected = (await here.aget_state(config(thread))).values
                assert same((await there.aget_state(config(thread))).values, expected)
                following = Command(resume=3) if thread == "asks" else human("on")
                answer = await here.ainvoke(following, config(thread))
                assert same(await there.ainvoke(following, config(thread)), answer)


SCHEMA = """
SELECT table_name, column_name, data_type, is_nullable, coalesce(column_default, '') FROM information_schema.columns
WHERE table_schema = 'public' AND table_name !~ 'vector' ORDER BY 1, 2
"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2"


async def test_without_the_official_package_the_same_tables_are_made(
    database_url: str, empty_database_url: str, server_url: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncPostgresStore.from_conn_string(source) as store:
        await store.setup()
    monkeypatch.setattr(official_schema, "_official_setup", lambda url, store: False)
    await exported(database_url, empty_database_url)
    assert await rows(empty_database_url, SCHEMA) == await rows(source, SCHEMA)
    assert await rows(empty_database_url, INDEXES) == await rows(source, INDEXES)
    for name in ("checkpoint_migrations", "store_migrations"):
        query = f"SELECT v FROM {name} ORDER BY v"
        made = await rows(empty_database_url, query)
        assert made == await rows(source, query)
    async with official(empty_database_url), AsyncPostgresStore.from_conn_string(empty_database_url) as store:
        await store.setup()
    assert await rows(empty_database_url, query) == made


async def test_values_that_json_would_change_come_back_as_they_were(database_url: str, empty_database_url: str) -> None:
    async with quiet(database_url) as memory:
        await Writer(memory.checkpointer).put(
            nul="a\x00b", big=1e300, minus=-0.0, nan=float("inf"), plain="x", none=None
        )
        assert (await exported(database_url, empty_database_url)).is_complete
        async with official(empty_database_url) as theirs:
            (there,) = await history(theirs, config("t"))
            (here,) = await history(memory.checkpointer, config("t"))
            assert same(there["checkpoint"]["channel_values"], here["checkpoint"]["channel_values"])


# ---------------------------------------------------------------- the store


@pytest.fixture
async def items(empty_database_url: str) -> AsyncIterator[AsyncPostgresStore]:
    """An official store with items, one of them with a lifetime."""
    async with AsyncPostgresStore.from_conn_string(empty_database_url) as store:
        await store.setup()
        await store.aput(("memories", "alice"), "drink", {"content": "Alice prefers tea"})
        await store.aput(("docs", "a", "b"), "deep", {"n": 1.5, "list": [1, {"x": None}], "text": "ünï"})
        await store.aput(("docs",), "short", {"text": "soon gone"}, ttl=30)
        await run(
            empty_database_url,
            "UPDATE store SET created_at = '2024-01-01Z', updated_at = '2024-02-01Z'",
            "INSERT INTO store (prefix, key, value, expires_at, ttl_minutes) VALUES ('docs', 'dead', '{}', '2024-01-01Z', 1)",
            "INSERT INTO store (prefix, key, value) VALUES ('docs..x', 'odd', '{}'), ('docs', 'list', '[1]')",
        )
        yield store


async def test_items_come_with_their_values_times_and_lifetimes(
    items: AsyncPostgresStore, empty_database_url: str, database_url: str
) -> None:
    report = await imported(database_url, empty_database_url)
    assert report.items is not None
    assert (report.items.new, report.items.expired, report.items.failed) == (3, 1, 2)
    assert sorted(reason.split(":")[0] for reason in report.items.reasons) == ["docs / list", "docs..x / odd"]
    async with quiet(database_url) as memory:
        for namespace, key in ((("memories", "alice"), "drink"), (("docs", "a", "b"), "deep"), (("docs",), "short")):
            mine, theirs = await memory.store.aget(namespace, key, refresh_ttl=False), await items.aget(namespace, key)
            assert mine == theirs
            assert mine.updated_at == datetime(2024, 2, 1, tzinfo=UTC)
        hits = await memory.recall("what does Alice drink?", user_id="alice")
        assert [hit.text for hit in hits] == ["Alice prefers tea"]
    query = "SELECT key, expires_at IS NULL, ttl_minutes FROM memory.memories ORDER BY 1"
    assert await rows(database_url, query) == [("deep", True, None), ("drink", True, None), ("short", False, 30.0)]


async def test_items_are_moved_once_and_follow_the_newer_side(
    items: AsyncPostgresStore, empty_database_url: str, database_url: str
) -> None:
    await imported(database_url, empty_database_url)
    before = await table(database_url, "memory.memories")
    report = await imported(database_url, empty_database_url)
    assert report.items is not None
    assert (report.items.new, report.items.unchanged) == (0, 3)
    assert await table(database_url, "memory.memories") == before
    await items.aput(("docs", "a", "b"), "deep", {"n": 2})
    async with quiet(database_url) as memory:
        await memory.store.aput(("memories", "alice"), "drink", {"content": "coffee"})
        await memory.store.adelete(("docs",), "short")
        report = await imported(database_url, empty_database_url)
        assert report.items is not None
        assert (report.items.new, report.items.updated, report.items.kept) == (0, 1, 2)
        assert (await memory.store.aget(("docs", "a", "b"), "deep")).value == {"n": 2}
        assert (await memory.store.aget(("memories", "alice"), "drink")).value == {"content": "coffee"}
        assert await memory.store.aget(("docs",), "short") is None


async def test_an_item_that_was_not_to_be_found_is_not_found_here(empty_database_url: str, database_url: str) -> None:
    async def embed(texts: list[str]) -> list[list[float]]:
        return [[1.0, 2.0] for _ in texts]

    index: Any = {"dims": 2, "embed": embed}
    async with AsyncPostgresStore.from_conn_string(empty_database_url, index=index) as store:
        await store.setup()
        await store.aput(("n",), "open", {"text": "the castle is open"})
        await store.aput(("n",), "hidden", {"text": "the castle is hidden"}, index=False)
    await imported(database_url, empty_database_url)
    async with quiet(database_url) as memory:
        assert [hit.key for hit in await memory.recall("castle")] == ["open"]


async def test_items_go_back_and_what_cannot_is_named(database_url: str, empty_database_url: str) -> None:
    async with quiet(database_url) as memory:
        await memory.store.aput(("docs", "a"), "one", {"text": "first"}, ttl=90)
        await memory.remember("Alice prefers tea", user_id="alice", key="drink")
        await memory.remember("Bob prefers tea", user_id="bob@example.com", key="drink")
        report = await exported(database_url, empty_database_url)
        assert report.items is not None
        assert (report.items.new, report.items.failed) == (2, 1)
        assert "dot" in report.items.reasons[0]
        async with AsyncPostgresStore.from_conn_string(empty_database_url) as store:
            for namespace, key in ((("docs", "a"), "one"), (("memories", "alice"), "drink")):
                mine, theirs = (
                    await memory.store.aget(namespace, key, refresh_ttl=False),
                    await store.aget(namespace, key),
                )
                assert mine == theirs
        assert (await exported(database_url, empty_database_url)).items.unchanged == 2  # type: ignore[union-attr]


# ---------------------------------------------------------------- the command


def test_the_command_tells_what_it_did(source: str, database_url: str) -> None:
    arguments = ("--json", "--url", database_url, "import", "langgraph", "--from", source)
    counted = command(*arguments, "--dry-run")
    assert json.loads(counted.stdout)["threads"] == {"new": 3, "continued": 0, "unchanged": 0, "failed": 0}
    only = json.loads(command(*arguments, "--threads", "*a*k*").stdout)
    assert only["threads"]["new"] == 2
    done = command(*arguments)
    assert done.returncode == 0
    assert json.loads(done.stdout)["threads"] == {"new": 1, "continued": 0, "unchanged": 2, "failed": 0}
    compared = json.loads(command(*arguments, "--verify-only").stdout)
    assert compared["checkpoints"]["compared"] == compared["checkpoints"]["read"]


def test_a_difference_ends_the_command_with_one(source: str, database_url: str) -> None:
    arguments = ("--url", database_url, "import", "langgraph", "--from", source)
    assert command(*arguments).returncode == 0
    run_sql(
        database_url,
        "UPDATE memory.checkpoint_blobs SET value = '\"changed\"' WHERE channel = 'topic' AND thread_id = 'asks'",
    )
    shown = command(*arguments, "--verify-only")
    assert shown.returncode == 1
    assert "asks: checkpoint" in shown.stderr
    assert "the value of channel 'topic' differs" in shown.stderr


def test_the_command_goes_both_ways(database_url: str, source: str, empty_database_url: str) -> None:
    assert command("--url", database_url, "import", "langgraph", "--from", source).returncode == 0
    done = command("--url", database_url, "export", "langgraph", "--to", empty_database_url)
    assert done.returncode == 0, done.stderr
    assert "new" in done.stdout


async def test_threads_of_other_tenants_stay_theirs(source: str, database_url: str) -> None:
    await imported(database_url, source, tenant="one")
    await imported(database_url, source, tenant="two", threads="asks")
    counts = await rows(database_url, "SELECT tenant_id, count(*) FROM memory.conversations GROUP BY 1 ORDER BY 1")
    assert counts == [("one", 3), ("two", 1)]


async def test_memory_opened_normally_shows_what_was_said(source: str, database_url: str) -> None:
    await imported(database_url, source)
    async with Memory.open(database_url, embeddings=False) as memory:
        shown = await memory.conversations.messages("asks")
        assert shown[0].text == "ask me"
        assert shown[0].at < datetime.now(UTC) + timedelta(seconds=1)
