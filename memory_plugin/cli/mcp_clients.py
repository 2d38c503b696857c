"""What each MCP client wants to read about a server, and in which file."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Literal, get_args

from memory_plugin.db.urls import hide_secrets
from memory_plugin.errors import ConfigurationError

Client = Literal["claude-desktop", "claude-code", "cursor", "vscode"]
CLIENTS: tuple[Client, ...] = get_args(Client)

Place = Literal["user", "project"]

DATABASE_URL = "MEMORY_DATABASE_URL"
BEARER = "MEMORY_MCP_BEARER"
"""The variable in which clients look for the token of a server over HTTP."""

_AUTHORIZATION = "MEMORY_MCP_AUTHORIZATION"
_PLACEHOLDER = "Bearer YOUR_TOKEN"

USUAL: Mapping[Client, Place] = {
    "claude-desktop": "user",
    "claude-code": "project",
    "cursor": "user",
    "vscode": "project",
}
"""Where the entry goes unless the person says otherwise."""

RESTART: Mapping[Client, str] = {
    "claude-desktop": "Quit Claude Desktop and start it again.",
    "claude-code": "Claude Code asks for your approval when it next starts in this project.",
    "cursor": "Cursor shows the server under Settings, MCP; enable it there.",
    "vscode": "VS Code starts the server when a chat in agent mode first needs it.",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The server as the person wants it.

    Attributes:
        command: what starts it, with the arguments that come first.
        arguments: those of the server itself.
        environment: variables for it; the URL of a database may hold a password.
        http: the URL of a server that runs already, instead of one that the client starts.
        bearer: that server asks for a token.
        token: the token, where it is known and the client has no way to ask for it.
    """

    command: tuple[str, ...] = ("memory-mcp",)
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    http: str | None = None
    bearer: bool = False
    token: str | None = None

    @property
    def secret_url(self) -> bool:
        """Whether the URL of the database says more than anybody may read."""
        url = self.environment.get(DATABASE_URL)
        return url is not None and hide_secrets(url) != url


def file_of(
    client: Client, place: Place, *, platform: str, home: PurePath, environment: Mapping[str, str], project: PurePath
) -> PurePath:
    """The file in which a client looks.

    Args:
        platform: as `sys.platform`.
        home: the user's directory.
        project: the directory of the project.

    Raises:
        ConfigurationError: the client keeps no such file, or one that nobody else may write.
    """
    if client == "claude-desktop":
        if place == "project":
            raise ConfigurationError("Claude Desktop knows no projects: leave --scope out.")
        return _applications(platform, home, environment) / "Claude" / "claude_desktop_config.json"
    if client == "claude-code":
        if place == "user":
            raise ConfigurationError(
                "Claude Code keeps servers for all projects in a file that it writes itself: "
                "run the command `claude mcp add` that stands below the snippet instead of --write."
            )
        return project / ".mcp.json"
    if client == "cursor":
        return (home if place == "user" else project) / ".cursor" / "mcp.json"
    if place == "user":
        return _applications(platform, home, environment) / "Code" / "User" / "mcp.json"
    return project / ".vscode" / "mcp.json"


def _applications(platform: str, home: PurePath, environment: Mapping[str, str]) -> PurePath:
    """Where programs with windows keep what a user has set."""
    if platform == "darwin":
        return home / "Library" / "Application Support"
    if platform == "win32":
        roaming = environment.get("APPDATA")
        return PureWindowsPath(roaming) if roaming else home / "AppData" / "Roaming"
    chosen = environment.get("XDG_CONFIG_HOME", "")
    return PurePosixPath(chosen) if chosen.startswith("/") else home / ".config"


def snippet(client: Client, place: Place, name: str, wanted: Wanted) -> dict[str, Any]:
    """The document that holds the server and nothing else, as the client wants it.

    A secret is written out only where the file is the user's own and the client cannot ask for it: in a
    file of a project, which others get to see, stands the variable that holds it.
    """
    if client == "vscode":
        return _of_vscode(name, wanted)
    entry = _over_http(client, wanted) if wanted.http is not None else _started(client, place, wanted)
    return {"mcpServers": {name: entry}}


