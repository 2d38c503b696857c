"""Exports that are byte for byte the same after an import, and imports that go on, go around, and go in again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from langgraph.store.memory import InMemoryStore

from memory_plugin import Memory
from memory_plugin.core import MemoryCore
from memory_plugin.errors import DocumentError, InvalidInputError
from memory_plugin.portable import (
    import_mcp_memory,
    import_mem0,
    import_store,
    read_document,
    read_lines,
    write_export,
)
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
    refused = {failure.kind for failure in report.failed}
    assert {"conversation", "message", "feedback", "share"} <= refused
    assert not refused & {"memory", "user_memory", "document"}
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


# ---------------------------------------------------------------- files


async def test_a_file_is_written_whole_and_read_again(filled: Memory, empty: Memory, tmp_path: Path) -> None:
    for name in ("alice.jsonl", "alice.jsonl.gz"):
        written = await write_export(filled, str(tmp_path / name), user_id=ALICE)
        assert written == len(list(read_lines(str(tmp_path / name))))
    assert not (tmp_path / "alice.jsonl.part").exists()
    assert (await empty.import_records(read_lines(str(tmp_path / "alice.jsonl.gz")))).failed == []
    assert await lines(empty, user_id=ALICE) == (tmp_path / "alice.jsonl").read_bytes().splitlines()


async def test_an_export_goes_on_with_the_part_of_one_that_was_killed(filled: Memory, tmp_path: Path) -> None:
    whole, file = tmp_path / "whole.jsonl", tmp_path / "alice.jsonl"
    await write_export(filled, str(whole), user_id=ALICE)
    text = whole.read_bytes()
    for cut in (10, 300, len(text) // 2, len(text) - 1, len(text)):
        (tmp_path / "alice.jsonl.part").write_bytes(text[:cut])
        await write_export(filled, str(file), user_id=ALICE, resume=True)
        assert file.read_bytes() == text


async def test_the_part_of_another_export_is_not_gone_on_with(filled: Memory, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.part").write_bytes(b"\n".join((await lines(filled, user_id=BOB))[:1]) + b"\n")
    with pytest.raises(InvalidInputError, match="another export"):
        await write_export(filled, str(tmp_path / "a.jsonl"), user_id=ALICE, resume=True)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(DocumentError, match=r"nowhere\.jsonl cannot be read"):
        list(read_lines("nowhere.jsonl"))


# ---------------------------------------------------------------- other memories


GRAPH: list[Any] = [
    {"type": "entity", "name": "Alice", "entityType": "person", "observations": ["prefers tea", "speaks Basque"]},
    {"type": "entity", "name": "Acme", "entityType": "company", "observations": []},
    {"type": "relation", "from": "Alice", "to": "Acme", "relationType": "works_at"},
    {"type": "relation", "from": "Bob", "to": "Initech", "relationType": "works_at"},
]


async def test_a_knowledge_graph_becomes_facts_that_recall_finds(core: MemoryCore) -> None:
    report = await import_mcp_memory(core, GRAPH, user_id=ALICE)
    assert (dict(report.counts), report.failed) == ({"created": 5}, [])
    (first, *_) = await core.recall("who works at Acme?", user_id=ALICE)
    assert first.text == "Alice works at Acme"
    assert first.metadata == {"origin": "mcp-memory", "subject": "Alice", "relation": "works_at", "object": "Acme"}
    (language,) = await core.recall("Basque", user_id=ALICE, filter={"subject": "Alice", "subject_type": "person"})
    assert language.text == "Alice (person): speaks Basque"


async def test_the_same_knowledge_graph_again_is_known(core: MemoryCore) -> None:
    await import_mcp_memory(core, GRAPH, user_id=ALICE)
    foreseen = await import_mcp_memory(core, GRAPH, user_id=ALICE, dry_run=True)
    again = await import_mcp_memory(core, GRAPH, user_id=ALICE)
    assert dict(again.counts) == dict(foreseen.counts) == {"duplicate": 5}


async def test_what_is_no_part_of_a_graph_is_named_by_its_line(core: MemoryCore) -> None:
    bad: list[Any] = [
        {"type": "entity"},
        [],
        ValueError("no JSON"),
        {"type": "entity", "name": "A", "observations": ["", "x"]},
        {"type": "entity", "name": "B", "observations": "x"},
    ]
    report = await import_mcp_memory(core, bad, user_id=ALICE)
    assert [failure.line for failure in report.failed] == [1, 2, 3, 4, 5]
    assert dict(report.counts) == {"created": 1}


MEM0: list[Any] = [
    {
        "id": "0b6c", "memory": "Alice is allergic to nuts", "user_id": ALICE, "agent_id": "cook", "run_id": "r-1",
        "hash": "d41d", "metadata": {"topic": "food"}, "created_at": "2026-02-01T10:00:00.5-08:00", "updated_at": None,
    },
    {"id": "0b6d", "memory": "Bob prefers trains", "user_id": BOB, "created_at": "yesterday"},
]  # fmt: skip


async def test_memories_of_mem0_keep_their_user_thread_time_and_metadata(core: MemoryCore) -> None:
    assert dict((await import_mem0(core, MEM0)).counts) == {"created": 2}
    (hit,) = await core.recall("nuts", user_id=ALICE)
    item = await core.memories.get(hit.id)
    assert (item.user_id, item.agent_id, item.thread_id, item.key) == (ALICE, "cook", "r-1", "mem0:0b6c")
    assert item.valid_from == datetime.fromisoformat("2026-02-01T18:00:00.5+00:00")
    assert (item.metadata["topic"], item.metadata["mem0_id"]) == ("food", "0b6c")
    assert len(await core.recall("trains", user_id=BOB)) == 1


async def test_a_memory_of_mem0_that_changed_is_updated(core: MemoryCore) -> None:
    await import_mem0(core, MEM0)
    changed = [MEM0[0] | {"memory": "Alice eats nuts again"}, MEM0[1], {"id": "x"}, {"memory": "", "id": "y"}]
    foreseen = await import_mem0(core, changed, dry_run=True)
    report = await import_mem0(core, changed)
    assert dict(report.counts) == dict(foreseen.counts) == {"updated": 1, "duplicate": 1}
    assert [failure.line for failure in report.failed] == [failure.line for failure in foreseen.failed] == [3, 4]


@pytest.mark.parametrize(
    "text",
    [
        orjson.dumps(MEM0),
        orjson.dumps({"results": MEM0, "relations": []}),
        b"\n".join(orjson.dumps(each) for each in MEM0),
        orjson.dumps(MEM0, option=orjson.OPT_INDENT_2),
    ],
)
def test_every_form_of_a_mem0_export_is_read(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "mem0").write_bytes(text)
    assert list(read_document(str(tmp_path / "mem0"))) == MEM0


async def test_the_items_of_any_langgraph_store_come_over(memory: Memory) -> None:
    store = InMemoryStore()
    for number in range(250):
        await store.aput(("users", str(number % 7)), f"k{number}", {"text": f"kettle {number}"})
    await store.aput(("memories", ALICE), "drink", {"text": "green tea"})
    assert dict((await import_store(memory, store, dry_run=True)).counts) == {"created": 251}
    assert dict((await import_store(memory, store)).counts) == {"created": 251}
    assert dict((await import_store(memory, store)).counts) == {"duplicate": 251}
    await store.aput(("memories", ALICE), "drink", {"text": "black tea"})
    assert dict((await import_store(memory, store, namespace=("memories",))).counts) == {"updated": 1}
    assert [hit.text for hit in await memory.recall("black tea", user_id=ALICE, kinds=["memory"])][:1] == ["black tea"]
    found = await memory.store.aget(("users", "3"), "k3")
    assert found is not None
    assert found.value == {"text": "kettle 3"}


# ---------------------------------------------------------------- the command line


def run(url: str, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "memory_plugin.cli", "--url", url, *arguments],
        capture_output=True, text=True, env={**os.environ, "MEMORY_EMBEDDINGS": "none", "COLUMNS": "300"}, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_commands_carry_a_user_from_store_to_store(database_url: str, other_url: str, tmp_path: Path) -> None:
    with MemoryCore.open(database_url, embeddings=False) as core:
        core.remember("Alice prefers tea", user_id=ALICE)
    file = str(tmp_path / "alice.jsonl.gz")
    assert run(database_url, "export", "jsonl", "--user", ALICE, "--to", file)[:2] == (
        0,
        f"3 records written to {file}.\n",
    )
    code, out, _ = run(other_url, "--json", "import", "jsonl", file)
    assert (code, orjson.loads(out)["created"]) == (0, {"memory": 1})
    assert run(other_url, "export", "jsonl", "--all", "--to", "-")[1].count('"kind":"memory"') == 1
    assert run(database_url, "export", "jsonl", "--to", file)[0] == 2


def test_the_commands_bring_in_other_memories(other_url: str, tmp_path: Path) -> None:
    graph, mem0 = tmp_path / "graph.jsonl", tmp_path / "mem0.json"
    graph.write_bytes(b"\n".join(orjson.dumps(each) for each in GRAPH))
    mem0.write_bytes(orjson.dumps([*MEM0, {}]))
    assert "Would be imported: 5 created" in run(other_url, "import", "mcp-memory", str(graph), "--dry-run")[1]
    code, out, _ = run(other_url, "--json", "import", "mcp-memory", str(graph), "--user", ALICE)
    assert (code, orjson.loads(out)["created"]) == (0, 5)
    code, out, _ = run(other_url, "import", "mem0", str(mem0))
    assert code == 1
    assert "2 created" in out
    assert "line 3: it has no text" in out
