"""Connections: who gets one, in which order, and that none is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from memory_plugin.db.database import Database
from memory_plugin.db.receiving import READ
from memory_plugin.errors import DatabaseUnavailableError, InvalidInputError

PID = "SELECT pg_backend_pid()"
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def without_waiting(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that never gives the loop a turn."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    coroutine.close()
    raise AssertionError("it waited for the loop")


def in_use(database: Database) -> int:
    return database.engine.pool.checkedout()  # type: ignore[attr-defined, no-any-return]


def idle(database: Database) -> int:
    return database.engine.pool.checkedin()  # type: ignore[attr-defined, no-any-return]


async def connections_of(url: str) -> int:
    """How many connections a database has, besides the one that asks."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(OTHERS))
    finally:
        await connection.close()


async def until_closed(url: str) -> None:
    async with asyncio.timeout(10):
        while await connections_of(url):  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.02)


async def kill(database_url: str, *pids: int) -> None:
    """End backends, and wait until the client knows."""
    connection = await asyncpg.connect(database_url)
    for pid in pids:
        await connection.execute("SELECT pg_terminate_backend($1, 5000)", pid)
    await connection.close()
    await asyncio.sleep(0.05)


class TestTheHotPath:
    async def test_an_idle_connection_is_taken_and_given_back_without_waiting(self, database: Database) -> None:
        first = await database.fetchval(PID)
        held = database.raw()
        connection = without_waiting(held.__aenter__())
        assert in_use(database) == 1
        assert await connection.fetchval(PID) == first
        without_waiting(held.__aexit__(None, None, None))
        assert (in_use(database), idle(database)) == (0, 1)

    async def test_the_connection_used_last_is_taken_first(self, database: Database) -> None:
        async with database.raw() as one, database.raw() as two:
            pids = [await one.fetchval(PID), await two.fetchval(PID)]
        assert [await database.fetchval(PID) for _ in range(3)] == [pids[0]] * 3  # it was given back last

    async def test_json_arrives_as_text(self, database: Database) -> None:
        row = await database.fetchrow(
            """SELECT '{"a": 1.10}'::jsonb AS b, '{"a":  1}'::json AS t, $1::jsonb AS x""", "1"
        )
        assert row is not None
        assert dict(row) == {"b": '{"a": 1.10}', "t": '{"a":  1}', "x": "1"}

    async def test_a_refused_statement_leaves_the_connection_in_the_pool(self, database: Database) -> None:
        pid = await database.fetchval(PID)
        with pytest.raises(InvalidInputError):
            await database.fetchval("SELECT 1 / $1::int", 0)
        assert await database.fetchval(PID) == pid


