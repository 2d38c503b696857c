"""Many facts at once: checked one by one, stored by a statement for hundreds of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, get_type_hints
from uuid import UUID

from memory_plugin.capabilities.memory_facts import Fact, NewFact, fact_of
from memory_plugin.capabilities.memory_items import array_literal
from memory_plugin.errors import InvalidInputError
from memory_plugin.types import SecretsPolicy, uuid7

BATCH: Final = 500
"""Facts that one statement stores at the most."""

_DEFAULTS: Final[dict[str, Any]] = {
    **dict.fromkeys(get_type_hints(NewFact)),
    "importance": 0.5,
    "trust": "user",
}
del _DEFAULTS["content"]


class Placed(NamedTuple):
    """A fact, and which of those that were given it is."""

    place: int
    fact: Fact


def checked(
    given: str | NewFact, *, user_id: str | None, own_user: str | None, secrets: SecretsPolicy
) -> Fact | InvalidInputError:
    """The fact, ready to be stored, or why it cannot be.

    Args:
        user_id: whose it is, where it does not say so itself.
    """
    try:
        parts = {**_DEFAULTS, "user_id": user_id, **_parts(given)}
        return fact_of(**parts, secrets=secrets, own_user=own_user)
    except InvalidInputError as error:
        return error


def _parts(given: str | NewFact) -> Mapping[str, Any]:
    if isinstance(given, str):
        return {"content": given}
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"A fact must be text or a mapping, not {type(given).__name__}.")
    if unknown := sorted(map(repr, given.keys() - _DEFAULTS.keys() - {"content"})):
        raise InvalidInputError(f"A fact has no {', '.join(unknown)}: it has what `remember` takes about one.")
    if "content" not in given:
        raise InvalidInputError("A fact has no content: give it as text.")
    return given


def rounds(facts: Iterable[Placed]) -> Iterator[list[Placed]]:
    """The facts in statements of at most BATCH, in which none is about what another one is about.

    What has the same key as an earlier one, or the same text in the same namespace, comes in a later
    statement, which sees what the earlier one did: the answers are those of storing one by one. Facts
    with a name and those without never overtake each other in a namespace: a name may get another text,
    which a fact without one then repeats no longer.
    """
    batch: list[Placed] = []
    for each in facts:
        batch.append(each)
        if len(batch) == BATCH:
            yield from _apart(batch)
            batch = []
    yield from _apart(batch)


def _apart(batch: Sequence[Placed]) -> list[list[Placed]]:
    found: list[list[Placed]] = []
    level_of: dict[Hashable, int] = {}
    least: dict[Hashable, int] = {}
    for each in batch:
        fact = each.fact
        about: list[Hashable] = [(fact.namespace, fact.digest), *((fact.namespace, key) for key in fact.keys)]
        level = max(least.get((fact.namespace, not fact.is_named), 0), *(level_of.get(name, 0) for name in about))
        least[fact.namespace, fact.is_named] = max(level, least.get((fact.namespace, fact.is_named), 0))
        if level == len(found):
            found.append([])
        found[level].append(each)
        level_of |= dict.fromkeys(about, level + 1)
    return found


def columns(batch: Sequence[Placed]) -> list[list[Any]]:
    """The arguments of the statement after the tenant; the first are the ids of the new rows."""
    rows = [_row(each.fact) for each in batch]
    return [list(column) for column in zip(*rows, strict=True)]


def _row(fact: Fact) -> tuple[Any, ...]:
    ids: tuple[UUID, UUID] = (uuid7(), uuid7())
    return (
        *ids,
        array_literal(fact.namespace),
        fact.is_named,
        array_literal(fact.keys),
        *fact.columns,
    )
