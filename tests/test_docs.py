"""The documentation: its snippets run, its links lead somewhere, its references are complete."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import re
import textwrap
import tomllib
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from memory_plugin.db.database import Database
from memory_plugin.settings import Settings
from tests.conftest import run_sql
from tests.snippets import ROOT, Block, Page, blocks_of

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
EVERY_PAGE = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *PAGES]
REFERENCE = DOCS / "reference"


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# ---------------------------------------------------------------- snippets


@pytest.fixture
def page_url(request: pytest.FixtureRequest, server_url: str) -> Iterator[str]:
    """The database of a page, empty where the page is about making it; roles that it makes are dropped."""
    fixture = "empty_database_url" if request.node.callspec.params["page"].stem == "migrations" else "database_url"
    yield request.getfixturevalue(fixture)
    run_sql(
        server_url,
        "DROP DATABASE IF EXISTS agents WITH (FORCE)",
        "DROP ROLE IF EXISTS agents_owner, agents_app",
    )


@pytest.mark.parametrize("page", PAGES, ids=named)
async def test_every_snippet_of_a_page_runs(
    page: Path, page_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_DATABASE_URL", page_url)
    monkeypatch.chdir(tmp_path)
    await Page(page, page_url, tmp_path).run()


def test_few_snippets_are_skipped_and_each_says_why() -> None:
    skipped = [block for page in EVERY_PAGE for block in blocks_of(page) if block.verb == "skip"]
    assert len(skipped) <= 2
    assert all(block.argument for block in skipped)


def test_every_fenced_block_names_its_language() -> None:
    assert [str(block) for page in EVERY_PAGE for block in blocks_of(page) if not block.language] == []


# ---------------------------------------------------------------- links


@cache
def anchors_of(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} (.+?)\s*$", without_code(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading).lower()
        kept = (char for char in plain if char in "-_ " or unicodedata.category(char)[0] in "LN")
        slug = "".join(kept).replace(" ", "-")
        again = sum(each == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", each) is not None for each in found)
        found.append(f"{slug}-{again}" if again else slug)
    return frozenset(found)


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def links_of(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", without_code(page))


@pytest.mark.parametrize("page", EVERY_PAGE, ids=named)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links_of(page):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        if not target.exists() or (parts.fragment and parts.fragment not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def test_nothing_links_out_of_the_repository() -> None:
    """What is not linked cannot rot."""
    out = {link for page in EVERY_PAGE for link in links_of(page) if urlsplit(link).scheme}
    assert out == set()


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page.suffix == ".md" and page not in reached:
            reached.add(page)
            waiting += [(page.parent / urlsplit(link).path).resolve() for link in links_of(page)]
    assert [named(page) for page in PAGES if page not in reached] == []


def test_the_picture_is_well_formed() -> None:
    root = ElementTree.parse(DOCS / "one-database.svg").getroot()
    assert root.find("{http://www.w3.org/2000/svg}title") is not None


# ---------------------------------------------------------------- tables in pages


def sections_of(page: Path, level: int) -> dict[str, str]:
    """The text under each heading of a level, by heading."""
    parts = re.split(rf"^#{{{level}}} (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    end = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE)
    return {name.strip(): end.split(text)[0] for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def rows_of(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their heads."""
    lines = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip().removesuffix("|").strip() for cell in line] for line in lines]


# ---------------------------------------------------------------- configuration


def test_the_configuration_page_has_every_setting_with_its_default() -> None:
    text = (REFERENCE / "configuration.md").read_text("utf-8").split("\n## ")[0]
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows_of(text)}
    real = {
        field.validation_alias or f"MEMORY_{name.upper()}": "unset"
        if field.default is None
        else json.dumps(field.default).strip('"')
        for name, field in Settings.model_fields.items()
    }
    assert documented == real


def test_the_configuration_page_has_every_other_variable_that_the_code_reads() -> None:
    read = set()
    for folder in ("memory_plugin", "mcp_server"):
        for path in (ROOT / folder).rglob("*.py"):
            read |= set(re.findall(r"\bMEMORY_[A-Z_]*[A-Z]\b", path.read_text("utf-8")))
    page = (REFERENCE / "configuration.md").read_text("utf-8")
    assert [name for name in sorted(read) if f"`{name}`" not in page] == []


