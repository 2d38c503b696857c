"""Streamable HTTP on this machine, and whether the server is healthy."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from types import FrameType
from typing import TYPE_CHECKING

from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_server.access import CoreAccess
from memory_plugin.errors import ConfigurationError, MemoryPluginError

if TYPE_CHECKING:
    from starlette.applications import Starlette

logger = logging.getLogger(__name__)

READY_TIMEOUT = 5.0
"""Seconds the readiness check waits for the database."""

_BACKLOG = 2048

_GRACE = 5
"""Seconds that open requests have to finish when the server stops."""


def add_health(server: MCPServer[CoreAccess], access: CoreAccess) -> None:
    """Add `/healthz` (the process answers) and `/readyz` (the database does); neither shows stored data."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                await ping(access)
        except TimeoutError:
            return JSONResponse({"status": "starting"}, status_code=503)
        except MemoryPluginError as error:
            logger.warning("Not ready: %s", error)
            return JSONResponse({"status": "unavailable", "reason": type(error).__name__}, status_code=503)
        return JSONResponse({"status": "ok"})

    server.custom_route("/healthz", methods=["GET"])(healthz)
    server.custom_route("/readyz", methods=["GET"])(readyz)


async def ping(access: CoreAccess) -> None:
    """Ask the database for an answer.

    Raises:
        MemoryPluginError: the memory cannot be opened, or the database does not answer.
    """
    core = await access.core()
    await core.database.fetchval("SELECT 1")


def http_app(server: MCPServer[CoreAccess], *, host: str = "127.0.0.1") -> Starlette:
    """The ASGI application: `/mcp`, `/healthz` and `/readyz`.

    It answers only requests that name this machine as their host, so that no web page reaches it by
    letting its own name point here. Every request stands alone: no sessions, plain JSON answers.
    """
    names = list(dict.fromkeys(("127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host)))
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[*names, *(f"{name}:*" for name in names)],
        allowed_origins=[f"http://{name}{port}" for name in names for port in ("", ":*")],
    )
    return server.streamable_http_app(stateless_http=True, json_response=True, transport_security=security, host=host)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes any that is free.

    Raises:
        ConfigurationError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Nothing can listen on {host} port {port} ({error.strerror}): choose another --port, or --port 0 for any."
        ) from error


async def serve_http(server: MCPServer[CoreAccess], access: CoreAccess, listening: socket.socket, *, host: str) -> None:
    """Serve until SIGINT or SIGTERM; open requests may finish, then the memory is closed."""
    import uvicorn

    config = uvicorn.Config(
        http_app(server, host=host), log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE
    )
    # uvicorn hands a signal on to the former handler once it is done: this one lets the process
    # end by returning, after the memory is closed, instead of dying of the signal.
    # A signal that comes before uvicorn listens to them is passed on to it all the same.
    runner = uvicorn.Server(config)

    def leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what a handler is given
        runner.should_exit = True

    former = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with listening:
            address = f"[{host}]" if ":" in host else host
            sys.stderr.write(f"memory-mcp: serving http://{address}:{listening.getsockname()[1]}/mcp\n")
            async with access:
                access.start()
                await runner.serve(sockets=[listening])
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
