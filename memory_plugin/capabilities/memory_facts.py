"""What a caller gives to be remembered, checked and ready for the statement that stores it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Required, TypedDict, get_args

from memory_plugin.capabilities.memory_values import (
    USERS_ROOT,
    check_path,
    fraction,
    json_object,
    key_of_attribute,
    keys_of_text,
    normalised_hash,
    read_source,
    source_json,
    user_of,
)
from memory_plugin.errors import InvalidInputError
from memory_plugin.screening import screened
from memory_plugin.types import Finding, MemoryItem, MemoryScope, Namespace, SecretsPolicy, SimilarMemory, Source, Trust
from memory_plugin.validation import clean_text, identifier, moment, namespace_path, optional_identifier

THREADS_ROOT = "threads"
"""`("threads", thread_id)` holds the facts of one thread."""

AGENTS_ROOT = "agents"
"""`("agents", agent_id)` holds the facts of one agent."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact that can be stored; texts of JSON are ready for the statement."""

    content: str
    digest: bytes
    namespace: Namespace
    keys: list[str]
    is_named: bool
    user_id: str | None
    thread_id: str | None
    agent_id: str | None
    value: str | None
    metadata: str | None
    source: str | None
    importance: float
    trust: Trust
    valid_from: datetime | None
    valid_to: datetime | None
    findings: tuple[Finding, ...]

    @property
    def columns(self) -> tuple[Any, ...]:
        """What its row says, in the order in which the statements take it after the row's place and ids."""
        return (
            self.content,
            self.digest,
            self.value,
            self.user_id,
            self.thread_id,
            self.agent_id,
            self.metadata,
            self.source,
            self.importance,
            self.trust,
            self.valid_from,
            self.valid_to,
        )


class NewFact(TypedDict, total=False):
    """A fact for `remember_many`: its content, and whatever else `remember` takes about a fact."""

    content: Required[str]
    user_id: str | None
    thread_id: str | None
    agent_id: str | None
    namespace: Sequence[str] | None
    scope: MemoryScope | None
    key: str | None
    subject: str | None
    attribute: str | None
    value: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    source: Source | Mapping[str, Any] | None
    valid_from: datetime | None
    valid_to: datetime | None
    importance: float
    trust: Trust


@dataclass(frozen=True, slots=True)
class Near:
    """A fact that says nearly the same; `repeats` where one of the two says all that the other does."""

    fact: SimilarMemory
    repeats: bool


FindNear = Callable[[Fact], Awaitable[list[Near]]]
"""Finds the facts that say nearly the same as a new one, the nearest first."""


def fact_of(
    content: str,
    *,
    secrets: SecretsPolicy,
    own_user: str | None,
    user_id: str | None,
    thread_id: str | None,
    agent_id: str | None,
    namespace: Sequence[str] | str | None,
    scope: MemoryScope | None,
    key: str | None,
    subject: str | None,
    attribute: str | None,
    value: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
    source: Source | Mapping[str, Any] | None,
    importance: float,
    trust: Trust,
    valid_from: datetime | None,
    valid_to: datetime | None,
) -> Fact:
    """The fact, as `Memories.remember` takes it; `own_user` is that of the store.

    Raises:
        SecretRefusedError: there is a credential in it, and `secrets` says to refuse.
        InvalidInputError: something cannot be stored, or does not go together.
    """
    text = clean_text(content, "The content of a memory")
    if not text.strip():
        raise InvalidInputError("The content of a memory is empty: give the fact as text.")
    origin = read_source(source)
    thread = optional_identifier(thread_id if thread_id is not None else origin and origin.thread_id, "thread_id")
    agent = optional_identifier(agent_id, "agent_id")
    user = optional_identifier(user_id, "user_id")
    if scope is None:
        labels, user = _place(namespace, user, own_user)
    else:
        labels, user = _place_of_scope(scope, namespace, user, own_user, thread, agent)
    since, until = moment(valid_from, "valid_from"), moment(valid_to, "valid_to")
    if since and until and since > until:
        raise InvalidInputError("valid_from is after valid_to: a fact must be true for some time.")
    if trust not in get_args(Trust):
        raise InvalidInputError(f"trust must be one of {', '.join(get_args(Trust))}, not {trust!r}.")
    name = _name(key, subject, attribute)
    # what cannot be stored is told before what must not be
    weight, whence = fraction(importance), source_json(origin)
    _as_json(value, metadata)
    kept = screened(text, secrets, value=value, metadata=metadata)
    digest = normalised_hash(kept.content)
    keys = keys_of_text(labels, digest) if name is None else [name]
    check_path(labels, keys[0])
    value_json, metadata_json = _as_json(kept.value, kept.metadata)
    return Fact(
        content=kept.content,
        digest=digest,
        namespace=labels,
        keys=keys,
        is_named=name is not None,
        user_id=user,
        thread_id=thread,
        agent_id=agent,
        value=value_json,
        metadata=metadata_json,
        source=whence,
        importance=weight,
        trust=trust,
        valid_from=since,
        valid_to=until,
        findings=kept.findings,
    )


