"""What can be set from outside: the command line first, then the environment.

The variables that the library knows too (`MEMORY_DATABASE_URL`, `MEMORY_TENANT`, `MEMORY_USER_ID` ...) keep
their meaning here; only what the server adds is read here.
"""

from __future__ import annotations

import argparse
import hashlib
import ipaddress
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal
from urllib.parse import urlsplit

from mcp_server.limits import DEFAULT_FAILURES

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LOG_LEVELS: tuple[LogLevel, ...] = ("DEBUG", "INFO", "WARNING", "ERROR")

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures of access tokens that can be allowed: those with a public key."""

EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to tell them apart
"""What listens on all addresses of the machine."""

DEFAULT_ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")

_EXAMPLES = """\
examples:
  memory-mcp
      serve on stdin and stdout, with the embedded database in your data directory
  memory-mcp --url postgresql://me@localhost/memory --user alice
      serve alice's memory in a PostgreSQL of your own (it needs the pgvector extension)
  memory-mcp check (or --check)
      say whether the database and the embedder work, and exit with 0 or 1
  memory-mcp --http --port 8000
      serve streamable HTTP on http://127.0.0.1:8000/mcp, REST on /api/v1, health on /healthz and /readyz
  memory-mcp --http --host 0.0.0.0 --tokens --public-url https://memory.example.com
      serve a network, behind a proxy with TLS, to who has a token (memory-plugin tokens create)

in a client (Claude Desktop, Cursor and others):
  {"mcpServers": {"memory": {"command": "memory-mcp", "env": {"MEMORY_USER_ID": "alice"}}}}
Claude Code:
  claude mcp add --scope user memory --env MEMORY_USER_ID=alice -- memory-mcp

environment:
  MEMORY_DATABASE_URL, MEMORY_TENANT, MEMORY_USER_ID   the same as --url, --tenant, --user; better for
                                                       passwords, because other users can see a command line
  MEMORY_DATA_DIR                                      where the embedded database keeps its data
  MEMORY_EMBEDDINGS                                    provider:model, or none to search by words alone
  MEMORY_DOCUMENT_EMBEDDINGS                           none saves the 150 MB of the model that reads documents
  MEMORY_MCP_LOG_LEVEL, MEMORY_MCP_LOG_FORMAT          the same as --log-level, --log-format
  MEMORY_MCP_READ_ONLY, MEMORY_MCP_ADD_REFERENCES      the same as --read-only, --add-references (set to 1)
  MEMORY_MCP_TOKENS, MEMORY_MCP_PUBLIC_URL,            the same as --tokens (set to 1), --public-url,
  MEMORY_MCP_OAUTH_ISSUER, MEMORY_MCP_OAUTH_AUDIENCE   --oauth-issuer, --oauth-audience
  MEMORY_MCP_METRICS, MEMORY_MCP_METRICS_TOKEN         the same as --metrics (set to 1), and what must be sent to
                                                       read them, as Authorization: Bearer ...
