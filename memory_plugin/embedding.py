"""Texts to vectors: the protocol, the offline default, and an adapter for everybody else's models.

Every vector that leaves this module has length 1, so that the inner product of two of them is their
cosine. The one exception is the zero vector: it stands for a text with nothing in it to embed (empty
or white space only), and its inner product with anything is 0.

Nothing heavy is imported here: numpy, tokenizers and langchain load when they are first used.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import math
import re
import threading
import unicodedata
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeGuard

import orjson

from memory_plugin.errors import ConfigurationError, EmbeddingError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

Vector = list[float]

EMBEDDED_PACKAGES = 'pip install "memory-plugin[embedded]"'


class Embedder(Protocol):
    """What recall and indexing need from a model; all methods may be called from any event loop."""

    @property
    def name(self) -> str:
        """Stable identifier of the vector space: vectors under different names are never compared."""

    @property
    def dims(self) -> int | None:
        """Width of the vectors, None until the first one was seen."""

    async def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order. Raises EmbeddingError or UnsupportedError."""

    async def embed_query(self, text: str) -> Vector:
        """The vector to search with. Raises EmbeddingError or UnsupportedError."""


# ---------------------------------------------------------------- the query cache


@dataclass(slots=True)
class _Call:
    task: asyncio.Task[Vector]
    waiters: int = 0


class QueryCache:
    """The vectors of the last `size` different queries, and one call for all who ask the same at once.

    Vectors are kept as 32-bit floats, a sixth of the memory of a list, and no less exact than what
    the database stores.
    """

    def __init__(self, size: int = 1024) -> None:
        self._size = size
        self._vectors: OrderedDict[str, array[float]] = OrderedDict()
        self._calls: dict[tuple[asyncio.AbstractEventLoop, str], _Call] = {}
        self._lock = threading.Lock()  # event loops of several threads may share one embedder

    def get(self, text: str) -> Vector | None:
        """A fresh copy of the cached vector, or None."""
        with self._lock:
            vector = self._vectors.get(text)
            if vector is None:
                return None
            self._vectors.move_to_end(text)
        return vector.tolist()

    def put(self, text: str, vector: Vector) -> Vector:
        """Keep the vector; returns what `get` will return, so that a miss and a hit agree exactly."""
        packed = array("f", vector)
        with self._lock:
            self._vectors[text] = packed
            self._vectors.move_to_end(text)
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)
        return packed.tolist()

    async def fetch(self, text: str, compute: Callable[[], Awaitable[Vector]]) -> Vector:
        """The cached vector, or the result of `compute`, which runs once for all concurrent callers.

        A caller that is cancelled leaves the call to the others; the last one to leave cancels it.
        """
        cached = self.get(text)
        if cached is not None:
            return cached
        key = asyncio.get_running_loop(), text
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(asyncio.create_task(self._compute(text, compute)))
        call.waiters += 1
        try:
            return list(await asyncio.shield(call.task))
        finally:
            call.waiters -= 1
            if not call.waiters:
                # at once, not when the task ends: a newcomer must not join a call being cancelled
                if self._calls.get(key) is call:
                    del self._calls[key]
                call.task.cancel()

    async def _compute(self, text: str, compute: Callable[[], Awaitable[Vector]]) -> Vector:
        return self.put(text, await compute())


# ---------------------------------------------------------------- the offline default


