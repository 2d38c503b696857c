"""The one statement of a search: every list of every kind nominates, and what they nominate is measured."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from memory_plugin.capabilities.nearest import Nearest
from memory_plugin.capabilities.vectors import Space
from memory_plugin.db.database import Database

MEMORY: Literal[1] = 1
MESSAGE: Literal[2] = 2
REFERENCE: Literal[3] = 3

CANDIDATES = 50
"""How many passages each list (words, meaning) of each kind hands to the ranking."""

LEAST_WORD_BUDGET, WORD_BUDGET = 2_000, 5_000
"""Passages that the rarest terms of a query may match in all: each of those is a candidate. So many are a
sixty-fourth of all, within these bounds."""

GROUP_BUDGET, GROUPS, LARGEST_GROUP = 1_000, 6, 6
"""Passages that groups of the other terms may match, by how often each is; how many groups, and of how many terms at
most: what has two of the commoner terms is a candidate too, and where all are common, what has two, or as many more as
it takes. Measured among a hundred thousand facts: 99.7% of the exact top ten, reading 1,500; the rarest terms alone
need 3,400 for 98.2%. Among as many passages of documents, where a word stands in more of them: 99.7 to 99.9%."""

NEARBY: Final = 8
"""How far apart in their thread two messages may be and still be neighbours: calls of tools and empty
messages, which no search sees, may lie between them."""

NAME_RARITY: Final = 0.8
"""The most that a speaker's name counts in the words of messages. It stands in about half of what the
two of a conversation say to each other, which tells nothing, and in nothing that the other users of a
tenant say, which would make it the rarest word of the question."""

SPARSE_SIZE = 1 << 28


# whether a message ends as a question, a note in brackets after it aside; a long one is no turn of a talk, and
# octet_length tells so without reading it (a pattern instead of these functions would cost thirty times as much)
_SAID = "CASE WHEN right(g.text, 1) = ']' THEN split_part(g.text, ' [', 1) ELSE g.text END"
_ASKS: Final = (
    "(p.kind = 2 AND octet_length(g.text) <= 2000 "
    f"AND coalesce(right(rtrim({_SAID}, E' \\n\\t'), 1) IN ('?', '？', '؟'), false))"
)


# Searches are planned before tables have statistics, too. LIMIT and OFFSET keep the planner from turning these
# look-ups by key into joins, for which it would read all of a tenant again and again: it takes that for one row.
_PASSAGE: Final = "LATERAL (SELECT p.* FROM {s}.passages p WHERE p.tenant_id = $1 AND p.id = n.id LIMIT 1)"


class Candidate(NamedTuple):
    """A passage that one of the lists nominated, with both scores where they exist.

    `words` is the BM25 score (0 without a common term), `meaning` the cosine similarity, None
    while the passage has no vector in this space. Of a message, `asks` says that it ends as a
    question, `dated` that it has one of the words of time that the search was given, `is_context`
    that no list nominated it and no vector says how near it is: it stands beside one that was.
    `flagged` says that it reads like an instruction to an assistant.
    """

    id: UUID
    kind: int
    words: float
    meaning: float | None
    said_at: datetime
    user_id: str | None
    thread_id: str | None
    seq: int | None
    document_id: UUID | None
    speaker: str | None
    length: int = 0
    asks: bool = False
    dated: bool = False
    is_context: bool = False
    flagged: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """Which passages a search may see; None leaves a side open."""

    user_id: str | None = None
    thread_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    as_of: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it leaves every side open."""
        return self == _OPEN


_OPEN = Scope()

Term = Mapping[str, Any]
"""A lexeme of a query: `lexeme`, its `term` (see `term_id`), `kind`; of that kind's `passages`, how many are
`containing` it; and the `weight` that BM25 gives it for that."""