"""


@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """Whose access tokens are accepted, and what they must say.

    Attributes:
        issuer: the authorization server, exactly as it writes itself in `iss`.
        audience: what `aud` must contain: this server.
        jwks_url: where the issuer's keys are; None asks the issuer's metadata.
        user_claim: the claim that names the user.
        tenant_claim: the claim that names the tenant; None: the tenant of this server.
    """

    issuer: str
    audience: str
    jwks_url: str | None = None
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    user_claim: str = "sub"
    tenant_claim: str | None = None


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How one server process runs; None leaves the choice to the library's own settings.

    Attributes:
        log_format: lines for people, or JSON without content for programs.
        tokens: accept bearer tokens of the store.
        oauth: accept access tokens of an authorization server.
        public_url: how clients reach the server, without a path.
        allow_hosts: names, beside that of `public_url` and of this machine, that requests may call it by.
        allow_origins: pages that may call it from a browser, such as `https://chat.example.com`.
        rate_limit: requests a minute for each identity; 0 means no limit, None the default.
        failure_limit: failed attempts to authenticate a minute from one address; 0 means no limit.
        trusted_proxies: addresses whose word on where a request is from is taken, with commas.
        metrics: answer `/metrics`.
        metrics_token: what must be sent to read them; None asks for nothing.
        add_references: offer the tool that stores documents.
    """

    url: str | None = None
    tenant: str | None = None
    user_id: str | None = None
    http: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    read_only: bool = False
    check: bool = False
    log_level: LogLevel = "WARNING"
    log_format: Literal["text", "json"] = "text"
    tokens: bool = False
    oauth: OAuthSettings | None = None
    public_url: str | None = None
    allow_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    rate_limit: int | None = None
    request_log: bool = False
    failure_limit: int = DEFAULT_FAILURES
    trusted_proxies: str = "127.0.0.1"
    metrics: bool = False
    metrics_token: str | None = field(default=None, repr=False)
    add_references: bool = False

    def state_key(self, environment: Mapping[str, str] = os.environ) -> bytes:
        """What seals a question that a client carries to the process that gets its answer.

        Each process of one server makes the same, of its database: the answer to a question may reach
        any of them. A client who could make it himself would gain nothing: it is he who answers.
        """
        where = self.url or environment.get("MEMORY_DATABASE_URL") or environment.get("MEMORY_DATA_DIR") or "embedded"
        return hashlib.sha256(f"memory-mcp questions\x1f{where}\x1f{self.tenant}".encode()).digest()

    @property
    def authenticated(self) -> bool:
        """Whether requests over HTTP must show who makes them."""
        return self.tokens or self.oauth is not None


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> ServerSettings:
    """The settings of a command line.

    Raises:
        SystemExit: with 0 after --help and --version, with 2 and a sentence when something cannot work.
    """
    parser = _parser(environment)
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = parser.parse_args(["--check", *words[1:]] if words[:1] == ["check"] else words)
    if given.log_level not in LOG_LEVELS:
        parser.error(f"the log level must be one of {', '.join(LOG_LEVELS)}, not {given.log_level}.")
    if given.log_format not in {"text", "json"}:
        parser.error(f"the log format must be text or json, not {given.log_format}.")
    settings = ServerSettings(
        url=given.url,
        tenant=given.tenant,
        user_id=given.user,
        http=given.http,
        host=given.host,
        port=given.port,
        read_only=given.read_only,
        check=given.check,
        log_level=given.log_level,
        log_format=given.log_format,
        tokens=given.tokens,
        oauth=_oauth(given, parser),
        public_url=_public_url(given.public_url, parser),
        allow_hosts=tuple(given.allow_host),
        allow_origins=tuple(given.allow_origin),
        rate_limit=given.rate_limit,
        request_log=given.request_log,
        failure_limit=given.failure_limit,
        trusted_proxies=given.trusted_proxies,
        metrics=given.metrics,
        metrics_token=environment.get("MEMORY_MCP_METRICS_TOKEN") or None,
        add_references=given.add_references,
    )
    _check_network(settings, parser)
    return settings


def _check_network(settings: ServerSettings, parser: argparse.ArgumentParser) -> None:
    """Refuse what would open the memory to who should not have it."""
    if settings.authenticated and settings.user_id is not None:
        parser.error("with authentication the user comes from the token: leave --user out.")
    if settings.metrics and settings.authenticated and settings.metrics_token is None:
        parser.error("--metrics beside authentication needs a token of its own: set MEMORY_MCP_METRICS_TOKEN.")
    if settings.metrics and find_spec("prometheus_client") is None:
        parser.error("--metrics needs the package prometheus-client: install memory-plugin[metrics].")
    if is_loopback(settings.host):
        return
    if not settings.authenticated:
        parser.error(
            f"--host {settings.host} would open the memory to the network without authentication: "
            "add --tokens or --oauth-issuer, or leave it on 127.0.0.1."
        )
    if settings.host in EVERY_ADDRESS and not (settings.public_url or settings.allow_hosts):
        parser.error(
            f"--host {settings.host} answers under every name: say by --public-url (or --allow-host) "
            "how clients call this server, so that requests for other names are refused."
        )


def _public_url(text: str | None, parser: argparse.ArgumentParser) -> str | None:
    if text is None:
        return None
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/") or parts.query:
        parser.error(f"--public-url must be like https://memory.example.com, not {text}.")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        parser.error("--public-url must be https: a token that travels in the clear is anybody's.")
    return f"{parts.scheme}://{parts.netloc}"


