"""Writing a backup, and reading one back to see that it is whole."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import time
import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import asyncpg

from memory_plugin.backup.manifest import DUMP, MANIFEST, Manifest, opened_dump, read_manifest
from memory_plugin.backup.programs import CHUNK, Tell, connection_of, program_for, run
from memory_plugin.db.migrate import VERSION_TABLE
from memory_plugin.db.translation import translate
from memory_plugin.errors import (
    ConflictError,
    DatabaseError,
    InvalidInputError,
    NotFoundError,
    StorageFullError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memory_plugin.db.database import Connection, Database

__all__ = ["as_themselves", "check_backup", "count_rows", "feed_dump", "quoted", "silent", "write_backup"]

_ABOUT = """
SELECT current_setting('server_version_num')::int / 10000 AS server, e.extversion AS pgvector,
       n.nspname AS pgvector_schema, pg_export_snapshot() AS snapshot, now() AS made_at
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'
"""

_TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r' ORDER BY 1
"""

_ROLES = """
SELECT DISTINCT r.rolname FROM (
    SELECT (aclexplode(c.relacl)).grantee AS role, c.relowner AS owner FROM pg_class c WHERE c.relnamespace = $1::regnamespace
    UNION ALL SELECT (aclexplode(a.attacl)).grantee, c.relowner FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = $1::regnamespace AND a.attacl IS NOT NULL
    UNION ALL SELECT (aclexplode(proacl)).grantee, proowner FROM pg_proc WHERE pronamespace = $1::regnamespace
    UNION ALL SELECT (aclexplode(nspacl)).grantee, nspowner FROM pg_namespace WHERE oid = $1::regnamespace
    UNION ALL SELECT (aclexplode(defaclacl)).grantee, defaclrole FROM pg_default_acl WHERE defaclnamespace = $1::regnamespace
    UNION ALL SELECT defaclrole, NULL FROM pg_default_acl WHERE defaclnamespace = $1::regnamespace
    UNION ALL SELECT unnest(p.polroles), NULL FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
        WHERE c.relnamespace = $1::regnamespace
) named JOIN pg_roles r ON r.oid = named.role WHERE named.role IS DISTINCT FROM named.owner ORDER BY 1
"""  # noqa: E501 - a line each

# not every OSError, as those of files are told in other words
_SAID_BY_DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError, TimeoutError)

_COPY = re.compile(rb'COPY (?:"(?:[^"]|"")+"|[\w$]+)\.("(?:[^"]|"")+"|[\w$]+) ')
_LINE_START = 4096  # bytes of a line that are looked at; the rest of a long one is passed over


def silent(words: str) -> None:
    """Tell nobody."""


def quoted(name: str) -> str:
    """The name as an identifier in a statement."""
    return '"' + name.replace('"', '""') + '"'


async def write_backup(database: Database, path: Path, *, force: bool = False, tell: Tell = silent) -> Manifest:
    """Write the whole schema, every tenant of it, as it was at one moment; programs may go on meanwhile.

    The file has its name only when it was read back and every row that was counted is in it. Only its owner
    may read it.

    Args:
        force: put it in the place of a file that is there.

    Raises:
        ConflictError: there is such a file, and `force` was not given.
        NotFoundError: there is no store in this schema.
        UnsupportedError: no pg_dump is there that is as new as the server.
        StorageFullError: the disk is full.
        DatabaseError: the database refused, or what was written is not what was counted.
    """
    if not force and await asyncio.to_thread(path.exists):
        raise ConflictError(f"{path} exists: name another file, or say --force to replace it.")
    part = path.with_name(path.name + ".part")
    with _told_of_files(path):
        try:
            manifest = await _write(database, part, tell)
            tell("reading it back")
            await check_backup(part, tell=tell)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return manifest


