"""One run: fill a database, let the servers take turns, report."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.checkpointer.server import Server, open_server, run_sql, with_database
from benchmarks.mcp.contenders import Contender, Fact, bare, ours, reference
from benchmarks.mcp.report import Report, Result, results
from benchmarks.mcp.resident import processor, resident, with_children
from benchmarks.mcp.wire import Http, NoAnswerError, Session, Stdio
from benchmarks.pages import machine
from benchmarks.recall.corpus import Corpus
from benchmarks.recall.filling import OWN_USER, fill
from memory_plugin.core import MemoryCore
from memory_plugin.settings import Settings

_TENANT = "measured"
T = TypeVar("T")
Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Args:
        starts: how often each server is started.
        calls: how often each tool is called over each transport.
        warm: calls before them that are not counted; without any, no start is left uncounted either.
        memories: of the user; `benchmarks.recall` gives no user more than 1,000.
        npm: whether the reference server is installed and takes part.
        url: None starts an embedded server.
    """

    starts: int = 15
    calls: int = 200
    warm: int = 10
    memories: int = OWN_USER
    npm: bool = True
    seed: int = 1
    url: str | None = None

    def on(self, url: str) -> Plan:
        """The same on this server."""
        return replace(self, url=url)


async def run(plan: Plan, step: Step) -> Report:
    """Fill a database of its own, measure, and drop it again."""
    before = os.getloadavg()[0]
    async with open_server(plan.url, synchronous=False) as server:
        name = f"bench_mcp_{secrets.token_hex(4)}"
        url = with_database(server.url, name)
        await run_sql(server.url, f"CREATE DATABASE {name}")
        try:
            step("filling")
            corpus = Corpus(plan.seed)
            stored = await _filled(plan, url, corpus)
            absent, contenders = await asyncio.to_thread(_contenders, plan, url, server.directory, stored)
            new = [Fact(len(stored) + place, corpus.text(), "") for place in range(2 * (plan.calls + plan.warm))]
            postmaster = None if plan.url else await _postmaster(url)
            measured = _Run(plan, contenders, stored, new, postmaster, step)
            await asyncio.to_thread(measured.all)
            facts = await _facts(plan, server, measured, before)
        finally:
            await run_sql(server.url, f"DROP DATABASE {name} WITH (FORCE)")
    return Report(list(measured.results.values()), {each.name: each.title for each in contenders}, {**absent, **facts})


async def _filled(plan: Plan, url: str, corpus: Corpus) -> list[Fact]:
    """Give the user his memories, as `remember` and the index would leave them."""
    async with MemoryCore.open(url, settings=Settings(tenant=_TENANT)) as core:
        filled = await fill(core, _TENANT, corpus, plan.memories, lambda _: None)
        await core.spaces.tend()
        await core.database.as_login().execute("VACUUM ANALYZE")
    return [Fact(place, text, corpus.question(text)) for place, text in enumerate(filled.texts)]


async def _postmaster(url: str) -> int:
    """The process that the servers of all connections are children of."""
    import asyncpg
    import psutil

    connection = await asyncpg.connect(url)
    try:
        return psutil.Process(await connection.fetchval("SELECT pg_backend_pid()")).ppid()
    finally:
        await connection.close()


def _contenders(
    plan: Plan, url: str, directory: Path, stored: Sequence[Fact]
) -> tuple[dict[str, str], list[Contender]]:
    """Those that take part, and why one does not."""
    others = reference(directory, stored) if plan.npm else "left out by choice"
    both = [ours(url, _TENANT, version("memory-plugin")), bare(version("mcp"))]
    if isinstance(others, str):
        return {"server-memory": f"absent, {others}"}, both
    return {}, [*both, others]


async def _facts(plan: Plan, server: Server, measured: _Run, before: float) -> dict[str, str]:
    facts = {
        "memories": f"{plan.memories:,} of the user who asks, among them the answer to each question",
        "found": ", ".join(f"{name} {part:.0%}" for name, part in measured.found().items()) + " of the texts asked for",
        "times": "median (95th percentile), by the clock of one client on the same machine",
        "samples": f"{plan.starts} starts, {plan.calls} calls of each tool over each transport, seed {plan.seed}",
    }
    if measured.database is not None:
        count, megabytes = measured.database
        facts["embedded PostgreSQL, not in the rows above"] = (
            f"{megabytes:.0f} MB in {count} processes after the work, pages they share counted once"
        )
    return {**facts, **machine(await server.version(), (before, os.getloadavg()[0]))}


