"""OAuth 2.1, as the resource server: signed access tokens of one issuer, checked with its published keys."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.parse import urlsplit

import jwt

from mcp_server.identity import READ, SERVICE, WRITE, Identity
from mcp_server.settings import OAuthSettings, is_loopback
from memory_plugin.errors import InvalidInputError, MemoryPluginError
from memory_plugin.validation import identifier

logger = logging.getLogger(__name__)

SCOPES = {"memory:read": READ, "memory:write": WRITE, "memory:service": SERVICE}
"""What the scopes of an access token are called, and what they allow here."""

LEEWAY = 30
"""Seconds by which the clocks of the issuer and of this machine may differ."""

KEYS_FRESH = 3600.0
"""Seconds after which the keys are fetched again."""

KEYS_PAUSE = 60.0
"""Seconds between two fetches at the least, whatever keys are asked for."""

_TIMEOUT = 5.0
_LARGEST = 1 << 20
_LONGEST_TOKEN = 16_384
_TYPES = {None, "jwt", "at+jwt", "application/at+jwt"}

Fetch = Callable[[str], Awaitable[Any]]
"""Gives the JSON document at a URL."""


class KeysUnavailableError(MemoryPluginError):
    """The keys of the issuer cannot be had, so that no token can be checked now."""


async def fetch_json(url: str) -> Any:
    """The JSON document at an `https` URL (or one of this machine).

    Raises:
        KeysUnavailableError: it cannot be had, is too large, or no JSON.
    """
    return await asyncio.to_thread(_fetch, url)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: keys come from where the configuration says."""

    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002 - the names are those of the standard library
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: HTTPMessage,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        return None


def _fetch(url: str) -> Any:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise KeysUnavailableError(f"The keys of the issuer must come over https, not from {parts.scheme}.")
    opener = urllib.request.build_opener(_NoRedirect())
    asked = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - the scheme is checked
    try:
        with opener.open(asked, timeout=_TIMEOUT) as response:
            body = response.read(_LARGEST + 1)
        if len(body) > _LARGEST:
            raise KeysUnavailableError("The issuer's document is too large to be its keys.")
        return json.loads(body)
    except (OSError, HTTPException, ValueError) as error:
        reason = type(error).__name__ if isinstance(error, ValueError) else error
        raise KeysUnavailableError(f"The issuer's document at {url} cannot be had: {reason}.") from error


