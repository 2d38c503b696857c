"""Records of an export become rows again, under their own ids: as often as one likes, from any place on.

Rows are written in batches, each in one transaction with what the search index must know, so that a
run that was killed leaves only whole batches behind; the next one finds them unchanged and goes on.
A record that cannot be stored is reported by its line, and the rest goes in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from memory_plugin.capabilities.memory_values import USERS_ROOT
from memory_plugin.db.database import Database
from memory_plugin.errors import ContentTooLargeError, DatabaseError, DatabaseUnavailableError, InvalidInputError
from memory_plugin.portable.tables import FORMAT, KIND_OF, VERSION, Kind, key_of_record, stored
from memory_plugin.validation import optional_identifier

BATCH = 200
BATCH_BYTES = 4_000_000
"""How many records one transaction takes, and how large their JSON may be together."""

ATTEMPTS = 6
_RETRIED = {"40001", "40P01"}  # serialization failure, deadlock

# A writer of messages locks the conversation before them: so does this.
_LOCK = """
SELECT thread_id FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = ANY ($2::text[])
ORDER BY thread_id FOR NO KEY UPDATE
"""

_INPUT = "input AS MATERIALIZED (SELECT * FROM jsonb_array_elements($2::text::jsonb) WITH ORDINALITY AS l (doc, place))"

# What was written goes into the search index: each message from its number on, each fact, each
# passage of a current version.
_AFTER = {
    "message": """, queued AS (
    INSERT INTO {s}.index_queue (tenant_id, kind, item) SELECT DISTINCT $1, 2, thread_id FROM written
    ON CONFLICT DO NOTHING
), rewound AS (
    UPDATE {s}.conversations c
    SET indexed_seq = least(c.indexed_seq, w.first - 1), message_seq = greatest(c.message_seq, w.last)
    FROM (SELECT thread_id, min(seq) AS first, max(seq) AS last FROM written GROUP BY thread_id) AS w
    WHERE c.tenant_id = $1 AND c.thread_id = w.thread_id
)""",
    "memory": """, queued AS (
    INSERT INTO {s}.index_queue (tenant_id, kind, item) SELECT $1, 1, id::text FROM written WHERE content <> ''
    ON CONFLICT DO NOTHING
)""",
    "chunk_place": """, queued AS (
    INSERT INTO {s}.index_queue (tenant_id, kind, item)
    SELECT DISTINCT $1, 3, w.chunk_id::text FROM written w
    JOIN {s}.documents d ON d.tenant_id = $1 AND d.id = w.document_id AND d.version = w.version
    ON CONFLICT DO NOTHING
)""",
}

_REFUSALS = {
    "conversation": "a conversation of another user has this id here",
    "message": "the conversation is not here, or another message has this place in it",
    "memory": "another fact stands under its key here",
    "document": "another document has this id or this source here",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that did not go in: its place in the stream, from 1, and why."""

    line: int
    kind: str
    message: str


@dataclass(slots=True)
class ImportReport:
    """What became of the records, by kind.

    Attributes:
        unchanged: was here already, under the same id; nothing was written.
        complete: the end of the export was there; if not, the file was cut off.
    """

    created: Counter[str] = field(default_factory=Counter)
    unchanged: Counter[str] = field(default_factory=Counter)
    failed: list[Failure] = field(default_factory=list)
    lines: int = 0
    complete: bool = False


Progress = Callable[[ImportReport], None]


async def import_records(
    database: Database,
    tenant: str,
    records: AsyncIterable[Any] | Iterable[Any],
    *,
    user_id: str | None = None,
    on_progress: Progress | None = None,
) -> ImportReport:
    """Store the records; see `MemoryCore.import_records`.

    A record may also be an exception: it is reported as the failure of its line.

    Raises:
        InvalidInputError: the first record is not the header of an export that this version reads.
    """
    importer = _Importer(database, tenant, optional_identifier(user_id, "user_id"))
    async for record in _each(records):
        await importer.take(record)
        if on_progress is not None and importer.flushed:
            importer.flushed = False
            on_progress(importer.report)
    await importer.flush()
    importer.report.failed.sort(key=lambda failure: failure.line)
    if not importer.started:
        raise InvalidInputError("There is nothing to import: the first line must be the header of an export.")
    if on_progress is not None:
        on_progress(importer.report)
    return importer.report


