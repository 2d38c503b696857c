"""One database for a module of checkpointer tests, and a tenant of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from memory_plugin import Memory
from memory_plugin.langgraph import ConversationSaver
from tests.conftest import run_sql, with_database
from tests.saver_tools import opened

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def shared_url(server_url: str, template: str, worker_id: str) -> Iterator[str]:
    """A migrated database of the module's own."""
    name = f"shared_{worker_id}_{next(_numbers)}"
    run_sql(server_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    run_sql(server_url, f"ALTER DATABASE {name} SET deadlock_timeout = '50ms'")
    yield with_database(server_url, name)
    run_sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def tenant() -> str:
    """A tenant that nobody else is."""
    return f"tenant-{next(_numbers)}"


@pytest.fixture
async def both(shared_url: str, tenant: str) -> AsyncIterator[tuple[Memory, ConversationSaver]]:
    """An open store and its checkpointer."""
    async with opened(shared_url, tenant) as pair:
        yield pair


@pytest.fixture
def store(both: tuple[Memory, ConversationSaver]) -> Memory:
    """The open store."""
    return both[0]


@pytest.fixture
def saver(both: tuple[Memory, ConversationSaver]) -> ConversationSaver:
    """Its checkpointer."""
    return both[1]
