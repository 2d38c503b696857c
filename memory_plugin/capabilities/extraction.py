"""Facts that a language model takes from conversations, as proposals that somebody accepts or rejects.

Nothing here is needed to remember, and nothing is replaced by it: the messages stay the source, a proposal
names those that it rests on, and no search finds it before it was accepted. How far a conversation was read
is stored with what came of it in one statement, so that an extraction that was broken off goes on where it was.

Text that came out of recall is never read: messages of tools, messages with `memory_recalled` in their
`additional_kwargs`, and content blocks with that name. What an agent was reminded of is not said once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from memory_plugin.capabilities import extraction_sql as sql
from memory_plugin.capabilities.memories import Memories
from memory_plugin.capabilities.memory_values import normalised_hash
from memory_plugin.capabilities.proposals import ExtractionReport, Proposals
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import ConfigurationError, InvalidInputError, MemoryPluginError, SecretRefusedError
from memory_plugin.extracting import Extracted, ExtractedFact, Extractor, UnreadableError
from memory_plugin.message_shape import whole_body
from memory_plugin.screening import screened
from memory_plugin.types import SecretsPolicy, uuid7
from memory_plugin.validation import clean_text, moment, optional_identifier, positive_limit

logger = logging.getLogger("memory_plugin")

RECALLED = "memory_recalled"
"""What marks a message, or a block of its content, as text that came out of recall."""

ATTEMPTS = 3
"""Runs in which a model may fail on the same messages before they are passed over."""

THREADS = 50
"""Conversations that are looked up at once."""

LONGEST_BATCH = 20_000
"""Characters of a conversation that a model is shown at once."""

CHARACTERS_A_TOKEN = 4
"""For the estimate of a dry run."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What one extraction was told."""

    extractor: Extractor | None
    batch: int
    seconds: float
    most_calls: int | None
    report: ExtractionReport
    on_progress: Callable[[ExtractionReport], None] | None


