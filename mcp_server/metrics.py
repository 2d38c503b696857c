"""Measurements of one server process, as Prometheus reads them: how much, how long, how full.

Names follow the conventions of OpenTelemetry where there are some, written as Prometheus writes them.
Labels hold kinds and names that this program knows: no tenant, no user, no id, nothing that anybody wrote.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from mcp_server.settings import version
from memory_plugin.errors import ConfigurationError, MemoryPluginError

if TYPE_CHECKING:
    from mcp_server.access import CoreAccess

logger = logging.getLogger(__name__)

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bounds of the histograms, those that the conventions for HTTP advise."""

FRESH = 15.0
"""Seconds for which a count of what waits for the index is good: reading often must not count often."""

PATIENCE = 2.0
"""Seconds that reading measurements waits for the database at the most."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_ELSE = "_OTHER"


class Metrics:
    """What is counted in this process.

    Args:
        access: whose memory's pool and queues are read; it is not opened for that.

    Raises:
        ConfigurationError: the package that writes the format is not installed.
    """

    def __init__(self, access: CoreAccess) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
        except ImportError as error:
            raise ConfigurationError(
                "Measurements need the package prometheus-client: install memory-plugin[metrics], or leave --metrics."
            ) from error
        self._access = access
        self.registry = registry = CollectorRegistry()
        self._requests = Histogram(
            "http_server_request_duration_seconds",
            "Duration of HTTP server requests.",
            ["http_request_method", "http_route", "http_response_status_code"],
            registry=registry,
            buckets=SECONDS,
        )
        self._operations = Histogram(
            "mcp_server_operation_duration_seconds",
            "Duration of requests and notifications of MCP, tools by their name and how they ended.",
            ["mcp_method_name", "gen_ai_tool_name", "error_type"],
            registry=registry,
            buckets=SECONDS,
        )
        self._refusals = Counter(
            "memory_plugin_http_refusals", "Requests that were refused, by the reason.", ["reason"], registry=registry
        )
        for reason in ("rate_limited", "auth_rate_limited", "invalid_token"):
            self._refusals.labels(reason)  # from 0 on: an alarm on what never was would never ring
        self._connections = Gauge(
            "db_client_connection_count",
            "Connections of the pool, by their state.",
            ["db_client_connection_state"],
            registry=registry,
        )
        self._most = Gauge("db_client_connection_max", "Connections that the pool may have.", registry=registry)
        self._pending = Gauge(
            "db_client_connection_pending_requests", "Callers that wait for a connection.", registry=registry
        )
        self._queue = Gauge(
            "memory_plugin_index_queue",
            "What waits for the index by words, and for its vector, of the tenant that this server was started for.",
            ["queue"],
            registry=registry,
        )
        Gauge("memory_plugin_info", "Which version this is.", ["version"], registry=registry).labels(version()).set(1)
        ProcessCollector(registry=registry)
        self._counted = -FRESH

    def request(self, method: str, what: str, status: int, seconds: float) -> None:
        """Note an HTTP request that is over.

        Args:
            what: the route as the request log has it.
            status: 0 where the client went away before there was one.
        """
        route = what.partition(":")[0] if what.startswith("/") else _ELSE
        self._requests.labels(method if method in _METHODS else _ELSE, route, str(status)).observe(seconds)

    def operation(self, method: str, tool: str | None, error: str | None, seconds: float) -> None:
        """Note an operation of the protocol.

        Args:
            error: `tool_error` where the tool said that it failed, else the class of what was raised; None: it worked.
        """
        self._operations.labels(method, tool or "", error or "").observe(seconds)

    def refused(self, reason: str) -> None:
        """Note a request that was not let through."""
        self._refusals.labels(reason).inc()

    async def text(self) -> tuple[bytes, str]:
        """All measurements, and the media type they are in."""
        from prometheus_client import generate_latest
        from prometheus_client.exposition import CONTENT_TYPE_LATEST

        await self._look()
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    async def _look(self) -> None:
        """Read what is not counted but looked at; what cannot be looked at keeps its last value."""
        core = self._access.opened
        if core is None:
            return
        pool: Any = core.database.engine.pool
        if hasattr(pool, "waiting"):
            self._connections.labels("used").set(pool.checkedout())
            self._connections.labels("idle").set(pool.checkedin())
            self._most.set(pool.size())
            self._pending.set(pool.waiting())
        if time.monotonic() - self._counted < FRESH:
            return
        self._counted = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                backlog = await core.passages.backlog()
        except (TimeoutError, MemoryPluginError) as error:
            logger.warning("What waits for the index could not be counted: %s", type(error).__name__)
            return
        self._queue.labels("words").set(backlog.words)
        self._queue.labels("vectors").set(backlog.vectors)
