"""What every request over HTTP has to pass: its host and origin, its token, its share of the rate."""

from __future__ import annotations

import hmac
import json
import logging
import math
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.authentication import AuthCredentials
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_server.identity import READ, SERVICE, Identity, MemoryUser
from mcp_server.limits import DEFAULT_RATE, SERVICE_FACTOR, Buckets, Failures, address_of
from mcp_server.request_log import note_of
from mcp_server.settings import EVERY_ADDRESS, ServerSettings, is_loopback
from memory_plugin.errors import MemoryPluginError

if TYPE_CHECKING:
    from mcp_server.access import CoreAccess
    from mcp_server.metrics import Metrics
    from mcp_server.oauth import AccessTokens
    from memory_plugin.capabilities.tokens import Token

logger = logging.getLogger(__name__)

T = TypeVar("T")

MCP_PATH = "/mcp"
API = "/api/"
HEALTH = frozenset({"/healthz", "/readyz"})
METRICS = "/metrics"
METADATA = f"/.well-known/oauth-protected-resource{MCP_PATH}"
OPENAPI = f"{API}v1/openapi.json"

OPEN = HEALTH | {METADATA, OPENAPI}
"""What is answered without a token: nothing there is stored data."""

_SHORTEST_WAIT = 1


def security_of(settings: ServerSettings) -> TransportSecuritySettings:
    """The hosts that requests may name, and the pages that they may come from.

    This machine's own names count only where the server listens on it alone: elsewhere a request for
    `localhost` comes from a page that lets its name point here.
    """
    hosts: list[str] = list(settings.allow_hosts)
    origins: list[str] = list(settings.allow_origins)
    if is_loopback(settings.host):
        own = dict.fromkeys(("127.0.0.1", "localhost", "[::1]", _bracketed(settings.host)))
        hosts += own
        origins += [f"http://{name}{port}" for name in own for port in ("", ":*")]
    elif settings.host not in EVERY_ADDRESS:
        hosts.append(_bracketed(settings.host))
    if settings.public_url is not None:
        hosts.append(urlsplit(settings.public_url).netloc)
        origins.append(settings.public_url)
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[*hosts, *(f"{name}:*" for name in hosts)],
        allowed_origins=origins,
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error of this program
    """A request that is not let through, with the answer it gets."""

    def __init__(self, status: int, code: str, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.headers = dict(headers or {})

    async def answer(self, scope: Scope, send: Send) -> None:
        """Send the answer, in the shape of the part of the server that was asked."""
        body: dict[str, Any] = {"error": self.code, "error_description": self.sentence}
        if scope["path"].startswith(API):
            body = {"status": "error", "error": {"code": self.code, "message": self.sentence}}
        content = json.dumps(body, separators=(",", ":")).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content)), **self.headers}
        await send(
            {
                "type": "http.response.start",
                "status": self.status,
                "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": content})


