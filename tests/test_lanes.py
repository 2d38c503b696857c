"""Few lanes for many callers: what waits goes together, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from memory_plugin.capabilities.memories import Memories
from memory_plugin.capabilities.memory_items import ItemKey, ItemPut, ItemQuery
from memory_plugin.db.database import Database
from memory_plugin.db.lanes import JoinedCalls
from memory_plugin.errors import DatabaseUnavailableError, InvalidInputError


class Recorder:
    """Answers each number with its double; runs are noted and take a moment."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        self.at_once = 0
        self.most_at_once = 0

    async def run(self, items: list[int]) -> list[int]:
        self.runs.append(list(items))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0.01)
        finally:
            self.at_once -= 1
        if -1 in items:
            raise InvalidInputError("minus one")
        if -2 in items:
            raise DatabaseUnavailableError("gone")
        if -3 in items:
            raise ZeroDivisionError
        return [2 * item for item in items]


async def gather(lanes: JoinedCalls[int, int], calls: Sequence[list[int]]) -> list[object]:
    return await asyncio.gather(*(lanes(call) for call in calls), return_exceptions=True)  # type: ignore[return-value]


async def test_each_caller_gets_its_own_answers() -> None:
    recorder = Recorder()
    lanes: JoinedCalls[int, int] = JoinedCalls(recorder.run, lanes=2)
    calls = [[n, n + 100] for n in range(50)]
    assert await gather(lanes, calls) == [[2 * n, 2 * n + 200] for n in range(50)]
    assert recorder.most_at_once == 2
    assert len(recorder.runs) == 3, "two ran at once, the rest together"


async def test_a_run_has_its_limit_but_keeps_a_call_whole() -> None:
    recorder = Recorder()
    lanes: JoinedCalls[int, int] = JoinedCalls(recorder.run, lanes=1, most=10)
    await gather(lanes, [[0], [1] * 25, *([n] for n in range(15))])
    assert [len(run) for run in recorder.runs] == [1, 25, 10, 5]


async def test_items_of_one_key_are_kept_apart_and_in_order() -> None:
    recorder = Recorder()
    lanes: JoinedCalls[int, int] = JoinedCalls(recorder.run, lanes=1, key=lambda item: item % 10)
    await gather(lanes, [[0], [1], [11], [2], [21, 3], [13]])
    assert recorder.runs == [[0], [1, 2], [11], [21, 3], [13]]


async def test_one_bad_call_does_not_harm_those_it_was_joined_with() -> None:
    lanes: JoinedCalls[int, int] = JoinedCalls(Recorder().run, lanes=1)
    answers = await gather(lanes, [[0], [1], [-1], [2]])
    assert [answers[n] for n in (0, 1, 3)] == [[0], [2], [4]]
    assert isinstance(answers[2], InvalidInputError)


@pytest.mark.parametrize(("item", "error"), [(-2, DatabaseUnavailableError), (-3, ZeroDivisionError)])
async def test_what_is_nobodys_fault_is_told_to_all_without_trying_each(item: int, error: type[Exception]) -> None:
    recorder = Recorder()
    lanes: JoinedCalls[int, int] = JoinedCalls(recorder.run, lanes=1)
    answers = await gather(lanes, [[0], [1], [item], [2]])
    assert answers[0] == [0]
    assert all(isinstance(answer, error) for answer in answers[1:])
    assert len(recorder.runs) == 2
    assert await lanes([7]) == [14], "the lane is free again"


async def test_a_caller_that_gives_up_while_waiting_is_not_run() -> None:
    recorder = Recorder()
    lanes: JoinedCalls[int, int] = JoinedCalls(recorder.run, lanes=1)
    first, second, third = (asyncio.create_task(lanes([n])) for n in range(3))
    await asyncio.sleep(0)
    second.cancel()
    assert (await first, await third) == ([0], [4])
    assert recorder.runs == [[0], [2]]


async def test_a_caller_that_gives_up_while_running_hands_its_lane_on() -> None:
    recorder = Recorder()
    lanes: JoinedCalls[int, int] = JoinedCalls(recorder.run, lanes=1)
    first, second = (asyncio.create_task(lanes([n])) for n in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == [2]


async def test_a_storm_on_few_keys_is_stored_and_answered(database: Database) -> None:
    items = Memories(database, tenant="acme").items

    async def visit(n: int) -> None:
        await items.put([ItemPut(("n",), str(n % 7), {"n": n})])
        (item,) = await items.get([ItemKey(("n",), str(n % 7))])
        assert item is not None
        assert item.value["n"] % 7 == n % 7
        (found,) = await items.search([ItemQuery(("n",))])
        found[0].value["n"] = "an answer is the caller's own"

    await asyncio.gather(*(visit(n) for n in range(150)))
    (found,) = await items.search([ItemQuery(("n",))])
    assert sorted(item.value["n"] % 7 for item in found) == list(range(7))
    assert await database.fetchval("SELECT count(*) FROM memory.memories") == 150, "no version is lost"
