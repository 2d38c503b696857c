"""Exports that are byte for byte the same after an import, and imports that go on, go around, and go in again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from memory_plugin import Memory
from memory_plugin.core import MemoryCore
from memory_plugin.errors import InvalidInputError
from memory_plugin.portable.tables import DERIVED, KINDS
from tests.conftest import run_sql, with_database
from tests.saver_tools import Writer, said, values
from tests.user_data import fill, table_names, word_of

ALICE, BOB = "alice-7f3a", "bob-91c2"


async def lines(core: MemoryCore, **options: Any) -> list[bytes]:
    """An export as the lines of a file."""
    return [orjson.dumps(record) async for record in core.export(**options)]


def records(exported: list[bytes]) -> list[Any]:
    return [orjson.loads(line) for line in exported]


@pytest.fixture
async def filled(memory: Memory) -> Memory:
    """Alice with something in every table."""
    await fill(memory, ALICE)
    return memory


@pytest.fixture
def other_url(server_url: str, template: str) -> Any:
    """A second, empty database."""
    name = f"other_{time.time_ns()}"
    run_sql(server_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield with_database(server_url, name)
    run_sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty(other_url: str) -> AsyncIterator[Memory]:
    """A store with nothing in it, with the same embedder."""
    async with Memory.open(other_url) as memory:
        yield memory


async def test_every_table_is_carried_or_derived(core: MemoryCore) -> None:
    """A table that is added later fails here: an export must carry it, or `DERIVED` say that it need not."""
    assert {kind.table for kind in KINDS} | DERIVED == set(await table_names(core))


@pytest.mark.parametrize("checkpoints", [True, False])
async def test_the_export_of_an_import_is_the_same_byte_for_byte(
    filled: Memory, empty: Memory, checkpoints: bool
) -> None:
    exported = await lines(filled, user_id=ALICE, checkpoints=checkpoints)
    report = await empty.import_records(records(exported))
    assert (report.failed, report.complete, report.created.total()) == ([], True, len(exported) - 2)
    assert await lines(empty, user_id=ALICE, checkpoints=checkpoints) == exported


async def test_every_kind_of_record_is_in_the_export_of_the_test_user(filled: Memory) -> None:
    kinds = {record["kind"] for record in records(await lines(filled, user_id=ALICE, checkpoints=True))}
    assert kinds == {kind.name for kind in KINDS} | {"header", "end"}


@pytest.mark.parametrize("checkpoints", [True, False])
async def test_an_imported_user_recalls_and_reads_the_same(filled: Memory, empty: Memory, checkpoints: bool) -> None:
    async def answers(memory: Memory) -> Any:
        await memory.indexed()
        hits = await memory.recall(f"{word_of(ALICE)} tea coffee", user_id=ALICE, limit=50)
        threads = [each.thread_id for each in (await memory.conversations.list(user_id=ALICE)).items]
        texts = [[message.text for message in await memory.conversations.messages(thread)] for thread in threads]
        facts = (await memory.memories.list(user_id=ALICE)).items
        histories = [await memory.memories.history(fact.id) for fact in facts]
        found = sorted((hit.kind, hit.id, hit.text, hit.at, round(hit.score, 4)) for hit in hits)
        return found, threads, texts, histories, await memory.user_memory.get(ALICE)

    await empty.import_records(filled.export(user_id=ALICE, checkpoints=checkpoints))
    assert await answers(empty) == await answers(filled)


async def test_an_agent_goes_on_from_imported_checkpoints(filled: Memory, empty: Memory) -> None:
    await empty.import_records(filled.export(user_id=ALICE, checkpoints=True))
    config = {"configurable": {"thread_id": f"thread-of-{ALICE}-agent", "checkpoint_ns": ""}}
    assert await values(empty.checkpointer, config) == await values(filled.checkpointer, config)
    assert (await empty.checkpointer.aget_tuple(config)) == (await filled.checkpointer.aget_tuple(config))


async def test_what_was_forgotten_softly_can_be_brought_back_where_it_was_imported(
    filled: Memory, empty: Memory
) -> None:
    await empty.import_records(filled.export(user_id=ALICE))
    assert f"old-thread-of-{ALICE}" not in {each.thread_id for each in (await empty.conversations.list()).items}
    assert not [hit for hit in await empty.recall("cat", user_id=ALICE) if "cat" in hit.text]
    await empty.unforget(user_id=ALICE)
    assert {hit.kind for hit in await empty.recall("cat", user_id=ALICE) if "cat" in hit.text} == {"memory", "message"}


async def test_a_second_import_changes_nothing(filled: Memory, empty: Memory) -> None:
    exported = records(await lines(filled, user_id=ALICE, checkpoints=True))
    first = await empty.import_records(exported)
    again = await empty.import_records(exported)
    assert (again.created, again.unchanged, again.failed) == ({}, first.created, [])


async def test_the_export_of_one_user_has_nothing_of_another(filled: Memory) -> None:
    await fill(filled, BOB)
    exported = b"\n".join(await lines(filled, user_id=ALICE, checkpoints=True))
    assert word_of(ALICE).encode() in exported
    assert word_of(BOB).encode() not in exported


async def test_a_whole_tenant_goes_to_another_tenant(filled: Memory, database_url: str) -> None:
    await filled.remember("of everybody", namespace=["memories"])
    exported = await lines(filled, checkpoints=True)
    async with Memory.open(database_url, tenant="second") as other:
        report = await other.import_records(records(exported))
        assert report.failed == []
        assert await lines(other, checkpoints=True) == exported


async def test_everything_can_be_given_to_another_user(filled: Memory, empty: Memory) -> None:
    report = await empty.import_records(filled.export(user_id=ALICE, checkpoints=True), user_id="alicia")
    assert report.failed == []
    assert await empty.erasure.left(ALICE) == {}
    assert (await empty.memories.get_by_key(("memories", "alicia"), "drink")) is not None
    assert (await empty.store.aget(("alicia", "prefs"), "colour")) is not None
    assert len(await empty.recall(word_of(ALICE), user_id="alicia", limit=50)) > 5


async def test_a_whole_tenant_cannot_be_given_to_one_user(filled: Memory, empty: Memory) -> None:
    with pytest.raises(InvalidInputError, match="whole tenant"):
        await empty.import_records(filled.export(), user_id="alicia")


async def test_an_export_goes_on_behind_the_last_record_that_arrived(filled: Memory) -> None:
    for checkpoints in (True, False):
        whole = await lines(filled, user_id=ALICE, checkpoints=checkpoints)
        for cut in range(0, len(whole) - 1, 3):
            last = orjson.loads(whole[cut])
            rest = await lines(filled, user_id=ALICE, checkpoints=checkpoints, after=last)
            assert whole[: cut + 1] + rest == whole


async def test_an_export_cannot_go_on_behind_something_else(filled: Memory) -> None:
    with pytest.raises(InvalidInputError, match="no record"):
        await lines(filled, after={"kind": "checkpoint", "thread_id": "t"})


async def test_without_checkpoints_an_edited_history_keeps_its_order(memory: Memory, empty: Memory) -> None:
    """The numbers of arrival say another order than the state: they are handed out anew."""
    writer = Writer(memory.checkpointer, "t", user_id=ALICE)
    await writer.put(messages=said("a", "b", "c"))
    await memory.conversations.append("t", "by hand", user_id=ALICE)
    first, second, third = writer.values["messages"]
    edited = second.model_copy(update={"content": "B"})
    await writer.put(messages=[first, edited, third])
    shown = [message.text for message in await memory.conversations.messages("t")]
    await empty.import_records(memory.export(user_id=ALICE))
    assert [message.text for message in await empty.conversations.messages("t")] == shown
    assert (await empty.recall("hand", user_id=ALICE, kinds=["message"]))[0].text == "by hand"


# ---------------------------------------------------------------- what cannot go in


HEADER = {"kind": "header", "format": "memory-plugin", "version": 1, "user_id": ALICE, "checkpoints": False}


async def test_bad_lines_are_named_and_the_rest_goes_in(filled: Memory, empty: Memory) -> None:
    exported = records(await lines(filled, user_id=ALICE))
    place = next(index for index, record in enumerate(exported) if record["kind"] == "memory")
    broken = [
        exported[place] | {"id": "no uuid"},
        {"kind": "spell"},
        exported[place] | {"colour": "red"},
        {"kind": "memory"},
        ValueError("this line is no JSON"),
        {"kind": "message", "thread_id": "nowhere", "seq": 1, "id": exported[place]["id"], "origin": 1},
    ]
    report = await empty.import_records(exported[:place] + broken + exported[place:])
    assert [failure.line for failure in report.failed] == [place + 1 + each for each in range(6)]
    reasons = [failure.message for failure in report.failed]
    assert "uuid" in reasons[0]
    assert "no kind of record 'spell'" in reasons[1]
    assert "colour" in reasons[2]
    assert "lacks id" in reasons[3]
    assert reasons[4] == "this line is no JSON"
    assert "conversation is not here" in reasons[5]
    assert await lines(empty, user_id=ALICE) == [orjson.dumps(record) for record in exported]


async def test_a_conversation_of_another_user_is_not_mixed_with(filled: Memory, empty: Memory) -> None:
    thread = f"thread-of-{ALICE}"
    await empty.conversations.append(thread, "mine", user_id=BOB)
    report = await empty.import_records(filled.export(user_id=ALICE))
    assert {failure.kind for failure in report.failed} == {"conversation", "message"}
    assert [message.text for message in await empty.conversations.messages(thread)] == ["mine"]


async def test_a_fact_whose_key_is_taken_is_named(filled: Memory, empty: Memory) -> None:
    await empty.remember("drinks milk", user_id=ALICE, key="drink")
    report = await empty.import_records(filled.export(user_id=ALICE))
    (failure,) = report.failed
    assert "another fact stands under its key" in failure.message


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "nothing to import"),
        ([{"kind": "memory"}], "must be its header"),
        ([HEADER | {"version": 2}], "update memory-plugin"),
        ([HEADER | {"format": "other"}], "no export of memory-plugin"),
        (["text"], "no export of memory-plugin"),
    ],
)
async def test_what_is_no_export_is_refused(core: MemoryCore, given: list[Any], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        await core.import_records(given)


async def test_an_export_that_was_cut_off_is_not_complete(core: MemoryCore) -> None:
    assert not (await core.import_records([HEADER])).complete
    assert (await core.import_records([HEADER, {"kind": "end"}])).complete


# ---------------------------------------------------------------- killed in the middle


def test_an_import_that_is_killed_goes_in_when_it_is_run_again(
    database_url: str, other_url: str, tmp_path: Path
) -> None:
    with MemoryCore.open(database_url, embeddings=False) as core:
        for thread in range(6):
            core.conversations.append(
                f"t{thread}", [f"kettle {thread} {number}" for number in range(400)], user_id=ALICE
            )
        for number in range(300):
            core.remember(f"fact {number}", user_id=ALICE)
        exported = [orjson.dumps(record) for record in core.export(user_id=ALICE)]
    file = tmp_path / "alice.jsonl"
    file.write_bytes(b"\n".join(exported))
    program = (
        "import sys, orjson, time\n"
        "from memory_plugin.core import MemoryCore\n"
        "with MemoryCore.open(sys.argv[1], embeddings=False) as core:\n"
        "    def slow():\n"
        "        for number, line in enumerate(open(sys.argv[2], 'rb')):\n"
        "            if number % 50 == 0: print(number, flush=True); time.sleep(0.01)\n"
        "            yield orjson.loads(line)\n"
        "    core.import_records(slow())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, other_url, str(file)], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        while int(run.stdout.readline()) < 1400:
            pass
        run.send_signal(signal.SIGKILL)
    with MemoryCore.open(other_url, embeddings=False) as core:
        report = core.import_records(orjson.loads(line) for line in exported)
        assert report.unchanged.total() > 800
        assert report.created.total() > 800
        assert report.failed == []
        assert [orjson.dumps(record) for record in core.export(user_id=ALICE)] == exported
        core.indexed()
        for thread in range(6):
            assert len(core.recall("kettle", thread_id=f"t{thread}", limit=1000)) == 400
