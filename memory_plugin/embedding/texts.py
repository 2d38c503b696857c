"""Texts on their way to a model, and the words of its errors."""

from __future__ import annotations

from collections.abc import Sequence


def clean_text(text: str) -> str:
    """The text as UTF-8 can carry it (lone surrogates replaced); empty if nothing in it is visible."""
    if not text or text.isspace():
        return ""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def batched_texts(texts: Sequence[str], most: int, chars: int | None = None) -> list[list[str]]:
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


def reason_of(exc: BaseException) -> str:
    """The type and first line of somebody else's error, short enough for a sentence."""
    lines = str(exc).strip().splitlines()
    return f"{type(exc).__name__}: {lines[0][:200].rstrip(' .')}" if lines else type(exc).__name__