@dataclass(frozen=True, slots=True)
class _StaticModel:
    """One vector per token, memory-mapped as 16-bit floats: 16 MB that processes share."""

    tokenizer: Tokenizer
    table: NDArray[np.float16]

    LONG: ClassVar[int] = 2048

    @classmethod
    def open(cls, folder: Path) -> _StaticModel:
        import numpy as np
        from tokenizers import Tokenizer

        weights = folder / StaticEmbedder.WEIGHTS
        try:
            # safetensors: 8 bytes of header length, a JSON header, then the raw numbers
            with weights.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                tensor = json.loads(file.read(length))["embedding.weight"]
            if tensor["dtype"] != "F16" or tensor["shape"][1] != StaticEmbedder.WIDTH:
                raise ValueError(f"unexpected tensor {tensor}")
            offset, shape = 8 + length + tensor["data_offsets"][0], tuple(tensor["shape"])
            # asarray drops the memmap subclass, whose every slice costs Python calls
            table = np.asarray(np.memmap(weights, dtype="<f2", mode="r", offset=offset, shape=shape))
            tokenizer = Tokenizer.from_file(str(folder / StaticEmbedder.TOKENIZER))
        except (OSError, ValueError, KeyError, IndexError, TypeError) as exc:
            raise _no_static_model(f"its model files cannot be read ({_reason(exc)})") from exc
        if tokenizer.get_vocab_size() > len(table):
            raise _no_static_model("its tokenizer and its vectors do not belong together")
        return cls(tokenizer, table)

    def embed(self, texts: list[str]) -> list[Vector]:
        """Normalised sums of token vectors; a text gets the same vector in whatever company it comes."""
        import numpy as np

        if len(texts) == 1:  # a batch would wake the tokenizer's thread pool
            tokens = [self.tokenizer.encode(texts[0], add_special_tokens=False).ids]
        else:
            tokens = [code.ids for code in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        flat = np.fromiter(chain.from_iterable(tokens), np.intp)
        # 16 to 32 bits is the dear step, and tokens repeat: convert each one of the batch once
        seen = np.zeros(len(self.table), np.bool_)
        seen[flat] = True
        used = np.flatnonzero(seen)
        place = np.empty(len(self.table), np.intp)
        place[used] = np.arange(len(used))
        rows = self.table[used].astype(np.float32)
        flat = place[flat]
        sums = np.zeros((len(texts), self.table.shape[1]), np.float32)
        end = 0
        for row, ids in zip(sums, tokens, strict=True):
            start, end = end, end + len(ids)
            if len(ids) <= self.LONG:
                rows.take(flat[start:end], axis=0).sum(axis=0, out=row)
            else:  # a book would copy one row per token: weigh its different tokens instead
                unique, counts = np.unique(flat[start:end], return_counts=True)
                np.dot(counts.astype(np.float32), rows[unique], out=row)
        norms = np.sqrt(np.einsum("ij,ij->i", sums, sums))
        sums /= np.where(norms > 0, norms, 1)[:, None]
        vectors: list[Vector] = sums.tolist()
        return vectors


class StaticEmbedder:
    """The default: static token vectors that come with a package; offline, no key, no download.

    English mostly. About 15,000 short texts a second on two cores and 0.1 ms a query. The model loads
    in a worker thread on first use, in 0.2 s, once per process; with its libraries it takes some 50 MB
    of memory, of which processes share 16.
    """

    WIDTH: ClassVar[int] = 256
    WEIGHTS: ClassVar[str] = "weights/l2_supercat_256.safetensors"
    TOKENIZER: ClassVar[str] = "tokenizers/l2_supercat_tokenizer_config.json"
    # up to this many characters the event loop computes itself: it costs less than a thread's round trip
    INLINE: ClassVar[int] = 1_000
    BATCH_TEXTS: ClassVar[int] = 256
    BATCH_CHARS: ClassVar[int] = 100_000

    name: str = "wordllama:l2_supercat:256"
    dims: int | None = WIDTH
    at_once: ClassVar[bool] = True
    """Fast enough to embed what was just written while a search waits for it."""

    def __init__(self, *, query_cache: int = 1024) -> None:
        self._cache = QueryCache(query_cache)

    @classmethod
    def is_available(cls) -> bool:
        """Whether the packages and the model files are there; imports none of them."""
        return _static_folder() is not None

    async def load(self) -> None:
        """Load the model now rather than with the first text. Raises UnsupportedError."""
        if _static_model is None:
            await asyncio.to_thread(_load_static_model)

    async def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text; in worker threads, a few milliseconds each. Raises UnsupportedError."""
        clean = [_clean(text) for text in texts]
        model = _static_model
        if model is not None and sum(map(len, clean)) <= self.INLINE:
            return model.embed(clean) if clean else []
        vectors: list[Vector] = []
        for batch in _batches(clean, self.BATCH_TEXTS, self.BATCH_CHARS):
            vectors += await asyncio.to_thread(_static_embed, batch)
        return vectors

    async def embed_query(self, text: str) -> Vector:
        """The vector to search with, the same as for a document. Raises UnsupportedError."""
        text = _clean(text)
        model = _static_model
        if model is None or len(text) > self.INLINE:
            return await self._cache.fetch(text, partial(self._one, text))
        return self._cache.get(text) or self._cache.put(text, model.embed([text])[0])

    async def _one(self, text: str) -> Vector:
        return (await asyncio.to_thread(_static_embed, [text]))[0]


_static_model: _StaticModel | None = None
_static_lock = threading.Lock()


def _static_folder() -> Path | None:
    """Where the package with the model lies, found without importing it (its import takes 0.6 s)."""
    try:
        if not (importlib.util.find_spec("numpy") and importlib.util.find_spec("tokenizers")):
            return None
        package = importlib.util.find_spec("wordllama")
    except ValueError:  # a module of that name was put into sys.modules by hand
        return None
    for place in (package and package.submodule_search_locations) or ():
        folder = Path(place)
        if (folder / StaticEmbedder.WEIGHTS).is_file() and (folder / StaticEmbedder.TOKENIZER).is_file():
            return folder
    return None


def _load_static_model() -> _StaticModel:
    global _static_model
    with _static_lock:
        if _static_model is None:
            folder = _static_folder()
            if folder is None:
                raise _no_static_model("wordllama, tokenizers or numpy is missing")
            _static_model = _StaticModel.open(folder)
        return _static_model


def _no_static_model(why: str) -> UnsupportedError:
    return UnsupportedError(
        f"The offline embedder cannot be used because {why}: install it with {EMBEDDED_PACKAGES} "
        "(there are wheels for Linux x86-64, macOS arm64 and Windows), or pass embeddings=."
    )


def _static_embed(texts: list[str]) -> list[Vector]:
    return (_static_model or _load_static_model()).embed(texts)


# ---------------------------------------------------------------- other people's models


class LangChainEmbedder:
    """An adapter for any object with LangChain's embedding methods, or a function from texts to vectors.

    Its async methods are preferred; sync ones run in a worker thread. Documents go out in batches of
    `batch_size`, at most `concurrency` at a time. `document_timeout` and `query_timeout` are the
    seconds one call may take (None: no limit); a sync call that is given up on ends in its thread.
    Texts without any visible character are not sent.

    `name` is derived from the class and its model unless given: give one where the object does not
    tell, such as a lambda. `dims` declares the width to expect, otherwise the first answer sets it.
    """

    def __init__(
        self,
        embeddings: object,
        name: str | None = None,
        *,
        dims: int | None = None,
        batch_size: int = 64,
        concurrency: int = 4,
        document_timeout: float | None = 60.0,
        query_timeout: float | None = 10.0,
        query_cache: int = 1024,
    ) -> None:
        if batch_size < 1 or concurrency < 1:
            raise ConfigurationError("batch_size and concurrency of an embedder must be at least 1.")
        self._documents, self._query = _methods(embeddings)
        self.name = name or _space_name(embeddings)
        self.dims = dims
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._document_timeout = document_timeout
        self._query_timeout = query_timeout
        self._cache = QueryCache(query_cache)

    async def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order; the first failure ends the other batches. Raises EmbeddingError."""
        clean = [_clean(text) for text in texts]
        batches = _batches([text for text in clean if text], self._batch_size)
        if len(batches) <= 1:
            answers = [await self._embed_batch(batch) for batch in batches]
        else:
            answers = await self._embed_batches(batches)
        embedded = chain.from_iterable(answers)
        if all(clean):
            return list(embedded)
        empty = [0.0] * await self._width()
        return [next(embedded) if text else list(empty) for text in clean]

    async def embed_query(self, text: str) -> Vector:
        """The vector to search with. Raises EmbeddingError."""
        text = _clean(text)
        if not text:
            return [0.0] * await self._width()
        return await self._cache.fetch(text, partial(self._embed_query, text))

    async def _embed_batches(self, batches: list[list[str]]) -> list[list[Vector]]:
        turn = asyncio.Semaphore(self._concurrency)

        async def embed(batch: list[str]) -> list[Vector]:
            async with turn:
                return await self._embed_batch(batch)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(embed(batch)) for batch in batches]
        except ExceptionGroup as failures:
            first = failures.exceptions[0]
            raise first from first.__cause__
        return [task.result() for task in tasks]

    async def _embed_batch(self, texts: list[str]) -> list[Vector]:
        answer = await self._ask(self._documents, texts, self._document_timeout)
        return self._checked(answer, len(texts))

    async def _embed_query(self, text: str) -> Vector:
        if self._query is None:
            answer = await self._ask(self._documents, [text], self._query_timeout)
        else:
            answer = [await self._ask(self._query, text, self._query_timeout)]
        return self._checked(answer, 1)[0]

    async def _width(self) -> int:
        if self.dims is None:
            await self._embed_batch(["width"])
        assert self.dims is not None
        return self.dims

    async def _ask(self, method: _Method, argument: object, seconds: float | None) -> Any:
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await method(argument)
        except Exception as exc:  # the border: a provider raises whatever its client library has
            if limit.expired():
                raise EmbeddingError(
                    f"The embedder {self.name} gave no answer within {seconds:g} seconds: "
                    "check that it can be reached, or raise its timeout."
                ) from exc
            raise EmbeddingError(f"The embedder {self.name} failed ({_reason(exc)}).") from exc

    def _checked(self, answer: Any, expected: int) -> list[Vector]:
        """The answer as normalised lists of floats, if it is what was asked for."""
        try:
            vectors = [list(map(float, vector)) for vector in answer]
        except (TypeError, ValueError, OverflowError) as exc:
            raise EmbeddingError(
                f"The embedder {self.name} did not return a list of vectors of numbers ({_reason(exc)})."
            ) from exc
        if len(vectors) != expected:
            raise EmbeddingError(
                f"The embedder {self.name} returned {len(vectors)} vectors for {expected} texts."
            )
        width = self.dims or (len(vectors[0]) if vectors else 0)
        for vector in vectors:
            if len(vector) != width or not vector:
                raise EmbeddingError(
                    f"The embedder {self.name} returned a vector of width {len(vector)} where {width} was "
                    "expected: use one model for one store, or give the new one its own name."
                )
        normalised = [self._normalised(vector) for vector in vectors]
        self.dims = width
        return normalised

    def _normalised(self, vector: Vector) -> Vector:
        norm = math.hypot(*vector)
        if not math.isfinite(norm):
            raise EmbeddingError(f"The embedder {self.name} returned a vector with NaN or infinity in it.")
        if norm == 0 or abs(norm - 1) < 1e-7:
            return vector
        return [value / norm for value in vector]


