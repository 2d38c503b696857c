"""The offline model without its libraries: for a query, or a fact, where loading them would cost more than they save.

numpy, the tokenizer's library and its tables take 35 MB of memory and a quarter of a second to load. A few short
texts need neither: the words are put together here, and the rows of their tokens read from the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
import sys
import weakref
from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import ClassVar

from memory_plugin.embedding.protocol import Vector

_SPACE = "\u2581"
"""What stands for a space in tokens."""

_WORD = re.compile(f"{_SPACE}+[^{_SPACE}]*")
"""A part of a text that no token reaches over: it begins with its spaces."""

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""The tokens for the bytes of characters that have none."""

_SPECIAL = ("<unk>", "<s>", "</s>")

_STEPS = 2**24
"""Of a 16-bit float within one: what there is between the smallest ones."""

_BIAS = 2**41
"""Steps that stand for 0 in a lane, so that none is negative; half of it is more than any 16-bit float has."""

_LEAST = 2.0**28
"""The least double whose last bit counts a step: of those below its double, the lowest 52 bits are the steps above."""

_ABOVE = _LEAST + _BIAS / _STEPS

_MIDDLE = 1.5 * _LEAST
"""From here sums reach as far up as down."""

_MOST = 2**11
"""Tokens whose sum cannot reach further than that."""

_NEVER = sys.maxsize
"""In place of a rank: this is no token."""


class SmallModel:
    """Gives a text the vector that the libraries give it.

    About 0.3 ms for twenty words, four times what they take. Texts that it leaves to them get None.
    """

    TOKENIZER_HASH: ClassVar[str] = "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68"
    """SHA-256 of the tokenizer's file: what is done here is proven for this one."""

    LONGEST: ClassVar[int] = 200
    """Characters without a space; putting longer ones together takes time with their square."""

    ROWS: ClassVar[int] = 1024
    """Vectors of tokens that are kept, two kilobytes each: most words come again."""

    def __init__(self, ranks: dict[str, int], singles: dict[str, int], weights: int, offset: int, width: int) -> None:
        self._ranks = ranks
        self._singles = singles
        self._weights = weights
        self._offset = offset
        self._row = struct.Struct(f"<{width}e")
        self._size = len(ranks) + len(singles)
        # one in each lane, and the bits of a double
        self._each = int.from_bytes(array("Q", [1] * width).tobytes(), sys.byteorder)
        self._least, self._middles = (self._each * array("Q", struct.pack("d", base))[0] for base in (_LEAST, _MIDDLE))
        self._joined = lru_cache(maxsize=2048)(self._join)
        self._row_of = lru_cache(maxsize=self.ROWS)(self._read_row)
        weakref.finalize(self, os.close, weights)

    @classmethod
    def open(cls, tokenizer: Path, weights: Path, tensor: str) -> SmallModel | None:
        """The model in these files; None where they are not the known ones, or cannot be read."""
        if not hasattr(os, "pread"):  # Windows
            return None
        try:
            content = tokenizer.read_bytes()
            if hashlib.sha256(content).hexdigest() != cls.TOKENIZER_HASH:
                return None
            vocabulary = _vocabulary(content.decode("utf-8"))
            file = os.open(weights, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except (OSError, ValueError):
            return None
        try:
            length = int.from_bytes(os.pread(file, 8, 0), "little")
            about = json.loads(os.pread(file, length, 8))[tensor]
            (rows, width), known = about["shape"], about["dtype"] == "F16"
        except (OSError, ValueError, KeyError):
            rows = width = known = 0
        if not known or rows < len(vocabulary):
            os.close(file)
            return None
        return cls(*_tables(vocabulary), file, 8 + length + about["data_offsets"][0], width)

    def embed(self, texts: Sequence[str]) -> list[Vector] | None:
        """Normalised sums of the vectors of the tokens; None where the libraries have to do one of them."""
        vectors: list[Vector] = []
        for text in texts:
            tokens = self.tokens(text)
            if tokens is None:
                return None
            vectors.append(self._normalised(tokens))
        return vectors

    def _normalised(self, tokens: Sequence[int]) -> Vector:
        sums = self._sum(tokens[:_MOST])
        for start in range(_MOST, len(tokens), _MOST):
            sums = list(map(add, sums, self._sum(tokens[start : start + _MOST])))
        norm = math.hypot(*sums) or 1.0
        return array("f", [value / norm for value in sums]).tolist()

    def _sum(self, tokens: Sequence[int]) -> list[float]:
        total = sum(map(self._row_of, tokens)) - self._each * (_BIAS * len(tokens))
        middles = array("d", (total + self._middles).to_bytes(self._row.size * 4, sys.byteorder))
        return [value - _MIDDLE for value in middles]

    def _read_row(self, token: int) -> int:
        """The vector of a token as one number, with 64 bits for each of its values: adding two adds all values at once.

        Every 16-bit float is a whole number of steps of 2**-24, so the sums are exact; the bits of a double of the
        right size are that number, and nothing has to be converted. It is read, not mapped: pages that were touched
        would count as memory of this process.
        """
        row = self._row
        values = row.unpack(os.pread(self._weights, row.size, self._offset + token * row.size))
        return int.from_bytes(array("d", [value + _ABOVE for value in values]).tobytes(), sys.byteorder) - self._least

    def tokens(self, text: str) -> list[int] | None:
        """The numbers of the tokens; None where the text is not for here."""
        if "<" in text and any(special in text for special in _SPECIAL):
            return None
        if not text:
            return []
        tokens: list[int] = []
        for word in _WORD.findall(_SPACE + text.replace(" ", _SPACE)):
            if len(word) > self.LONGEST:
                return None
            tokens += self._joined(word)
        return tokens

    def _join(self, word: str) -> tuple[int, ...]:
        """Byte pair encoding: of all neighbours that are a token together, the earliest learnt are joined first."""
        rank_of, pieces = self._ranks.get, list(word)
        pairs = [rank_of(left + right, _NEVER) for left, right in pairwise(pieces)]
        while pairs and (best := min(pairs)) != _NEVER:
            place = pairs.index(best)
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
            del pairs[place]
            if place:
                pairs[place - 1] = rank_of(pieces[place - 1] + pieces[place], _NEVER)
            if place < len(pairs):
                pairs[place] = rank_of(pieces[place] + pieces[place + 1], _NEVER)
        return tuple(token for piece in pieces for token in self._numbers(piece))

    def _numbers(self, piece: str) -> tuple[int, ...]:
        """The number of a token, or those of the bytes of a character that none is for."""
        if len(piece) > 1:
            return (self._ranks[piece] % self._size,)
        known = self._singles.get(piece)
        return (known,) if known is not None else tuple(self._singles[f"<0x{byte:02X}>"] for byte in piece.encode())


def _vocabulary(text: str) -> dict[str, int]:
    """The tokens by number, without reading the pairs that they were made of, which are most of the file."""
    at = text.index('"vocab":') + len('"vocab":')
    found, _ = json.JSONDecoder().raw_decode(text, at + (text[at] == " "))
    return dict(found)


def _tables(vocabulary: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Of the tokens of several characters, when they were learnt; of the others, their numbers.

    They were learnt in the order of their numbers, runs of spaces last.
    """
    size = len(vocabulary)
    ranks: dict[str, int] = {}
    singles: dict[str, int] = {}
    for token, number in vocabulary.items():
        if len(token) == 1 or token in _SPECIAL or _BYTE.fullmatch(token):
            singles[token] = number
        else:
            ranks[token] = number if token.strip(_SPACE) else number + size
    return ranks, singles
