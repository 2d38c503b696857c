"""Messages that are remembered: copies of them share nothing, and whatever changes in one is seen."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import PrivateAttr

from memory_plugin.langchain.messages import CORE_MESSAGES
from memory_plugin.langgraph.entries import Entry, copies, entry_of
from memory_plugin.langgraph.known import KnownThread, View

texts = st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | texts
containers = st.deferred(lambda: st.lists(values, max_size=3) | st.dictionaries(texts, values, max_size=3))
values: st.SearchStrategy[Any] = scalars | containers
objects = st.dictionaries(texts, values, max_size=3)
calls = st.lists(
    st.fixed_dictionaries(
        {"name": texts, "args": objects, "id": st.none() | texts}, optional={"type": st.just("tool_call")}
    ),
    max_size=2,
)
blocks = st.lists(texts | st.fixed_dictionaries({"type": st.just("text"), "text": texts}, optional={"x": values}))
REQUIRED = {"tool_call_id": "call", "name": "f", "role": "critic", "id": "id-1"}


class Odd(AIMessage):
    """A class of an application, with a field and a private attribute of its own."""

    notes: dict[str, Any] = {}
    _seen: list[str] = PrivateAttr(default_factory=list)


@st.composite
def messages(draw: st.DrawFn) -> BaseMessage:
    """A message of any class; its fields hold anything that JSON can, and what nobody validated too."""
    cls = draw(st.sampled_from([*CORE_MESSAGES, Odd]))
    needed = {name: REQUIRED[name] for name, field in cls.model_fields.items() if name in REQUIRED}
    if cls.__name__ == "RemoveMessage":
        return cls(id="id-1")  # type: ignore[call-arg]  # it has no content
    message = cls(content=draw(texts | blocks), additional_kwargs=draw(objects), **needed)
    message.response_metadata = draw(objects)
    for name, strategy in {
        "tool_calls": calls,
        "artifact": values,
        "usage_metadata": objects,
        "notes": objects,
    }.items():
        if name in cls.model_fields:
            setattr(message, name, draw(strategy))
    if draw(st.booleans()):
        message.id = None
    if draw(st.integers(0, 4)) == 0:
        message.extra_field = draw(values)  # type: ignore[attr-defined]  # LangChain takes any
    return message


def parts(value: Any) -> Iterator[Any]:
    """Everything in a value that can change, the value first."""
    if isinstance(value, BaseMessage):
        yield value
        for each in (value.__dict__, value.__pydantic_extra__, value.__pydantic_fields_set__):
            yield from parts(each)
    elif isinstance(value, (dict, list, set)):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from parts(inner)


@given(messages())
@settings(derandomize=True, max_examples=100, deadline=None)
def test_a_copy_is_equal_and_shares_nothing_that_can_change(message: BaseMessage) -> None:
    before, entry = copy.deepcopy(message), entry_of(message)
    one, other = (copies([entry], lambda _: copy.deepcopy(message))[0] for _ in range(2))

    assert type(one) is type(message) and one == other == message == before
    if entry.fields is None:  # known by its digest alone
        return
    assert one.model_fields_set == set(type(message).model_fields)
    owners = [set(map(id, parts(each))) for each in (one, other, message, entry.fields)]
    assert not (owners[0] & owners[1]) and not (owners[0] | owners[1]) & (owners[2] | owners[3])


@given(messages(), st.data())
@settings(derandomize=True, max_examples=200, deadline=None)
def test_a_change_in_place_is_seen_wherever_it_is(message: BaseMessage, data: st.DataObject) -> None:
    """By its place in the list, by its id, and by what it holds."""
    thread, entry = KnownThread(), entry_of(message)
    thread.learn([entry], 1, None, proven=True)
    view = View([entry], [(1, 2)])

    def known() -> list[bool]:
        [here], same = view.entries_of([message], thread.recognise)
        found = [thread.recognise(message)]
        thread.find(found)
        return [here is entry, same == 1 or entry.fields is None or bool(message.__pydantic_extra__),
                entry.is_like(message), found[0] is entry]  # fmt: skip

    assert known() == [True] * 4
    changeable = [each for each in parts(message) if isinstance(each, (dict, list))]
    place = data.draw(st.sampled_from(changeable))
    if isinstance(place, list):
        place.append("another")
    elif place is message.__dict__:
        message.content = "another text, said instead"
    else:
        place["another"] = 1
    [here], same = view.entries_of([message], thread.recognise)
    assert (here is entry, same, entry.is_like(message)) == (False, 0, False)
    assert thread.recognise(message) is not entry


def unasked(_: Entry) -> BaseMessage:
    raise AssertionError("this message is kept whole")


def test_what_is_set_on_a_copy_is_not_in_the_next_one() -> None:
    """Attributes that no field is for, and fields that are taken away, too."""
    entry = entry_of(HumanMessage("a", id="a"))
    [one] = copies([entry], unasked)
    one.mood, one.content = "good", "b"  # type: ignore[attr-defined]
    one.__pydantic_fields_set__.clear()
    [other] = copies([entry], unasked)

    assert other == HumanMessage("a", id="a") and other.model_extra == {}
    assert other.model_fields_set == set(HumanMessage.model_fields)


def test_messages_that_moved_are_still_known() -> None:
    """Also where some were taken away before them, as a summary does."""
    said = [HumanMessage(f"text {number}", id=f"id-{number}") for number in range(20)]
    entries, thread = [entry_of(message) for message in said], KnownThread()
    thread.learn(entries, 1, None, proven=True)
    view = View(entries, [(1, 21)])
    found, same = view.entries_of([said[0], *said[7:], HumanMessage("new", id="new")], thread.recognise)

    assert found[:-1] == [entries[0], *entries[7:]] and found[-1].seq is None and same == 0