def merged_fact(given: MemoryItem, kept: MemoryItem) -> Fact:
    """The next version of `kept`, which says what `given` says; what was known about either stays known."""
    value_json, metadata_json = _as_json(given.value, {**kept.metadata, **given.metadata})
    return Fact(
        content=given.content,
        digest=normalised_hash(given.content),
        namespace=kept.namespace,
        keys=[kept.key],
        is_named=True,
        user_id=kept.user_id,
        thread_id=given.thread_id or kept.thread_id,
        agent_id=given.agent_id or kept.agent_id,
        value=value_json,
        metadata=metadata_json,
        source=source_json(given.source or kept.source),
        importance=max(given.importance, kept.importance),
        trust=given.trust,
        valid_from=given.valid_from,
        valid_to=given.valid_to,
        findings=(),
    )


def _as_json(value: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    return (
        None if value is None else json_object(value, "The value of a memory"),
        None if metadata is None else json_object(metadata, "The metadata of a memory", order=False),
    )


def _name(key: str | None, subject: str | None, attribute: str | None) -> str | None:
    """The key of the fact, where the caller gave one or said what it is about."""
    if subject is None and attribute is None:
        return None if key is None else identifier(key, "key")
    if key is not None:
        raise InvalidInputError("Give either key, or subject and attribute: both would name the fact.")
    if subject is None or attribute is None:
        raise InvalidInputError("subject and attribute go together: who it is about, and what it says of them.")
    return key_of_attribute(identifier(subject, "subject"), identifier(attribute, "attribute"))


def _place(
    namespace: Sequence[str] | str | None, user: str | None, own_user: str | None
) -> tuple[Namespace, str | None]:
    """The namespace, and whose fact it is, where no scope is named."""
    if namespace is None:
        user = user or own_user
        return ((USERS_ROOT, user) if user else (USERS_ROOT,)), user
    labels = namespace_path(namespace)
    if not labels:
        raise InvalidInputError("The namespace is empty: give at least one label, or leave it out.")
    return labels, user or user_of(labels) or own_user


def _place_of_scope(
    scope: MemoryScope,
    namespace: Sequence[str] | str | None,
    user: str | None,
    own_user: str | None,
    thread: str | None,
    agent: str | None,
) -> tuple[Namespace, str | None]:
    """The namespace of a scope, and whose fact it is: those of an agent or the tenant are everybody's."""
    if scope not in get_args(MemoryScope):
        raise InvalidInputError(f"scope must be one of {', '.join(get_args(MemoryScope))}, not {scope!r}.")
    if namespace is not None:
        raise InvalidInputError("Give either scope or namespace: a scope has its own namespace.")
    named = {"user": user or own_user, "thread": thread, "agent": agent, "tenant": ""}[scope]
    if named is None:
        raise InvalidInputError(f"A fact of the scope {scope!r} needs {scope}_id: whose is it?")
    match scope:
        case "user":
            return (USERS_ROOT, named), named
        case "thread":
            return (THREADS_ROOT, named), user or own_user
        case "agent":
            return (AGENTS_ROOT, named, user) if user else (AGENTS_ROOT, named), user
        case "tenant":
            if user is not None:
                raise InvalidInputError("A fact of the whole tenant belongs to no user: leave user_id out.")
            return (USERS_ROOT,), None