class IssuerKeys:
    """The issuer's public keys: fetched when first wanted, kept, fetched again when a new one turns up."""

    def __init__(
        self, settings: OAuthSettings, *, fetch: Fetch = fetch_json, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._fetch = fetch
        self._clock = clock
        self._keys: list[jwt.PyJWK] = []
        self._fetched: float | None = None
        self._tried: float | None = None
        self._lock = asyncio.Lock()

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key of that id for that algorithm; None when the issuer has none.

        Raises:
            KeysUnavailableError: there are no keys at all yet.
        """
        if self._fetched is None or self._clock() - self._fetched > KEYS_FRESH:
            await self._refresh()
        found = self._among(key_id, algorithm)
        if found is None:
            await self._refresh()  # the issuer may have begun to sign with a new one
            found = self._among(key_id, algorithm)
        if not self._keys:
            raise KeysUnavailableError("The keys of the issuer cannot be had now: try again later.")
        return found

    def _among(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        usable = [
            key
            for key in self._keys
            if key.public_key_use in {None, "sig"}
            and key.algorithm_name == algorithm
            and (key_id is None or key.key_id == key_id)
        ]
        # a token that names no key is only unambiguous where there is one key
        return usable[0] if usable and (key_id is not None or len(usable) == 1) else None

    async def _refresh(self) -> None:
        async with self._lock:
            now = self._clock()
            if self._tried is not None and now - self._tried < KEYS_PAUSE:
                return
            self._tried = now
            try:
                document = await self._fetch(self._settings.jwks_url or await self._discover())
                self._keys = _keys_of(document, self._settings.algorithms)
                self._fetched = now
            except KeysUnavailableError as error:
                logger.warning("%s", error)  # those that are known still work
            if not self._keys:
                self._tried = now - KEYS_PAUSE + 1  # nothing works without: try soon again

    async def _discover(self) -> str:
        """Where the issuer says that its keys are (RFC 8414, or OpenID Connect)."""
        parts = urlsplit(self._settings.issuer)
        path = parts.path.rstrip("/")
        host = f"{parts.scheme}://{parts.netloc}"
        for url in (
            f"{host}/.well-known/oauth-authorization-server{path}",
            f"{host}{path}/.well-known/openid-configuration",
        ):
            try:
                document = await self._fetch(url)
            except KeysUnavailableError as error:
                logger.info("%s", error)
                continue
            if isinstance(document, Mapping) and document.get("issuer") == self._settings.issuer:
                found = document.get("jwks_uri")
                if isinstance(found, str):
                    return found
        raise KeysUnavailableError(
            f"The issuer {self._settings.issuer} does not say where its keys are: name them by --oauth-jwks."
        )


def _keys_of(document: Any, algorithms: tuple[str, ...]) -> list[jwt.PyJWK]:
    """The keys that can be used; one key for each algorithm it is good for, where it does not say which."""
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise KeysUnavailableError("The document that the issuer names has no keys in it.")
    keys = []
    for each in listed:
        if not isinstance(each, dict):
            continue
        meant = [each["alg"]] if isinstance(each.get("alg"), str) else algorithms
        for algorithm in (name for name in algorithms if name in meant):
            try:
                keys.append(jwt.PyJWK(each, algorithm))
            except jwt.PyJWTError:
                continue  # of another kind than the algorithm, or of one that nobody here knows
    return keys


class AccessTokens:
    """Verifies the access tokens (JWT) of one issuer that were made for this server."""

    def __init__(self, settings: OAuthSettings, keys: IssuerKeys | None = None) -> None:
        self._settings = settings
        self._keys = keys or IssuerKeys(settings)

    async def verify(self, token: str) -> Identity | None:
        """Who the token is about; None when it is not valid here.

        Raises:
            KeysUnavailableError: it cannot be checked now.
        """
        if len(token) > _LONGEST_TOKEN:
            return None
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kind = header.get("alg"), header.get("typ")
            if algorithm not in self._settings.algorithms or "crit" in header:
                return None
            if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
                return None
            key = await self._keys.find(header.get("kid"), algorithm)
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],  # one of the allowed, and that of the key
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            logger.info("An access token was refused: %s", type(error).__name__)
            return None
        return self._identity(claims)

    def _identity(self, claims: Mapping[str, Any]) -> Identity | None:
        settings = self._settings
        scopes = frozenset(SCOPES[scope] for scope in _scopes(claims) if scope in SCOPES)
        try:
            user = _label(claims, settings.user_claim)
            tenant = _label(claims, settings.tenant_claim) if settings.tenant_claim else None
        except InvalidInputError:
            logger.info("An access token was refused: it does not name the user or the tenant")
            return None
        if WRITE in scopes or SERVICE in scopes:
            scopes |= {READ}
        return Identity(
            key=f"oauth:{user}",
            issuer=settings.issuer,
            user_id=user,
            scopes=scopes,
            tenant=tenant,
            expires_at=int(claims["exp"]),
        )


def _label(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        raise InvalidInputError(f"The claim {name} is no text.")
    return identifier(value, name)


def _scopes(claims: Mapping[str, Any]) -> list[str]:
    """The scopes, as RFC 9068 writes them, or as a list in `scp`."""
    found = claims.get("scope", claims.get("scp", ""))
    if isinstance(found, str):
        return found.split()
    return [scope for scope in found if isinstance(scope, str)] if isinstance(found, list) else []
