"""JSON text that a `jsonb` column gives back unchanged: against PostgreSQL and against a model of it."""

from __future__ import annotations

import asyncio
import collections
import datetime
import enum
import json
import math
import struct
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_plugin.errors import InvalidInputError
from memory_plugin.jsonable import dumps_exact, jsonb_text, loads_exact, readable

# --- a model of jsonb -----------------------------------------------------------------------------


def jsonb_model(text: str) -> str:
    """What `SELECT $1::jsonb::text` answers; ValueError where PostgreSQL refuses."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    def write(value: Any) -> str:
        if isinstance(value, dict):
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return "{" + ", ".join(f"{write(key)}: {write(value[key])}" for key in keys) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(write, value)) + "]"
        if isinstance(value, Decimal):  # numeric: no exponent, no sign of zero
            return format(abs(value) if value == 0 else value, "f")
        if isinstance(value, str):
            value.encode()  # a lone surrogate is refused
            if "\x00" in value:
                raise ValueError("NUL")
        return json.dumps(value, ensure_ascii=False)

    return write(json.loads(text, parse_float=Decimal, parse_constant=refuse))


Jsonb = Callable[[str], str]


@pytest.fixture(scope="module")
def jsonb(server_url: str) -> Iterator[Jsonb]:
    """The real thing: a text's trip through a `jsonb` value of PostgreSQL (no table is touched)."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(server_url))
        yield lambda text: str(runner.run(connection.fetchval("SELECT $1::jsonb", text)))
        runner.run(connection.close())


# --- values ---------------------------------------------------------------------------------------

hostile_text = st.text(
    st.one_of(st.characters(), st.sampled_from("\x00\\\ud83d\ude00\udfff\u0301𝄞"))
) | st.sampled_from(["$t", "$o", "$s", "v", "\\u0000", "\x00", "\ud83d\ude00", '"$t"', "1e16", "nan"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(
        [-0.0, 1e16, -1e16, 9999999999999998.0, 5e-324, 1.7976931348623157e308, 2.0**49, 1e22, 2**63, 2**64]
    ),
    hostile_text,
)
keys = st.text(max_size=4) | hostile_text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=25,
)


