"""The real process: stdio and HTTP in both eras, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from mcp_server.wire import Incoming, Outgoing

ROOT = Path(__file__).parent.parent
ERAS = {"auto": "2026-07-28", "legacy": "2025-11-25"}
COMMAND = [sys.executable, "-m", "mcp_server"]

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
RECALL = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {"name": "recall", "arguments": {"query": "tea"}},
}


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "MEMORY_EMBEDDINGS": "none", **more}


@contextmanager
def process(*arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(**env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()
        for pipe in (started.stdin, started.stdout, started.stderr):
            assert pipe is not None
            pipe.close()


def exchange(server: subprocess.Popen[str], *messages: dict[str, Any]) -> dict[str, Any]:
    """Send messages; the answer to the last one."""
    assert server.stdin is not None and server.stdout is not None
    for message in messages:
        server.stdin.write(json.dumps(message) + "\n")
    server.stdin.flush()
    while True:
        line = server.stdout.readline()
        assert line, server.stderr.read() if server.stderr else ""
        answer: dict[str, Any] = json.loads(line)
        if answer.get("id") == messages[-1].get("id"):
            return answer


def handshake(server: subprocess.Popen[str]) -> None:
    assert exchange(server, INITIALIZE)["result"]["protocolVersion"] == "2025-11-25"


async def round_trip(client: Client) -> None:
    stored = await client.call_tool("remember", {"content": "Alice drinks green tea"})
    assert not stored.is_error, stored.content
    found = await client.call_tool("recall", {"query": "what does Alice drink?"})
    assert found.structured_content is not None
    [hit] = found.structured_content["results"]
    assert hit["id"] == (stored.structured_content or {})["id"]
    resource = await client.read_resource(f"memory://memory/{hit['id']}")
    assert "green tea" in resource.contents[0].text
    with pytest.raises(MCPError):
        await client.read_resource("memory://memory/none")


async def connections(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return count
    finally:
        await connection.close()


# -- stdio


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_over_stdio_remembers_and_recalls(database_url: str, era: str) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "mcp_server", "--user", "alice"],
        cwd=ROOT,
        env=environment(MEMORY_DATABASE_URL=database_url),
    )
    async with Client(server, mode=era) as client:
        assert client.protocol_version == ERAS[era]
        await round_trip(client)


def end_of_input(server: subprocess.Popen[str]) -> None:
    assert server.stdin is not None
    server.stdin.close()


def interrupt(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGINT)


def terminate(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGTERM)


ENDS = [end_of_input, interrupt, terminate]


@pytest.mark.parametrize("end", ENDS)
async def test_every_end_is_clean(database_url: str, end: Any) -> None:
    with process(MEMORY_DATABASE_URL=database_url) as server:
        await asyncio.to_thread(handshake, server)
        answer = await asyncio.to_thread(exchange, server, INITIALIZED, RECALL)
        assert answer["result"]["isError"] is False
        assert await connections(database_url) > 0
        end(server)
        assert await asyncio.to_thread(server.wait, 10) == 0
        assert server.stderr is not None and server.stderr.read() == ""
    assert await connections(database_url) == 0


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_at_once_while_the_database_does_not_answer(end: Any) -> None:
    """A dead address would be waited for as long as MEMORY_CONNECT_TIMEOUT says."""
    with process(MEMORY_DATABASE_URL="postgresql://u@192.0.2.1/none", MEMORY_CONNECT_TIMEOUT="60") as server:
        handshake(server)
        assert server.stdin is not None
        server.stdin.write(json.dumps(INITIALIZED) + "\n" + json.dumps(RECALL) + "\n")
        server.stdin.flush()
        time.sleep(1)
        began = time.monotonic()
        end(server)
        assert server.wait(10) == 0
        assert time.monotonic() - began < 5


def test_a_database_that_is_not_there_is_told_by_each_call() -> None:
    with process(MEMORY_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/none") as server:
        handshake(server)
        for _ in range(2):
            result = exchange(server, INITIALIZED, RECALL)["result"]
            assert result["isError"] is True
            assert "127.0.0.1" in result["content"][0]["text"]
        end_of_input(server)
        assert server.wait(10) == 0
        assert server.stderr is not None
        logged = server.stderr.read()
    assert "could not be opened" in logged and "hunter2" not in logged


def test_a_line_that_is_no_message_does_not_end_the_conversation(database_url: str) -> None:
    with process(MEMORY_DATABASE_URL=database_url) as server:
        assert server.stdin is not None
        handshake(server)
        server.stdin.write("not json\n")
        assert exchange(server, INITIALIZED, RECALL)["result"]["isError"] is False


def test_a_client_that_stopped_reading_is_no_crash(database_url: str) -> None:
    with process(MEMORY_DATABASE_URL=database_url) as server:
        handshake(server)
        assert server.stdin is not None and server.stdout is not None and server.stderr is not None
        server.stdout.close()
        server.stdin.write(json.dumps(INITIALIZED) + "\n" + json.dumps(RECALL) + "\n")
        server.stdin.flush()
        time.sleep(2)
        end_of_input(server)
        assert server.wait(10) == 0
        assert server.stderr.read() == ""


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


async def test_a_signal_that_comes_when_all_is_over_is_no_error() -> None:
    with pipe() as (reading, _):
        source = Incoming(reading)
        source.end()
        assert [line async for line in source] == []
        source.end()


async def test_a_signal_ends_an_input_that_is_waited_for() -> None:
    with pipe() as (reading, writing):
        source = Incoming(reading)
        os.write(writing, b"first\nunfin")
        assert await anext(source) == "first\n"
        asyncio.get_running_loop().call_later(0.05, source.end)
        assert await anext(source) == "unfin"
        with pytest.raises(StopAsyncIteration):
            await anext(source)


@given(
    texts=st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])), max_size=6),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=20),
)
async def test_lines_are_whole_however_they_come(texts: list[str], cuts: list[int]) -> None:
    """Also where a piece ends within a character, and where the last line has no end."""
    data = "\n".join(texts).encode()
    with pipe() as (reading, writing):
        source = Incoming(reading)
        got = asyncio.create_task(_all_of(source))
        for size in itertools.cycle(cuts):
            os.write(writing, data[:size])
            data = data[size:]
            await asyncio.sleep(0)
            if not data:
                break
        os.close(os.dup(writing))
        source_end = os.open(os.devnull, os.O_RDONLY)
        os.dup2(source_end, writing)  # the writer goes
        os.close(source_end)
        assert (await got) == "\n".join(texts)


async def _all_of(source: Incoming) -> str:
    return "".join([line async for line in source])


async def test_a_file_is_read_like_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"one\ntwo\xff\n")
    with (tmp_path / "lines").open("rb") as file:
        assert [line async for line in Incoming(file.fileno())] == ["one\n", "two\ufffd\n"]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
async def test_an_answer_larger_than_what_fits_waits_without_holding_the_others_up(kind: str) -> None:
    """The descriptor stays blocking: whoever shares it would not expect anything else."""
    ends = os.pipe() if kind == "pipe" else tuple(end.detach() for end in socket.socketpair())
    reading, writing = ends
    with closing(Outgoing(writing)) as outgoing:
        try:
            await outgoing.write("small\n")
            assert os.read(reading, 100) == b"small\n"
            writing_all = asyncio.create_task(outgoing.write("x" * 3_000_000 + "\n"))
            await asyncio.sleep(0.05)
            assert not writing_all.done()
            assert os.get_blocking(writing)
            taken = b""
            while not taken.endswith(b"\n"):
                taken += await asyncio.to_thread(os.read, reading, 1 << 20)
            await writing_all
            assert len(taken) == 3_000_001
        finally:
            os.close(reading)
            os.close(writing)


async def test_answers_come_in_their_order_while_nobody_reads() -> None:
    with pipe() as (reading, writing), closing(Outgoing(writing)) as outgoing:
        sent = "".join(f"{number:09}\n" for number in range(20_000))

        async def write() -> None:
            for start in range(0, len(sent), 10_000):
                await outgoing.write(sent[start : start + 10_000])

        task = asyncio.create_task(write())
        got = b""
        while len(got) < len(sent):
            got += await asyncio.to_thread(os.read, reading, 4096)
        await task
        assert got.decode() == sent


def test_a_closed_standard_input_is_told() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m mcp_server <&-', sys.executable],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "standard input is closed" in done.stderr


def test_the_last_server_out_stops_the_embedded_database(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with process(MEMORY_DATA_DIR=str(data)) as first, process(MEMORY_DATA_DIR=str(data)) as second:
        for server in (first, second):
            handshake(server)
            assert exchange(server, INITIALIZED, RECALL)["result"]["isError"] is False
        postmaster = next(data.rglob("postmaster.pid"))
        pid = int(postmaster.read_text().split()[0])
        end_of_input(first)
        assert first.wait(20) == 0
        assert exchange(second, RECALL)["result"]["isError"] is False
        terminate(second)
        assert second.wait(20) == 0
    assert not postmaster.exists()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# -- HTTP


@contextmanager
def http_server(*arguments: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server on a free port; the process and its address."""
    with process("--http", "--port", "0", *arguments, **env) as server:
        assert server.stderr is not None
        line = server.stderr.readline()
        match = re.search(r"http://\S+(?=/mcp)", line)
        assert match is not None, line + server.stderr.read()
        yield server, match[0]


