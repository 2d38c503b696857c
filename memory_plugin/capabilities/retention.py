"""Retention: how much of the history of threads is kept, and for how long.

A run looks at the threads in the order of their ids, a batch at a time. Each batch is a short
transaction: it sees what is to do without locking anything, locks the threads in which there is
something, and decides again while nobody puts into them. A thread that is being written to is left
for the end of the run. A run that was broken off has removed whole batches; the next one goes on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson

from memory_plugin.capabilities import retention_sql as sql
from memory_plugin.capabilities.thread_removal import removal, unlocked
from memory_plugin.db.database import Connection, Database
from memory_plugin.errors import InvalidInputError
from memory_plugin.types import Retention, RetentionReport
from memory_plugin.validation import identifier

BATCH = 100
"""Threads that one transaction looks at."""

CHECKPOINTS = 5_000
"""Checkpoints that one transaction removes."""

VALUES = 50_000
"""Stored values, and messages of subgraphs, that one transaction removes."""

LONGEST = timedelta(days=36_500)

_NO_LIMIT = 1 << 60
_EXPIRE = ("thread", "checkpoints")
_PRUNED = ("checkpoints", "checkpoint_writes", "checkpoint_blobs", "messages")

Rules = tuple[int | None, float | None, float | None, str, bool]
"""Arguments 3 to 7 of the statements."""


@dataclass(slots=True)
class _Run:
    """What a run has done so far."""

    rules: Rules
    dry_run: bool
    alone: bool
    progress: Callable[[RetentionReport], None] | None
    of: int | None = None
    threads: int = 0
    pruned: set[str] = field(default_factory=set)
    emptied: int = 0
    expired: int = 0
    bytes: int = 0
    rows: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_PRUNED, 0)))
    busy: list[str] = field(default_factory=list)

    def report(self) -> RetentionReport:
        return RetentionReport(
            threads=self.threads,
            pruned=len(self.pruned),
            expired=self.expired,
            emptied=self.emptied,
            rows=dict(sorted(self.rows.items())),
            bytes=self.bytes,
            dry_run=self.dry_run,
            of=self.of,
        )


@dataclass(frozen=True, slots=True)
class _Done:
    """What one transaction did."""

    looked: int = 0
    last: str | None = None
    busy: Sequence[str] = ()
    pruned: Sequence[str] = ()
    emptied: int = 0
    expired: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    more: bool = False
    refused: bool = False


class Retentions:
    """The retention of one tenant's threads.

    Args:
        default: the policy of threads that have none of their own.
        user_id: the user of a conversation that `set` makes.
    """

    def __init__(
        self, database: Database, *, tenant: str, default: Retention | None = None, user_id: str | None = None
    ) -> None:
        self._database = database
        self._tenant = tenant
        self._user_id = user_id
        self.default = checked(default or Retention())

    async def set(self, thread_id: str, policy: Retention) -> None:
        """Give a thread a policy of its own, in place of the one for all; `Retention()` keeps everything.

        The conversation is made if it is not there yet.

        Raises:
            InvalidInputError: the policy makes no sense; the message says why.
        """
        await self._database.execute(
            self._database.sql(sql.SET),
            self._tenant,
            identifier(thread_id, "thread_id"),
            self._user_id,
            _to_json(checked(policy)),
        )

    async def get(self, thread_id: str) -> Retention | None:
        """The thread's own policy; None where it follows the one for all."""
        text = await self._database.fetchval(
            self._database.sql(sql.GET), self._tenant, identifier(thread_id, "thread_id")
        )
        return None if text is None else _from_json(text)

    async def clear(self, thread_id: str) -> bool:
        """Let a thread follow the policy for all again; whether it had one of its own."""
        found = await self._database.fetchval(
            self._database.sql(sql.CLEAR), self._tenant, identifier(thread_id, "thread_id")
        )
        return found is not None

    async def apply(
        self,
        policy: Retention | None = None,
        *,
        thread_id: str | None = None,
        dry_run: bool = False,
        batch: int = BATCH,
        progress: Callable[[RetentionReport], None] | None = None,
    ) -> RetentionReport:
        """Remove what is not to be kept; what was removed.

        Safe beside agents at work, and to be run again where it was broken off. Messages of the
        conversations stay, except those of threads that expire as a whole.

        Args:
            policy: of threads that have none of their own; None takes that of the settings.
            thread_id: only this thread; a `policy` beside it holds whatever the thread's own says.
            dry_run: remove nothing, and say exactly what would be.
            batch: threads that one transaction looks at.
            progress: called with the report so far after each batch.

        Raises:
            InvalidInputError: the policy makes no sense, or the batch is not positive.
        """
        chosen = checked(policy if policy is not None else self.default)
        if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= 10_000:
            raise InvalidInputError(f"batch must be a whole number from 1 to 10,000, not {batch!r}.")
        named = thread_id is not None
        run = _Run(_rules(chosen, in_any_case=named and policy is not None), dry_run, alone=False, progress=progress)
        if thread_id is not None:
            run.of = 1
            await self._finish(run, [identifier(thread_id, "thread_id")], counted=True)
        else:
            await self._sweep(run, batch, own_only=_keeps_all(chosen))
        return run.report()

    async def apply_alone(self, *, batch: int = BATCH) -> RetentionReport:
        """As `apply()`, unless another process is at it: then this one leaves it to that."""
        run = _Run(_rules(self.default, in_any_case=False), dry_run=False, alone=True, progress=None)
        await self._sweep(run, batch, own_only=_keeps_all(self.default))
        return run.report()

    async def _sweep(self, run: _Run, batch: int, *, own_only: bool) -> None:
        """All threads, or all that have a policy of their own."""
        if run.progress is not None:
            count = sql.COUNT_OWN if own_only else sql.COUNT
            run.of = await self._database.fetchval(self._database.sql(count), self._tenant)
        after = ""
        statement = sql.plan(own_only=own_only)
        while True:
            done = await self._once(run, statement, after, batch)
            run.busy.extend(thread for thread in done.busy if thread not in run.busy)
            if done.refused:
                return
            if done.more:  # the same threads again: what is left of them
                self._note(run, 0)
                continue
            self._note(run, done.looked)
            if done.last is None or done.looked < batch:
                break
            after = done.last
        for thread in run.busy:
            await self._finish(run, [thread], counted=False)

    async def _finish(self, run: _Run, threads: Sequence[str], *, counted: bool) -> None:
        """These threads, waiting for whoever writes to them."""
        while True:
            done = await self._once(run, sql.PLAN_NAMED, list(threads), None)
            if done.refused or not done.more:
                break
            self._note(run, 0)
        self._note(run, done.looked if counted else 0)

    def _note(self, run: _Run, looked: int) -> None:
        run.threads += looked
        if run.progress is not None:
            run.progress(run.report())

    async def _once(self, run: _Run, plan: str, which: str | Sequence[str], batch: int | None) -> _Done:
        """One transaction, entered in the run once it is committed."""
        done = await unlocked(lambda: self._transaction(run, plan, which, batch))
        run.rows.update(done.rows)
        run.bytes += done.bytes
        run.pruned.update(done.pruned)
        run.emptied += done.emptied
        run.expired += done.expired
        return done

    async def _transaction(self, run: _Run, plan: str, which: str | Sequence[str], batch: int | None) -> _Done:
        sql_of = self._database.sql
        async with self._database.transaction() as connection:
            if run.alone and not await connection.fetchval(sql_of(sql.ALONE), self._tenant, self._database.schema):
                return _Done(refused=True)
            size = () if batch is None else (batch,)
            found = await connection.fetchrow(sql_of(plan), self._tenant, which, *run.rules, *size)
            assert found is not None  # the statement always answers
            todo: list[str] = list(found["todo"])
            free = todo
            if todo and not run.dry_run:
                lock = sql.LOCK_ALL if batch is None else sql.LOCK_FREE
                free = [row["thread_id"] for row in await connection.fetch(sql_of(lock), self._tenant, todo)]
            seen = _Done(found["looked"], found["last"], sorted(set(todo) - set(free)))
            return await self._remove(connection, run, free, seen) if free else seen

    async def _remove(self, connection: Connection, run: _Run, threads: list[str], seen: _Done) -> _Done:
        """Remove from threads that are locked, or count what would be removed."""
        limits = (_NO_LIMIT, _NO_LIMIT) if run.dry_run else (CHECKPOINTS, VALUES)
        statement = self._database.sql(sql.remove(counted_only=run.dry_run))
        row = await connection.fetchrow(statement, self._tenant, threads, *run.rules, *limits)
        assert row is not None  # the counts
        rows = Counter({table: row[table] for table in _PRUNED})
        size = row["bytes"]
        if row["expired"]:
            statement = self._database.sql(removal(measured=True, counted_only=run.dry_run))
            whole = await connection.fetchrow(statement, self._tenant, row["expired"], row["expired"])
            assert whole is not None  # likewise
            size += whole["bytes"]
            rows.update({table: count for table, count in whole.items() if table != "bytes"})
        return _Done(
            looked=seen.looked,
            last=seen.last,
            busy=seen.busy,
            pruned=row["pruned"],
            emptied=len(row["emptied"]),
            expired=len(row["expired"]),
            rows=rows,
            bytes=size,
            more=row["more"],
        )


