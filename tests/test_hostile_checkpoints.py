"""A database that somebody else can write to: reading a checkpoint runs no code that its rows name."""

from __future__ import annotations

import dataclasses
import enum
import sys
from pathlib import Path
from typing import Any, NamedTuple

import ormsgpack
import pydantic
import pytest
from langchain_core.prompts import PromptTemplate
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, MessagesState, StateGraph

from memory_plugin import Memory
from memory_plugin.langgraph import data_serializer
from memory_plugin.langgraph.data_types import is_data_class
from memory_plugin.settings import Settings
from tests.graph_tools import Drive


def ext(code: int, *parts: Any) -> bytes:
    """What LangGraph's serializer would write for an object that it calls something for on reading."""
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(parts)))


def attacks(mark: Path) -> dict[str, bytes]:
    touch = f"touch {mark}"
    return {
        "a function with one argument": ext(0, "os", "system", touch),
        "a class that starts a program": ext(1, "subprocess", "Popen", ["/bin/sh", "-c", touch]),
        "a function with named arguments": ext(2, "subprocess", "run", {"args": touch, "shell": True}),
        "a method": ext(3, "os", "system", touch, "__call__"),
        "eval": ext(0, "builtins", "eval", f"open({str(mark)!r}, 'w')"),
        "as if it were a model": ext(5, "os", "system", touch, "x"),
        "as if it were an old model": ext(4, "os", "system", touch),
        "inside of what is allowed": ormsgpack.packb(
            ormsgpack.Ext(0, ormsgpack.packb(["builtins", "set", [ormsgpack.Ext(0, ormsgpack.packb(["os", "system", touch]))]]))
        ),
        "what acts when it is used": ext(2, "langchain_core.prompts.prompt", "PromptTemplate", {"template": "{x}"}),
    }  # fmt: skip


class Model(pydantic.BaseModel):
    y: str


@dataclasses.dataclass
class Place:
    x: int


class Pair(NamedTuple):
    a: int
    b: Place


class Colour(enum.Enum):
    RED = "red"


def test_nothing_that_a_stored_value_names_is_run(tmp_path: Path) -> None:
    serde, mark = data_serializer(), tmp_path / "mark"
    for what, blob in attacks(mark).items():
        serde.loads_typed(("msgpack", blob))
        assert not mark.exists(), what


def test_langgraphs_own_default_would_run_it(tmp_path: Path) -> None:
    """Or the test above would show nothing."""
    mark = tmp_path / "mark"
    JsonPlusSerializer(allowed_msgpack_modules=True).loads_typed(
        ("msgpack", attacks(mark)["a function with one argument"])
    )
    assert mark.exists()


def test_no_module_is_imported() -> None:
    assert "antigravity" not in sys.modules
    data_serializer().loads_typed(("msgpack", ext(2, "antigravity", "Model", {"x": 1})))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "value", [Model(y="m"), Place(1), Pair(1, Place(2)), Colour.RED, [Place(3), {"m": Model(y="n")}]], ids=repr
)
def test_data_of_the_applications_own_classes_comes_back(value: object) -> None:
    serde = data_serializer()
    assert serde.loads_typed(serde.dumps_typed(value)) == value


def test_what_acts_is_no_data() -> None:
    from pydantic_settings import BaseSettings

    class Own(PromptTemplate):
        pass

    class Environment(BaseSettings):
        pass

    assert [is_data_class(each) for each in (PromptTemplate, Own, Environment, Path, type)] == [False] * 5


async def test_a_hostile_row_is_read_as_data_by_default_and_other_values_stay(
    database_url: str, tmp_path: Path
) -> None:
    class State(MessagesState):
        place: Place
        pair: list[Pair]

    def node(state: State) -> dict[str, Any]:
        return {"messages": [("ai", "hi")], "place": Place(7), "pair": [Pair(1, Place(2))]}

    config: Any = {"configurable": {"thread_id": "t"}}
    mark = tmp_path / "mark"
    async with Memory.open(database_url, embeddings=False) as memory:
        graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile(memory.checkpointer)
        await Drive(memory.checkpointer).invoke(graph, {"messages": []}, config)
        values = (await graph.aget_state(config)).values
        assert (values["place"], values["pair"]) == (Place(7), [Pair(1, Place(2))])
        await memory.database.execute(
            "UPDATE memory.checkpoint_blobs SET value = NULL, type = 'msgpack', blob = $1 WHERE channel = 'place'",
            attacks(mark)["a function with one argument"],
        )
    async with Memory.open(database_url, embeddings=False) as memory:
        found = await memory.checkpointer.aget_tuple(config)
        assert found is not None
        assert found.checkpoint["channel_values"]["place"] == f"touch {mark}"
        assert not mark.exists()
    async with Memory.open(database_url, embeddings=False, settings=Settings(checkpoint_types="any")) as memory:
        await memory.checkpointer.aget_tuple(config)  # the switch gives LangGraph's own behaviour
    assert mark.exists()


def test_inside_an_encrypting_serializer_it_holds_too(tmp_path: Path) -> None:
    """A row without a cipher is passed to the serializer inside as it is."""
    from tests.test_codec import Xor

    mark = tmp_path / "mark"
    serde = EncryptedSerializer(Xor(), data_serializer())
    assert serde.loads_typed(serde.dumps_typed(Place(1))) == Place(1)
    serde.loads_typed(("msgpack", attacks(mark)["a function with one argument"]))
    assert not mark.exists()
