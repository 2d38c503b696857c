"""The documentation: its snippets run, its links lead somewhere, its references are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.snippets import ROOT, Page

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=named)
async def test_every_snippet_of_a_page_runs(
    page: Path, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    await Page(page, database_url, tmp_path).run()