@dataclass(frozen=True, slots=True)
class _Method:
    """A provider's function under one calling convention: async on the loop, sync in a thread."""

    function: Callable[[Any], Any]
    is_async: bool

    async def __call__(self, argument: object) -> Any:
        if self.is_async:
            return await self.function(argument)
        answer = await asyncio.to_thread(self.function, argument)
        # a sync wrapper (a decorator, a callable object) may hand back a coroutine
        return await answer if inspect.isawaitable(answer) else answer


def _methods(embeddings: object) -> tuple[_Method, _Method | None]:
    """How to ask for documents and for a query; without the latter a query is a batch of one."""
    if not isinstance(embeddings, type):
        documents = _method(embeddings, "aembed_documents") or _method(embeddings, "embed_documents")
        if documents is not None:
            return documents, _method(embeddings, "aembed_query") or _method(embeddings, "embed_query")
        if callable(embeddings):
            is_async = inspect.iscoroutinefunction(embeddings) or inspect.iscoroutinefunction(
                getattr(embeddings, "__call__", None)  # noqa: B004 - an object with an async __call__
            )
            return _Method(embeddings, is_async), None
    raise ConfigurationError(
        'embeddings must be None, False, a "provider:model" string, an object with LangChain\'s embedding '
        f"methods, or a function from texts to vectors; got {_described(embeddings)}."
    )


