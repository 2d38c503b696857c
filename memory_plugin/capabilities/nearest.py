"""The part of a search that goes by meaning: exactly over few passages, by the index of their space over many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from memory_plugin.capabilities.vector_sql import literal
from memory_plugin.capabilities.vectors import Space

EXACT: Final = 3_000
"""Passages a search may see up to which each is compared with the query, though there is an index: this takes a
few milliseconds, and an index that knows nothing of the filter would have to be walked far to find as many."""

MOST_VISITED: Final = 200_000
"""Vectors that a walk through the index looks at before it gives up, and every passage is compared instead."""


class Nearest:
    """Writes the arms of one search that order passages by the distance of their vectors to the query's.

    A passage may have several vectors: the nearest one counts.

    What the index gives is made complete within the same statement, in three steps of which the later
    ones run only as far as they are needed. `few` sees whether more than `EXACT` passages fulfil the
    filters, where that is not known. If so, `near` walks the index, nearest first, until enough of what
    it meets fulfils them (pgvector's iterative scan). Where that gave less than was asked for, every
    passage is compared. The settings of the walk hold until the end of the transaction, which is that
    of the statement.

    Args:
        query: the parameter with the query's vector.
        depth: how many neighbours to take from the index; 0 never takes any.
        complete: give as many passages as are wanted, though some have several vectors among the
            neighbours; otherwise a few less will do, as long as the index had no more.
    """

    def __init__(self, space: Space, tenant: str, *, query: str, depth: int, complete: bool = True) -> None:
        self._space = space
        self._tenant = tenant
        self._depth = depth
        self._complete = complete
        self._query = f"(SELECT {query}::text::halfvec)"
        self.tables: list[str] = []
        """Common table expressions, each with a comma behind it."""

    def arm(self, kind: int, filters: str, *, has_parts: bool, seen: Sequence[str], size: int | None = None) -> str:
        """The nearest $2 passages `p` of one kind that fulfil the filters, as a SELECT of their ids in brackets.

        Args:
            has_parts: passages of the kind may have more than one vector.
            seen: the filters as far as they serve to count those passages, one after the other, each
                from an index; others may be counted too.
            size: how many there are, where that is known.
        """
        distance = f"e.vector <#> {self._query}"
        # "+ 0" keeps the planner from an index that loses filtered rows
        group, nearest = ("GROUP BY e.passage_id", f"min({distance})") if has_parts else ("", f"({distance}) + 0")
        gate = ""
        if self._space.is_indexed and self._depth and (size is None or size > EXACT):
            wanted = 2 * self._depth if has_parts and self._complete else self._depth + self._depth // 4
            self._walk(kind, filters, seen if size is None else None, wanted)
            enough = "count(DISTINCT id) < $2" if self._complete else f"count(*) < {wanted}"
            gate = f" AND (SELECT {enough} FROM near_{kind:d})"
        exact = (
            # named by an array, the vectors are read once whatever the planner believes of tables without statistics
            f"(SELECT e.passage_id AS id FROM {{s}}.embeddings e "
            f"WHERE e.tenant_id = $1 AND e.model_id = {self._space.number:d} "
            f"AND e.passage_id = ANY (ARRAY(SELECT p.id FROM {{s}}.passages p WHERE {filters}{gate})) "
            f"{group} ORDER BY {nearest}, e.passage_id LIMIT $2)"
        )
        if not gate:
            return exact
        return f"(SELECT id FROM near_{kind:d} GROUP BY id ORDER BY min(distance), id LIMIT $2) UNION {exact}"

    def _walk(self, kind: int, filters: str, seen: Sequence[str] | None, wanted: int) -> None:
        # the tenant, the model and the width are literals: only so the planner knows the partial index fits
        dims = self._space.dims
        settings = {
            "iterative_scan": "relaxed_order",
            "ef_search": str(max(100, min(wanted, 1000))),
            "max_scan_tuples": str(MOST_VISITED),
            "scan_mem_multiplier": "8",
        }
        tuned = " AND ".join(
            f"set_config('hnsw.{name}', '{value}', true) IS NOT NULL" for name, value in settings.items()
        )
        start = f"(SELECT {tuned})"
        if seen is not None:
            counted = " UNION ALL ".join(
                f"(SELECT FROM {{s}}.passages p WHERE {some} LIMIT {EXACT + 1})" for some in seen
            )
            self.tables.append(f"few_{kind:d} AS MATERIALIZED ({counted}), ")
            start = f"(SELECT count(*) > {EXACT} AND {tuned} FROM few_{kind:d})"
        distance = f"e.vector::halfvec({dims:d}) <#> {self._query}"
        self.tables.append(
            f"near_{kind:d} AS MATERIALIZED (SELECT p.id, {distance} AS distance "
            # from the vectors to the passages, whatever the planner believes that the filters leave
            f"FROM {{s}}.embeddings e CROSS JOIN LATERAL ("
            f"SELECT * FROM {{s}}.passages p WHERE p.tenant_id = e.tenant_id AND p.id = e.passage_id LIMIT 1) p "
            f"WHERE e.tenant_id = {literal(self._tenant)} AND e.model_id = {self._space.number:d} AND {filters} "
            f"AND {start} ORDER BY {distance} LIMIT {wanted}), "
        )

    def join(self) -> str:
        """What gives `near.meaning` of a passage `p`, the cosine with the query, NULL without a vector."""
        return (
            f"LEFT JOIN LATERAL (SELECT max(-(e.vector <#> {self._query})) AS meaning FROM {{s}}.embeddings e "
            f"WHERE e.tenant_id = $1 AND e.model_id = {self._space.number:d} AND e.passage_id = p.id) near ON true "
        )
