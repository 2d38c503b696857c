"""The scenes of the demo, in the order they are played."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from memory_plugin.demo import ending
from memory_plugin.demo.choice import LOCAL_MODEL, choose_model
from memory_plugin.demo.documents import gather
from memory_plugin.demo.mcp_session import mcp_client
from memory_plugin.demo.show import ClaimFailed, Show, shortened
from memory_plugin.demo.stage import COLLECTION, Options, Stage
from memory_plugin.demo.worker import Orders, Worker, child_environment, started
from memory_plugin.errors import MemoryPluginError

if TYPE_CHECKING:
    from mcp import Client

_logger = logging.getLogger(__name__)

PERSON = "Ada"
APPROVER = "Grace"

FIRST_TURNS = (
    "Hello, I'm Ada Novak. When I am at work, my neighbour Mr. Kowalski at number 14 takes my parcels.",
    "Where is my order A-1042?",
    "Two of the mugs arrived broken. Please refund me 40 EUR.",
)
QUESTION = "Thank you! Who takes my parcels when I am at work?"
ANSWER = "Kowalski"
FACT_OVER_MCP = "Ada Novak moves to Lisbon, Rua Augusta 24, in March."
QUESTION_ABOUT_IT = "Where do I move to in March?"
ANSWER_TO_IT = "Lisbon"


def play(options: Options, console: Console) -> int:
    """Play all scenes and give the exit code."""
    show = Show(console)
    logs = options.directory / "logs"
    try:
        with _quiet(logs):
            return _exit_code(options, show)
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 130
    except OSError as error:
        show.failure(f"{error}: give another directory with --data-dir.")
        return 1


def _exit_code(options: Options, show: Show) -> int:
    try:
        asyncio.run(_play(options, show))
    except Exception as error:  # the border to the person who watches: one sentence, the rest in the log
        cause = _cause(error)
        if isinstance(cause, ClaimFailed | MemoryPluginError):
            show.failure(str(cause))
        else:
            _logger.exception("The demo failed")
            log = options.directory / "logs" / "demo.log"
            show.failure(f"{type(cause).__name__}: {shortened(str(cause), 300)} (more in {log})")
        return 1
    return 0


def _cause(error: BaseException) -> BaseException:
    """What went wrong in the first place, out of the groups that task groups put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _play(options: Options, show: Show) -> None:
    from memory_plugin.settings import get_settings

    # what the environment says about databases and users does not count here
    own = {"data_dir": options.directory / "postgres", "user_id": None, "database_url": None}
    stage = Stage(options, show, get_settings().model_copy(update=own), choose_model())
    show.line("One PostgreSQL is the memory of an agent: seven steps, each claim checked.")
    async with started(stage.logs / "first-process.log") as first, _database(stage):
        await _conversation(stage, first)
        async with (
            started(stage.logs / "second-process.log") as second,
            mcp_client(_mcp_environment(stage), stage.logs / "mcp-server.log") as client,
        ):
            await _takeover(stage, second)
            await _references(stage)
            await _mcp(stage, client)
            await _new_thread(stage, second)
        await ending.look_inside(stage)
        if options.url is not None and not options.keep:
            await ending.erase(stage)
        show.console.print()
        show.line(Text(f"Every claim held; {show.seconds:.1f} s in all.", "bold green"))
        ending.what_next(stage)
        if options.keep and options.url is None:
            await ending.stay(show)


