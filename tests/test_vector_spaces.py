"""Vector spaces: built beside each other and switched, with embedders that are down, slow, or hang."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from memory_plugin.capabilities.memory_values import MAX_PARTS, searchable, searchable_ends, texts_of
from memory_plugin.capabilities.vector_spaces import Progress
from memory_plugin.capabilities.vectors import FILL_CHARS
from memory_plugin.cli import app
from memory_plugin.core import MemoryCore
from memory_plugin.errors import EmbeddingError, InvalidInputError, NotFoundError
from memory_plugin.settings import Settings
from memory_plugin.validation import replace_unstorable
from tests.counting import counted

TOPICS = ("tea", "dog", "rome")


class Topics:
    """A model that knows three topics; under other names, another space."""

    dims: int | None = 4

    def __init__(self, name: str = "topics", *, dims: int = 4) -> None:
        self.name = name
        self.dims = dims
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False
        self.refuses = ""

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        await self.gate.wait()
        if self.fails:
            raise RuntimeError("the model is gone")
        if self.refuses and any(self.refuses in text for text in texts):
            raise ValueError("this text is refused")
        return [self.vector(text) for text in texts]

    async def embed_query(self, text: str) -> list[float]:
        self.asked.append(text)
        return (await self.embed_documents([text]))[0]

    def vector(self, text: str) -> list[float]:
        known = [float(topic in text.lower()) for topic in TOPICS]
        return [*known, 0.1, *[0.0] * ((self.dims or 4) - 4)]


FACTS = ["Green tea in the morning", "A dog named Rex", "A flat in Rome"]


@pytest.fixture
async def old(database_url: str) -> AsyncIterator[MemoryCore]:
    """A store whose facts all have vectors of the first model."""
    async with MemoryCore.open(database_url, embeddings=Topics("old")) as core:
        for fact in FACTS:
            await core.remember(fact, user_id="u")
        await core.indexed()
        yield core


async def meanings(core: MemoryCore, query: str) -> list[str]:
    hits = await core.recall(query, user_id="u")
    return [hit.text for hit in hits if hit.parts.get("meaning", 0) > 0]


async def states(core: MemoryCore) -> dict[str, str]:
    return {space.name: space.state for space in await core.spaces.list()}


# ---------------------------------------------------------------- building and switching


async def test_searches_use_the_old_space_until_the_new_one_is_complete(old: MemoryCore) -> None:
    before, new = old.embedder, Topics("new", dims=6)
    new.gate.clear()
    seen: list[Progress] = []
    building = asyncio.create_task(old.spaces.build(new, progress=seen.append))
    while "new" not in await states(old):  # noqa: ASYNC110 - what it waits for is in the database
        await asyncio.sleep(0.01)
    assert (await meanings(old, "dog"))[0] == FACTS[1]
    assert await states(old) == {"new": "building", "old": "ready"}
    assert new.asked == []
    new.gate.set()
    space = await building
    assert (space.state, space.passages, space.of_all, space.waiting) == ("ready", 3, 3, 0)
    assert seen[-1] == Progress("vectors", 3, 3)
    assert isinstance(before, Topics)
    asked = len(before.asked)
    assert (await meanings(old, "Rome"))[0] == FACTS[2]
    assert (len(before.asked), new.asked) == (asked, ["Rome"])


async def test_a_build_goes_on_where_it_was_broken_off(old: MemoryCore) -> None:
    new = Topics("new")
    new.refuses = "Rome"
    await old.spaces.build(new)
    assert [(space.passages, space.refused) for space in await old.spaces.list() if space.name == "new"] == [(2, 1)]
    new.refuses = ""
    await old.database.execute("UPDATE memory.embedding_queue SET not_before = NULL")
    space = await old.spaces.build(new)
    assert (space.passages, space.waiting) == (3, 0)


async def test_a_store_opened_with_another_model_builds_in_the_background(old: MemoryCore, database_url: str) -> None:
    async with MemoryCore.open(database_url, embeddings=Topics("new")) as core:
        await core.recall("dog", user_id="u")
        for _ in range(200):
            if await states(core) == {"new": "ready", "old": "ready"}:
                break
            await asyncio.sleep(0.05)
        assert (await meanings(core, "dog"))[0] == FACTS[1]


async def test_a_space_is_used_by_its_setting_while_another_is_built(database_url: str) -> None:
    """The old model is opened by what the row says about it."""
    pytest.importorskip("wordllama")
    async with MemoryCore.open(database_url) as core:
        await core.remember("She adores her two puppies", user_id="u")
        await core.indexed()
    new = Topics("new")
    new.gate.clear()
    async with MemoryCore.open(database_url, embeddings=new) as core:
        hits = await core.recall("dogs", user_id="u")
        assert [hit.text for hit in hits] == ["She adores her two puppies"]
        assert hits.words_only is None
        new.gate.set()
        await core.indexed()
        await core.recall("dogs", user_id="u")
        assert new.asked == ["dogs"]


async def test_what_is_new_is_found_in_the_old_space_too(old: MemoryCore) -> None:
    new = Topics("new")
    new.gate.clear()
    building = asyncio.create_task(old.spaces.build(new))
    await old.remember("A cup of tea at five", user_id="u")
    await old.passages.catch_up()
    await old.passages.fill()
    assert "A cup of tea at five" in await meanings(old, "tea")
    new.gate.set()
    assert (await building).passages == 4


async def test_a_retired_space_gets_nothing_new_and_a_dropped_one_is_gone(old: MemoryCore) -> None:
    await old.spaces.build(Topics("new"))
    await old.spaces.retire("old")
    await old.remember("Tea again", user_id="u")
    await old.indexed()
    spaces = {space.name: space for space in await old.spaces.list()}
    assert (spaces["old"].state, spaces["old"].passages, spaces["old"].waiting) == ("retired", 3, 0)
    assert spaces["new"].passages == 4
    assert await old.spaces.drop("old") == 3
    assert await states(old) == {"new": "ready"}
    with pytest.raises(NotFoundError):
        await old.spaces.drop("old")
    with pytest.raises(InvalidInputError):
        await old.spaces.drop("new")


async def test_a_retired_space_comes_back_with_its_model(old: MemoryCore, database_url: str) -> None:
    await old.spaces.build(Topics("new"))
    await old.spaces.retire("old")
    await old.remember("Tea again", user_id="u")
    await old.indexed()
    async with MemoryCore.open(database_url, embeddings=Topics("old")) as core:
        await core.indexed()
        assert (await states(core))["old"] == "ready"
        assert set(await meanings(core, "tea")) >= {"Tea again", FACTS[0]}


async def test_a_model_that_changed_its_width_is_refused_and_words_answer(old: MemoryCore, database_url: str) -> None:
    async with MemoryCore.open(database_url, embeddings=Topics("old", dims=5)) as core:
        hits = await core.recall("dog", user_id="u")
        assert hits[0].text == FACTS[1]
        assert "another name" in (hits.words_only or "")


async def test_a_ready_space_costs_a_search_no_statement_of_its_own(old: MemoryCore) -> None:
    await meanings(old, "tea")
    async with counted(old.database) as sent:
        await meanings(old, "dog")
    assert not [statement for statement in sent if "embedding_models" in statement]


# ---------------------------------------------------------------- embedders in trouble


async def test_an_embedder_that_is_down_fails_neither_a_write_nor_a_search(database_url: str) -> None:
    model = Topics()
    model.fails = True
    async with MemoryCore.open(database_url, embeddings=model) as core:
        await core.remember(FACTS[1], user_id="u")
        hits = await core.recall("dog", user_id="u")
        assert [hit.text for hit in hits] == [FACTS[1]]
        assert "the model is gone" in (hits.words_only or "")
        with pytest.raises(EmbeddingError):
            await core.indexed()
        model.fails = False
        await core.indexed()
        hits = await core.recall("dog", user_id="u")
        assert (hits.words_only, hits[0].parts["meaning"] > 0) == (None, True)


async def test_an_embedder_that_hangs_delays_one_search_and_no_write(database_url: str) -> None:
    model = Topics()
    model.gate.clear()
    settings = Settings().model_copy(update={"embedding_timeout": 0.3})
    async with MemoryCore.open(database_url, embeddings=model, settings=settings) as core:
        began = time.monotonic()
        await core.remember(FACTS[1], user_id="u")
        wrote = time.monotonic() - began
        first = await core.recall("dog", user_id="u")
        began = time.monotonic()
        for _ in range(3):
            hits = await core.recall("dog", user_id="u")
        rested = time.monotonic() - began
        asked = len(model.asked)
        model.gate.set()
        await core.indexed()  # it answers again: nobody rests any more
        again = await core.recall("dog", user_id="u")
    assert wrote < 5  # seconds, on a busy machine: nothing waits for the model
    assert "no answer" in (first.words_only or "")
    assert [hit.text for hit in hits] == [FACTS[1]]
    assert (asked, rested < 5) == (1, True)
    assert again.words_only is None


async def test_an_embedder_that_hangs_for_one_tenant_is_not_waited_for_by_another(database_url: str) -> None:
    model = Topics()
    settings = Settings().model_copy(update={"embedding_timeout": 0.3})
    async with MemoryCore.open(database_url, embeddings=model, settings=settings) as core:
        other = core.for_tenant("other")
        for store in (core, other):
            await store.remember(FACTS[1], user_id="u")
            await store.indexed()
        model.gate.clear()
        asked = len(model.asked)
        for store in (core, other):
            assert "no answer" in ((await store.recall("dog", user_id="u")).words_only or "")
        assert len(model.asked) == asked + 1
        assert core.passages.vectors._guards is other.passages.vectors._guards  # its recent vectors too are kept once


async def test_a_store_without_an_embedder_says_so(database_url: str) -> None:
    async with MemoryCore.open(database_url, embeddings=False) as core:
        await core.remember(FACTS[1], user_id="u")
        hits = await core.recall("dog", user_id="u")
        assert (len(hits), hits.words_only) == (1, "This store has no embedder.")
        assert await core.spaces.list() == []
        with pytest.raises(InvalidInputError):
            await core.spaces.build()


async def test_a_refused_text_does_not_hold_up_the_others(database_url: str) -> None:
    model = Topics()
    model.refuses = "Rome"
    async with MemoryCore.open(database_url, embeddings=model) as core:
        for fact in FACTS:
            await core.remember(fact, user_id="u")
        await core.indexed()
        (space,) = await core.spaces.list()
        assert (space.state, space.passages, space.refused) == ("ready", 2, 1)
        assert (await core.recall("Rome", user_id="u"))[0].text == FACTS[2]


async def test_a_text_that_was_embedded_is_not_sent_again(old: MemoryCore) -> None:
    sent: list[str] = []

    async def embed_documents(texts: Sequence[str]) -> list[list[float]]:
        sent.extend(texts)
        return [Topics().vector(text) for text in texts]

    assert isinstance(old.embedder, Topics)
    old.embedder.embed_documents = embed_documents  # type: ignore[method-assign]
    for user in ("v", "w"):
        await old.remember(FACTS[0], user_id=user)
        await old.remember("Yet another dog", user_id=user)
    await old.indexed()
    assert sent == ["Yet another dog"]


async def test_a_model_that_takes_its_time_is_given_no_more_text_than_it_can_read_in_it(old: MemoryCore) -> None:
    sent: list[int] = []

    async def embed_documents(texts: Sequence[str]) -> list[list[float]]:
        sent.append(sum(map(len, texts)))
        return [Topics().vector(text) for text in texts]

    assert isinstance(old.embedder, Topics)
    old.embedder.embed_documents = embed_documents  # type: ignore[method-assign]
    old.kick = lambda: None  # type: ignore[method-assign]
    await old.remember_many([f"{place} {'tea ' * 1_000}" for place in range(30)], user_id="u")
    await old.indexed()
    assert sum(sent) > 120_000 and max(sent) <= FILL_CHARS
    assert (await old.passages.backlog()).vectors == 0


@pytest.mark.parametrize(
    "answer",
    [[[0.0, float("nan"), 0.0, 1.0]], [[1.0, 2.0]], [[1.0, 0.0, 0.0, 0.0]] * 2, [["a", "b", "c", "d"]], None],
    ids=["nan", "narrow", "many", "text", "none"],
)
async def test_a_wrong_answer_is_an_error_of_the_embedder(old: MemoryCore, answer: Any) -> None:
    async def embed_documents(texts: Sequence[str]) -> Any:
        return answer

    assert isinstance(old.embedder, Topics)
    old.embedder.embed_documents = embed_documents  # type: ignore[method-assign]
    await old.remember("Something new", user_id="u")
    with pytest.raises(EmbeddingError):
        await old.indexed()


# ---------------------------------------------------------------- the command


def test_the_command_shows_builds_and_drops_spaces(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model that comes with a package."""
    pytest.importorskip("wordllama")
    monkeypatch.setenv("MEMORY_DATABASE_URL", database_url)
    with MemoryCore.open(database_url, embeddings=Topics("old")) as core:
        for fact in FACTS:
            core.remember(fact, user_id="u")
        core.indexed()

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, ["--json", "reindex", *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    assert [space["name"] for space in run("--dry-run")["spaces"]] == ["old"]
    built = run("--retire-others", "--languages", "german,english")
    assert (built["languages"], built["retired"], built["index_error"]) == (["german", "english"], ["old"], None)
    assert {space["name"]: (space["state"], space["passages"]) for space in built["spaces"]} == {
        built["model"]: ("ready", 3),
        "old": ("retired", 3),
    }
    assert run("--drop", "old", "--yes")["dropped"] == 3
    checks = json.loads(CliRunner().invoke(app, ["--json", "doctor"]).stdout)["checks"]
    assert {"vectors": "ok", "languages": "ok", "index": "ok"}.items() <= {
        check["name"]: check["status"] for check in checks
    }.items()


# ---------------------------------------------------------------- the texts of an item


@given(st.lists(st.text(max_size=20), max_size=8))
def test_the_texts_of_an_item_are_found_again_in_its_content(texts: list[str]) -> None:
    visible = [replace_unstorable(text).strip() for text in texts if text.strip()]
    ends = searchable_ends(texts)
    parts = texts_of(searchable(texts), None if ends is None else json.dumps(ends))
    assert [part.strip() for part in parts] == (visible or [""])


def test_an_item_of_very_many_texts_has_a_bounded_number_of_vectors() -> None:
    texts = [f"text {number}" for number in range(500)]
    parts = texts_of(searchable(texts), json.dumps(searchable_ends(texts)))
    assert len(parts) == MAX_PARTS
    assert parts[:2] == ["text 0", "text 1"]
    assert parts[-1].endswith("text 499")