class Extraction(Proposals):
    """Reads conversations with a model, and keeps what it proposes.

    Args:
        memories: where an accepted proposal is remembered.
        secrets: what happens to credentials in proposals.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant: str,
        memories: Memories,
        secrets: SecretsPolicy = "refuse",
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(database, tenant=tenant, memories=memories, changed=changed)
        self._secrets: SecretsPolicy = secrets
        self._task: asyncio.Task[None] | None = None
        self.last_error: Exception | None = None
        """Why the last run in the background failed; None when it did not."""

    # -- reading

    async def run(
        self,
        model: Any = None,
        *,
        thread_id: str | None = None,
        user_id: str | None = None,
        settled: timedelta | None = None,
        batch: int = 30,
        seconds: float = 120.0,
        concurrency: int = 2,
        most_calls: int | None = None,
        dry_run: bool = False,
        on_progress: Callable[[ExtractionReport], None] | None = None,
    ) -> ExtractionReport:
        """Read what was said since the last time, and keep the facts that the model finds as proposals.

        A call that fails, takes too long or gives nothing readable is in the report; its messages are
        read again the next time, and passed over after three times. Any number of processes may do
        this at once.

        Args:
            model: a LangChain chat model, or a function from text to text; a dry run needs none.
            thread_id, user_id: only this conversation, or those of this user.
            settled: only conversations in which nothing was said for so long.
            batch: messages that the model is shown at once, at the most.
            seconds: that one call may take.
            concurrency: conversations that are read at the same time.
            most_calls: stop after so many.
            dry_run: ask nothing and store nothing; count messages, calls and (roughly) input tokens.
            on_progress: called with the report after each call.

        Raises:
            InvalidInputError: there is no model.
        """
        if model is None and not dry_run:
            raise InvalidInputError("Name the model that reads: a LangChain chat model, or a function of text.")
        thread, user = optional_identifier(thread_id, "thread_id"), optional_identifier(user_id, "user_id")
        run = _Run(
            extractor=None if dry_run else Extractor(model),
            batch=max(1, positive_limit(batch, "batch", maximum=500)),
            seconds=seconds,
            most_calls=most_calls,
            report=ExtractionReport(dry_run=dry_run),
            on_progress=on_progress,
        )
        before = None if settled is None else datetime.now(UTC) - settled
        places = asyncio.Semaphore(max(1, concurrency))

        async def read(row: Record) -> None:
            async with places:
                await self._read_thread(row, run)

        last = ""
        statement = self._database.sql(sql.PENDING)
        while True:
            arguments = (self._tenant, thread, user, before, last, THREADS)
            rows = await self._database.fetch(statement, *arguments, repeat=Repeat.READ)
            reading = [asyncio.ensure_future(read(row)) for row in rows]
            try:
                await asyncio.gather(*reading)
            finally:
                for each in reading:
                    each.cancel()
            if len(rows) < THREADS or self._is_spent(run):
                return run.report
            last = rows[-1]["thread_id"]

    def _is_spent(self, run: _Run) -> bool:
        return run.most_calls is not None and run.report.calls >= run.most_calls

    async def _read_thread(self, thread: Record, run: _Run) -> None:
        position, attempts = thread["seq"], thread["attempts"]
        statement = self._database.sql(sql.MESSAGES)
        begun = False
        while not self._is_spent(run):
            rows = await self._database.fetch(
                statement, self._tenant, thread["thread_id"], position, run.batch, RECALLED, repeat=Repeat.READ
            )
            taken = _fitting(rows)
            is_last = len(taken) == len(rows) < run.batch
            reached = max(thread["message_seq"], taken[-1]["seq"] if taken else 0) if is_last else taken[-1]["seq"]
            said = [(row, text) for row in taken if (text := _own_text(row)).strip()]
            if said and any(row["role"] == "human" for row, _ in said):
                run.report.threads += not begun
                begun = True
                if not await self._read_batch(thread, said, position, reached, attempts, run):
                    return
            elif run.extractor is not None:
                await self._keep(thread, position, reached, [], Extracted([]), calls=0, model="")
            position, attempts = reached, 0
            if is_last:
                return

    async def _read_batch(
        self,
        thread: Record,
        said: Sequence[tuple[Record, str]],
        position: int,
        reached: int,
        attempts: int,
        run: _Run,
    ) -> bool:
        """Ask the model about these messages; whether to go on with the thread."""
        report, conversation = run.report, _shown(said)
        if self._is_spent(run):
            return False
        report.messages += len(said)
        report.calls += 1
        if run.extractor is None:
            report.input_tokens += len(conversation) // CHARACTERS_A_TOKEN
            return True
        try:
            async with asyncio.timeout(run.seconds):
                extracted = await run.extractor(conversation)
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - a model is somebody else's code, and raises what it likes
            going_on = await self._failed(thread, position, reached, attempts, len(said), error, run)
        else:
            facts, dropped = self._kept(extracted.facts, said)
            made = await self._keep(thread, position, reached, facts, extracted, calls=1, model=run.extractor.name)
            report.input_tokens += extracted.input_tokens
            report.output_tokens += extracted.output_tokens
            report.dropped += dropped + extracted.malformed
            report.proposals += made or 0
            report.known += len(facts) - (made or 0)
            going_on = made is not None
        if run.on_progress is not None:
            run.on_progress(report)
        return going_on

    async def _failed(
        self,
        thread: Record,
        position: int,
        reached: int,
        attempts: int,
        messages: int,
        error: Exception,
        run: _Run,
    ) -> bool:
        """Note that there was no answer; whether the messages are passed over."""
        report = run.report
        reason = "it gave nothing readable" if isinstance(error, UnreadableError) else _reason(error, run.seconds)
        report.failed += 1
        report.errors.append(f"{thread['thread_id']}: {reason}")
        if attempts + 1 >= ATTEMPTS:
            report.passed_over += messages
            return await self._keep(thread, position, reached, [], Extracted([]), calls=1, model="") is not None
        await self._database.execute(
            self._database.sql(sql.FAILED), self._tenant, thread["thread_id"], position, clean_text(reason, "error")
        )
        return False

    def _kept(
        self, facts: Sequence[ExtractedFact], said: Sequence[tuple[Record, str]]
    ) -> tuple[list[tuple[ExtractedFact, list[str]]], int]:
        """Facts that rest on what a person said and hold no credential, with ids; how many others there were."""
        kept: list[tuple[ExtractedFact, list[str]]] = []
        for fact in facts:
            rows = [said[number - 1][0] for number in dict.fromkeys(fact.messages) if 0 < number <= len(said)]
            if not any(row["role"] == "human" for row in rows) or not fact.content.strip():
                continue
            try:
                content = screened(clean_text(fact.content.strip(), "A fact"), self._secrets).content
                for name in (fact.subject, fact.attribute):
                    clean_text(name or "", "A name")
            except SecretRefusedError:
                continue
            except InvalidInputError:  # it cannot be stored
                continue
            kept.append((fact.model_copy(update={"content": content}), [row["id"] for row in rows]))
        return kept, len(facts) - len(kept)

    async def _keep(
        self,
        thread: Record,
        position: int,
        reached: int,
        facts: Sequence[tuple[ExtractedFact, list[str]]],
        extracted: Extracted,
        *,
        calls: int,
        model: str,
    ) -> int | None:
        """Store proposals and position together; how many are new, None where another process was here first."""
        row = await self._database.fetchrow(
            self._database.sql(sql.KEEP),
            self._tenant,
            thread["thread_id"],
            position,
            reached,
            calls,
            extracted.input_tokens,
            extracted.output_tokens,
            model or None,
            [str(uuid7()) for _ in facts],
            [fact.content for fact, _ in facts],
            [normalised_hash(fact.content).hex() for fact, _ in facts],
            [fact.subject for fact, _ in facts],
            [fact.attribute for fact, _ in facts],
            [orjson.dumps(ids).decode() for _, ids in facts],
            [fact.importance for fact, _ in facts],
            [at.isoformat() if (at := moment(fact.valid_from, "valid_from")) else None for fact, _ in facts],
        )
        assert row is not None  # a SELECT without FROM always has a row
        return row["made"] if row["moved"] else None

    # -- in the background

    async def start(
        self,
        model: Any,
        *,
        every: timedelta = timedelta(minutes=1),
        settled: timedelta = timedelta(minutes=5),
        most_calls: int | None = None,
    ) -> None:
        """Read conversations again and again while the store is open; see `run`.

        Args:
            every: from the end of one run to the start of the next.
            most_calls: of each run.
        """
        await self.stop()

        async def again() -> None:
            while True:
                try:
                    await self.run(model, settled=settled, most_calls=most_calls)
                except MemoryPluginError as error:
                    # nobody waits for this task: say so once, and try again
                    if self.last_error is None:
                        logger.warning("Extraction in the background failed, will try again: %s", error)
                    self.last_error = error
                else:
                    self.last_error = None
                await asyncio.sleep(every.total_seconds())

        self._task = asyncio.get_running_loop().create_task(again(), name="memory-plugin extraction", context=Context())

    async def stop(self) -> None:
        """End the task in the background; what it was about to read is read the next time."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None


