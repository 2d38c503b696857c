"""The offline default: static token vectors that come with a package."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from memory_plugin.embedding.cache import QueryCache
from memory_plugin.embedding.protocol import Vector
from memory_plugin.embedding.small import SmallModel
from memory_plugin.embedding.texts import batched_texts, clean_text, reason_of
from memory_plugin.errors import UnsupportedError
from memory_plugin.tokenizing import open_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

_TENSOR = "embedding.weight"

EMBEDDED_PACKAGES = 'pip install "memory-plugin[embedded]"'


@dataclass(frozen=True, slots=True)
class StaticModel:
    """One vector per token, memory-mapped as 16-bit floats: 16 MB that processes share."""

    tokenizer: Tokenizer
    table: NDArray[np.float16]

    LONG: ClassVar[int] = 2048

    @classmethod
    def open(cls, folder: Path) -> StaticModel:
        """The model in the files of `folder`. Raises UnsupportedError where they cannot be read."""
        import numpy as np

        weights = folder / StaticEmbedder.WEIGHTS
        try:
            # safetensors: 8 bytes of header length, a JSON header, then the raw numbers
            with weights.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                tensor = json.loads(file.read(length))[_TENSOR]
            if tensor["dtype"] != "F16" or tensor["shape"][1] != StaticEmbedder.WIDTH:
                raise ValueError(f"unexpected tensor {tensor}")  # noqa: TRY301 - one more way to be unreadable
            offset, shape = 8 + length + tensor["data_offsets"][0], tuple(tensor["shape"])
            # asarray drops the memmap subclass, whose every slice costs Python calls
            table = np.asarray(np.memmap(weights, dtype="<f2", mode="r", offset=offset, shape=shape))
            tokenizer = open_tokenizer(folder / StaticEmbedder.TOKENIZER)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as exc:
            raise _no_static_model(f"its model files cannot be read ({reason_of(exc)})") from exc
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
        # widening is the dear step, and tokens repeat: convert each one of the batch once
        used, flat = np.unique(flat, return_inverse=True)
        # sums of 16-bit floats are exact in 64 bits: the same in whatever order, and without this library
        rows = self.table[used].astype(np.float64)
        sums = np.zeros((len(texts), self.table.shape[1]), np.float64)
        end = 0
        for row, ids in zip(sums, tokens, strict=True):
            start, end = end, end + len(ids)
            if len(ids) <= self.LONG:
                rows.take(flat[start:end], axis=0).sum(axis=0, out=row)
            else:  # a book would copy one row per token: weigh its different tokens instead
                unique, counts = np.unique(flat[start:end], return_counts=True)
                np.dot(counts.astype(np.float64), rows[unique], out=row)
        norms = np.sqrt(np.einsum("ij,ij->i", sums, sums))
        vectors: list[Vector] = (sums / np.where(norms > 0, norms, 1)[:, None]).astype(np.float32).tolist()
        return vectors


class StaticEmbedder:
    """The default: static token vectors that come with a package; offline, no key, no download.

    English mostly. About 15,000 short texts a second on two cores and 0.1 ms a query. The model loads
    in a worker thread on first use, in 0.2 s, once per process; with its libraries it takes some 50 MB
    of memory, of which processes share 16.

    Attributes:
        sparing: do without the libraries as long as texts come one by one: 5 MB instead of 50, loaded in
            a tenth of the time, and 0.4 ms a query. More than `SPARING` characters at once load them.
    """

    WIDTH: ClassVar[int] = 256
    WEIGHTS: ClassVar[str] = "weights/l2_supercat_256.safetensors"
    TOKENIZER: ClassVar[str] = "tokenizers/l2_supercat_tokenizer_config.json"
    # up to this many characters the event loop computes itself: it costs less than a thread's round trip
    INLINE: ClassVar[int] = 1_000
    SPARING: ClassVar[int] = 8_000
    BATCH_TEXTS: ClassVar[int] = 256
    BATCH_CHARS: ClassVar[int] = 100_000

    name: str = "wordllama:l2_supercat:256"
    spec: ClassVar[str] = "static"
    """What names the model in MEMORY_EMBEDDINGS."""
    dims: int | None = WIDTH
    at_once: ClassVar[bool] = True
    """Fast enough to embed what was just written while a search waits for it."""

    def __init__(self, *, query_cache: int = 1024, sparing: bool = False) -> None:
        self.sparing = sparing
        self._cache = QueryCache(query_cache)

    @classmethod
    def is_available(cls) -> bool:
        """Whether the packages and the model files are there; imports none of them."""
        return _static_folder() is not None

    async def load(self) -> None:
        """Load the model now rather than with the first text. Raises UnsupportedError."""
        await asyncio.to_thread(_load, self.sparing)

    async def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text; in worker threads, a few milliseconds each. Raises UnsupportedError."""
        clean = [clean_text(text) for text in texts]
        at_once = self._at_once(clean)
        if at_once is not None:
            return at_once
        vectors: list[Vector] = []
        for batch in batched_texts(clean, self.BATCH_TEXTS, self.BATCH_CHARS):
            vectors += await asyncio.to_thread(_static_embed, batch, self.sparing)
        return vectors

    async def embed_query(self, text: str) -> Vector:
        """The vector to search with, the same as for a document. Raises UnsupportedError."""
        text = clean_text(text)
        known = self._cache.get(text)
        if known is not None:
            return known
        at_once = self._at_once([text])
        if at_once is not None:
            return self._cache.put(text, at_once[0])
        return await self._cache.fetch(text, partial(self._one, text))

    async def _one(self, text: str) -> Vector:
        return (await asyncio.to_thread(_static_embed, [text], self.sparing))[0]

    def _at_once(self, texts: list[str]) -> list[Vector] | None:
        """The vectors where nothing has to be loaded for them, and they cost less than a thread's round trip."""
        if not texts:
            return []
        if sum(map(len, texts)) > self.INLINE:
            return None
        if _static_model is not None:
            return _static_model.embed(texts)
        return _small_model.embed(texts) if self.sparing and _small_model is not None else None