class TestTheLine:
    async def test_who_waited_longest_is_served_first(self, database_url: str) -> None:
        database = Database(database_url, pool_size=1)
        served: list[int] = []

        async def use(number: int) -> None:
            async with database.raw():
                served.append(number)
                await asyncio.sleep(0)

        async with database.raw():
            tasks = [asyncio.create_task(use(number)) for number in range(5)]
            await asyncio.sleep(0)
        without = database.raw()  # a newcomer when one was just given back: it does not push in
        late = asyncio.create_task(without.__aenter__())
        await asyncio.gather(*tasks)
        await late
        await without.__aexit__(None, None, None)
        assert served == [0, 1, 2, 3, 4]
        await database.close()

    async def test_no_more_connections_than_the_pool_has(self, database_url: str) -> None:
        database = Database(database_url, pool_size=3)
        pids = await asyncio.gather(*(database.fetchval(PID) for _ in range(40)))
        assert len(set(pids)) <= 3
        assert (in_use(database), idle(database)) == (0, 3)
        await database.close()

    async def test_who_waits_too_long_is_told_so(self, database_url: str) -> None:
        database = Database(database_url, pool_size=1)
        database.engine.pool._timeout = 0.05  # type: ignore[attr-defined]
        async with database.raw() as held:
            with pytest.raises(DatabaseUnavailableError, match="stayed busy: raise MEMORY_POOL_SIZE"):
                await database.fetchval(PID)
            assert await held.fetchval("SELECT 1") == 1
        assert await database.fetchval("SELECT 2") == 2
        assert in_use(database) == 0
        await database.close()

    async def test_the_engine_waits_in_the_same_line(self, database_url: str) -> None:
        database = Database(database_url, pool_size=1)
        pid = await database.fetchval(PID)

        async def by_engine() -> int:
            async with database.engine.connect() as connection:
                return int((await connection.execute(text(PID))).scalar_one())

        assert await by_engine() == pid  # the idle one serves it
        async with database.raw():
            engine = asyncio.create_task(by_engine())
            await asyncio.sleep(0.05)
            assert not engine.done()
        assert await engine == pid
        async with database.engine.connect():
            raw = asyncio.create_task(database.fetchval(PID))
            await asyncio.sleep(0.05)
            assert not raw.done()
        assert await raw == pid
        assert in_use(database) == 0
        await database.close()

    async def test_a_connection_that_cannot_be_opened_takes_no_place(self) -> None:
        database = Database("postgresql://nobody@127.0.0.1:1/nothing", pool_size=2)
        answers = await asyncio.gather(*(database.fetchval("SELECT 1") for _ in range(9)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {DatabaseUnavailableError}
        assert in_use(database) == 0
        await database.close()


class TestNothingIsLost:
    async def test_a_cancelled_transaction_costs_its_connection_only(self, database: Database) -> None:
        entered = asyncio.Event()

        async def work() -> None:
            async with database.raw() as connection:
                await connection.execute("BEGIN")
                entered.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (in_use(database), idle(database)) == (0, 0)
        assert await database.fetchval("SELECT 1") == 1

    async def test_two_hundred_cancellations_leak_no_connection(self, database_url: str) -> None:
        database = Database(database_url, pool_size=3)
        chance = random.Random(7)

        async def work(number: int) -> None:
            match number % 4:
                case 0:
                    await database.fetchval("SELECT pg_sleep(0.002)")
                case 1:
                    async with database.transaction() as connection:
                        await connection.fetchval("SELECT pg_sleep(0.001)")
                        await connection.fetchval("SELECT 1")
                case 2:
                    async with database.engine.connect() as through:
                        await through.execute(text("SELECT pg_sleep(0.001)"))
                case _:
                    async with database.raw():
                        await asyncio.sleep(0.001)

        tasks: list[asyncio.Task[None]] = []
        for number in range(200):
            tasks.append(asyncio.create_task(work(number)))
            await asyncio.sleep(chance.random() * 0.002)
            chance.choice(tasks[-6:]).cancel()
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
        assert in_use(database) == 0
        async with asyncio.timeout(10):
            assert await asyncio.gather(*(database.fetchval("SELECT 1") for _ in range(12))) == [1] * 12
        assert await connections_of(database_url) <= 3
        await database.close()
        await until_closed(database_url)

    async def test_one_that_is_cancelled_as_its_turn_comes_passes_it_on(self, database_url: str) -> None:
        database = Database(database_url, pool_size=1)
        async with database.raw():
            first = asyncio.create_task(database.fetchval("SELECT 1"))
            second = asyncio.create_task(database.fetchval("SELECT 2"))
            await asyncio.sleep(0)
        first.cancel()  # the connection is already meant for it
        async with asyncio.timeout(5):
            assert await second == 2
        assert (in_use(database), idle(database)) == (0, 1)
        await database.close()

    async def test_an_idle_connection_that_was_closed_is_dropped(self, database: Database, database_url: str) -> None:
        async with database.raw() as one, database.raw() as two:
            pids = [await one.fetchval(PID), await two.fetchval(PID)]
        await kill(database_url, *pids)
        assert await database.fetchval(PID) not in pids
        assert (in_use(database), idle(database)) == (0, 1)

    async def test_closing_closes_what_is_idle_and_what_comes_back(self, database_url: str) -> None:
        database = Database(database_url)
        async with database.raw() as one, database.raw():
            async with database.raw():
                pass
            await database.close()
            assert await one.fetchval("SELECT 1") == 1
        await until_closed(database_url)
        await database.close()

    async def test_a_pool_of_none_opens_a_connection_for_each_operation(self, database_url: str) -> None:
        database = Database(database_url, pool_size=0)
        pids = [await database.fetchval(PID) for _ in range(3)]
        assert len(set(pids)) == 3
        with pytest.raises(InvalidInputError):
            await database.fetchval("SELECT 1 / $1::int", 0)
        task = asyncio.create_task(database.fetchval("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_closed(database_url)
        await database.close()

    async def test_a_read_asks_for_no_more_than_an_answer_of_usual_size(self, database: Database) -> None:
        """asyncio would ask for 256 KB each time, which tears the heap into holes; what is long arrives in parts."""
        async with database.raw() as connection:
            transport: Any = connection._transport
            assert transport.max_size == READ <= 1 << 16
            assert await connection.fetchval("SELECT length($1)", "x" * 1_000_000) == 1_000_000
            assert await connection.fetchval("SELECT repeat('x', 1000000)") == "x" * 1_000_000


class TestDeadlocks:
    async def test_what_gave_way_to_another_is_done_again(self, database_url: str) -> None:
        """A statement that PostgreSQL ended left nothing behind, so even one that must run but once can run again."""
        name = database_url.partition("?")[0].rpartition("/")[2]
        owner = await asyncpg.connect(database_url)
        await owner.execute(
            f"CREATE TABLE public.counters AS SELECT id, 0 AS n FROM generate_series(1, 2) AS id; "
            f"ALTER DATABASE {name} SET deadlock_timeout = '20ms'"
        )
        database = Database(database_url)
        add = """
        WITH locked AS MATERIALIZED (SELECT id FROM public.counters ORDER BY id FOR UPDATE)
        UPDATE public.counters SET n = n + 1 WHERE id IN (SELECT id FROM locked) RETURNING n
        """
        await owner.execute("SET deadlock_timeout = '1min'")  # so that it is the other that gives way
        async with owner.transaction():
            await owner.execute("SELECT FROM public.counters WHERE id = 2 FOR UPDATE")
            adding = asyncio.create_task(database.fetch(add))
            while not await owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(0.005)
            await owner.execute("SELECT FROM public.counters WHERE id = 1 FOR UPDATE")
        assert [row["n"] for row in await adding] == [1, 1]
        await owner.close()
        await database.close()
