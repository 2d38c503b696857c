"""What LangGraph expects of a checkpointer and its conformance suite does not ask."""

from __future__ import annotations

import copy
import uuid
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, writes_sort_key
from langgraph.checkpoint.memory import InMemorySaver

from memory_plugin import Memory
from memory_plugin.errors import InvalidInputError
from memory_plugin.langgraph import ConversationSaver
from tests.saver_tools import Writer, checkpoint, comparable, history, opened, place, rows, said, values

pytest_plugins = ("tests.saver_fixtures",)


async def writes_of(saver: BaseCheckpointSaver[Any], config: Any) -> list[tuple[str, str, Any]]:
    found = await saver.aget_tuple(config)
    assert found is not None
    return list(found.pending_writes or ())


# -- pending writes


async def test_pending_writes_come_in_the_order_of_task_paths(saver: ConversationSaver) -> None:
    config = await Writer(saver).put(a=1)
    paths = ["~__pregel_pull, b", "~__pregel_push, 0000000010, 0", "", "~__pregel_push, 0000000002, 1", "Ä", "a"]
    for number, path in enumerate(paths):
        for task in (f"task-{9 - number}", f"Task-{number}"):
            await saver.aput_writes(config, [("x", number), ("y", task)], task, path)

    found = await writes_of(saver, config)

    expected = sorted(
        ((path, f"task-{9 - n}", i) for n, path in enumerate(paths) for i in (0, 1)),
        key=lambda each: writes_sort_key(*each),
    )
    assert [task for task, _, _ in found if task.startswith("task")] == [task for _, task, _ in expected]
    memory = InMemorySaver()
    writer = Writer(memory)
    in_memory = await writer.put(a=1)
    for number, path in enumerate(paths):
        for task in (f"task-{9 - number}", f"Task-{number}"):
            memory.put_writes(in_memory, [("x", number), ("y", task)], task, path)
    assert found == await writes_of(memory, in_memory)


async def test_the_first_write_of_a_task_stays(saver: ConversationSaver) -> None:
    config = await Writer(saver).put(a=1)
    await saver.aput_writes(config, [("x", "first"), ("y", "also first")], "task")
    await saver.aput_writes(config, [("x", "second"), ("y", "also second"), ("z", "third place")], "task")

    assert await writes_of(saver, config) == [
        ("task", "x", "first"),
        ("task", "y", "also first"),
        ("task", "z", "third place"),
    ]


async def test_special_channels_are_replaced(saver: ConversationSaver) -> None:
    config = await Writer(saver).put(a=1)
    await saver.aput_writes(config, [("__interrupt__", "old"), ("x", 1), ("__resume__", "r1")], "task")
    await saver.aput_writes(
        config, [("x", 2), ("__interrupt__", "new"), ("__resume__", "r2"), ("__error__", "e")], "task"
    )

    found = {channel: value for _, channel, value in await writes_of(saver, config)}

    # "x" stood at place 1 first and at place 0 then: two regular writes
    assert found == {"__interrupt__": "new", "x": 1, "__resume__": "r2", "__error__": "e"}
    assert [value for _, channel, value in await writes_of(saver, config) if channel == "x"] == [2, 1]


async def test_writes_may_come_before_their_checkpoint(saver: ConversationSaver) -> None:
    late = checkpoint({"a": 1}, {"a": "1"})
    await saver.aput_writes(place(checkpoint_id=late["id"]), [("x", 1)], "task")

    assert await saver.aget_tuple(place()) is None
    await saver.aput(place(), late, {"source": "loop", "step": 0}, {"a": "1"})

    assert await writes_of(saver, place()) == [("task", "x", 1)]


async def test_writes_need_the_id_of_a_checkpoint(saver: ConversationSaver) -> None:
    with pytest.raises(InvalidInputError, match=r"configurable\.checkpoint_id"):
        await saver.aput_writes(place(), [("x", 1)], "task")


async def test_no_writes_are_no_rows(store: Memory, saver: ConversationSaver) -> None:
    config = await Writer(saver).put(a=1)
    await saver.aput_writes(config, [], "task")

    assert await rows(store, "checkpoint_writes") == 0


# -- listing


async def test_before_may_be_an_id_of_another_namespace(saver: ConversationSaver) -> None:
    root, sub = Writer(saver), Writer(saver, namespace="node:1")
    ids = [(await writer.put(a=step))["configurable"]["checkpoint_id"] for step in range(3) for writer in (root, sub)]

    found = await history(saver, place("t", "node:1"), before=place(checkpoint_id=ids[4]))

    assert [each["place"][2] for each in found] == [ids[1], ids[3]]


