"""The file of a backup: a ZIP of two entries, what pg_dump wrote and a page about it.

`unzip` takes it apart, and `pg_restore` reads the first entry as it is.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from memory_plugin.errors import InvalidInputError, NotFoundError

__all__ = ["DUMP", "FORMAT", "MANIFEST", "Manifest", "opened_dump", "read_manifest"]

FORMAT = 1
DUMP = "store.dump"
MANIFEST = "manifest.json"

_MANIFEST_LIMIT = 1 << 20  # bytes; a page about some dozens of tables has two thousand
_NAME = re.compile(r"[^\x00-\x1f]{1,63}\Z")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds.

    Attributes:
        made_at: of the snapshot, which is one moment for all tables.
        library: the version of memory-plugin that wrote it.
        schema: the PostgreSQL schema that it is of.
        revision: the schema's, as `memory-plugin migrate current` shows it.
        server: the major version of the server it was taken from.
        program: the major version of the pg_dump that wrote it; an older pg_restore cannot read it.
        pgvector: the version of the extension.
        pgvector_schema: where the extension's types are.
        roles: those that rights or row-level policies name, without the owner.
        tables: the number of rows of each.
    """

    made_at: datetime
    library: str
    schema: str
    revision: str
    server: int
    program: int
    pgvector: str
    pgvector_schema: str
    roles: tuple[str, ...]
    tables: Mapping[str, int]

    @property
    def rows(self) -> int:
        """The rows of all tables together."""
        return sum(self.tables.values())

    def text(self) -> str:
        """As it stands in the file."""
        fields = asdict(self) | {"format": FORMAT, "made_at": self.made_at.isoformat()}
        return json.dumps(fields, indent=2, ensure_ascii=False, sort_keys=True)


def read_manifest(path: Path) -> Manifest:
    """The page about a backup.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is no backup, or of a format that this version does not know.
    """
    with _archive(path) as archive:
        try:
            is_page = archive.getinfo(MANIFEST).file_size <= _MANIFEST_LIMIT
            fields = json.loads(archive.read(MANIFEST)) if is_page else {}
            form = fields["format"]
            manifest = _manifest(fields) if form == FORMAT else None
        except (KeyError, TypeError, ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError) as error:
            raise InvalidInputError(f"{path} is no backup of a store, or it was damaged: take another file.") from error
    if manifest is None:
        raise InvalidInputError(
            f"{path} has format {str(form)[:20]!r}, and this version reads {FORMAT}: upgrade memory-plugin."
        )
    return manifest


def _manifest(fields: Mapping[str, Any]) -> Manifest:
    """Raises KeyError, TypeError or ValueError for what no writer of ours wrote."""
    names = [fields["schema"], fields["revision"], fields["pgvector_schema"], *fields["roles"], *fields["tables"]]
    if not all(isinstance(name, str) and _NAME.match(name) for name in names):
        raise ValueError("a name that is none")
    return Manifest(
        made_at=datetime.fromisoformat(fields["made_at"]),
        library=str(fields["library"]),
        schema=fields["schema"],
        revision=fields["revision"],
        server=int(fields["server"]),
        program=int(fields["program"]),
        pgvector=str(fields["pgvector"]),
        pgvector_schema=fields["pgvector_schema"],
        roles=tuple(fields["roles"]),
        tables={name: int(rows) for name, rows in fields["tables"].items()},
    )


@contextmanager
def opened_dump(path: Path) -> Iterator[IO[bytes]]:
    """What pg_dump wrote, to be read once from its beginning; reading to the end checks the checksum."""
    with _archive(path) as archive:
        try:
            dump = archive.open(DUMP)
        except (KeyError, NotImplementedError, RuntimeError) as error:
            raise InvalidInputError(f"{path} is no backup of a store: there is no {DUMP} in it.") from error
        with dump:
            yield dump


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {path}: name one that `memory-plugin backup` wrote.") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidInputError(f"{path} is no backup of a store, or it was cut off: {error}.") from error
    with archive:
        yield archive
