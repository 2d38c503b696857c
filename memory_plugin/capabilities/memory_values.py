"""What a memory is made of: its JSON, its text, and who it belongs to, before it reaches a statement."""

from __future__ import annotations

import base64
import binascii
import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any
from uuid import UUID

from memory_plugin.db.database import Record
from memory_plugin.errors import InvalidInputError, NotFoundError
from memory_plugin.jsonable import dumps_exact, loads_exact
from memory_plugin.types import MemoryItem, Namespace, Source, uuid7
from memory_plugin.validation import MAX_TEXT, clean_text, optional_identifier, replace_unstorable

MAX_PATH_BYTES = 2_000
"""Bytes of all labels of a namespace and the key together: they share one index entry."""

MAX_PARTS = 100
"""Texts of one item that have a vector each; what is beyond shares the last one."""

MAX_LEVELS = 200
"""Levels a value may be nested."""

USERS_ROOT = "memories"
"""`("memories", user_id, ...)` belongs to that user."""

_KEYS = UUID("6f4a2e0c-53d1-4f0b-9c58-1d2a7c3be9a4")
"""Namespace of the keys that are made from texts."""


def user_of(namespace: Sequence[str], label: int | None = None) -> str | None:
    """The user a namespace belongs to: the label at that place, else X in ("memories", X, ...), else None.

    A negative `label` counts from the end; a namespace too short for it belongs to nobody.
    """
    if label is not None:
        return namespace[label] if -len(namespace) <= label < len(namespace) else None
    return namespace[1] if len(namespace) > 1 and namespace[0] == USERS_ROOT else None


def normalised_hash(text: str) -> bytes:
    """The same for texts that differ only in case, white space or the way their characters are composed."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return hashlib.sha256(" ".join(folded.split()).encode()).digest()


def check_path(namespace: Sequence[str], key: str = "") -> None:
    """See that a namespace and a key can be stored and indexed.

    Raises:
        InvalidInputError: not text, not storable, or too long.
    """
    labels = [clean_text(label, "A namespace label") for label in namespace]
    size = sum(len(label.encode()) + 8 for label in labels) + len(clean_text(key, "A key").encode())
    if size > MAX_PATH_BYTES:
        raise InvalidInputError(
            f"A namespace and its key may have {MAX_PATH_BYTES:,} bytes together, not {size:,}: shorten them."
        )


def json_object(value: Mapping[str, Any], what: str, *, order: bool = True) -> str:
    """JSON text of a mapping that reads back equal; tuples become lists, subclasses their plain type.

    `order` keeps the order of keys.

    Raises:
        InvalidInputError: something in it is no JSON; the message says where.
    """
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{what} must be a mapping with text keys, not {type(value).__name__}.")
    text = dumps_exact(dict(value), order=order, tuples=True)
    if text is None:
        text = dumps_exact(_plain(value, what, MAX_LEVELS), order=order, tuples=True)
    if text is None:
        raise InvalidInputError(f"{what} is too large to be stored as JSON: split it, or store it in a file.")
    return text


def _plain(value: Any, where: str, levels: int) -> Any:
    """The value in the exact types of JSON."""
    if levels == 0:
        raise InvalidInputError(f"{where[:200]} is nested too deeply, or contains itself: make it flatter.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]", levels - 1) for index, item in enumerate(value)]
    if not isinstance(value, Mapping):
        raise InvalidInputError(
            f"{where} is of type {type(value).__name__}, which JSON cannot hold: convert it to text, say."
        )
    for name in value:
        if not isinstance(name, str):
            raise InvalidInputError(f"{where} has the key {name!r}, and keys in JSON are text: convert it first.")
    return {str.__str__(name): _plain(item, f"{where}[{name!r}]", levels - 1) for name, item in value.items()}


def strings_in(value: Any) -> Iterator[str]:
    """Every text in a value, at any depth, in order; keys are left out."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            waiting.extend(reversed(list(item.values())))
        elif isinstance(item, list | tuple):
            waiting.extend(reversed(item))


def searchable(texts: Sequence[str] | Iterator[str]) -> str:
    """The texts as one that can be stored; what lies beyond `MAX_TEXT` characters is not searched."""
    return replace_unstorable("\n".join(text for text in texts if text.strip()))[:MAX_TEXT]


def searchable_ends(texts: Sequence[str]) -> list[int] | None:
    """Where each text is over in what `searchable` makes of them, one for each vector; None where one does for all."""
    visible = [text for text in texts if text.strip()]
    if len(visible) < 2:
        return None
    ends = list(accumulate(len(text) + 1 for text in visible))
    kept = [end for end in ends[: MAX_PARTS - 1] if end < min(MAX_TEXT, ends[-1])]
    return [*kept, min(MAX_TEXT, ends[-1] - 1)]