class _Run:
    """The measurement itself, one call after the other: the servers take turns in random order."""

    def __init__(
        self,
        plan: Plan,
        contenders: Sequence[Contender],
        stored: Sequence[Fact],
        new: Sequence[Fact],
        postmaster: int | None,
        step: Step,
    ) -> None:
        self.results: dict[str, Result] = results()
        self.database: tuple[int, float] | None = None
        self._plan = plan
        self._contenders = contenders
        self._stored = stored
        self._new = new
        self._postmaster = postmaster
        self._step = step
        self._chance = random.Random(plan.seed)
        self._asked: dict[str, list[bool]] = {}

    def found(self) -> dict[str, float]:
        """The part of the questions whose answer was there, by server."""
        return {name: sum(hits) / len(hits) for name, hits in self._asked.items()}

    def all(self) -> None:
        """Fill every row."""
        for number in range(0 if self._plan.warm else 1, self._plan.starts + 1):
            self._step(f"start {number} of {self._plan.starts}")
            for contender in self._shuffled(self._contenders):
                self._start(contender, counted=number > 0)
        with ExitStack() as stack:
            sessions = self._open(stack)
            for kind, facts in (("recall", self._some(self._stored)), ("remember", self._new)):
                for place in range(self._plan.calls + self._plan.warm):
                    if place % 20 == 0:
                        self._step(f"{kind}: {max(0, place - self._plan.warm)} of {self._plan.calls}")
                    for key in self._shuffled(sorted(sessions)):
                        # nobody stores what another transport of the same server has stored
                        fact = facts[2 * place + (key[0] == "http")]
                        self._call(*key, sessions[key], kind, fact, counted=place >= self._plan.warm)
            self._memory(sessions)

    def _shuffled(self, things: Sequence[T]) -> Sequence[T]:
        return self._chance.sample(things, k=len(things))

    def _some(self, facts: Sequence[Fact]) -> list[Fact]:
        return self._chance.choices(facts, k=2 * (self._plan.calls + self._plan.warm))

    def _start(self, contender: Contender, *, counted: bool) -> None:
        """From the start of the process to three answers; each as the client that waits sees it."""
        fact = self._chance.choice(self._stored)
        began = time.perf_counter()

        def add(key: str, value: float | None = None) -> None:
            if counted:
                passed = 1000 * (time.perf_counter() - began)
                self.results[key].add(contender.name, passed if value is None else value)

        with Stdio(contender.command, contender.environment) as session:
            session.hello()
            add("start")
            session.ready()
            session.call("tools/list", {})
            add("start-tools")
            add("start-processor", processor(session.process.pid))
            tool, arguments = contender.recall(fact)
            _use(session, tool, arguments)
            add("start-recall")

    def _open(self, stack: ExitStack) -> dict[tuple[str, str], Session]:
        """The servers that are called, by transport and name."""
        sessions: dict[tuple[str, str], Session] = {}
        for contender in self._contenders:
            session = stack.enter_context(Stdio(contender.command, contender.environment))
            session.hello()
            session.ready()
            sessions["stdio", contender.name] = session
            if contender.http is not None:
                port = _free_port()
                served = Http(contender.http(port), contender.environment, port)
                sessions["http", contender.name] = stack.enter_context(closing(served))
        return sessions

    def _call(self, transport: str, name: str, session: Session, kind: str, fact: Fact, *, counted: bool) -> None:
        contender = next(each for each in self._contenders if each.name == name)
        tool, arguments = (contender.recall if kind == "recall" else contender.remember)(fact)
        began = time.perf_counter()
        answer = _use(session, tool, arguments)
        passed = 1000 * (time.perf_counter() - began)
        if not counted:
            return
        self.results[f"{transport}-{kind}"].add(name, passed)
        if kind == "recall" and tool != "echo":
            self._asked.setdefault(name, []).append(fact.text in str(answer))

    def _memory(self, sessions: Mapping[tuple[str, str], Session]) -> None:
        for (transport, name), session in sessions.items():
            now = resident(session.process.pid)
            if transport == "http":
                self.results["http-rss"].add(name, now.rss)
                continue
            for key, value in (("rss", now.rss), ("pss", now.pss), ("uss", now.uss)):
                if value is not None:
                    self.results[key].add(name, value)
        if self._postmaster is not None:
            self.database = with_children(self._postmaster)


def _use(session: Session, tool: str, arguments: Mapping[str, Any]) -> Any:
    answer = session.call("tools/call", {"name": tool, "arguments": arguments})
    if answer.get("isError"):
        raise NoAnswerError(f"The tool {tool} failed: {answer['content']}")
    return answer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