async def test_before_without_an_id_hides_nothing(saver: ConversationSaver) -> None:
    await Writer(saver).put(a=1)

    assert len(await history(saver, place(), before=place())) == 1


async def test_every_thread_is_listed_where_none_is_named(saver: ConversationSaver) -> None:
    for thread in ("a", "b"):
        await Writer(saver, thread).put(a=1)
        await Writer(saver, thread, "sub:1").put(a=1)

    assert [each["place"][:2] for each in await history(saver, None)] == [
        ("a", ""),
        ("a", "sub:1"),
        ("b", ""),
        ("b", "sub:1"),
    ]


@pytest.mark.parametrize(("limit", "count"), [(0, 0), (-1, 0), (1, 1), (8, 8), (9, 9), (80, 80), (81, 81), (None, 90)])
async def test_a_limit_is_kept_across_pages(limit: int | None, count: int, saver: ConversationSaver) -> None:
    writer = Writer(saver)
    ids = [(await writer.put(a=step))["configurable"]["checkpoint_id"] for step in range(90)]

    found = [each.config["configurable"]["checkpoint_id"] async for each in saver.alist(place(), limit=limit)]

    assert found == ids[::-1][:count]


async def test_a_listing_may_be_left_early(store: Memory, saver: ConversationSaver) -> None:
    writer = Writer(saver)
    for step in range(20):
        await writer.put(a=step)
    async for each in saver.alist(place()):
        assert each.checkpoint["channel_values"] == {"a": 19}
        break

    assert store.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "wanted",
    [{"a": 1}, {"missing": None}, {"a": 2}, {"text": "x\x00y"}, {"deep": {"x": [1, {"y": None}]}}, {"deep": {"x": [1]}},
     {"a": 1, "flag": True}, {"flag": 1.5}, {"none": None}, {"none": 0}],
    ids=repr,
)  # fmt: skip
async def test_filters_compare_like_the_saver_in_memory(wanted: dict[str, Any], saver: ConversationSaver) -> None:
    found = []
    for each in (InMemorySaver(), saver):
        writer = Writer(each)
        for metadata in (
            {"a": 1, "flag": True},
            {"text": "x\x00y", "none": None},
            {"deep": {"x": [1, {"y": None}]}},
            {"flag": 1.5},
        ):
            await writer.put(metadata, a=1)
        listed = await history(each, place(), filter=wanted)
        found.append([{**row["metadata"], "step": 0} for row in listed])

    assert found[0] == found[1]


# -- threads and identities


@pytest.mark.parametrize("thread", [7, uuid.UUID(int=7), "ünï cødé", "a/b|c:d", "x" * 500], ids=str)
async def test_a_thread_id_may_be_anything_that_prints(thread: object, saver: ConversationSaver) -> None:
    stored = await Writer(saver, thread).put(messages=said("a"))
    await saver.aput_writes(place(thread, checkpoint_id=stored["configurable"]["checkpoint_id"]), [("x", 1)], "task")

    assert stored["configurable"]["thread_id"] == str(thread)
    assert await values(saver, place(thread)) == await values(saver, place(str(thread))) == {"messages": said("a")}
    assert len(await history(saver, place(thread))) == 1
    await saver.acopy_thread(thread, "copy")  # type: ignore[arg-type]
    await saver.aprune([thread])  # type: ignore[list-item]
    await saver.adelete_thread(thread)  # type: ignore[arg-type]
    assert await saver.aget_tuple(place(thread)) is None
    assert await values(saver, place("copy")) == {"messages": said("a")}


@pytest.mark.parametrize("thread", [None, "", "a\x00b", "x" * 1000])
async def test_an_unusable_thread_id_is_refused_in_words(thread: Any, saver: ConversationSaver) -> None:
    with pytest.raises(InvalidInputError, match="thread_id"):
        await saver.aget_tuple(place(thread))
    with pytest.raises(InvalidInputError, match="thread_id"):
        await Writer(saver, thread).put(a=1)


async def test_what_is_not_there_is_none(saver: ConversationSaver) -> None:
    config = await Writer(saver).put(a=1)

    assert await saver.aget_tuple(place("other")) is None
    assert await saver.aget_tuple(place("t", "sub:1")) is None
    assert await saver.aget_tuple(place(checkpoint_id="0")) is None
    assert (await saver.aget_tuple(config)) is not None