@contextmanager
def _quiet(logs: Path) -> Iterator[None]:
    """Send what libraries log or warn about to a file while the demo is on the terminal."""
    logs.mkdir(parents=True, exist_ok=True)
    root, handler = logging.getLogger(), logging.FileHandler(logs / "demo.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.removeHandler(handler)
        handler.close()


# -- 1


@asynccontextmanager
async def _database(stage: Stage) -> AsyncIterator[None]:
    """Start the database, make or check the schema, and keep both until the demo is over."""
    from memory_plugin.db.connect import start_embedded
    from memory_plugin.memory import Memory

    show, began = stage.show, time.monotonic()
    where = stage.options.directory / "postgres"
    async with contextlib.AsyncExitStack() as stack:
        with show.step("The database"):
            if stage.options.url is None:
                found = "from an earlier run" if where.exists() else "new"
                show.line(f"Starting the embedded PostgreSQL, {found}, in {where}")
                with show.waiting("the server is starting"):
                    server = await start_embedded(stage.settings)
                stack.push_async_callback(asyncio.to_thread, server.stop)
                url = server.url
                show.line(f"It is up after {time.monotonic() - began:.2f} s.")
            else:
                url = stage.options.url
            opening = time.monotonic()
            stage.memory = await stack.enter_async_context(
                Memory.open(url, tenant=stage.tenant, settings=stage.settings)
            )
            took = time.monotonic() - opening
            database = stage.memory.database
            row = await database.fetchrow(
                database.sql(
                    "SELECT current_setting('server_version') AS server, "
                    "(SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector, "
                    "(SELECT version_num FROM {s}.alembic_version) AS revision, "
                    "(SELECT count(*) FROM pg_tables WHERE schemaname = $1) AS tables"
                ),
                stage.settings.db_schema,
            )
            assert row is not None  # a SELECT without FROM has a row
            show.check(
                row["revision"],
                f"PostgreSQL {row['server'].split()[0]} with pgvector {row['pgvector']}, migrated to revision "
                f"{row['revision']}: {row['tables']} tables ({took:.2f} s).",
                "The schema has no revision.",
            )
        yield


# -- 2 and 3


async def _conversation(stage: Stage, worker: Worker) -> None:
    show = stage.show
    with show.step("A conversation, in a process of its own"):
        model = "the local model, made of rules" if stage.model == LOCAL_MODEL else stage.model
        show.line(f"Process {worker.pid}, thread {stage.thread_id!r}, answered by {model}.", "dim")
        events = await _watch(stage, worker, stage.orders(*FIRST_TURNS))
        called = [event["name"] for event in events if event["event"] == "call"]
        show.check(
            "remember" in called and "order_status" in called,
            f"The agent called {len(called)} tools by itself, remember among them.",
            f"The agent did not call remember and order_status, only: {', '.join(called) or 'nothing'}.",
        )
        waits = events[-1]["event"] == "interrupt"
        show.check(waits, "The refund waits for a person.", "The refund did not stop for approval.")
        code = await worker.kill()
        show.check(code, f"Process {worker.pid} was killed (exit code {code}).", "The process ended by itself.")
        database = stage.memory.database
        statement = (
            "SELECT count(*) FROM {s}.checkpoint_writes "
            "WHERE tenant_id = $1 AND thread_id = $2 AND channel = '__interrupt__'"
        )
        pending = await database.fetchval(database.sql(statement), stage.tenant, stage.thread_id)
        show.check(pending, "Its question is a row in the database.", "The interrupt was not stored.")


async def _takeover(stage: Stage, worker: Worker) -> None:
    show = stage.show
    with show.step("Another process takes over"):
        show.line(f"Process {worker.pid} is told the id of the thread and the decision, nothing else.", "dim")
        decision = {"approved": True, "by": APPROVER}
        show.quote(APPROVER, f"Command(resume={decision})", "bold yellow")
        events = await _watch(stage, worker, stage.orders(QUESTION, decision=decision))
        said = [event["text"] for event in events if event["event"] == "say"]
        answer = said[-1] if said else "nothing"
        show.check(
            ANSWER in answer,
            f"It finished the refund, and knew {ANSWER!r}, told to the process that was killed.",
            f"The answer does not say {ANSWER!r}: {answer}",
        )
        approved = await stage.memory.conversations.find_by_buffer({"refund": {"status": "approved", "by": APPROVER}})
        show.check(
            stage.thread_id in {each.thread_id for each in approved},
            "The approval is in the conversation's memory_buffer, found by containment.",
            "No conversation has the approved refund in its memory_buffer.",
        )
        history = await stage.memory.history(stage.thread_id).aget_messages()
        show.check(
            history and history[-1].text == answer,
            f"LangChain chat history shows the same {len(history)} messages: the checkpointer's own rows.",
            "Chat history does not end with the agent's answer.",
        )


async def _watch(stage: Stage, worker: Worker, orders: Orders) -> list[dict[str, Any]]:
    """Show what happens while a worker carries out its orders."""
    events = []
    with stage.show.waiting(f"process {worker.pid} is at work") as sign:
        async for event in worker.do(orders):
            sign.stop()
            if event["event"] == "failed":
                raise ClaimFailed(f"The agent's process failed: {event['text']} (more in {stage.logs}).")
            stage.show.event(event, person=PERSON)
            events.append(event)
    return events


# -- 4


async def _references(stage: Stage) -> None:
    show, references = stage.show, stage.memory.references
    with show.step("Documents, with citations"):
        library = gather(stage.options.directory / "documents")
        with show.progress("reading", len(library.files)) as progress:
            report = await references.add_many(
                library.files,
                collection=COLLECTION,
                on_progress=lambda done: progress.update(
                    progress.task_ids[0], completed=done.done, name=f"{Path(done.name).name}: {done.status}"
                ),
            )
        for reason in library.left_out:
            show.line(f"left out: {reason}", "yellow")
        show.check(
            not report.failed,
            f"{report.added} documents added, {report.updated} updated, {report.unchanged} unchanged.",
            "; ".join(f"{Path(name).name}: {reason}" for name, reason in report.failed),
        )
        began = time.monotonic()
        show.check(
            await stage.memory.indexed(timeout=60),
            f"All of it can be found by words and by meaning ({time.monotonic() - began:.2f} s).",
            "The search index was not ready after a minute.",
        )
        for question in library.questions:
            hits = await references.search(question.text, collection=COLLECTION, limit=1)
            show.quote("asked", question.text)
            good = hits and hits[0].citation and hits[0].citation.source == question.file.resolve().as_posix()
            show.check(
                good and question.says in hits[0].text,
                f"{shortened(hits[0].text) if hits else ''} [{hits[0].citation if hits else ''}]",
                f"The best passage for {question.text!r} is not from {question.file.name}.",
            )


# -- 5 and 6


def _mcp_environment(stage: Stage) -> dict[str, str]:
    """Which memory the server serves, and to whom: said here, never in a call."""
    own = {name: value for name, value in child_environment().items() if name.startswith(("MEMORY_", "PYTHON"))}
    return own | {
        "MEMORY_DATABASE_URL": stage.memory.database.url,
        "MEMORY_SCHEMA": stage.settings.db_schema,
        "MEMORY_TENANT": stage.tenant,
        "MEMORY_USER_ID": stage.user_id,
    }


async def _mcp(stage: Stage, connected: Awaitable[Client]) -> None:
    show = stage.show
    with show.step("The same memory over MCP"):
        show.line("A client of `python -m mcp_server` over stdio, as Claude Desktop or Cursor is one.", "dim")
        client = await connected
        names = [tool.name for tool in (await client.list_tools()).tools]
        show.check(
            {"recall", "remember", "search_references"} <= set(names),
            f"{len(names)} tools: {', '.join(names)}",
            f"The server offers only {', '.join(names) or 'nothing'}.",
        )

        async def call(name: str, **arguments: Any) -> dict[str, Any]:
            show.event({"event": "call", "name": name, "args": arguments}, person=PERSON)
            result = await client.call_tool(name, arguments)
            if result.is_error or result.structured_content is None:
                raise ClaimFailed(f"{name} over MCP failed (more in {stage.logs}): {result.content}")
            return dict(result.structured_content)

        found = (await call("recall", query="Who takes Ada's parcels while she is at work?"))["results"]
        fact = next((each["text"] for each in found if each["kind"] == "memory" and ANSWER in each["text"]), None)
        show.check(
            fact,
            f"recall gives what the agent was told: {shortened(fact or '')}",
            f"recall over MCP did not find {ANSWER!r}.",
        )
        cited = (await call("search_references", query="When does a refund need approval?"))["results"]
        source = cited[0].get("source") if cited else None
        show.check(
            source, f"search_references cites: {source}", "search_references over MCP found no passage with a source."
        )
        stored = await call("remember", content=FACT_OVER_MCP)
        show.check(stored["status"] == "created", stored["notice"], f"remember over MCP said {stored['status']}.")


async def _new_thread(stage: Stage, worker: Worker) -> None:
    show = stage.show
    with show.step("A new conversation knows what was said over MCP"):
        orders = replace(stage.orders(QUESTION_ABOUT_IT), thread_id=f"later-{stage.run}")
        events = await _watch(stage, worker, orders)
        said = [event["text"] for event in events if event["event"] == "say"]
        answer = said[-1] if said else "nothing"
        show.check(
            ANSWER_TO_IT in answer and any(event["event"] == "call" for event in events),
            "The agent found it through its recall tool, in a thread where it was never said.",
            f"The answer does not say {ANSWER_TO_IT!r}: {answer}",
        )
        code = await worker.finish()
        show.check(code == 0, f"Process {worker.pid} ended in order.", f"Process {worker.pid} ended with {code}.")
