"""The benchmark of the MCP server runs, and its gates are about what they say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.mcp.contenders import BARE, OURS, reference
from benchmarks.mcp.report import PLACE, ROWS, Report, Result
from benchmarks.mcp.run import Plan, run

ROOT = Path(__file__).resolve().parent.parent
TINY = Plan(starts=1, calls=2, memories=30, warm=0, npm=False)


async def test_a_tiny_run_fills_every_row(server_url: str, tmp_path: Path) -> None:
    report = await run(TINY.on(server_url), lambda _: None)
    assert [each.row for each in report.results] == list(ROWS)
    for each in report.results:
        assert set(each.samples) == {OURS, BARE}, each.row.key
        assert isinstance(each.met, bool) == bool(each.row.gate)
    assert report.facts["server-memory"] == "absent, left out by choice"
    assert report.facts["found"].startswith("ours 100%")
    table = report.markdown()
    assert all(f"| {row.title} |" in table and row.gate in table for row in ROWS)
    report.write_json(tmp_path / "report.json")
    assert len(json.loads((tmp_path / "report.json").read_text("utf-8"))["rows"]) == len(ROWS)


@pytest.mark.parametrize(
    ("key", "ours", "bare", "met"),
    [
        ("start", 114.0, 100.0, True),
        ("start", 116.0, 100.0, False),
        ("stdio-recall", 9.9, 0.5, True),
        ("stdio-recall", 10.1, 50.0, False),
        ("rss", 121.0, 200.0, False),
        ("stdio-remember", 900.0, 1.0, None),
    ],
)
def test_a_gate_is_about_the_ratio_or_about_ours_alone(key: str, ours: float, bare: float, met: bool | None) -> None:
    result = Result(next(row for row in ROWS if row.key == key), {OURS: [ours], BARE: [bare]})
    assert result.met is met
    assert (result in Report([result], {OURS: "a", BARE: "b"}, {}).missed) is (met is False)


def test_without_node_the_reference_server_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert reference(tmp_path, []) == "no Node.js"


def test_the_page_of_the_benchmarks_has_the_markers() -> None:
    assert PLACE.is_on(ROOT / "docs" / "benchmarks.md")