def same(one: Any, other: Any) -> bool:
    """Equal, of the same types all the way down, bit by bit for floats, in the same order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def unordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: unordered(value[key]) for key in sorted(value)}
    return [unordered(item) for item in value] if isinstance(value, list) else value


class Colour(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    pass


Point = collections.namedtuple("Point", "x y")

NESTED = {
    "name": "Ada",
    "age": 36,
    "address": {"street": "12 Analytical Row", "city": "London", "geo": {"lon": -0.1278, "lat": 51.5}},
    "orders": [{"id": 1, "sku": "A"}, {"sku": "B", "id": 2}],
}

# --- exact ----------------------------------------------------------------------------------------


@given(value=values)
@settings(max_examples=300)
def test_every_json_value_comes_back_the_same_through_the_model(value: Any) -> None:
    text = dumps_exact(value, order=True)
    assert text is not None
    assert same(loads_exact(jsonb_model(text)), value)


@given(value=values)
def test_the_order_of_keys_is_dropped_unless_asked_for(value: Any) -> None:
    text = dumps_exact(value)
    assert text is not None
    assert same(unordered(loads_exact(jsonb_model(text))), unordered(value))
    assert '"$o":[' not in text or "$o" in repr(value)


def test_every_json_value_comes_back_the_same_through_postgresql(jsonb: Jsonb) -> None:
    @given(value=values)
    @settings(max_examples=150)
    def check(value: Any) -> None:
        text = dumps_exact(value, order=True)
        assert text is not None
        stored = jsonb(text)
        assert same(loads_exact(stored), value)
        assert stored == jsonb_model(text), "the model of jsonb is wrong"

    check()


@pytest.mark.parametrize(
    "value",
    [
        -0.0,
        1e16,
        math.inf,
        -math.inf,
        math.nan,
        2**64,
        -(2**63) - 1,
        10**5000,
        "a\x00b",
        "\ud800",
        "\ud83d\ude00",
        "\\u0000",
    ],
    ids=lambda value: ascii(value)[:12] if type(value) is not int else value.bit_length(),
)
def test_scalars_that_jsonb_changes_or_refuses_come_back(jsonb: Jsonb, value: Any) -> None:
    for whole in (value, [value], {"k": {"deep": value}}):
        assert same(loads_exact(jsonb(dumps_exact(whole) or "")), whole)


@pytest.mark.parametrize(
    "value", [9999999999999998.0, 0.1, 1.0, 5e-324, 2.0**49, 2**63, 0, True, None, "$9", ["a"], {}]
)
def test_values_that_jsonb_keeps_are_stored_plain(value: Any) -> None:
    assert json.loads(dumps_exact(value) or "") == value


@pytest.mark.parametrize("reserved", ["$t", "$o", "$s"])
def test_an_object_that_looks_like_our_own_notes_comes_back(jsonb: Jsonb, reserved: str) -> None:
    value = {"b": {reserved: ["1,0", {}], "a": [{reserved: "float", "v": "nan"}]}, reserved: "x"}
    assert same(loads_exact(jsonb(dumps_exact(value, order=True) or "")), value)


def test_paths_and_containment_work_on_what_is_stored(jsonb: Jsonb) -> None:
    text = dumps_exact({"topic": "pricing", "bad": math.nan, "tone": "dry"}, order=True)
    assert json.loads(jsonb(text or ""))["topic"] == "pricing"
    assert dumps_exact({"topic": "pricing"}) == '{"topic":"pricing"}'


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1, 2},
        b"x",
        Colour.RED,
        Level.HIGH,
        Name("x"),
        {1: "a"},
        {None: 1},
        {Name("k"): 1},
        {Colour.RED: 1},
        Point(1, 2),
        datetime.datetime(2026, 1, 1),
        uuid.UUID(int=1),
        Decimal(1),
        object(),
        collections.OrderedDict(a=1),
        orjson.Fragment(b"{}"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    assert dumps_exact(value) is None
    assert dumps_exact([{"k": value}, math.nan]) is None


def test_tuples_are_lists_when_asked() -> None:
    value = {"pair": (1, (2, {"b": 1, "a": ()})), "bad": (math.inf,)}
    text = dumps_exact(value, order=True, tuples=True)
    assert same(loads_exact(jsonb_model(text or "")), {"pair": [1, [2, {"b": 1, "a": []}]], "bad": [math.inf]})
    assert dumps_exact(Point(1, 2), tuples=True) is None


def test_cycles_and_bottomless_nesting_are_refused() -> None:
    twice: list[Any] = []
    twice += [twice, twice]
    deep: Any = math.nan
    for _ in range(100_000):
        deep = [deep]
    assert dumps_exact(twice) is None
    assert dumps_exact({"a": twice}) is None
    assert dumps_exact(deep) is None


def test_nesting_of_two_hundred_levels_is_kept(jsonb: Jsonb) -> None:
    deep: Any = "bottom"
    for level in range(200):
        deep = {"b": deep, "a": 1} if level % 2 else [deep]
    assert same(loads_exact(jsonb(dumps_exact(deep, order=True) or "")), deep)


def test_text_too_large_for_jsonb_is_refused() -> None:
    assert dumps_exact("x" * (33 * 1024 * 1024)) is None


def test_order_is_kept_only_below_the_keys_named() -> None:
    value = {"b": {"z": 1, "y": 2}, "a": {"z": 1, "y": 2}}
    back = loads_exact(jsonb_model(dumps_exact(value, order={"b"}) or ""))
    assert [list(back), list(back["b"]), list(back["a"])] == [["a", "b"], ["z", "y"], ["y", "z"]]


def test_order_is_kept_in_lists_of_many_objects_and_in_large_objects() -> None:
    records = [{"sku": str(number), "id": number, "ä": {"b": 1, "a": 2}} for number in range(3000)]
    large = {f"key {number * 7919 % 10007}": number for number in range(5000)}
    for value in (records, [[records[:2]], 1, large], large):
        assert same(loads_exact(jsonb_model(dumps_exact(value, order=True) or "")), value)


def test_a_row_edited_by_sql_loses_its_order_at_worst() -> None:
    stored = json.loads(jsonb_model(dumps_exact(NESTED, order=True) or ""))
    stored["address"]["country"] = "UK"
    stored["new"] = [1]
    del stored["orders"]
    expected = {**NESTED, "address": {**NESTED["address"], "country": "UK"}, "new": [1]}  # type: ignore[dict-item]
    del expected["orders"]
    assert loads_exact(json.dumps(stored)) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"$t": "odd", "v": 1}',
        '{"$t": "float", "v": "x"}',
        '{"$t": "int", "v": []}',
        '{"$t": "dict", "v": [1]}',
        '{"$t": 1, "v": 2, "more": 3}',
        '{"$o": 1}',
        '{"$o": [1, {}]}',
        '{"a": {"$o": ["", {}]}}',
    ],
)
def test_json_of_others_that_resembles_our_notes_reads_as_it_stands(text: str) -> None:
    assert loads_exact(text) == json.loads(text)


def test_bad_permutations_are_ignored() -> None:
    assert loads_exact('{"a": 1, "b": {"c": 1, "d": 2}, "$o": ["7,x", {"b": "0,0", "none": "1,0"}]}') == {
        "a": 1,
        "b": {"c": 1, "d": 2},
    }


def test_text_that_is_no_json_is_said_to_be_none() -> None:
    with pytest.raises(InvalidInputError, match="not valid JSON"):
        loads_exact("{")


# --- always an answer -----------------------------------------------------------------------------


class Hidden:
    def get_secret_value(self) -> str:
        return "sk-1"


class Broken:
    __class__ = property(lambda self: 1 / 0)

    def __repr__(self) -> str:
        raise RuntimeError

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


odd = st.one_of(
    values,
    st.binary(),
    st.datetimes(),
    st.uuids(),
    st.decimals(),
    st.sampled_from(
        [
            Colour.RED,
            Level.HIGH,
            Hidden(),
            object(),
            Broken,
            Point(1, 2),
            ValueError("no"),
            Name("n"),
        ]
    ),
    st.frozensets(st.integers()),
    st.complex_numbers(),
    st.builds(Broken),
)
anything = st.recursive(
    odd,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.one_of(hostile_text, st.integers(), st.tuples(st.integers())), inner, max_size=3)
    ),
    max_leaves=15,
)


@given(value=anything)
def test_jsonb_text_always_answers_and_is_exact_where_it_can_be(value: Any) -> None:
    text = jsonb_text(value)
    back = loads_exact(jsonb_model(text))
    exact = dumps_exact(value)
    assert exact is None or text == exact
    assert same(unordered(loads_exact(jsonb_model(jsonb_text([value, math.nan])))[0]), unordered(back))


@given(value=anything)
def test_readable_is_plain_json_that_jsonb_takes(value: Any) -> None:
    jsonb_model(orjson.dumps(readable(value)).decode())


def test_readable_shows_what_a_person_wants_to_see() -> None:
    value = {
        "when": datetime.date(2026, 1, 2),
        "colour": Colour.RED,
        "raw": b"12345",
        "pair": (1, 2),
        "tags": {"b", "a"},
        7: Name("x"),
        "nul": "a\x00\ud83d\ude00\udc00",
        "huge": 2**80,
        "nan": math.nan,
        "error": ValueError("no"),
        "secret": Hidden(),
        "point": Point(1, 2),
        "thing": object(),
        "id": uuid.UUID(int=5),
    }
    assert readable(value) == {
        "when": "2026-01-02",
        "colour": "red",
        "raw": "<5 bytes>",
        "pair": [1, 2],
        "tags": ["a", "b"],
        "7": "x",
        "nul": "a�😀�",
        "huge": hex(2**80),
        "nan": "nan",
        "error": "ValueError: no",
        "secret": "**********",
        "point": {"x": 1, "y": 2},
        "thing": "<object>",
        "id": "00000000-0000-0000-0000-000000000005",
    }


def test_readable_is_bounded_in_length_depth_and_by_cycles() -> None:
    loop: list[Any] = ["x"]
    loop += [loop, {"again": loop}]
    deep: Any = 1
    for _ in range(100_000):
        deep = (deep,)
    assert readable(loop) == ["x", "…", {"again": "…"}]
    assert len(orjson.dumps(readable([loop, deep, "x" * 10**6, list(range(10**6))], max_chars=1000))) < 10_000
    assert readable("x" * 100, max_chars=11) == "x" * 10 + "…"
    assert readable(list(range(10)), max_chars=4)[-1] == "… 7 more"


def test_a_conversion_keeps_the_exact_parts_around_it() -> None:
    back = loads_exact(jsonb_text({"nan": math.nan, "huge": 2**80, "when": datetime.date(2026, 1, 2), "t": (1,)}))
    assert same(back, {"nan": back["nan"], "huge": 2**80, "when": "2026-01-02", "t": [1]})
    assert math.isnan(back["nan"])


def test_jsonb_text_of_a_value_that_contains_itself_ends() -> None:
    loop: dict[str, Any] = {"name": "loop", "$t": 1}
    loop["one"], loop["two"] = loop, [loop, object()]
    assert loads_exact(jsonb_text(loop)) == {"name": "loop", "$t": 1, "one": "…", "two": ["…", "<object>"]}
