"""Runs the snippets of a Markdown page, one after the other, as a reader would.

- `python`: in one namespace a page, with top-level await, and with an open store as `memory` for those that
  open none.
- `sql`: against the same database; the rows print as psql prints them.
- `bash`, `console`: the lines that call memory-plugin, memory-mcp or alembic.
- `json`, `toml`, `yaml`: must parse.
- `text` right behind one of the first three, and the lines of a console below a command: what it prints, where
  `...` stands for anything.

HTML comments, which a reader does not see, say what is special:

    <!-- test: skip WHY -->           the next block is only looked at: it must parse
    <!-- test: file NAME -->          the next block is written to that file of the page's directory
    <!-- test: in the checkout -->    the next block runs at the top of the repository
    <!-- test: on DATABASE as ROLE -->  the next block runs in this database of the test server (the role: at will)
    <!-- test: run ... -->            Python that runs here
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import dataclasses
import doctest
import inspect
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import tomllib
import unittest.mock
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import alembic.config
import asyncpg
import pytest

import memory_plugin.cli
from memory_plugin.db.migrate import migrations_path
from memory_plugin.memory import Memory
from tests.conftest import as_user, with_database

ROOT = Path(__file__).resolve().parent.parent

_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w+-]*)\s*\Z")
_COMMENT = re.compile(r"<!--\s*test:\s*(?P<verb>\w+)\s*(?P<rest>.*?)\s*-->\Z", re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Z_]+=")

COMMANDS = ("memory-plugin", "memory-mcp", "alembic")

_EXECUTED = {"python", "sql", "bash", "console"}
_OUTPUT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(slots=True)
class Block:
    """A fenced block: where its text begins, what a comment before it asks for, what it prints."""

    page: str
    line: int
    language: str
    text: str
    verb: str = ""
    argument: str = ""
    printed: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page and the hidden ones, in order."""
    blocks: list[Block] = []
    verb = argument = ""
    near = False  # nothing but blank lines since the last block
    lines = iter(enumerate(page.read_text("utf-8").splitlines(), start=1))
    name = page.relative_to(ROOT).as_posix()
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence:
            text = "\n".join(_until(lines, lambda each: each.strip() == fence["fence"]))
            block = Block(name, number + 1, fence["language"], textwrap.dedent(text), verb, argument)
            if block.language == "text" and near and blocks[-1].language in _EXECUTED:
                blocks[-1].printed = block.text
            blocks.append(block)
            verb = argument = ""
            near = True
        elif line.lstrip().startswith("<!--"):
            comment = line if "-->" in line else "\n".join([line, *_until(lines, lambda each: "-->" in each), "-->"])
            found = _COMMENT.match(comment.strip())
            if found and found["verb"] == "run":
                blocks.append(Block(name, number, "python", textwrap.dedent(found["rest"]), "run"))
            elif found:
                verb, argument = found["verb"], found["rest"]
        elif line.strip():
            near = False
    return blocks


def _until(lines: Iterator[tuple[int, str]], ends: Callable[[str], bool]) -> list[str]:
    taken: list[str] = []
    for _, line in lines:
        if ends(line):
            return taken
        taken.append(line)
    raise AssertionError("a block or a comment is not closed")


@dataclass(slots=True)
class Page:
    """A page being run: `url` is the database of its snippets, `folder` their working directory."""

    path: Path
    url: str
    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})

    async def run(self) -> int:
        """Run every block; how many were executed."""
        count = 0
        async with contextlib.AsyncExitStack() as stack:
            memory: Memory | None = None
            for block in blocks_of(self.path):
                if block.verb == "skip":
                    assert block.argument, f"{block}: a skipped block needs a reason"
                    _look_at(block)
                elif block.verb == "file":
                    self._write(block)
                elif block.language == "python":
                    if memory is None and _wants_memory(block):
                        memory = await stack.enter_async_context(Memory.open(self.url))
                    self.names["memory"] = memory
                    _compare(block, await _run_python(block, self.names))
                    count += 1
                elif block.language == "sql":
                    _compare(block, await self._run_sql(block))
                    count += 1
                elif block.language in {"bash", "console"}:
                    _compare(block, await asyncio.to_thread(self._run_commands, block))
                    count += 1
                else:
                    _look_at(block)
        return count

    def _write(self, block: Block) -> None:
        text = block.text
        if not (ROOT / "memory_plugin" / "_migrations").exists():  # it is in the wheel, not in a checkout
            text = text.replace("memory_plugin:_migrations", str(migrations_path()))
        path = self.folder / block.argument
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", "utf-8")

    def _url_of(self, block: Block) -> str:
        if block.verb != "on":
            return self.url
        database, _, role = block.argument.partition(" as ")
        url = with_database(self.url, database)
        return as_user(url, role) if role else url

    async def _run_sql(self, block: Block) -> str:
        connection = await asyncpg.connect(self._url_of(block))
        try:
            printed = []
            for statement in _statements(block.text):
                prepared = await connection.prepare(statement) if _gives_rows(statement) else None
                if prepared is None:
                    await connection.execute(statement)
                else:
                    columns = [column.name for column in prepared.get_attributes()]
                    printed.append(_table(columns, await prepared.fetch()))
            return "\n".join(printed)
        except asyncpg.PostgresError as error:
            raise AssertionError(f"{block}: {error}") from error
        finally:
            await connection.close()

    def _run_commands(self, block: Block) -> str:
        directory = ROOT if block.verb == "in" else self.folder
        environment = {**os.environ, "MEMORY_DATABASE_URL": self._url_of(block), "COLUMNS": "140"}
        printed: list[str] = []
        for line, shown in _commands(block):
            words = shlex.split(line, comments=True)
            while words and _ASSIGNMENT.match(words[0]):
                name, _, value = words.pop(0).partition("=")
                environment[name] = environment[name] if name == "MEMORY_DATABASE_URL" else value
            if words and words[0] in COMMANDS:
                printed.append(_run_command(block, words, directory, environment))
                if shown:
                    _compare(dataclasses.replace(block, printed=shown), printed[-1])
        return "".join(printed)


