"""Names that lead elsewhere: links and dots in folders of documents, names inside of archives, addresses of resources."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from memory_plugin.capabilities.reference_files import find_files
from memory_plugin.core import MemoryCore
from memory_plugin.errors import DocumentError, MemoryPluginError
from memory_plugin.parsers import parse

TEXTS = {".md", ".txt"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of documents that a stranger filled, beside something private."""
    private = tmp_path / "private"
    private.mkdir()
    (private / "secret.md").write_text("the secret")
    docs = tmp_path / "docs"
    (docs / "sub").mkdir(parents=True)
    (docs / "sub" / "own.md").write_text("own")
    (docs / "again.md").symlink_to(docs / "sub" / "own.md")
    (docs / "file.md").symlink_to(private / "secret.md")
    (docs / "up.md").symlink_to("../private/secret.md")
    (docs / "all").symlink_to(private)
    (docs / "chain.md").symlink_to(docs / "file.md")
    return docs


@pytest.mark.parametrize("name", ["", "**/*.md", "*", "sub/../**/*.md"])
def test_links_out_of_the_folder_are_named_and_not_followed(folder: Path, name: str) -> None:
    found = find_files(folder / name if name else folder, TEXTS)
    assert {file.resolve() for file in found.files} == {folder / "sub" / "own.md"}
    assert any("leads out of the folder" in reason for _, reason in found.problems)


def test_a_file_and_a_linked_folder_that_are_named_themselves_are_taken(folder: Path) -> None:
    found = find_files([folder / "file.md", folder / "all"], TEXTS)
    assert [file.name for file in found.files] == ["file.md"]
    assert [file.name for file in find_files(folder / "all", TEXTS).files] == ["secret.md"]


async def test_nothing_outside_reaches_the_store(core: MemoryCore, folder: Path) -> None:
    report = await core.references.add_many(folder)
    assert report.added == 1
    assert await core.search_references("secret") == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..\\..\\x", "word/../../../x", "C:\\x"])
def test_names_inside_of_an_archive_are_never_paths(name: str, tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(name, "x")
    with pytest.raises(DocumentError):
        parse(data.getvalue(), name="a.docx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address",
    [
        "memory://reference/../../etc/passwd/1", "memory://memory/..%2f..%2fx", "file:///etc/passwd", "/etc/passwd",
        "memory://conversation/../other", "memory://reference/%00/1#0", "memory://working-memory/../../x", "memory://x",
        "memory://reference/01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11/-1#99999999999999999999",
    ],
)  # fmt: skip
async def test_an_address_is_looked_up_and_never_opened(core: MemoryCore, address: str) -> None:
    from mcp_server import answers
    from mcp_server.caller import Caller

    with pytest.raises((MemoryPluginError, ValueError)) as caught:
        await answers.item(Caller(core, "alice"), address, offset=0, max_tokens=500)
    assert "root:" not in str(caught.value)
