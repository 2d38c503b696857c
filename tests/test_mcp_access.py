"""One memory behind all requests: opened behind the handshake, opened again after a failure, closed at the end."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mcp import Client

from mcp_server import create_server
from mcp_server.access import CoreAccess
from memory_plugin.core import MemoryCore
from memory_plugin.errors import DatabaseUnavailableError
from memory_plugin.types import Hits
from tests.conftest import run_sql, with_database

ROOT = Path(__file__).parent.parent
ERAS = ["auto", "legacy"]


class Opener:
    """Opens something that answers `recall` with nothing, and notes what happened to it."""

    def __init__(self, *, before: Callable[[int], Awaitable[None]] | None = None) -> None:
        self._before = before
        self.opened = self.closed = self.attempts = 0
        self.tried, self.is_open = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Any]:
        self.attempts += 1
        self.tried.set()
        if self._before is not None:
            await self._before(self.attempts)
        self.opened += 1
        self.is_open.set()
        try:
            yield SimpleNamespace(user_id="alice", tenant="default", recall=self._recall)
        finally:
            self.closed += 1

    async def _recall(self, *_: object, **__: object) -> Hits:
        return Hits()


async def fails_once(attempt: int) -> None:
    if attempt == 1:
        raise DatabaseUnavailableError("The database cannot be reached: is it running?")


async def recall(client: Client) -> tuple[bool, str]:
    result = await client.call_tool("recall", {"query": "tea"})
    return bool(result.is_error), result.content[0].text


@pytest.mark.parametrize("era", ERAS)
async def test_handshake_and_lists_do_not_wait_for_the_memory(era: str) -> None:
    never = asyncio.Event()
    opener = Opener(before=lambda _: never.wait())  # type: ignore[arg-type, return-value]
    async with asyncio.timeout(10):
        async with Client(create_server(opener), mode=era) as client:
            assert (await client.list_tools()).tools
            assert (await client.list_resource_templates()).resource_templates
            await opener.tried.wait()
    assert opener.opened == 0


@pytest.mark.parametrize("era", ERAS)
async def test_the_memory_opens_by_itself_behind_the_handshake(era: str) -> None:
    opener = Opener()
    async with asyncio.timeout(10):
        async with Client(create_server(opener), mode=era):
            await opener.is_open.wait()
    assert opener.closed == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_failure_to_open_is_told_and_the_next_call_tries_again(era: str) -> None:
    opener = Opener(before=fails_once)
    async with Client(create_server(opener), mode=era) as client:
        assert await recall(client) == (True, "The database cannot be reached: is it running?")
        assert (await recall(client))[0] is False
    assert (opener.attempts, opener.opened, opener.closed) == (2, 1, 1)


async def test_a_bug_in_opening_shows_no_detail_to_the_client(caplog: pytest.LogCaptureFixture) -> None:
    async def crash(_: int) -> None:
        raise RuntimeError("postgresql://user:secret@host")

    async with Client(create_server(Opener(before=crash))) as client:
        failed, text = await recall(client)
    assert failed and "secret" not in text
    assert "The memory could not be opened" in caplog.text


async def test_calls_at_the_same_time_share_one_opening() -> None:
    opener = Opener(before=lambda _: asyncio.sleep(0.05))
    async with Client(create_server(opener)) as client:
        answers = await asyncio.gather(*(recall(client) for _ in range(10)))
    assert not any(failed for failed, _ in answers)
    assert (opener.opened, opener.closed) == (1, 1)


async def test_a_caller_that_gives_up_leaves_the_opening_to_the_others() -> None:
    opener = Opener(before=lambda _: asyncio.sleep(0.1))
    async with CoreAccess(opener) as access:
        impatient, patient = asyncio.create_task(access.core()), asyncio.create_task(access.core())
        await asyncio.sleep(0.01)
        impatient.cancel()
        assert (await patient).user_id == "alice"
    assert (opener.attempts, opener.closed) == (1, 1)


async def test_the_last_user_closes_the_memory() -> None:
    opener = Opener()
    access = CoreAccess(opener)
    async with access:
        async with access:
            await access.core()
        assert opener.closed == 0
    assert opener.closed == 1
    async with access:
        await access.core()
    assert (opener.opened, opener.closed) == (2, 2)


async def test_a_failure_to_close_is_logged_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def sticky() -> AsyncIterator[Any]:
        yield SimpleNamespace()
        raise DatabaseUnavailableError("The server would not stop.")

    async with CoreAccess(sticky) as access:
        await access.core()
    assert "not closed cleanly: The server would not stop." in caplog.text


async def test_an_open_memory_stays_open_after_serving(core: MemoryCore) -> None:
    async with Client(create_server(core)) as client:
        assert (await recall(client))[0] is False
    assert await core.recall("tea") == []


async def test_a_memory_given_as_a_function_is_opened_and_closed(database_url: str) -> None:
    cores: list[MemoryCore] = []

    def opening() -> MemoryCore:
        cores.append(MemoryCore.open(database_url, embeddings=False))
        return cores[-1]

    async with Client(create_server(opening)) as client:
        assert (await recall(client))[0] is False
    [used] = cores
    assert used.database.engine.pool.checkedin() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("era", ERAS)
async def test_a_database_that_goes_away_is_an_error_with_a_sentence(
    server_url: str, template: str, worker_id: str, era: str
) -> None:
    name = f"mcp_gone_{worker_id}"
    run_in_thread = asyncio.to_thread
    await run_in_thread(run_sql, server_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    async with (
        MemoryCore.open(with_database(server_url, name), embeddings=False) as opened,
        Client(create_server(opened), mode=era) as client,
    ):
        assert (await recall(client))[0] is False
        await run_in_thread(run_sql, server_url, f"DROP DATABASE {name} WITH (FORCE)")
        failed, sentence = await recall(client)
    assert failed
    assert name in sentence and "\n" not in sentence


def test_making_a_server_leaves_the_logging_of_the_application_alone() -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    create_server(Opener())
    assert (list(root.handlers), root.level) == (handlers, level)


HEAVY = ["sqlalchemy", "asyncpg", "numpy", "pydantic_settings", "memory_plugin.core", "langchain_core", "langgraph"]
STARTUP = """
import asyncio, json, sys
from mcp import Client
from mcp_server.access import CoreAccess, open_configured
from mcp_server.server import build_server
from mcp_server.settings import parse

