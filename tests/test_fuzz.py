"""The corpus of the fuzzer and mutations of it, the same ones each time; `make fuzz` looks for new ones."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from tests.fuzz.targets import CORPUS, TARGETS, seeds

MUTATIONS = {"codec": 60, "importers": 12, "documents": 4, "openapi": 6, "mcp_arguments": 4, "rest": 8}
"""Of each seed: so many that a target takes a second or two."""

SECONDS = 20.0
"""More than this for one small input would be an attack by itself."""


def mutations(seed: bytes, number: int, chance: random.Random) -> Iterator[bytes]:
    """The seed with bytes changed, left out, doubled, and pieces repeated."""
    for _ in range(number):
        data = bytearray(seed)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(data) + 1)
            match chance.randrange(5):
                case 0 if data:
                    data[place % len(data)] = chance.randrange(256)
                case 1:
                    del data[place : place + chance.randint(1, 8)]
                case 2:
                    data[place:place] = chance.choice(
                        [b"\x00", b"\xff\xfe", b"[" * 300, b"{", b"$t", b"1e999", b"\\ud800"]
                    )
                case 3:
                    data[place:place] = data[place : place + chance.randint(1, 40)] * chance.randint(1, 30)
                case _:
                    del data[place:]
        yield bytes(data)


@pytest.mark.parametrize("target", TARGETS)
def test_no_promise_is_broken_by_the_corpus_and_what_is_like_it(target: str) -> None:
    check, chance = TARGETS[target], random.Random(target)
    for seed in seeds(target):
        for data in (seed, *mutations(seed, MUTATIONS[target], chance)):
            begun = time.monotonic()
            check(data)
            assert time.monotonic() - begun < SECONDS, data


def test_each_target_has_a_corpus_and_no_corpus_is_left_over() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
