"""Any Python value as plain JSON for people: bounded, never failing, without secrets or addresses.

It is for copies that are looked at and searched, beside an exact form kept elsewhere. Nothing here
imports a framework; objects are known by their shape.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, time
from enum import Enum
from typing import Any

_MAX_DEPTH = 32
_MORE = "…"


def readable(value: Any, *, max_chars: int = 65_536) -> Any:
    """`value` as plain JSON: dict, list, str, int, float, bool and None, safe for `jsonb`.

    Bytes become their length, dates their ISO text, enums their value, unknown objects the name of
    their class, secrets of pydantic stay hidden; NUL and surrogates in text become U+FFFD. What goes
    beyond about `max_chars` characters or 32 levels is cut and marked with "…". Never raises.
    """
    return _Reader(max_chars).read(value, _MAX_DEPTH)


def clean_text(text: str) -> str:
    """`text` as PostgreSQL can hold it: surrogate pairs joined, NUL and lone surrogates as U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def plain_shape(value: Any) -> Any:
    """One level of `value` in JSON's own types: a str, int, float, bool, None, list, or dict with str keys.

    What is inside a returned list or dict is left as it was. Never raises.
    """
    try:
        return _shape(value)
    except Exception:  # noqa: BLE001 - any object's own methods may fail in any way; a copy for people may not
        return f"<{type(value).__qualname__}>"


def _shape(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value if type(value.value) in _SCALARS else str(value.value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # a subclass has its own str(), which may show anything
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {_key(key): item for key, item in value.items()}
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, BaseException):
        return f"{type(value).__qualname__}: {value}"
    return _structure(value)


def _structure(value: Any) -> Any:
    if hasattr(value, "get_secret_value"):
        return "**********"
    if isinstance(value, type):
        return f"<class {value.__qualname__}>"
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for method in ("model_dump", "_asdict"):
        if callable(getattr(value, method, None)):
            return {_key(key): item for key, item in getattr(value, method)().items()}
    if isinstance(value, AbstractSet):
        return sorted(value, key=lambda item: (type(item).__qualname__, str(item)))
    if isinstance(value, Sequence) or type(value).__name__ == "deque":
        return list(value)
    if hasattr(value, "dtype") and hasattr(value, "shape"):  # numpy and its kin
        return value.item() if value.shape == () else f"<{type(value).__qualname__} {value.shape} {value.dtype}>"
    if type(value).__module__ in _PLAIN_TEXT_MODULES:
        return str(value)
    return f"<{type(value).__qualname__}>"


_SCALARS = frozenset({str, int, float, bool, type(None)})
_PLAIN_TEXT_MODULES = frozenset(
    {"datetime", "decimal", "fractions", "ipaddress", "pathlib", "pathlib._local", "uuid", "zoneinfo"}
)


def _key(key: Any) -> str:
    if type(key) is str:
        return key
    shape = plain_shape(key)
    return shape if type(shape) is str else str(shape)


class _Reader:
    """Walks a value while its budget of characters lasts."""

    def __init__(self, max_chars: int) -> None:
        self._left = max_chars
        self._open: set[int] = set()

    def read(self, value: Any, depth: int) -> Any:
        self._left -= 1
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -(2**63) <= value < 2**64 else self._text(hex(value))
        if kind is float:
            return value if math.isfinite(value) else str(value)
        if kind is str:
            return self._text(value)
        if depth == 0 or self._left <= 0 or id(value) in self._open:
            return _MORE
        self._open.add(id(value))
        try:
            return self._container(value, depth - 1)
        finally:
            self._open.discard(id(value))

    def _container(self, value: Any, depth: int) -> Any:
        if type(value) is list:
            return self._list(value, depth)
        if type(value) is dict and all(type(key) is str for key in value):
            return self._dict(value, depth)
        return self.read(plain_shape(value), depth)

    def _list(self, value: list[Any], depth: int) -> list[Any]:
        items: list[Any] = []
        for item in value:
            if self._left <= 0:
                items.append(f"{_MORE} {len(value) - len(items)} more")
                break
            items.append(self.read(item, depth))
        return items

    def _dict(self, value: dict[str, Any], depth: int) -> dict[str, Any]:
        items: dict[str, Any] = {}
        for count, (key, item) in enumerate(value.items()):
            if self._left <= 0:
                items[_MORE] = f"{len(value) - count} more"
                break
            items[self._text(key)] = self.read(item, depth)
        return items

    def _text(self, text: str) -> str:
        room = max(self._left, 0)
        self._left -= len(text)
        return clean_text(text) if len(text) <= room else clean_text(text[:room]) + _MORE
