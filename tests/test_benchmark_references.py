"""The benchmark of references: it reads the layout of BEIR, counts as BEIR does, and a small run is whole."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.references.__main__ import GROUPS, markdown, measure
from benchmarks.references.beir import docstrings, load, ndcg, recall
from memory_plugin.chunking import ChunkSizes


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    folder = tmp_path / "small"
    (folder / "qrels").mkdir(parents=True)
    texts = {
        "d1": "Stoneware is fired at 1240 degrees.",
        "d2": "Porcelain cracks when it dries too fast.",
        "d3": "An invoice is due in thirty days.",
        "d4": "",
    }
    rows = [{"_id": key, "title": "Kiln" if key == "d1" else "", "text": text} for key, text in texts.items()]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    queries = {"q1": "how hot is stoneware fired", "q2": "when is an invoice due", "q3": "not judged"}
    (folder / "queries.jsonl").write_text("\n".join(json.dumps({"_id": k, "text": v}) for k, v in queries.items()))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td3\t1\nq2\td2\t0\n")
    return folder


def test_a_set_is_read_by_its_path(small_set: Path) -> None:
    data = load(small_set)
    assert (data.name, len(data.corpus), set(data.queries)) == ("small", 4, {"q1", "q2"})
    assert data.relevant == {"q1": {"d1": 1}, "q2": {"d3": 1}}
    assert data.corpus[0].whole == "Kiln\n\nStoneware is fired at 1240 degrees."
    (small_set / "qrels" / "test.tsv").unlink()
    with pytest.raises(ValueError, match="layout of BEIR"):
        load(small_set)


def test_gains_are_counted_as_beir_counts_them() -> None:
    relevant = {"a": 2, "b": 1}
    ideal = 2 + 1 / math.log2(3)
    assert ndcg(["a", "b"], relevant) == 1
    assert ndcg(["x", "a"], relevant) == pytest.approx(2 / math.log2(3) / ideal)
    assert ndcg([*"0123456789", "a"], relevant) == 0
    assert recall(["b", "x"], relevant) == 0.5


def test_the_set_that_is_made_here_asks_for_what_it_has() -> None:
    data = docstrings(20)
    assert len(data.corpus) == len(data.queries) == 20
    assert all(data.queries[each.id] not in each.text for each in data.corpus)


async def test_a_small_run_is_whole(server_url: str, small_set: Path) -> None:
    report = await measure(
        GROUPS, [load(small_set)], lambda *_: None, files=3, large=0.02, chunks=20, url=server_url, questions=3
    )
    (found,) = report["quality"]
    assert found["systems"][0].ndcg == 1
    assert [each.failed for each in report["ingest"]] == [0, 0, 0]
    assert report["ingest"][0].chunks > 3
    assert report["search"]["chunks"] > 10
    table = markdown(report)
    assert "references.search" in table and "| limited by |" in table and "95% under" in table


async def test_passages_of_several_sizes_are_compared(server_url: str, small_set: Path) -> None:
    long = {"_id": "d5", "text": " ".join(f"Sentence {number} is about glazing." for number in range(40))}
    with (small_set / "corpus.jsonl").open("a") as file:
        file.write("\n" + json.dumps(long))
    sizes = [ChunkSizes(32, 40), ChunkSizes(400, 512)]
    report = await measure(
        ["sizes"], [load(small_set)], lambda *_: None, files=0, large=0, chunks=0, url=server_url, sizes=sizes
    )
    small, large = report["sizes"][0]["cuts"]
    assert small.passages > large.passages == 4
    assert large.both == 1
    assert "| 400 (512) tokens | 4 | 1.000 |" in markdown(report)
