"""The documentation: its snippets run, its links lead somewhere, its references are complete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import run_sql
from tests.snippets import ROOT, Page

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def page_url(request: pytest.FixtureRequest, server_url: str) -> Iterator[str]:
    """The database of a page, empty where the page is about making it; roles that it makes are dropped."""
    fixture = "empty_database_url" if request.node.callspec.params["page"].stem == "migrations" else "database_url"
    yield request.getfixturevalue(fixture)
    run_sql(
        server_url,
        "DROP DATABASE IF EXISTS agents WITH (FORCE)",
        "DROP ROLE IF EXISTS agents_owner, agents_app",
    )


@pytest.mark.parametrize("page", PAGES, ids=named)
async def test_every_snippet_of_a_page_runs(
    page: Path, page_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_DATABASE_URL", page_url)
    monkeypatch.chdir(tmp_path)
    await Page(page, page_url, tmp_path).run()