# ---------------------------------------------------------------- schema


async def test_the_schema_page_has_every_table_and_column_with_its_type(database: Database) -> None:
    rows = await database.fetch(
        """
        SELECT c.relname AS table, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'
        ORDER BY a.attnum
        """
    )
    real: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        real.setdefault(row["table"], []).append((row["column"], row["type"]))
    documented = {
        table: [(row[0].strip("`"), row[1]) for row in rows_of(text)]
        for table, text in sections_of(REFERENCE / "schema.md", 3).items()
    }
    assert documented == real


# ---------------------------------------------------------------- command line


def test_the_command_line_page_has_every_command_and_option() -> None:
    import typer

    from memory_plugin.cli import app

    real: dict[str, set[str]] = {}

    def walk(command: Any, name: str) -> None:
        real[name] = {option for each in command.params if each.param_type_name == "option" for option in each.opts}
        for part, below in getattr(command, "commands", {}).items():
            walk(below, f"{name} {part}")
        if getattr(command, "commands", {}) and name != "memory-plugin":
            assert real.pop(name) == set(), "a group has options of its own: give it a section"

    walk(typer.main.get_command(app), "memory-plugin")
    documented = documented_options()
    documented.pop("memory-mcp")
    assert documented == real


def test_the_command_line_page_has_every_option_of_the_server() -> None:
    from mcp_server.settings import _parser

    real = {option for action in _parser({})._actions for option in action.option_strings}
    assert documented_options()["memory-mcp"] == real - {"-h", "--help"}


def documented_options() -> dict[str, set[str]]:
    page = REFERENCE / "cli.md"
    found = {}
    for level in (2, 3):
        for name, text in sections_of(page, level).items():
            own = re.split(r"^### ", text, flags=re.MULTILINE)[0]
            found[name] = {option for row in rows_of(own) for option in re.findall(r"`(-[-a-z]+)", row[0])}
    return found


# ---------------------------------------------------------------- Python


def stubs() -> list[tuple[str, Block]]:
    """The stubs of the Python page, each with the module its first line names."""
    return [
        (block.text.splitlines()[0].removeprefix("# "), block)
        for block in blocks_of(REFERENCE / "python.md")
        if block.language == "pyi"
    ]


@pytest.mark.parametrize(("module", "block"), stubs(), ids=lambda value: str(value))
def test_every_stub_says_what_the_code_has(module: str, block: Block) -> None:
    home = importlib.import_module(module)
    for node in ast.parse(block.text).body:
        if isinstance(node, ast.ClassDef):
            check_class(getattr(home, node.name), node)
        else:
            assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            assert signature_of(getattr(home, node.name)) == written(node)


def check_class(real: type, node: ast.ClassDef) -> None:
    functions = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        attribute = inspect.getattr_static(real, function.name)
        decorators = {ast.unparse(each) for each in function.decorator_list}
        if "property" in decorators:
            assert not callable(attribute), f"{function.name} is no property"
            continue
        assert isinstance(attribute, classmethod) == ("classmethod" in decorators)
        method = getattr(attribute, "__func__", attribute)
        assert inspect.iscoroutinefunction(method) == isinstance(function, ast.AsyncFunctionDef), function.name
        assert signature_of(method) == written(function)
    annotated = [each for each in node.body if isinstance(each, ast.AnnAssign)]
    if annotated:
        assert [field_of(each) for each in dataclasses.fields(real)] == [ast.unparse(each) for each in annotated]


def written(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returns}"


