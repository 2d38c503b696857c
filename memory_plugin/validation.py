"""Checks on what callers pass, before anything reaches the database."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from memory_plugin.errors import ContentTooLargeError, InvalidInputError

MAX_TEXT = 1_000_000
"""Characters a memory, a message or a working memory may have."""

MAX_QUERY = 100_000
"""Characters a query may have; what follows is not searched."""

MAX_IDENTIFIER = 512
"""Characters a thread, user, key or namespace label may have: index rows must stay under a page."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def clean_text(value: object, what: str, *, limit: int = MAX_TEXT) -> str:
    """The text itself when the store can hold it.

    Raises:
        InvalidInputError: not a string, or with a NUL byte or half of a surrogate pair in it.
        ContentTooLargeError: longer than `limit` characters.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{what} must be text, not {type(value).__name__}.")
    if len(value) > limit:
        raise ContentTooLargeError(
            f"{what} has {len(value):,} characters and {limit:,} are allowed: split it; nothing was written."
        )
    if "\x00" in value:
        raise InvalidInputError(f"{what} has a NUL byte in it, which PostgreSQL text cannot hold: remove it first.")
    if not value.isascii() and _SURROGATE.search(value):
        raise InvalidInputError(
            f"{what} has half of a surrogate pair in it, which is not a character: decode it properly first."
        )
    return value


def replace_unstorable(value: str) -> str:
    """The text with NUL bytes and lone surrogates replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", value.replace("\x00", "\ufffd"))


def identifier(value: object, what: str) -> str:
    """A thread, user or key as text; numbers and UUIDs are taken as they print.

    Raises:
        InvalidInputError: empty, None, or not storable.
    """
    if value is None or value == "":
        raise InvalidInputError(f"{what} is missing: give a non-empty {what}.")
    return clean_text(value if isinstance(value, str) else str(value), what, limit=MAX_IDENTIFIER)


def optional_identifier(value: object, what: str) -> str | None:
    """Like `identifier`, with None let through."""
    return None if value is None else identifier(value, what)


def one_of(item_id: object, thread_id: object, user_id: object, *, what: str) -> None:
    """See that exactly one of the three is named.

    Raises:
        InvalidInputError: none is, or more than one.
    """
    if sum(name is not None for name in (item_id, thread_id, user_id)) != 1:
        raise InvalidInputError(f"Name exactly one of item_id, thread_id and user_id to {what}.")


def namespace_path(value: Sequence[str] | str, what: str = "namespace") -> tuple[str, ...]:
    """A namespace as a tuple of non-empty labels; a plain string is one label.

    Raises:
        InvalidInputError: a label is empty or not storable.
    """
    labels = (value,) if isinstance(value, str) else tuple(value)
    return tuple(identifier(label, f"{what} label") for label in labels)


def moment(value: datetime | None, what: str) -> datetime | None:
    """A point in time with its zone; a naive one is taken as UTC.

    Raises:
        InvalidInputError: not a datetime.
    """
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidInputError(f"{what} must be a datetime, not {type(value).__name__}.")
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def positive_limit(value: int, what: str = "limit", *, maximum: int = 10_000) -> int:
    """A count of at least zero, cut to `maximum`.

    Raises:
        InvalidInputError: negative, or not a whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInputError(f"{what} must be a whole number of at least 0, not {value!r}.")
    return min(value, maximum)
