"""`memory-plugin mcp config`: what clients are given, and files of theirs that keep everything else."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from memory_plugin.cli import app, client_files
from memory_plugin.cli.client_files import merge
from memory_plugin.cli.mcp_clients import CLIENTS, Client, Place, file_of
from memory_plugin.errors import ConfigurationError

SECRET = "postgresql://me:s3cret@db.example.org/agents"
ENTRY = {"mcpServers": {"memory": {"command": "memory-mcp"}}}


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user and a project of the test's own."""
    for name in [name for name in os.environ if name.startswith(("MEMORY_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path


COMMAND = get_command(app)
"""Made once: making all commands takes longer than any of these tests."""


def run(*arguments: str, code: int = 0, before: Sequence[str] = (), **environment: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    everything = redirect_stdout(out), redirect_stderr(err), patch.dict(os.environ, environment)
    with everything[0], everything[1], everything[2], pytest.raises(SystemExit) as ended:
        COMMAND.main([*before, "mcp", "config", *arguments])
    assert ended.value.code == code, err.getvalue()
    return out.getvalue(), err.getvalue()


def printed(*arguments: str, **environment: str) -> Any:
    return json.loads(run(*arguments, **environment)[0])


# -- what is printed


@pytest.mark.parametrize("client", CLIENTS)
def test_each_client_gets_its_own_shape(client: Client) -> None:
    document = printed(client, "--user", "alice", "--tenant", "acme", "--read-only")
    assert list(document) == ["servers" if client == "vscode" else "mcpServers"]
    entry = next(iter(document.values()))["memory"]
    assert Path(entry["command"]).name == "memory-mcp"
    assert entry["args"] == ["--read-only"]
    assert entry["env"] == {"MEMORY_TENANT": "acme", "MEMORY_USER_ID": "alice"}
    assert entry.get("type") == ("stdio" if client in {"vscode", "claude-code"} else None)


@pytest.mark.parametrize("client", CLIENTS)
def test_no_secret_is_printed_unless_asked_for(client: Client) -> None:
    for arguments in (["--database-url", SECRET], ["--http", "https://memory.example.com", "--bearer"]):
        out, err = run(client, *arguments, MEMORY_MCP_BEARER="mpt_s3cret")
        assert "s3cret" not in out + err
    shown = run(client, "--database-url", SECRET, "--show-secrets")[0]
    assert ("s3cret" in shown) == (client in {"claude-desktop", "cursor"}), "elsewhere there is no secret to show"


@pytest.mark.parametrize(
    ("client", "scope", "reference"),
    [
        ("vscode", "project", "${input:memory-database-url}"),
        ("vscode", "user", "${input:memory-database-url}"),
        ("claude-code", "project", "${MEMORY_DATABASE_URL}"),
        ("cursor", "project", "${env:MEMORY_DATABASE_URL}"),
        ("cursor", "user", SECRET),
        ("claude-desktop", "user", SECRET),
    ],
)
def test_a_password_gets_only_into_files_of_ones_own(client: str, scope: str, reference: str, at_home: Path) -> None:
    target = at_home / "file.json"
    run(client, "--scope", scope, "--database-url", SECRET, "--write", "--file", str(target))
    written = json.loads(target.read_text())
    (entry,) = written.get("mcpServers", written.get("servers")).values()
    assert entry["env"]["MEMORY_DATABASE_URL"] == reference
    asked = [each for each in written.get("inputs", []) if each["password"]]
    assert bool(asked) == (client == "vscode")


def test_what_the_environment_says_is_carried_along() -> None:
    env = {"MEMORY_DATABASE_URL": "postgresql://me@db/agents", "MEMORY_SCHEMA": "mine", "MEMORY_USER_ID": "alice"}
    assert printed("vscode", **env)["servers"]["memory"]["env"] == env
    assert printed("vscode", "--user", "bob", **env)["servers"]["memory"]["env"]["MEMORY_USER_ID"] == "bob"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_over_http_is_named_by_its_url(client: Client) -> None:
    (entry,) = next(iter(printed(client, "--http", "https://memory.example.com").values())).values()
    if client == "claude-desktop":
        assert entry == {"command": "npx", "args": ["-y", "mcp-remote", "https://memory.example.com/mcp"]}
    else:
        assert entry["url"] == "https://memory.example.com/mcp"
        assert "headers" not in entry
        assert entry.get("type") == (None if client == "cursor" else "http")


def test_claude_code_is_told_the_command_for_all_projects() -> None:
    err = run("claude-code", "--user", "al ice", "--database-url", SECRET)[1]
    assert (
        'claude mcp add --scope user memory --env "MEMORY_DATABASE_URL=$MEMORY_DATABASE_URL" '
        "--env 'MEMORY_USER_ID=al ice' -- memory-mcp" in err
    )
    assert "claude mcp add" in run("claude-code", "--scope", "user", "--write", code=1)[1]


def test_with_uvx_nothing_has_to_be_installed() -> None:
    entry = printed("claude-code", "--uvx", "--user", "alice")["mcpServers"]["memory"]
    assert [entry["command"], *entry["args"]] == ["uvx", "--from", "memory-plugin[embedded]", "memory-mcp"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["emacs"], "emacs"),
        (["cursor", "--scope", "planet"], "planet"),
        (["cursor", "--http", "ftp://x"], "https://"),
        (["cursor", "--http", "https://me:pw@x/mcp"], "without a password"),
        (["cursor", "--bearer"], "--http"),
        (["cursor", "--http", "https://x", "--read-only"], "where it was started"),
        (["cursor", "--name", " "], "--name"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(arguments: list[str], word: str) -> None:
    assert word in run(*arguments, code=2)[1]


def test_a_url_that_no_server_takes_is_refused_at_once() -> None:
    assert "must start with postgresql://" in run("cursor", "--database-url", "mysql://x", code=1)[1]


@pytest.mark.parametrize(
    ("client", "place", "platform", "expected"),
    [
        ("claude-desktop", "user", "darwin", "/Users/a/Library/Application Support/Claude/claude_desktop_config.json"),
        ("claude-desktop", "user", "linux", "/Users/a/.config/Claude/claude_desktop_config.json"),
        ("claude-code", "project", "linux", "/p/.mcp.json"),
        ("cursor", "user", "darwin", "/Users/a/.cursor/mcp.json"),
        ("cursor", "project", "linux", "/p/.cursor/mcp.json"),
        ("vscode", "project", "linux", "/p/.vscode/mcp.json"),
        ("vscode", "user", "darwin", "/Users/a/Library/Application Support/Code/User/mcp.json"),
        ("vscode", "user", "linux", "/Users/a/.config/Code/User/mcp.json"),
    ],
)
def test_the_file_is_where_the_client_looks(client: Client, place: Place, platform: str, expected: str) -> None:
    home, project = PurePosixPath("/Users/a"), PurePosixPath("/p")
    found = file_of(client, place, platform=platform, home=home, environment={}, project=project)
    assert found == PurePosixPath(expected)


def test_on_windows_the_file_is_in_the_roaming_directory() -> None:
    home, environment = PureWindowsPath(r"C:\Users\a"), {"APPDATA": r"D:\Roaming"}
    for client, expected in (
        ("claude-desktop", r"D:\Roaming\Claude\claude_desktop_config.json"),
        ("vscode", r"D:\Roaming\Code\User\mcp.json"),
        ("cursor", r"C:\Users\a\.cursor\mcp.json"),
    ):
        found = file_of(client, "user", platform="win32", home=home, environment=environment, project=home)
        assert found == PureWindowsPath(expected)


# -- what is written


def test_a_new_file_is_made_and_the_same_again_changes_nothing(at_home: Path) -> None:
    target = at_home / "home" / ".config" / "Claude" / "claude_desktop_config.json"
    assert "Created" in run("claude-desktop", "--user", "alice", "--write")[0]
    assert json.loads(target.read_text())["mcpServers"]["memory"]["env"] == {"MEMORY_USER_ID": "alice"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600, "a password may stand in it"
    assert "nothing was changed" in run("claude-desktop", "--user", "alice", "--write")[0]
    assert [each.name for each in target.parent.iterdir()] == [target.name]


def test_everything_else_stays_and_what_was_there_is_kept_beside(at_home: Path) -> None:
    target = at_home / "project" / ".cursor" / "mcp.json"
    target.parent.mkdir()
    before = (
        '{\r\n\t"theme": "dark é 🙂 \\ud800",\r\n\t"mcpServers": {\r\n\t\t"other": {"url": "x", "n": 1.0}\r\n\t}\r\n}'
    )
    target.write_bytes(before.encode())
    target.chmod(0o640)
    run("cursor", "--scope", "project", "--write")
    text = target.read_bytes().decode()
    document = json.loads(text)
    assert document["theme"] == "dark é 🙂 \ud800"
    assert document["mcpServers"]["other"] == {"url": "x", "n": 1.0}
    assert list(document["mcpServers"]) == ["other", "memory"]
    assert '\r\n\t"theme": "dark é 🙂' in text
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert (target.parent / "mcp.json.bak").read_bytes() == before.encode()
    run("cursor", "--scope", "project", "--write", "--name", "second")
    assert (target.parent / "mcp.json.bak1").read_bytes().decode() == text


def test_another_entry_of_the_name_is_replaced_only_by_force(at_home: Path) -> None:
    target = at_home / "project" / ".mcp.json"
    run("claude-code", "--user", "alice", "--write")
    before = target.read_bytes()
    out, err = run("claude-code", "--user", "bob", "--write", code=1)
    assert "--force" in err
    assert json.loads(out)["mcpServers"]["memory"]["env"] == {"MEMORY_USER_ID": "bob"}, "the snippet is shown"
    assert target.read_bytes() == before
    run("claude-code", "--user", "bob", "--write", "--force")
    assert json.loads(target.read_text())["mcpServers"]["memory"]["env"] == {"MEMORY_USER_ID": "bob"}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ('{\n  // mine\n  "servers": {}\n}', "comments"),
        ('{"servers": {} /* mine */}', "comments"),
        ('{"servers": {},}', "trailing commas"),
        ('{"inputs": [1, 2, /* last */ ], "url": "https://x//y"}', "comments or trailing commas"),
        ('{"servers": {}, "servers": {"a": 1}}', "twice"),
        ('{"servers": {', "not valid JSON"),
        ("[1]", "no object"),
        ('{"servers": [1]}', "no object"),
        ('{"inputs": {}, "servers": {}}', "no list"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_file_that_would_lose_something_is_left_alone(content: str, word: str, at_home: Path) -> None:
    target = at_home / "project" / ".vscode" / "mcp.json"
    target.parent.mkdir()
    target.write_text(content)
    out, err = run("vscode", "--database-url", SECRET, "--write", code=1)
    assert word in err
    assert json.loads(out)["servers"], "the snippet is shown, to be pasted"
    assert target.read_text() == content
    assert [each.name for each in target.parent.iterdir()] == ["mcp.json"]


def test_a_link_stays_one(at_home: Path) -> None:
    real, link = at_home / "dotfiles.json", at_home / "link.json"
    real.write_text("{}")
    link.symlink_to(real)
    merge(link, ENTRY)
    assert link.is_symlink()
    assert json.loads(real.read_text()) == ENTRY


def test_a_change_by_another_program_meanwhile_is_not_lost(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = at_home / "mcp.json"
    target.write_text("{}")
    keep = client_files._back_up

    def and_then(path: Path, content: bytes) -> Path:
        target.write_text('{"theirs": 1}')
        return keep(path, content)

    monkeypatch.setattr(client_files, "_back_up", and_then)
    with pytest.raises(ConfigurationError, match="another program"):
        merge(target, ENTRY)
    assert json.loads(target.read_text()) == {"theirs": 1}
    assert not [each for each in at_home.iterdir() if each.name.startswith(".mcp")], "nothing half is left"


def test_a_directory_that_cannot_be_written_is_said(at_home: Path) -> None:
    (at_home / "wall").write_text("a file")
    with pytest.raises(ConfigurationError, match=r"cannot be (read|written)"):
        merge(at_home / "wall" / "mcp.json", ENTRY)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30)
@given(
    st.dictionaries(st.text(max_size=6).filter(lambda key: key != "mcpServers"), _json, max_size=4),
    st.dictionaries(st.text(max_size=6).filter(lambda key: key != "memory"), _json, max_size=3),
    st.sampled_from([None, 2, "\t"]),
)
def test_whatever_stood_there_stands_there_still(rest: dict[str, Any], servers: dict[str, Any], indent: Any) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as directory:
        path = Path(directory, "mcp.json")
        path.write_text(json.dumps({**rest, "mcpServers": servers}, indent=indent))
        merge(path, ENTRY)
        after = json.loads(path.read_text())
    assert after == {**rest, "mcpServers": {**servers, **ENTRY["mcpServers"]}}


def test_the_command_that_is_printed_starts_the_server(at_home: Path) -> None:
    """What stands in the entry is a program that is there."""
    entry = printed("claude-desktop")["mcpServers"]["memory"]
    done = subprocess.run([entry["command"], "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("memory-mcp ")


def test_as_json_it_says_what_was_done(at_home: Path) -> None:
    out = run("cursor", "--database-url", SECRET, "--write", before=["--json"])[0]
    document = json.loads(out)
    assert (document["written"], document["action"], document["backup"]) == (True, "created", None)
    assert document["file"].endswith(".cursor/mcp.json")
    assert "s3cret" not in out
