"""Reading evaluation files: LoCoMo in its own format, and chats in the normalised format of BEAM.

The format is told from the content, so that a path is all that is needed.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import orjson

from memory_plugin.errors import InvalidInputError

Format = Literal["locomo", "beam"]

LOCOMO_CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}

PAUSE = timedelta(seconds=30)
"""Between the turns of a session, where the file dates only the session."""

_EVIDENCE = re.compile(r"D:?(\d+):(\d+)")
_TIMES = ("%I:%M %p on %d %B, %Y", "%B-%d-%Y", "%Y-%m-%d")
_START = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing that was said; `session` counts from 0 within the dialogue."""

    id: str
    role: str
    name: str | None
    text: str
    at: datetime
    session: int


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the ids of the turns that hold the answer."""

    text: str
    category: str
    gold: frozenset[str]
    headline: bool = True
    """Whether it counts in the average over all; adversarial questions do not."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation over one or more sessions, with its questions."""

    id: str
    format: Format
    turns: Sequence[Turn]
    questions: Sequence[Question]


def load(path: Path) -> list[Dialogue]:
    """The dialogues of a file, JSON or gzipped JSON.

    Questions without evidence that exists are left out: there is nothing to find for them.

    Raises:
        InvalidInputError: the file cannot be read, or has neither format.
    """
    try:
        raw = path.read_bytes()
        document = orjson.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except (OSError, EOFError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read as JSON: {error}.") from error
    entries = document if isinstance(document, list) else [document]
    try:
        return [_dialogue(entry, place) for place, entry in enumerate(entries)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInputError(
            f"{path} is neither in the format of LoCoMo nor in that of BEAM ({type(error).__name__}: {error})."
        ) from error


def _dialogue(entry: Mapping[str, Any], place: int) -> Dialogue:
    if "conversation" in entry:
        return _locomo(entry, place)
    return _beam(entry, place)


def _locomo(entry: Mapping[str, Any], place: int) -> Dialogue:
    conversation = entry["conversation"]
    first_speaker = conversation["speaker_a"]
    turns = [
        Turn(
            id=turn["dia_id"],
            role="user" if turn["speaker"] == first_speaker else "assistant",
            name=turn["speaker"],
            text=_with_photo(turn),
            at=began + PAUSE * number,
            session=session,
        )
        for session, (began, said) in enumerate(_sessions(conversation))
        for number, turn in enumerate(said)
    ]
    known = {turn.id for turn in turns}
    questions = [
        Question(
            text=str(asked["question"]),
            category=LOCOMO_CATEGORIES.get(asked["category"], str(asked["category"])),
            gold=gold,
            headline=asked["category"] != 5,
        )
        for asked in entry["qa"]
        if (gold := frozenset(_evidence(asked.get("evidence") or ()) & known))
    ]
    return Dialogue(str(entry.get("sample_id", place)), "locomo", turns, questions)


def _sessions(conversation: Mapping[str, Any]) -> Iterator[tuple[datetime, Sequence[Mapping[str, Any]]]]:
    numbers = sorted(int(key.removeprefix("session_")) for key in conversation if re.fullmatch(r"session_\d+", key))
    for number in numbers:
        yield _time(conversation[f"session_{number}_date_time"]), conversation[f"session_{number}"]


def _with_photo(turn: Mapping[str, Any]) -> str:
    caption = turn.get("blip_caption")
    return f"{turn['text']} [photo: {caption}]" if caption else str(turn["text"])


def _evidence(given: Sequence[str]) -> set[str]:
    """The ids in the evidence, of which some are written together or with a slip."""
    return {f"D{int(session)}:{int(turn)}" for text in given for session, turn in _EVIDENCE.findall(text)}


def _beam(entry: Mapping[str, Any], place: int) -> Dialogue:
    turns: list[Turn] = []
    at, session = _START, -1
    for message in entry["messages"]:
        anchor = message.get("time_anchor")
        if anchor or not turns:
            at, session = (_time(anchor) if anchor else at), session + 1
        turns.append(Turn(str(message["id"]), message["role"], None, message["content"], at, session))
        at += PAUSE
    known = {turn.id for turn in turns}
    questions = [
        Question(str(asked["question"]), str(asked["category"]), gold)
        for asked in entry["questions"]
        if (gold := frozenset(map(str, asked.get("source_ids") or ())) & known)
    ]
    return Dialogue(str(entry.get("id", place)), "beam", turns, questions)


def _time(text: str) -> datetime:
    for form in _TIMES:
        try:
            return datetime.strptime(text.strip(), form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise ValueError(f"unknown way to write a time: {text!r}")
