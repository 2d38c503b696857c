"""Addresses of databases: read, and shown without their secrets."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from memory_plugin.errors import ConfigurationError

_SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}\Z")
_PASSWORD = re.compile(r"(//[^:@/?#]*):.*@", re.DOTALL)
_PASSWORD_PARAMETER = re.compile(r"(password)=[^&]*", re.IGNORECASE)
# SQLAlchemy spellings that asyncpg's own URL parser does not know
_DROPPED_PARAMETERS = {"prepared_statement_cache_size", "async_fallback"}


def normalise_url(url: str) -> str:
    """The URL as asyncpg takes it.

    Raises:
        ConfigurationError: it is not a PostgreSQL URL, or no URL at all.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # read only when asked for: a bad one says so here
    except ValueError as error:
        raise ConfigurationError(f"The database URL cannot be read: {error}.") from error
    scheme, _, driver = parts.scheme.partition("+")
    if scheme not in {"postgresql", "postgres"} or driver not in {"", "asyncpg", "psycopg", "psycopg2"}:
        raise ConfigurationError(
            f"The database URL must start with postgresql:// (got {parts.scheme or 'no scheme'}://): "
            "other databases are served by memory_plugin.providers only."
        )
    query = [(key, value) for key, value in parse_qsl(parts.query) if key not in _DROPPED_PARAMETERS]
    query = [("sslmode" if key == "ssl" else key, value) for key, value in query]
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query, safe="/"), ""))


def hide_secrets(url: str) -> str:
    """The URL without passwords, wherever and however badly they are written; rather too much is hidden."""
    return _PASSWORD_PARAMETER.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", url))


def quote_schema(schema: str) -> str:
    """The schema's name, quoted for a statement.

    Raises:
        ConfigurationError: it is not a plain identifier.
    """
    if not _SCHEMA_NAME.match(schema):
        raise ConfigurationError(
            f"{schema!r} cannot be a schema name: "
            "use up to 63 letters, digits and underscores, not starting with a digit."
        )
    return f'"{schema}"'
