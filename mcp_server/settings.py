"""What can be set from outside: the command line first, then the environment.

The variables that the library knows too (`MEMORY_DATABASE_URL`, `MEMORY_TENANT`, `MEMORY_USER_ID` ...) keep
their meaning here; only what the server adds is read here.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LOG_LEVELS: tuple[LogLevel, ...] = ("DEBUG", "INFO", "WARNING", "ERROR")

_EXAMPLES = """\
examples:
  memory-mcp
      serve on stdin and stdout, with the embedded database in your data directory
  memory-mcp --url postgresql://me@localhost/memory --user alice
      serve alice's memory in a PostgreSQL of your own (it needs the pgvector extension)
  memory-mcp --check
      say whether the database and the embedder work, and exit with 0 or 1
  memory-mcp --http --port 8000
      serve streamable HTTP on http://127.0.0.1:8000/mcp, health on /healthz and /readyz

in a client (Claude Desktop, Cursor and others):
  {"mcpServers": {"memory": {"command": "memory-mcp", "env": {"MEMORY_USER_ID": "alice"}}}}
Claude Code:
  claude mcp add --scope user memory --env MEMORY_USER_ID=alice -- memory-mcp

environment:
  MEMORY_DATABASE_URL, MEMORY_TENANT, MEMORY_USER_ID   the same as --url, --tenant, --user; better for
                                                       passwords, because other users can see a command line
  MEMORY_DATA_DIR                                      where the embedded database keeps its data
  MEMORY_EMBEDDINGS                                    provider:model, or none to search by words alone
  MEMORY_MCP_LOG_LEVEL                                 the same as --log-level
"""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How one server process runs; None leaves the choice to the library's own settings."""

    url: str | None = None
    tenant: str | None = None
    user_id: str | None = None
    http: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    read_only: bool = False
    check: bool = False
    log_level: LogLevel = "WARNING"


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> ServerSettings:
    """The settings of a command line.

    Raises:
        SystemExit: with 0 after --help and --version, with 2 and a sentence when something cannot work.
    """
    parser = _parser(environment)
    given = parser.parse_args(arguments)
    if not is_loopback(given.host):
        parser.error(
            f"--host {given.host} would open the memory to the network without authentication: "
            "leave it on 127.0.0.1, and put a proxy that authenticates in front of it."
        )
    if given.log_level not in LOG_LEVELS:
        parser.error(f"the log level must be one of {', '.join(LOG_LEVELS)}, not {given.log_level}.")
    return ServerSettings(
        url=given.url,
        tenant=given.tenant,
        user_id=given.user,
        http=given.http,
        host=given.host,
        port=given.port,
        read_only=given.read_only,
        check=given.check,
        log_level=given.log_level,
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
    whose.add_argument("--read-only", action="store_true", help="offer no tool that changes anything")
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
    how.add_argument("--version", action="version", version=f"memory-mcp {version()}")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise ValueError(text)
    return port


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
