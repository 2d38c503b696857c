"""Connections that are lost: what is done again, what is not, and what the caller hears."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from memory_plugin import Memory
from memory_plugin.db.database import Database, Repeat
from memory_plugin.db.embedded import EmbeddedServer
from memory_plugin.errors import DatabaseUnavailableError, OutcomeUnknownError
from memory_plugin.langgraph import ConversationSaver
from tests.proxy import Moment, Proxy, proxied
from tests.saver_tools import Writer, opened, place, rows, said, values

MOMENTS: list[Moment] = ["before", "after"]


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as running:
        yield running


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[tuple[Memory, ConversationSaver]]:
    async with opened(proxy.url, "default") as pair:
        await pair[0]._indexer.stop()  # only what a test does is under way
        yield pair


@pytest.fixture
async def behind(proxy: Proxy) -> AsyncIterator[Database]:
    """A database that is reached by the proxy."""
    database = Database(proxy.url)
    await database.execute("CREATE TABLE public.notes (id int PRIMARY KEY, text text)")
    yield database
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await database.close()


class TestAStatement:
    @pytest.mark.parametrize("moment", MOMENTS)
    async def test_a_read_is_done_again(self, proxy: Proxy, behind: Database, moment: Moment) -> None:
        proxy.cut("40 + 2", moment)
        assert await behind.fetchval("SELECT 40 + 2", repeat=Repeat.READ) == 42
        assert not proxy.waiting

    async def test_a_write_is_not_done_again_and_the_error_says_so(self, proxy: Proxy, behind: Database) -> None:
        proxy.cut("INSERT", "after")
        with pytest.raises(OutcomeUnknownError, match="may have been applied: look before you do it again") as caught:
            await behind.execute("INSERT INTO public.notes VALUES (1)")
        assert not caught.value.repeatable
        assert await behind.fetchval("SELECT count(*) FROM public.notes") == 1

    @pytest.mark.parametrize("moment", MOMENTS)
    async def test_an_idempotent_write_is_done_again(self, proxy: Proxy, behind: Database, moment: Moment) -> None:
        proxy.cut("INSERT", moment)
        await behind.execute("INSERT INTO public.notes VALUES (1) ON CONFLICT DO NOTHING", repeat=Repeat.IDEMPOTENT)
        assert await behind.fetchval("SELECT count(*) FROM public.notes") == 1

    @pytest.mark.parametrize(("statement", "moment"), [("BEGIN", "before"), ("BEGIN", "after")])
    async def test_a_transaction_that_cannot_begin_begins_again(
        self, proxy: Proxy, behind: Database, statement: str, moment: Moment
    ) -> None:
        proxy.cut(statement, moment)
        async with behind.transaction() as connection:
            await connection.execute("INSERT INTO public.notes VALUES (1)")
        assert await behind.fetchval("SELECT count(*) FROM public.notes") == 1

    async def test_a_transaction_that_is_lost_before_its_commit_was_not_applied(
        self, proxy: Proxy, behind: Database
    ) -> None:
        proxy.cut("INSERT", "after")
        with pytest.raises(DatabaseUnavailableError, match="Nothing was applied: try again") as caught:
            async with behind.transaction() as connection:
                await connection.execute("INSERT INTO public.notes VALUES (1)")
        assert not isinstance(caught.value, OutcomeUnknownError)
        assert await behind.fetchval("SELECT count(*) FROM public.notes") == 0

    @pytest.mark.parametrize(("moment", "applied"), [("before", 0), ("after", 1)])
    async def test_a_transaction_that_is_lost_in_its_commit_may_have_been_applied(
        self, proxy: Proxy, behind: Database, moment: Moment, applied: int
    ) -> None:
        proxy.cut("COMMIT", moment)
        with pytest.raises(OutcomeUnknownError, match="may have been applied"):
            async with behind.transaction() as connection:
                await connection.execute("INSERT INTO public.notes VALUES (1)")
        assert await behind.fetchval("SELECT count(*) FROM public.notes") == applied

    async def test_a_statement_that_the_server_ended_is_done_again(self, database_url: str) -> None:
        """PostgreSQL says so when it ends a backend; then nothing was applied, whatever it was."""
        database = Database(database_url)
        await database.execute("CREATE TABLE public.notes (id int, pid int)")
        insert = "INSERT INTO public.notes SELECT 1, pg_backend_pid() FROM pg_sleep($1)"
        writing = asyncio.create_task(database.execute(insert, 0.5))
        admin = await asyncpg.connect(database_url)
        find = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = $1 AND state = 'active'"
        async with asyncio.timeout(5):
            while not await admin.fetch(find, insert):  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(0.01)
        await writing
        assert await admin.fetchval("SELECT count(*) FROM public.notes") == 1
        await admin.close()
        await database.close()

    async def test_the_first_attempt_may_still_be_running_on_the_server(
        self, proxy: Proxy, behind: Database, database_url: str
    ) -> None:
        """The second waits for the rows of the first, and does not count what it did a second time."""
        await behind.execute("INSERT INTO public.notes VALUES (1, '')")
        add = (
            "UPDATE public.notes SET text = text || 'x' FROM pg_sleep(0.3) "
            "WHERE id = 1 AND NOT EXISTS (SELECT FROM public.notes WHERE id = 1 AND text <> '')"
        )
        writing = asyncio.create_task(behind.execute(add, repeat=Repeat.IDEMPOTENT))
        await asyncio.sleep(0.15)
        for link in proxy._links:
            link.client.transport.abort()  # the server does not notice: it is busy
        await writing
        assert await behind.fetchval("SELECT text FROM public.notes") == "x"

    async def test_after_the_last_attempt_the_error_says_what_is_known(self, proxy: Proxy) -> None:
        database = Database(proxy.url, retry_seconds=0)
        await database.execute("CREATE TABLE public.notes (id int)")
        for repeat, kind, message in (
            (Repeat.READ, DatabaseUnavailableError, "Nothing was applied: try again"),
            (Repeat.IDEMPOTENT, OutcomeUnknownError, "doing it again is safe"),
            (Repeat.NEVER, OutcomeUnknownError, "look before you do it again"),
        ):
            proxy.cut("INSERT", "after")
            with pytest.raises(DatabaseUnavailableError, match=message) as caught:
                await database.execute("INSERT INTO public.notes VALUES (1)", repeat=repeat)
            assert type(caught.value) is kind
        await database.close()

    async def test_an_address_that_never_answered_fails_at_once(self) -> None:
        database = Database("postgresql://nobody@127.0.0.1:1/nothing", retry_seconds=60)
        async with asyncio.timeout(5):
            with pytest.raises(DatabaseUnavailableError, match="Nothing was applied"):
                await database.fetchval("SELECT 1", repeat=Repeat.READ)
        await database.close()

    async def test_where_nothing_fails_nothing_is_asked_twice(self, proxy: Proxy, behind: Database) -> None:
        await behind.fetchval("SELECT $1::int", 1, repeat=Repeat.READ)  # prepared from now on
        await behind.execute("INSERT INTO public.notes VALUES ($1)", 1, repeat=Repeat.IDEMPOTENT)
        before = proxy.asked
        await behind.fetchval("SELECT $1::int", 1, repeat=Repeat.READ)
        await behind.execute("INSERT INTO public.notes VALUES ($1)", 2, repeat=Repeat.IDEMPOTENT)
        assert proxy.asked - before == 2

    async def test_a_new_connection_asks_nothing_of_its_own(self, proxy: Proxy) -> None:
        database = Database(proxy.url)
        async with database.raw(), database.raw():
            assert proxy.asked == 0
        await database.close()


class TestAnOperation:
    """The connection is cut before the server hears of the statement, or after it has committed it."""

    @pytest.mark.parametrize("moment", MOMENTS)
    async def test_a_put_adds_its_messages_once(
        self, proxy: Proxy, store: tuple[Memory, ConversationSaver], moment: Moment
    ) -> None:
        memory, saver = store
        writer = Writer(saver)
        await writer.put(messages=said("a"))
        proxy.cut("put_checkpoints", moment)
        await writer.put(messages=said("a", "b"), other=1)
        assert not proxy.waiting
        found = await values(saver, place())
        assert [message.content for message in found["messages"]] == ["a", "b"]
        assert await rows(memory, "messages") == 2
        assert await rows(memory, "checkpoints") == 2

    @pytest.mark.parametrize("moment", MOMENTS)
    async def test_a_checkpoint_is_read_again(
        self, proxy: Proxy, store: tuple[Memory, ConversationSaver], moment: Moment
    ) -> None:
        _, saver = store
        await Writer(saver).put(messages=said("a"))
        proxy.cut("checkpoint", moment)
        assert (await values(saver, place()))["messages"] == said("a")
        assert not proxy.waiting

    @pytest.mark.parametrize("moment", MOMENTS)
    async def test_the_writes_of_a_task_are_there_once(
        self, proxy: Proxy, store: tuple[Memory, ConversationSaver], moment: Moment
    ) -> None:
        memory, saver = store
        config = await Writer(saver).put(messages=said("a"))
        proxy.cut("checkpoint_writes", moment)
        await saver.aput_writes(config, [("x", 1), ("y", 2)], "task")
        assert not proxy.waiting
        assert await rows(memory, "checkpoint_writes") == 2

    @pytest.mark.parametrize(("moment", "count"), [("before", 0), ("after", 1)])
    async def test_a_message_that_may_have_been_appended_is_not_appended_again(
        self, proxy: Proxy, store: tuple[Memory, ConversationSaver], moment: Moment, count: int
    ) -> None:
        memory, _ = store
        proxy.cut('INSERT INTO "memory".messages', moment)
        with pytest.raises(OutcomeUnknownError, match="may have been applied: look before you do it again"):
            await memory.conversations.append("t", "hello")
        assert len(await memory.conversations.messages("t")) == count

    @pytest.mark.parametrize("moment", MOMENTS)
    async def test_a_fact_is_remembered_once_and_is_no_duplicate_of_itself(
        self, proxy: Proxy, store: tuple[Memory, ConversationSaver], moment: Moment
    ) -> None:
        memory, _ = store
        proxy.cut('INSERT INTO "memory".memories', moment)
        item = await memory.remember("Alice likes tea.", user_id="alice")
        assert not proxy.waiting
        assert item.status == "created"
        assert await rows(memory, "memories") == 1

    @pytest.mark.parametrize("moment", MOMENTS)
    async def test_an_undo_is_not_undone_by_its_repetition(
        self, proxy: Proxy, store: tuple[Memory, ConversationSaver], moment: Moment
    ) -> None:
        memory, _ = store
        await memory.remember("one", user_id="u", key="k")
        item = await memory.remember("two", user_id="u", key="k")
        proxy.cut('INSERT INTO "memory".memories', moment)
        undone = await memory.memories.undo(item.id)
        assert not proxy.waiting
        assert (undone.content, undone.version) == ("one", 3)

    @pytest.mark.parametrize("moment", MOMENTS)
    async def test_a_store_item_gets_one_version(
        self, proxy: Proxy, store: tuple[Memory, ConversationSaver], moment: Moment
    ) -> None:
        memory, _ = store
        proxy.cut('INSERT INTO "memory".memories', moment)
        await memory.store.aput(("notes",), "k", {"n": 1})
        assert not proxy.waiting
        assert await rows(memory, "memories") == 1


@asynccontextmanager
async def disturbed(disturb: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Something goes on beside the body, until that is done."""
    task = asyncio.create_task(disturb())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