class SearchBuilder:
    """Writes the one statement of a search; every value is bound."""

    def __init__(
        self,
        database: Database,
        tenant: str,
        scope: Scope,
        limit: int,
        vector: Sequence[float] | None = None,
        space: Space | None = None,
        depth: int | None = None,
        sizes: Mapping[int, int] | None = None,
    ) -> None:
        self._database = database
        self._scope = scope
        self._sizes = sizes if sizes is not None and scope.is_open else {}
        self._bound: dict[str, str] = {}
        self._arguments: list[Any] = [tenant, limit]
        self._weights: dict[int, str] = {}
        self._messages: str | None = None
        self._salt = (term_id(tenant) << 4) & 0xFFFFFFFF
        self._nearest = None if vector is None or space is None else self._nearest_of(vector, space, tenant, depth)
        self.arms: list[str] = []

    def _nearest_of(self, vector: Sequence[float], space: Space, tenant: str, depth: int | None) -> Nearest:
        from memory_plugin.embedding import vector_text

        wanted = self._arguments[1] if depth is None else depth
        return Nearest(space, tenant, query=self._bind(vector_text(vector)), depth=wanted, complete=depth is not None)

    def _bind(self, value: Any) -> str:
        self._arguments.append(value)
        return f"${len(self._arguments)}"

    def _side(self, name: str, type_: str) -> str:
        """A side of the scope as a parameter, bound once; "NULL" where it is open."""
        value = getattr(self._scope, name)
        if value is None:
            return f"NULL::{type_}"
        if name not in self._bound:
            self._bound[name] = self._bind(value)
        return f"{self._bound[name]}::{type_}"

    def add(
        self,
        kind: int,
        terms: Sequence[Term],
        condition: tuple[str, list[Any]] | None,
    ) -> None:
        """The arms of one kind: by words where it has terms, by meaning where there is a vector."""
        wanted = None
        if condition is not None:
            text, values = condition
            wanted = "(" + text.format(*(self._bind(value) for value in values)) + ")"
        filters = self._filters(kind, wanted)
        if kind == MESSAGE:
            self._messages = filters
        if terms:
            self.arms.append(self._by_words(kind, terms, wanted))
        if self._nearest is not None:
            size = self._sizes.get(kind) if condition is None else None
            whose: tuple[Literal["own", "nobody's"], ...] = ("own",)
            if self._scope.user_id is not None and kind != MESSAGE:
                whose = ("own", "nobody's")
            seen = [self._filters(kind, wanted, counted=each) for each in whose]
            self.arms.append(self._nearest.arm(kind, filters, has_parts=kind == MEMORY, seen=seen, size=size))

    def _by_words(self, kind: int, terms: Sequence[Term], condition: str | None) -> str:
        """The best passages of a kind by BM25, by the function that may use the index of words."""
        weights = {row["term"]: row["weight"] for row in terms}
        query = ",".join(f"{term}:{weight:.6g}" for term, weight in sorted(weights.items()) if weight > 0)
        bound = self._bind(f"{{{query}}}/{SPARSE_SIZE}")
        self._weights[kind] = bound
        alone, groups, or_else = nominating(terms)
        if condition is not None:
            alone, or_else = alone or or_else, []  # how many of them will fulfil it is not known

        def keys(terms: Sequence[int]) -> str:
            return "{" + ",".join(str(self._key(term, kind)) for term in terms) + "}"

        matching, instead = self._bind(keys(alone)), self._bind(keys(or_else))
        together = self._bind("{" + ",".join(map(keys, groups)) + "}")
        of_all = kind == REFERENCE
        sides = ", ".join(
            (
                self._side("user_id", "text"),
                # what belongs to nobody in particular is everyone's; a conversation never is
                str(kind != MESSAGE).lower(),
                "NULL" if of_all else self._side("thread_id", "text"),
                self._side("since", "timestamptz"),
                self._side("until", "timestamptz"),
                "NULL" if of_all else self._side("as_of", "timestamptz"),
            )
        )
        limit = "$2" if condition is None else "NULL"
        found = (
            f"{{s}}.best_by_terms($1, {kind:d}::smallint, {matching}::text::int4[], {together}::text::int4[], "
            f"{instead}::text::int4[], {bound}::text::sparsevec, {limit}::integer, {sides})"
        )
        if condition is None:
            return f"(SELECT id FROM {found})"
        return (
            f"(SELECT p.id FROM {found} n CROSS JOIN {_PASSAGE} p WHERE {condition} "
            "ORDER BY n.score DESC, p.id LIMIT $2)"
        )

    def _key(self, term: int, kind: int) -> int:
        """What `term_keys` gives for the term, as a signed number of 32 bits."""
        key = term ^ (self._salt ^ kind)
        return key - (1 << 32) if key >= 1 << 31 else key

    def _filters(self, kind: int, condition: str | None, *, counted: Literal["own", "nobody's"] | None = None) -> str:
        """What a passage `p` must fulfil to be seen.

        Args:
            counted: only to see how many there are, about: those of the user or those of nobody, and without
                what keeps their number from being read from an index.
        """
        scope = self._scope
        parts = ["p.tenant_id = $1", f"p.kind = {kind:d}"]
        if scope.user_id is not None:
            own, nobodys = f"p.user_id = {self._side('user_id', 'text')}", "p.user_id IS NULL"
            both = own if kind == MESSAGE else f"({own} OR {nobodys})"
            parts.append({"own": own, "nobody's": nobodys, None: both}[counted])
        if scope.thread_id is not None and kind != REFERENCE:
            parts.append(f"p.thread_id = {self._side('thread_id', 'text')}")
        if scope.since is not None:
            parts.append(f"p.said_at >= {self._side('since', 'timestamptz')}")
        if scope.until is not None:
            parts.append(f"p.said_at < {self._side('until', 'timestamptz')}")
        if scope.as_of is not None and kind != REFERENCE:
            moment = self._side("as_of", "timestamptz")
            parts.append(f"p.said_at <= {moment} AND (p.live_until IS NULL OR p.live_until > {moment})")
        elif counted is None:
            parts.append("p.live_until IS NULL")
        if condition is not None:
            parts.append(condition)
        return " AND ".join(parts)

    def build(self, surroundings: int, time_words: str | None) -> tuple[str, list[Any]]:
        """The statement and its arguments; its columns are the fields of `Candidate` in their order."""
        arms = " UNION ".join(self.arms)
        cases = " ".join(
            f"WHEN {kind:d} THEN -(p.weights <#> (SELECT {bound}::text::sparsevec))"
            for kind, bound in self._weights.items()
        )
        by_words = f"(CASE p.kind {cases} ELSE 0 END)::float8" if cases else "0::float8"
        by_meaning, join, before = "NULL::float8", "", ""
        if self._nearest is not None:
            by_meaning, join, before = "near.meaning", self._nearest.join(), "".join(self._nearest.tables)
        chosen, asks, is_context = "nominated", "false", "false"
        around = ""
        if surroundings and self._messages is not None:
            around, chosen = self._around(surroundings), "around"
            asks, is_context = _ASKS, f"NOT n.named AND {by_meaning} IS NULL"
            join += (
                "LEFT JOIN LATERAL (SELECT g.text FROM {s}.messages g WHERE g.tenant_id = $1 "
                "AND g.thread_id = p.thread_id AND g.seq = p.seq LIMIT 1) g ON p.kind = 2 "
            )
        # by the terms that both have: a condition on the lexemes would look each word of time up in each message
        times = f"(SELECT {self._bind(time_words)}::text::sparsevec)" if time_words else ""
        dated = f"p.kind = 2 AND (p.weights <#> {times}) < 0" if time_words else "false"
        statement = (
            f"WITH {before}nominated AS MATERIALIZED ({arms}){around} "
            f"SELECT p.id, p.kind, {by_words} AS words, {by_meaning} AS meaning, p.said_at, p.user_id, p.thread_id, "
            f"p.seq, p.document_id, p.speaker, p.length, {asks} AS asks, {dated} AS dated, {is_context} AS is_context, "
            f"p.flagged "
            f"FROM {chosen} n CROSS JOIN {_PASSAGE} p {join}"
        )
        return self._database.sql(statement), self._arguments

    def _around(self, surroundings: int) -> str:
        """The messages beside those that were nominated, by the order of their thread."""
        sides = " UNION ALL ".join(
            f"(SELECT p.id FROM (SELECT p.* FROM {{s}}.passages p WHERE p.tenant_id = $1 "
            f"AND p.thread_id = c.thread_id AND p.seq {side} OFFSET 0) AS p "
            f"WHERE {self._messages} ORDER BY p.seq {order} LIMIT {surroundings:d})"
            for side, order in (
                (f"BETWEEN c.seq - {NEARBY} AND c.seq - 1", "DESC"),
                (f"BETWEEN c.seq + 1 AND c.seq + {NEARBY}", "ASC"),
            )
        )
        return (
            f", centres AS MATERIALIZED (SELECT p.id, p.thread_id, p.seq FROM nominated n, {_PASSAGE} p "
            "WHERE p.kind = 2), "
            "around AS (SELECT id, bool_or(named) AS named FROM (SELECT id, true AS named FROM nominated UNION ALL "
            f"SELECT beside.id, false FROM centres c, LATERAL ({sides}) AS beside) AS every GROUP BY id)"
        )


