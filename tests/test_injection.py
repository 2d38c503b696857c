"""Names and texts that look like SQL: through every public method, generated from their signatures."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import pytest

from memory_plugin.core import MemoryCore
from memory_plugin.errors import DatabaseError, MemoryPluginError
from memory_plugin.memory import Memory


@pytest.fixture(autouse=True)
def as_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a role that may drop tables: what got through would do harm."""
    monkeypatch.setenv("MEMORY_ROW_SECURITY", "off")


PAYLOADS = (
    "x'; DROP TABLE memory.canary; --",
    '"; DROP TABLE memory.canary; --',
    "x') OR true) --",
    "{s}.canary",
    "%s %(x)s \\'; $1::text || :x",
)

GROUPS = (
    "", "agent_settings", "checkpoints", "conversations", "erasure", "extraction", "languages", "memories", "passages",
    "references", "retention", "spaces", "tokens", "turns", "user_memory", "working_memory",
)  # fmt: skip

# what opens, closes or waits, or hands out something that is tried by itself
NOT_TRIED = {"open", "for_tenant", "indexed", "stop", "transaction", "bridge", "kick", "hydrate", "export"}


class UnbuildableError(Exception):
    """No value can be made for a parameter."""


def value_for(hint: Any, payload: str) -> Any:
    """A value of the type with the payload in every text of it."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint in (str, Any, object) or origin is typing.Annotated and parts[0] is str:
        return payload
    if origin in (Union, types.UnionType):
        for wanted in (str, *parts):
            if wanted in parts and wanted is not type(None):
                try:
                    return value_for(wanted, payload)
                except UnbuildableError:
                    continue
        raise UnbuildableError(hint)
    if origin is Literal:
        return parts[0]
    if origin in (list, tuple, set, Sequence, Collection, Iterable):
        return [value_for(parts[0] if parts else str, payload)]
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        return {payload: payload, "$and": [{payload: {payload: payload}}], "a": {"$gt": payload}}
    simple: dict[Any, Any] = {int: 1, float: 0.5, bool: True, bytes: payload.encode(), UUID: UUID(int=7)}
    simple |= {datetime: datetime(2026, 1, 1), timedelta: timedelta(days=1)}
    if hint in simple:
        return simple[hint]
    raise UnbuildableError(hint)


def arguments_of(method: Any, payload: str) -> dict[str, Any] | None:
    """By keyword; None where a parameter that must be given cannot be made."""
    try:
        hints = get_type_hints(method)
    except NameError:  # names that only a type checker knows
        hints = {name: str(each) for name, each in inspect.get_annotations(method).items()}
        hints = {name: str if each.startswith("str") else Any for name, each in hints.items()}
    given = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        try:
            given[name] = value_for(hints.get(name, str), payload)
        except UnbuildableError:
            if parameter.default is parameter.empty:
                return None
    return given


def methods_of(core: MemoryCore) -> dict[str, Any]:
    found = {}
    for group in GROUPS:
        owner = getattr(core, group) if group else core
        for name in dir(type(owner)):
            method = inspect.getattr_static(owner, name)
            if name.startswith("_") or name in NOT_TRIED or not callable(method) or isinstance(method, classmethod):
                continue
            found[f"{group}.{name}"] = getattr(owner, name)
    return found


async def tried(method: Any, given: dict[str, Any]) -> BaseException | None:
    try:
        answer = method(**given)
        if inspect.isawaitable(answer):
            await answer
        elif isinstance(answer, AsyncIterator):
            async for _ in answer:
                break
    except (MemoryPluginError, TypeError, ValueError, AttributeError) as error:
        return error  # a value of another type than a caller would give: it says so in some words
    return None


async def test_no_text_that_any_public_method_takes_becomes_sql(core: MemoryCore) -> None:
    await core.database.execute("CREATE TABLE memory.canary AS SELECT 1 AS alive")
    methods = methods_of(core)
    assert len(methods) > 100
    skipped, wrong, reached = set(), {}, set()
    for name, method in methods.items():
        for payload in PAYLOADS[:3]:
            given = arguments_of(method, payload)
            if given is None:
                skipped.add(name)
                break
            # all that can be given, and each text alone beside what must be given
            required = {
                each: given[each]
                for each, about in inspect.signature(method).parameters.items()
                if about.default is about.empty and each in given
            }
            for chosen in (given, required):
                error = await tried(method, chosen)
                if error is None or isinstance(error, MemoryPluginError):
                    reached.add(name)
                if isinstance(error, DatabaseError) and (error.sqlstate or "").startswith("42"):
                    wrong[name, payload] = error
    assert wrong == {}, "the text reached the parser of SQL"
    assert await core.database.fetchval("SELECT alive FROM memory.canary") == 1
    assert len(skipped) < 25, sorted(skipped)
    assert len(reached) > 100, "most were called as a caller would"


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_filters_orders_and_namespaces_of_the_faces_stay_values(memory: Memory, payload: str) -> None:
    await memory.database.execute("CREATE TABLE memory.canary AS SELECT 1 AS alive")
    store, saver = memory.store, memory.checkpointer
    await store.aput((payload.replace(".", ""), "n"), payload, {payload: payload, "a": 1})
    for filter in ({payload: payload}, {"a": {"$gte": payload}}, {payload: {"$ne": payload}}, {payload: {payload: 1}}):
        await tried(store.asearch, {"namespace_prefix": (payload.replace(".", ""),), "filter": filter})
        await tried(memory.recall, {"query": payload, "filter": filter, "namespace": (payload,)})
        await tried(saver.alist, {"config": {"configurable": {"thread_id": payload}}, "filter": filter})
        await tried(saver.alist, {"config": None, "filter": filter})
    found = await store.aget((payload.replace(".", ""), "n"), payload)
    assert found is not None
    assert found.value == {payload: payload, "a": 1}
    await saver.aprune([payload])
    await saver.adelete_thread(payload)
    assert await memory.database.fetchval("SELECT alive FROM memory.canary") == 1


async def test_the_name_of_a_model_never_becomes_a_part_of_an_index(database_url: str) -> None:
    class Named:
        dims, at_once = 4, True
        name = "x\"; DROP TABLE memory.canary; --'"

        async def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0, float(len(text)), 0.0, 1.0] for text in texts]

        async def embed_query(self, text: str) -> list[float]:
            return [1.0, float(len(text)), 0.0, 1.0]

    from memory_plugin.settings import Settings

    tenant = "t'; DROP TABLE memory.canary; --"
    async with MemoryCore.open(
        database_url, tenant=tenant, embeddings=Named(), settings=Settings(vector_index_from=1)
    ) as core:
        await core.database.execute("CREATE TABLE memory.canary AS SELECT 1 AS alive")
        for number in range(4):
            await core.remember(f"fact {number}", user_id="u")
        await core.indexed(20)
        assert len(await core.recall("fact", user_id="u")) == 4
        assert await core.database.fetchval("SELECT alive FROM memory.canary") == 1


@pytest.mark.parametrize("language", ["english; DROP TABLE memory.canary", "english'", "pg_catalog.english)--", "\x00"])
async def test_a_language_is_one_that_the_server_has(core: MemoryCore, language: str) -> None:
    with pytest.raises(MemoryPluginError) as caught:
        await core.languages.set([language])
    assert not (isinstance(caught.value, DatabaseError) and (caught.value.sqlstate or "").startswith("42601"))