_static_model: StaticModel | None = None
_small_model: SmallModel | None = None
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


def _load_static_model() -> StaticModel:
    global _static_model  # noqa: PLW0603 - one model serves the whole process
    with _static_lock:
        if _static_model is None:
            folder = _static_folder()
            if folder is None:
                raise _no_static_model("wordllama, tokenizers or numpy is missing")
            _static_model = StaticModel.open(folder)
        return _static_model


def _load_small_model() -> SmallModel | None:
    """None where this is not the version of the model that it can read."""
    global _small_model  # noqa: PLW0603 - one model serves the whole process
    with _static_lock:
        folder = _static_folder() if _small_model is None else None
        if folder is not None:
            _small_model = SmallModel.open(folder / StaticEmbedder.TOKENIZER, folder / StaticEmbedder.WEIGHTS, _TENSOR)
        return _small_model


def _load(sparing: bool) -> None:
    if _static_model is None and not (sparing and _load_small_model()):
        _load_static_model()


def _no_static_model(why: str) -> UnsupportedError:
    return UnsupportedError(
        f"The offline embedder cannot be used because {why}: install it with {EMBEDDED_PACKAGES} "
        "(there are wheels for Linux x86-64, macOS arm64 and Windows), or pass embeddings=."
    )


def _static_embed(texts: list[str], sparing: bool) -> list[Vector]:
    if sparing and _static_model is None and sum(map(len, texts)) <= StaticEmbedder.SPARING:
        small = _load_small_model()
        vectors = small.embed(texts) if small is not None else None
        if vectors is not None:
            return vectors
    return (_static_model or _load_static_model()).embed(texts)


def static_model_is_loaded() -> bool:
    """Whether this process has loaded the model, and with it numpy."""
    return _static_model is not None