def nominating(terms: Sequence[Term]) -> tuple[list[int], list[tuple[int, ...]], list[int]]:
    """The terms that nominate candidates, each group within its budget of matching rows.

    Returns:
        Terms that nominate whatever has them, the rarest; groups of as many of the others each, the weightiest, that
        nominate what has all of a group; and terms to fall back on where that is hardly anything.
    """
    among = max((row["passages"] for row in terms), default=0)
    budget = min(WORD_BUDGET, max(LEAST_WORD_BUDGET, among // 64))
    ordered = sorted(terms, key=lambda row: (row["containing"], row["lexeme"]))
    alone = 0
    for row in ordered:
        if row["containing"] > budget:
            break
        budget -= row["containing"]
        alone += 1
    others = [row for row in ordered[alone:] if row["weight"] > 0]
    if alone:
        return [row["term"] for row in ordered[:alone]], _groups(others, 2, GROUP_BUDGET, among), []
    rarest = [row["term"] for row in ordered[:1]]
    if len(others) < 2:
        return rarest, [], []
    for size in range(2, min(len(others), LARGEST_GROUP)):
        if groups := _groups(others, size, GROUP_BUDGET, among):
            return [], groups, rarest
    return [], _groups(others, min(len(others), LARGEST_GROUP), math.inf, among)[:1], rarest


def _groups(terms: Sequence[Term], size: int, budget: float, among: int) -> list[tuple[int, ...]]:
    """The weightiest groups of so many terms; what has all of one is reckoned as if they knew nothing of each other."""
    chosen: list[tuple[int, ...]] = []
    # whoever is behind these could be replaced by as many better ones as there are groups
    some = sorted(terms, key=lambda row: -row["weight"])[: size + GROUPS - 1]
    weightiest = sorted(combinations(some, size), key=lambda group: -sum(row["weight"] for row in group))
    for group in weightiest[:GROUPS]:
        budget -= among * math.prod(row["containing"] / among for row in group)
        if budget < 0:
            break
        chosen.append(tuple(row["term"] for row in group))
    return chosen


def term_id(lexeme: str) -> int:
    """The number of a term, as the function of that name in the database gives it."""
    return int.from_bytes(hashlib.sha256(lexeme.encode()).digest()[:4]) // 16 + 1
