"""Addresses of databases: read, and shown without their secrets."""

from __future__ import annotations

import re
import ssl
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from memory_plugin.errors import ConfigurationError

_SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}\Z")
_PASSWORD = re.compile(r"(//[^:@/?#]*):.*@", re.DOTALL)
_PASSWORD_PARAMETER = re.compile(r"(password)=[^&]*", re.IGNORECASE)
# What asyncpg does not know it sends to the server as a setting, and the server refuses the connection.
_DROPPED_PARAMETERS = {
    # of SQLAlchemy
    "async_fallback", "prepared_statement_cache_size",
    # of libpq: about the socket, or about what asyncpg does in one way only
    "channel_binding", "connect_timeout", "fallback_application_name", "gssencmode", "keepalives",
    "keepalives_count", "keepalives_idle", "keepalives_interval", "load_balance_hosts", "sslcertmode",
    "sslcompression", "sslsni", "tcp_user_timeout",
    # of other clients, in the URLs that providers print
    "connection_limit", "pgbouncer", "pool_timeout", "supa", "workaround",
}  # fmt: skip
_SSL_FLAGS = {"true": "require", "1": "require", "false": "disable", "0": "disable"}


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
    query = [
        ("sslmode", _SSL_FLAGS.get(value.lower(), value)) if key == "ssl" else (key, value) for key, value in query
    ]
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query, safe="/"), ""))


def system_trust(url: str) -> ssl.SSLContext | None:
    """What checks the server by the authorities that the system trusts; None where the URL does not ask for it.

    libpq's `sslrootcert=system`, which asyncpg would take for the name of a file.

    Args:
        url: as `normalise_url` gives it.

    Raises:
        ConfigurationError: `sslmode` is weaker than `verify-full`, or the client's certificate cannot be read.
    """
    asked = dict(parse_qsl(urlsplit(url).query))
    if asked.get("sslrootcert") != "system":
        return None
    if asked.get("sslmode", "verify-full") != "verify-full":
        raise ConfigurationError(
            "sslrootcert=system in the database URL goes with sslmode=verify-full only: "
            "write that, or name the file of the provider's authority."
        )
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])  # sslnegotiation=direct is refused without
    if "sslcert" in asked:
        try:
            context.load_cert_chain(asked["sslcert"], asked.get("sslkey"), asked.get("sslpassword", ""))
        except OSError as error:  # what TLS finds wrong is one too
            raise ConfigurationError(f"The client certificate in the database URL cannot be used: {error}.") from error
    return context


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