def _method(embeddings: object, name: str) -> _Method | None:
    function = getattr(embeddings, name, None)
    if not callable(function):
        return None
    return _Method(function, name.startswith("aembed") or inspect.iscoroutinefunction(function))


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} (pass an instance)"
    return f"a value of type {type(value).__name__}"


_MODEL_ATTRIBUTES = ("model", "model_name", "model_id", "repo_id", "model_path")
_WIDTH_ATTRIBUTES = ("dimensions", "output_dimensionality", "output_dimension", "size")


def _space_name(embeddings: object) -> str:
    """Class, model and chosen width: what tells one vector space from another."""
    for attribute in ("underlying_embeddings", "afunc", "func"):  # a cache, a wrapped function, a partial
        inner = getattr(embeddings, attribute, None)
        if callable(inner) or hasattr(inner, "aembed_documents") or hasattr(inner, "embed_documents"):
            return _space_name(inner)
    if inspect.isroutine(embeddings):
        return f"{embeddings.__module__}.{embeddings.__qualname__}"
    kind = type(embeddings).__name__
    # on Azure the deployment decides; `model` is a default that may be wrong there
    first = ("deployment",) if kind.startswith("Azure") else ()
    models = (getattr(embeddings, attribute, None) for attribute in (*first, *_MODEL_ATTRIBUTES))
    widths = (getattr(embeddings, attribute, None) for attribute in _WIDTH_ATTRIBUTES)
    model = next((value for value in models if isinstance(value, str) and value), None)
    width = next((str(value) for value in widths if type(value) is int), None)
    return ":".join(part for part in (kind, model, width) if part)