def signature_of(function: Any) -> str:
    """The signature as it stands in the source."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return with_values(written(node).replace("builtins.", ""), inspect.getmodule(function))


def with_values(signature: str, module: Any) -> str:
    """The signature with the value of a constant that is a default, in place of its name."""
    return re.sub(r"=([A-Z][A-Z_]+)\b", lambda found: f"={getattr(module, found[1])!r}", signature)


def field_of(field: dataclasses.Field[Any]) -> str:
    kind = str(field.type)
    if field.default is not dataclasses.MISSING:
        return ast.unparse(ast.parse(f"{field.name}: {kind} = {field.default!r}"))
    if field.default_factory is not dataclasses.MISSING:
        return ast.unparse(ast.parse(f"{field.name}: {kind} = {field.default_factory()!r}"))
    return ast.unparse(ast.parse(f"{field.name}: {kind}"))


def test_the_python_page_has_every_public_name() -> None:
    import mcp_server
    import memory_plugin
    import memory_plugin.langchain
    import memory_plugin.langgraph

    page = (REFERENCE / "python.md").read_text("utf-8")
    names = [
        name
        for module in (memory_plugin, memory_plugin.langchain, memory_plugin.langgraph, mcp_server)
        for name in module.__all__
    ]
    assert [name for name in names if not re.search(rf"\b{name}\b", page)] == []


def test_the_python_page_has_every_public_method() -> None:
    documented: dict[str, set[str]] = {}
    homes: dict[str, str] = {}
    for module, block in stubs():
        for node in ast.parse(block.text).body:
            if isinstance(node, ast.ClassDef) and (module == "memory_plugin" or "capabilities" in module):
                homes[node.name] = module
                functions = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
                documented.setdefault(node.name, set()).update(each.name for each in functions)
    inner = {"hydrate", "kick", "bridge"}  # for the parts of the library among themselves
    for name, methods in documented.items():
        if methods:
            kind = getattr(importlib.import_module(homes[name]), name)
            public = {each for each in dir(kind) if not each.startswith("_")}
            assert public - inner == methods, name


# ---------------------------------------------------------------- errors


def said_by_the_code() -> list[str]:
    """Every text in the code, the fixed parts of f-strings on their own."""
    texts = []
    for folder in ("memory_plugin", "mcp_server"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            texts += [
                node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
    return texts


def test_the_errors_page_has_every_error() -> None:
    from memory_plugin import errors

    kinds = [name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    page = (DOCS / "how-to" / "errors.md").read_text("utf-8")
    assert [name for name in kinds if f"`{name}`" not in page] == []


def test_the_messages_of_the_embedded_server_are_those_of_the_code() -> None:
    section = sections_of(DOCS / "how-to" / "embedded-database.md", 2)["What each error means"]
    texts = said_by_the_code()
    quoted = [part for row in rows_of(section) for part in re.findall(r"`([^`]+)`", row[0]) if " " in part]
    assert len(quoted) > 10
    assert [part for part in quoted if not any(part in text for text in texts)] == []


# ---------------------------------------------------------------- the MCP server, packaging


def test_the_server_page_has_every_tool() -> None:
    from mcp_server.tools import Offer, tools

    section = sections_of(DOCS / "how-to" / "mcp-server.md", 2)["Tools"]
    assert {row[0].strip("`") for row in rows_of(section)} == {tool.name for tool in tools(Offer(add_references=True))}


@cache
def project() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return loaded


def test_the_design_explains_every_dependency_and_no_other() -> None:
    listed = [*project()["dependencies"]]
    for extra, packages in project()["optional-dependencies"].items():
        listed += packages if extra != "dev" else []
    real = {re.split(r"[\[<>=~! ]", package, maxsplit=1)[0].lower() for package in listed}
    section = sections_of(DOCS / "explanation" / "design.md", 2)["Why each dependency"]
    explained = {name for row in rows_of(section) for name in re.findall(r"`([^`]+)`", row[0])}
    assert explained == real


def test_every_extra_that_is_named_exists() -> None:
    named_extras = set()
    for page in EVERY_PAGE:
        for found in re.findall(r"(?:memory-plugin|\.)\[([a-z,]+)\]", page.read_text("utf-8")):
            named_extras |= set(found.split(","))
    assert named_extras <= set(project()["optional-dependencies"])


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    text = "\n".join(page.read_text("utf-8") for page in EVERY_PAGE)
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)) <= targets
