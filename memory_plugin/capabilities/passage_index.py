"""The call that turns queued rows into passages.

`index_queued` takes a batch of each kind: words, their weights and their statistics are made in the
database, beside the rows, with plans that are kept. Any number of processes may call it at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from memory_plugin.db.database import Database, Repeat

RECALL_TOOLS = ("recall", "search_references")
"""Tools whose answers are stored text already: indexing them again would echo for ever."""

_INDEX = "SELECT * FROM {s}.index_queued($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class Taken:
    """What one round took: rows of the queue, passages made of them, and whether there may be more."""

    rows: int
    passages: int
    more: bool


class IndexStatements:
    """Runs the rounds of a tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._index = database.sql(_INDEX)

    async def run(self, tenant: str, languages: list[str]) -> Taken:
        """One batch of each kind that is queued.

        Args:
            languages: that words are read in, where the tenant has none of its own.
        """
        row = await self._database.fetchrow(self._index, tenant, languages, list(RECALL_TOOLS), repeat=Repeat.READ)
        assert row is not None  # the function always answers
        return Taken(*row)
