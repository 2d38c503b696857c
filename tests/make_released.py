"""Makes what is kept of a released revision in `tests/data`: rows of every table, and the statements of its library.

Run by hand when a revision is released, and before anybody adds the next one, with the library as it is released:

    python -m tests.make_released 0005

The rows are those of the revision before, brought up and written to by this library. Both files are frozen then:
`test_released_schemas.py` and `test_faults_upgrade.py` try on them whatever comes after.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import asyncpg

from memory_plugin import Memory
from memory_plugin.db import SCHEMA_REVISION
from memory_plugin.db.embedded import EmbeddedServer
from tests.record_released import recorded
from tests.test_released_schemas import DATA, Eight, load, migrated, tables_of

COLUMNS = """
SELECT quote_ident(attname) FROM pg_attribute
WHERE attrelid = ('memory.' || $1)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""

FIRING = "# Firing\n\nA firing takes a day.\n\n## Bisque\n\nUp to 950 degrees.\n\n## Glaze\n\nUp to 1240 degrees."


async def write(memory: Any) -> None:
    """Some of everything that is indexed, told apart from what earlier releases wrote; two facts stay in the queues."""
    here = f"at {SCHEMA_REVISION}"
    await memory.remember(f"The café by the kiln sells résumé paper {here}", user_id="erin", key=f"café {here}")
    await memory.remember_many([f"Glaze {number} is celadon {here}" for number in range(5)], user_id="erin")
    said = [{"role": "user", "content": "Où est le café ?"}, {"role": "assistant", "content": "Près du four."}]
    await memory.conversations.append(f"accents {here}", said, user_id="erin")
    await memory.references.add(text=f"{FIRING}\n\nAs {here}.", title="Firing", source=f"firing {here}")
    tools = {"name": "Tools", "parts": [{"text": "A banding wheel"}, {"text": "Sieves of eighty mesh"}]}
    await memory.store.aput(("team", "tools"), here, tools, index=["name", "parts[*].text"])
    await memory.indexed(30)
    await memory._indexer.stop()
    memory.kick = lambda: None
    await memory.remember(f"This waits for its vector {here}", user_id="erin")
    await memory.passages.catch_up()
    await memory.remember(f"This waits for its words {here}", user_id="erin")


async def rows(url: str, before: str) -> str:
    """All rows as statements that put them in; a table without any is an error."""
    await load(url, before)
    await migrated(url, "head")
    async with Memory.open(url, embeddings=Eight()) as memory:
        await memory.indexed(30)
        await write(memory)
    written = [f"-- Rows of every table at revision {SCHEMA_REVISION}, written by the releases up to it. Frozen."]
    connection = await asyncpg.connect(url)
    for table in await tables_of(connection):
        columns = [row[0] for row in await connection.fetch(COLUMNS, table)]
        values = " || ', ' || ".join(f"quote_nullable({column}::text)" for column in columns)
        found = [row[0] for row in await connection.fetch(f"SELECT {values} FROM memory.{table} ORDER BY 1")]
        assert found, f"{table} has no row: let `write` make one"
        listed = ",\n".join(f"\t({row})" for row in found)
        written.append(f"INSERT INTO memory.{table} ({', '.join(columns)}) VALUES\n{listed};")
    await connection.close()
    return "\n".join(written) + "\n"


def main(revision: str) -> None:
    assert revision == SCHEMA_REVISION, f"the library is at {SCHEMA_REVISION}: take the one that was released"
    kept = DATA / f"released_{revision}.sql", DATA / f"statements_{revision}.json"
    assert not any(path.exists() for path in kept), "what was released is frozen"
    before = max(path.stem.removeprefix("released_") for path in DATA.glob("released_*.sql"))
    with tempfile.TemporaryDirectory() as folder:
        servers = [EmbeddedServer.start(Path(folder) / "postgres", database=name) for name in ("rows", "statements")]
        try:
            texts = asyncio.run(rows(servers[0].url, before)), asyncio.run(recorded(servers[1].url))
        finally:
            for server in servers:
                server.stop()
    for path, text in zip(kept, texts, strict=True):
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
