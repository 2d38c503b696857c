"""Reference documents against a real database and real files."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document as LangChainDocument

from memory_plugin.capabilities import reference_writer
from memory_plugin.capabilities.passages import Passages
from memory_plugin.capabilities.reference_files import MAX_BYTES, find_files
from memory_plugin.capabilities.references import Progress, References
from memory_plugin.core import MemoryCore
from memory_plugin.db.database import Database
from memory_plugin.errors import (
    ConfigurationError,
    ContentTooLargeError,
    DatabaseUnavailableError,
    DocumentError,
    InvalidInputError,
    NotFoundError,
    UnsupportedError,
)
from memory_plugin.memory import Memory
from memory_plugin.types import Chunk, ParsedDocument
from tests.counting import CountingDatabase

TABLES = ("documents", "document_versions", "chunks", "chunk_places", "passages", "index_queue")

NOBODY = UUID(int=0)

HANDBOOK = """# Handbook

Welcome to the company.

## Holidays

Everyone has thirty days of holiday a year.

## Travel

### Trains

Book second class, unless the journey is longer than four hours.
"""


def parse_lines(
    data: bytes | str, *, name: str, media_type: str | None = None, title: str | None = None
) -> ParsedDocument:
    """One chunk for each line; `heading|text` gives it a heading."""
    text = data if isinstance(data, str) else data.decode("utf-8", "surrogatepass")
    chunks, start = [], 0
    for ordinal, line in enumerate(text.split("\n")):
        heading, bar, rest = line.rpartition("|")
        begin = start + len(heading) + len(bar)
        path = (heading,) if heading else ()
        chunks.append(Chunk(rest, ordinal, begin, start + len(line), path, line=ordinal + 1, tokens=len(rest)))
        start += len(line) + 1
    kept = [chunk for chunk in chunks if chunk.text]
    return ParsedDocument(title or name, media_type or "text/plain", text, kept, {"lines": len(kept)})


def refuse_to_parse(data: bytes | str, **_: Any) -> ParsedDocument:
    raise AssertionError("this must not be parsed")


@pytest.fixture
def references(database: Database) -> References:
    return References(database, tenant="acme", parser=parse_lines)


@pytest.fixture
def passages(database: Database) -> Passages:
    return Passages(database, tenant="acme")


@pytest.fixture
async def counting(database_url: str) -> AsyncIterator[CountingDatabase]:
    opened = CountingDatabase(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "handbook.md"
    path.write_text(HANDBOOK)
    return path


async def rows(database: Database) -> dict[str, int]:
    """How many rows each table has."""
    return {table: await database.fetchval(f"SELECT count(*) FROM memory.{table}") for table in TABLES}


async def searchable(database: Database) -> set[str]:
    """The texts of the chunks in the search index."""
    found = await database.fetch("SELECT c.text FROM memory.passages p JOIN memory.chunks c USING (tenant_id, id)")
    return {row["text"] for row in found}


async def queued(database: Database) -> set[str]:
    """The texts of the chunks that wait for the index."""
    found = await database.fetch(
        "SELECT c.text FROM memory.index_queue q JOIN memory.chunks c ON c.id::text = q.item AND q.kind = 3"
    )
    return {row["text"] for row in found}


class TestAdding:
    async def test_a_file(self, database: Database, file: Path) -> None:
        document = await References(database, tenant="acme").add(file)
        assert (document.status, document.version, document.title) == ("added", 1, "Handbook")
        assert (document.source, document.media_type) == (file.as_posix(), "text/markdown")
        assert document.chunk_count > 0

    async def test_a_file_is_known_by_its_resolved_path(
        self, references: References, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = await references.add(file)
        link = file.parent / "link.md"
        link.symlink_to(file)
        monkeypatch.chdir(file.parent)
        for name in ("handbook.md", "./handbook.md", link):
            assert await references.add(name) == replace(first, status="unchanged")

    async def test_a_text(self, database: Database) -> None:
        document = await References(database, tenant="acme").add(text=HANDBOOK, source="wiki/handbook")
        assert (document.source, document.media_type, document.title) == (
            "wiki/handbook",
            "text/markdown",
            "Handbook",
        )

    async def test_a_text_without_a_source_is_known_by_its_content(self, database: Database) -> None:
        references = References(database, tenant="acme")
        first = await references.add(text="The office opens at nine.")
        assert first.source.startswith("text:")
        assert first.title == "The office opens at nine."
        assert (await references.add(text="The office opens at nine.")).status == "unchanged"
        assert (await references.add(text="The office opens at ten.")).id != first.id

    async def test_bytes(self, database: Database) -> None:
        document = await References(database, tenant="acme").add(
            data=b"name,price\ntea,3\n", source="prices.csv", media_type="text/csv"
        )
        assert (document.source, document.media_type) == ("prices.csv", "text/csv")

    async def test_a_title_and_metadata_given_win(self, references: References) -> None:
        document = await references.add(text="a", title="Mine", metadata={"lines": "many", "topic": "x"})
        assert (document.title, document.metadata) == ("Mine", {"lines": "many", "topic": "x"})

    @pytest.mark.parametrize("arguments", [{}, {"text": "a", "data": b"a"}, {"path": "a", "text": "a"}])
    async def test_exactly_one_content(self, references: References, arguments: dict[str, Any]) -> None:
        with pytest.raises(InvalidInputError, match="exactly one"):
            await references.add(**arguments)

    @pytest.mark.parametrize(
        "url", ["https://example.org/a.md", "HTTP://example.org", "s3://bucket/a", "file:///etc/x"]
    )
    async def test_a_url_is_refused(self, references: References, url: str) -> None:
        with pytest.raises(InvalidInputError, match="fetching is not enabled"):
            await references.add(url)

    async def test_a_url_may_be_the_source(self, references: References) -> None:
        document = await references.add(text="a", source="https://example.org/a.md")
        assert document.source == "https://example.org/a.md"

    @pytest.mark.parametrize(
        "arguments",
        [
            {"text": ""},
            {"text": " \n"},
            {"text": "a\x00b"},
            {"text": "half \ud83d"},
            {"text": 7},
            {"data": "text"},
            {"path": ""},
            {"path": 7},
            {"path": b"bytes"},
            {"text": "a", "source": ""},
            {"text": "a", "source": "a\x00"},
            {"text": "a", "source": "s" * 2000},
            {"text": "a", "collection": ""},
            {"text": "a", "user_id": ""},
            {"text": "a", "title": ""},
            {"text": "a", "title": "t" * 2000},
            {"text": "a", "metadata": {"a": object()}},
            {"text": "a", "metadata": {1: "a"}},
            {"text": "a", "metadata": {"$t": "str"}},
            {"text": "a", "metadata": [1]},
        ],
    )
    async def test_what_cannot_be_stored_is_refused(
        self, database: Database, references: References, arguments: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidInputError):
            await references.add(**arguments)
        assert await rows(database) == dict.fromkeys(TABLES, 0)

    async def test_a_missing_file_is_named(self, references: References, tmp_path: Path) -> None:
        with pytest.raises(DocumentError, match="There is no file .*gone"):
            await references.add(tmp_path / "gone.md")

    async def test_a_folder_points_to_add_many(self, references: References, tmp_path: Path) -> None:
        with pytest.raises(DocumentError, match="add_many"):
            await references.add(tmp_path)

    async def test_a_pipe_is_not_waited_for(self, references: References, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.md")
        with pytest.raises(DocumentError, match="not a regular file"):
            await asyncio.wait_for(references.add(tmp_path / "pipe.md"), 5)

    async def test_a_nul_in_a_path(self, references: References) -> None:
        with pytest.raises(DocumentError):
            await references.add("a\x00b")

    async def test_a_file_over_the_limit_is_not_read(self, references: References, tmp_path: Path) -> None:
        large = tmp_path / "large.txt"
        with large.open("wb") as file:
            file.truncate(MAX_BYTES + 1)
        with pytest.raises(ContentTooLargeError, match="128 MiB"):
            await references.add(large)

    async def test_a_file_name_that_is_no_text(self, references: References, tmp_path: Path) -> None:
        paths = [tmp_path / os.fsdecode(name) for name in (b"a\xff.txt", b"a\xfe.txt")]
        for path in paths:
            path.write_text("text")
        added = [await references.add(path) for path in paths]
        assert [document.source[-9:] for document in added] == ["a\\xff.txt", "a\\xfe.txt"]

    async def test_a_document_without_text_is_refused(self, references: References) -> None:
        with pytest.raises(DocumentError, match="no text"):
            await references.add(data=b"\n\n", source="empty.txt")

    async def test_whatever_a_parser_raises_names_the_document(self, database: Database) -> None:
        def broken(data: bytes | str, **_: Any) -> ParsedDocument:
            raise KeyError("/Root")

        with pytest.raises(DocumentError, match=r"'a\.pdf' cannot be parsed: '/Root'") as caught:
            await References(database, tenant="acme", parser=broken).add(data=b"x", source="a.pdf")
        assert caught.value.name == "a.pdf"

    async def test_a_missing_package_stays_that(self, database: Database) -> None:
        def unsupported(data: bytes | str, **_: Any) -> ParsedDocument:
            raise UnsupportedError("install it")

        with pytest.raises(UnsupportedError):
            await References(database, tenant="acme", parser=unsupported).add(text="a")

    async def test_no_connection_is_held_while_parsing(self, database: Database) -> None:
        out: list[int] = []

        def watch(data: bytes | str, **keywords: Any) -> ParsedDocument:
            out.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]
            return parse_lines(data, **keywords)

        await References(database, tenant="acme", parser=watch).add(text="a")
        assert out == [0]

    async def test_what_a_parser_leaves_unstorable_is_replaced(self, database: Database) -> None:
        def dirty(data: bytes | str, **_: Any) -> ParsedDocument:
            chunk = Chunk("a\x00b\ud83d", 0, 0, 4, ("top\x00", "in\x1fside", ""), metadata={"k\x00": {1, 2}})
            return ParsedDocument("t\x00", "text/x\x00", "a\x00b\ud83d", [chunk], {"$t": "x", "at": object()})

        references = References(database, tenant="acme", parser=dirty)
        document = await references.add(text="x")
        (chunk,) = await references.chunks(document.id)
        assert (document.title, chunk.text) == ("t\ufffd", "a\ufffdb\ufffd")
        assert chunk.heading_path == ("top\ufffd", "in side")
        assert (chunk.citation.start, chunk.citation.end) == (0, 4)

    async def test_every_write_is_told(self, database: Database) -> None:
        told: list[None] = []
        references = References(database, tenant="acme", parser=parse_lines, changed=lambda: told.append(None))
        await references.add(text="a", source="s")
        await references.add(text="a", source="s")
        assert len(told) == 1
        await references.add(text="b", source="s")
        assert len(told) == 2


class TestIdentity:
    async def test_tenants_collections_sources_and_users_are_apart(
        self, database: Database, references: References
    ) -> None:
        other = References(database, tenant="other", parser=parse_lines)
        added = [
            await references.add(text="a", source="s"),
            await references.add(text="a", source="t"),
            await references.add(text="a", source="s", collection="c"),
            await references.add(text="a", source="s", user_id="ada"),
            await references.add(text="a", source="s", user_id="bob"),
            await other.add(text="a", source="s"),
        ]
        assert {document.status for document in added} == {"added"}
        assert len({document.id for document in added}) == 6

    async def test_the_objects_own_user_is_the_default(self, database: Database) -> None:
        references = References(database, tenant="acme", user_id="ada", parser=parse_lines)
        assert (await references.add(text="a")).user_id == "ada"
        assert (await references.add(text="a", user_id="bob")).user_id == "bob"


class TestUnchanged:
    async def test_it_is_one_statement_and_no_parsing(self, counting: CountingDatabase) -> None:
        first = await References(counting, tenant="acme", parser=parse_lines).add(text="a", source="s")
        counting.sent.clear()
        again = await References(counting, tenant="acme", parser=refuse_to_parse).add(text="a", source="s")
        assert len(counting.sent) == 1
        assert (again.status, again.id, again.updated_at) == ("unchanged", first.id, first.updated_at)

    async def test_the_same_title_and_metadata_again(self, references: References) -> None:
        await references.add(text="a", source="s", title="T", metadata={"a": [1, 2], "b": 1.5})
        again = await references.add(text="a", source="s", title="T", metadata={"b": 1.5})
        assert again.status == "unchanged"

    async def test_more_metadata_is_taken_over_without_a_version(self, references: References) -> None:
        await references.add(text="a", source="s", metadata={"a": 1, "b": 1})
        again = await references.add(text="a", source="s", metadata={"b": 2})
        assert (again.status, again.version) == ("updated", 1)
        assert (await references.get(again.id)).metadata == {"lines": 1, "a": 1, "b": 2}

    async def test_another_title_is_searched_by(
        self, database: Database, references: References, passages: Passages
    ) -> None:
        document = await references.add(text="a", source="s", title="Old")
        await passages.catch_up()
        assert (await references.add(text="a", source="s", title="Renamed")).status == "updated"
        assert await queued(database) == {"a"}
        await passages.catch_up()
        assert await database.fetchval("SELECT 'renam' = ANY (tsvector_to_array(lexemes)) FROM memory.passages")
        (chunk,) = await references.chunks(document.id)
        assert chunk.citation.title == "Renamed"


class TestVersions:
    async def test_kept_chunks_keep_their_rows_and_their_place_in_the_index(
        self, database: Database, references: References, passages: Passages
    ) -> None:
        document = await references.add(text="one\ntwo\nthree", source="s")
        await passages.catch_up()
        before = {chunk.text: chunk.id for chunk in await references.chunks(document.id)}
        updated = await references.add(text="zero\none\nthree", source="s")
        after = {chunk.text: chunk.id for chunk in await references.chunks(document.id)}
        assert (updated.status, updated.version, updated.id) == ("updated", 2, document.id)
        assert {text: after[text] for text in ("one", "three")} == {text: before[text] for text in ("one", "three")}
        assert await queued(database) == {"zero"}
        assert await searchable(database) == {"one", "three"}

    async def test_a_chunk_under_another_heading_is_another_chunk(
        self, database: Database, references: References
    ) -> None:
        document = await references.add(text="Tea|hot", source="s")
        (before,) = await references.chunks(document.id)
        await references.add(text="Coffee|hot", source="s")
        (after,) = await references.chunks(document.id)
        assert before.id != after.id
        assert after.heading_path == ("Coffee",)

    async def test_what_left_comes_back_to_the_index_under_its_id(
        self, database: Database, references: References, passages: Passages
    ) -> None:
        document = await references.add(text="one\ntwo", source="s")
        (_, two) = await references.chunks(document.id)
        await references.add(text="one", source="s")
        await passages.catch_up()
        assert await searchable(database) == {"one"}
        await references.add(text="one\ntwo", source="s")
        assert await queued(database) == {"two"}
        assert (await references.chunks(document.id))[1].id == two.id

    async def test_what_left_before_it_was_indexed_never_gets_there(
        self, database: Database, references: References, passages: Passages
    ) -> None:
        await references.add(text="one\ntwo", source="s")
        await references.add(text="one", source="s")
        assert await queued(database) == {"one"}

    async def test_a_text_that_stands_twice_is_one_chunk_in_two_places(
        self, database: Database, references: References
    ) -> None:
        document = await references.add(text="same\nother\nsame", source="s")
        chunks = await references.chunks(document.id)
        assert [chunk.text for chunk in chunks] == ["same", "other", "same"]
        assert chunks[0].id == chunks[2].id
        assert [chunk.citation.line for chunk in chunks] == [1, 2, 3]
        assert document.chunk_count == 3
        assert (await rows(database))["chunks"] == 2

    async def test_a_long_document_is_written_in_batches_that_leave_no_seam(
        self, references: References, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reference_writer, "_BATCH", 3)
        first = [f"line {number % 7}" for number in range(20)]
        document = await references.add(text="\n".join(first), source="s")
        before = await references.chunks(document.id)
        assert [chunk.text for chunk in before] == first
        assert [chunk.ordinal for chunk in before] == list(range(20))
        second = ["new", *first[:10], "newer", *first[3:9]]
        assert (await references.add(text="\n".join(second), source="s")).chunk_count == len(second)
        after = await references.chunks(document.id)
        assert [chunk.text for chunk in after] == second
        known = {chunk.text: chunk.id for chunk in before}
        assert all(known.get(chunk.text, chunk.id) == chunk.id for chunk in after)
        assert (await rows(database))["chunks"] == 9

    async def test_old_versions_can_still_be_read(self, references: References) -> None:
        document = await references.add(text="one\ntwo", source="s", title="First")
        await references.add(text="three", source="s", title="Second")
        old = await references.chunks(document.id, version=1)
        assert [chunk.text for chunk in old] == ["one", "two"]
        assert {(chunk.citation.version, chunk.citation.title) for chunk in old} == {(1, "First")}

    async def test_earlier_metadata_stays(self, references: References) -> None:
        await references.add(text="a", source="s", metadata={"topic": "tea"})
        assert (await references.add(text="b", source="s")).metadata == {"topic": "tea", "lines": 1}

    async def test_a_failed_parse_leaves_the_old_version(self, database: Database, references: References) -> None:
        document = await references.add(text="one", source="s")
        with pytest.raises(DocumentError):
            await references.add(data=b"\n", source="s")
        assert [chunk.text for chunk in await references.chunks(document.id)] == ["one"]

    @settings(max_examples=15)
    @given(
        versions=st.lists(
            st.lists(st.sampled_from(["a", "b", "c", "H|a", "I|a", "d e"]), min_size=1, max_size=6), max_size=5
        ),
        indexed=st.lists(st.booleans(), min_size=5, max_size=5),
    )
    async def test_every_version_reads_as_written_and_the_index_holds_the_current_one(
        self, database: Database, versions: list[list[str]], indexed: list[bool]
    ) -> None:
        tenant = str(uuid4())
        references = References(database, tenant=tenant, parser=parse_lines)
        passages = Passages(database, tenant=tenant)
        written: list[list[str]] = []
        for lines, index in zip(versions, indexed, strict=False):
            document = await references.add(text="\n".join(lines), source="s")
            if document.status != "unchanged":
                written.append(lines)
            if index:
                await passages.catch_up()
        await passages.catch_up()
        if not written:
            return
        for number, lines in enumerate(written, start=1):
            found = await references.chunks(document.id, version=number)
            assert ["|".join([*chunk.heading_path, chunk.text]) for chunk in found] == lines
        current = {chunk.id for chunk in await references.chunks(document.id)}
        in_index = await database.fetch("SELECT id FROM memory.passages WHERE tenant_id = $1", tenant)
        assert {row["id"] for row in in_index} == current


class TestConcurrency:
    async def test_the_same_content_at_once_is_one_document(self, database: Database, references: References) -> None:
        added = await asyncio.gather(*(references.add(text="a\nb", source="s") for _ in range(8)))
        assert sorted(str(document.status) for document in added) == ["added"] + ["unchanged"] * 7
        assert (await rows(database))["chunks"] == 2

    async def test_other_contents_at_once_are_versions_in_a_row(
        self, database: Database, references: References, passages: Passages
    ) -> None:
        added = await asyncio.gather(*(references.add(text=f"same\n{number}", source="s") for number in range(12)))
        assert sorted(document.version for document in added) == list(range(1, 13))
        await passages.catch_up()
        current = {chunk.text for chunk in await references.chunks(added[0].id)}
        assert await searchable(database) == current

    async def test_the_index_is_right_when_it_is_built_meanwhile(
        self, database: Database, references: References, passages: Passages
    ) -> None:
        async def index() -> None:
            for _ in range(20):
                await passages.catch_up()

        async def write() -> None:
            for number in range(10):
                await references.add(text="\n".join(f"line {number + each}" for each in range(30)), source="s")

        await asyncio.gather(index(), write(), index())
        await passages.catch_up()
        assert await searchable(database) == {f"line {9 + each}" for each in range(30)}

    async def test_pruning_while_writing_loses_nothing(self, database: Database, references: References) -> None:
        document = await references.add(text="keep\n0", source="s")

        async def prune() -> None:
            for _ in range(15):
                await references.prune_versions()

        async def write() -> None:
            for number in range(15):
                await references.add(text=f"keep\n{number % 3}", source="s")

        await asyncio.gather(prune(), write(), prune())
        assert [chunk.text for chunk in await references.chunks(document.id)] == ["keep", "2"]

    async def test_removing_while_writing_leaves_all_or_nothing(
        self, database: Database, references: References, passages: Passages
    ) -> None:
        async def write() -> None:
            for number in range(10):
                await references.add(text=f"a\n{number}", source="s")
                await passages.catch_up()

        async def remove() -> None:
            for _ in range(10):
                await references.remove_collection("default")

        await asyncio.gather(write(), remove())
        await references.remove_collection("default")
        await passages.catch_up()
        assert await rows(database) == dict.fromkeys(TABLES, 0)

    async def test_a_deadlock_with_the_one_who_stores_vectors_is_not_the_callers(
        self, database: Database, references: References, passages: Passages
    ) -> None:
        document = await references.add(text="old", source="s")
        await passages.catch_up()
        async with database.transaction() as other:
            await other.execute("SET LOCAL deadlock_timeout = '1min'")  # so that it is not the one to give way
            await other.execute("SELECT FROM memory.passages FOR UPDATE")
            update = asyncio.create_task(references.add(text="new", source="s"))
            while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await other.execute("SELECT FROM memory.documents FOR UPDATE")
        assert (await update).version == 2
        assert [chunk.text for chunk in await references.chunks(document.id)] == ["new"]


class TestReading:
    async def test_the_citation_leads_to_the_place(self, database: Database, file: Path) -> None:
        references = References(database, tenant="acme")
        document = await references.add(file)
        chunks = await references.chunks(document.id)
        assert [chunk.ordinal for chunk in chunks] == list(range(document.chunk_count))
        for chunk in chunks:
            assert HANDBOOK[chunk.citation.start : chunk.citation.end] == chunk.text
        trains = next(chunk for chunk in chunks if "second class" in chunk.text)
        assert trains.heading_path == ("Handbook", "Travel", "Trains")
        assert trains.citation.section == "Handbook > Travel > Trains"
        assert (trains.citation.source, trains.citation.title) == (file.as_posix(), "Handbook")

    async def test_a_citation_resolves_to_its_passage(self, references: References) -> None:
        document = await references.add(text="one\ntwo", source="s")
        for chunk in await references.chunks(document.id):
            assert chunk.citation.uri == f"memory://reference/{document.id}/1#{chunk.id}"
            assert await references.resolve(chunk.citation.uri) == chunk

    async def test_a_citation_of_an_old_version_still_resolves(self, references: References) -> None:
        document = await references.add(text="one\ntwo", source="s")
        old = (await references.chunks(document.id))[1]
        await references.add(text="zero\none", source="s")
        assert await references.resolve(old.citation.uri) == old

    async def test_a_citation_of_another_document_does_not(self, references: References) -> None:
        first = await references.add(text="one", source="s")
        second = await references.add(text="two", source="t")
        (chunk,) = await references.chunks(first.id)
        with pytest.raises(NotFoundError):
            await references.resolve(f"memory://reference/{second.id}/1#{chunk.id}")

    @pytest.mark.parametrize(
        "uri",
        [
            "",
            None,
            "memory://reference/x/1#y",
            "memory://message/1",
            f"memory://reference/{NOBODY}",
            f"memory://reference/{NOBODY}/1",
            f"memory://reference/{NOBODY}/one#{NOBODY}",
            f"memory://reference/{NOBODY}/99999999999#{NOBODY}",
            f"https://example.org/{NOBODY}/1#{NOBODY}",
        ],
    )
    async def test_what_is_no_citation(self, references: References, uri: Any) -> None:
        with pytest.raises(InvalidInputError):
            await references.resolve(uri)

    async def test_a_chunk_is_found_in_the_latest_version_that_has_it(self, references: References) -> None:
        document = await references.add(text="one\ntwo", source="s")
        one, two = await references.chunks(document.id)
        await references.add(text="zero\none", source="s")
        assert (await references.chunk(one.id)).citation.version == 2
        assert (await references.chunk(str(two.id))).citation.version == 1
        assert (await references.chunk(one.id, version=1)) == one

    async def test_reading_around_a_passage(self, references: References) -> None:
        document = await references.add(text="\n".join("abcdefg"), source="s")
        around = await references.chunks(document.id, start=2, limit=3)
        assert [chunk.text for chunk in around] == ["c", "d", "e"]
        assert await references.chunks(document.id, start=7) == []

    @pytest.mark.parametrize("wrong", ["", "x", None, 7, "1; DROP TABLE memory.documents"])
    async def test_what_is_no_id(self, references: References, wrong: Any) -> None:
        for method in (references.get, references.chunks, references.chunk, references.remove):
            with pytest.raises(InvalidInputError):
                await method(wrong)

    async def test_what_is_not_there(self, references: References) -> None:
        for method in (
            references.get,
            references.chunks,
            references.chunk,
            references.remove,
            references.prune_versions,
        ):
            with pytest.raises(NotFoundError):
                await method(uuid4())

    async def test_a_version_that_is_not_there(self, references: References) -> None:
        document = await references.add(text="a", source="s")
        with pytest.raises(NotFoundError, match="version 2"):
            await references.chunks(document.id, version=2)

    async def test_hydrating_gives_the_first_place_in_the_current_version(self, references: References) -> None:
        document = await references.add(text="gone\nsame", source="s", metadata={"topic": "x"})
        gone, same = await references.chunks(document.id)
        await references.add(text="new\nsame\nsame", source="s")
        found = await references.hydrate([gone.id, same.id, uuid4()])
        assert set(found) == {same.id}
        assert (found[same.id].citation.version, found[same.id].citation.line) == (2, 2)
        assert found[same.id].metadata == {"topic": "x", "lines": 3}

    async def test_hydrating_stays_in_the_tenant(self, database: Database, references: References) -> None:
        document = await references.add(text="a")
        (chunk,) = await references.chunks(document.id)
        assert await References(database, tenant="other").hydrate([chunk.id]) == {}

    async def test_tenants_do_not_see_each_other(self, database: Database, references: References) -> None:
        document = await references.add(text="a")
        other = References(database, tenant="other")
        assert (await other.list()).items == []
        with pytest.raises(NotFoundError):
            await other.get(document.id)
        with pytest.raises(NotFoundError):
            await other.remove(document.id)


class TestUsers:
    @pytest.fixture
    async def documents(self, references: References) -> dict[str | None, UUID]:
        return {user: (await references.add(text="a", user_id=user)).id for user in (None, "ada", "bob")}

    async def test_a_user_sees_their_own_and_everyones(
        self, references: References, documents: dict[str | None, UUID]
    ) -> None:
        listed = await references.list(user_id="ada")
        assert {document.user_id for document in listed.items} == {None, "ada"}
        assert (await references.get(documents[None], user_id="ada")).user_id is None
        (chunk,) = await references.chunks(documents["bob"])
        for read in (
            references.get(documents["bob"], user_id="ada"),
            references.chunks(documents["bob"], user_id="ada"),
            references.chunk(chunk.id, user_id="ada"),
            references.resolve(chunk.citation.uri, user_id="ada"),
        ):
            with pytest.raises(NotFoundError):
                await read

    async def test_without_a_user_all_are_seen(self, references: References, documents: dict[str | None, UUID]) -> None:
        assert len((await references.list()).items) == len(documents)

    async def test_a_user_removes_their_own_only(
        self, references: References, documents: dict[str | None, UUID]
    ) -> None:
        for user in (None, "bob"):
            with pytest.raises(NotFoundError):
                await references.remove(documents[user], user_id="ada")
        assert (await references.remove(documents["ada"], user_id="ada"))["documents"] == 1

    async def test_the_objects_own_user_counts(self, database: Database, documents: dict[str | None, UUID]) -> None:
        of_ada = References(database, tenant="acme", user_id="ada")
        assert {document.user_id for document in (await of_ada.list()).items} == {None, "ada"}
        with pytest.raises(NotFoundError):
            await of_ada.get(documents["bob"])


class TestListing:
    async def test_pages_newest_first(self, references: References) -> None:
        added = [(await references.add(text=str(number), source=str(number))).id for number in range(7)]
        seen: list[UUID] = []
        cursor = None
        sizes = []
        while True:
            page = await references.list(limit=3, cursor=cursor)
            seen += [document.id for document in page.items]
            sizes.append(len(page.items))
            cursor = page.cursor
            if cursor is None:
                break
        assert sizes == [3, 3, 1]
        assert sorted(seen) == sorted(added)
        assert seen == sorted(seen, reverse=True)

    async def test_a_full_last_page_has_no_cursor(self, references: References) -> None:
        await references.add(text="a")
        assert (await references.list(limit=1)).cursor is None
        assert (await references.list(limit=0)).items == []

    async def test_by_collection(self, references: References) -> None:
        await references.add(text="a", collection="one")
        await references.add(text="a", collection="two")
        listed = await references.list(collection="two")
        assert [document.collection for document in listed.items] == ["two"]

    async def test_listed_is_what_add_gave(self, references: References) -> None:
        added = await references.add(text="a\nb", metadata={"topic": "x"})
        (listed,) = (await references.list()).items
        assert listed == replace(added, status=None)

    @pytest.mark.parametrize("cursor", ["", "x", "é", "a" * 50, 7])
    async def test_a_cursor_of_nobody(self, references: References, cursor: Any) -> None:
        with pytest.raises(InvalidInputError):
            await references.list(cursor=cursor)


class TestRemoving:
    async def test_nothing_is_left(self, database: Database, references: References, passages: Passages) -> None:
        document = await references.add(text="one\ntwo", source="s")
        await passages.catch_up()
        await references.add(text="two\nthree", source="s")
        assert await references.remove(document.id) == {
            "documents": 1,
            "document_versions": 2,
            "chunks": 3,
            "chunk_places": 4,
            "passages": 1,
            "index_queue": 1,
        }
        assert await rows(database) == dict.fromkeys(TABLES, 0)

    async def test_others_stay(self, references: References) -> None:
        first = await references.add(text="same", source="s")
        second = await references.add(text="same", source="t")
        await references.remove(first.id)
        assert [chunk.text for chunk in await references.chunks(second.id)] == ["same"]

    async def test_a_user_is_erased(self, references: References) -> None:
        for user in (None, "ada", "bob"):
            await references.add(text="a\nb", user_id=user, source="s")
            await references.add(text="c", user_id=user, source="t")
        counts = await references.remove_user("ada")
        assert (counts["documents"], counts["chunks"]) == (2, 3)
        assert {document.user_id for document in (await references.list()).items} == {None, "bob"}

    async def test_erasing_a_user_needs_a_user(self, references: References) -> None:
        with pytest.raises(InvalidInputError):
            await references.remove_user("")

    async def test_a_collection_is_erased(self, references: References) -> None:
        await references.add(text="a", collection="old")
        kept = await references.add(text="a", collection="new")
        assert (await references.remove_collection("old"))["documents"] == 1
        assert [document.id for document in (await references.list()).items] == [kept.id]

    async def test_pruning_keeps_what_is_still_used(
        self, database: Database, references: References, passages: Passages
    ) -> None:
        document = await references.add(text="one\ntwo", source="s")
        old = (await references.chunks(document.id))[1]
        await references.add(text="one\nthree", source="s")
        await references.add(text="one\nfour", source="s")
        await passages.catch_up()
        assert await references.prune_versions(keep=2) == {"document_versions": 1, "chunk_places": 2, "chunks": 1}
        assert [chunk.text for chunk in await references.chunks(document.id, version=2)] == ["one", "three"]
        with pytest.raises(NotFoundError):
            await references.resolve(old.citation.uri)
        await references.prune_versions(document.id)
        assert [chunk.text for chunk in await references.chunks(document.id)] == ["one", "four"]
        assert await searchable(database) == {"one", "four"}

    @pytest.mark.parametrize("keep", [0, -1, "1"])
    async def test_the_current_version_is_never_pruned(self, references: References, keep: Any) -> None:
        with pytest.raises(InvalidInputError):
            await references.prune_versions(keep=keep)


class TestRoundTrips:
    async def test_reading_is_one_statement(self, counting: CountingDatabase) -> None:
        references = References(counting, tenant="acme", parser=parse_lines)
        document = await references.add(text="a\nb")
        (chunk, _) = await references.chunks(document.id)
        for operation in (
            references.list,
            lambda: references.get(document.id),
            lambda: references.chunks(document.id),
            lambda: references.chunk(chunk.id),
            lambda: references.resolve(chunk.citation.uri),
            lambda: references.hydrate([chunk.id]),
        ):
            counting.sent.clear()
            await operation()
            assert len(counting.sent) == 1

    async def test_writing_takes_the_same_statements_however_long_the_document(
        self, counting: CountingDatabase
    ) -> None:
        references = References(counting, tenant="acme", parser=parse_lines)
        await references.add(text="a", source="warm up")  # the driver asks for the types of arrays once
        sent = []
        for source, size in (("short", 1), ("long", 3_000)):
            counting.sent.clear()
            await references.add(text="\n".join(f"line {each}" for each in range(size)), source=source)
            sent.append(len(counting.sent))
        assert sent[0] == sent[1] <= 5


class TestManyFiles:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("a.md", "sub/b.txt", "sub/deep/c.MD", ".hidden.md", ".git/config.md", "picture.xyz"):
            path = tmp_path / "docs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {name}\n\nText of {name}.")
        return tmp_path / "docs"

    async def test_a_folder_with_all_below(self, references: References, folder: Path) -> None:
        report = await references.add_many([folder])
        assert (report.added, report.failed) == (3, [])
        listed = (await references.list()).items
        assert {Path(document.source).name for document in listed} == {"a.md", "b.txt", "c.MD"}

    async def test_again_all_are_unchanged_and_not_parsed(
        self, database: Database, references: References, folder: Path
    ) -> None:
        await references.add_many(folder)
        report = await References(database, tenant="acme", parser=refuse_to_parse).add_many(folder)
        assert (report.added, report.updated, report.unchanged) == (0, 0, 3)

    async def test_a_changed_file_is_updated(self, references: References, folder: Path) -> None:
        await references.add_many(folder)
        (folder / "a.md").write_text("changed")
        report = await references.add_many(folder)
        assert (report.updated, report.unchanged) == (1, 2)

    async def test_patterns(self, references: References, folder: Path) -> None:
        assert (await references.add_many([str(folder / "*.md")])).added == 1
        assert (await references.add_many(str(folder / "**" / "*.txt"))).added == 1

    async def test_patterns_from_where_we_are(
        self, references: References, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        report = await references.add_many(["**/*.txt", "*.md", "../docs/sub/*/*"])
        assert (report.added, report.failed) == (3, [])

    async def test_hidden_files_are_taken_when_named(self, references: References, folder: Path) -> None:
        assert (await references.add_many([folder / ".hidden.md"])).added == 1

    async def test_a_file_named_twice_is_added_once(self, references: References, folder: Path) -> None:
        report = await references.add_many([folder / "a.md", folder, str(folder / "a.*"), folder])
        assert (report.added, report.unchanged, report.failed) == (3, 0, [])

    async def test_links_in_a_circle_end(self, references: References, folder: Path) -> None:
        (folder / "sub" / "up").symlink_to(folder)
        (folder / "self").symlink_to(folder / "self")
        (folder / "broken.md").symlink_to(folder / "gone.md")
        (folder / "sub" / "twin").symlink_to(folder / "sub" / "deep")
        report = await asyncio.wait_for(references.add_many([folder]), 30)
        assert {(Path(name).name, reason[:18]) for name, reason in report.failed} == {
            ("up", "The link leads bac"),
            ("self", "The link leads to "),
            ("broken.md", "The link leads to "),
        }
        report = await asyncio.wait_for(references.add_many([str(folder / "**" / "*.md")]), 30)
        assert [Path(name).name for name, _ in report.failed] == ["broken.md"]
        assert len((await references.list()).items) == 3

    async def test_one_bad_file_stops_nothing(self, database: Database, folder: Path) -> None:
        (folder / "empty.md").write_text("")
        (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nonsense")
        (folder / "binary.txt").write_bytes(bytes(range(256)) * 20)
        report = await References(database, tenant="acme").add_many(
            [folder, folder / "gone.md", "https://example.org/x.md", str(folder / "*.nothing"), folder / "picture.xyz"]
        )
        assert report.added >= 3
        failed = {name.rsplit("/", 1)[-1]: reason for name, reason in report.failed}
        assert {"empty.md", "broken.pdf", "gone.md", "x.md", "*.nothing"} <= set(failed)
        assert "There is no file" in failed["gone.md"]
        assert "fetching is not enabled" in failed["x.md"]
        assert all(reason for reason in failed.values())

    async def test_a_folder_that_gives_nothing_is_named(self, references: References, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        report = await references.add_many([tmp_path / "empty"])
        assert [Path(name).name for name, _ in report.failed] == ["empty"]

    async def test_progress_is_told_file_by_file(self, references: References, folder: Path) -> None:
        told: list[Progress] = []
        await references.add_many([folder, folder / "gone.md"], on_progress=told.append)
        assert [one.done for one in told] == [1, 2, 3, 4]
        assert {one.total for one in told} == {4}
        assert sorted(one.status for one in told) == ["added", "added", "added", "failed"]

    async def test_no_more_documents_at_once_than_allowed(self, database: Database, folder: Path) -> None:
        at_once, most = 0, 0

        def watch(data: bytes | str, **keywords: Any) -> ParsedDocument:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            parsed = parse_lines(data, **keywords)
            at_once -= 1
            return parsed

        for number in range(30):
            (folder / f"{number}.txt").write_text(f"text {number}")
        report = await References(database, tenant="acme", parser=watch).add_many(folder, concurrency=2)
        assert report.added == 33
        assert most <= 2

    async def test_labels_reach_every_document(self, references: References, folder: Path) -> None:
        await references.add_many(folder, collection="docs", user_id="ada", metadata={"batch": 1})
        for document in (await references.list(collection="docs", user_id="ada")).items:
            assert (document.user_id, document.metadata["batch"]) == ("ada", 1)

    async def test_processes_parse_too(self, database: Database, folder: Path) -> None:
        references = References(database, tenant="acme", parser=parse_lines)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
            report = await references.add_many(folder, executor=executor)
        assert (report.added, report.failed) == (3, [])

    async def test_a_database_that_is_gone_ends_the_run(self, folder: Path) -> None:
        gone = Database("postgresql://nobody@127.0.0.1:1/nothing", connect_timeout=2)
        with pytest.raises(DatabaseUnavailableError):
            await References(gone, tenant="acme", parser=parse_lines).add_many(folder)
        await gone.close()

    async def test_a_run_that_is_ended_can_be_taken_up(self, references: References, folder: Path) -> None:
        with pytest.raises(ZeroDivisionError):
            await references.add_many(folder, concurrency=1, on_progress=lambda _: 1 / 0)
        report = await references.add_many(folder)
        assert (report.added, report.unchanged) == (2, 1)

    @pytest.mark.parametrize("concurrency", [0, 33, -1, "2"])
    async def test_a_concurrency_that_makes_no_sense(self, references: References, concurrency: Any) -> None:
        with pytest.raises(InvalidInputError):
            await references.add_many([], concurrency=concurrency)

    async def test_nothing_named_is_nothing_done(self, references: References) -> None:
        report = await references.add_many([])
        assert (report.added, report.updated, report.unchanged, report.failed) == (0, 0, 0, [])

    def test_files_come_in_a_stable_order(self, folder: Path) -> None:
        found = find_files([folder], {".md", ".txt"})
        assert [path.name for path in found.files] == ["a.md", "b.txt", "c.MD"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_a_folder_that_may_not_be_read_is_named(self, folder: Path) -> None:
        (folder / "sub").chmod(0)
        try:
            found = find_files([folder], {".md", ".txt"})
        finally:
            (folder / "sub").chmod(0o755)
        assert [Path(name).name for name, _ in found.problems] == ["sub"]


class TestSearching:
    async def test_an_object_of_its_own_has_no_search(self, references: References) -> None:
        with pytest.raises(ConfigurationError):
            await references.search("anything")

    async def test_passages_are_found_and_cited(self, core: MemoryCore, file: Path) -> None:
        document = await core.references.add(file)
        (hit,) = await core.references.search("second class", limit=1)
        assert hit.citation is not None
        assert hit.citation.section == "Handbook > Travel > Trains"
        passage = await core.references.resolve(hit.citation.uri)
        assert (passage.text, passage.document_id) == (hit.text, document.id)

    async def test_what_left_the_document_is_not_found(self, core: MemoryCore) -> None:
        await core.references.add(text="# A\n\nThe zebra sleeps.", source="s")
        assert await core.references.search("zebra")
        await core.references.add(text="# A\n\nThe lion sleeps.", source="s")
        assert await core.references.search("zebra") == []

    async def test_by_collection_user_and_metadata(self, core: MemoryCore) -> None:
        await core.references.add(text="zebra one", collection="one", metadata={"year": 2020})
        await core.references.add(text="zebra two", collection="two", user_id="ada")
        found = [
            await core.references.search("zebra", collection="one"),
            await core.references.search("zebra", filter={"year": {"$gte": 2020}}),
            await core.references.search("zebra", user_id="bob"),
            await core.references.search("zebra", collection="two", user_id="ada"),
        ]
        assert [[hit.text for hit in hits] for hits in found] == [
            ["zebra one"],
            ["zebra one"],
            ["zebra one"],
            ["zebra two"],
        ]


class TestAroundAPassage:
    @pytest.fixture
    async def manual(self, core: MemoryCore) -> UUID:
        parts = [f"# Part {number}\n\nStep {number} of the zebra manual." for number in range(5)]
        document = await core.references.add(text="\n\n".join(parts), source="manual.md", media_type="text/markdown")
        await core.references.add(text="A lion is no zebra.", source="other")
        return document.id

    async def test_neighbours_come_with_a_hit_in_the_order_of_the_document(
        self, core: MemoryCore, manual: UUID
    ) -> None:
        hits = await core.references.search("Step 2 of the zebra manual", neighbours=1)
        hit = next(hit for hit in hits if "Step 2" in hit.text)
        assert [each.citation.line for each in hit.neighbours if each.citation] == [5, 13]
        first = next(hit for hit in hits if "Step 0" in hit.text)
        assert [each.citation.line for each in first.neighbours if each.citation] == [5]
        assert all(each.citation and each.citation.uri != hit.citation.uri for each in hit.neighbours if hit.citation)
        assert (await core.references.search("zebra"))[0].neighbours == ()

    async def test_neighbours_are_of_the_version_cited(self, core: MemoryCore, manual: UUID) -> None:
        (hit, *_) = await core.references.search("Step 2 of the zebra manual")
        await core.references.add(text="# Part 2\n\nOnly this.", source="manual.md", media_type="text/markdown")
        (again,) = await core.references.with_neighbours([hit], 1)
        assert len(again.neighbours) == 2

    async def test_results_by_document(self, core: MemoryCore, manual: UUID) -> None:
        found = await core.references.search_documents("zebra", passages=2)
        assert {each.document.source: len(each.hits) for each in found} == {"manual.md": 2, "other": 1}
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
        assert len(await core.references.search_documents("zebra", limit=1)) == 1
        assert await core.references.search_documents("giraffe") == []

    async def test_versions_are_told_until_they_are_pruned(self, core: MemoryCore, manual: UUID) -> None:
        await core.references.add(text="Only this.", source="manual.md")
        newest, first = await core.references.versions(manual)
        assert (newest.version, newest.chunk_count, newest.current) == (2, 1, True)
        assert (first.version, first.chunk_count, first.current) == (1, 5, False)
        await core.references.prune_versions(manual)
        assert [each.version for each in await core.references.versions(manual)] == [2]
        with pytest.raises(NotFoundError):
            await core.references.versions(uuid4())

    async def test_the_retriever_gives_the_text_around_and_says_where(self, memory: Memory) -> None:
        parts = [f"# Part {number}\n\nStep {number} of the zebra manual." for number in range(3)]
        await memory.references.add(text="\n\n".join(parts), source="manual.md", media_type="text/markdown")
        (document,) = await memory.retriever(limit=1, neighbours=1).ainvoke("Step 1 of the zebra manual")
        places = [document.page_content.index(f"Step {number}") for number in range(3)]
        assert places == sorted(places)
        assert (document.metadata["line"], document.metadata["version"]) == (5, 1)
        assert document.metadata["uri"].startswith("memory://reference/")


class Pages(BaseLoader):
    """A loader of LangChain: two pages of one file, a row of another, and what cannot be stored."""

    def __init__(self, *documents: LangChainDocument) -> None:
        self.documents = documents

    def lazy_load(self) -> Iterator[LangChainDocument]:
        yield from self.documents


def page_of(text: str, **metadata: Any) -> LangChainDocument:
    return LangChainDocument(page_content=text, metadata=metadata)


class TestLoaders:
    async def test_the_pages_of_a_source_are_one_document_that_is_cited_by_page(self, core: MemoryCore) -> None:
        loader = Pages(
            page_of("Zebras sleep.", source="zoo.pdf", page=0, author="Ada", title="The zoo"),
            page_of("Lions roar.", source="zoo.pdf", page=1, author="Ada", title="The zoo"),
            page_of("name: Leo", source="animals.csv", row=0),
            page_of("name: Zoe", source="animals.csv", row=1),
        )
        report = await core.references.add_documents(loader, collection="zoo", metadata={"batch": 7})
        assert (report.added, report.failed) == (2, [])
        (hit,) = await core.references.search("lions", limit=1)
        assert hit.citation is not None
        assert (hit.citation.title, hit.citation.source, hit.citation.page) == ("The zoo", "zoo.pdf", 2)
        assert (hit.metadata["author"], hit.metadata["batch"]) == ("Ada", 7)
        (row,) = await core.references.search("Zoe", limit=1)
        assert (row.text, row.metadata["row"]) == ("name: Zoe", 1)

    async def test_loaded_again_only_what_changed_is_another_version(self, core: MemoryCore) -> None:
        pages = [page_of("Zebras sleep.", source="zoo.pdf", page=0), page_of("Lions roar.", source="zoo.pdf", page=1)]
        await core.references.add_documents(pages)
        assert (await core.references.add_documents(pages)).unchanged == 1
        (before,) = await core.references.search("zebras", limit=1)
        assert (await core.references.add_documents(pages[:1])).updated == 1
        (after,) = await core.references.search("zebras", limit=1)
        assert after.id == before.id
        assert await core.references.search("lions") == []

    async def test_a_bad_document_is_named_and_the_rest_goes_in(self, core: MemoryCore) -> None:
        told: list[Progress] = []
        report = await core.references.add_documents(
            [
                page_of("one", source="a"),
                page_of("  ", source="empty"),
                page_of("two", source="b"),
                page_of("late", source="a"),
                page_of("# Kiln\n\nHot.", source="kiln.md"),
                page_of("no source at all"),
            ],
            on_progress=told.append,
        )
        assert (report.added, [name for name, _ in report.failed]) == (4, ["empty", "a"])
        assert [each.status for each in told] == ["added", "failed", "added", "failed", "added", "added"]
        (hit,) = await core.references.search("hot", limit=1)
        assert hit.citation is not None and hit.citation.section == "Kiln"

    @pytest.mark.parametrize("documents", [7, "text", {"page_content": "x"}, ["text"], [None]])
    async def test_what_is_no_document_is_refused(self, core: MemoryCore, documents: Any) -> None:
        with pytest.raises(InvalidInputError, match="LangChain documents|page_content"):
            await core.references.add_documents(documents)


class TestBadInput:
    """A folder in which everything is wrong that can be: each is named with a reason, the rest goes in."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "docs"
        (folder / "sub").mkdir(parents=True)
        (folder / "good.md").write_text("# Good\n\nThis one is fine.")
        (folder / "sub" / "also good.txt").write_text("Fine, too.")
        (folder / "latin.txt").write_bytes("Déjà payé à l'hôtel, ça coûte très cher.\n".encode("latin-1") * 5)
        (folder / "broken.pdf").write_bytes(b"%PDF-1.7\n1 0 obj <<")
        (folder / "protected.pdf").write_bytes(_protected_pdf())
        with (folder / "huge.txt").open("wb") as file:
            file.truncate(200 * 1024 * 1024)
        (folder / "binary.txt").write_bytes(bytes(range(256)) * 40)
        (folder / "wrong.txt").write_bytes(b"\xff\xfe\x00\xd8 broken UTF-16")
        (folder / "empty.md").write_bytes(b"")
        (folder / "loop").symlink_to(folder)
        (folder / "circle.md").symlink_to(folder / "circle.md")
        with zipfile.ZipFile(folder / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("word/document.xml", b"<w>" + b"a" * 40_000_000)
        return folder

    async def test_each_is_reported_by_name_and_reason(self, database: Database, folder: Path) -> None:
        report = await References(database, tenant="acme").add_many([folder])
        assert report.added == 3
        reasons = {Path(name).name: reason for name, reason in report.failed}
        expected = {
            "broken.pdf": "not a readable PDF",
            "protected.pdf": "protected by a password",
            "huge.txt": "larger than the 128 MiB",
            "binary.txt": "binary data",
            "wrong.txt": "broken at byte",
            "empty.md": "is empty",
            "loop": "leads back to a folder",
            "circle.md": "leads to itself",
            "bomb.docx": "32 MiB when unpacked",
        }
        assert set(reasons) == set(expected)
        assert {name for name, words in expected.items() if words not in reasons[name]} == set()


def _protected_pdf() -> bytes:
    from pypdf import PdfWriter

    writer, stream = PdfWriter(), io.BytesIO()
    writer.add_blank_page(200, 200)
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(stream)
    return stream.getvalue()
