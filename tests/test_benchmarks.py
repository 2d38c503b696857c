"""The benchmark of the checkpointer: it runs, its report is whole, and its proxy is as far away as it says."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("langgraph.checkpoint.postgres.aio", reason="needs the extra `bench`")
pytest.importorskip("psycopg_pool", reason="needs the extra `bench`")

from benchmarks.checkpointer.measured import Result
from benchmarks.checkpointer.proxy import Proxy, Traffic, running_proxy
from benchmarks.checkpointer.report import PLACE, Report
from benchmarks.checkpointer.rows import BY_KEY, GROUPS, OFFICIAL, OURS, ROWS, chosen
from benchmarks.checkpointer.run import Plan, Size, run, steps

ROOT = Path(__file__).resolve().parent.parent
TINY = Size(iterations=3, turns=4, slices=1, seconds=0.05, tasks=3, shrink=50)


# ---------------------------------------------------------------- a whole run


async def test_a_tiny_run_fills_every_row_and_every_gate(server_url: str, tmp_path: Path) -> None:
    done = 0.0

    def advance(_: str, more: float) -> None:
        nonlocal done
        done += more

    plan = Plan(GROUPS, TINY, url=server_url)
    report = await run(plan, advance)
    assert done == steps(plan)
    report.write_json(tmp_path / "report.json")
    document = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert [each["key"] for each in document["rows"]] == [row.key for row in ROWS]
    for row in document["rows"]:
        assert {OURS, OFFICIAL} <= set(row["contenders"]), row["key"]
        assert row["ratio"] > 0
        assert isinstance(row["met"], bool) == (row["gate"] is not None)
    wired = {row["key"]: row["contenders"][OURS]["wire"] for row in document["rows"]}
    assert wired["aput-1000"]["round_trips"] >= 1
    table = report.markdown()
    assert all(f"| {row.title} |" in table and row.gate in table for row in ROWS)


# ---------------------------------------------------------------- options


def test_groups_are_named_by_how_they_begin() -> None:
    assert chosen(["aput", "aget"]) == ["aput", "aget_tuple"]
    assert chosen([]) == list(GROUPS)
    with pytest.raises(ValueError, match="'astream' is nothing that is measured"):
        chosen(["astream"])


def test_the_help_teaches_and_a_wrong_name_is_told() -> None:
    command = [sys.executable, "-m", "benchmarks.checkpointer"]
    shown = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--write-docs" in shown and "ours / postgres" in shown
    wrong = subprocess.run([*command, "--only", "astream"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2 and "nothing that is measured" in wrong.stderr


# ---------------------------------------------------------------- gates and report


@pytest.mark.parametrize(
    ("key", "ours", "official", "met"),
    [
        ("aput-10", 0.3, 1.0, True),
        ("aput-10", 0.31, 1.0, False),
        ("throughput-aput", 10.0, 1.0, True),
        ("throughput-aput", 9.9, 1.0, False),
        ("growth", 1.2, 0.1, True),
        ("growth", 1.3, 9.0, False),
        ("aput-1000-fresh", 9.0, 1.0, None),
    ],
)
def test_a_gate_is_about_the_ratio_or_about_ours_alone(
    key: str, ours: float, official: float, met: bool | None
) -> None:
    assert made(key, ours, official).met is met


def made(key: str, ours: float, official: float) -> Result:
    result = Result(BY_KEY[key])
    result.of(OURS).samples = [ours] * 3
    result.of(OFFICIAL).samples = [official] * 3
    return result


def test_the_tables_of_a_page_are_replaced_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{PLACE.begin}\nold\n{PLACE.end}\nafter\n", "utf-8")
    report = Report([made("aput-10", 0.2, 1.0)], {OURS: "a", OFFICIAL: "b"})
    report.write_docs(page)
    report.write_docs(page)
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{PLACE.begin}\n") and text.endswith(f"{PLACE.end}\nafter\n")
    assert "old" not in text and text.count("| aput, 10 messages | 0.20 (0.20) ms |") == 1


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing here", "utf-8")
    with pytest.raises(ValueError, match="once each"):
        Report([], {}).write_docs(page)
    assert page.read_text("utf-8") == "nothing here"


def test_the_page_of_the_benchmark_has_its_markers() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert text.count(PLACE.begin) == text.count(PLACE.end) == 1


# ---------------------------------------------------------------- the proxy


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[Proxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection by way of a proxy to a server that answers with what it was sent."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, running_proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        yield proxy, reader, writer
        writer.close()
        await writer.wait_closed()


async def test_the_proxy_counts_what_was_sent_together_as_one_round_trip() -> None:
    async with echo() as (proxy, reader, writer):
        writer.write(b"ab")
        await reader.readexactly(2)
        await proxy.take()
        for _ in range(3):
            writer.write(b"x" * 1000)
            writer.write(b"y" * 500)
            await reader.readexactly(1500)
        assert await proxy.take() == Traffic(3, 4500, 4500)
        assert await proxy.take() == Traffic()


async def test_a_round_trip_takes_the_delay_and_what_follows_closely_takes_no_longer() -> None:
    async with echo() as (proxy, reader, writer):
        await proxy.delay(0.1)
        began = time.perf_counter()
        for _ in range(20):
            writer.write(b"z" * 10_000)
            await asyncio.sleep(0.001)
        sent = time.perf_counter() - began
        assert await reader.readexactly(200_000) == b"z" * 200_000
        took = time.perf_counter() - began
    assert 0.1 <= took < 0.1 + sent + 0.5


async def test_the_proxy_closes_what_the_other_end_closed() -> None:
    async with echo() as (proxy, reader, writer):
        await proxy.delay(0.02)
        writer.write(b"last words")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) in {b"", b"last words"}
