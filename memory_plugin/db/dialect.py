"""SQLAlchemy's asyncpg dialect, less what it asks the server on each new connection.

It would register codecs for JSON, which costs round trips to look the types up; asyncpg knows both
types and gives them as text, which is how the store reads them. What it asks on the first
connection the server has already said while that was opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from sqlalchemy import Connection
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

URL = "postgresql+memory_plugin://"
"""What `create_engine` takes for this dialect; the address comes from the engine's creator."""


class QuietDialect(PGDialect_asyncpg):
    """Opening a connection sends nothing after the handshake."""

    supports_statement_cache = True

    def on_connect(self) -> Callable[[Any], None] | None:
        """Nothing to set up."""
        return None

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        version = _driver(connection).get_server_version()
        return (version.major, version.minor)

    def _get_default_schema_name(self, connection: Connection) -> str:
        raise NotImplementedError  # every table here names its schema

    def get_default_isolation_level(self, dbapi_conn: Any) -> Literal["READ COMMITTED"]:  # noqa: ARG002
        """PostgreSQL's own default; the engine sets the level of its connections itself."""
        return "READ COMMITTED"

    def _set_backslash_escapes(self, connection: Connection) -> None:
        self._backslash_escapes = _driver(connection).get_settings().standard_conforming_strings == "off"


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


registry.register("postgresql.memory_plugin", __name__, "QuietDialect")
