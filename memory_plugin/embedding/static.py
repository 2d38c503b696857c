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
from memory_plugin.embedding.texts import batched_texts, clean_text, reason_of
from memory_plugin.errors import UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

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
        from tokenizers import Tokenizer

        weights = folder / StaticEmbedder.WEIGHTS
        try:
            # safetensors: 8 bytes of header length, a JSON header, then the raw numbers
            with weights.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                tensor = json.loads(file.read(length))["embedding.weight"]
            if tensor["dtype"] != "F16" or tensor["shape"][1] != StaticEmbedder.WIDTH:
                raise ValueError(f"unexpected tensor {tensor}")  # noqa: TRY301 - one more way to be unreadable
            offset, shape = 8 + length + tensor["data_offsets"][0], tuple(tensor["shape"])
            # asarray drops the memmap subclass, whose every slice costs Python calls
            table = np.asarray(np.memmap(weights, dtype="<f2", mode="r", offset=offset, shape=shape))
            tokenizer = Tokenizer.from_file(str(folder / StaticEmbedder.TOKENIZER))
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
    spec: ClassVar[str] = "static"
    """What names the model in MEMORY_EMBEDDINGS."""
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
        clean = [clean_text(text) for text in texts]
        model = _static_model
        if model is not None and sum(map(len, clean)) <= self.INLINE:
            return model.embed(clean) if clean else []
        vectors: list[Vector] = []
        for batch in batched_texts(clean, self.BATCH_TEXTS, self.BATCH_CHARS):
            vectors += await asyncio.to_thread(_static_embed, batch)
        return vectors

    async def embed_query(self, text: str) -> Vector:
        """The vector to search with, the same as for a document. Raises UnsupportedError."""
        text = clean_text(text)
        model = _static_model
        if model is None or len(text) > self.INLINE:
            return await self._cache.fetch(text, partial(self._one, text))
        return self._cache.get(text) or self._cache.put(text, model.embed([text])[0])

    async def _one(self, text: str) -> Vector:
        return (await asyncio.to_thread(_static_embed, [text]))[0]


_static_model: StaticModel | None = None
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


def _no_static_model(why: str) -> UnsupportedError:
    return UnsupportedError(
        f"The offline embedder cannot be used because {why}: install it with {EMBEDDED_PACKAGES} "
        "(there are wheels for Linux x86-64, macOS arm64 and Windows), or pass embeddings=."
    )


def _static_embed(texts: list[str]) -> list[Vector]:
    return (_static_model or _load_static_model()).embed(texts)


def static_model_is_loaded() -> bool:
    """Whether this process has loaded the model, and with it numpy."""
    return _static_model is not None
