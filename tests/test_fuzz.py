"""The corpus of the fuzzer and mutations of it, the same ones each time; `make fuzz` looks for new ones."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator

import pytest

from memory_plugin.errors import MemoryPluginError
from memory_plugin.parsers import parse
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


LONG = 60_000

SLOW = {
    "a heading of signs": ("a.html", "<h1>x" + "¶ " * LONG + "y</h1><p>text"),
    "a heading of marks": ("a.html", "<h1>x" + "#" * LONG + "y</h1><p>text"),
    "a description without an end": (
        "a.yaml",
        f"openapi: 3.0.0\npaths: {{/a: {{get: {{description: '{'a' * LONG}'}}}}}}",
    ),
    "a line of brackets": ("a.md", "[" * LONG),
    "tags that are not closed": ("a.html", "<a " * LONG),
    "line ends of every kind": ("a.txt", "\r\n \r" * LONG + "x"),
    "a rule that is none": ("a.rst", "=" * LONG + "!\ntext"),
    "quotes": ("a.csv", '"' * LONG),
}


@pytest.mark.parametrize("what", SLOW)
def test_the_time_for_a_document_does_not_grow_with_the_square_of_its_length(what: str) -> None:
    """Found: headings that ended in many signs, for which a pattern took 20 seconds at this length."""
    name, text = SLOW[what]
    begun = time.process_time()
    with contextlib.suppress(MemoryPluginError):
        parse(text, name=name)
    assert time.process_time() - begun < 4