def holds_secret(client: Client, place: Place, wanted: Wanted) -> bool:
    """Whether the snippet has a secret in it."""
    if client == "vscode":
        return False
    if wanted.http is not None:
        return client == "claude-desktop" and wanted.token is not None
    return place == "user" and client != "claude-code" and wanted.secret_url


def _variable(client: Client, name: str) -> str:
    return f"${{env:{name}}}" if client == "cursor" else f"${{{name}}}"


def _process(wanted: Wanted, environment: Mapping[str, str], *, typed: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "stdio"} if typed else {}
    entry["command"] = wanted.command[0]
    if arguments := [*wanted.command[1:], *wanted.arguments]:
        entry["args"] = arguments
    if environment:
        entry["env"] = dict(environment)
    return entry


def _started(client: Client, place: Place, wanted: Wanted) -> dict[str, Any]:
    environment = dict(wanted.environment)
    if wanted.secret_url and not holds_secret(client, place, wanted):
        environment[DATABASE_URL] = _variable(client, DATABASE_URL)
    return _process(wanted, environment, typed=client == "claude-code")


def _over_http(client: Client, wanted: Wanted) -> dict[str, Any]:
    assert wanted.http is not None
    if client == "claude-desktop":  # its file starts programs only: this one passes everything on
        entry: dict[str, Any] = {"command": "npx", "args": ["-y", "mcp-remote", wanted.http]}
        if wanted.bearer:
            # without a space in the argument: Claude Desktop for Windows does not keep them
            entry["args"] += ["--header", f"Authorization:${{{_AUTHORIZATION}}}"]
            entry["env"] = {_AUTHORIZATION: f"Bearer {wanted.token}" if wanted.token else _PLACEHOLDER}
        return entry
    entry = {"type": "http", "url": wanted.http} if client == "claude-code" else {"url": wanted.http}
    if wanted.bearer:
        entry["headers"] = {"Authorization": f"Bearer {_variable(client, BEARER)}"}
    return entry


def _of_vscode(name: str, wanted: Wanted) -> dict[str, Any]:
    inputs: list[dict[str, Any]] = []

    def ask(what: str, description: str) -> str:
        inputs.append({"type": "promptString", "id": f"{name}-{what}", "description": description, "password": True})
        return f"${{input:{name}-{what}}}"

    if wanted.http is not None:
        entry: dict[str, Any] = {"type": "http", "url": wanted.http}
        if wanted.bearer:
            token = ask("token", "Token for the memory")
            entry["headers"] = {"Authorization": f"Bearer {token}"}
    else:
        environment = dict(wanted.environment)
        if wanted.secret_url:
            environment[DATABASE_URL] = ask("database-url", "postgresql:// URL of the memory")
        entry = _process(wanted, environment, typed=True)
    return {**({"inputs": inputs} if inputs else {}), "servers": {name: entry}}


def shell_command(name: str, wanted: Wanted) -> str:
    """The command that tells Claude Code about the server, for all projects of the user; without secrets."""
    if wanted.http is not None:
        words = ["claude", "mcp", "add", "--scope", "user", "--transport", "http", name, wanted.http]
        line = shlex.join(words)
        return f'{line} --header "Authorization: Bearer ${BEARER}"' if wanted.bearer else line
    line = shlex.join(["claude", "mcp", "add", "--scope", "user", name])
    for variable, value in wanted.environment.items():
        is_secret = variable == DATABASE_URL and wanted.secret_url
        line += f' --env "{variable}=${variable}"' if is_secret else f" --env {shlex.quote(f'{variable}={value}')}"
    return f"{line} -- {shlex.join([*wanted.command, *wanted.arguments])}"


def without_secrets(document: Mapping[str, Any]) -> dict[str, Any]:
    """The snippet, fit to be shown."""
    shown = copy.deepcopy(dict(document))
    for entry in (*shown.get("mcpServers", {}).values(), *shown.get("servers", {}).values()):
        environment = entry.get("env", {})
        if DATABASE_URL in environment:
            environment[DATABASE_URL] = hide_secrets(environment[DATABASE_URL])
        if environment.get(_AUTHORIZATION, _PLACEHOLDER) != _PLACEHOLDER:
            environment[_AUTHORIZATION] = "Bearer ***"
    return shown