def texts_of(content: str, ends: str | None) -> list[str]:
    """The texts of a passage that have a vector each: all of it, or what lies between the ends of its fields."""
    if ends is None:
        return [content]
    places = [int(place) for place in ends.strip("[]").split(",")]
    return [content[start:end].strip() for start, end in pairwise([0, *places])]


def item_uuid(value: UUID | str) -> UUID:
    """The id of a memory, from its text too.

    Raises:
        InvalidInputError: it is no UUID.
    """
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidInputError(f"{value!r:.100} is not the id of a memory: those are UUIDs.") from error


def unknown_memory(item: UUID, at: datetime | None = None) -> NotFoundError:
    """The error that says there is no such memory."""
    when = f" at {at.isoformat()}" if at else ""
    return NotFoundError(f"There is no memory {item}{when}: it was never stored, or it was forgotten or expired.")


def keys_of_text(namespace: Namespace, digest: bytes) -> list[str]:
    """Keys for a text without one: the same for the same text, at last a random one if all are taken."""
    name = "\x00".join((*namespace, digest.hex()))
    return [_uuid5(f"{name}\x00{place}") for place in range(4)] + [str(uuid7())]


def _uuid5(name: str) -> str:
    """`str(uuid.uuid5(_KEYS, name))`, in a fifth of the time: each fact asks for four."""
    number = bytearray(hashlib.sha1(_KEYS.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    number[6] = number[6] & 0x0F | 0x50
    number[8] = number[8] & 0x3F | 0x80
    text = number.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def key_of_attribute(subject: str, attribute: str) -> str:
    """The key of what is said about something: the same in other case, spacing or composition."""
    return f"{_part_of_key(subject)}#{_part_of_key(attribute)}"


def _part_of_key(name: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.split()).replace("%", "%25").replace("#", "%23")


def read_source(source: Source | Mapping[str, Any] | None) -> Source | None:
    """Where a memory came from, also given as a mapping.

    Raises:
        InvalidInputError: it has other parts than thread_id, message_id and uri.
    """
    if source is None or isinstance(source, Source):
        return source
    if not isinstance(source, Mapping):
        raise InvalidInputError(f"source must be a Source or a mapping, not {type(source).__name__}.")
    unknown = set(source) - {"thread_id", "message_id", "uri"}
    if unknown:
        raise InvalidInputError(
            f"source has thread_id, message_id and uri, not {', '.join(map(repr, sorted(unknown)))}."
        )
    return Source(**{name: optional_identifier(part, f"source.{name}") for name, part in source.items()})


def source_json(source: Source | None) -> str | None:
    """The parts of a source that are known, as JSON text."""
    if source is None:
        return None
    parts = {"thread_id": source.thread_id, "message_id": source.message_id, "uri": source.uri}
    return json_object({name: part for name, part in parts.items() if part is not None}, "source")


def fraction(importance: float) -> float:
    """An importance from 0 to 1.

    Raises:
        InvalidInputError: anything else.
    """
    if isinstance(importance, bool) or not isinstance(importance, int | float) or not 0 <= importance <= 1:
        raise InvalidInputError(f"importance must be a number from 0 to 1, not {importance!r}.")
    return float(importance)


def write_cursor(row: Record) -> str:
    """The place in a listing, last changed first, behind this row."""
    return base64.urlsafe_b64encode(f"{row['recorded_at'].isoformat()} {row['id']}".encode()).decode()


def read_cursor(cursor: str) -> tuple[datetime, UUID]:
    """The time and row a cursor stands for.

    Raises:
        InvalidInputError: it was not made by `write_cursor`.
    """
    try:
        at, _, row = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        return datetime.fromisoformat(at), UUID(row)
    except (ValueError, AttributeError, binascii.Error) as error:
        raise InvalidInputError("The cursor is not one that this listing gave: start again without it.") from error


def memory_of(row: Record) -> MemoryItem:
    """The memory in a row that has all its columns."""
    source = None if row["source"] is None else Source(**loads_exact(row["source"]))
    return MemoryItem(
        id=row["item_id"],
        namespace=tuple(row["namespace"]),
        key=row["key"],
        content=row["content"],
        value=loads_exact(row["value"]),
        version=row["version"],
        user_id=row["user_id"],
        thread_id=row["thread_id"],
        agent_id=row["agent_id"],
        metadata=loads_exact(row["metadata"]),
        source=source,
        importance=round(row["importance"], 6),  # stored in 32 bits
        trust=row["trust"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        recorded_at=row["recorded_at"],
        superseded_at=row["superseded_at"],
        created_at=row["created_at"],
        status=row.get("status"),
    )