def get(url: str, **headers: str) -> tuple[int, str]:
    return request(urllib.request.Request(url, headers=headers))


def post(url: str, body: bytes, **headers: str) -> tuple[int, str]:
    accepted = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **headers}
    return request(urllib.request.Request(f"{url}/mcp", data=body, headers=accepted))


def announced(url: str, size: int) -> int:
    """The answer to a body that is only announced."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    try:
        connection.putrequest("POST", "/mcp")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def request(asked: urllib.request.Request) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(asked, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def test_clients_over_http_remember_recall_and_leave(database_url: str) -> None:
    with http_server("--user", "alice", MEMORY_DATABASE_URL=database_url) as (server, url):
        for era, version in ERAS.items():
            async with Client(streamable_http_client(f"{url}/mcp"), mode=era) as client:
                assert client.protocol_version == version
                await round_trip(client)
        assert await asyncio.to_thread(get, f"{url}/readyz") == (200, '{"status":"ok"}')
        terminate(server)
        assert await asyncio.to_thread(server.wait, 10) == 0
    assert await connections(database_url) == 0


def test_only_this_machines_own_pages_and_names_are_answered(database_url: str) -> None:
    body = json.dumps(INITIALIZE).encode()
    with http_server(MEMORY_DATABASE_URL=database_url) as (server, url):
        assert post(url, body)[0] == 200
        assert post(url, body, Origin=url)[0] == 200
        assert post(url, body, Host="evil.example")[0] == 421
        assert post(url, body, Host="127.0.0.1.evil.example:80")[0] == 421
        assert post(url, body, Origin="https://evil.example")[0] == 403
        assert announced(url, 4 * 1024 * 1024 + 1) == 413
        interrupt(server)
        assert server.wait(10) == 0


def test_it_is_alive_but_not_ready_without_its_database() -> None:
    with http_server(MEMORY_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/none") as (_, url):
        assert get(f"{url}/healthz") == (200, '{"status":"ok"}')
        status, body = get(f"{url}/readyz")
    assert (status, json.loads(body)) == (503, {"status": "unavailable", "reason": "DatabaseUnavailableError"})


def test_a_port_that_is_taken_ends_with_a_reason(database_url: str) -> None:
    with http_server(MEMORY_DATABASE_URL=database_url) as (_, url):
        done = subprocess.run(
            [*COMMAND, "--http", "--port", url.rpartition(":")[2]],
            cwd=ROOT,
            env=environment(MEMORY_DATABASE_URL=database_url),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert "choose another --port" in done.stderr and "Traceback" not in done.stderr