# ---------------------------------------------------------------- choosing one


def resolve_embedder(embeddings: object = None) -> Embedder | None:
    """The embedder for the `embeddings` argument of an open call; None means recall by words alone.

    None takes the offline default where its packages are installed; False turns vectors off; a string
    "provider:model" goes to LangChain's `init_embeddings`; an Embedder is returned as it is; anything
    else is adapted by LangChainEmbedder.

    Raises ConfigurationError for what cannot be an embedder, UnsupportedError where a package is missing.
    """
    if embeddings is None:
        return StaticEmbedder() if StaticEmbedder.is_available() else None
    if embeddings is False:
        return None
    if isinstance(embeddings, str):
        return LangChainEmbedder(_provider_embeddings(embeddings))
    if _is_embedder(embeddings):
        return embeddings
    return LangChainEmbedder(embeddings)


def _is_embedder(value: object) -> TypeGuard[Embedder]:
    """LangChain's objects have methods of the same names, but sync ones."""
    return (
        not isinstance(value, type)
        and isinstance(getattr(value, "name", None), str)
        and hasattr(value, "dims")
        and not hasattr(value, "aembed_documents")
        and all(
            inspect.iscoroutinefunction(getattr(value, method, None))
            for method in ("embed_documents", "embed_query")
        )
    )


def _provider_embeddings(model: str) -> object:
    if not all(part.strip() for part in model.partition(":")):
        raise ConfigurationError(
            f'embeddings={model!r} is not of the form "provider:model", such as '
            '"openai:text-embedding-3-small".'
        )
    try:
        # by name, so that this layer stays free of the framework unless a string asks for it
        init_embeddings = importlib.import_module("langchain.embeddings").init_embeddings
    except ImportError as exc:
        raise UnsupportedError(
            f"embeddings={model!r} needs LangChain: pip install langchain, and the package of the provider."
        ) from exc
    try:
        embeddings: object = init_embeddings(model)
    except ImportError as exc:
        raise UnsupportedError(f"embeddings={model!r} needs another package ({_reason(exc)}).") from exc
    except Exception as exc:  # the border: constructors of providers fail with errors of their clients
        raise ConfigurationError(f"embeddings={model!r} could not be set up ({_reason(exc)}).") from exc
    return embeddings


# ---------------------------------------------------------------- texts and vectors


def _clean(text: str) -> str:
    """The text as UTF-8 can carry it (lone surrogates replaced); empty if nothing in it is visible."""
    if not text or text.isspace():
        return ""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _batches(texts: Sequence[str], most: int, chars: int | None = None) -> list[list[str]]:
    """Runs of at most `most` texts and about `chars` characters, at least one text each."""
    batches: list[list[str]] = []
    room = 0
    for text in texts:
        if not batches or len(batches[-1]) == most or (chars is not None and len(text) > room):
            batches.append([])
            room = chars or 0
        batches[-1].append(text)
        room -= len(text)
    return batches