def checked(policy: Retention) -> Retention:
    """The policy itself when it makes sense.

    Raises:
        InvalidInputError: a number is not positive, a time is not or is over 100 years, or `expire`
            is an unknown word.
    """
    if not isinstance(policy, Retention):
        raise InvalidInputError(f"The policy must be a Retention, not {type(policy).__name__}.")
    last = policy.keep_last
    if last is not None and (isinstance(last, bool) or not isinstance(last, int) or not 1 <= last < 2**31):
        raise InvalidInputError(f"keep_last must be a whole number of at least 1, not {last!r}.")
    for name in ("keep_for", "expire_after"):
        span = getattr(policy, name)
        if span is not None and (not isinstance(span, timedelta) or not timedelta(0) < span <= LONGEST):
            raise InvalidInputError(f"{name} must be a timedelta above zero and up to 100 years, not {span!r}.")
    if policy.expire not in _EXPIRE:
        raise InvalidInputError(f"expire must be one of {', '.join(_EXPIRE)}, not {policy.expire!r}.")
    return policy


def _keeps_all(policy: Retention) -> bool:
    return policy.keep_last is None and policy.keep_for is None and policy.expire_after is None


def _rules(policy: Retention, *, in_any_case: bool) -> Rules:
    return policy.keep_last, _seconds(policy.keep_for), _seconds(policy.expire_after), policy.expire, in_any_case


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def _to_json(policy: Retention) -> str:
    return orjson.dumps(
        {
            "keep_last": policy.keep_last,
            "keep_for": _seconds(policy.keep_for),
            "expire_after": _seconds(policy.expire_after),
            "expire": policy.expire,
        }
    ).decode()


def _from_json(text: str) -> Retention:
    stored: dict[str, Any] = orjson.loads(text)
    spans = {
        name: timedelta(seconds=stored[name])
        for name in ("keep_for", "expire_after")
        if stored.get(name) is not None and math.isfinite(stored[name])
    }
    return Retention(keep_last=stored.get("keep_last"), expire=stored.get("expire", "thread"), **spans)
