"""Who makes a request over HTTP: known from the token alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

READ = "read"
WRITE = "write"
SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a verified token says.

    Attributes:
        key: names the token's holder in the request log and in the rate limit; nothing secret.
        issuer: who vouches for it.
        user_id: whose memory it opens; None for a service, which names the user in each call.
        scopes: some of `read`, `write`, `service`.
        tenant: None means the tenant that the server was started for.
        expires_at: Unix time.
    """

    key: str
    issuer: str
    user_id: str | None
    scopes: frozenset[str]
    tenant: str | None = None
    expires_at: int | None = None


class MemoryUser(AuthenticatedUser):
    """The identity as the protocol library carries it from the request to the handlers."""

    def __init__(self, identity: Identity) -> None:
        super().__init__(
            AccessToken(
                token="",  # nobody below needs it, so nobody can leak it
                client_id=identity.key,
                scopes=sorted(identity.scopes),
                expires_at=identity.expires_at,
                subject=identity.user_id,
                claims={"iss": identity.issuer},
            )
        )
        self.who = identity


def current_identity() -> Identity | None:
    """The identity of the request that is being answered; None where nothing is authenticated."""
    user: Any = auth_context_var.get()
    return user.who if isinstance(user, MemoryUser) else None