def _reason(exc: BaseException) -> str:
    """The type and first line of somebody else's error, short enough for a sentence."""
    lines = str(exc).strip().splitlines()
    return f"{type(exc).__name__}: {lines[0][:200].rstrip(' .')}" if lines else type(exc).__name__


def vector_text(vector: Sequence[float]) -> str:
    """The vector as pgvector reads it, "[0.1,-0.25]": the fewest digits that keep a 32-bit float exact."""
    if _static_model is not None:  # then numpy is loaded, and four times as fast
        import numpy as np

        packed = np.asarray(vector, dtype=np.float32)
        return orjson.dumps(packed, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return _vector_format(len(vector)) % tuple(vector)


@lru_cache(maxsize=16)
def _vector_format(width: int) -> str:
    return "[" + ",".join(["%.9g"] * width) + "]"


# ---------------------------------------------------------------- names in queries

_REMOVED = "\ufdd0"  # a noncharacter: stands where a name was until the sentence is tidied
# Thai to Khmer, kana, Han: scripts without spaces, where a name ends without a word border
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_TIDY: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"[(\[\"'“‘]\s*{_REMOVED}\s*[)\]\"'”’]"), _REMOVED),  # quotes or brackets left empty
    # the comma of an enumeration or an address
    (re.compile(rf"{_REMOVED}\s*[,:]|,\s*{_REMOVED}(?=\s*(?:[.?!]|$))"), _REMOVED),
    (re.compile(rf"\s*{_REMOVED}\s*(?=[,.;:?!)\]])|(?<=[(\[])\s*{_REMOVED}\s*"), ""),
    (re.compile(rf"\s*{_REMOVED}\s*"), " "),
    (re.compile(r"\s+"), " "),
)


def strip_names(text: str, names: Iterable[str]) -> str:
    """The query without the names of known speakers, for embedding.

    A name in a query pulls in every text that mentions the name, whatever the question was: who spoke
    is better matched as a field of its own. Whole words are removed in any case, with a possessive
    or contraction ("Ann's", "James'", "Ann'll") and an "@" before them; the punctuation and spaces
    around are tidied. Without a match, or if no word would be left, the text comes back unchanged.
    """
    plain = unicodedata.normalize("NFC", text)
    folded = " ".join(plain.casefold().split())
    # a substring test rules out almost every name, so that the pattern stays small
    present = {name for name in map(_plain_name, names) if name and name.casefold() in folded}
    if not present:
        return text
    marks = re.escape("".join({char for char in plain if unicodedata.category(char)[0] == "M"}))
    stripped, count = re.subn(_names_pattern(present, marks), _REMOVED, plain, flags=re.IGNORECASE)
    if not count:
        return text
    for found, replacement in _TIDY:
        stripped = found.sub(replacement, stripped)
    stripped = stripped.strip()
    return stripped if any(map(str.isalnum, stripped)) else text


@lru_cache(maxsize=8192)
def _plain_name(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())


def _names_pattern(names: Iterable[str], marks: str) -> str:
    """Any of the names as a whole word; `marks` are the text's combining marks, which `\\w` leaves out."""
    letter = rf"[\w{marks}]"
    strict_left = rf"(?<!{letter})(?<!{letter}[-.@])@?"
    strict_right = rf"(?:['’](?:s|d|ll)|(?<=s)['’])?(?!{letter}|[-'’.@]{letter})"
    loose_right = f"(?![{marks}])" if marks else ""
    # names with the same borders share them, so that a thousand names cost one look at most places
    groups: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names, key=len, reverse=True):  # the longest first: "Mary Ann" before "Mary"
        left = "" if len(name) > 1 and _UNSPACED.match(name[0]) else strict_left
        right = loose_right if len(name) > 1 and _UNSPACED.match(name[-1]) else strict_right
        groups.setdefault((left, right), []).append(r"\s+".join(map(re.escape, name.split(" "))))
    return "|".join(f"{left}(?:{'|'.join(words)}){right}" for (left, right), words in groups.items())