def loaded():
    return [name for name in json.loads(sys.argv[2]) if name in sys.modules]

async def main():
    server = build_server(CoreAccess(lambda: open_configured(parse([]))))
    at_first_answer = []

    async def watch(ctx, call_next):
        result = await call_next(ctx)
        if not at_first_answer:
            at_first_answer.append((ctx.method, loaded()))
        return result

    server.middleware.append(watch)
    async with Client(server, mode=sys.argv[1]) as client:
        result = await client.call_tool("recall", {"query": "tea"})
    print(json.dumps([at_first_answer[0], bool(result.is_error), loaded()]))

asyncio.run(main())
"""


@pytest.mark.parametrize(("era", "first"), [("auto", "server/discover"), ("legacy", "initialize")])
def test_nothing_heavy_is_loaded_before_the_handshake_and_no_framework_ever(
    database_url: str, era: str, first: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTUP, era, json.dumps(HEAVY)],
        cwd=ROOT,
        env={"MEMORY_DATABASE_URL": database_url, "MEMORY_EMBEDDINGS": "none", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    at_first_answer, failed, at_the_end = json.loads(done.stdout)
    assert at_first_answer == [first, []]
    assert not failed
    assert not {"langchain_core", "langgraph"} & set(at_the_end)


def test_help_and_version_do_without_the_protocol_library() -> None:
    script = "import sys, mcp_server.__main__; print('mcp' in sys.modules, 'memory_plugin' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "False"]
