"""Forgetting: softly with an undo that gives back everything, and for good with nothing left."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import HumanMessage

from memory_plugin import Memory
from memory_plugin.capabilities import erasure
from memory_plugin.core import MemoryCore
from memory_plugin.errors import ConflictError, InvalidInputError, NotFoundError
from tests.saver_tools import Writer, said, values
from tests.user_data import fill, rows_as_text, word_of

ALICE, BOB = "alice-7f3a", "bob-91c2"

SHARED = {"term_statistics", "corpus_statistics", "embedding_models", "listeners", "search_languages"}
"""Tables whose rows belong to the tenant and not to a user."""


async def found(core: MemoryCore, query: str, **scope: Any) -> list[tuple[Any, ...]]:
    """What recall answers, with everything in it that a caller could compare."""
    return [(hit.id, hit.text, hit.at, round(hit.score, 9)) for hit in await core.recall(query, **scope)]


# ---------------------------------------------------------------- threads, softly


@pytest.fixture
async def thread(core: MemoryCore) -> str:
    """A conversation of alice."""
    await core.conversations.append("t", ["the kettle is on", ("ai", "tea then")], user_id=ALICE)
    await core.conversations.merge_buffer("t", {"mood": "thirsty"})
    return "t"


async def test_a_forgotten_thread_is_not_shown_anywhere(core: MemoryCore, thread: str) -> None:
    await core.passages.catch_up()
    counts = await core.forget(thread_id=thread)
    assert counts == {"conversations": 1, "messages": 2}
    assert await core.recall("kettle tea", user_id=ALICE) == []
    assert (await core.conversations.list()).items == []
    assert await core.conversations.messages(thread) == []
    assert await core.conversations.get_buffer(thread) is None
    assert await core.conversations.find_by_buffer({"mood": "thirsty"}) == []
    with pytest.raises(NotFoundError):
        await core.conversations.get(thread)


async def test_a_forgotten_thread_is_not_found_by_looking_back_in_time(core: MemoryCore, thread: str) -> None:
    await core.passages.catch_up()
    said_at = (await core.conversations.messages(thread))[-1].at
    await core.forget(thread_id=thread)
    assert await core.recall("kettle", user_id=ALICE, as_of=said_at) == []


async def test_a_thread_that_was_not_indexed_when_it_was_forgotten_is_indexed_hidden(
    core: MemoryCore, thread: str
) -> None:
    await core.forget(thread_id=thread)
    assert await core.recall("kettle", user_id=ALICE) == []
    await core.unforget(thread_id=thread)
    assert len(await core.recall("kettle", user_id=ALICE)) == 1


async def test_bringing_a_thread_back_restores_the_same_answers(core: MemoryCore, thread: str) -> None:
    before = (
        await found(core, "kettle tea"),
        await core.conversations.get(thread),
        await core.conversations.messages(thread),
    )
    await core.forget(thread_id=thread)
    assert await core.unforget(thread_id=thread) == {"conversations": 1, "messages": 2}
    after = (
        await found(core, "kettle tea"),
        await core.conversations.get(thread),
        await core.conversations.messages(thread),
    )
    assert after == before


async def test_forgetting_and_bringing_back_twice_touches_nothing(core: MemoryCore, thread: str) -> None:
    await core.forget(thread_id=thread)
    assert not any((await core.forget(thread_id=thread)).values())
    await core.unforget(thread_id=thread)
    assert not any((await core.unforget(thread_id=thread)).values())


async def test_a_thread_that_never_was_cannot_be_brought_back(core: MemoryCore) -> None:
    with pytest.raises(NotFoundError, match="bring back"):
        await core.unforget(thread_id="nowhere")


async def test_one_thing_is_to_be_brought_back(core: MemoryCore) -> None:
    with pytest.raises(InvalidInputError, match="exactly one"):
        await core.unforget(user_id="u", thread_id="t")


@pytest.mark.parametrize("how", ["append", "create", "title", "merge", "set"])
async def test_writing_to_a_forgotten_thread_brings_it_back(core: MemoryCore, thread: str, how: str) -> None:
    await core.passages.catch_up()
    await core.forget(thread_id=thread)
    match how:
        case "append":
            await core.conversations.append(thread, "again")
        case "create":
            await core.conversations.create(thread)
        case "title":
            await core.conversations.set_title(thread, "Tea")
        case "merge":
            await core.conversations.merge_buffer(thread, {"more": 1})
        case _:
            await core.conversations.set_buffer(thread, {"more": 1})
    assert (await core.conversations.messages(thread))[0].text == "the kettle is on"
    assert len(await core.recall("kettle", user_id=ALICE)) == 1


async def test_an_agent_goes_on_with_a_forgotten_thread_and_brings_it_back(memory: Memory) -> None:
    writer = Writer(memory.checkpointer, "t", user_id=ALICE)
    await writer.put(messages=said("the kettle is on"))
    await memory.passages.catch_up()
    await memory.forget(thread_id="t")
    state = await values(memory.checkpointer, {"configurable": {"thread_id": "t", "checkpoint_ns": ""}})
    assert [message.text for message in state["messages"]] == ["the kettle is on"]
    await writer.put(messages=[*writer.values["messages"], *said("again")])
    assert [message.text for message in await memory.conversations.messages("t")] == ["the kettle is on", "again"]
    assert len(await memory.recall("kettle", user_id=ALICE, kinds=["message"])) >= 1


async def test_the_chat_history_of_a_forgotten_thread_is_empty_until_something_is_said(memory: Memory) -> None:
    history = memory.history("t")
    await history.aadd_messages([HumanMessage("one")])
    await memory.forget(thread_id="t")
    assert await history.aget_messages() == []
    await history.aadd_messages([HumanMessage("two")])
    assert [message.text for message in await history.aget_messages()] == ["one", "two"]


async def test_hard_erases_a_thread(core: MemoryCore, thread: str) -> None:
    counts = await core.forget(thread_id=thread, hard=True)
    assert (counts["conversations"], counts["messages"]) == (1, 2)
    with pytest.raises(NotFoundError):
        await core.unforget(thread_id=thread)


async def test_a_forgotten_thread_can_be_erased(core: MemoryCore, thread: str) -> None:
    await core.forget(thread_id=thread)
    assert (await core.forget(thread_id=thread, hard=True))["messages"] == 2


async def test_messages_indexed_while_their_thread_is_forgotten_and_back_agree_with_it(core: MemoryCore) -> None:
    """Whoever comes first, the indexer or the one who forgets: the index says what the thread says."""
    for number in range(6):
        thread = f"t{number}"
        await core.conversations.append(thread, f"kettle {number}", user_id=ALICE)
        await asyncio.gather(core.passages.catch_up(), core.forget(thread_id=thread))
        assert await core.recall("kettle", thread_id=thread) == []
        await asyncio.gather(core.passages.catch_up(), core.unforget(thread_id=thread))
        assert len(await core.recall("kettle", thread_id=thread)) == 1


# ---------------------------------------------------------------- items


async def test_bringing_an_item_back_restores_the_same_answer(core: MemoryCore) -> None:
    item = await core.remember("Alice drinks tea", user_id=ALICE, key="drink")
    before = await found(core, "tea", user_id=ALICE)
    await core.forget(item_id=item.id)
    assert await core.recall("tea", user_id=ALICE) == []
    assert await core.unforget(item_id=str(item.id)) == {"memories": 1, "passages": 1}
    assert await found(core, "tea", user_id=ALICE) == before
    assert len(await core.memories.history(item.id)) == 1


async def test_an_item_whose_key_is_taken_stays_forgotten(core: MemoryCore) -> None:
    item = await core.remember("Alice drinks tea", user_id=ALICE, key="drink")
    await core.forget(item_id=item.id)
    await core.remember("Alice drinks milk", user_id=ALICE, key="drink")
    with pytest.raises(ConflictError, match="forget that one first"):
        await core.unforget(item_id=item.id)


async def test_an_unknown_item_cannot_be_brought_back(core: MemoryCore) -> None:
    with pytest.raises(NotFoundError):
        await core.unforget(item_id=uuid4())


# ---------------------------------------------------------------- users, softly


@pytest.fixture
async def everything(core: MemoryCore) -> None:
    """Facts, threads and documents of alice, and a fact of bob."""
    await core.remember("Alice drinks tea", user_id=ALICE, key="drink")
    await core.conversations.append("t", "tea in the kettle", user_id=ALICE)
    await core.references.add(text="Tea is brewed at four.", source="tea.txt", user_id=ALICE)
    await core.remember("Bob drinks tea", user_id=BOB)


@pytest.mark.usefixtures("everything")
async def test_nothing_of_a_forgotten_user_is_found(core: MemoryCore) -> None:
    counts = await core.forget(user_id=ALICE)
    assert counts == {"memories": 1, "conversations": 1, "messages": 1, "passages": 2}
    assert await core.recall("tea", user_id=ALICE) == []
    assert (await core.conversations.list(user_id=ALICE)).items == []
    assert (await core.memories.list(user_id=ALICE)).items == []
    assert len(await core.recall("tea", user_id=BOB)) == 1


@pytest.mark.usefixtures("everything")
async def test_bringing_a_user_back_restores_the_same_answers(core: MemoryCore) -> None:
    before = await found(core, "tea", user_id=ALICE)
    rows = await rows_as_text(core)
    await core.forget(user_id=ALICE)
    assert (await core.unforget(user_id=ALICE))["memories"] == 1
    assert len(before) == 3
    assert await found(core, "tea", user_id=ALICE) == before
    assert await rows_as_text(core) == rows


@pytest.mark.usefixtures("everything")
async def test_what_was_forgotten_by_itself_stays_forgotten_when_the_user_comes_back(core: MemoryCore) -> None:
    milk = await core.remember("Alice drinks milk at night", user_id=ALICE)
    await core.conversations.append("other", "milk", user_id=ALICE)
    await core.forget(item_id=milk.id)
    await core.forget(thread_id="other")
    await core.forget(user_id=ALICE)
    await core.unforget(user_id=ALICE)
    assert await core.recall("milk", user_id=ALICE) == []
    assert len(await core.recall("tea", user_id=ALICE)) == 3


@pytest.mark.usefixtures("everything")
async def test_a_user_forgotten_twice_comes_back_whole(core: MemoryCore) -> None:
    await core.forget(user_id=ALICE)
    await core.remember("Alice owns a teapot", user_id=ALICE)
    await core.forget(user_id=ALICE)
    await core.unforget(user_id=ALICE)
    assert len(await core.recall("tea teapot", user_id=ALICE)) == 4


@pytest.mark.usefixtures("everything")
async def test_a_fact_that_was_told_again_meanwhile_keeps_its_key(core: MemoryCore) -> None:
    await core.forget(user_id=ALICE)
    await core.remember("Alice drinks milk", user_id=ALICE, key="drink")
    assert (await core.unforget(user_id=ALICE))["memories"] == 0
    found = await core.memories.get_by_key(("memories", ALICE), "drink")
    assert found is not None
    assert found.content == "Alice drinks milk"


async def test_a_user_of_whom_nothing_was_forgotten_has_nothing_to_bring_back(core: MemoryCore) -> None:
    assert not any((await core.unforget(user_id="nobody")).values())
    assert not any((await core.forget(user_id="nobody")).values())


# ---------------------------------------------------------------- users, for good


@pytest.fixture
async def filled(memory: Memory) -> Memory:
    """Alice with something in every table."""
    await fill(memory, ALICE)
    return memory


async def test_the_test_user_has_something_in_every_table(filled: Memory) -> None:
    """A table that is added later fails here: `fill` must put something into it, and erasing must know it."""
    empty = {table for table, rows in (await rows_as_text(filled)).items() if not rows}
    assert empty == {"listeners", "search_languages"}  # of the tenant: no user has anything there


async def test_an_erased_user_leaves_nothing_and_takes_nothing_of_others(filled: Memory) -> None:
    await filled.indexed()  # or bob's turn would index what waits of alice
    alice = await rows_as_text(filled)
    await fill(filled, BOB)
    bob = {table: rows - alice[table] for table, rows in (await rows_as_text(filled)).items()}
    await filled.remember("waits for the index", user_id=ALICE)
    await filled.conversations.append("one more", "waits too", user_id=ALICE)
    both = await rows_as_text(filled)
    counts = await filled.forget(user_id=ALICE, hard=True)
    for table, rows in (await rows_as_text(filled)).items():
        if table not in SHARED:
            assert rows == bob[table], table
            assert counts[table] == (both[table] - bob[table]).total(), table


async def test_no_column_of_any_table_names_an_erased_user(filled: Memory) -> None:
    made = await fill(filled, BOB)
    ours = {ALICE, word_of(ALICE), made["thread"].replace(BOB, ALICE)}
    ours |= {row["id"] for row in await filled.database.fetch(
        "SELECT unnest(ARRAY[id, item_id])::text AS id FROM memory.memories WHERE user_id = $1 "
        "UNION SELECT id::text FROM memory.messages WHERE thread_id LIKE $2", ALICE, f"%{ALICE}%")}  # fmt: skip
    pattern = re.compile("|".join(re.escape(each) for name in ours for each in (name, name.encode().hex())))
    text = "\n".join(row for rows in (await rows_as_text(filled)).values() for row in rows)
    assert pattern.search(text)
    await filled.forget(user_id=ALICE, hard=True)
    text = "\n".join(row for rows in (await rows_as_text(filled)).values() for row in rows)
    assert not pattern.findall(text)


async def test_the_words_of_an_erased_user_are_in_no_statistics(filled: Memory) -> None:
    await filled.forget(user_id=ALICE, hard=True)
    assert await filled.database.fetchval("SELECT count(*) FROM memory.term_statistics") == 0
    assert await filled.database.fetchval("SELECT sum(passages) FROM memory.corpus_statistics") == 0


async def test_the_receipt_says_that_nothing_is_left(filled: Memory) -> None:
    receipt = await filled.erasure.erase_user(ALICE, mentions=True)
    assert (receipt.left, receipt.mentions, receipt.threads) == ({}, {}, 3)
    assert receipt.counts["messages"] == 6
    assert receipt.looked_at > 100


async def test_what_others_say_of_an_erased_user_stays_and_is_named(core: MemoryCore) -> None:
    await core.remember("a secret of two", user_id=BOB, metadata={"with": ALICE})
    await core.agent_settings.set("tone", "dry", set_by=ALICE)
    await core.remember("said in her thread", user_id=BOB, source={"thread_id": "t", "message_id": "m", "uri": "u"})
    await core.conversations.append("t", "hello", user_id=ALICE)
    receipt = await core.erasure.erase_user(ALICE, mentions=True)
    assert receipt.mentions == {"memories.metadata": 1}
    (said_there,) = (item for item in (await core.memories.list(user_id=BOB)).items if item.content.startswith("said"))
    assert said_there.thread_id is None
    assert said_there.source is not None
    assert (said_there.source.thread_id, said_there.source.uri) == (None, "u")
    (tone,) = await core.agent_settings.history("tone")
    assert (tone.value, tone.set_by) == ("dry", None)


async def test_a_user_called_like_a_word_of_the_library_takes_no_more_than_is_his(core: MemoryCore) -> None:
    await core.remember("everybody's", namespace=["memories"])
    await core.remember("of a user called user", user_id="user")
    await core.remember("of a user called memories", user_id="memories")
    await core.conversations.append("memories", "a thread of that name", user_id=BOB)
    for name in ("user", "memories"):
        assert (await core.forget(user_id=name, hard=True))["memories"] == 1
    assert [item.content for item in (await core.memories.list()).items] == ["everybody's"]
    assert len(await core.conversations.messages("memories")) == 1


async def test_a_user_with_much_is_erased_in_batches(core: MemoryCore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THREADS", "DOCUMENTS", "FACTS"):
        monkeypatch.setattr(erasure, name, 2)
    for number in range(5):
        await core.conversations.append(f"t{number}", "hello", user_id=ALICE)
        await core.remember(f"fact {number}", user_id=ALICE)
        await core.references.add(text=f"text {number}", source=f"s{number}", user_id=ALICE)
    counts = await core.forget(user_id=ALICE, hard=True)
    assert (counts["conversations"], counts["memories"], counts["documents"]) == (5, 5, 5)
    assert await core.erasure.left(ALICE, [f"t{number}" for number in range(5)]) == {}


async def test_erasing_beside_writers_of_the_same_user_ends_without_a_deadlock(core: MemoryCore) -> None:
    """Writers, the indexer and two erasures at once; what comes after the last erasure is erased by the next."""
    stop = asyncio.Event()

    async def write(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            await core.conversations.append(f"t{number}", f"tea {turn}", user_id=ALICE)
            await core.remember(f"tea {number} {turn}", user_id=ALICE, key=f"k{turn % 3}")
            await core.recall("tea", user_id=ALICE)

    async def erase() -> None:
        for _ in range(3):
            try:
                await core.forget(user_id=ALICE, hard=True)
            except ConflictError as error:
                assert "stop the user's agents" in str(error)

    writers = [asyncio.create_task(write(number)) for number in range(3)]
    await asyncio.gather(erase(), erase())
    stop.set()
    await asyncio.gather(*writers)
    await core.forget(user_id=ALICE, hard=True)
    assert await core.erasure.left(ALICE, ["t0", "t1", "t2"]) == {}


async def test_the_proof_finds_what_an_erasure_missed(core: MemoryCore) -> None:
    """The look afterwards reads the columns from the catalog: a table that erasing does not know is seen."""
    owner = core.database.as_login()
    await owner.execute("CREATE TABLE memory.later (tenant_id text, user_id text, note jsonb)")
    await owner.execute("GRANT SELECT, INSERT ON memory.later TO memory_app")
    await core.database.execute("INSERT INTO memory.later VALUES ('default', $1, '{}')", ALICE)
    assert await core.erasure.left(ALICE) == {"later.user_id": 1}
    with pytest.raises(ConflictError, match=r"later\.user_id"):
        await core.forget(user_id=ALICE, hard=True)


async def test_another_tenant_keeps_its_user_of_that_name(database_url: str, core: MemoryCore) -> None:
    async with MemoryCore.open(database_url, tenant="other", embeddings=False) as other:
        await other.remember("kept", user_id=ALICE)
        await core.forget(user_id=ALICE, hard=True)
        assert len(await other.recall("kept", user_id=ALICE)) == 1