TASKS, STEPS = 16, 12


async def load(saver: ConversationSaver) -> None:
    """Sixteen threads grow at once, and are read in between; no error is expected."""

    async def grow(number: int) -> None:
        thread = f"thread-{number}"
        writer = Writer(saver, thread)
        for step in range(1, STEPS + 1):
            config = await writer.put(messages=said(*(f"{number}-{n}" for n in range(step))), step=step)
            await saver.aput_writes(config, [("x", step), ("y", step)], f"task-{step}")
            if step % 4 == 0:
                assert (await values(saver, place(thread)))["step"] == step

    await asyncio.gather(*(grow(number) for number in range(TASKS)))


async def check_load(memory: Memory, saver: ConversationSaver) -> None:
    """Every checkpoint and every message is there exactly once."""
    for number in range(TASKS):
        found = await values(saver, place(f"thread-{number}"))
        assert [message.content for message in found["messages"]] == [f"{number}-{n}" for n in range(STEPS)]
    assert await rows(memory, "checkpoints") == TASKS * STEPS
    assert await rows(memory, "messages") == TASKS * STEPS
    assert await rows(memory, "checkpoint_writes") == TASKS * STEPS * 2


async def test_backends_that_are_ended_under_load_lose_and_double_nothing(database_url: str) -> None:
    ended = 0

    async def end_some() -> None:
        nonlocal ended
        admin = await asyncpg.connect(database_url)
        chance = random.Random(3)
        others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        try:
            while True:
                await asyncio.sleep(0.02)
                if pids := [row["pid"] for row in await admin.fetch(others)]:
                    ended += await admin.fetchval("SELECT pg_terminate_backend($1)::int", chance.choice(pids))
        finally:
            await admin.close()

    async with opened(database_url, "default") as (memory, saver):
        async with disturbed(end_some):
            await load(saver)
        await check_load(memory, saver)
    assert ended > 3


def restart(server: EmbeddedServer, data_dir: Path) -> EmbeddedServer:
    """Stop it as `pg_ctl stop -m immediate` does, and start it again."""
    os.kill(server.pid, signal.SIGQUIT)
    deadline = time.monotonic() + 20
    while (data_dir / "postmaster.pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return EmbeddedServer.start(data_dir)


async def test_a_server_that_is_restarted_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    servers = [await asyncio.to_thread(EmbeddedServer.start, tmp_path / "pg")]
    url = servers[0].url
    try:
        async with opened(url, "default") as (memory, saver):
            working = asyncio.create_task(load(saver))
            await asyncio.sleep(0.4)
            assert not working.done()
            servers.append(await asyncio.to_thread(restart, servers[0], tmp_path / "pg"))
            await working
            await check_load(memory, saver)
    finally:
        for server in servers:
            await asyncio.to_thread(server.stop)
