"""Bearer tokens for use over HTTP: made once, kept as a hash, revoked at any time.

A token is `mpt_<tenant>.<id>.<secret>`: it names the row that its secret is compared with, so that it
is found by the primary key, and the secret is 256 random bits, so that a plain SHA-256 of it tells
nothing. The beginning lets scanners for secrets recognise one in a file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import InvalidInputError, NotFoundError
from memory_plugin.types import uuid7
from memory_plugin.validation import clean_text, identifier, optional_identifier

Scope = Literal["read", "write", "service"]
SCOPES: tuple[Scope, ...] = ("read", "write", "service")

PREFIX = "mpt_"
"""How every token begins."""

MAX_NAME = 200

_SECRET_BYTES = 32
_LONGEST = 4096
_COLUMNS = "tenant_id, id, name, user_id, scopes, created_at, expires_at, used_hour, revoked_at"

_CREATE = f"""
INSERT INTO {{s}}.tokens (tenant_id, id, name, user_id, scopes, secret_hash, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + $7::interval)
RETURNING {_COLUMNS}
"""

_LIST = f"""
SELECT {_COLUMNS} FROM {{s}}.tokens
WHERE tenant_id = $1 AND ($2::text IS NULL OR user_id = $2)
ORDER BY id
"""

_REVOKE = f"""
UPDATE {{s}}.tokens SET revoked_at = coalesce(revoked_at, now()) WHERE tenant_id = $1 AND id = $2
RETURNING {_COLUMNS}
"""

# The row is written once an hour at the most, so that a busy token costs no more than reading.
_VERIFY = f"""
WITH valid AS (
    SELECT {_COLUMNS} FROM {{s}}.tokens
    WHERE tenant_id = $1 AND id = $2 AND secret_hash = $3 AND revoked_at IS NULL
      AND (expires_at IS NULL OR expires_at > now())
), used AS (
    UPDATE {{s}}.tokens SET used_hour = date_trunc('hour', now(), 'UTC')
    WHERE tenant_id = $1 AND id IN (
        SELECT id FROM valid WHERE used_hour IS NULL OR used_hour < date_trunc('hour', now(), 'UTC'))
)
SELECT {_COLUMNS} FROM valid
"""


@dataclass(frozen=True, slots=True)
class Token:
    """What is known about a token; its secret is not.

    Attributes:
        user_id: whose memory it opens; None for a service, which may act for every user of the tenant.
        scopes: `read`, `write` (with `read`), `service`.
        used_hour: the hour in which it was last used, None while it was not.
        secret: the token itself, only in the answer of `create`.
    """

    id: UUID
    tenant: str
    name: str | None
    user_id: str | None
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    used_hour: datetime | None = None
    revoked_at: datetime | None = None
    secret: str | None = field(default=None, repr=False)


class Tokens:
    """The bearer tokens of one tenant."""

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._database = database
        self._tenant = tenant

    async def create(
        self,
        *,
        user_id: str | None = None,
        scopes: Sequence[Scope] = ("read", "write"),
        name: str | None = None,
        expires_in: timedelta | None = timedelta(days=90),
    ) -> Token:
        """Make a token; the answer's `secret` is the token, which cannot be shown again.

        Args:
            user_id: whose memory it opens; only a service can do without.
            scopes: what it may do; `write` and `service` bring `read` with them.
            name: what it is for, to know it again in the list.
            expires_in: how long it works; None for ever.

        Raises:
            InvalidInputError: an unknown scope, no user, or a time that is over already.
        """
        granted = _granted(scopes)
        owner = optional_identifier(user_id, "user_id")
        if owner is None and "service" not in granted:
            raise InvalidInputError("A token needs a user_id: only one with the scope service can do without.")
        if expires_in is not None and expires_in <= timedelta(0):
            raise InvalidInputError("expires_in must be longer than nothing: a token that is over opens nothing.")
        token_id, secret = uuid7(), secrets.token_bytes(_SECRET_BYTES)
        row = await self._database.fetchrow(
            self._database.sql(_CREATE),
            identifier(self._tenant, "tenant"),
            token_id,
            None if name is None else clean_text(name, "name", limit=MAX_NAME),
            owner,
            list(granted),
            hashlib.sha256(secret).digest(),
            expires_in,
        )
        assert row is not None  # the statement always returns the row
        return _token(row, f"{PREFIX}{_encode(self._tenant.encode())}.{token_id.hex}.{_encode(secret)}")

    async def list(self, *, user_id: str | None = None) -> list[Token]:
        """Every token, also those that are over or revoked, the oldest first.

        Args:
            user_id: only those of this user.
        """
        rows = await self._database.fetch(
            self._database.sql(_LIST), self._tenant, optional_identifier(user_id, "user_id"), repeat=Repeat.READ
        )
        return [_token(row) for row in rows]

    async def revoke(self, token_id: UUID | str) -> Token:
        """Make a token useless at once; revoking it again changes nothing.

        Raises:
            NotFoundError: there is no such token of this tenant.
        """
        try:
            wanted = token_id if isinstance(token_id, UUID) else UUID(token_id)
        except ValueError:
            raise InvalidInputError(f"{token_id!r:.80} is not the id of a token: the list shows the ids.") from None
        row = await self._database.fetchrow(self._database.sql(_REVOKE), self._tenant, wanted, repeat=Repeat.IDEMPOTENT)
        if row is None:
            raise NotFoundError(f"There is no token {wanted}: the list shows those there are.")
        return _token(row)

    async def verify(self, secret: str) -> Token | None:
        """What the holder of this token may do, in whichever tenant it names; None where it opens nothing.

        All that can be wrong with it is answered alike, so that nobody learns which tenants or ids there are.

        Raises:
            DatabaseError: the database could not be asked.
        """
        parts = _parts(secret)
        if parts is None:
            return None
        tenant, token_id, hashed = parts
        database = self._database.for_tenant(tenant)
        row = await database.fetchrow(database.sql(_VERIFY), tenant, token_id, hashed, repeat=Repeat.IDEMPOTENT)
        return None if row is None else _token(row)


def _granted(scopes: Sequence[Scope]) -> tuple[Scope, ...]:
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise InvalidInputError(f"scopes must be some of {', '.join(SCOPES)}, not {', '.join(unknown) or 'none'}.")
    return tuple(scope for scope in SCOPES if scope in scopes or scope == "read")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _parts(token: str) -> tuple[str, UUID, bytes] | None:
    """The tenant, the id, and the hash of the secret; None when it is not one of our tokens."""
    if not token.startswith(PREFIX) or len(token) > _LONGEST or not token.isascii():
        return None
    parts = token.removeprefix(PREFIX).split(".")
    if len(parts) != 3:
        return None
    try:
        tenant, token_id, secret = _decode(parts[0]).decode(), UUID(hex=parts[1]), _decode(parts[2])
    except (binascii.Error, ValueError):
        return None
    return None if "\0" in tenant else (tenant, token_id, hashlib.sha256(secret).digest())


def _token(row: Record, secret: str | None = None) -> Token:
    return Token(
        id=row["id"],
        tenant=row["tenant_id"],
        name=row["name"],
        user_id=row["user_id"],
        scopes=tuple(row["scopes"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        used_hour=row["used_hour"],
        revoked_at=row["revoked_at"],
        secret=secret,
    )
