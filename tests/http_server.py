"""The server's HTTP application on a port of this machine, on a thread and a loop of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import uvicorn

from mcp_server.access import CoreAccess
from mcp_server.http import http_app, protocol
from mcp_server.oauth import AccessTokens
from mcp_server.server import build_server
from mcp_server.settings import ServerSettings
from memory_plugin.core import MemoryCore
from tests.conftest import run_sql, with_database

T = TypeVar("T")


@dataclass
class Answer:
    """An answer of the server."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Serving:
    """A server that runs, and a way into its loop."""

    url: str
    access: CoreAccess
    loop: asyncio.AbstractEventLoop

    def run(self, work: Callable[[MemoryCore], Awaitable[T]]) -> T:
        """Do something with the server's own store."""

        async def inside() -> T:
            return await work(await self.access.core())

        return asyncio.run_coroutine_threadsafe(inside(), self.loop).result(60)

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> Answer:
        """Send a request; a body that is no bytes goes as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.url}{path}", data=data, method=method)
        if data is not None:
            asked.add_header("Content-Type", "application/json")
        if token is not None:
            asked.add_header("Authorization", f"Bearer {token}")
        for name, value in headers.items():
            asked.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(asked, timeout=30) as response:
                return Answer(
                    response.status, {k.lower(): v for k, v in response.headers.items()}, response.read().decode()
                )
        except urllib.error.HTTPError as error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read().decode())


@contextmanager
def serving(
    database_url: str, settings: ServerSettings | None = None, *, oauth: AccessTokens | None = None
) -> Iterator[Serving]:
    """A server over this database, until the end of the block."""
    settings = settings or ServerSettings()
    access = CoreAccess(
        lambda: MemoryCore.open(database_url, tenant=settings.tenant, user_id=settings.user_id, embeddings=False)
    )
    server = build_server(access, read_only=settings.read_only)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = http_app(server, access, replace(settings, port=port), oauth=oauth)
    runner = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", http=protocol()))
    ready, loops = threading.Event(), []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with access:
            await access.core()
            ready.set()
            await runner.serve(sockets=[listening])

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield Serving(f"http://127.0.0.1:{port}", access, loops[0])
    finally:
        runner.should_exit = True
        thread.join(30)
        listening.close()


@contextmanager
def own_database(server_url: str, template: str, name: str) -> Iterator[str]:
    """A migrated database for a whole module, so that its tests share one server."""
    run_sql(
        server_url,
        f"DROP DATABASE IF EXISTS {name} WITH (FORCE)",
        f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY",
    )
    yield with_database(server_url, name)
    run_sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")