def _fitting(rows: Sequence[Record]) -> list[Record]:
    """The first of these that a model is shown at once; at least one."""
    taken: list[Record] = []
    room = LONGEST_BATCH
    for row in rows:
        room -= len(row["text"])
        if taken and room < 0:
            break
        taken.append(row)
    return taken


def _own_text(row: Record) -> str:
    """The text of a message without what came out of recall."""
    if row["body"] is None:
        return str(row["text"])
    body = whole_body(row["body"], row["text"], row["id"])
    if (body.get("additional_kwargs") or {}).get(RECALLED):
        return ""
    content = body.get("content")
    if not isinstance(content, list):
        return str(row["text"])
    texts = (
        block if isinstance(block, str) else block.get("text")
        for block in content
        if isinstance(block, str) or (isinstance(block, dict) and not block.get(RECALLED))
    )
    return "\n".join(text for text in texts if isinstance(text, str))


def _shown(said: Sequence[tuple[Record, str]]) -> str:
    """The messages as a model is shown them."""
    lines = []
    for number, (row, text) in enumerate(said, start=1):
        speaker = "person" if row["role"] == "human" else "assistant"
        named = f" {' '.join(row['name'].split())}" if row["name"] else ""
        lines.append(f"[{number}] {row['said_at'].date().isoformat()} {speaker}{named}: {text[:LONGEST_BATCH]}")
    return "\n".join(lines)


def _reason(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {seconds:g} s"
    return f"{type(error).__name__}: {str(error)[:200]}".replace("\x00", "")
