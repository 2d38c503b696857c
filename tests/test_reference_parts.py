"""API descriptions in several files: read whole, from below their folder alone, and known by all that was read."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from memory_plugin.capabilities import reference_adding, reference_parts
from memory_plugin.capabilities.reference_files import read_file
from memory_plugin.capabilities.reference_parts import parts_of
from memory_plugin.capabilities.references import References
from memory_plugin.core import MemoryCore
from memory_plugin.db.database import Database
from memory_plugin.errors import ContentTooLargeError, DocumentError, InvalidInputError
from memory_plugin.parsers import parse, read
from memory_plugin.types import ParsedDocument

API = """openapi: 3.0.3
info: {title: Payments, version: "1"}
paths:
  /refunds: {$ref: "paths/refunds.yaml"}
  /payouts:
    get:
      $ref: './paths/refunds.yaml#/list'
components:
  schemas:
    Refund: {$ref: schemas/Refund.yaml}
"""

FILES = {
    "openapi.yaml": API,
    "paths/refunds.yaml": """
list: {summary: List payouts, parameters: [{$ref: "../parameters.json#/limit"}], responses: {}}
post:
  operationId: createRefund
  summary: Give money back
  requestBody:
    content:
      application/json:
        schema:
          $ref: >-
            ../schemas/Refund.yaml
  responses:
    "201": {description: Made, content: {application/json: {schema: {$ref: "../openapi.yaml#/components/schemas/Refund"}}}}
    "400": {$ref: "../schemas/Problem.json#/definitions/Problem~1response"}
""",
    "parameters.json": '{"limit": {"name": "limit", "in": "query", "schema": {"type": "integer"}}}',
    "schemas/Refund.yaml": """
type: object
required: [amount]
properties:
  amount: {type: integer, description: In cents.}
  parent: {$ref: "#"}
  payout: {$ref: Payout.json}
