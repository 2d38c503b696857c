"""Spans and measurements: what is there when it is on, and that nothing is when it is off."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from mcp import Client
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from mcp_server import create_server
from memory_plugin import Memory, Settings
from memory_plugin.core import MemoryCore
from memory_plugin.db.connections import _NamedConnection
from memory_plugin.db.database import Database
from memory_plugin.db.measured import Statements
from memory_plugin.errors import ConfigurationError, EmbeddingError, InvalidInputError, MemoryPluginError, NotFoundError
from tests.proxy import proxied
from tests.saver_tools import Writer, place, said
from tests.telemetry_tools import Recorded, attributes_of, is_operation, parent_of

pytest_plugins = ("tests.saver_fixtures",)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@asynccontextmanager
async def observed(url: str, recorded: Recorded, tenant: str = "default", **options: Any) -> AsyncIterator[Memory]:
    """A store that is measured, with nothing going on in the background."""
    options = {"embeddings": False, **options}
    async with Memory.open(url, tenant=tenant, telemetry=recorded.telemetry, **options) as memory:
        memory._indexer.kick = lambda: None  # type: ignore[method-assign]
        recorded.reset()
        yield memory


@pytest.fixture
async def store(shared_url: str, tenant: str, recorded: Recorded) -> AsyncIterator[Memory]:
    async with observed(shared_url, recorded, tenant) as memory:
        yield memory


async def all_of(source: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in source]


# -- spans


async def test_what_a_caller_asks_is_one_span_with_its_statements_inside(store: Memory, recorded: Recorded) -> None:
    saver, here = store.checkpointer, place()
    calls: dict[str, Any] = {
        "remember": lambda: store.remember("Alice prefers tea", user_id="alice"),
        "recall": lambda: store.recall("what does Alice drink?", user_id="alice"),
        "search_references": lambda: store.search_references("tea"),
        "checkpoints.put": lambda: Writer(saver).put(messages=said("a", "b")),
        "checkpoints.get": lambda: saver.aget_tuple(here),
        "checkpoints.put_writes": lambda: saver.aput_writes(
            place(checkpoint_id="1f0c0000-0000-6000-8000-000000000000"), [("topic", "x")], "task"
        ),
        "checkpoints.list": lambda: all_of(saver.alist(here, limit=1)),
        "conversations.append": lambda: store.history("h").aadd_messages(said("c")),
        "conversations.messages": lambda: store.history("h").aget_messages(),
        "store.batch": lambda: store.store.aput(("notes", "alice"), "k", {"text": "t"}),
        "references.add": lambda: store.references.add(text="Tea is a drink.", source="tea.txt"),
        "working_memory.update": lambda: store.working_memory.update("a note", thread_id="h"),
        "agent_settings.set": lambda: store.agent_settings.set("model", "small"),
        "retention.apply": lambda: store.retention.apply(dry_run=True),
        "forget": lambda: store.forget(thread_id="h"),
        "checkpoints.delete_threads": lambda: saver.adelete_thread("t"),
    }
    found = {}
    for name, call in calls.items():
        recorded.reset()
        await call()
        found[name] = recorded.operations(), bool(recorded.statements(recorded.operation(name)))
        assert all(parent_of(span) is not None for span in recorded.spans if not is_operation(span)), name
    assert found == {name: ([name], True) for name in calls}


async def test_operations_on_memories_have_the_names_of_the_conventions(store: Memory, recorded: Recorded) -> None:
    item = await store.remember("Alice prefers tea", user_id="alice")
    await store.recall("tea", user_id="alice")
    await store.forget(item_id=item.id)
    names = {
        str(attributes_of(span)["memory_plugin.operation"]): (span.name, attributes_of(span)["gen_ai.operation.name"])
        for span in recorded.spans
        if is_operation(span)
    }
    assert names == {
        "remember": ("upsert_memory",) * 2,
        "recall": ("search_memory",) * 2,
        "forget": ("delete_memory",) * 2,
    }
    assert attributes_of(recorded.operation("recall"))["gen_ai.memory.record.count"] == 1
    assert attributes_of(recorded.operation("remember"))["memory_plugin.tenant"] == store.tenant


async def test_many_facts_at_once_are_one_operation_that_counts_them(store: Memory, recorded: Recorded) -> None:
    await store.remember_many(["Alice prefers tea", "Bob prefers milk"], user_id="alice")
    (span,) = [span for span in recorded.spans if is_operation(span)]
    assert attributes_of(span)["gen_ai.operation.name"] == "upsert_memory"
    assert attributes_of(span)["gen_ai.memory.record.count"] == 2


async def test_a_statement_has_what_the_conventions_for_databases_ask(store: Memory, recorded: Recorded) -> None:
    await Writer(store.checkpointer).put(messages=said("a"))
    (span,) = recorded.statements(recorded.operation("checkpoints.put"))
    assert (span.name, span.kind, span.status.status_code) == (
        "SELECT put_checkpoints",
        SpanKind.CLIENT,
        StatusCode.UNSET,
    )
    assert dict(attributes_of(span)) == {
        "db.system.name": "postgresql",
        "db.namespace": f"{store.database.url.split('?')[0].rpartition('/')[2]}|memory",
        "db.operation.name": "SELECT",
        "db.query.summary": "SELECT put_checkpoints",
        "db.stored_procedure.name": "put_checkpoints",
    }


@pytest.mark.parametrize(
    ("statement", "command", "summary"),
    [
        ("SELECT 1", "SELECT", "SELECT"),
        ('SELECT a FROM "m".t JOIN "m".u USING (x)', "SELECT", "SELECT t u"),
        ('SELECT x FROM "m".t FOR NO KEY UPDATE', "SELECT", "SELECT t"),
        (
            'INSERT INTO "m".t (a) SELECT b FROM "m".u ON CONFLICT DO UPDATE SET a = 1',
            "INSERT",
            "INSERT t SELECT u",
        ),
        (
            'WITH x AS (INSERT INTO "m".t SELECT $1), y AS (SELECT * FROM "m".t) DELETE FROM "m".u WHERE "m".f(a)',
            "DELETE",
            "INSERT t SELECT t DELETE u",
        ),
        ("""SELECT 'DELETE FROM "m".secret' -- "m".comment\n/* "m".other */ FROM "m".t""", "SELECT", "SELECT t"),
        ('SELECT * FROM "m".f($1)', "SELECT", "SELECT f"),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ;", "BEGIN", "BEGIN"),
        ("", "_OTHER", "_OTHER"),
    ],
)
def test_a_summary_names_commands_and_tables(recorded: Recorded, statement: str, command: str, summary: str) -> None:
    database = Database("postgresql://user:pass@db.example:6543/agents", schema="m")
    found = Statements(recorded.telemetry, database).attributes(statement)
    assert (found["db.operation.name"], found["db.query.summary"]) == (command, summary)
    assert (found["server.address"], found["server.port"], found["db.namespace"]) == ("db.example", 6543, "agents|m")


def test_a_long_summary_is_cut_between_words(recorded: Recorded) -> None:
    tables = ", ".join(f'"m".table_number_{number}' for number in range(40))
    database = Database("postgresql:///agents", schema="m")
    summary = Statements(recorded.telemetry, database).attributes(f"SELECT 1 FROM {tables}")["db.query.summary"]
    assert 230 < len(summary) <= 255
    assert summary.split()[-1].startswith("table_number_")


async def test_a_listing_is_under_way_only_while_it_is_read(store: Memory, recorded: Recorded) -> None:
    """What the application does between two pages is no part of it."""
    await Writer(store.checkpointer).put(messages=said("a"))
    recorded.reset()
    async for _ in store.checkpointer.alist(place()):
        assert not trace.get_current_span().get_span_context().is_valid
        with recorded.tracer.start_as_current_span("between"):
            await store.conversations.get("t")
    (between,) = [span for span in recorded.spans if span.name == "between"]
    assert between.parent is None
    assert parent_of(recorded.operation("conversations.get")) == between.context.span_id
    assert len(recorded.statements(recorded.operation("checkpoints.list"))) == 1


async def test_calls_that_go_together_belong_to_the_first_and_link_the_others(
    store: Memory, recorded: Recorded
) -> None:
    config = place(checkpoint_id="1f0c0000-0000-6000-8000-000000000000")
    await asyncio.gather(
        *(store.checkpointer.aput_writes(config, [("topic", number)], f"task{number}") for number in range(40))
    )
    operations = [span.context.span_id for span in recorded.spans if is_operation(span)]
    statements = recorded.statements()
    callers = [parent_of(span) for span in statements] + [
        link.context.span_id for span in statements for link in span.links
    ]
    assert len(operations) == 40
    assert len(statements) < 40
    assert sorted(callers) == sorted(operations)  # type: ignore[type-var]


async def test_the_indexer_is_no_part_of_what_woke_it(shared_url: str, tenant: str, recorded: Recorded) -> None:
    async with Memory.open(shared_url, tenant=tenant, embeddings=False, telemetry=recorded.telemetry) as memory:
        with recorded.tracer.start_as_current_span("request"):
            await memory.remember("Alice prefers tea")
        recorded.reset()
        async with asyncio.timeout(10):
            while "passages.fill" not in recorded.operations():  # noqa: ASYNC110 - it runs when it likes
                await asyncio.sleep(0.02)
    assert recorded.operation("passages.fill").parent is None


def test_sync_calls_belong_to_the_span_of_their_thread(shared_url: str, tenant: str, recorded: Recorded) -> None:
    with Memory.open(shared_url, tenant=tenant, embeddings=False, telemetry=recorded.telemetry) as memory:
        with recorded.tracer.start_as_current_span("request"):
            memory.remember("Alice prefers tea")
            assert list(memory.checkpointer.list(place())) == []
        request = recorded.spans[-1]
    assert parent_of(recorded.operation("remember")) == request.context.span_id
    assert parent_of(recorded.operation("checkpoints.list")) == request.context.span_id
    assert recorded.statements(recorded.operation("remember"))


async def test_the_store_of_another_tenant_is_measured_under_its_name(store: Memory, recorded: Recorded) -> None:
    await store.for_tenant("somebody-else").conversations.create("c")
    assert attributes_of(recorded.operation("conversations.create"))["memory_plugin.tenant"] == "somebody-else"


async def test_a_store_that_is_opened_again_is_measured_once(shared_url: str, tenant: str, recorded: Recorded) -> None:
    memory = Memory.open(shared_url, tenant=tenant, embeddings=False, telemetry=recorded.telemetry)
    for _ in range(2):
        async with memory:
            recorded.reset()
            await memory.remember("Alice prefers tea")
            assert recorded.operations().count("remember") == 1
            assert len(recorded.points()["db.client.connection.max"]) == 1
    assert "db.client.connection.max" not in recorded.points()  # a store that is closed has no pool


# -- what must not go out


SECRETS = ("hunter2", "thread-of-bob", "bob-at-example", "secret-key")


async def say_secrets(memory: Memory) -> None:
    content, thread, user, key = SECRETS
    await memory.remember(f"the colour is {content}", user_id=user, key=key, metadata={"x": content})
    await memory.recall(content, user_id=user, filter={"x": content})
    await Writer(memory.checkpointer, thread, user_id=user).put(messages=said(content), topic=content)
    await memory.checkpointer.aget_tuple(place(thread))
    await memory.store.aput(("memories", user), key, {"text": content})
    await memory.store.asearch(("memories", user), query=content, filter={"text": content})
    await memory.conversations.append(thread, [content], user_id=user)
    with pytest.raises(InvalidInputError):
        await memory.conversations.append(thread, [{"role": content, "content": [content]}, 7])
    with pytest.raises(InvalidInputError):
        await memory.memories.get(content)
    with pytest.raises(MemoryPluginError):
        await memory.database.fetchval("SELECT ($1 || '')::int", content)


async def test_nothing_that_was_said_goes_out_and_no_id(store: Memory, recorded: Recorded) -> None:
    await say_secrets(store)
    sent = recorded.everything()
    assert len(recorded.spans) > 20
    assert [secret for secret in SECRETS if secret in sent] == []


async def test_ids_go_out_where_they_are_asked_for(shared_url: str, tenant: str) -> None:
    recorded = Recorded(ids=True)
    async with observed(shared_url, recorded, tenant) as store:
        await say_secrets(store)
    content, thread, user, key = SECRETS
    put = attributes_of(recorded.operation("checkpoints.put"))
    assert (put["gen_ai.conversation.id"], put["user.id"]) == (thread, user)
    assert attributes_of(recorded.operation("recall"))["user.id"] == user
    sent = recorded.everything()
    assert key not in sent
    assert sent.count(content) == 1  # what was given as the id of a memory
    assert attributes_of(recorded.operation("memories.get"))["gen_ai.memory.record.id"] == content
    assert [secret for secret in SECRETS if secret in str(recorded.points())] == []


# -- errors and attempts


async def test_an_error_is_named_and_not_quoted(store: Memory, recorded: Recorded) -> None:
    with pytest.raises(NotFoundError):
        await store.memories.get("00000000-0000-0000-0000-000000000000")
    span = recorded.operation("memories.get")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert attributes_of(span)["error.type"] == "NotFoundError"
    assert span.events == ()
    assert recorded.number("memory_plugin.operation.duration", error__type="NotFoundError") == 1


async def test_a_statement_that_the_database_refuses_has_its_state(store: Memory, recorded: Recorded) -> None:
    with pytest.raises(MemoryPluginError):
        await store.database.fetchval("SELECT 1 / 0")
    (span,) = recorded.statements()
    assert span.status.status_code is StatusCode.ERROR
    assert attributes_of(span)["error.type"] == "DivisionByZeroError"
    assert attributes_of(span)["db.response.status_code"] == "22012"
    assert recorded.number("db.client.operation.duration", db__response__status_code="22012") == 1


async def test_an_attempt_after_the_first_is_an_event(shared_url: str, tenant: str, recorded: Recorded) -> None:
    async with proxied(shared_url) as proxy, observed(proxy.url, recorded, tenant) as store:
        await store.conversations.get_buffer("t")
        recorded.reset()
        proxy.cut("memory_buffer", "before")
        await store.conversations.get_buffer("t")
    span = recorded.operation("conversations.get_buffer")
    assert [event.name for event in span.events] == ["retry"]
    assert [one.status.status_code for one in recorded.statements(span)] == [StatusCode.ERROR, StatusCode.UNSET]
    assert span.status.status_code is StatusCode.UNSET
    assert recorded.number("memory_plugin.retries", memory_plugin__operation="conversations.get_buffer") == 1


async def test_a_call_that_is_cancelled_ends_its_spans(store: Memory, recorded: Recorded) -> None:
    slow = asyncio.create_task(store.database.fetchval("SELECT pg_sleep(30)"))
    await asyncio.sleep(0.2)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert [attributes_of(span)["error.type"] for span in recorded.statements()] == ["CancelledError"]


# -- measurements


class Fragile:
    """An embedder that fails when told to."""

    name, dims, broken = "fragile", 3, False

    async def embed_documents(self, texts: Any) -> list[list[float]]:
        if self.broken:
            raise EmbeddingError("It is broken.")
        return [[1.0, 0.0, 0.0] for _ in texts]

    async def embed_query(self, text: str) -> list[float]:
        return (await self.embed_documents([text]))[0]


async def test_what_is_counted(shared_url: str, tenant: str, recorded: Recorded) -> None:
    embedder = Fragile()
    async with observed(shared_url, recorded, tenant, embeddings=embedder) as store:
        for text in ("Alice prefers tea", "Alice prefers tea"):
            await store.remember(text, key="drink")
        await store.remember("Alice prefers coffee", key="drink")
        writer = Writer(store.checkpointer)
        await writer.put(messages=said("a", "b"))
        await writer.put(messages=said("a", "b", "coffee"))
        await store.conversations.append("other", ["one", "two"])
        await store.store.abatch([])
        await store.store.aput(("notes",), "k", {"text": "coffee too"})
        assert await store.indexed()
        assert recorded.number("memory_plugin.index.queue") == 0
        hits = await store.recall("coffee")
        embedder.broken = True
        await store.remember("Bob prefers water")
        with pytest.raises(EmbeddingError):
            await store.indexed()

    number = recorded.number
    assert [
        number("memory_plugin.memories.remembered", status=each) for each in ("created", "updated", "duplicate")
    ] == [
        2,
        1,
        1,
    ]
    assert number("memory_plugin.checkpoints.stored") == 2
    assert number("memory_plugin.messages.stored", memory_plugin__operation="checkpoints.put") == 3
    assert number("memory_plugin.messages.stored", memory_plugin__operation="conversations.append") == 2
    assert number("memory_plugin.items.put") == 1
    assert number("memory_plugin.hits") == len(hits) > 0
    assert number("memory_plugin.hits", kind="message") == sum(hit.kind == "message" for hit in hits)
    assert number("memory_plugin.texts.embedded", gen_ai__request__model="fragile") >= 8
    assert number("memory_plugin.embedder.failures", error__type="EmbeddingError") >= 1
    assert number("memory_plugin.index.queue", queue="vectors") == 1
    assert number("memory_plugin.operation.duration", memory_plugin__operation="remember") == 4
    assert number("db.client.operation.duration", db__query__summary="SELECT put_checkpoints") == 2


async def test_the_pool_is_read_when_measurements_are_collected(
    shared_url: str, tenant: str, recorded: Recorded
) -> None:
    settings = Settings(pool_size=1, tenant=tenant)
    async with observed(shared_url, recorded, tenant, settings=settings) as store:
        async with store.database.raw():
            waiting = asyncio.create_task(store.conversations.get_buffer("t"))
            await asyncio.sleep(0.05)
            counts = [
                recorded.number("db.client.connection.count", db__client__connection__state=state)
                for state in ("used", "idle")
            ]
            assert counts == [1, 0]
            assert recorded.number("db.client.connection.pending_requests") == 1
            assert recorded.number("db.client.connection.max") == 1
        await waiting
        assert recorded.number("db.client.connection.count", db__client__connection__state="idle") == 1
        assert recorded.number("db.client.connection.wait_time") == 2  # the first was opened, then somebody waited


async def test_stores_of_one_process_add_up(shared_url: str, tenant: str, recorded: Recorded) -> None:
    async with observed(shared_url, recorded, tenant), observed(shared_url, recorded, tenant):
        assert recorded.number("db.client.connection.max") == 16


# -- through MCP


async def test_tools_join_the_trace_of_the_client(shared_url: str, tenant: str, recorded: Recorded) -> None:
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with (
        observed(shared_url, recorded, tenant) as store,
        Client(create_server(store)) as client,
    ):
        meta: Any = {"traceparent": f"00-{trace_id}-{span_id}-01"}
        answer = await client.call_tool("recall", {"query": "tea"}, meta=meta)
        assert not answer.is_error
    span = recorded.operation("recall")
    assert format(span.context.trace_id, "032x") == trace_id
    assert {format(one.context.trace_id, "032x") for one in recorded.statements(span)} == {trace_id}


# -- off


async def test_a_store_that_is_not_measured_has_the_very_functions_of_its_classes(shared_url: str, tenant: str) -> None:
    async with Memory.open(shared_url, tenant=tenant, embeddings=False) as memory:
        assert memory.observer is None
        parts = [memory, memory.checkpoints, memory.conversations, memory.memories, memory.memories.items, memory.store]
        replaced = [
            f"{type(part).__name__}.{name}"
            for part in parts
            for name in vars(part)
            if inspect.isfunction(getattr(type(part), name, None))
        ]
        assert replaced == []
        assert "acquire" not in vars(memory.database.engine.pool)
        async with memory.database.raw() as connection:
            assert type(connection) is _NamedConnection
        lanes = [each for each in vars(memory.checkpoints).values() if hasattr(each, "watcher")]
        assert lanes
        assert all(each.watcher is None for each in lanes)


async def test_nothing_of_it_is_called_where_it_is_off(core_calls: Callable[[], list[str]], core: MemoryCore) -> None:
    """Counted at the interpreter: puts, reads, writes and searches enter no function of telemetry."""
    memory = Memory.open(core.database.url, embeddings=False)
    async with memory:
        writer = Writer(memory.checkpointer)
        config = await writer.put(messages=said("a"))
        await memory.checkpointer.aput_writes(config, [("messages", said("b"))], "task")
        await asyncio.gather(*(memory.checkpointer.aget_tuple(place()) for _ in range(20)))
        await memory.remember("Alice prefers tea")
        assert await memory.recall("tea")
        await memory.store.aput(("a",), "k", {"text": "x"})
    called = core_calls()
    assert any("checkpoint_put.py" in name for name in called)
    assert [name for name in called if "telemetry" in name or "observer" in name or "measured" in name] == []


@pytest.fixture
def core_calls() -> Any:
    """The files of the functions that were called so far."""
    files: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        yield lambda: sorted(name for name in files if "memory_plugin" in name or "opentelemetry" in name)
    finally:
        sys.setprofile(None)


def test_opentelemetry_is_not_imported_where_it_is_off(database_url: str) -> None:
    program = f"""
import asyncio, sys
from memory_plugin.core import MemoryCore

async def main():
    async with MemoryCore.open({database_url!r}, embeddings=False) as core:
        await core.remember("Alice prefers tea")

asyncio.run(main())
print([name for name in sys.modules if name.startswith("opentelemetry") or name == "memory_plugin.observer"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


# -- switching on


async def test_the_environment_switches_it_on(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_TELEMETRY", "true")
    async with MemoryCore.open(database_url, embeddings=False) as core:
        assert core.observer is not None
        assert await core.recall("anything") == []  # the global providers are none: it works all the same
    async with MemoryCore.open(database_url, embeddings=False, telemetry=False) as core:
        assert core.observer is None


async def test_without_the_package_the_error_says_what_to_do(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r"install memory-plugin\[otel\], or unset MEMORY_TELEMETRY"):
        async with MemoryCore.open(database_url, embeddings=False, telemetry=True):
            pass
