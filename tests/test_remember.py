"""Remembering: whose a fact is, what it is named by, what is near it, and its versions on the command line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.capabilities.memory_nearness import content_words, repeats, shared
from memory_plugin.capabilities.memory_values import key_of_attribute
from memory_plugin.core import MemoryCore
from memory_plugin.errors import EmbeddingError, InvalidInputError, NotFoundError
from memory_plugin.memory import Memory
from tests.counting import counted
from tests.test_cli import Run, bare, cli, no_terminal_settings, words_only  # noqa: F401 - fixtures


class DeadEmbedder:
    """Never answers, or fails; counts who asks."""

    name, dims = "dead", 3

    def __init__(self, *, at_once: bool, hangs: bool) -> None:
        self.at_once, self.hangs, self.asked = at_once, hangs, 0

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(3600)
        raise EmbeddingError("it is down")

    async def embed_query(self, text: str) -> list[float]:
        return (await self.embed_documents([text]))[0]


# ---------------------------------------------------------------- whose it is


@pytest.mark.parametrize(
    ("given", "namespace", "user"),
    [
        ({"scope": "user"}, ("memories", "alice"), "alice"),
        ({"scope": "user", "user_id": "bob"}, ("memories", "bob"), "bob"),
        ({"scope": "thread", "thread_id": "t1"}, ("threads", "t1"), "alice"),
        ({"scope": "thread", "source": {"thread_id": "t1"}}, ("threads", "t1"), "alice"),
        ({"scope": "agent", "agent_id": "scribe"}, ("agents", "scribe"), None),
        ({"scope": "agent", "agent_id": "scribe", "user_id": "bob"}, ("agents", "scribe", "bob"), "bob"),
        ({"scope": "tenant"}, ("memories",), None),
    ],
)
async def test_a_scope_says_whose_a_fact_is_whoever_opened_the_store(
    database_url: str, given: dict[str, Any], namespace: tuple[str, ...], user: str | None
) -> None:
    async with MemoryCore.open(database_url, user_id="alice", embeddings=False) as core:
        item = await core.remember("The style is formal", key="style", **given)
    assert (item.namespace, item.user_id, item.status) == (namespace, user, "created")


async def test_two_agents_have_a_fact_each_under_one_key(core: MemoryCore) -> None:
    for agent in ("scribe", "critic"):
        await core.remember(f"The {agent} is formal", scope="agent", agent_id=agent, key="style")
    hits = await core.recall("formal style", namespace=("agents", "critic"))
    assert [hit.text for hit in hits] == ["The critic is formal"]


@pytest.mark.parametrize(
    "given",
    [
        {"scope": "user"},
        {"scope": "agent"},
        {"scope": "thread"},
        {"scope": "tenant", "user_id": "bob"},
        {"scope": "tenant", "namespace": ("a",)},
        {"scope": "team"},
        {"subject": "Bob"},
        {"attribute": "employer"},
        {"key": "k", "subject": "Bob", "attribute": "employer"},
        {"key": "k", "merge": True},
    ],
)
async def test_what_does_not_go_together_is_refused(core: MemoryCore, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        await core.remember("Bob works at Acme", **given)
    assert (await core.memories.list()).items == []


# ---------------------------------------------------------------- named by what it is about


async def test_another_value_of_an_attribute_supersedes_and_can_be_undone(core: MemoryCore) -> None:
    first = await core.remember("Bob works at Acme", subject="Bob", attribute="Employer")
    second = await core.remember("Bob works at Initech", subject=" bob ", attribute="employer")
    assert (second.status, second.id, second.version) == ("updated", first.id, 2)
    assert first.recorded_at is not None
    assert (await core.memories.get(first.id, as_of=first.recorded_at)).content == "Bob works at Acme"
    then = await core.recall("where does Bob work?", kinds=["memory"], as_of=first.recorded_at)
    assert [hit.text for hit in then] == ["Bob works at Acme"]
    assert (await core.memories.undo(first.id)).content == "Bob works at Acme"
    assert [version.version for version in await core.memories.history(first.id)] == [1, 2, 3]


@given(st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8)), min_size=2, max_size=2))
def test_keys_of_two_attributes_are_equal_only_where_both_parts_are(pair: list[tuple[str, str]]) -> None:
    one, other = (key_of_attribute(*each) for each in pair)
    parts = [tuple(key_of_attribute(part, "") for part in each) for each in pair]
    assert (one == other) == (parts[0] == parts[1])


# ---------------------------------------------------------------- near duplicates


@pytest.fixture
async def eve(core: MemoryCore) -> AsyncIterator[MemoryCore]:
    await core.remember("Eve plays the violin in an orchestra", user_id="eve")
    yield core


async def test_a_near_duplicate_is_stored_and_names_the_other(eve: MemoryCore) -> None:
    item = await eve.remember("Eve plays the piano in an orchestra", user_id="eve")
    assert (item.status, [other.content for other in item.similar]) == (
        "created",
        ["Eve plays the violin in an orchestra"],
    )
    assert await eve.memories.get(item.similar[0].id)


async def test_it_is_found_in_the_index_too_and_never_in_another_namespace(eve: MemoryCore) -> None:
    await eve.indexed()
    assert (await eve.remember("Eve plays the piano in an orchestra", user_id="eve")).similar
    assert not (await eve.remember("Eve plays the viola in an orchestra", user_id="bob")).similar


async def test_what_is_forgotten_or_superseded_is_not_near(core: MemoryCore) -> None:
    old = await core.remember("Eve plays the violin in an orchestra", key="music")
    new = await core.remember("Eve plays the viola in an orchestra", key="music")
    assert (new.id, new.similar) == (old.id, ())
    await core.forget(item_id=new.id)
    assert not (await core.remember("Eve plays the piano in an orchestra")).similar


async def test_meaning_finds_what_words_do_not(memory: Memory) -> None:
    await memory.embedder.load()  # type: ignore[union-attr]
    await memory.remember("Zoe learns Spanish", user_id="zoe")
    item = await memory.remember("Zoe is learning the Spanish language", user_id="zoe")
    assert [(other.content, other.by) for other in item.similar] == [("Zoe learns Spanish", "meaning")]


async def test_a_merge_makes_the_next_version_and_can_be_undone(eve: MemoryCore) -> None:
    item = await eve.remember("Eve plays violin in an orchestra in Lyon", user_id="eve", merge=True)
    assert (item.status, item.version) == ("updated", 2)
    assert (await eve.memories.undo(item.id)).content == "Eve plays the violin in an orchestra"
    assert len((await eve.memories.list(user_id="eve")).items) == 1


async def test_one_memory_is_merged_into_another_and_both_keep_their_history(eve: MemoryCore) -> None:
    item = await eve.remember("Eve plays the piano", user_id="eve", metadata={"since": 2041}, thread_id="t")
    (kept,) = [each for each in (await eve.memories.list()).items if each.id != item.id]
    merged = await eve.memories.merge(item.id, into=kept.id)
    assert (merged.id, merged.status, merged.version, merged.content) == (kept.id, "updated", 2, "Eve plays the piano")
    assert (merged.metadata, merged.thread_id, merged.user_id) == ({"since": 2041}, "t", "eve")
    assert [each.id for each in (await eve.memories.list()).items] == [kept.id]
    assert (await eve.memories.undo(kept.id)).content == kept.content
    assert (await eve.memories.undo(item.id)).content == "Eve plays the piano"
    with pytest.raises(InvalidInputError):
        await eve.memories.merge(kept.id, into=str(kept.id))
    with pytest.raises(NotFoundError):
        await eve.memories.merge(kept.id, into="01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11")


@pytest.mark.parametrize(
    "other",
    [
        "Eve plays the piano in an orchestra",
        "Eve never plays the violin in an orchestra",
        "Eve plays the violin in two orchestras",
        "Eve was to play the violin in an orchestra",
        "Eve plays the violin in an orchestra until 2041",
    ],
)
def test_another_value_number_negation_or_tense_repeats_nothing(other: str) -> None:
    assert not repeats(content_words("Eve plays the violin in an orchestra"), content_words(other))


@given(st.text(max_size=80), st.text(max_size=80))
def test_nearness_is_even_handed_and_between_nothing_and_all(one: str, other: str) -> None:
    first, second = content_words(one), content_words(other)
    assert shared(first, second) == shared(second, first)
    assert 0 <= shared(first, second) <= 1
    assert repeats(first, second) == repeats(second, first)


async def test_without_looking_a_fact_is_one_statement(core: MemoryCore) -> None:
    await core.remember("warm", similar=False)
    async with counted(core.database) as sent:
        await core.remember("Eve plays the violin", similar=False)
        await core._indexer.stop()
    assert len(sent) == 1


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("hangs", [True, False])
async def test_a_dead_embedder_neither_fails_nor_delays_a_write(database_url: str, at_once: bool, hangs: bool) -> None:
    embedder = DeadEmbedder(at_once=at_once, hangs=hangs)
    async with MemoryCore.open(database_url, embeddings=embedder) as core:
        core.kick = lambda: None  # type: ignore[method-assign]  # the background may ask, remembering must not
        await core.remember("Alice prefers tea", user_id="alice")
        started = time.monotonic()
        item = await core.remember("Alice prefers green tea", user_id="alice")
        assert time.monotonic() - started < 2
        assert [other.content for other in item.similar] == ["Alice prefers tea"]
        assert at_once or not embedder.asked


# ---------------------------------------------------------------- the command line


@pytest.mark.usefixtures("words_only")
def test_versions_are_written_shown_and_undone_by_commands(cli: Run) -> None:  # noqa: F811
    names = ("--scope", "tenant", "--subject", "Refunds", "--attribute", "days")
    first = cli("--json", "remember", "Refunds take five days", *names).json["memory"]
    second = cli("--json", "remember", "Refunds take three days", *names, "--valid-from", "2026-01-01").json["memory"]
    assert (second["status"], second["id"], second["namespace"]) == ("updated", first["id"], ["memories"])
    versions = cli("--json", "history", first["id"]).json["versions"]
    assert [version["content"] for version in versions] == ["Refunds take five days", "Refunds take three days"]
    then = cli("--json", "recall", "refunds", "--as-of", versions[0]["recorded_at"]).json["hits"]
    assert [hit["text"] for hit in then] == ["Refunds take five days"]
    assert cli("--json", "undo", first["id"]).json["memory"]["content"] == "Refunds take five days"
    assert "Refunds take three days" in cli("history", first["id"]).out


@pytest.mark.usefixtures("words_only")
def test_a_credential_on_the_command_line_is_refused_redacted_or_allowed(cli: Run) -> None:  # noqa: F811
    refused = cli("--json", "remember", "password: hunter2")
    assert (refused.code, refused.json["error"]["type"], "hunter2" in refused.out) == (1, "SecretRefusedError", False)
    redacted = cli("remember", "password: hunter2", "--secrets", "redact")
    assert "[redacted password]" in redacted.out
    assert cli("remember", "password: hunter2", "--secrets", "ignore").code == 2
