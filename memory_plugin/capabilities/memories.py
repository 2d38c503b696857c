"""Long-term memories: facts that are kept, superseded and forgotten, with their history.

A memory is a line of versions. The current one has no `superseded_at`; another text under the
same key closes it and opens the next. Each is at the same time an item of a key-value store
(`Memories.items`), so what one face remembers every other one reads: a fact that was remembered
without a `value` reads `{"content": text}` there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from memory_plugin.capabilities import memory_sql as sql
from memory_plugin.capabilities.memory_batches import BATCH, Placed, checked, columns, rounds
from memory_plugin.capabilities.memory_facts import Fact, FindNear, Near, NewFact, fact_of, merged_fact
from memory_plugin.capabilities.memory_filters import prefix_condition
from memory_plugin.capabilities.memory_items import MemoryItems
from memory_plugin.capabilities.memory_values import (
    item_uuid,
    memory_of,
    read_cursor,
    unknown_memory,
    write_cursor,
)
from memory_plugin.capabilities.memory_writes import LIVE, OPEN_LIVE, MemoryWrites, fill
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.db.joined import together
from memory_plugin.errors import ConflictError, InvalidInputError, MemoryPluginError, OutcomeUnknownError
from memory_plugin.types import MemoryItem, MemoryScope, Page, SecretsPolicy, SimilarMemory, Source, Trust, uuid7
from memory_plugin.validation import (
    clean_text,
    identifier,
    moment,
    namespace_path,
    optional_identifier,
    positive_limit,
)

logger = logging.getLogger("memory_plugin")

MOST_SIMILAR = 3
"""Facts like a new one that are reported."""


class Memories:
    """Remembers facts and keeps what they were before.

    Attributes:
        items: the same rows as the items of a key-value store.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant: str,
        user_id: str | None = None,
        secrets: SecretsPolicy = "refuse",
        near: FindNear | None = None,
    ) -> None:
        self._database = database
        self._tenant = tenant
        self._user_id = user_id
        self._secrets: SecretsPolicy = secrets
        self._near = near
        self._writes = MemoryWrites(database, tenant)
        self.items = MemoryItems(database, tenant=tenant)
        self._remember = database.sql(sql.REMEMBER)
        self._remember_many = database.sql(sql.REMEMBER_MANY)
        self._get = {
            wanted: database.sql(fill(sql.GET, wanted=wanted, when=when))
            for wanted, when in ((sql.BY_ITEM, LIVE), (sql.BY_KEY, OPEN_LIVE))
        }
        self._found = database.sql(sql.FOUND)
        self._get_as_of = database.sql(fill(sql.GET, wanted=sql.BY_ITEM, when=sql.AS_OF))
        self._history = database.sql(sql.HISTORY)
        self._undo = database.sql(sql.UNDO)
        self._made = database.sql(sql.MADE)
        self._close = {
            column: database.sql(fill(sql.CLOSE, column=column, live=LIVE)) for column in ("item_id", "user_id")
        }

    async def remember(
        self,
        content: str,
        *,
        user_id: str | None = None,
        thread_id: str | None = None,
        agent_id: str | None = None,
        namespace: Sequence[str] | str | None = None,
        scope: MemoryScope | None = None,
        key: str | None = None,
        subject: str | None = None,
        attribute: str | None = None,
        value: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        source: Source | Mapping[str, Any] | None = None,
        importance: float = 0.5,
        trust: Trust = "user",
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        secrets: SecretsPolicy | None = None,
        similar: bool = False,
        merge: bool = False,
    ) -> MemoryItem:
        """Store a fact; `status` says what became of it.

        - `duplicate`: it was known, and nothing was written. Without a key that is the same text
          anywhere in the namespace, with a key the same text under that key (unless a `value`,
          `metadata`, `valid_from` or `valid_to` was given that differs). Texts are the same when
          they differ only in case, white space or Unicode composition.
        - `updated`: another fact stood under the key; it stays in the history.
        - `created`: anything else.

        Any number of writers may do this at once: one of them creates, no version is lost.

        Args:
            user_id: whose fact it is; by default the store's user, or X in a namespace
                ("memories", X, ...).
            namespace: ("memories", user) by default, ("memories",) when there is no user.
            scope: in place of a namespace, whom it is kept for: a user, a thread, an agent (whoever
                the user is), or the whole tenant, even where the store has a user.
            key: the name of the fact; None makes one from the text.
            subject, attribute: in place of a key, what it is about, such as "Alice" and "home".
            value: what the store item holds; {"content": content} by default.
            source: where it was said; its thread is the memory's thread unless `thread_id` says.
            importance: 0 to 1.
            trust: who vouches for it.
            valid_from, valid_to: when it is true.
            secrets: what happens to credentials in it, instead of what the settings say.
            similar: look for facts of the namespace that say nearly the same, and report them.
            merge: where one of these says all that this one says, or the other way round, make this
                its next version; only without a name of its own.

        Raises:
            SecretRefusedError: it holds a credential, and those are refused; nothing was written.
            InvalidInputError: something cannot be stored; nothing was written.
            ConflictError: others kept writing the same fact all the time.
        """
        fact = fact_of(
            content,
            secrets=secrets or self._secrets,
            own_user=self._user_id,
            user_id=user_id,
            thread_id=thread_id,
            agent_id=agent_id,
            namespace=namespace,
            scope=scope,
            key=key,
            subject=subject,
            attribute=attribute,
            value=value,
            metadata=metadata,
            source=source,
            importance=importance,
            trust=trust,
            valid_from=valid_from,
            valid_to=valid_to,
        )
        if merge and fact.is_named:
            raise InvalidInputError("Give either a name for the fact (key, subject and attribute) or merge=True.")
        if self._near is None or not (similar or merge):
            return await self._store(fact)
        if merge:
            near = await self._near(fact)
            twin = next((each.fact for each in near if each.repeats), None)
            item = await self._store(fact if twin is None else replace(fact, keys=[twin.key], is_named=True))
        else:
            item, near = await self._store_and_look(fact, self._near)
        if item.status == "duplicate":
            return item
        others = [each.fact for each in near if each.fact.id != item.id]
        return replace(item, similar=tuple(others[:MOST_SIMILAR]))

    async def remember_many(
        self,
        facts: Iterable[str | NewFact],
        *,
        user_id: str | None = None,
        secrets: SecretsPolicy | None = None,
        keep_going: bool = False,
        on_full: Callable[[], None] = lambda: None,
    ) -> list[MemoryItem | InvalidInputError]:
        """As `Remembers.remember_many`; without `keep_going` no answer is an error.

        Args:
            on_full: is called after each statement that was full.
        """
        policy = secrets or self._secrets
        answers: list[Any] = []
        for place, given in enumerate(facts):
            fact = checked(given, user_id=user_id, own_user=self._user_id, secrets=policy)
            if isinstance(fact, InvalidInputError) and not keep_going:
                fact.add_note(f"It is the fact at place {place}, counted from 0; none of them was written.")
                raise fact
            answers.append(fact)
        placed = (Placed(place, fact) for place, fact in enumerate(answers) if isinstance(fact, Fact))
        for batch in rounds(placed):
            try:
                rows = await self._writes.fetch(self._remember_many, self._tenant, *columns(batch))
            except OutcomeUnknownError as error:
                error.repeatable = True  # what was stored is a duplicate then
                raise
            for row in rows:
                place, fact = batch[row["place"] - 1]
                answers[place] = _answer(row, fact)
            if len(batch) == BATCH:
                on_full()
        return answers

    async def near(self, content: str, *, user_id: str | None = None) -> list[SimilarMemory]:
        """The facts that say nearly the same as a text that is not stored yet, where `remember` would put it.

        The nearest first, as far as they share words with it; those written a moment ago are among them.

        Raises:
            InvalidInputError: the text could not be stored.
        """
        if self._near is None:
            return []
        fact = checked(content, user_id=user_id, own_user=self._user_id, secrets="allow")
        if isinstance(fact, InvalidInputError):
            raise fact
        return [each.fact for each in await self._near(fact)][:MOST_SIMILAR]

    async def _store_and_look(self, fact: Fact, find: FindNear) -> tuple[MemoryItem, list[Near]]:
        """Both at once: looking must not delay the write."""
        looking = asyncio.ensure_future(_found(find, fact))
        try:
            item = await self._store(fact)
        except BaseException:
            looking.cancel()
            raise
        return item, await looking

    async def _store(self, fact: Fact) -> MemoryItem:
        row_id = uuid7()
        rows = await self._writes.fetch(
            self._remember,
            self._tenant,
            list(fact.namespace),
            fact.keys,
            fact.is_named,
            row_id,
            uuid7(),
            *fact.columns,
            made=(self._made, row_id),
        )
        return _answer(rows[0], fact)

    async def get(self, item_id: UUID | str, *, as_of: datetime | None = None) -> MemoryItem:
        """The memory as it is now, or as it was known at a time.

        Raises:
            NotFoundError: there is none, it was forgotten, or its lifetime is over.
        """
        item, at = item_uuid(item_id), moment(as_of, "as_of")
        if at is None:
            row = await self._database.fetchrow(self._get[sql.BY_ITEM], self._tenant, item, repeat=Repeat.READ)
        else:
            row = await self._database.fetchrow(self._get_as_of, self._tenant, item, at, repeat=Repeat.READ)
        if row is None:
            raise unknown_memory(item, at)
        return memory_of(row)

    async def get_by_key(self, namespace: Sequence[str] | str, key: str) -> MemoryItem | None:
        """The memory that stands under a key now, or None."""
        labels = list(namespace_path(namespace))
        row = await self._database.fetchrow(
            self._get[sql.BY_KEY], self._tenant, labels, clean_text(key, "key"), repeat=Repeat.READ
        )
        return None if row is None else memory_of(row)

    async def hydrate(self, ids: Sequence[UUID]) -> dict[UUID, Record]:
        """What a hit says of the versions with these row ids, by which the search index knows them.

        Superseded ones are among them (see `superseded_at`), expired ones are not.
        """
        rows = await self._database.fetch(self._found, self._tenant, list(ids), repeat=Repeat.READ)
        return {row["id"]: row for row in rows}

    async def list(
        self,
        *,
        namespace: Sequence[str] | str = (),
        user_id: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[MemoryItem]:
        """Memories at or below a namespace, those of one user or of all, the last changed first.

        Raises:
            InvalidInputError: the cursor is not one that this method gave.
        """
        count = positive_limit(limit)
        after, row = read_cursor(cursor) if cursor is not None else (None, None)
        below = prefix_condition(namespace_path(namespace))
        statement = self._database.sql(fill(sql.LIST, below=below.numbered(6)))
        rows = await self._database.fetch(
            statement,
            self._tenant,
            optional_identifier(user_id, "user_id"),
            after,
            row,
            count + 1,
            *below.arguments,
            repeat=Repeat.READ,
        )
        items = [memory_of(row) for row in rows[:count]]
        return Page(items, write_cursor(rows[count - 1]) if len(rows) > count > 0 else None)

    async def history(self, item_id: UUID | str) -> Sequence[MemoryItem]:
        """All versions of a memory, the first one first, also of a forgotten one.

        Raises:
            NotFoundError: there is none, it was erased, or its lifetime is over.
        """
        item = item_uuid(item_id)
        rows = await self._database.fetch(self._history, self._tenant, item, repeat=Repeat.READ)
        if not rows:
            raise unknown_memory(item)
        return [memory_of(row) for row in rows]

    async def undo(self, item_id: UUID | str) -> MemoryItem:
        """Bring back the version before the current one, or the last one of a forgotten memory.

        It comes back as a new version, so undoing twice is undoing nothing.

        Raises:
            NotFoundError: there is no such memory, it was erased, or its lifetime is over.
            ConflictError: it was forgotten, and another memory has its key now.
            InvalidInputError: it has one version only; forget it to be rid of it.
        """
        item = item_uuid(item_id)
        row_id = uuid7()
        (row,) = await self._writes.fetch(self._undo, self._tenant, item, row_id, made=(self._made, row_id))
        if row["id"] is not None:
            return memory_of(row)
        if row["taken"]:
            raise ConflictError(f"Another memory stands under the key of {item} now: forget that one first.")
        if row["known"]:
            raise InvalidInputError(f"The memory {item} has no version before this one: forget it to be rid of it.")
        raise unknown_memory(item)

    async def merge(self, item_id: UUID | str, *, into: UUID | str) -> MemoryItem:
        """Make what one memory says the next version of another, and forget the one by itself.

        Both keep their history; `undo` of either goes back.

        Raises:
            NotFoundError: one of them is not there.
            InvalidInputError: they are the same.
        """
        item, target = item_uuid(item_id), item_uuid(into)
        if item == target:
            raise InvalidInputError(f"The memory {item} cannot be merged into itself.")
        async with together(self._database):
            merged = await self._store(merged_fact(await self.get(item), await self.get(target)))
            await self.forget(item)
        return merged

    async def forget(self, item_id: UUID | str, *, hard: bool = False) -> dict[str, int]:
        """Let nothing find the memory any more; rows touched, by table.

        Args:
            hard: erase all its versions; otherwise `undo` and `history` still know it.

        Raises:
            NotFoundError: there is no such memory.
        """
        item = item_uuid(item_id)
        counts = await self._forget("item_id", item, hard=hard)
        if not counts.pop("known"):
            raise unknown_memory(item)
        return counts

    async def forget_user(self, user_id: str, *, hard: bool = False) -> dict[str, int]:
        """Forget every memory of a user, store items among them; rows touched, by table."""
        counts = await self._forget("user_id", identifier(user_id, "user_id"), hard=hard)
        del counts["known"]
        return counts

    async def _forget(self, column: str, value: UUID | str, *, hard: bool) -> dict[str, int]:
        if not hard:
            row = await self._database.fetchrow(self._close[column], self._tenant, value, repeat=Repeat.IDEMPOTENT)
            assert row is not None  # a SELECT without FROM always has a row
            return dict(row)
        counts = await self._writes.erase_all(column, value)
        known = counts.pop("items")
        return {**counts, "known": known}

    async def sweep_expired(self) -> int:
        """Erase the memories whose lifetime is over; how many there were."""
        return await self.items.sweep_expired()


def _answer(row: Record, fact: Fact) -> MemoryItem:
    """The item that was stored, with what the screen found in it."""
    item = memory_of(row)
    return replace(item, findings=fact.findings) if fact.findings else item


async def _found(find: FindNear, fact: Fact) -> list[Near]:
    """What is near; a fact is not lost for want of an answer to that."""
    try:
        return await find(fact)
    except MemoryPluginError as error:
        logger.warning("A fact was stored, but not compared with others: %s", error)
        return []
