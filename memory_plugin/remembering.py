"""The verb `remember` of every store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from memory_plugin.capabilities.memories import Memories
    from memory_plugin.capabilities.memory_facts import NewFact
    from memory_plugin.errors import InvalidInputError
    from memory_plugin.types import MemoryItem, MemoryScope, SecretsPolicy, Source, Trust


class Remembers(ABC):
    """A store that facts are remembered in."""

    memories: Memories
    user_id: str | None

    @abstractmethod
    def kick(self) -> None:
        """Tell the background indexer that something was written."""

    @abstractmethod
    def _hurry(self) -> None:
        """Let it begin at once."""

    async def remember(
        self,
        content: str,
        *,
        user_id: str | None = None,
        thread_id: str | None = None,
        agent_id: str | None = None,
        namespace: Sequence[str] | None = None,
        scope: MemoryScope | None = None,
        key: str | None = None,
        subject: str | None = None,
        attribute: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        source: Source | Mapping[str, Any] | None = None,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        importance: float = 0.5,
        trust: Trust = "user",
        secrets: SecretsPolicy | None = None,
        similar: bool = True,
        merge: bool = False,
    ) -> MemoryItem:
        """Store a fact for a user, a thread, an agent, or everyone of the tenant.

        The answer's `status` says created, updated (another text under the same key: the old
        one stays in the history) or duplicate (the same text was known; nothing was written).
        No model is asked, and no embedder waited for.

        Args:
            content: one self-contained statement.
            namespace: where it is kept; ("memories", user) by default.
            scope: whom it is kept for, in place of a namespace: "user", "thread", "agent" or "tenant".
            key: a name for the fact, so that a new value supersedes the old one.
            subject, attribute: in place of a key, what the fact is about, such as "Alice" and "home".
            source: the thread and message it was said in, or a URI.
            valid_from, valid_to: when it is true, if that is known.
            importance: 0 to 1, a tie-breaker in recall.
            trust: who vouches for it.
            secrets: what happens to credentials in it: "refuse", "redact" or "allow"; None takes MEMORY_SECRETS.
            similar: name in the answer's `similar` facts of the namespace that say nearly the same.
            merge: make it the next version of a fact that says the same and perhaps more, or less.

        Raises:
            SecretRefusedError: it holds what looks like a credential; nothing was written.
            InvalidInputError: empty or unstorable text; nothing was written.
        """
        item = await self.memories.remember(
            content,
            user_id=user_id,
            thread_id=thread_id,
            agent_id=agent_id,
            namespace=namespace,
            scope=scope,
            key=key,
            subject=subject,
            attribute=attribute,
            metadata=metadata,
            source=source,
            valid_from=valid_from,
            valid_to=valid_to,
            importance=importance,
            trust=trust,
            secrets=secrets,
            similar=similar,
            merge=merge,
        )
        self.kick()
        return item

    @overload
    async def remember_many(
        self,
        facts: Iterable[str | NewFact],
        *,
        user_id: str | None = None,
        secrets: SecretsPolicy | None = None,
        keep_going: Literal[False] = False,
    ) -> list[MemoryItem]: ...

    @overload
    async def remember_many(
        self,
        facts: Iterable[str | NewFact],
        *,
        user_id: str | None = None,
        secrets: SecretsPolicy | None = None,
        keep_going: bool,
    ) -> list[MemoryItem | InvalidInputError]: ...

    async def remember_many(
        self,
        facts: Iterable[str | NewFact],
        *,
        user_id: str | None = None,
        secrets: SecretsPolicy | None = None,
        keep_going: bool = False,
    ) -> list[MemoryItem] | list[MemoryItem | InvalidInputError]:
        """Store many facts, five hundred to a statement; one answer for each, in their order.

        The answers are those of `remember` one after the other, without a look at similar facts: also
        where two of them have one key or say the same. All are checked before the first is written.
        A statement stores all of its facts or none; where one of several fails (the connection is lost,
        say), those before it stay, and giving all of them again is safe.

        Args:
            facts: the text of each, or a mapping with its `content` and whatever else `remember` takes
                about a fact.
            user_id: whose they are, those aside that say so themselves.
            secrets: as for `remember`.
            keep_going: store the others where one cannot be stored; the error stands in its place.

        Raises:
            InvalidInputError: one of them cannot be stored (`SecretRefusedError` where it holds a
                credential), and `keep_going` is not set; nothing was written.
        """
        answers = await self.memories.remember_many(
            facts, user_id=user_id, secrets=secrets, keep_going=keep_going, on_full=self._index_beside
        )
        self.kick()
        return answers

    def _index_beside(self) -> None:
        """Index what is there while more is written."""
        self.kick()
        self._hurry()