async def test_the_namespace_is_the_root_where_none_is_named(saver: ConversationSaver) -> None:
    await Writer(saver).put(a=1)

    assert await values(saver, {"configurable": {"thread_id": "t"}}) == {"a": 1}


# -- a put again


async def test_a_put_that_is_tried_again_stores_no_message_twice(shared_url: str, tenant: str) -> None:
    state = checkpoint({"messages": said("a", "b"), "topic": "x"}, {"messages": "1", "topic": "1"})
    for _ in range(3):
        async with opened(shared_url, tenant) as (store, saver):
            for _ in range(2):
                await saver.aput(
                    place(), copy.deepcopy(state), {"source": "loop", "step": 0}, state["channel_versions"]
                )
    async with opened(shared_url, tenant) as (store, saver):
        assert await rows(store, "messages") == 2
        assert await rows(store, "checkpoints") == 1
        assert (await store.conversations.get("t")).message_count == 2
        assert await values(saver, place()) == {"messages": said("a", "b"), "topic": "x"}


@pytest.mark.parametrize("warm", [True, False])
async def test_a_put_again_with_other_values_replaces_them(warm: bool, shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant) as (_, saver):
        parent = await Writer(saver).put(messages=said("a"))
        state = checkpoint({"messages": said("a", "b"), "topic": "x"}, {"messages": "2", "topic": "1"})
        await saver.aput(parent, state, {"source": "loop", "step": 0}, {"messages": "2", "topic": "1"})
        await saver.aput_writes(place(checkpoint_id=state["id"]), [("x", 1)], "task")
    async with opened(shared_url, tenant) as (store, saver):
        if warm:
            await saver.aget_tuple(place())
        state["channel_values"] = {"messages": said("a", "c", "d"), "topic": ["y"]}
        await saver.aput(place(), state, {"source": "update", "step": 5}, {"messages": "2", "topic": "1"})

        found = await saver.aget_tuple(place())
        assert found is not None
        assert found.checkpoint["channel_values"] == {"messages": said("a", "c", "d"), "topic": ["y"]}
        assert found.metadata == {"source": "update", "step": 5}
        assert found.parent_config is None
        assert found.pending_writes == [("task", "x", 1)]
        assert [message.text for message in await store.conversations.messages("t")] == ["a", "c", "d"]


async def test_only_new_versions_are_stored(saver: ConversationSaver) -> None:
    """A value that changed without a new version keeps the one it had, as in every other saver."""
    found = []
    for each in (saver, InMemorySaver()):
        writer = Writer(each)
        await writer.put(messages=said("a"), topic="x", items=[1])
        writer.values |= {"messages": said("a", "b"), "topic": "y"}
        writer.values["items"] = said("now messages")
        await writer.put(other=1)
        writer.values["messages"] = []
        await writer.put(other=2)
        found.append(await values(each, place()))

    assert found[0] == found[1] == {"messages": said("a"), "topic": "x", "items": [1], "other": 2}


async def test_a_copied_checkpoint_keeps_values_that_its_parent_has_not(shared_url: str, tenant: str) -> None:
    """`update_state` with no values puts a copy beside the original, under the original's parent."""
    async with opened(shared_url, tenant) as (_, first):
        writer = Writer(first)
        grandparent = await writer.put(messages=said("a"), topic="x")
        await writer.put(messages=said("a", "b"), topic="y")
    async with opened(shared_url, tenant) as (store, cold):
        copied = checkpoint(writer.values, writer.versions)
        await cold.aput(grandparent, copied, {"source": "fork", "step": 2}, {})

        assert await values(cold, place()) == {"messages": said("a", "b"), "topic": "y"}
        assert await rows(store, "messages") == 2


async def test_versions_grow_also_from_what_other_savers_gave(saver: ConversationSaver) -> None:
    assert saver.get_next_version(None, None) < saver.get_next_version(saver.get_next_version(None, None), None)
    for current in (InMemorySaver().get_next_version(None, None), "00000000000000000000000000000009.0.123"):
        following = saver.get_next_version(current, None)
        assert following > current
        assert saver.get_next_version(following, None) > following
    assert int(saver.get_next_version(41, None).split(".")[0]) == 42  # noqa: PLR2004
    assert len({saver.get_next_version("1", None) for _ in range(1000)}) == 1000  # noqa: PLR2004