""",
    "schemas/Payout.json": r'{"type": "object", "properties": {"iban": {"type": "string"}, '
    r'"refund": {"$ref": "..\/schemas\/Refund.yaml"}}}',
    "schemas/Problem.json": '{"definitions": {"Problem/response": {"description": "Refused"}}}',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path / "api", FILES)
    return tmp_path / "api"


def written(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def description(*references: str) -> str:
    return json.dumps({"openapi": "3.1.0", "info": {"title": "T"}, "paths": {r: {"$ref": r} for r in references}})


def read_whole(path: Path) -> ParsedDocument:
    content = read_file(path)
    reading = read(content.data, name=content.name, parts=content.parts)
    return ParsedDocument(reading.title, reading.media_type, reading.text, list(reading.chunks()), reading.metadata)


def test_operations_and_schemas_of_other_files_are_passages_that_name_their_file(folder: Path) -> None:
    document = read_whole(folder / "openapi.yaml")
    whole = [chunk for chunk in document.chunks if chunk.metadata.get("kind") != "overview"]
    assert [(chunk.heading_path[-1], chunk.metadata["file"], chunk.line) for chunk in whole] == [
        ("POST /refunds: Give money back", "paths/refunds.yaml", 4),
        ("GET /payouts: List payouts", "paths/refunds.yaml", 6),
        ("Refund", "schemas/Refund.yaml", 10),
        ("Payout", "schemas/Payout.json", None),
    ]
    create, listing, refund, payout = (chunk.text for chunk in whole)
    assert "- amount (integer, required): In cents." in create
    assert "- 201: Made Returns Refund." in create
    assert "- 400: Refused" in create
    assert "- limit (query, integer)" in listing
    assert "- parent (Refund)" in refund
    assert "- payout (Payout)" in refund
    assert "- iban (string)" in payout
    assert (document.metadata["operations"], document.metadata["schemas"]) == (2, 2)


def test_a_schema_in_several_files_names_the_types_of_the_others(tmp_path: Path) -> None:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "properties": {"to": {"$ref": "address.json"}}}
    address = {"type": "object", "description": "Where it goes."}
    written(tmp_path, {"order.json": json.dumps(schema), "address.json": json.dumps(address)})
    assert "- to (address): Where it goes." in read_whole(tmp_path / "order.json").text


def test_without_its_files_a_description_is_read_alone() -> None:
    assert "Schema Refund (schemas/Refund.yaml)" in parse(API, name="openapi.yaml").text


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("../secret.yaml", "not below the folder"),
        ("paths/../../secret.yaml", "not below the folder"),
        ("..%2fsecret.yaml", "not below the folder"),
        ("link.yaml", "not below the folder"),
        ("linked/secret.yaml", "not below the folder"),
        ("/etc/secret.yaml", "not below the folder"),
        ("https://example.com/a.yaml", "only files are read"),
        ("file:///etc/a.yaml", "only files are read"),
        ("//example.com/a.yaml", "only files are read"),
        ("missing.yaml", "no such file"),
        ("notes.txt", "only JSON and YAML"),
        (".hidden/a.yaml", "only JSON and YAML"),
        ("folder.yaml", "not a regular file"),
        ("pipe.yaml", "not a regular file"),
        ("loop.yaml", "cannot be read"),
        ("a\x00b.yaml", "only files are read"),
    ],
)
def test_what_is_not_read_is_said_with_the_reason(tmp_path: Path, reference: str, why: str) -> None:
    folder = tmp_path / "api"
    written(tmp_path, {"secret.yaml": "a: 1", "api/notes.txt": "x", "api/.hidden/a.yaml": "a: 1"})
    (folder / "folder.yaml").mkdir()
    os.mkfifo(folder / "pipe.yaml")
    (folder / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "loop.yaml").symlink_to("loop.yaml")
    parts = parts_of(folder / "openapi.json", f'openapi: 3.0.0\nx: {{$ref: "{reference}"}}'.encode())
    assert parts.data == {}
    (notice,) = parts.notices
    assert why in notice


def test_files_in_a_circle_are_read_once_and_their_number_and_size_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    circle = {f"{number}.json": json.dumps({"$ref": f"{(number + 1) % 40}.json"}) for number in range(40)}
    written(tmp_path, {**circle, "openapi.json": description("0.json")})
    data = (tmp_path / "openapi.json").read_bytes()
    assert len(parts_of(tmp_path / "openapi.json", data).data) == 40
    assert read_whole(tmp_path / "openapi.json").metadata["operations"] == 0
    for limit, value in (("MAX_PARTS", 39), ("MAX_TOGETHER", 500)):
        monkeypatch.setattr(reference_parts, limit, value)
        with pytest.raises(ContentTooLargeError, match="bundle"):
            parts_of(tmp_path / "openapi.json", data)
        monkeypatch.undo()


def test_a_broken_file_is_named(folder: Path) -> None:
    (folder / "schemas/Refund.yaml").write_text("a: [1")
    with pytest.raises(DocumentError, match=r"'schemas/Refund.yaml' is not valid YAML"):
        read_whole(folder / "openapi.yaml")


async def test_a_change_in_any_of_the_files_is_the_next_version(core: MemoryCore, folder: Path) -> None:
    api, payout = folder / "openapi.yaml", folder / "schemas/Payout.json"
    assert [(await core.references.add(api)).status for _ in range(2)] == ["added", "unchanged"]
    payout.write_text(payout.read_text().replace("iban", "account"))
    document = await core.references.add(api)
    assert (document.status, document.version) == ("updated", 2)
    assert any("account" in chunk.text for chunk in await core.references.chunks(document.id))
    payout.unlink()
    assert (await core.references.add(api)).status == "updated"


async def test_a_folder_with_a_description_is_one_document_and_the_report_says_so(
    core: MemoryCore, folder: Path
) -> None:
    written(folder, {"event.json": '{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "string"}'})
    (folder / "openapi.yaml").write_text(API + "    Event: {$ref: event.json}\n    Gone: {$ref: gone.json}\n")
    report = await core.references.add_many(folder)
    assert (report.added, report.failed) == (2, [])  # a schema is a document by itself too
    name = (folder / "openapi.yaml").as_posix()
    assert report.notices == [
        (name, "Read with 6 other files that it refers to."),
        (name, "Not read, because there is no such file: 'gone.json'."),
    ]
    assert (await core.references.add_many([folder, folder / "parameters.json"])).added == 1, "it was named itself"
    (hit, *_) = await core.references.search("give money back")
    assert hit.metadata["file"] == "paths/refunds.yaml"


async def test_documents_in_memory_at_once_are_bounded_by_number_and_by_size(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from the reading of a file until its rows are written: 40 of a kilobyte, three of a hundred."""
    sizes = [100_000 if number % 15 == 14 else 1_000 for number in range(45)]
    for number, size in enumerate(sizes):
        (tmp_path / f"{number:02}.txt").write_text((f"{number} " + "a b " * size)[:size])
    references = References(database, tenant="acme")
    held: list[int] = []
    most = {"documents": 0, "characters": 0}
    read, add = references._content, references._add

    async def content(place: Any) -> Any:
        found = await read(place)
        held.append(len(found.data))
        most["documents"] = max(most["documents"], len(held))
        most["characters"] = max(most["characters"], sum(held))
        return found

    async def added(content: Any, *rest: Any) -> Any:
        size = len(content.data)
        await asyncio.sleep(0)
        document = await add(content, *rest)
        assert content.data == b"", "what was parsed is let go before it is written"
        held.remove(size)
        return document

    monkeypatch.setattr(references, "_content", content)
    monkeypatch.setattr(references, "_add", added)
    monkeypatch.setattr(reference_adding, "ROOM", 3 * 3_000)
    report = await references.add_many(tmp_path, concurrency=8)
    assert (report.added, held) == (45, [])
    assert 2 <= most["documents"] <= 3
    assert most["characters"] == 100_000, "a large one is alone"


async def test_missing_are_those_of_the_one_who_asks_below_the_folder(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "100%_a"  # no pattern
    written(folder, {"gone.md": "a", "deep/gone.md": "b", "kept.md": "c"})
    written(tmp_path, {"100%_ab/gone.md": "d", "1000_a/gone.md": "e"})
    acme, other = References(database, tenant="acme"), References(database, tenant="other")
    for references in (acme, other):
        await references.add_many(tmp_path)
    await acme.add_many(folder, user_id="ada")
    await acme.add_many(folder, collection="more")
    await acme.add(text="a text", source=f"{folder.as_posix()}/given")
    for name in ("100%_a/gone.md", "100%_a/deep/gone.md", "100%_ab/gone.md", "1000_a/gone.md"):
        (tmp_path / name).unlink()
    await other.remove_collection("default")

    found = [document.source.removeprefix(f"{folder.as_posix()}/") for document in await acme.missing(folder)]
    assert found == ["deep/gone.md", "given", "gone.md"]
    assert [each.user_id for each in await acme.missing([folder], user_id="ada")] == ["ada", "ada"]
    assert await acme.missing(folder, user_id="bob") == await acme.missing(folder, collection="none") == []
    assert await other.missing(folder) == await acme.missing([]) == []
    with pytest.raises(InvalidInputError):
        await acme.missing("a\x00b")
