"""What the checkpointer remembers of threads: ranges of rows, and the checkpoints used last."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from memory_plugin.langgraph import known
from memory_plugin.langgraph.entries import copies, entry_of
from memory_plugin.langgraph.known import (
    MAX_THREADS,
    Kept,
    KnownCheckpoint,
    KnownMessages,
    KnownThread,
    View,
    runs,
    uncovered,
)

NUMBERS = st.lists(st.integers(1, 40), max_size=30)
SPANS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 8)).map(lambda each: (each[0], sum(each))), max_size=8)


def numbers_of(spans: list[tuple[int, int]]) -> list[int]:
    return [number for start, end in spans for number in range(start, end)]


def remembered(number: int) -> KnownCheckpoint:
    return KnownCheckpoint({"x": number}, {"messages": [(number, number + 1)]}, learned=True)


@given(NUMBERS)
@settings(derandomize=True)
def test_ranges_say_the_same_numbers_in_the_same_order(numbers: list[int]) -> None:
    found = runs(numbers)

    assert numbers_of(found) == numbers
    assert all(start < end for start, end in found)
    assert all(end != following for (_, end), (following, _) in zip(found, found[1:], strict=False))


def test_a_long_list_is_one_range() -> None:
    assert runs(list(range(7, 10_007))) == [(7, 10_007)]
    assert runs([]) == []


def test_an_edit_in_the_middle_parts_a_range() -> None:
    assert runs([1, 2, 9, 4, 5]) == [(1, 3), (9, 10), (4, 6)]


@given(SPANS, SPANS)
@settings(derandomize=True)
def test_uncovered_is_the_difference(wanted: list[tuple[int, int]], spans: list[tuple[int, int]]) -> None:
    expected = sorted(set(numbers_of(wanted)) - set(numbers_of(spans)))

    assert numbers_of(uncovered(wanted, spans)) == expected


def test_the_parent_comes_first_then_what_was_used_last() -> None:
    thread = KnownThread()
    for number in range(4):
        thread.remember("", f"c{number}", remembered(number))
    thread.remember("", "c0", remembered(0))

    assert [key for key, _ in thread.near("", "c2")] == [("", "c2"), ("", "c0"), ("", "c3"), ("", "c1")]
    assert [key for key, _ in thread.near("sub", "c2")][0] == ("", "c0")
    assert [key for key, _ in thread.near("", None)][0] == ("", "c0")


def test_checkpoints_used_longest_ago_are_forgotten() -> None:
    thread = KnownThread()
    for number in range(known.MAX_CHECKPOINTS + 10):
        thread.remember("", f"c{number:03}", remembered(number))

    assert len(thread.checkpoints) == known.MAX_CHECKPOINTS
    assert ("", "c009") not in thread.checkpoints
    assert ("", "c010") in thread.checkpoints


def test_a_thread_that_is_reset_knows_nothing() -> None:
    thread = KnownThread()
    thread.remember("", "c", remembered(1))
    thread.buffer, thread.buffer_parts["x"] = "{}", (1, "1")
    thread.internal.add(1)
    thread.reset()

    assert list(thread.near("", "c")) == []
    assert (thread.buffer, thread.buffer_parts, thread.internal, thread.rows) == (None, {}, set(), {})


def test_one_limit_holds_for_all_who_share_it() -> None:
    """Tenants of one process: what is known of the threads of one makes room for those of another."""
    kept: Kept = OrderedDict()
    limit = 1 << 24
    one, other = KnownMessages(limit, kept), KnownMessages(limit, kept)
    first = one.thread("t")
    assert other.thread("t") is not first and one.thread("t") is first
    one.clear()
    assert len(kept) == 1 and one.thread("t") is not first
    for number in range(MAX_THREADS + 10):
        (one, other)[number % 2].thread(str(number))
    assert len(kept) == MAX_THREADS


def test_checkpoints_of_a_thread_count_towards_the_limit() -> None:
    kept: Kept = OrderedDict()
    known = KnownMessages(1_000_000, kept)
    for number in range(640):
        thread = known.thread(f"t{number // 64}")
        thread.remember("", f"c{number}", remembered(number))
    assert len(kept) < 10
    assert sum(each.footprint for each in kept.values()) <= 1_000_000 + thread.footprint


PLAIN: dict[str, Callable[[int], BaseMessage]] = {
    "said": lambda number: HumanMessage(f"text {number} " + "x" * 40, id=f"said-{number}"),
    "said in Chinese": lambda number: HumanMessage(f"{number}" + "茶" * 400, id=f"said-{number}"),
    "answered": lambda number: AIMessage(
        f"text {number}",
        id=f"answered-{number}",
        response_metadata={"token_usage": {"all": number + 1000}, "model": f"m{number}", "finish": "stop"},
        usage_metadata={"input_tokens": number + 1000, "output_tokens": number + 2000, "total_tokens": number + 3000},
    ),
    "called": lambda number: AIMessage(
        "",
        id=f"called-{number}",
        tool_calls=[{"name": "search", "args": {"what": f"word {number}", "most": number + 1000}, "id": f"c{number}"}],
    ),
    "in parts": lambda number: AIMessage(
        [{"type": "text", "text": f"first {number}"}, {"type": "text", "text": f"second {number}" * 20}],
        id=f"parts-{number}",
    ),
    "of a class of its own": lambda number: Odd(f"text {number} " + "x" * 40, id=f"odd-{number}"),
}


class Odd(HumanMessage):
    """A class that is known by its digest alone."""


@pytest.mark.parametrize("kind", PLAIN)
def test_a_thread_counts_the_bytes_that_it_takes(kind: str) -> None:
    """The limit on memory holds what it says, whatever messages are like."""
    make, number = PLAIN[kind], 300
    for place in range(3):
        entry_of(make(place))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        messages = [make(place) for place in range(number)]
        entries = [entry_of(message) for message in messages]
        thread = KnownThread()
        thread.learn(entries, 1, None, proven=True)
        thread.show(("", "messages"), View(entries, [(1, number + 1)]))
        del messages
        copies([entry for entry in entries if entry.fields is not None], Odd)  # from now on with what that takes
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.75 < thread.footprint / (after - before) < 1.5
