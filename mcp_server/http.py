"""Streamable HTTP, REST, measurements, health: one application, guarded as the settings say."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

from mcp.server import MCPServer
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_server.access import CoreAccess
from mcp_server.settings import ServerSettings
from memory_plugin.errors import ConfigurationError, MemoryPluginError

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from mcp_server.metrics import Metrics
    from mcp_server.oauth import AccessTokens

logger = logging.getLogger(__name__)

READY_TIMEOUT = 5.0
"""Seconds the readiness check waits for the database."""

MAX_BODY = 4 * 1024 * 1024
"""Bytes that the body of a request may have."""

_BACKLOG = 2048

_GRACE = 5
"""Seconds that open requests have to finish when the server stops."""

_IDLE = 75
"""Seconds that a connection may wait for its next request: longer than proxies keep theirs, or they would send one
into a connection that is just being closed."""


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


def _metrics_route(metrics: Metrics) -> BaseRoute:
    from starlette.routing import Route

    from mcp_server.guard import METRICS

    async def answer(_: Request) -> Response:
        content, media_type = await metrics.text()
        return Response(content, headers={"content-type": media_type, "cache-control": "no-store"})

    return Route(METRICS, endpoint=answer, methods=["GET"])


def http_app(
    server: MCPServer[CoreAccess],
    access: CoreAccess,
    settings: ServerSettings | None = None,
    *,
    oauth: AccessTokens | None = None,
) -> ASGIApp:
    """The ASGI application: `/mcp`, `/api/v1`, `/healthz`, `/readyz`, and `/metrics` where it is asked for.

    It answers only requests that name a host of the settings, so that no web page reaches it by
    letting its own name point here. Every request stands alone: no sessions, plain JSON answers, so
    that any number of processes can share the work.

    Args:
        server: made for this access; what tokens allow is seen to by a middleware that is added to it.
        oauth: in place of what the settings name.

    Raises:
        ConfigurationError: there shall be measurements, and the package for them is not installed.
    """
    from mcp_server.calls import Calls
    from mcp_server.guard import MCP_PATH, Guard, security_of, with_cors
    from mcp_server.request_log import RequestLog
    from mcp_server.rest.app import RestApp
    from mcp_server.scopes import Scopes

    settings = settings or ServerSettings()
    access.needs_identity = settings.authenticated
    metrics = None
    if settings.metrics:
        from mcp_server.metrics import Metrics

        metrics = Metrics(access)
    server.middleware.append(Scopes(server, metrics))
    app = server.streamable_http_app(
        streamable_http_path=MCP_PATH,
        stateless_http=True,
        json_response=True,
        max_request_body_size=MAX_BODY,
        transport_security=security_of(settings),
    )
    if settings.oauth is not None:
        from mcp_server.oauth import AccessTokens

        oauth = oauth or AccessTokens(settings.oauth)
        app.routes.extend(_metadata_routes(settings))
    if metrics is not None:
        app.routes.append(_metrics_route(metrics))
    calls = Calls(app, server._lowlevel_server, access)  # noqa: SLF001 - the library has no other word for it
    both = _beside(calls, RestApp(access, settings, max_body=MAX_BODY))
    guarded = Guard(both, access, settings, oauth=oauth, metrics=metrics)
    return RequestLog(with_cors(guarded, settings.allow_origins), metrics)


def _beside(app: ASGIApp, rest: ASGIApp) -> ASGIApp:
    """REST by its path, all else by the application: a route of it would not take every character in an id."""
    from mcp_server.guard import API

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        is_rest = scope["type"] == "http" and scope["path"].startswith(API)
        await (rest if is_rest else app)(scope, receive, send)

    return either


def _metadata_routes(settings: ServerSettings) -> list[BaseRoute]:
    """Where clients learn which authorization server to ask (RFC 9728)."""
    from mcp.server.auth.routes import cors_middleware
    from starlette.routing import Route

    from mcp_server.guard import MCP_PATH, METADATA
    from mcp_server.oauth import SCOPES

    assert settings.oauth is not None
    document = {
        "resource": f"{settings.public_url}{MCP_PATH}",
        "resource_name": "Long-term memory",
        "authorization_servers": [settings.oauth.issuer],
        "scopes_supported": list(SCOPES),
        "bearer_methods_supported": ["header"],
    }

    async def metadata(_: Request) -> Response:
        return JSONResponse(document, headers={"cache-control": "public, max-age=3600"})

    return [Route(METADATA, endpoint=cors_middleware(metadata, ["GET", "OPTIONS"]), methods=["GET", "OPTIONS"])]


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes any that is free.

    Raises:
        ConfigurationError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Nothing can listen on {host} port {port} ({error.strerror}): choose another --port, or --port 0 for any."
        ) from error
    # asyncio does so only for a socket that names its protocol, which this one does not; connections inherit it.
    # Without, the second half of an answer waits for the client to acknowledge the first: 40 ms on Linux.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def protocol() -> Any:
    """What reads requests: the quick parser where it is installed."""
    try:
        from mcp_server.parsing import BoundedProtocol
    except ImportError:
        return "h11"
    return BoundedProtocol


async def serve_http(
    server: MCPServer[CoreAccess], access: CoreAccess, listening: socket.socket, settings: ServerSettings
) -> None:
    """Serve until SIGINT or SIGTERM; open requests may finish, then the memory is closed."""
    import uvicorn

    if settings.request_log:
        logging.getLogger("mcp_server.requests").setLevel(logging.INFO)
    config = uvicorn.Config(
        http_app(server, access, settings),
        log_config=None,
        access_log=False,
        http=protocol(),
        ws="none",  # nothing here speaks it
        server_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=_IDLE,
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
            address = f"[{settings.host}]" if ":" in settings.host else settings.host
            sys.stderr.write(f"memory-mcp: serving http://{address}:{listening.getsockname()[1]}/mcp\n")
            async with access:
                access.start()
                await runner.serve(sockets=[listening])
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