class Guard:
    """Lets a request through to the application when its host, origin, token and rate are right.

    Args:
        app: the application; it finds the identity by `current_identity`.
        access: where the tokens are.
        settings: which of the checks there are.
        oauth: who checks access tokens, where those are accepted.
        metrics: told of every refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: CoreAccess,
        settings: ServerSettings,
        *,
        oauth: AccessTokens | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._app: ASGIApp = AuthContextMiddleware(app)
        self._access = access
        self._settings = settings
        self._oauth = oauth
        self._security = TransportSecurityMiddleware(security_of(settings))
        rate = settings.rate_limit
        if rate is None:
            rate = DEFAULT_RATE if settings.authenticated else 0
        self._buckets = Buckets(rate) if rate else None
        self._failures = Failures(settings.failure_limit) if settings.failure_limit else None
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or refuse it."""
        if scope["type"] == "http":
            try:
                await self._check(scope)
            except Refusal as refusal:
                if self._metrics is not None:
                    self._metrics.refused(refusal.code)
                await refusal.answer(scope, send)
                return
        elif scope["type"] != "lifespan":
            await send({"type": "websocket.close", "code": 1008})  # nothing here speaks it
            return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        path = scope["path"]
        if path in HEALTH:
            return  # a load balancer asks by address
        wrong = await self._security.validate_request(Request(scope))
        if wrong is not None:
            what = "host" if wrong.status_code == 421 else "origin"
            raise Refusal(
                wrong.status_code, f"wrong_{what}", f"The {what} of this request is not one of this server's."
            )
        if path in OPEN:
            return
        name = scope["client"][0] if scope.get("client") else "-"
        share = 1.0
        if path == METRICS:
            await self._counting_failures(name, self._may_scrape(scope))
        elif self._settings.authenticated:
            identity = await self._counting_failures(name, self._identify(scope))
            scope["user"] = MemoryUser(identity)
            scope["auth"] = AuthCredentials(sorted(identity.scopes))
            name = note_of(scope).who = identity.key
            share = 1 / SERVICE_FACTOR if SERVICE in identity.scopes else 1.0
            self._authorize(identity, path)
        wait = self._buckets.take(name, share=share) if self._buckets is not None else 0.0
        if wait:
            raise _later("rate_limited", "Too many requests", wait)

    async def _counting_failures(self, client: str, checked: Coroutine[Any, Any, T]) -> T:
        """The outcome of a check of who asks; who guesses waits, and far above the limit so does his whole address."""
        if self._failures is None:
            return await checked
        address = address_of(client)
        if blocked := self._failures.blocked(address):
            checked.close()
            raise _later("auth_rate_limited", "Too many failed attempts from this address", blocked)
        try:
            return await checked
        except Refusal as refusal:
            if refusal.code != "invalid_token":
                raise
            if wait := self._failures.failed(address):
                raise _later("auth_rate_limited", "Too many failed attempts from this address", wait) from refusal
            raise

    async def _may_scrape(self, scope: Scope) -> None:
        """Measurements have a token of their own: who watches the server need not read the memory."""
        wanted = self._settings.metrics_token
        if not self._settings.metrics or (wanted is None and self._settings.authenticated):
            raise Refusal(404, "not_found", "There is nothing here.")
        if wanted is None:
            return
        token = _bearer(scope)
        if token is None:
            raise Refusal(401, "unauthorized", "Send the token for measurements.", self._challenge())
        if not hmac.compare_digest(token.encode("utf-8", "surrogatepass"), wanted.encode("utf-8", "surrogatepass")):
            raise Refusal(401, "invalid_token", "This is not the token for measurements.", self._challenge())

    async def _identify(self, scope: Scope) -> Identity:
        token = _bearer(scope)
        if token is None:
            raise Refusal(401, "unauthorized", "Send a token: Authorization: Bearer ...", self._challenge())
        identity = None
        if token:
            try:
                identity = await self._verify(token)
            except MemoryPluginError as error:
                logger.warning("A token could not be checked: %s", error)
                raise Refusal(
                    503, "unavailable", "The token cannot be checked now: try again.", {"retry-after": "1"}
                ) from error
        if identity is None:
            sentence = "The token is not valid here: it may be over, revoked, or made for another server."
            raise Refusal(401, "invalid_token", sentence, self._challenge(error="invalid_token"))
        return identity

    async def _verify(self, token: str) -> Identity | None:
        from memory_plugin.capabilities.tokens import PREFIX

        if token.startswith(PREFIX):
            if not self._settings.tokens:
                return None
            found = await (await self._access.core()).tokens.verify(token)
            return None if found is None else _identity(found)
        return None if self._oauth is None else await self._oauth.verify(token)

    def _authorize(self, identity: Identity, path: str) -> None:
        if READ not in identity.scopes:
            sentence = "The token does not allow to read the memory: it needs the scope memory:read."
            raise Refusal(403, "insufficient_scope", sentence, self._challenge(error="insufficient_scope"))
        if identity.user_id is None and path.startswith(MCP_PATH):
            sentence = "This is a service's token, and names no user: for MCP make one with --user."
            raise Refusal(403, "no_user", sentence)

    def _challenge(self, *, error: str | None = None) -> dict[str, str]:
        parts = [f'error="{error}"'] if error else []
        if self._settings.oauth is not None:
            parts += ['scope="memory:read memory:write"', f'resource_metadata="{self._settings.public_url}{METADATA}"']
        return {"www-authenticate": " ".join(["Bearer", ", ".join(parts or ['realm="memory"'])])}


def _bearer(scope: Scope) -> str | None:
    """The token that was sent; None where nothing was, and empty where it is no one bearer token."""
    headers = [value for name, value in scope["headers"] if name == b"authorization"]
    if not headers:
        return None
    scheme, _, token = headers[0].decode("latin-1").partition(" ")
    return token.strip() if len(headers) == 1 and scheme.lower() == "bearer" else ""


def _later(code: str, why: str, wait: float) -> Refusal:
    seconds = max(math.ceil(wait), _SHORTEST_WAIT)
    return Refusal(429, code, f"{why}: try again in {seconds} s.", {"retry-after": str(seconds)})


def _identity(token: Token) -> Identity:
    return Identity(
        key=f"token:{token.id}",
        issuer=f"tenant:{token.tenant}",
        user_id=token.user_id,
        scopes=frozenset(token.scopes),
        tenant=token.tenant,
        expires_at=int(token.expires_at.timestamp()) if token.expires_at is not None else None,
    )


def with_cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """The application for pages of these origins too, which ask first what they may send."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("Authorization", "Content-Type", "Mcp-Method", "Mcp-Name", "Mcp-Protocol-Version"),
        expose_headers=("WWW-Authenticate", "Retry-After", "Mcp-Session-Id"),
    )