async def _write(database: Database, part: Path, tell: Tell) -> Manifest:
    async with (
        as_themselves(database) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        about = await connection.fetchrow(_ABOUT)
        if about is None or not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", _versions(database)):
            raise NotFoundError(f"There is no store in the schema {database.schema!r}: name another one by --schema.")
        if about["pgvector_schema"] == database.schema:
            raise UnsupportedError(
                "pgvector is installed in the store's own schema, where no backup can leave it out: run "
                "ALTER EXTENSION vector SET SCHEMA public, then try again."
            )
        program, major = program_for("pg_dump", about["server"])
        schema = quoted(database.schema)
        tell("counting rows")
        manifest = Manifest(
            made_at=about["made_at"],
            library=_library(),
            schema=database.schema,
            revision=await connection.fetchval(f"SELECT version_num FROM {schema}.{VERSION_TABLE}"),
            server=about["server"],
            program=major,
            pgvector=about["pgvector"],
            pgvector_schema=about["pgvector_schema"],
            roles=tuple(row["rolname"] for row in await connection.fetch(_ROLES, schema)),
            tables=await count_rows(connection, database.schema),
        )
        url, variables = connection_of(database.url)
        arguments = ["--format=custom", "--no-owner", "--verbose", "--no-password", f"--schema={schema}"]
        arguments += [f"--snapshot={about['snapshot']}", f"--dbname={url}"]
        with _created(part) as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                with archive.open(_entry(DUMP), "w", force_zip64=True) as entry:
                    await run(
                        program, *arguments, variables=variables, take=_into(entry), tell=tell, doing="The backup"
                    )
                archive.writestr(_entry(MANIFEST), manifest.text())
            file.flush()
            os.fsync(file.fileno())
    return manifest


async def check_backup(path: Path, *, tell: Tell = silent) -> Manifest:
    """Read a backup to its end: checksums, and for each table as many rows as were counted.

    Needs no database.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is no backup, or not whole.
        UnsupportedError: no pg_restore is there that can read it.
    """
    manifest = read_manifest(path)
    program, _ = program_for("pg_restore", manifest.program)
    counter = RowCounter()
    with opened_dump(path) as dump:
        try:
            await run(
                program, "--data-only", "--file=-", variables={}, feed=lambda pipe: feed_dump(dump, pipe),
                take=counter.take, tell=tell, doing="Reading the backup",
            )  # fmt: skip
        except (DatabaseError, zipfile.BadZipFile, EOFError) as error:
            raise InvalidInputError(f"{path} was damaged: {error}") from error
    for table, rows in manifest.tables.items():
        if counter.rows[table] != rows:
            raise InvalidInputError(
                f"{path} is not whole: it has {counter.rows[table]:,} rows of {table}, and {rows:,} were counted."
            )
    return manifest


async def feed_dump(dump: IO[bytes], pipe: asyncio.StreamWriter) -> None:
    """Write what is read into a program's standard input, to the end even where the program has had enough."""
    open_end = True
    while piece := await asyncio.to_thread(dump.read, CHUNK):
        if not open_end:
            continue  # the checksum stands at the end
        try:
            pipe.write(piece)
            await pipe.drain()
        except (BrokenPipeError, ConnectionResetError):
            open_end = False


class RowCounter:
    """Counts the rows of each table in the text that pg_restore prints."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self._table: str | None = None
        self._line = b""

    def take(self, piece: bytes) -> None:
        """The next piece of the text, cut anywhere."""
        first, *others = piece.split(b"\n")
        self._line = (self._line + first[:_LINE_START])[:_LINE_START]
        for line in others:
            self._end(self._line)
            self._line = line[:_LINE_START]

    def _end(self, line: bytes) -> None:
        if self._table is not None:
            if line.rstrip(b"\r") == b"\\.":
                self._table = None
            else:
                self.rows[self._table] += 1
        elif (found := _COPY.match(line)) is not None:
            name = found[1].decode("utf-8", "replace")
            self._table = name[1:-1].replace('""', '"') if name.startswith('"') else name
            self.rows[self._table] += 0


@asynccontextmanager
async def as_themselves(database: Database) -> AsyncIterator[Connection]:
    """A connection of the role that logs in, which sees all rows or gets an error, for as long as it takes."""
    connection = await database.connect_alone()
    try:
        await connection.execute("SET ROLE NONE; SET row_security = off; SET statement_timeout = 0")
        yield connection
    except _SAID_BY_DRIVER as error:
        raise translate(error, target=f"the schema {database.schema!r}") from error
    finally:
        await connection.close()


async def count_rows(connection: Connection, schema: str) -> dict[str, int]:
    """The rows of each table of a schema."""
    names = [row["relname"] for row in await connection.fetch(_TABLES, quoted(schema))]
    return {name: await connection.fetchval(f"SELECT count(*) FROM {quoted(schema)}.{quoted(name)}") for name in names}


def _versions(database: Database) -> str:
    return f"{quoted(database.schema)}.{VERSION_TABLE}"


def _library() -> str:
    try:
        return version("memory-plugin")
    except PackageNotFoundError:
        return "unknown"  # run from a folder that was never installed


def _into(file: IO[bytes]) -> Callable[[bytes], None]:
    def take(piece: bytes) -> None:
        file.write(piece)

    return take


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, time.gmtime(datetime.now(UTC).timestamp())[:6])
    entry.external_attr = 0o600 << 16
    return entry


def _created(part: Path) -> Any:
    """A new file that only its owner may read: it holds what everybody said."""
    part.unlink(missing_ok=True)
    return os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600), "wb")


@contextmanager
def _told_of_files(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(f"The disk that holds {path} is full: nothing was kept; free some space.") from error
        raise InvalidInputError(f"{path} cannot be written ({error.strerror}): name another file.") from error
