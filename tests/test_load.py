"""Many agents of many tenants at once: no error, no memory that grows, no connection that is kept."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load.measured import Latencies, Measured, Sizes
from benchmarks.load.people import Everybody, LongTail
from benchmarks.load.report import SLACK, Left, Report

ROOT = Path(__file__).resolve().parent.parent


def test_a_short_load_leaves_nothing_behind(server_url: str, tmp_path: Path) -> None:
    """In a process of its own, whose memory is its own; a minute of the same is a step of CI."""
    command = [sys.executable, "-m", "benchmarks.load", "--seconds", "6", "--warm-up", "4", "--url", server_url]
    done = subprocess.run([*command, "--json", str(tmp_path / "load.json")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "load.json").read_text("utf-8"))
    assert found["problems"] == []
    assert {"agent turn", "recall", "mcp recall", "mcp remember"} <= found["operations"].keys()
    assert found["left"] == {"connections": 0, "tasks": 0, "files": 0}
    assert found["tenants_seen"] > 20
    assert "| agent turn |" in done.stdout


def report(**changes: object) -> Report:
    found = Report(10, 2, Measured(), Sizes(1.0))
    found.measured.operations["recall"] = Latencies(count=1)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_each_fault_of_a_run_is_a_problem_of_its_report() -> None:
    assert report().problems == []
    failed = report()
    with failed.measured.timed("recall"):
        raise ValueError("no")
    assert failed.problems == ["1 x recall: ValueError: no"]
    steady, grown = Sizes(1.0), Sizes(1.0)
    for second in range(60):
        steady.add(100 << 20)
        grown.add((100 << 20) + second * SLACK // 30)
    assert report(sizes=steady).problems == []
    assert "The memory grew by" in report(sizes=grown).problems[0]
    assert grown.slope == pytest.approx(2 * SLACK, rel=0.01)
    assert "not given back" in report(connections_lent=1).problems[0]
    assert report(left=Left(connections=2)).problems == ["2 connections were left open."]
    empty = report()
    empty.measured.operations.clear()
    assert empty.problems == ["Nothing was measured."]


def test_percentiles_are_right_to_two_percent_and_take_no_room() -> None:
    times = Latencies()
    for milliseconds in range(1, 1001):
        times.add(milliseconds / 1000)
    for part in (0.5, 0.95, 0.99):
        assert times.percentile(part) == pytest.approx(part * 1000, rel=0.02)
    sizes = Sizes(1.0)
    for _ in range(10_000):
        sizes.add(1)
    assert len(sizes.samples) <= 1200 and sizes.every > 1


def test_a_run_that_never_became_warm_took_no_time() -> None:
    measured = Measured()
    measured.end()
    assert (measured.seconds, measured.rate) == (0.0, 0.0)


def test_few_tenants_do_most_of_the_work() -> None:
    chance = random.Random(1)
    tail = LongTail(1000)
    picks = [tail.pick(chance) for _ in range(20_000)]
    assert max(picks) < 1000
    assert sum(pick < 10 for pick in picks) / len(picks) == pytest.approx(tail.share(10), abs=0.02)
    assert 0.4 < tail.share(10) < 0.6
    everybody = Everybody(1000, chance)
    seat = everybody.seat()
    assert everybody.end(seat).thread != seat.thread
