"""The benchmark of recall runs, and its table goes where it belongs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.recall.corpus import Corpus
from benchmarks.recall.report import PLACE, Report, Row
from benchmarks.recall.run import Plan, run

ROOT = Path(__file__).resolve().parent.parent


async def test_a_small_run_measures_every_cell(server_url: str) -> None:
    """With copies for another tenant, all rows are filled, and the words of a small tenant are exact."""
    report = await run(Plan((200,), 400, 12, 5, url=server_url), lambda _: None)
    assert all(set(row.cells) == {200} for row in report.rows)
    agreement = next(row for row in report.rows if "BM25" in row.title)
    assert set(agreement.cells.values()) == {"1.000"}
    assert agreement.met
    assert report.markdown().count("\n|") == len(report.rows) + 1


def test_texts_repeat_with_their_seed_and_a_question_has_words_of_its_answer() -> None:
    one, other = Corpus(7), Corpus(7)
    texts = [one.text() for _ in range(20)]
    assert texts == [other.text() for _ in range(20)]
    assert all(len(set(one.question(text).split()) & set(text.split())) >= 3 for text in texts)


def test_the_table_goes_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{PLACE.begin}\nold\n{PLACE.end}\nafter\n", "utf-8")
    Report([Row("recall", {10: "1 ms"}, "p95 under 2 ms", True)], [10], {"machine": "one"}).write_docs(page)
    text = page.read_text("utf-8")
    assert "| recall | 1 ms | p95 under 2 ms | yes |" in text
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    page.write_text("nothing here", "utf-8")
    with pytest.raises(ValueError, match="once each"):
        Report([], [], {}).write_docs(page)


def test_the_page_of_the_benchmarks_has_the_markers() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert text.count(PLACE.begin) == text.count(PLACE.end) == 1