def _oauth(given: argparse.Namespace, parser: argparse.ArgumentParser) -> OAuthSettings | None:
    if given.oauth_issuer is None:
        return None
    parts = urlsplit(given.oauth_issuer)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        parser.error(f"--oauth-issuer must be an https URL, not {given.oauth_issuer}.")
    public_url = _public_url(given.public_url, parser)
    if public_url is None:
        parser.error("--oauth-issuer needs --public-url: clients learn from it which server their token is for.")
    algorithms = tuple(name for name in given.oauth_algorithms.replace(",", " ").split() if name)
    unknown = [name for name in algorithms if name not in ALGORITHMS]
    if unknown or not algorithms:
        parser.error(f"--oauth-algorithms must be some of {', '.join(ALGORITHMS)}, not {', '.join(unknown)}.")
    return OAuthSettings(
        issuer=given.oauth_issuer,
        audience=given.oauth_audience or f"{public_url}/mcp",
        jwks_url=given.oauth_jwks,
        algorithms=algorithms,
        user_claim=given.oauth_user_claim,
        tenant_claim=given.oauth_tenant_claim,
    )


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="memory-mcp",
        description="Long-term memory for AI assistants: an MCP server over one PostgreSQL.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    whose = parser.add_argument_group("whose memory, and where")
    whose.add_argument("--url", metavar="URL", help="postgresql:// URL; without it the embedded database is used")
    whose.add_argument("--tenant", metavar="NAME", help="the tenant whose rows are seen (default: default)")
    whose.add_argument(
        "--user", metavar="ID", help="the user whose memory it is; without it, everybody's in the tenant"
    )
    whose.add_argument(
        "--read-only",
        action="store_true",
        default=_is_set(environment, "MEMORY_MCP_READ_ONLY"),
        help="offer nothing that changes anything",
    )
    whose.add_argument(
        "--add-references",
        action="store_true",
        default=_is_set(environment, "MEMORY_MCP_ADD_REFERENCES"),
        help="let the assistant store documents too",
    )
    how = parser.add_argument_group("how it is served")
    how.add_argument("--http", action="store_true", help="serve streamable HTTP instead of stdin and stdout")
    how.add_argument("--host", default="127.0.0.1", help="address to listen on with --http (default: 127.0.0.1)")
    how.add_argument("--port", type=_port, default=8000, help="port to listen on with --http (default: 8000)")
    how.add_argument("--check", action="store_true", help="say whether everything works, and exit")
    how.add_argument(
        "--log-level",
        type=str.upper,
        metavar="LEVEL",
        default=environment.get("MEMORY_MCP_LOG_LEVEL", "WARNING").upper(),
        help=f"what is logged to standard error: {', '.join(LOG_LEVELS)} (default: WARNING)",
    )
    how.add_argument(
        "--log-format",
        metavar="FORMAT",
        default=environment.get("MEMORY_MCP_LOG_FORMAT", "text").lower(),
        help="text, or json: one object a line, without content (default: text)",
    )
    how.add_argument("--version", action="version", version=f"memory-mcp {version()}")
    _add_network(parser.add_argument_group("on a network, with --http"), environment)
    return parser


def _add_network(group: argparse._ArgumentGroup, environment: Mapping[str, str]) -> None:
    group.add_argument(
        "--tokens",
        action="store_true",
        default=_is_set(environment, "MEMORY_MCP_TOKENS"),
        help="require a bearer token, made by memory-plugin tokens create",
    )
    group.add_argument(
        "--public-url",
        metavar="URL",
        default=environment.get("MEMORY_MCP_PUBLIC_URL") or None,
        help="how clients reach the server: https://memory.example.com",
    )
    group.add_argument(
        "--allow-host", metavar="NAME", action="append", default=[], help="another name that requests may call it by"
    )
    group.add_argument(
        "--allow-origin", metavar="ORIGIN", action="append", default=[], help="a page that may call it from a browser"
    )
    group.add_argument(
        "--rate-limit", metavar="N", type=_count, help="requests a minute for each token (default: 600; 0: no limit)"
    )
    group.add_argument(
        "--failure-limit",
        metavar="N",
        type=_count,
        default=DEFAULT_FAILURES,
        help="failed attempts to authenticate a minute from one address (default: %(default)s; 0: no limit)",
    )
    group.add_argument(
        "--trusted-proxies",
        metavar="ADDRESSES",
        default="127.0.0.1",
        help="proxies whose X-Forwarded-For says where a request is from, with commas (default: 127.0.0.1)",
    )
    group.add_argument(
        "--metrics",
        action="store_true",
        default=_is_set(environment, "MEMORY_MCP_METRICS"),
        help="answer /metrics for Prometheus; beside --tokens or --oauth-issuer with MEMORY_MCP_METRICS_TOKEN",
    )
    group.add_argument(
        "--request-log", action="store_true", help="a line for each request, without content, to standard error"
    )
    group.add_argument(
        "--oauth-issuer",
        metavar="URL",
        default=environment.get("MEMORY_MCP_OAUTH_ISSUER") or None,
        help="accept access tokens (JWT) of this authorization server",
    )
    group.add_argument(
        "--oauth-audience",
        metavar="TEXT",
        default=environment.get("MEMORY_MCP_OAUTH_AUDIENCE") or None,
        help="what they must be made for (default: the public URL with /mcp)",
    )
    group.add_argument("--oauth-jwks", metavar="URL", help="where its keys are (default: as its metadata says)")
    group.add_argument(
        "--oauth-algorithms",
        metavar="NAMES",
        default=",".join(DEFAULT_ALGORITHMS),
        help="signatures that are accepted (default: %(default)s)",
    )
    group.add_argument(
        "--oauth-user-claim", metavar="NAME", default="sub", help="the claim that names the user (default: sub)"
    )
    group.add_argument(
        "--oauth-tenant-claim", metavar="NAME", help="the claim that names the tenant (default: the server's tenant)"
    )


def _is_set(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() in {"1", "true", "yes", "on"}


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise ValueError(text)
    return port


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def version() -> str:
    """The version of the installed package."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("memory-plugin")
    except PackageNotFoundError:
        return "0+unknown"
