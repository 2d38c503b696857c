"""Conditions on memories as SQL: filters over a JSON column, and paths of namespaces.

Every name and value of the caller is bound, never written into the statement. A condition comes
as a template for `str.format` with its arguments: `{0}` is the first, however often it occurs.

A filter is a mapping from field to a value or to operators, all of which must hold:

    {"topic": "pricing", "year": {"$gte": 2020, "$lt": 2030}, "author": {"name": "Ada"}}

A value matches when it is equal, and numbers are compared as numbers (1 equals 1.0; a boolean is
not a number). A field that is missing counts as null. A mapping without operators asks for these
fields and allows others; a list must match element by element. The operators:

    $eq $ne             equal, different (a missing field differs from everything but null)
    $gt $gte $lt $lte   numbers with numbers, text with text (by code point, so ISO dates sort right)
    $in $nin            equal to one of a list, to none of it
    $exists             the field is there, null or not
    $contains           an element of a list, an entry of an object, a piece of a text
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from memory_plugin.capabilities.memory_writes import LIVE
from memory_plugin.errors import InvalidInputError
from memory_plugin.jsonable import dumps_exact
from memory_plugin.validation import clean_text

MAX_DEPTH = 32
"""Levels a filter may be nested."""

MAX_VALUES = 1_000
"""Fields and values a filter may name: a statement has room for 32,767 in all."""

_COMPARISONS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_TAGGED_FROM: Final = 1e16


class Condition(NamedTuple):
    """An SQL condition with `{0}`, `{1}` ... for its arguments."""

    template: str
    arguments: list[Any]

    def numbered(self, first_parameter: int) -> str:
        """The condition with `$n` for its arguments, counted from `first_parameter`."""
        return self.template.format(*(f"${first_parameter + place}" for place in range(len(self.arguments))))


def compile_filter(
    filter: Mapping[str, Any] | None,
    column: str,
    first_parameter: int = 1,
) -> tuple[str, list[Any]]:
    """The filter as SQL over the jsonb `column`, its parameters numbered from `first_parameter`.

    Raises:
        InvalidInputError: not a filter: an unknown operator, or an operand it cannot work with.
    """
    condition = filter_condition(filter, column)
    return condition.numbered(first_parameter), condition.arguments


def filter_condition(filter: Mapping[str, Any] | None, column: str) -> Condition:
    """The filter as a condition on the jsonb `column`.

    Raises:
        InvalidInputError: not a filter: an unknown operator, or an operand it cannot work with.
    """
    if filter is None:
        return Condition("true", [])
    if not isinstance(filter, Mapping):
        raise InvalidInputError(f"A filter must be a mapping from field to value, not {type(filter).__name__}.")
    for name in filter:
        if isinstance(name, str) and name.startswith("$"):
            raise InvalidInputError(f'{name} must stand inside a field of the filter: {{"field": {{"{name}": ...}}}}.')
    compiler = _FilterCompiler()
    return Condition(compiler.fields(column, filter, MAX_DEPTH), compiler.arguments)


class _FilterCompiler:
    """Writes conditions on places in a JSON value; a place is an expression, NULL when nothing is there."""

    def __init__(self) -> None:
        self.arguments: list[Any] = []

    def bind(self, value: Any) -> str:
        """What stands for the value in the template."""
        if len(self.arguments) >= MAX_VALUES:
            raise InvalidInputError(f"A filter may name {MAX_VALUES:,} fields and values at the most: ask for fewer.")
        self.arguments.append(value)
        return f"{{{len(self.arguments) - 1}}}"

    def fields(self, place: str, wanted: Mapping[Any, Any], depth: int) -> str:
        """All fields of an object match."""
        if depth == 0:
            raise InvalidInputError(f"A filter may be nested {MAX_DEPTH} levels deep at the most.")
        conditions = []
        for name, value in wanted.items():
            if not isinstance(name, str):
                raise InvalidInputError(f"The fields of a filter must be text, not {type(name).__name__}: {name!r}.")
            key = self.bind(clean_text(name, "A field of the filter"))
            conditions.append(self.value(f"({place} -> {key}::text)", value, depth - 1))
        return _all_of(conditions)

    def value(self, place: str, wanted: Any, depth: int) -> str:
        """The value at the place matches: equal, or by operators, or field by field."""
        if isinstance(wanted, Mapping):
            if any(isinstance(name, str) and name.startswith("$") for name in wanted):
                return _all_of([self.operator(place, name, operand) for name, operand in wanted.items()])
            return _all_of([f"{_kind(place)} = 'object'", self.fields(place, wanted, depth)])
        if isinstance(wanted, list | tuple) and _has_mapping(wanted):
            return self.elements(place, wanted, depth)
        return self.equal(place, wanted)

    def elements(self, place: str, wanted: Sequence[Any], depth: int) -> str:
        """A list of the same length whose elements match one by one."""
        if depth == 0:
            raise InvalidInputError(f"A filter may be nested {MAX_DEPTH} levels deep at the most.")
        # CASE, because the length of what is no list is an error, and AND promises no order
        same_length = f"jsonb_array_length({place}) = {len(wanted):d}"
        length = f"CASE {_kind(place)} WHEN 'array' THEN {same_length} ELSE false END"
        matches = [self.value(f"({place} -> {index:d})", value, depth - 1) for index, value in enumerate(wanted)]
        return _all_of([length, *matches])

    def operator(self, place: str, name: Any, operand: Any) -> str:
        """One `$operator` holds."""
        if name in _COMPARISONS:
            return self.compares(place, name, operand)
        write = _OPERATORS.get(name)
        if write is None:
            known = " ".join((*_COMPARISONS, *_OPERATORS))
            raise InvalidInputError(f"The filter operator {name!r} is unknown: use one of {known}.")
        return write(self, place, operand)

    def equal(self, place: str, operand: Any) -> str:
        """Equal as JSON."""
        if _is_number(operand) and _needs_number(operand):
            if math.isnan(operand):
                return _never(place)
            return f"coalesce({_number(place)} = {self.bind(_number_text(operand))}::text::numeric, false)"
        return f"coalesce({place}, 'null') = {self.bind(_json(operand))}::jsonb"

    def differs(self, place: str, operand: Any) -> str:
        """Not equal; what is missing equals null only."""
        return f"NOT ({self.equal(place, operand)})"

    def compares(self, place: str, name: str, operand: Any) -> str:
        """A number beside a number, or a text beside a text, in the order the operator asks for."""
        sign = _COMPARISONS[name]
        if isinstance(operand, str):
            bound = self.bind(clean_text(operand, f"What {name} compares with"))
            ordered = f'{_text(place)} COLLATE "C" {sign} {bound}::text'
            return f"CASE {_kind(place)} WHEN 'string' THEN {ordered} ELSE false END"
        if not _is_number(operand) or math.isnan(operand):
            raise InvalidInputError(
                f"The filter operator {name} compares with a number or a text, not with {operand!r}."
            )
        return f"coalesce({_number(place)} {sign} {self.bind(_number_text(operand))}::text::numeric, false)"

    def one_of(self, place: str, operand: Any) -> str:
        """Equal to one of the list."""
        if not isinstance(operand, list | tuple | set | frozenset):
            raise InvalidInputError(f"The filter operators $in and $nin need a list, not {type(operand).__name__}.")
        tagged = [value for value in operand if _is_number(value) and _needs_number(value)]
        plain = [_json(value) for value in operand if not (_is_number(value) and _needs_number(value))]
        matches = [f"coalesce({place}, 'null') = ANY ({self.bind(plain)}::text[]::jsonb[])"] if plain else []
        matches += [self.equal(place, value) for value in tagged]
        return "(" + " OR ".join(matches) + ")" if matches else _never(place)

    def none_of(self, place: str, operand: Any) -> str:
        """Equal to nothing in the list."""
        return f"NOT {self.one_of(place, operand)}"

    def exists(self, place: str, operand: Any) -> str:
        """Something is there, were it null."""
        if not isinstance(operand, bool):
            raise InvalidInputError(f"The filter operator $exists needs True or False, not {operand!r}.")
        return f"{place} IS NOT NULL" if operand else f"{place} IS NULL"

    def contains(self, place: str, operand: Any) -> str:
        """A list with this element (or all of these), an object with these entries, a text with this text."""
        many = operand if isinstance(operand, list | tuple) else [operand]
        arms = [f"WHEN 'array' THEN {place} @> {self.bind(_json(many))}::jsonb"]
        if isinstance(operand, Mapping):
            arms.append(f"WHEN 'object' THEN {place} @> {self.bind(_json(operand))}::jsonb")
        if isinstance(operand, str):
            bound = self.bind(clean_text(operand, "What $contains looks for"))
            arms.append(f"WHEN 'string' THEN position({bound}::text in {_text(place)}) > 0")
        return f"CASE {_kind(place)} {' '.join(arms)} ELSE false END"


_OPERATORS: Final[Mapping[Any, Callable[[_FilterCompiler, str, Any], str]]] = {
    "$eq": _FilterCompiler.equal,
    "$ne": _FilterCompiler.differs,
    "$in": _FilterCompiler.one_of,
    "$nin": _FilterCompiler.none_of,
    "$exists": _FilterCompiler.exists,
    "$contains": _FilterCompiler.contains,
}


def _all_of(conditions: Sequence[str]) -> str:
    return "(" + " AND ".join(conditions) + ")" if conditions else "true"


def _never(place: str) -> str:
    """False, with the arguments of the place in it: the database must know the type of each."""
    return f"({place} IS NULL AND false)"


def _kind(place: str) -> str:
    return f"coalesce(jsonb_typeof({place}), 'null')"


def _text(place: str) -> str:
    return f"({place} #>> ARRAY[]::text[])"


def _number(place: str) -> str:
    """The number at the place, also one stored as a tag, `{"v": "1e+20", "$t": "float"}`; else NULL."""
    return (
        f"CASE WHEN jsonb_typeof({place}) = 'number' THEN ({place})::numeric "
        f"WHEN {place} ->> '$t' IN ('int', 'float') "
        f"AND {place} ->> 'v' ~ '^-?([0-9]+([.][0-9]+)?(e[+][0-9]+)?|inf)$' "
        f"THEN ({place} ->> 'v')::numeric END"
    )


def _has_mapping(values: Sequence[Any]) -> bool:
    return any(
        isinstance(value, Mapping) or (isinstance(value, list | tuple) and _has_mapping(value)) for value in values
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _needs_number(value: float) -> bool:
    """Whether equal numbers may be stored in two forms: -0.0 and large floats are tags, unlike 0."""
    return value == 0 or not -_TAGGED_FROM < value < _TAGGED_FROM


def _number_text(value: float) -> str:
    return repr(float(value)) if isinstance(value, float) else str(int(value))


def _json(value: Any) -> str:
    text = dumps_exact(dict(value) if isinstance(value, Mapping) else value, order=False, tuples=True)
    if text is None:
        raise InvalidInputError(f"A filter cannot compare with {value!r:.100}: use text, numbers, lists and mappings.")
    return text


# ---------------------------------------------------------------- namespaces

WILDCARD = "*"


class NamespacePattern(NamedTuple):
    """Labels a namespace must begin or end with; `*` stands for exactly one label, whatever it is."""

    end: Literal["prefix", "suffix"]
    path: tuple[str, ...]


def prefix_condition(prefix: Sequence[str], column: str = "m.namespace") -> Condition:
    """Namespaces that are the prefix or lie below it: one range of the index on the column.

    In the "C" collation nothing lies between a label and the label with chr(1) behind it, for text
    holds no NUL.
    """
    if not prefix:
        return Condition("true", [])
    low = list(prefix)
    high = [*low[:-1], low[-1] + "\x01"]
    return Condition(f"{column} >= {{0}}::text[] AND {column} < {{1}}::text[]", [low, high])


def pattern_condition(pattern: NamespacePattern, column: str = "m.namespace") -> Condition:
    """Namespaces that match: by range as far as the labels from the front are known, then label by label."""
    path = pattern.path
    conditions, arguments = [f"cardinality({column}) >= {len(path):d}"], list[Any]()
    if pattern.end == "prefix":
        known = next((place for place, label in enumerate(path) if label == WILDCARD), len(path))
        of_range = prefix_condition(path[:known], column)
        conditions.append(of_range.template)
        arguments += of_range.arguments
    else:
        known = 0
    for place, label in enumerate(path[known:], start=known):
        if label == WILDCARD:
            continue
        at = f"{place + 1:d}" if pattern.end == "prefix" else f"cardinality({column}) - {len(path) - 1 - place:d}"
        conditions.append(f"{column}[{at}] = {{{len(arguments)}}}::text")
        arguments.append(label)
    return Condition(" AND ".join(conditions), arguments)


# ---------------------------------------------------------------- passages of the index


def live_items(prefix: Sequence[str], filter: Mapping[str, Any] | None, *, column: str = "value") -> Condition:
    """A condition on a passage `p` of the search index: its memory is live, below the prefix, and matches.

    Args:
        column: what the filter is about: "value" or "metadata".

    Raises:
        InvalidInputError: a filter that makes no sense.
    """
    below = prefix_condition(prefix)
    matching = filter_condition(filter, f"m.{column}")
    arguments: list[Any] = []
    conditions = " AND ".join(_placed(part, arguments) for part in (below, matching))
    # the schema is filled in after the arguments, hence the doubled braces
    template = (
        "EXISTS (SELECT FROM {{seen}}memories m WHERE m.tenant_id = p.tenant_id AND m.id = p.id "
        f"AND {LIVE} AND {conditions})"
    )
    return Condition(template, arguments)


def _placed(condition: Condition, arguments: list[Any]) -> str:
    """The condition with its arguments moved behind those that are there already."""
    start = len(arguments)
    arguments.extend(condition.arguments)
    return condition.template.format(*(f"{{{start + place}}}" for place in range(len(condition.arguments))))
