"""The command line, run in this process and as a real one, against a real database."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from memory_plugin.cli import app, options
from memory_plugin.cli.output import Column, Output, clipped, plain, visible
from memory_plugin.cli.session import Session, _told
from memory_plugin.core import MemoryCore
from memory_plugin.db import SCHEMA_REVISION
from memory_plugin.db.urls import hide_secrets
from tests.conftest import as_user, run_sql, with_database

NOWHERE = "postgresql://me:s3cret@127.0.0.1:1/nothing"
UNKNOWN = "01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11"


class Ran:
    """How a command ended and what it said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def no_terminal_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the terminal of the tests says about its width and colours does not count."""
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bare() -> Run:
    """Run a command in this process, with no database named."""

    def run(*arguments: str, say: str | None = None, **environment: str) -> Ran:
        result = CliRunner().invoke(app, list(arguments), input=say, env=environment, catch_exceptions=False)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def cli(bare: Run, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process on a database of the test's own."""
    monkeypatch.setenv("MEMORY_DATABASE_URL", database_url)
    return bare


@pytest.fixture
def words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without vectors, which take a moment to load."""
    monkeypatch.setenv("MEMORY_EMBEDDINGS", "none")


@pytest.fixture
def thread(database_url: str) -> str:
    """A conversation of two messages, one of them with an escape sequence in it."""
    with MemoryCore.open(database_url, embeddings=False) as core:
        core.conversations.append(
            "support-42",
            [
                {"role": "user", "content": "My kettle \x1b[31mbroke", "name": "Alice"},
                {"role": "assistant", "content": "[bold]Which[/bold] kettle?"},
            ],
            user_id="alice",
        )
        core.conversations.merge_buffer("support-42", {"topic": "kettle"})
    return "support-42"


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    path = tmp_path / "handbook.md"
    path.write_text("# Handbook\n\nThe warranty lasts two years.\n\n## Returns\n\nReturns are free for 30 days.\n")
    return path


def process(*arguments: str, **environment: str | None) -> Ran:
    """Run a command as a process of its own, without a terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "memory_plugin.cli", *arguments],
        capture_output=True,
        encoding="utf-8",
        env=_environment(environment),
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def _environment(changes: dict[str, str | None]) -> dict[str, str]:
    merged: dict[str, str | None] = {**os.environ, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from _leaves(child, (*path, name))


PATHS = list(_leaves(get_command(app)))


class TestHelp:
    @pytest.mark.parametrize("path", PATHS, ids=" ".join)
    def test_every_command_says_what_it_is_for_and_gives_an_example(self, bare: Run, path: tuple[str, ...]) -> None:
        ran = bare(*path, "--help")
        assert ran.code == 0
        assert ran.err == ""
        assert f"memory-plugin {' '.join(path)}".strip() in ran.out.partition("Example")[2]

    @pytest.mark.parametrize("path", PATHS, ids=" ".join)
    def test_no_purpose_is_too_long_for_the_list_of_commands(self, bare: Run, path: tuple[str, ...]) -> None:
        listed = bare(*path, "--help").out.partition("Commands:")[2].partition("Example")[0]
        assert "..." not in listed

    def test_all_commands_of_the_contract_are_there(self) -> None:
        named = {" ".join(path) for path in PATHS}
        assert named >= {
            "demo", "serve", "doctor", "remember", "recall", "forget", "unforget",
            *(f"migrate {name}" for name in ("up", "down", "current", "sql", "history")),
            *(f"conversations {name}" for name in ("list", "show", "delete", "title")),
            *(f"references {name}" for name in ("add", "list", "show", "versions", "prune", "remove", "search")),
        }  # fmt: skip

    @pytest.mark.parametrize("name", ["DATABASE_URL", "DATA_DIR", "SCHEMA", "TENANT", "USER_ID", "EMBEDDINGS"])
    def test_it_names_the_environment(self, bare: Run, name: str) -> None:
        assert f"MEMORY_{name}" in bare("--help").out

    def test_it_fits_a_narrow_window(self) -> None:
        explained = process("forget", "--help", COLUMNS="50").out.partition("Examples")[0]
        assert max(map(len, explained.splitlines())) <= 50

    @pytest.mark.parametrize("option", ["--help", "--version"])
    def test_nothing_heavy_is_imported_for(self, option: str) -> None:
        code = (
            "import sys\n"
            "from memory_plugin.cli import main\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit: pass\n"
            "print(*sys.modules, file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)
        heavy = {
            "sqlalchemy",
            "asyncpg",
            "alembic",
            "langchain_core",
            "langchain",
            "langgraph",
            "numpy",
            "mcp",
            "pydantic_settings",
        }
        assert heavy & set(done.stderr.split()) == set()

    def test_version(self, bare: Run) -> None:
        text, document = bare("--version"), bare("--json", "--version")
        assert text.out == f"memory-plugin {document.json['version']}\n"
        assert (text.code, document.code) == (0, 0)


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], "Usage:"),
            (["nonsense"], "No such command"),
            (["--nonsense"], "No such option"),
            (["recall"], "Missing argument"),
            (["recall", "tea", "--since", "yesterday"], "--since: 'yesterday' is not a date"),
            (["recall", "tea", "--until", "2026-13-01"], "--until"),
            (["recall", "tea", "--since", "0001-01-01"], "--since"),
            (["recall", "tea", "--since", "999999w"], "--since"),
            (["recall", "tea", "--kind", "rumour"], "none of memory, message, reference"),
            (["recall", "tea", "--limit", "0"], "--limit"),
            (["remember", "tea", "--metadata", "topic"], "name=value"),
            (["remember", "tea", "--metadata", "=x"], "name=value"),
            (["forget"], "exactly one"),
            (["forget", UNKNOWN, "--user", "alice"], "exactly one"),
            (["conversations"], "Usage:"),
            (["references", "add"], "Missing argument"),
            (["migrate", "down"], "Missing argument"),
            (["--url", "postgresql://a/b", "--data-dir", "c", "recall", "x"], "two databases"),
            (["recall", "tea", "--json"], "--json goes before the command"),
            (["--json", "serve"], "leave --json out"),
            (["--json", "forget", "--user", "alice", "--hard"], "confirm with --yes"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_what_is_not_understood_ends_with_2(self, bare: Run, arguments: list[str], says: str) -> None:
        ran = bare(*arguments)
        assert ran.code == 2
        assert says in ran.err
        assert "Traceback" not in ran.err
        if "--json" in arguments:
            assert ran.json["error"]["type"] == "UsageError"
        else:
            assert ran.out == ""


class TestErrors:
    @pytest.mark.parametrize("command", [["recall", "tea"], ["migrate", "up"], ["conversations", "list"]], ids=" ".join)
    def test_a_database_that_is_not_there_is_one_line(self, bare: Run, command: list[str]) -> None:
        ran = bare("--url", NOWHERE, *command)
        assert (ran.code, ran.out) == (1, "")
        (line,) = ran.err.splitlines()
        assert line.startswith("Error: postgresql://me:***@127.0.0.1:1/nothing cannot be reached")
        assert "s3cret" not in line

    def test_as_json_it_is_a_document_too(self, bare: Run) -> None:
        ran = bare("--json", "--url", NOWHERE, "recall", "tea")
        assert ran.code == 1
        assert ran.json["error"]["type"] == "DatabaseUnavailableError"
        assert ran.err == f"Error: {ran.json['error']['message']}\n"

    def test_it_is_no_traceback_in_a_real_process_either(self) -> None:
        ran = process("--url", NOWHERE, "recall", "tea")
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1)

    @pytest.mark.parametrize(
        ("arguments", "kind"),
        [
            (["--url", "mysql://me@localhost/db", "recall", "tea"], "ConfigurationError"),
            (["--schema", "no such; name", "recall", "tea"], "ConfigurationError"),
            (["--tenant", "", "recall", "tea"], "ConfigurationError"),
            (["remember", "  "], "InvalidInputError"),
            (["forget", "not-an-id"], "InvalidInputError"),
            (["forget", UNKNOWN], "NotFoundError"),
            (["forget", "--thread", "nowhere", "--yes"], "NotFoundError"),
            (["forget", "--user", "nobody", "--yes"], "NotFoundError"),
            (["conversations", "show", "nowhere"], "NotFoundError"),
            (["conversations", "title", "nowhere", "A title"], "NotFoundError"),
            (["conversations", "delete", "nowhere", "--yes"], "NotFoundError"),
            (["conversations", "list", "--cursor", "made-up"], "InvalidInputError"),
            (["references", "show", "not-an-id"], "InvalidInputError"),
            (["references", "show", UNKNOWN], "NotFoundError"),
            (["references", "show", f"memory://reference/{UNKNOWN}/1#{UNKNOWN}"], "NotFoundError"),
            (["references", "remove", UNKNOWN, "--yes"], "NotFoundError"),
            (["migrate", "up", "nonsense"], "SchemaVersionError"),
            (["migrate", "down", "nonsense", "--yes"], "SchemaVersionError"),
            (["migrate", "sql", "nonsense"], "SchemaVersionError"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else value,
    )
    def test_each_names_its_kind_and_ends_with_1(
        self, cli: Run, words_only: None, arguments: list[str], kind: str
    ) -> None:
        ran = cli("--json", *arguments)
        assert ran.code == 1
        assert ran.json["error"]["type"] == kind
        assert ran.err == f"Error: {ran.json['error']['message']}\n"

    def test_a_schema_of_another_version_names_the_command(self, cli: Run, database_url: str) -> None:
        run_sql(database_url, "UPDATE memory.alembic_version SET version_num = '9999'")
        ran = cli("recall", "tea")
        assert ran.code == 1
        assert "newer than this version" in ran.err

    def test_a_variable_that_cannot_work_is_named(self, cli: Run) -> None:
        ran = cli("recall", "tea", MEMORY_POOL_SIZE="many")
        assert (ran.code, len(ran.err.splitlines())) == (1, 1)
        assert "MEMORY_POOL_SIZE" in ran.err

    @pytest.mark.skipif(sys.platform == "win32", reason="no signals to send there")
    def test_ctrl_c_ends_with_130_and_no_traceback(self) -> None:
        asking = subprocess.Popen(
            [sys.executable, "-m", "memory_plugin.cli", "forget", "--user", "alice", "--hard"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert asking.stderr is not None
        assert asking.stderr.read(5) == "Erase"
        time.sleep(0.2)
        asking.send_signal(signal.SIGINT)
        asking.wait(60)  # the end of what it reads would be an answer too
        out, err = asking.communicate(timeout=60)
        assert (asking.returncode, out) == (130, "")
        assert "Traceback" not in err

    def test_a_reader_that_leaves_early_is_no_traceback(self) -> None:
        writing = subprocess.Popen(
            [sys.executable, "-m", "memory_plugin.cli", "migrate", "sql"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert writing.stdout is not None
        assert writing.stderr is not None
        writing.stdout.close()
        assert writing.stderr.read() == ""
        writing.stderr.close()
        assert writing.wait(60) == 1


class TestFacts:
    def test_a_fact_is_remembered_and_recalled(self, cli: Run) -> None:
        stored = cli("remember", "Alice prefers tea", "--user", "alice", "--key", "drink")
        found = cli("recall", "what does Alice prefer?", "--user", "alice")
        assert (stored.code, found.code) == (0, 0)
        assert "created" in stored.out
        assert "Alice prefers tea" in found.out
        assert "alice, drink" in found.out
        assert stored.err + found.err == ""

    def test_as_json_every_part_is_there(self, cli: Run) -> None:
        item = cli(
            "--json", "remember", "The office opens at 9", "--user", "alice", "--thread", "t1",
            "--metadata", "floor=2", "--metadata", "open=true", "--metadata", "city=Lyon", "--metadata", "x=NaN",
        ).json["memory"]  # fmt: skip
        assert item["status"] == "created"
        assert item["metadata"] == {"floor": 2, "open": True, "city": "Lyon", "x": "NaN"}
        found = cli("--json", "recall", "office", "--user", "alice").json
        (hit,) = found["hits"]
        assert (hit["id"], hit["thread_id"], hit["kind"]) == (item["id"], "t1", "memory")
        assert hit["parts"]["words"] > 0
        assert hit["parts"]["meaning"] > 0
        assert datetime.fromisoformat(hit["at"]).tzinfo is not None

    def test_a_key_says_updated_and_the_same_text_duplicate(self, cli: Run, words_only: None) -> None:
        said = [
            cli("--json", "remember", text, "--key", "drink").json["memory"]["status"]
            for text in ("tea", "coffee", "coffee")
        ]
        assert said == ["created", "updated", "duplicate"]

    def test_the_text_may_come_from_standard_input(self, cli: Run, words_only: None) -> None:
        assert cli("--json", "remember", "-", say="piped\n").json["memory"]["content"] == "piped"

    def test_the_user_of_the_environment_is_the_default(self, cli: Run, words_only: None) -> None:
        item = cli("--json", "remember", "likes jazz", MEMORY_USER_ID="bob").json["memory"]
        assert item["user_id"] == "bob"

    def test_tenants_are_apart(self, cli: Run, words_only: None) -> None:
        cli("--tenant", "acme", "remember", "the code is blue")
        assert cli("--json", "recall", "code").json["hits"] == []
        assert len(cli("--json", "--tenant", "acme", "recall", "code").json["hits"]) == 1

    def test_nothing_found_is_no_failure(self, cli: Run, words_only: None) -> None:
        ran = cli("recall", "submarine")
        assert (ran.code, ran.out, ran.err) == (0, "", "Nothing was found.\n")

    def test_quiet_says_nothing_by_the_way(self, cli: Run, words_only: None) -> None:
        assert cli("--quiet", "recall", "submarine").err == ""

    def test_kind_thread_limit_and_time_narrow_the_answer(self, cli: Run, words_only: None, thread: str) -> None:
        cli("remember", "The kettle is blue")

        def kinds(*narrow: str) -> list[str]:
            return sorted(hit["kind"] for hit in cli("--json", "recall", "kettle", *narrow).json["hits"])

        assert kinds() == ["memory", "message", "message"]
        assert kinds("--kind", "memory") == ["memory"]
        assert len(kinds("--kind", "memory", "--kind", "message", "--limit", "1")) == 1
        assert kinds("--thread", thread) == ["message", "message"]
        assert kinds("--since", "1h") == ["memory", "message", "message"]
        assert kinds("--until", "1h") == []
        assert kinds("--since", "2000-01-01", "--until", "2000-01-02T10:00+02:00") == []

    def test_explain_shows_the_parts(self, cli: Run) -> None:
        cli("remember", "Alice prefers tea")
        assert "meaning" not in cli("recall", "tea").out
        assert "meaning" in cli("recall", "tea", "--explain").out

    def test_the_vectors_are_made_before_the_process_ends(self, cli: Run) -> None:
        cli("remember", "Alice prefers tea")
        assert "everything is indexed" in cli("doctor").out

    def test_an_embedder_that_fails_is_a_warning_and_the_fact_is_stored(self, cli: Run, tmp_path: Path) -> None:
        ran = process(
            "--json", "remember", "stored all the same",
            MEMORY_EMBEDDINGS="fake:broken", PYTHONPATH=str(_broken_langchain(tmp_path)),
        )  # fmt: skip
        assert (ran.code, ran.json["memory"]["status"]) == (0, "created")
        assert ran.err.startswith("Warning: What has no vector yet is found by words alone:")


def _broken_langchain(folder: Path) -> Path:
    """A `langchain.embeddings` whose embedder always fails."""
    package = folder / "fake" / "langchain"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "embeddings.py").write_text(
        "class Broken:\n"
        "    model = 'broken'\n"
        "    def embed_documents(self, texts): raise RuntimeError('no such host')\n"
        "    def embed_query(self, text): raise RuntimeError('no such host')\n"
        "def init_embeddings(model): return Broken()\n"
    )
    return package.parent


class TestForget:
    @pytest.fixture
    def item(self, cli: Run, words_only: None) -> str:
        return str(cli("--json", "remember", "Alice prefers tea", "--user", "alice").json["memory"]["id"])

    def test_one_memory_is_hidden_without_a_question(self, cli: Run, item: str, database_url: str) -> None:
        ran = cli("forget", item)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.split()[:2] == ["table", "rows"]
        assert "memories" in ran.out
        with MemoryCore.open(database_url, embeddings=False) as core:
            assert core.memories.undo(item).content == "Alice prefers tea"

    def test_erasing_asks_first_and_no_is_no(self, cli: Run, item: str) -> None:
        for say in ("n\n", "\n", ""):
            ran = cli("forget", item, "--hard", say=say)
            assert (ran.code, ran.out) == (1, "")
            assert "[y/N]" in ran.err
        assert len(cli("--json", "recall", "tea").json["hits"]) == 1

    def test_yes_is_yes(self, cli: Run, item: str) -> None:
        assert cli("forget", item, "--hard", say="y\n").code == 0
        assert cli("forget", item).code == 1

    def test_a_user_is_erased_everywhere(self, cli: Run, item: str, thread: str) -> None:
        said = cli("--json", "forget", "--user", "alice", "--hard", "--yes").json
        assert (said["rows"]["memories"], said["rows"]["conversations"], said["rows"]["messages"]) == (1, 1, 2)
        assert said["receipt"]["left"] == {}

    def test_a_thread_is_erased(self, cli: Run, item: str, thread: str) -> None:
        assert cli("--json", "forget", "--thread", thread, "--hard", "--yes").json["rows"]["messages"] == 2
        assert len(cli("--json", "recall", "tea kettle").json["hits"]) == 1


@pytest.mark.usefixtures("words_only")
class TestConversations:
    def test_list(self, cli: Run, thread: str) -> None:
        assert "support-42" in cli("conversations", "list").out
        page = cli("--json", "conversations", "list", "--user", "alice", "--search", "support").json
        assert [each["thread_id"] for each in page["conversations"]] == [thread]
        assert cli("--json", "conversations", "list", "--user", "bob").json == {"conversations": [], "cursor": None}

    def test_a_page_says_how_to_read_on(self, cli: Run, database_url: str) -> None:
        with MemoryCore.open(database_url, embeddings=False) as core:
            for number in range(3):
                core.conversations.create(f"t{number}")
        first = cli("conversations", "list", "--limit", "2")
        cursor = first.err.split("--cursor ")[1].strip()
        rest = cli("--json", "conversations", "list", "--limit", "2", "--cursor", cursor).json
        assert len(rest["conversations"]) == 1

    def test_show(self, cli: Run, thread: str) -> None:
        ran = cli("conversations", "show", thread)
        assert "Alice, " in ran.out
        assert "topic" in ran.out
        document = cli("--json", "conversations", "show", thread).json
        assert document["conversation"]["memory_buffer"] == {"topic": "kettle"}
        assert [each["role"] for each in document["messages"]] == ["human", "ai"]

    def test_show_only_the_newest(self, cli: Run, thread: str) -> None:
        assert len(cli("--json", "conversations", "show", thread, "--limit", "1").json["messages"]) == 1

    def test_stored_text_cannot_steer_the_terminal(self, cli: Run, thread: str) -> None:
        ran = cli("conversations", "show", thread, FORCE_COLOR="1")
        assert "My kettle \ufffd[31mbroke" in ran.out

    def test_stored_text_is_no_markup(self, cli: Run, thread: str) -> None:
        assert "[bold]Which[/bold] kettle?" in cli("conversations", "show", thread).out

    def test_title(self, cli: Run, thread: str) -> None:
        assert cli("conversations", "title", thread, "Broken kettle").out == "support-42: Broken kettle\n"
        assert cli("--json", "conversations", "title", thread, "").json["conversation"]["title"] is None

    def test_a_title_makes_no_conversation(self, cli: Run) -> None:
        cli("conversations", "title", "mistyped", "A title")
        assert cli("--json", "conversations", "list").json["conversations"] == []

    def test_delete(self, cli: Run, thread: str) -> None:
        assert cli("conversations", "delete", thread, say="n\n").code == 1
        assert cli("--json", "conversations", "delete", thread, "--yes").json["rows"]["messages"] == 2
        assert cli("conversations", "show", thread).code == 1


@pytest.mark.usefixtures("words_only")
class TestReferences:
    def test_add_says_what_became_of_each_file(self, cli: Run, handbook: Path) -> None:
        assert cli("references", "add", str(handbook)).out == "1 added, 0 updated, 0 unchanged, 0 failed\n"
        assert cli("references", "add", str(handbook)).out == "0 added, 0 updated, 1 unchanged, 0 failed\n"
        handbook.write_text("# Handbook\n\nThe warranty lasts three years.\n")
        report = cli("--json", "references", "add", str(handbook.parent), "--collection", "default").json
        assert report["updated"] == 1
        assert report["files"] == [{"name": handbook.as_posix(), "status": "updated", "reason": None, "notices": []}]
        assert report["interrupted"] is False

    def test_a_file_that_fails_has_a_reason_and_stops_no_other(self, cli: Run, handbook: Path) -> None:
        missing = handbook.with_name("missing.md")
        ran = cli("references", "add", str(missing), str(handbook))
        assert ran.code == 1
        assert ran.out.startswith("1 added, 0 updated, 0 unchanged, 1 failed\nfailed: ")
        assert "There is no file" in ran.out
        report = cli("--json", "references", "add", str(missing), str(handbook))
        assert (report.code, report.json["failed"]) == (1, 1)
        assert "There is no file" in report.json["files"][0]["reason"]

    def test_search_cites_and_show_opens_what_was_cited(self, cli: Run, handbook: Path) -> None:
        cli("references", "add", str(handbook), "--collection", "product")
        assert "Handbook" in cli("references", "search", "warranty", "--collection", "product").out
        (hit,) = cli("--json", "references", "search", "warranty").json["hits"]
        by_citation = cli("--json", "references", "show", hit["citation"]["uri"]).json
        by_id = cli("--json", "references", "show", hit["id"]).json
        assert by_citation == by_id
        assert [each["text"] for each in by_id["passages"]] == [hit["text"]]

    def test_a_person_sees_where_a_passage_is_and_can_open_it(
        self, cli: Run, handbook: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cli("references", "add", str(handbook))
        place = "1. Handbook, line 1 - "
        first = cli("references", "search", "warranty", COLUMNS="40").out.splitlines()[0]
        assert first == place + handbook.as_posix(), "in one line, however narrow the terminal is"
        monkeypatch.chdir(handbook.parent)
        assert cli("references", "search", "warranty").out.startswith(f"{place}handbook.md\n")
        with MemoryCore.open(database_url, embeddings=False) as core:
            core.references.add(text="Jam keeps a year.", title="Jam", source="https://example.com/jam")
            core.references.add(text="Honey keeps for ever.", title="Honey")
        assert "1. Jam, line 1 - https://example.com/jam\n" in cli("references", "search", "jam").out
        uri = cli("references", "search", "honey").out.splitlines()[0].removeprefix("1. Honey, line 1 - ")
        assert "Honey keeps" in cli("references", "show", uri).out

    def test_a_description_in_several_files_is_one_document_and_what_is_missing_is_named(
        self, cli: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "api.yaml").write_text(
            "openapi: 3.0.0\ninfo: {title: Shop}\npaths:\n"
            "  /refunds: {$ref: refunds.json}\n  /payouts: {$ref: payouts.json}\n"
        )
        (tmp_path / "refunds.json").write_text('{"post": {"summary": "Give money back"}}')
        name = (tmp_path / "api.yaml").as_posix()
        assert cli("references", "add", str(tmp_path), COLUMNS="1000").out.splitlines() == [
            "1 added, 0 updated, 0 unchanged, 0 failed",
            f"note: {name}: Read with 1 other file that it refers to.",
            f"note: {name}: Not read, because there is no such file: 'payouts.json'.",
        ]
        shown = cli("references", "search", "give money back", "--limit", "1").out
        assert shown.startswith(f"1. Shop, POST /refunds: Give money back, line 4 - {name} (in refunds.json)\n")

    @pytest.mark.skipif(sys.platform == "win32", reason="no signals to send there")
    @pytest.mark.parametrize("as_json", [False, True])
    def test_ctrl_c_tells_what_is_done_and_the_same_command_goes_on(
        self, cli: Run, handbook: Path, database_url: str, as_json: bool
    ) -> None:
        """It is stopped at a document that somebody else holds."""
        cli("references", "add", str(handbook))
        handbook.write_text("# Handbook\n\nThe warranty lasts three years.\n")
        handbook.with_name("another.md").write_text("Jam keeps a year.")
        arguments = ["--json"] * as_json + ["references", "add", str(handbook.parent), "--jobs", "1"]

        async def interrupted() -> tuple[int | None, str, str]:
            holding = await asyncpg.connect(database_url)
            async with holding.transaction():
                await holding.execute("SELECT FROM memory.documents FOR UPDATE")
                command = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "memory_plugin.cli", *arguments, stdout=-1, stderr=-1
                )
                waiting = "SELECT FROM pg_locks WHERE NOT granted"
                stored = "SELECT count(*) = 2 FROM memory.documents"
                watching = await asyncpg.connect(database_url)
                async with asyncio.timeout(60):
                    while not (await watching.fetch(waiting) and await watching.fetchval(stored)):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                await asyncio.sleep(0.2)  # what is stored is counted
                command.send_signal(signal.SIGINT)
                out, err = await command.communicate()
                await watching.close()
            await holding.close()
            return command.returncode, out.decode(), err.decode()

        code, out, err = asyncio.run(interrupted())
        assert code == 130
        if as_json:
            report = json.loads(out)
            assert (report["added"], report["updated"], report["interrupted"]) == (1, 0, True)
        else:
            assert out == "1 added, 0 updated, 0 unchanged, 0 failed\n"
            assert err == "Warning: interrupted. The same command goes on where it stopped.\n"
        assert cli("references", "add", str(handbook.parent)).out == "0 added, 1 updated, 1 unchanged, 0 failed\n"

    def test_documents_whose_files_left_a_folder_are_named_and_removed_on_demand(
        self, cli: Run, handbook: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        jam = handbook.with_name("jam.md")
        jam.write_text("Jam keeps a year.")
        elsewhere = tmp_path_factory.mktemp("elsewhere") / "tea.md"
        elsewhere.write_text("Tea.")
        folder = str(handbook.parent)
        cli("references", "add", folder, str(elsewhere))
        cli("references", "add", str(jam), "--collection", "other")
        jam.unlink()
        elsewhere.unlink()
        assert "missing" not in cli("references", "add", str(handbook)).out
        told = cli("references", "add", folder, COLUMNS="1000").out.splitlines()
        assert told == [
            "0 added, 0 updated, 1 unchanged, 0 failed",
            f"note: 1 stored file not in the folder any more, --remove-missing removes them: {jam.as_posix()}",
        ]
        removed = cli("--json", "references", "add", folder, "--remove-missing").json
        assert (removed["removed"], removed["missing"]) == (1, [jam.as_posix()])
        assert cli("references", "search", "jam", "--collection", "default").err == "Nothing was found.\n"
        assert len(cli("--json", "references", "list").json["documents"]) == 3
        handbook.unlink()
        empty = cli("--json", "references", "add", folder, "--remove-missing").json
        assert (empty["removed"], empty["failed"]) == (0, 1), "an empty folder may be a disk that is not there"

    def test_versions_are_listed_shown_by_their_address_and_pruned(self, cli: Run, handbook: Path) -> None:
        cli("references", "add", str(handbook))
        handbook.write_text("# Handbook\n\nThe warranty lasts three years.\n")
        cli("references", "add", str(handbook))
        (document,) = cli("--json", "references", "list").json["documents"]
        assert "current" in cli("references", "versions", document["id"]).out
        found = cli("--json", "references", "versions", document["id"]).json["versions"]
        assert [(each["version"], each["current"]) for each in found] == [(2, True), (1, False)]
        first = f"memory://reference/{document['id']}/1"
        assert "two years" in cli("references", "show", first).out
        assert cli("references", "prune", say="n\n").code == 1
        assert cli("--json", "references", "prune", "--yes").json["rows"]["document_versions"] == 1
        assert cli("references", "show", first).code == 1

    def test_search_with_neighbours_a_filter_and_by_document(self, cli: Run, handbook: Path) -> None:
        handbook.write_text("# One\n\nThe warranty lasts two years.\n\n# Two\n\nReturns take a week.\n")
        cli("references", "add", str(handbook), "--metadata", "audience=buyers", "--metadata", "year=2024")
        shown = cli("references", "search", "warranty", "--neighbours", "1", "--limit", "1").out
        assert shown.index("two years") < shown.index("Returns take a week")
        assert cli("references", "search", "warranty", "--filter", "audience=staff").err == "Nothing was found.\n"
        filters = ("--filter", "audience=buyers", "--filter", "year=2024")
        (found,) = cli("--json", "references", "search", "warranty", "--by-document", *filters).json["documents"]
        assert found["document"]["source"] == handbook.as_posix()
        assert "two years" in found["hits"][0]["text"]

    def test_many_files_are_read_in_processes(self, cli: Run, handbook: Path) -> None:
        for number in range(60):
            handbook.with_name(f"{number}.md").write_text(f"# Part {number}\n\nText of part {number}.\n")
        assert cli("references", "add", str(handbook.parent), "--jobs", "2").out.startswith("61 added")

    @pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
    @pytest.mark.parametrize("by", ["SIGINT", "SIGKILL"])
    def test_processes_end_with_the_command_and_say_nothing(self, by: str) -> None:
        """They hold its output open for as long as they live, and have hardly begun when the signal comes."""
        program = (
            "import time\n"
            "from memory_plugin.cli.processes import reading_processes\n"
            "try:\n"
            "    with reading_processes(2):\n"
            "        print('started', flush=True)\n"
            "        time.sleep(60)\n"
            "except KeyboardInterrupt:\n"
            "    print('interrupted')\n"
        )
        command = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        assert command.stdout is not None and command.stdout.readline() == "started\n"
        if by == "SIGINT":
            os.killpg(command.pid, signal.SIGINT)  # as a terminal does
        else:
            command.kill()
        said, _ = command.communicate(timeout=30)
        assert "Traceback" not in said
        assert ("interrupted" in said) == (by == "SIGINT")

    def test_list_show_and_remove(self, cli: Run, handbook: Path) -> None:
        cli("references", "add", str(handbook))
        assert "Handbook" in cli("references", "list").out
        (document,) = cli("--json", "references", "list").json["documents"]
        shown = cli("references", "show", document["id"], "--limit", "1")
        assert "The warranty lasts two years." in shown.out
        whole = cli("--json", "references", "show", document["id"]).json
        assert len(whole["passages"]) == document["chunk_count"] == 2
        assert cli("references", "remove", document["id"], say="n\n").code == 1
        assert cli("--json", "references", "remove", document["id"], "--yes").json["rows"]["documents"] == 1
        assert cli("references", "list").err == "There are no reference documents.\n"

    def test_a_collection_is_removed_and_others_stay(self, cli: Run, handbook: Path) -> None:
        for collection in ("old", "new"):
            cli("references", "add", str(handbook), "--collection", collection)
        assert cli("references", "remove", "--collection", "old", say="n\n").code == 1
        assert cli("--json", "references", "remove", "--collection", "old", "--yes").json["rows"]["documents"] == 1
        (left,) = cli("--json", "references", "list").json["documents"]
        assert left["collection"] == "new"
        for wrong in ([], [left["id"], "--collection", "new"]):
            assert cli("references", "remove", *wrong, "--yes").code == 2

    @pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
    def test_a_terminal_shows_progress_and_the_summary(self, cli: Run, handbook: Path) -> None:
        shown = _in_a_terminal("references", "add", str(handbook), TERM="xterm", COLUMNS="100")
        assert "1/1" in shown
        assert "1 added, 0 updated, 0 unchanged, 0 failed" in shown

    @pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
    def test_quiet_shows_no_progress(self, cli: Run, handbook: Path) -> None:
        assert "1/1" not in _in_a_terminal("--quiet", "references", "add", str(handbook), TERM="xterm")

    async def test_what_waits_for_the_index_is_told(self, core: MemoryCore) -> None:
        await core._indexer.stop()
        await core.references.add(text="# One\n\nText.\n\n# Two\n\nText.", media_type="text/markdown")
        told: asyncio.Queue[str] = asyncio.Queue()
        async with asyncio.timeout(30), _told(core, told.put_nowait, every=0.01):
            assert await told.get() == "2 to go by words, 0 by meaning"
            await core.indexed()
            while await told.get() != "0 to go by words, 0 by meaning":
                pass

    def test_progress_is_not_shown_without_a_terminal(self, cli: Run, handbook: Path) -> None:
        assert cli("references", "add", str(handbook)).err == ""


class TestMigrate:
    @pytest.fixture
    def empty(self, bare: Run, empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
        monkeypatch.setenv("MEMORY_DATABASE_URL", empty_database_url)
        return bare

    def test_up_down_and_current(self, empty: Run) -> None:
        assert "made when it is first opened" in empty("migrate", "current").err
        assert empty("migrate", "up").out == f"memory: base -> {SCHEMA_REVISION}\n"
        assert empty("migrate", "up").out == f"memory: at {SCHEMA_REVISION}, nothing to do\n"
        assert empty("--json", "migrate", "current").json == {
            "schema": "memory", "revision": SCHEMA_REVISION, "needed": SCHEMA_REVISION, "is_current": True,
        }  # fmt: skip
        assert empty("--json", "migrate", "down", "base", "--yes").json == {
            "schema": "memory", "from": SCHEMA_REVISION, "to": None,
        }  # fmt: skip

    def test_down_asks_first(self, cli: Run) -> None:
        ran = cli("migrate", "down", "base", say="n\n")
        assert (ran.code, ran.out) == (1, "")
        assert cli("--json", "migrate", "current").json["is_current"]

    def test_down_takes_a_relative_revision(self, cli: Run) -> None:
        assert cli("--json", "migrate", "down", "-1", "--yes").json["from"] == SCHEMA_REVISION

    def test_another_schema(self, empty: Run) -> None:
        assert empty("--schema", "agents", "migrate", "up").out.startswith("agents: base -> ")
        assert empty("--json", "migrate", "current").json["revision"] is None

    def test_sql_is_what_up_runs(self, empty: Run, empty_database_url: str) -> None:
        statements = empty("--schema", "agents", "migrate", "sql").out
        assert empty("--json", "--schema", "agents", "migrate", "sql").json["sql"] == statements
        inside = statements.replace("BEGIN;", "").replace("COMMIT;", "")
        run_sql(empty_database_url, inside)
        assert empty("--json", "--schema", "agents", "migrate", "current").json["is_current"]

    @pytest.mark.parametrize("command", ["sql", "history"])
    def test_without_a_database(self, bare: Run, command: str) -> None:
        assert bare("--url", NOWHERE, "migrate", command).code == 0

    def test_history(self, bare: Run) -> None:
        (first,) = [each for each in bare("--json", "migrate", "history").json["revisions"] if each["after"] is None]
        assert first["revision"] == "0001"
        assert "0002" in bare("migrate", "history").out

    def test_a_newer_schema_is_explained(self, cli: Run, database_url: str) -> None:
        run_sql(database_url, "UPDATE memory.alembic_version SET version_num = '9999'")
        ran = cli("--json", "migrate", "current")
        assert (ran.code, ran.json["is_current"]) == (0, False)
        assert "newer than this version" in ran.err


def _statuses(ran: Ran) -> dict[str, str]:
    return {check["name"]: check["status"] for check in ran.json["checks"]}


class TestDoctor:
    def test_all_is_well(self, cli: Run) -> None:
        ran = cli("--json", "doctor")
        assert ran.code == 0
        assert ran.json["is_healthy"]
        names = {
            "version",
            "settings",
            "database",
            "PostgreSQL",
            "pgvector",
            "schema",
            "rows",
            "index",
            "indexes",
            "tables",
            "retention",
            "roles",
            "embedder",
        }
        assert _statuses(ran) == dict.fromkeys(names, "ok")
        assert cli("doctor").out.endswith("\nEverything works.\n")

    def test_it_counts_the_rows_of_the_tenant(self, cli: Run, words_only: None) -> None:
        cli("remember", "one")
        cli("--tenant", "acme", "remember", "two")
        assert cli("--json", "doctor").json["rows"]["memories"] == 1

    def test_it_says_where_each_setting_is_from(self, cli: Run) -> None:
        ran = cli("--json", "--tenant", "acme", "doctor", MEMORY_LANGUAGE="german")
        sources = {each["name"]: each["source"] for each in ran.json["settings"]}
        assert sources["MEMORY_TENANT"] == "--tenant"
        assert sources["MEMORY_LANGUAGE"] == "environment"
        assert sources["MEMORY_DATABASE_URL"] == "environment"
        assert sources["MEMORY_SCHEMA"] == "default"

    @pytest.mark.parametrize("how", [[], ["--json"]], ids=["text", "json"])
    def test_an_unreachable_database_is_an_error_without_its_password(self, bare: Run, how: list[str]) -> None:
        ran = bare(*how, "--url", NOWHERE, "doctor", MEMORY_EMBEDDINGS="none")
        assert ran.code == 1
        assert "cannot be reached" in " ".join(ran.out.split())
        assert "s3cret" not in ran.out

    def test_a_database_that_works_is_shown_without_its_password(self, bare: Run, database_url: str) -> None:
        url = as_user(database_url, "postgres:s3cret")
        ran = bare("--url", url, "doctor", MEMORY_EMBEDDINGS="none")
        assert ran.code == 0
        assert "postgres:***@" in ran.out
        assert "s3cret" not in ran.out

    def test_it_makes_nothing_in_an_empty_database(self, bare: Run, empty_database_url: str) -> None:
        ran = bare("--json", "--url", empty_database_url, "doctor", MEMORY_EMBEDDINGS="none")
        assert (ran.code, _statuses(ran)["schema"]) == (0, "ok")
        assert bare("--json", "--url", empty_database_url, "migrate", "current").json["revision"] is None

    def test_a_role_that_may_not_make_the_schema_is_an_error(self, bare: Run, empty_database_url: str) -> None:
        run_sql(empty_database_url, "DROP ROLE IF EXISTS cli_guest", "CREATE ROLE cli_guest LOGIN")
        ran = bare("--json", "--url", as_user(empty_database_url, "cli_guest"), "doctor", MEMORY_EMBEDDINGS="none")
        run_sql(empty_database_url, "DROP ROLE cli_guest")
        assert (ran.code, _statuses(ran)["schema"]) == (1, "error")

    def test_a_schema_of_another_version_is_an_error(self, cli: Run, words_only: None, database_url: str) -> None:
        run_sql(database_url, "UPDATE memory.alembic_version SET version_num = '9999'")
        ran = cli("--json", "doctor")
        assert (ran.code, _statuses(ran)["schema"]) == (1, "error")

    def test_a_table_that_is_missing_is_an_error(self, cli: Run, words_only: None, database_url: str) -> None:
        run_sql(database_url, "DROP TABLE memory.user_memory")
        ran = cli("--json", "doctor")
        assert (ran.code, _statuses(ran)["database"]) == (1, "error")

    def test_a_backlog_is_a_warning(self, cli: Run, words_only: None, thread: str) -> None:
        ran = cli("--json", "doctor")
        assert (ran.code, _statuses(ran)["index"]) == (0, "warning")
        assert "1 warning" in cli("doctor").out

    def test_no_embedder_by_choice_is_fine(self, cli: Run, words_only: None) -> None:
        assert _statuses(cli("--json", "doctor"))["embedder"] == "ok"

    def test_an_embedder_that_cannot_be_is_an_error(self, cli: Run) -> None:
        ran = cli("--json", "doctor", MEMORY_EMBEDDINGS="nonsense")
        assert (ran.code, _statuses(ran)["embedder"]) == (1, "error")

    def test_an_embedder_that_fails_is_an_error(self, cli: Run, tmp_path: Path) -> None:
        ran = process("--json", "doctor", MEMORY_EMBEDDINGS="fake:broken", PYTHONPATH=str(_broken_langchain(tmp_path)))
        assert (ran.code, _statuses(ran)["embedder"]) == (1, "error")

    def test_vectors_of_another_width_are_an_error(self, cli: Run, database_url: str) -> None:
        cli("remember", "tea")
        run_sql(database_url, "UPDATE memory.embedding_models SET dims = 7")
        ran = cli("--json", "doctor")
        assert (ran.code, _statuses(ran)["vectors"]) == (1, "error")

    def test_a_mistyped_variable_is_a_warning_with_the_right_name(self, cli: Run, words_only: None) -> None:
        ran = cli("--json", "doctor", MEMORY_DATABSE_URL="x", MEMORY_MCP_LOG_LEVEL="INFO")
        (warning,) = [check for check in ran.json["checks"] if check["status"] == "warning"]
        assert "MEMORY_DATABSE_URL" in warning["detail"]
        assert "MEMORY_DATABASE_URL" in warning["advice"]

    def test_settings_that_cannot_be_read_are_an_error(self, cli: Run) -> None:
        ran = cli("--json", "doctor", MEMORY_POOL_SIZE="-1")
        assert (ran.code, _statuses(ran)) == (1, {"settings": "error"})

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://me:PASSWORD@host/db",
            "postgresql://me:PASS/PASSWORD@host/db",
            "postgresql://me:a@PASSWORD@host/db",
            "postgresql://me:a?PASSWORD@host/db",
            "postgresql://me:a#PASSWORD@host/db",
            "postgresql://:PASSWORD@host/db",
            "postgresql://me@host/db?password=PASSWORD",
            "postgresql://me@host/db?sslmode=require&sslpassword=PASSWORD&x=y",
        ],
    )
    def test_no_password_is_shown(self, url: str) -> None:
        assert "PASSWORD" not in hide_secrets(url)

    def test_what_is_no_password_is_shown(self) -> None:
        url = "postgresql://me@host:5432/db?sslmode=require"
        assert hide_secrets(url) == url


class TestServe:
    def test_check_works_on_the_database_named(self, cli: Run, words_only: None) -> None:
        ran = cli("serve", "--check", "--user", "alice")
        assert ran.code == 0
        assert "identity: tenant 'default', user 'alice'" in ran.out

    def test_the_options_before_the_command_reach_the_server(self, empty_database_url: str) -> None:
        ran = process(
            "--url", empty_database_url, "--schema", "agents", "--tenant", "acme", "serve", "--check",
            MEMORY_EMBEDDINGS="none",
        )  # fmt: skip
        assert ran.code == 0
        assert "schema='agents'" in ran.out
        assert "tenant 'acme'" in ran.out

    def test_what_the_server_does_not_understand_ends_with_2(self) -> None:
        assert process("serve", "--log-level", "LOUD").code == 2


class TestJson:
    """With --json standard output is one document, whatever the command and however it ends."""

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--version"], ["doctor"], ["remember", "tea"], ["recall", "tea"], ["forget", UNKNOWN],
            ["conversations", "list"], ["conversations", "show", "x"], ["conversations", "title", "x", "y"],
            ["conversations", "delete", "x"], ["references", "list"], ["references", "add", "/no/such/file"],
            ["references", "search", "tea"], ["references", "show", UNKNOWN], ["references", "remove", UNKNOWN],
            ["migrate", "current"], ["migrate", "up"], ["migrate", "sql"], ["migrate", "history"],
            ["migrate", "down", "base"], ["recall"], ["nonsense"],
        ],
        ids=" ".join,
    )  # fmt: skip
    def test_standard_output_is_one_document(self, cli: Run, words_only: None, arguments: list[str]) -> None:
        ran = cli("--json", *arguments)
        assert isinstance(ran.json, dict)
        assert ("error" in ran.json) == (ran.code != 0 and arguments[:2] != ["references", "add"])

    def test_text_of_every_script_survives_an_ascii_terminal(self, cli: Run, words_only: None) -> None:
        text = "Ünïcödé 漢字 🙂"
        for encoding in ("ascii", "utf-8"):
            ran = process("--json", "remember", text, "--key", "k", PYTHONIOENCODING=encoding)
            assert ran.json["memory"]["content"] == text

    def test_text_output_survives_an_ascii_terminal(self, cli: Run, words_only: None) -> None:
        cli("remember", "Ünïcödé 漢字")
        ran = process("recall", "Ünïcödé", PYTHONIOENCODING="ascii")
        assert ran.code == 0
        assert "\\u6f22" in ran.out

    @given(st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes() | st.uuids() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=10,
    ))  # fmt: skip
    def test_whatever_a_value_holds_becomes_json(self, value: object) -> None:
        json.loads(json.dumps(plain({"value": value}), allow_nan=False))


class TestLooks:
    @pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
    def test_no_line_is_wider_than_the_terminal(self, cli: Run, words_only: None, width: int) -> None:
        cli("remember", "Alice prefers green tea in the morning, and black tea after lunch", "--user", "alice")
        ran = cli("recall", "tea", "--explain", COLUMNS=str(width))
        assert ran.code == 0
        assert max(map(len, ran.out.splitlines())) <= width

    @pytest.mark.parametrize("width", [40, 80, 120])
    def test_an_id_is_never_broken(self, cli: Run, words_only: None, width: int) -> None:
        item = cli("--json", "remember", "Alice prefers tea " * 9, "--user", "alice").json["memory"]["id"]
        assert item in cli("recall", "tea", COLUMNS=str(width)).out

    def test_a_pipe_gets_no_escape_sequences(self, cli: Run) -> None:
        cli("remember", "tea")
        assert "\x1b" not in process("recall", "tea").out + process("doctor").out

    @pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
    @pytest.mark.parametrize(
        ("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
    )
    def test_colours_only_where_they_are_wanted(
        self, cli: Run, words_only: None, variables: dict[str, str], coloured: bool
    ) -> None:
        shown = _in_a_terminal("doctor", **{"TERM": "xterm"} | variables)
        assert ("\x1b[32m" in shown) == coloured
        assert "Everything works." in shown

    def test_a_table_without_room_becomes_paragraphs(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "30")
        Output().table([Column("id", fixed=True), Column("text")], [["x" * 20, "a fairly long text"], ["y", ""]])
        assert capsys.readouterr().out == f"id: {'x' * 20}\ntext: a fairly long text\n\nid: y\n"

    @given(st.text())
    def test_nothing_visible_steers_a_terminal(self, text: str) -> None:
        shown = visible(text)
        assert not any(ord(char) < 32 and char not in "\t\n" for char in shown)
        assert not any(0x7F <= ord(char) < 0xA0 for char in shown)

    @given(st.text(), st.integers(1, 20))
    def test_clipped_text_is_one_line_within_its_length(self, text: str, length: int) -> None:
        assert len(clipped(text, length)) <= length
        assert "\n" not in clipped(text, length)


def _in_a_terminal(*arguments: str, **environment: str | None) -> str:
    """What a command shows in a terminal of its own."""
    import pty

    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "memory_plugin.cli", *arguments],
        stdin=follower, stdout=follower, stderr=follower, env=_environment(environment),
    ):  # fmt: skip
        os.close(follower)
        shown = b""
        try:
            while part := os.read(leader, 65536):
                shown += part
        except OSError:  # how Linux says that the other side was closed
            pass
    os.close(leader)
    return shown.decode()


class TestOptions:
    def test_how_long_ago(self) -> None:
        found = options.moment("2w", "--since")
        assert found is not None
        assert abs(datetime.now(UTC) - timedelta(weeks=2) - found) < timedelta(seconds=5)

    def test_a_time_with_a_zone_keeps_it(self) -> None:
        assert options.moment("2026-03-01T09:30+02:00", "--since") == datetime(2026, 3, 1, 7, 30, tzinfo=UTC)

    def test_a_time_without_a_zone_is_local(self) -> None:
        assert options.moment("2026-03-01", "--since") == datetime(2026, 3, 1).astimezone()

    @given(st.text())
    def test_any_text_is_a_time_or_a_usage_error(self, text: str) -> None:
        with contextlib.suppress(typer.BadParameter):
            assert options.moment(text, "--since") is not None

    @given(
        st.dictionaries(st.text(min_size=1).filter(lambda name: name.strip() == name and "=" not in name), st.text())
    )
    def test_metadata_keeps_names(self, pairs: dict[str, str]) -> None:
        read = options.metadata([f"{name}={value}" for name, value in pairs.items()])
        assert set(read or {}) == set(pairs)

    def test_a_data_directory_wins_over_the_url_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MEMORY_DATABASE_URL", NOWHERE)
        settings = Session(data_dir=Path("here")).settings()
        assert (settings.database_url, settings.data_dir) == (None, Path("here"))

    def test_the_url_of_an_option_wins_over_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MEMORY_DATABASE_URL", NOWHERE)
        url = Session(url="postgresql://other/db").settings().database_url
        assert url is not None
        assert url.get_secret_value() == "postgresql://other/db"


def test_the_embedded_database_needs_no_url(tmp_path: Path) -> None:
    """Two processes one after the other share what the first one stored."""
    place = ("--data-dir", str(tmp_path / "data"))
    assert process(*place, "remember", "Alice prefers tea", MEMORY_EMBEDDINGS="none").code == 0
    assert "Alice prefers tea" in process(*place, "recall", "tea", MEMORY_EMBEDDINGS="none").out
    ran = process("--json", *place, "doctor", MEMORY_EMBEDDINGS="none")
    (database,) = [check["detail"] for check in ran.json["checks"] if check["name"] == "database"]
    assert f"embedded, in {tmp_path / 'data'} (" in database
    assert "process " in database


def test_another_database_on_the_same_server_is_another_store(cli: Run, words_only: None, server_url: str) -> None:
    cli("remember", "tea")
    ran = cli("--json", "--url", with_database(server_url, "postgres"), "migrate", "current")
    assert ran.json["revision"] is None
