"""The command line: what it takes, what it refuses, what it teaches, and the check."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_server.__main__ import main
from mcp_server.settings import ServerSettings, is_loopback, parse

CLOSED = "postgresql://nobody@127.0.0.1:1/none"


def test_without_arguments_it_serves_stdio_for_the_librarys_own_settings() -> None:
    assert parse([], {}) == ServerSettings()


def test_every_option_arrives() -> None:
    given = "--url postgresql://x/y --tenant t --user u --http --host ::1 --port 9 --read-only --log-level debug"
    assert parse(given.split(), {}) == ServerSettings(
        url="postgresql://x/y",
        tenant="t",
        user_id="u",
        http=True,
        host="::1",
        port=9,
        read_only=True,
        log_level="DEBUG",
    )


def test_the_check_has_a_short_name() -> None:
    assert parse(["check", "--user", "alice"]).check is True
    assert parse(["check", "--user", "alice"]).user_id == "alice"


def test_documents_are_added_only_where_that_is_said() -> None:
    assert parse([], {}).add_references is False
    assert parse(["--add-references"], {}).add_references is True
    assert parse([], {"MEMORY_MCP_ADD_REFERENCES": "1"}).add_references is True


def test_the_log_level_comes_from_the_environment_too() -> None:
    assert parse([], {"MEMORY_MCP_LOG_LEVEL": "info"}).log_level == "INFO"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--http --host 0.0.0.0", "without authentication"),
        ("--http --host ::", "without authentication"),
        ("--http --host memory.example", "without authentication"),
        ("--http --port 70000", "--port"),
        ("--http --port x", "--port"),
        ("--log-level loud", "log level must be one of"),
        ("--unknown", "--unknown"),
    ],
)
def test_what_cannot_work_ends_with_two_and_a_sentence(
    arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments.split(), {})
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("a.b", False),
        ("", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"], {})
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    for taught in ("memory-mcp check", "claude mcp add", '"mcpServers"', "MEMORY_DATABASE_URL", "/readyz"):
        assert taught in shown


def test_the_check_names_what_works(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--url", database_url, "--user", "alice"]) == 0
    shown = capsys.readouterr().out
    assert "database: ok" in shown
    assert "tenant 'default', user 'alice'" in shown
    assert "embedder: ok" in shown


def test_the_check_accepts_a_store_without_embedder(
    database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_EMBEDDINGS", "none")
    monkeypatch.setenv("MEMORY_DATABASE_URL", database_url)
    assert main(["--check"]) == 0
    assert "embedder: none" in capsys.readouterr().out


def test_the_check_fails_where_the_database_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--url", CLOSED]) == 1
    assert "database: failed: " in capsys.readouterr().out


def test_the_check_fails_where_the_embedder_does(
    database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_EMBEDDINGS", "nosuchprovider:model")
    assert main(["--check", "--url", database_url]) == 1
    assert "failed: " in capsys.readouterr().out


def test_no_password_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--check", "--url", "postgresql://u:hunter2@127.0.0.1:1/none"]) == 1
    shown = capsys.readouterr()
    assert "hunter2" not in shown.out + shown.err