@pytest.mark.parametrize("version", [1, 2**70, 1.5, 1e-07, 1e16, True, "1", "$n:1", "$u:x", "a\x00b", "$t"], ids=repr)
async def test_a_version_may_be_any_number_or_text(version: Any, saver: ConversationSaver) -> None:
    state = checkpoint({"messages": said("a"), "x": 1}, {"messages": version, "x": version})
    await saver.aput(place(), state, {}, {"messages": version, "x": version})

    found = await saver.aget_tuple(place())
    assert found is not None
    assert found.checkpoint["channel_versions"] == {"messages": version, "x": version}
    assert found.checkpoint["channel_values"] == {"messages": said("a"), "x": 1}


async def test_everything_in_a_tuple_equals_that_of_the_saver_in_memory(saver: ConversationSaver) -> None:
    found = []
    state = checkpoint(
        {"messages": [HumanMessage("a", id="1")], "n": 1}, {"messages": "1", "n": "1", "gone": "1"},
        versions_seen={"__input__": {}, "node": {"messages": "1"}}, updated_channels=["messages", "n"],
        pending_sends=[{"node": "x", "arg": (1, b"2")}],
    )  # fmt: skip
    for each in (saver, InMemorySaver()):
        config = place("t", "", "parent", user_id="u", number=3)
        await each.aput(
            config,
            copy.deepcopy(state),
            {"source": "loop", "step": 1, "parents": {"": "p"}},
            {"messages": "1", "n": "1", "gone": "1"},
        )
        await each.aput_writes(place(checkpoint_id=state["id"]), [("x", {1: (2, 3)})], "task", "path")
        one = await each.aget_tuple(place())
        assert one is not None
        found.append(comparable(one))

    assert found[0] == found[1]


async def test_a_thread_is_not_copied_over_another(store: Memory, saver: ConversationSaver) -> None:
    await Writer(saver, "a").put(messages=said("a"))
    await Writer(saver, "b").put(messages=said("b"))
    await store.conversations.create("titled", title="mine")

    with pytest.raises(InvalidInputError, match="history of its own"):
        await saver.acopy_thread("a", "b")
    with pytest.raises(InvalidInputError, match="history of its own"):
        await saver.acopy_thread("a", "a")
    await saver.acopy_thread("a", "titled")
    await saver.acopy_thread("nobody", "b")

    assert await values(saver, place("b")) == {"messages": said("b")}
    assert await values(saver, place("titled")) == {"messages": said("a")}
    assert (await store.conversations.get("titled")).title == "mine"


@pytest.mark.parametrize("call", ["aprune", "adelete_for_runs"])
async def test_one_id_instead_of_a_list_is_refused(call: str, saver: ConversationSaver) -> None:
    with pytest.raises(InvalidInputError, match="list"):
        await getattr(saver, call)("abc")


async def test_an_unknown_strategy_is_refused(saver: ConversationSaver) -> None:
    with pytest.raises(InvalidInputError, match="keep_latest"):
        await saver.aprune(["t"], strategy="all")


@pytest.mark.parametrize("name", [5, uuid.UUID(int=5)])
async def test_the_id_of_a_checkpoint_may_be_anything_that_prints(name: Any, saver: ConversationSaver) -> None:
    config = await saver.aput(place(), checkpoint({"x": 1}, {"x": "1"}, id=name), {}, {"x": "1"})
    await saver.aput_writes(place(checkpoint_id=name), [("x", 2)], "task")

    assert config["configurable"]["checkpoint_id"] == str(name)
    found = await saver.aget_tuple(place(checkpoint_id=name))
    assert found is not None
    assert found.pending_writes == [("task", "x", 2)]
    assert len([each async for each in saver.alist(place(checkpoint_id=name))]) == 1
    assert len([each async for each in saver.alist(place(), before=place(checkpoint_id=""))]) == 1


@pytest.mark.parametrize("name", ["nul\x00", "\ud800"])
async def test_an_unusable_id_of_a_checkpoint_is_refused_in_words(name: str, saver: ConversationSaver) -> None:
    with pytest.raises(InvalidInputError, match="checkpoint_id has"):
        await saver.aget_tuple(place(checkpoint_id=name))
    with pytest.raises(InvalidInputError, match="the checkpoint's id has"):
        await saver.aput(place(), checkpoint({"x": 1}, {"x": "1"}, id=name), {}, {"x": "1"})
