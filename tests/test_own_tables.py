"""Memory in tables that an application has already, on real servers of each kind."""

from __future__ import annotations

import asyncio
import itertools
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Engine,
    Enum,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    create_engine,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from memory_plugin.errors import (
    ConfigurationError,
    ConflictError,
    DatabaseError,
    DatabaseUnavailableError,
    InvalidInputError,
    TableError,
    UnsupportedError,
)
from memory_plugin.providers import TableMemoryProvider, TableReport, messages_table, working_memory_table
from tests.conftest import run_sql, with_database
from tests.mariadb import MARIADBD, MISSING, MariaDB

AnyEngine = Engine | AsyncEngine
_numbers = itertools.count(1)

ENGINES = [
    "postgresql+asyncpg",
    "postgresql+psycopg",
    "mariadb+asyncmy",
    "mysql+pymysql",
    "sqlite+aiosqlite",
    "sqlite",
]


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDB]:
    if MARIADBD is None:
        pytest.skip(MISSING)
    with tempfile.TemporaryDirectory(prefix="mariadb-") as folder:
        server = MariaDB(Path(folder))
        yield server
        server.stop()


@pytest.fixture(scope="module")
def postgresql(server_url: str, worker_id: str) -> Iterator[str]:
    """One database for all tests here: each begins with an empty schema."""
    name = f"own_{worker_id}"
    run_sql(server_url, f"CREATE DATABASE {name}")
    yield with_database(server_url, name)
    run_sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def url_of(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if driver.startswith("postgresql"):
        url: str = request.getfixturevalue("postgresql")
        run_sql(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        return url.replace("postgresql", driver, 1)
    if driver.startswith("sqlite"):
        return f"{driver}:///{tmp_path / 'own.db'}"
    server: MariaDB = request.getfixturevalue("mariadb")
    name = f"own_{next(_numbers)}"
    server.run(f"CREATE DATABASE {name}")
    return server.url(driver, name)


def is_async(driver: str) -> bool:
    return driver.endswith(("asyncpg", "asyncmy", "aiosqlite"))


@pytest.fixture(params=ENGINES)
def engine_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind, for async and for sync drivers."""
    return url_of(request.param, request, tmp_path)


@pytest.fixture
async def engine(engine_url: str) -> AsyncIterator[AnyEngine]:
    made = engine_of(engine_url)
    yield made
    await close(made)


@pytest.fixture(params=["postgresql+psycopg", "mysql+pymysql", "sqlite"])
def one_of_each(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A sync engine of each database: where the driver makes no difference."""
    made = create_engine(url_of(request.param, request, tmp_path))
    yield made
    made.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    made = create_engine(f"sqlite:///{tmp_path / 'own.db'}")
    yield made
    made.dispose()


@pytest.fixture
def mysql_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made = create_engine(url_of("mysql+pymysql", request, tmp_path))
    yield made
    made.dispose()


def engine_of(url: str) -> AnyEngine:
    return create_async_engine(url) if is_async(url.partition(":")[0]) else create_engine(url)


async def close(engine: AnyEngine) -> None:
    if isinstance(engine, AsyncEngine):
        await engine.dispose()
    else:
        engine.dispose()


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def problems(report: TableReport) -> set[tuple[str, str | None]]:
    return {(problem.kind, problem.column) for problem in report.problems}


TURN = [
    HumanMessage("Wie wird das Wetter? 😀", id="h-1"),
    AIMessage(
        "",
        id="a-1",
        tool_calls=[{"name": "weather", "args": {"city": "Łódź", "zoom": 1e16}, "id": "c-1", "type": "tool_call"}],
    ),
    ToolMessage("rain", tool_call_id="c-1", name="weather", status="error", artifact={"raw": [1, None]}),
    AIMessage("Regen.", usage_metadata={"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}),
]


# -- the whole of it, on every kind of engine


async def test_the_four_methods_on_every_database_and_driver(engine: AnyEngine) -> None:
    """Tables are made, found right, written, read and cleared; ids that differ by case or a space stay apart."""
    provider = TableMemoryProvider(engine, messages_table="chat", working_memory_table="notes")
    with pytest.raises(TableError, match="create_tables"):
        await provider.get_messages("t")
    assert problems(await provider.check()) == {("missing_table", None)}
    assert await provider.create_tables() == ["chat", "notes"]
    assert await provider.create_tables() == []
    report = await provider.check()
    assert report.ok, str(report)

    at = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)
    first = await provider.save_message("t", ("user", "before"), user_id="bob", at=at)
    await provider.save_messages("t", TURN, user_id="bob")
    await provider.save_message("T", "of another thread", user_id="Bob")
    stored = await provider.get_messages("t")
    assert [message.role for message in stored] == ["human", "human", "ai", "tool", "ai"]
    assert (stored[0].id, stored[0].at, stored[0].text) == (first.id, at, "before")
    assert [message.text for message in await provider.get_messages("t", limit=2)] == ["rain", "Regen."]
    assert await provider.get_messages("t ") == []
    assert [message.text for message in await provider.get_messages("T")] == ["of another thread"]
    assert await provider.get_messages("t", user_id="Bob") == []
    assert len(await provider.get_messages("t", user_id="bob")) == 5
    assert (await provider.history("t").aget_messages())[1:] == TURN

    assert await provider.get_working_memory(user_id="bob") is None
    one = await provider.update_working_memory("likes tea 😀", user_id="bob")
    assert await provider.update_working_memory("likes tea 😀", user_id="bob") == one or one.version == 1
    two = await provider.update_working_memory("x" * 100_000, user_id="bob", expected_version=1)
    assert (one.version, two.version) == (1, 2)
    with pytest.raises(ConflictError, match="at version 2, not 1"):
        await provider.update_working_memory("late", user_id="bob", expected_version=1)
    await provider.update_working_memory("of another", user_id="Bob")
    await provider.update_working_memory("of a chat", thread_id="bob", user_id="bob", scope="chat")
    found = [await provider.get_working_memory(user_id=user) for user in ("bob", "Bob", "bob ")]
    assert [None if each is None else each.content[:10] for each in found] == ["x" * 10, "of another", None]

    assert await provider.clear_messages("t") == 5
    assert await provider.delete_working_memory(user_id="bob") == 1
    assert await provider.get_messages("t") == []
    assert len(await provider.get_messages("T")) == 1


async def test_those_who_write_one_working_memory_at_once_all_get_through(engine: AnyEngine) -> None:
    provider = TableMemoryProvider(engine, working_memory_table=working_memory_table("notes"))
    await provider.create_tables()
    written = await asyncio.gather(
        *(provider.update_working_memory(f"text {number}", thread_id="t") for number in range(5))
    )
    assert sorted(each.version for each in written) == [1, 2, 3, 4, 5]


# -- tables that were there before


class Base(DeclarativeBase):
    pass


class Line(Base):
    """As an application may have it: another vocabulary, keys of its own, columns that are none of our business."""

    __tablename__ = "chat_lines"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    conversation: Mapped[int] = mapped_column(Integer, index=True)
    author: Mapped[str] = mapped_column(Uuid(as_uuid=True), nullable=True)
    speaker: Mapped[str] = mapped_column(Enum("customer", "bot", "system", "tool", name="speaker"))
    said: Mapped[str] = mapped_column(Text().with_variant(mysql.LONGTEXT(charset="utf8mb4"), "mysql"))
    tenant: Mapped[str] = mapped_column(String(40))
    channel: Mapped[str | None] = mapped_column(String(40))
    stars: Mapped[int] = mapped_column(Integer, server_default="0")


USER = "0192d3a0-7e1c-7000-8000-000000000001"


async def test_a_mapped_class_with_other_names_keys_and_columns(one_of_each: Engine) -> None:
    Base.metadata.create_all(one_of_each)

    def of(tenant: str) -> TableMemoryProvider:
        return TableMemoryProvider(
            one_of_each,
            messages_table=Line,
            messages_columns={"thread_id": "conversation", "user_id": "author", "role": "speaker", "content": "said"},
            constants={"tenant": tenant},
            roles={"human": "customer", "ai": "bot"},
        )

    acme, other = of("acme"), of("other")
    report = await acme.check()
    assert {kind for kind, _ in problems(report)} <= {"missing_index"}, str(report)
    await acme.save_message(7, "Hello", user_id=USER, extra={"channel": "web"})
    await acme.save_message(7, ("ai", "Hi"))
    await other.save_message(7, "not yours", user_id=USER)
    run(
        one_of_each,
        "INSERT INTO chat_lines (conversation, speaker, said, tenant, stars) VALUES (7, 'tool', 'x', 'acme', 5)",
    )
    stored = await acme.get_messages("7", user_id=USER)
    assert [(each.role, each.text, each.user_id) for each in stored] == [
        ("human", "Hello", USER),
        ("ai", "Hi", None),
        ("tool", "x", None),
    ]
    assert stored[0].extra == {"tenant": "acme", "channel": "web", "stars": 0}
    assert await acme.clear_messages(7) == 3
    assert len(await other.get_messages(7)) == 1


async def test_what_a_table_cannot_hold_is_refused_before_it_is_written(sqlite: Engine) -> None:
    Base.metadata.create_all(sqlite)
    provider = TableMemoryProvider(
        sqlite,
        messages_table=Line,
        messages_columns={"thread_id": "conversation", "user_id": "author", "role": "speaker", "content": "said"},
        constants={"tenant": "acme"},
        roles={"human": "customer", "ai": "bot"},
    )
    with pytest.raises(UnsupportedError, match="lose tool_calls"):
        await provider.save_messages(7, ["first", TURN[1]])
    with pytest.raises(UnsupportedError, match="other than text"):
        await provider.save_message(7, HumanMessage([{"type": "image", "url": "x"}]))
    with pytest.raises(InvalidInputError, match="a whole number"):
        await provider.save_message("seven", "x")
    with pytest.raises(InvalidInputError, match="a UUID"):
        await provider.save_message(7, "x", user_id="bob")
    with pytest.raises(InvalidInputError, match="no column 'mood'"):
        await provider.save_message(7, "x", extra={"mood": "good"})
    assert await provider.get_messages(7) == []


async def test_order_without_a_counting_id_is_that_of_the_time_and_then_of_arrival(one_of_each: Engine) -> None:
    table = Table(
        "talk",
        MetaData(),
        Column("id", Uuid, primary_key=True),
        Column("thread_id", String(50), index=True),
        Column("role", String(20)),
        Column("text", Text),
        Column("timestamp", DateTime),
    )
    table.create(one_of_each)
    provider = TableMemoryProvider(one_of_each, messages_table=table)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    await provider.save_messages("t", [f"same time {number}" for number in range(9)], at=at)
    await provider.save_message("t", "earlier", at=datetime(2025, 1, 1, tzinfo=UTC))
    said = [message.text for message in await provider.get_messages("t")]
    assert said == ["earlier", *(f"same time {number}" for number in range(9))]


async def test_a_working_memory_by_scope_and_owner_with_a_key_of_its_own(one_of_each: Engine) -> None:
    table = Table(
        "notes",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("scope", String(10), nullable=False),
        Column("chat_id", String(50)),
        Column("user_id", String(50)),
        Column("content", Text),
    )
    table.create(one_of_each)
    provider = TableMemoryProvider(one_of_each, working_memory_table=table)
    report = await provider.check()
    assert {("missing_index", "scope, chat_id"), ("missing_index", "scope, user_id")} <= problems(report)
    run(one_of_each, *(part for part in report.ddl.split(";") if "UNIQUE" in part))
    assert not any(kind == "missing_index" for kind, _ in problems(await provider.check()))
    await asyncio.gather(*(provider.update_working_memory(f"{number}", thread_id="t") for number in range(4)))
    await provider.update_working_memory("of the user", thread_id="t", user_id="u", scope="user")
    notes = provider.working_memory
    assert (await notes.get(thread_id="t")).content in "0123"
    assert (await notes.get(user_id="u")).content == "of the user"
    with one_of_each.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM notes")).scalar() == 2
    with pytest.raises(UnsupportedError, match="keeps no version"):
        await notes.update("x", thread_id="t", expected_version=1)


@pytest.mark.parametrize(
    "ids", [{}, {"thread_id": ""}, {"user_id": None}, {"user_id": "undefined"}, {"thread_id": "t", "user_id": "u"}]
)
async def test_a_working_memory_without_an_owner_is_an_error(sqlite: Engine, ids: dict[str, str]) -> None:
    """There is no shared one under a missing id."""
    provider = TableMemoryProvider(sqlite, working_memory_table="notes")
    await provider.create_tables()
    with pytest.raises(InvalidInputError):
        await provider.update_working_memory("x", **ids)
    with pytest.raises(InvalidInputError, match="user_id is missing"):
        await provider.get_working_memory(thread_id="t", scope="user")


# -- the check


async def test_a_check_names_every_flaw_and_its_statements_mend_them(one_of_each: Engine) -> None:
    """Missing columns and indexes are added by the very statements that the report prints."""
    stamp = {"postgresql": "timestamptz"}.get(one_of_each.dialect.name, "datetime(6)")
    exact = " COLLATE utf8mb4_bin" if one_of_each.dialect.name == "mysql" else ""
    run(
        one_of_each,
        f"CREATE TABLE chat (id bigint PRIMARY KEY, chat_id varchar(80){exact} NOT NULL, role varchar(20), "
        f"at {stamp}, kind varchar(9) NOT NULL)",
    )
    provider = TableMemoryProvider(
        one_of_each, messages_table="chat", messages_columns={"created_at": "at", "body": "whole"}
    )
    report = await provider.check()
    found = problems(report)
    assert {
        ("missing_column", "content"),
        ("missing_column", "whole"),
        ("missing_index", "chat_id, id"),
        ("required_column", "kind"),
    } <= found
    assert "chat has no column content" in str(report)
    assert "chat.kind must have a value and has no default" in str(report)
    with pytest.raises(ConfigurationError, match="no column 'content'"):
        await provider.get_messages("t")
    run(one_of_each, *(part for part in report.ddl.split(";") if part.strip()), "ALTER TABLE chat DROP COLUMN kind")
    assert (await provider.check()).ok, str(await provider.check())


async def test_a_check_says_which_type_is_wrong_and_how_to_change_it(one_of_each: Engine) -> None:
    run(
        one_of_each,
        "CREATE TABLE chat (id integer PRIMARY KEY, chat_id date NOT NULL, role varchar(20), content integer,"
        " created_at varchar(30))",
        "CREATE INDEX by_chat ON chat (chat_id)",
    )
    provider = TableMemoryProvider(one_of_each, messages_table="chat")
    report = await provider.check()
    assert {
        ("wrong_type", "chat_id"),
        ("wrong_type", "content"),
        ("wrong_type", "created_at"),
    } <= problems(report)
    assert re.search(r"chat\.content is INTEGER.*, and the content needs text\.", str(report))
    if one_of_each.dialect.name != "sqlite":
        run(one_of_each, *(part for part in report.ddl.split(";") if "content" in part or "chat_id" in part))
        assert not {("wrong_type", "chat_id"), ("wrong_type", "content")} & problems(await provider.check())


async def test_a_check_compares_what_is_declared_with_what_is_there(one_of_each: Engine) -> None:
    run(one_of_each, "CREATE TABLE chat (id integer PRIMARY KEY, chat_id integer, role varchar(9), content varchar(9))")
    table = messages_table("chat")
    report = await TableMemoryProvider(one_of_each, messages_table=table).check()
    expected = {("missing_column", name) for name in ("user_id", "name", "message_id", "body", "created_at")}
    assert expected <= problems(report)
    assert "ADD COLUMN" in report.ddl or "ADD " in report.ddl
    if one_of_each.dialect.name != "sqlite":
        assert ("wrong_type", "chat_id") in problems(report)
    assert {index.name for index in table.indexes} == {"chat_chat_idx"}, "the application's table is left as it is"


async def test_a_check_of_mysql_sees_collations_and_narrow_texts(mysql_engine: Engine) -> None:
    run(
        mysql_engine,
        "CREATE TABLE chat (id bigint AUTO_INCREMENT PRIMARY KEY, chat_id varchar(80) NOT NULL, role varchar(20),"
        " content text, INDEX (chat_id)) CHARSET utf8mb4 COLLATE utf8mb4_general_ci",
        "CREATE TABLE notes (id varchar(80) PRIMARY KEY, content text) CHARSET latin1",
    )
    provider = TableMemoryProvider(mysql_engine, messages_table="chat", working_memory_table="notes")
    report = await provider.check()
    assert problems(report) == {
        ("collation", "chat_id"),
        ("too_narrow", "content"),
        ("collation", "id"),
        ("collation", "content"),
    }
    assert "'Bob' and 'bob' are one" in str(report)
    run(mysql_engine, *(part for part in report.ddl.split(";") if part.strip()))
    assert (await provider.check()).ok, str(await provider.check())


async def test_users_that_a_collation_takes_for_one_are_never_mixed(mysql_engine: Engine) -> None:
    """Without the right collation the second one is refused; it does not get the first one's text."""
    run(
        mysql_engine,
        "CREATE TABLE notes (id varchar(80) PRIMARY KEY, content text) CHARSET utf8mb4 COLLATE utf8mb4_general_ci",
    )
    provider = TableMemoryProvider(mysql_engine, working_memory_table="notes")
    await provider.update_working_memory("of Bob", user_id="Bob")
    assert await provider.get_working_memory(user_id="bob") is None
    with pytest.raises(ConflictError, match="has the same key"):
        await provider.update_working_memory("of bob", user_id="bob")
    assert (await provider.get_working_memory(user_id="Bob")).content == "of Bob"


# -- errors


async def test_what_the_database_refuses_is_one_of_our_errors(one_of_each: Engine) -> None:
    run(
        one_of_each,
        "CREATE TABLE chat (id integer PRIMARY KEY, chat_id varchar(80), role varchar(20), content varchar(20) "
        "NOT NULL CHECK (content <> 'bad'))",
    )
    table = Table(
        "chat",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        *(Column(name, String(80)) for name in ("chat_id", "role", "content")),
        Column("mood", JSON),
    )
    provider = TableMemoryProvider(one_of_each, messages_table=table)
    with pytest.raises(TableError, match="mood"):
        await provider.get_messages("t")
    named = TableMemoryProvider(one_of_each, messages_table="chat")
    with pytest.raises(DatabaseError):
        await named.save_message("t", "bad", extra={"id": 1})
    with pytest.raises(InvalidInputError, match="holds 80"):
        await named.save_message("t" * 81, "x", extra={"id": 1})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://x:secret@127.0.0.1:1/x",
        "postgresql+psycopg://x:secret@127.0.0.1:1/x",
        "mysql+asyncmy://x:secret@127.0.0.1:1/x",
        "mysql+pymysql://x:secret@127.0.0.1:1/x",
        "sqlite:////nowhere/at/all/x.db",
    ],
)
async def test_a_database_that_is_not_there_is_said_without_its_password(url: str) -> None:
    engine = create_async_engine(url) if is_async(url.split(":", maxsplit=1)[0]) else create_engine(url)
    with pytest.raises(DatabaseUnavailableError) as caught:
        await TableMemoryProvider(engine, messages_table="chat").check()
    assert "secret" not in str(caught.value)
    await close(engine)


def test_what_cannot_work_is_said_when_the_provider_is_made(sqlite: Engine) -> None:
    def table(*names: str) -> Table:
        return Table("chat", MetaData(), *(Column(name, String(9)) for name in names))

    for arguments, words in (
        ({}, "no table"),
        ({"messages_table": object}, "not a table"),
        ({"messages_table": table("chat_id", "role")}, "no column 'content'"),
        ({"messages_table": table("chat_id", "role", "content")}, "came first"),
        (
            {"messages_table": "chat", "messages_columns": {"said": "x"}, "working_memory_table": table("x")},
            "no column",
        ),
        ({"messages_table": messages_table(), "messages_columns": {"said": "x"}}, "'said'"),
        ({"messages_table": messages_table(), "messages_columns": {"role": None}}, "must have"),
        ({"messages_table": messages_table(), "constants": {"tenant": 1}}, "constant"),
        ({"working_memory_table": table("content", "user_id")}, "whose"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            TableMemoryProvider(sqlite, **arguments)
    with pytest.raises(ConfigurationError, match="create_engine"):
        TableMemoryProvider("sqlite://", messages_table="chat")


async def test_a_table_that_was_not_given_is_asked_for(sqlite: Engine) -> None:
    with pytest.raises(ConfigurationError, match="no working_memory_table"):
        await TableMemoryProvider(sqlite, messages_table="chat").get_working_memory(user_id="u")


# -- without await, and LangChain


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite", "mysql+pymysql", "mariadb+asyncmy"])
def test_a_plain_with_gives_the_same_without_await(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    engine = engine_of(url_of(driver, request, tmp_path))
    for _ in range(2):
        with TableMemoryProvider(engine, messages_table="chat", working_memory_table="notes") as provider:
            provider.create_tables()
            provider.save_message("t", "Hello")
            provider.working_memory.update("x", thread_id="t")
            history = provider.history("t")
            history.add_messages([AIMessage("Hi")])
    with TableMemoryProvider(engine, messages_table="chat") as provider:
        assert [message.text for message in provider.history("t", limit=3).messages] == ["Hi", "Hello", "Hi"]
        provider.history("t").clear()
        assert provider.get_messages("t") == []
        asyncio.run(close(engine)) if isinstance(engine, Engine) else None


def test_langchain_s_history_works_over_an_existing_table_without_any_loop(sqlite: Engine) -> None:
    from langchain_core.runnables import RunnableLambda
    from langchain_core.runnables.history import RunnableWithMessageHistory

    provider = TableMemoryProvider(sqlite, messages_table=messages_table("chat"))
    messages_table("chat").create(sqlite)
    chat = RunnableWithMessageHistory(
        RunnableLambda(lambda messages: AIMessage(f"{len(messages)} messages")),
        lambda session_id: provider.history(session_id, user_id="bob"),
    )
    config = {"configurable": {"session_id": "s"}}
    assert chat.invoke("one", config).text == "1 messages"
    assert chat.invoke("two", config).text == "3 messages"
    with provider as plain:
        assert [message.text for message in plain.get_messages("s")] == ["one", "1 messages", "two", "3 messages"]


async def test_a_database_in_memory_is_one_database(tmp_path: Path) -> None:
    engine = create_engine("sqlite://")
    provider = TableMemoryProvider(engine, messages_table="chat")
    await provider.create_tables()
    await provider.save_message("t", "kept")
    assert [message.text for message in await provider.get_messages("t")] == ["kept"]
