"""Whose rows a session sees: the role it runs as, and the tenant that row security compares with.

A session says both in the packet that opens it, so that no operation pays for it. Behind a pooler
that shares connections between transactions nothing stays with a session: there each transaction
begins by saying it.
"""

from __future__ import annotations

from typing import Any

import asyncpg

from memory_plugin.errors import DatabaseError

APP_ROLE = "memory_app"
"""The role that a store works as: it owns nothing, so the policies of the tables hold for it."""

TENANT_SETTING = "memory.tenant"
"""The setting of a session that the policies of every table compare `tenant_id` with."""

_REFUSED_BY_POOLER = "08P01"
_NO_SUCH_ROLE = frozenset({"22023", "42501", "42704"})

SECURE = """
DO $do$
DECLARE
    membership text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'memory_app') THEN
        CREATE ROLE memory_app NOLOGIN;
    END IF;
    IF NOT pg_has_role(session_user, 'memory_app', membership) THEN
        EXECUTE format('GRANT memory_app TO %I', session_user);
    END IF;
    GRANT USAGE ON SCHEMA {s} TO memory_app;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {s} TO memory_app;
    REVOKE INSERT, UPDATE, DELETE ON {s}.alembic_version FROM memory_app;
END $do$
"""
"""Gives the role what it needs in a store that was made when there was no such role."""


class RoleUnavailableError(DatabaseError):
    """The login may not become the role that row security holds for, or there is no such role."""


class TenantConnection(asyncpg.Connection):
    """A connection that knows whose rows its session sees; None where nobody told it."""

    tenant: str | None = None

    async def see(self, role: str | None, tenant: str) -> None:  # noqa: ARG002 - others need the role again
        """Show the rows of this tenant from now on."""
        await self.execute(f"SET {TENANT_SETTING} = {_literal(tenant)}")
        self.tenant = tenant


class SharedConnection(TenantConnection):
    """A connection behind a pooler, where each transaction says whose rows it sees.

    A statement outside of a transaction is given one; that makes three round trips of one.
    """

    _first = ""

    async def see(self, role: str | None, tenant: str) -> None:
        """Show the rows of this tenant in the transactions that begin from now on."""
        self._first = see_locally(tenant)
        if role is not None:
            self._first += f'; SET LOCAL ROLE "{role}"'
        self.tenant = tenant

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """See asyncpg, which begins its transactions by this."""
        if not self._first or self.is_in_transaction():
            return await super().execute(query, *args, **options)
        if not args and query.startswith("BEGIN"):
            return await super().execute(f"{query} {self._first}", **options)
        async with self.transaction():
            return await super().execute(query, *args, **options)

    async def executemany(self, command: str, args: Any, **options: Any) -> None:
        """See asyncpg."""
        if not self._first or self.is_in_transaction():
            await super().executemany(command, args, **options)
            return
        async with self.transaction():
            await super().executemany(command, args, **options)

    async def _execute(self, query: str, *args: Any, **options: Any) -> Any:
        # all that fetches comes through here
        if not self._first or self.is_in_transaction():
            return await super()._execute(query, *args, **options)  # type: ignore[misc]
        async with self.transaction():
            return await super()._execute(query, *args, **options)  # type: ignore[misc]


def see_locally(tenant: str) -> str:
    """The statement that shows the rows of this tenant until the transaction ends."""
    return f"SET LOCAL {TENANT_SETTING} = {_literal(tenant)}"


def startup_settings(role: str | None, tenant: str | None) -> dict[str, str]:
    """What the packet that opens a session says."""
    settings = {} if tenant is None else {TENANT_SETTING: tenant}
    return settings if role is None else {**settings, "role": role}


def is_refused_by_pooler(error: asyncpg.PostgresError) -> bool:
    """Whether a pooler refused to open a session with settings that it cannot keep."""
    return error.sqlstate == _REFUSED_BY_POOLER and "startup parameter" in str(error)


def is_about_role(error: asyncpg.PostgresError, role: str | None) -> bool:
    """Whether the session was not opened because of the role that it was to run as."""
    return role is not None and error.sqlstate in _NO_SUCH_ROLE and role in str(error)


def _literal(text: str) -> str:
    """A text in SQL, whatever `standard_conforming_strings` says."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
