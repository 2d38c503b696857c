"""Change notices: from the database to those who subscribed and may read, in both eras."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.types import ResourceUpdatedNotification

from mcp_server import create_server
from memory_plugin.capabilities.changes import CHANNEL, Changes
from memory_plugin.core import MemoryCore
from memory_plugin.errors import UnsupportedError

SOON = 10.0

pytestmark = pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")  # what the older era subscribes by


class Heard:
    """The addresses that a client was told of."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self._news = asyncio.Event()

    def add(self, address: str) -> None:
        self.addresses.append(address)
        self._news.set()

    async def until(self, address: str) -> None:
        async with asyncio.timeout(SOON):
            while address not in self.addresses:
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def alice(database_url: str) -> AsyncIterator[MemoryCore]:
    async with MemoryCore.open(database_url, user_id="alice", embeddings=False) as opened:
        yield opened


@asynccontextmanager
async def hearing(core: MemoryCore, era: str, *addresses: str) -> AsyncIterator[Heard]:
    """A client that has subscribed to these."""
    heard = Heard()

    async def message(incoming: Any) -> None:
        if era == "legacy" and isinstance(incoming, ResourceUpdatedNotification):
            heard.add(str(incoming.params.uri))

    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(create_server(core), mode=era, message_handler=message))
        if era == "legacy":
            for address in addresses:
                await client.subscribe_resource(address)
            yield heard
            return
        stream = await stack.enter_async_context(client.listen(resource_subscriptions=list(addresses)))

        async def read() -> None:
            async for event in stream:
                heard.add(str(event.uri))  # type: ignore[union-attr]

        reading = asyncio.create_task(read())
        try:
            yield heard
        finally:
            reading.cancel()
            await asyncio.wait({reading})


async def remember(core: MemoryCore) -> None:
    await core.remember("Alice drinks green tea", user_id="alice")


async def say(core: MemoryCore) -> None:
    await core.conversations.append("trip", ["the ferry leaves at ten"])
    await core.indexed()


async def note(core: MemoryCore) -> None:
    await core.working_memory.update(f"Goal {datetime.now(UTC)}", user_id="alice")


async def note_of_thread(core: MemoryCore) -> None:
    await core.working_memory.update(f"Pack {datetime.now(UTC)}", thread_id="trip")


async def add(core: MemoryCore) -> None:
    await core.references.add(text="Tea.", title="Tea", user_id="alice")


async def rename(core: MemoryCore) -> None:
    await core.conversations.set_title("trip", "Island")


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_each_change_is_told_under_its_address(alice: MemoryCore, era: str) -> None:
    await alice.conversations.append("trip", ["the ferry leaves at nine"], user_id="alice")
    await alice.indexed()
    stored = await alice.remember("Alice lives in Rome", key="home")
    document = await alice.references.add(text="One.", title="Doc", source="doc", user_id="alice")
    changes: list[tuple[str, Callable[[MemoryCore], Awaitable[Any]]]] = [
        ("memory://memories", remember),
        (f"memory://memory/{stored.id}", lambda core: core.remember("Alice lives in Oslo", key="home")),
        ("memory://conversations", say),
        ("memory://conversation/trip", rename),
        ("memory://working-memory", note),
        ("memory://working-memory/trip", note_of_thread),
        ("memory://references", add),
        (
            f"memory://reference/{document.id}/1",
            lambda core: core.references.add(text="Two.", title="Doc", source="doc", user_id="alice"),
        ),
        (f"memory://memory/{stored.id}", lambda core: core.forget(item_id=stored.id)),
        ("memory://conversation/trip", lambda core: core.forget(thread_id="trip", hard=True)),
    ]
    async with hearing(alice, era, *dict.fromkeys(address for address, _ in changes)) as heard:
        for address, change in changes:
            heard.addresses.clear()
            await change(alice)
            await heard.until(address)
    assert await alice.database.fetchval("SELECT count(*) FROM memory.listeners") == 0, "nobody listens any more"


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_nobody_is_told_of_what_is_somebody_elses(alice: MemoryCore, era: str, database_url: str) -> None:
    """The same addresses mean other things to other users and tenants."""
    addresses = ("memory://memories", "memory://working-memory", "memory://conversations", "memory://references")
    async with (
        MemoryCore.open(database_url, user_id="bob", embeddings=False) as bob,
        MemoryCore.open(database_url, user_id="alice", tenant="other", embeddings=False) as stranger,
        hearing(bob, era, *addresses) as bobs,
        hearing(stranger, era, *addresses) as strangers,
        hearing(alice, era, *addresses) as own,
    ):
        for change in (remember, say, note, add):
            await change(alice)
        for address in addresses:
            await own.until(address)
        await bob.remember("Bob drinks coffee")
        await bobs.until("memory://memories")
        assert bobs.addresses == ["memory://memories"]
        assert strangers.addresses == []


def invalid(error: BaseException) -> bool:
    return isinstance(error, MCPError) and error.error.code == -32602


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_what_may_not_be_read_may_not_be_watched(alice: MemoryCore, era: str, database_url: str) -> None:
    stored = await alice.remember("Alice drinks green tea")
    await alice.conversations.create("trip", user_id="alice")
    document = await alice.references.add(text="Tea.", title="Tea", user_id="alice")
    async with MemoryCore.open(database_url, user_id="bob", embeddings=False) as bob:
        for address in (
            f"memory://memory/{stored.id}",
            "memory://conversation/trip",
            "memory://working-memory/trip",
            f"memory://reference/{document.id}/1",
            "memory://settings",
            "memory://else",
        ):
            with pytest.RaisesGroup(pytest.RaisesExc(MCPError, check=invalid), flatten_subgroups=True):
                async with hearing(bob, era, address):
                    pass


async def test_where_nobody_listens_nobody_is_told(alice: MemoryCore) -> None:
    """NOTIFY would make commits wait for each other."""
    connection = await alice.database.connect_alone()
    told: list[object] = []
    await connection.add_listener(CHANNEL, lambda *heard: told.append(heard[-1]))
    await remember(alice)
    await say(alice)
    await connection.execute("SELECT 1")
    await connection.close()
    assert told == []


async def test_a_lost_connection_is_replaced_and_all_look_again(alice: MemoryCore) -> None:
    changes, told = Changes(alice.database), asyncio.Event()
    watch = await changes.watch("default", "memories of alice", told.set)
    await alice.database.as_login().execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND query LIKE 'LISTEN%'"
    )
    async with asyncio.timeout(SOON):
        await told.wait()
        told.clear()
        await remember(alice)
        await told.wait()
    await watch.stop()
    await watch.stop()


async def test_notices_that_do_not_arrive_are_no_success(alice: MemoryCore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a pooler that shares connections, LISTEN succeeds and nothing is ever heard."""
    monkeypatch.setattr("memory_plugin.capabilities.changes._PROBE", 0.2)
    changes = Changes(alice.database)
    monkeypatch.setattr(changes, "_heard", lambda *_: None)
    with pytest.raises(UnsupportedError, match="behind a pooler"):
        await changes.watch("default", "memories of alice", lambda: None)
    await changes.close()