def _commands(block: Block) -> list[tuple[str, str]]:
    """The command lines of a block, each with what a console shows below it."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "bash":
        return [(line, "") for line in lines]
    commands: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith("$ "):
            commands.append((line.removeprefix("$ "), ""))
        else:
            command, shown = commands.pop()
            commands.append((command, f"{shown}{line}\n"))
    return commands


def _run_command(block: Block, words: Sequence[str], directory: Path, environment: dict[str, str]) -> str:
    """Run a command as its script does: in this process, where starting one is most of the time."""
    if words[0] == "memory-mcp":
        return _run_server(block, words[1:], directory, environment)
    printed, said = io.StringIO(), io.StringIO()
    with (
        unittest.mock.patch.dict(os.environ, environment, clear=True),
        contextlib.chdir(directory),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) if words[0] == "memory-plugin" else contextlib.nullcontext() as ended,
    ):
        if words[0] == "memory-plugin":
            memory_plugin.cli.main(words[1:])
        else:
            alembic.config.main(argv=list(words[1:]), prog="alembic")
    code = ended.value.code if ended is not None else 0
    assert not code, f"{block}: {shlex.join(words)} ended with {code}\n{printed.getvalue()}{said.getvalue()}"
    return printed.getvalue()


def _run_server(block: Block, arguments: Sequence[str], directory: Path, environment: dict[str, str]) -> str:
    """Run the server in a process of its own: it sets up logging and signals for itself."""
    command = [sys.executable, "-m", "mcp_server", *arguments]
    if "--http" in arguments:
        return _serve_for_a_moment(block, command, directory, environment)
    done = subprocess.run(
        command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{block}: {shlex.join(command)} ended with {done.returncode}\n{done.stderr}"
    return done.stdout


def _serve_for_a_moment(block: Block, command: list[str], directory: Path, environment: dict[str, str]) -> str:
    """Start a server on a free port, see that it serves, and end it as a person would."""
    process = subprocess.Popen(
        [*command, "--port", "0"], cwd=directory, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        address = re.search(r"serving (http://\S+)/mcp", process.stderr.readline())
        assert address, f"{block} does not serve"
        with urllib.request.urlopen(f"{address[1]}/readyz", timeout=30) as answer:
            assert json.load(answer) == {"status": "ok"}
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()
    return ""


async def _run_python(block: Block, names: dict[str, Any]) -> str:
    """Run a block on this loop, or on a thread without one where nothing in it is awaited."""
    tree = ast.parse(block.text, f"{block.page}")
    ast.increment_lineno(tree, block.line - 1)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(tree, str(ROOT / block.page), "exec", flags=flags, dont_inherit=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, names)
        else:
            await asyncio.to_thread(exec, code, names)
    return printed.getvalue()


def _wants_memory(block: Block) -> bool:
    """Whether a block uses an open store and does not open one itself."""
    uses = [node.ctx for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.Name) and node.id == "memory"]
    return bool(uses) and not any(isinstance(use, ast.Store) for use in uses)


def _look_at(block: Block) -> None:
    """See that a block that is not run is at least what it says it is."""
    try:
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "yaml":
            import yaml

            yaml.safe_load(block.text)
        elif block.language in {"python", "pyi"}:
            compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (ValueError, SyntaxError) as error:
        raise AssertionError(f"{block}: {error}") from error


def _compare(block: Block, printed: str) -> None:
    if block.printed is not None:
        wanted = block.printed
        if not doctest.OutputChecker().check_output(wanted, printed, _OUTPUT):
            raise AssertionError(f"{block} prints\n{printed}\nand not\n{wanted}")


def _statements(text: str) -> list[str]:
    """The statements of a block; each ends with a semicolon at the end of a line."""
    parts = [part.strip() for part in re.split(r";[ \t]*(?:--[^\n]*)?(?:\n|\Z)", text)]
    return [part for part in parts if re.sub(r"--[^\n]*", "", part).strip()]


def _gives_rows(statement: str) -> bool:
    first = re.sub(r"--[^\n]*\n", "", statement).split(None, 1)[0]
    return first.upper() in {"SELECT", "WITH", "SHOW", "TABLE", "EXPLAIN"}


def _table(columns: Sequence[str], rows: Sequence[Any]) -> str:
    """Rows as psql prints them."""
    cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [" | ".join(name.center(width) for name, width in zip(columns, widths, strict=True))]
    lines.append("-+-".join("-" * width for width in widths))
    lines += [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join([*lines, f"({len(rows)} row{'' if len(rows) == 1 else 's'})"]) + "\n"
