"""The languages of a tenant's words, and reading all its words anew in others.

A tenant may have several: each text is read in the one that knows most of its words as stop words, and
a question in all of them, so that a German question finds German text beside English one. What is said
here for a tenant wins over the setting of the process that writes or asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from memory_plugin.db.database import Database, Repeat
from memory_plugin.errors import InvalidInputError

BATCH: Final = 500
MOST: Final = 16
"""Languages a tenant may have: each one costs a reading of every text."""

AVERAGE_LENGTH = {1: 12.0, 2: 16.0, 3: 100.0}
"""Length in words at which BM25 neither favours nor punishes a passage, by kind: typical lengths
of facts, conversation turns and chunks after stop words. Fixed, so that stored weights stay
comparable while a corpus grows."""

OF_MEMORY: Final = "m.content"
OF_MESSAGE: Final = "coalesce(g.name || ': ', '') || g.text"
OF_CHUNK: Final = "d.title || E'\\n' || array_to_string(c.heading_path, E'\\n') || E'\\n' || c.text"
"""The text of a passage of each kind that is found by words."""


def languages_of(setting: str) -> list[str]:
    """The names in a setting such as "english, german".

    Raises:
        InvalidInputError: there are none, or too many.
    """
    names = list(dict.fromkeys(name.strip().lower() for name in setting.split(",") if name.strip()))
    if not 0 < len(names) <= MOST:
        raise InvalidInputError(f"Name 1 to {MOST} languages, such as english,german, not {setting!r}.")
    return names


def of_tenant(given: str) -> str:
    """SQL for the languages of tenant $1, as a text[]: its own, else the given parameter."""
    return f"coalesce((SELECT languages FROM {{s}}.search_languages WHERE tenant_id = $1), {given}::text[])"


_KNOWN = "SELECT count(*) FROM pg_ts_config WHERE $1::text IN (cfgname::text, oid::regconfig::text)"

_SET = """
INSERT INTO {s}.search_languages AS l (tenant_id, languages) VALUES ($1, $2)
ON CONFLICT (tenant_id) DO UPDATE SET languages = excluded.languages, changed_at = now()
WHERE l.languages <> excluded.languages
"""

_AVERAGE = "CASE p.kind " + " ".join(f"WHEN {kind} THEN {length}" for kind, length in AVERAGE_LENGTH.items()) + " END"

_REWORD = f"""
WITH batch AS MATERIALIZED (
    SELECT p.id, p.kind, p.lexemes AS old, p.length AS old_length, {_AVERAGE}::real AS average,
           {{s}}.words_of({of_tenant("$2")}, coalesce(
               CASE p.kind WHEN 1 THEN {OF_MEMORY} WHEN 2 THEN {OF_MESSAGE} ELSE {OF_CHUNK} END, '')) AS new
    FROM (SELECT * FROM {{s}}.passages WHERE tenant_id = $1 AND id > $3 ORDER BY id LIMIT $4 FOR NO KEY UPDATE) p
    LEFT JOIN {{s}}.memories m ON p.kind = 1 AND m.tenant_id = $1 AND m.id = p.id
    LEFT JOIN {{s}}.messages g ON p.kind = 2 AND g.tenant_id = $1 AND g.thread_id = p.thread_id AND g.seq = p.seq
    LEFT JOIN {{s}}.chunks c ON p.kind = 3 AND c.tenant_id = $1 AND c.id = p.id
    LEFT JOIN {{s}}.documents d ON d.tenant_id = $1 AND d.id = c.document_id
), changed AS (
    UPDATE {{s}}.passages p
    SET lexemes = b.new, length = {{s}}.words_length(b.new), weights = {{s}}.words_weights(b.new, b.average),
        keys = {{s}}.term_keys($1, p.kind, b.new)
    FROM batch b WHERE p.tenant_id = $1 AND p.id = b.id AND b.new <> b.old
    RETURNING p.kind, p.length, b.old, b.old_length, b.new
), counted AS (
    SELECT kind, {{s}}.term_id(u.lexeme) AS term, 1 AS n FROM changed, unnest(new) AS u
    UNION ALL SELECT kind, {{s}}.term_id(u.lexeme), -1 FROM changed, unnest(old) AS u
), corpus AS (
    INSERT INTO {{s}}.corpus_statistics AS c (tenant_id, kind, passages, total_length)
    SELECT $1, kind, 0, sum(length - old_length) FROM changed GROUP BY kind ORDER BY kind
    ON CONFLICT (tenant_id, kind) DO UPDATE SET total_length = greatest(0, c.total_length + excluded.total_length)
    RETURNING kind
), terms AS (
    -- behind the corpus, as everybody who counts terms
    INSERT INTO {{s}}.term_statistics AS t (tenant_id, kind, term, passages)
    SELECT $1, kind, term, sum(n) FROM corpus JOIN counted USING (kind)
    GROUP BY kind, term HAVING sum(n) <> 0 ORDER BY kind, term
    ON CONFLICT (tenant_id, kind, term) DO UPDATE SET passages = greatest(0, t.passages + excluded.passages)
)
SELECT count(*) AS seen, (array_agg(id ORDER BY id DESC))[1] AS last, (SELECT count(*) FROM changed) AS changed
FROM batch
"""


class Languages:
    """The languages of one tenant.

    Args:
        setting: those where the tenant has none of its own, as `languages_of` takes them.
    """

    def __init__(self, database: Database, *, tenant: str, setting: str) -> None:
        self._database = database
        self._tenant = tenant
        self.setting = languages_of(setting)
        self._reword = database.sql(_REWORD)

    async def get(self) -> list[str]:
        """Those that texts and questions are read in now."""
        statement = self._database.sql(f"SELECT {of_tenant('$2')}")
        return list(await self._database.fetchval(statement, self._tenant, self.setting, repeat=Repeat.READ))

    async def set(self, languages: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> int:
        """Give the tenant languages of its own, and read all its words in them; how many passages changed.

        Searches go on meanwhile, in the old words or the new ones. A run that was broken off is simply
        started again.

        Args:
            languages: names of text search configurations; the first one where a text fits several.
            progress: called with the passages done and how many there are.

        Raises:
            InvalidInputError: the database knows no such language.
        """
        names = languages_of(",".join(languages))
        for name in names:
            if not await self._database.fetchval(_KNOWN, name, repeat=Repeat.READ):
                raise InvalidInputError(
                    f"PostgreSQL has no text search configuration {name!r}: "
                    "`SELECT cfgname FROM pg_ts_config` lists them."
                )
        await self._database.execute(self._database.sql(_SET), self._tenant, names, repeat=Repeat.IDEMPOTENT)
        return await self.reread(progress=progress)

    async def reread(self, *, progress: Callable[[int, int], None] | None = None) -> int:
        """Read the words of every passage anew, in the languages of the tenant; how many passages changed."""
        total = await self._database.fetchval(
            self._database.sql("SELECT count(*) FROM {s}.passages WHERE tenant_id = $1"),
            self._tenant,
            repeat=Repeat.READ,
        )
        after, done, changed = UUID(int=0), 0, 0
        while True:
            row = await self._database.fetchrow(
                self._reword, self._tenant, self.setting, after, BATCH, repeat=Repeat.IDEMPOTENT
            )
            if row is None or not row["seen"]:
                return changed
            after, done, changed = row["last"], done + row["seen"], changed + row["changed"]
            if progress is not None:
                progress(done, max(total, done))