async def _each(records: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[Any]:
    if isinstance(records, AsyncIterable):
        async for record in records:
            yield record
    else:
        for record in records:
            yield record


class _Importer:
    """Collects records of one kind and writes them together."""

    def __init__(self, database: Database, tenant: str, new_user: str | None) -> None:
        self._database = database
        self._tenant = tenant
        self._new_user = new_user
        self._old_user: str | None = None
        self._kind: Kind | None = None
        self._waiting: list[tuple[int, bytes, Mapping[str, Any]]] = []
        self._bytes = 0
        self._refused: set[str] = set()
        self.started = False
        self.flushed = False
        self.report = ImportReport()

    async def take(self, record: Any) -> None:
        """Take one record; it is written with those of its kind that follow."""
        self.report.lines += 1
        if not self.started:
            self._start(record)
            return
        if isinstance(record, Exception):
            self._fail(self.report.lines, "", str(record))
            return
        name = record.get("kind") if isinstance(record, Mapping) else None
        if name == "end":
            self.report.complete = True
            return
        if name == "header":  # files that were put behind each other
            await self.flush()
            self._start(record)
            return
        kind = KIND_OF.get(str(name))
        problem = f"there is no kind of record {name!r:.80}" if kind is None else _problem(kind, record)
        if kind is None or problem:
            self._fail(self.report.lines, str(name), problem)
            return
        if kind is not self._kind or len(self._waiting) >= BATCH or self._bytes >= BATCH_BYTES:
            await self.flush()
            self._kind = kind
        if str(record.get("thread_id")) in self._refused and kind.name not in {"conversation", "memory"}:
            self._fail(self.report.lines, kind.name, "its conversation was not imported")
            return
        try:
            text = orjson.dumps(self._mapped(kind, record))
        except (TypeError, orjson.JSONEncodeError) as error:
            self._fail(self.report.lines, kind.name, f"it is no JSON: {error}")
            return
        self._waiting.append((self.report.lines, text, record))
        self._bytes += len(text)

    def _start(self, record: Any) -> None:
        known = isinstance(record, Mapping) and record.get("kind") == "header" and record.get("format") == FORMAT
        if not known:
            raise InvalidInputError("This is no export of memory-plugin: the first line must be its header.")
        if record.get("version") != VERSION:
            raise InvalidInputError(
                f"The export is of version {record.get('version')!r:.40} of the format and {VERSION} is read here: "
                "update memory-plugin."
            )
        self._old_user = optional_identifier(record.get("user_id"), "user_id")
        if self._new_user is not None and self._old_user is None:
            raise InvalidInputError(
                "The export is of a whole tenant: it cannot be given to one user; export the user alone."
            )
        self.started = True
        self.report.complete = False

    def _mapped(self, kind: Kind, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record with the new user in place of the old one."""
        old, new = self._old_user, self._new_user
        if new is None or old is None:
            return record
        changed = dict(record)
        for name in ("user_id", "set_by", "given_by"):
            if changed.get(name) == old:
                changed[name] = new
        if changed.get("scope") == "user" and changed.get("scope_id") == old:
            changed["scope_id"] = new
        if kind.name == "memory" and isinstance(changed.get("namespace"), list):
            labels = changed["namespace"]
            root = labels[:1] if labels[:1] == [USERS_ROOT] else []
            changed["namespace"] = root + [new if label == old else label for label in labels[len(root) :]]
        if kind.name == "checkpoint" and isinstance(changed.get("metadata"), dict):
            metadata = changed["metadata"]
            changed["metadata"] = metadata | ({"user_id": new} if metadata.get("user_id") == old else {})
        return changed

    async def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        if waiting and self._kind is not None:
            await self._store(self._kind, waiting)
            self.flushed = True

    async def _store(self, kind: Kind, batch: Sequence[tuple[int, bytes, Mapping[str, Any]]]) -> None:
        """Write a batch; where PostgreSQL refuses it, in halves until the record to blame is alone."""
        try:
            states = await self._write(kind, batch)
        except DatabaseUnavailableError:
            raise
        except (DatabaseError, InvalidInputError, ContentTooLargeError) as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._store(kind, batch[:middle])
                await self._store(kind, batch[middle:])
                return
            self._refuse(kind, *batch[0], str(error))
            return
        for place, (created, known) in states.items():
            if created:
                self.report.created[kind.name] += 1
            elif known:
                self.report.unchanged[kind.name] += 1
            else:
                self._refuse(kind, *batch[place - 1], _REFUSALS.get(kind.name, "what it belongs to is not here"))

    async def _write(
        self, kind: Kind, batch: Sequence[tuple[int, bytes, Mapping[str, Any]]]
    ) -> dict[int, tuple[bool, bool]]:
        """By place in the batch, whether it was created now, or known before."""
        statement = self._database.sql(_statement(kind))
        lines = (b"[" + b",".join(text for _, text, _ in batch) + b"]").decode()
        threads = sorted({str(record["thread_id"]) for _, _, record in batch}) if kind.name == "message" else []
        for attempt in range(ATTEMPTS):
            try:
                async with self._database.transaction() as connection:
                    if threads:
                        await connection.fetch(self._database.sql(_LOCK), self._tenant, threads)
                    rows = await connection.fetch(statement, self._tenant, lines)
                    return {row["place"]: (row["created"], row["known"]) for row in rows}
            except DatabaseError as error:
                if error.sqlstate not in _RETRIED or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _refuse(self, kind: Kind, line: int, _: bytes, record: Mapping[str, Any], message: str) -> None:
        if kind.name == "conversation":
            self._refused.add(str(record["thread_id"]))
        self._fail(line, kind.name, message)

    def _fail(self, line: int, kind: str, message: str) -> None:
        self.report.failed.append(Failure(line, kind, message))


def _statement(kind: Kind) -> str:
    written = ", ".join(f'"{column.name}"' for column in kind.columns)
    return (
        f"WITH {_INPUT}, written AS (\n{stored(kind)}\nRETURNING {written}\n)"
        f"{_AFTER.get(kind.name, '')}\n"
        f"SELECT i.place, EXISTS (SELECT FROM written m WHERE {key_of_record(kind, 'm')}) AS created, "
        f"EXISTS (SELECT FROM {{s}}.{kind.table} m WHERE m.tenant_id = $1 AND {key_of_record(kind, 'm')} "
        f"AND {kind.same}) AS known FROM input i"
    )


def _problem(kind: Kind, record: Mapping[str, Any]) -> str:
    """Why the record cannot be one of this kind; empty when it can."""
    names = {column.name for column in kind.columns}
    if unknown := sorted(set(record) - names - {"kind"}):
        return f"it has {', '.join(unknown)}, which this version does not know: update memory-plugin"
    missing = [column.name for column in kind.key if record.get(column.name) is None]
    return f"it lacks {', '.join(missing)}" if missing else ""
