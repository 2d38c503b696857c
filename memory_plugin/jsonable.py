r"""Python values as JSON text that a PostgreSQL `jsonb` column gives back unchanged.

`jsonb` is not a neutral box: it sorts the keys of objects, turns `1e16` into an integer, loses the
sign of `-0.0`, and refuses NUL characters, NaN, infinities and lone surrogates. `dumps_exact`
writes around that, and `loads_exact` gives back an equal value of the same types:

- a scalar that `jsonb` would change or refuse becomes a *tag*, an object of two keys:
  `{"v": "nan", "$t": "float"}`, `{"v": "1180591620717411303424", "$t": "int"}` (beyond 64 bits),
  `{"v": "a\\u0000b", "$t": "str"}` (NUL, surrogates and backslashes as `\\uXXXX`);
- an object with a key that `jsonb` refuses, or that is reserved here (`$t`, `$o`, `$s`), becomes
  `{"v": [[key, value], ...], "$t": "dict"}`;
- the order of keys, where asked for and not that of `jsonb`, is noted in the outermost object under
  `$o` (see `key_order`).

Everything else is stored as it is, so paths and containment work on it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import orjson
import ormsgpack

from memory_plugin.errors import InvalidInputError
from memory_plugin.key_order import CONTAINERS, restore_order, with_order
from memory_plugin.readable import clean_text, plain_shape, readable

__all__ = ["RESERVED_KEYS", "clean_text", "dumps_exact", "exact_value", "jsonb_text", "loads_exact", "readable"]

RESERVED_KEYS = frozenset({"$t", "$o", "$s"})
"""Keys with a meaning here: a tag's kind, the order of keys, and bytes of a serializer (checkpoint metadata)."""

_MAX_BYTES = 32 * 1024 * 1024
"""Longest JSON text written: `jsonb` allows 256 MB for one container and may take six times the text."""

_MAX_DEPTH = 64
"""Deepest value that is searched for what needs a tag: each level takes a few frames of Python's stack."""

_JSON_OPTIONS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
# orjson writes tuples, enums and UUIDs without a word; ormsgpack can be told to refuse them, and
# leaves eight exact bytes for each float. What both accept is JSON through and through.
_STRICT = (
    ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
)
_STRICT_BUT_TUPLES = _STRICT & ~ormsgpack.OPT_PASSTHROUGH_TUPLE
# A float in MessagePack is 0xcb and the double, high byte first. Those from 2**49 up, NaN and the
# infinities begin with 0x43..0x7f or 0xc3..0xff, and -0.0 with 0x80. Other bytes may look the same;
# that costs the slow path, never a wrong answer.
_perhaps_odd_float = re.compile(rb"\xcb[\x43-\x80\xc3-\xff]").search
_hostile = re.compile("[\x00\ud800-\udfff]").search
_ESCAPED = re.compile("[\x00\\\\\ud800-\udfff]")
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")


Makers = Mapping[str, Callable[[Any], Any]]
"""What makes a value of what a tag holds, by the kind of the tag."""


class _InexactError(Exception):
    """The value holds something that JSON has no exact form for."""


def dumps_exact(value: Any, *, order: bool | Collection[str] = False, tuples: bool = False) -> str | None:
    """JSON text that gives `value` back through `loads_exact`, also after a trip through `jsonb`.

    None when the value holds anything but str, int, float, bool, None, list and dict of exactly
    these types with str keys, when it contains itself or is nested deeper than about 250 levels
    (64 where something needs a tag), or when the text would be over 32 MiB. With `tuples=True`
    tuples are written as the lists they come back as.

    `order` says whether the order of keys is kept: everywhere, nowhere, or only below the named
    keys of the outermost object. Leave it off for text that becomes a part of a larger document, or
    that stored documents are compared with (`@>`): the notes have their place in the outermost
    object of a whole document.
    """
    try:
        raw = orjson.dumps(value, option=_JSON_OPTIONS)
        packed = ormsgpack.packb(value, option=_STRICT_BUT_TUPLES if tuples else _STRICT)
    except TypeError:  # both libraries' errors; also numbers and texts that a tag can hold
        raw = packed = b""
    try:
        if not raw or _needs_tags(value, raw, packed):
            value = _Tagger(tuples=tuples).tag(value, _MAX_DEPTH)
            raw = orjson.dumps(value)
    except (_InexactError, TypeError, RecursionError):  # TypeError: tags made it deeper than the encoder goes
        return None
    if len(raw) > _MAX_BYTES:
        return None
    return (with_order(value, raw, order) if order else raw).decode()


def loads_exact(text: str, make: Makers | None = None) -> Any:
    """The value that `dumps_exact` or `jsonb_text` was given.

    JSON of any other origin comes back as it reads; an object that only resembles a tag stays as
    it is. `make` knows tags of the caller's own: by kind, what makes a value of what stands under
    `v`, which it gets as it was parsed. Raises `InvalidInputError` when the text is not JSON.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"The text is not valid JSON: {error}.") from error
    if "$" in text:
        if '"$o"' in text:
            restore_order(value)
        if '"$t"' in text:
            value = _untag(value, make or {})
    return value


def exact_value(parsed: Any) -> Any:
    """What `loads_exact` makes of a document that is parsed already, a part of another one; takes it over."""
    restore_order(parsed)
    return _untag(parsed, {})


def jsonb_text(value: Any) -> str:
    """JSON text for `jsonb` for any value: exact where it can be, readable where it can't.

    Only the parts without an exact form are converted (a datetime becomes its ISO text, an enum
    its value, a set a list); the whole becomes `readable(value)` when it is too deep or too large.
    The order of keys is not kept. Read it back with `loads_exact`.
    """
    text = dumps_exact(value)
    if text is not None:
        return text
    try:
        raw = orjson.dumps(_Tagger(loose=True).tag(value, _MAX_DEPTH))
    except (_InexactError, TypeError, RecursionError):
        raw = b""
    if not raw or len(raw) > _MAX_BYTES:
        raw = orjson.dumps(_Tagger(loose=True).tag(readable(value), _MAX_DEPTH))
    return raw.decode()


def _needs_tags(value: Any, raw: bytes, packed: bytes) -> bool:
    """Whether `jsonb` would refuse or change something; one-byte searches first, they run at memory speed."""
    if b"$" in raw and b'"$' in raw:  # perhaps a reserved key
        return True
    if b"\x00" in packed and b"\\u0000" in raw:
        return True
    return b"\xcb" in packed and _perhaps_odd_float(packed) is not None and _holds_odd_float(value)


def _holds_odd_float(value: Any) -> bool:
    nodes: list[Any] = [(value,)]
    for node in nodes:
        for item in node.values() if type(node) is dict else node:
            kind = type(item)
            if kind is float:
                if _changes(item):
                    return True
            elif kind in CONTAINERS:
                nodes.append(item)
    return False


# --- tags -------------------------------------------------------------------------------------


class _Tagger:
    """Rewrites a value so that `jsonb` holds it; `loose` converts what has no exact form instead of refusing."""

    def __init__(self, *, tuples: bool = False, loose: bool = False) -> None:
        self._lists = (list, tuple) if tuples else (list,)
        self._loose = loose
        self._open: set[int] = set()  # what we are inside of: meeting it again means a cycle

    def tag(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return {"v": _ESCAPED.sub(_escape, value), "$t": "str"} if _hostile(value) else value
        if kind is int:
            return value if -(2**63) <= value < 2**64 else {"v": _int_text(value), "$t": "int"}
        if kind is float:
            return {"v": repr(value), "$t": "float"} if _changes(value) else value
        if depth == 0 or id(value) in self._open:
            raise _InexactError
        self._open.add(id(value))
        try:
            return self._container(value, depth - 1)
        finally:
            self._open.discard(id(value))

    def _container(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in self._lists:
            return [self.tag(item, depth) for item in value]
        if kind is dict and all(type(key) is str for key in value):
            return self._object(value, depth)
        if self._loose:
            return self.tag(plain_shape(value), depth)
        raise _InexactError

    def _object(self, value: dict[str, Any], depth: int) -> dict[str, Any]:
        if RESERVED_KEYS.isdisjoint(value) and not any(map(_hostile, value)):
            return {key: self.tag(item, depth) for key, item in value.items()}
        pairs = [[self.tag(key, 0), self.tag(item, depth)] for key, item in value.items()]
        return {"v": pairs, "$t": "dict"}


def _changes(value: float) -> bool:
    return not -1e16 < value < 1e16 or (value == 0.0 and math.copysign(1.0, value) < 0)


def _int_text(value: int) -> str:
    # Python refuses to write more than 4,300 decimal digits; hexadecimal has no such limit.
    return str(value) if value.bit_length() < 4096 else hex(value)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match.group(1), 16))


def _untag(value: Any, make: Makers) -> Any:
    if type(value) is list:
        return [_untag(item, make) if type(item) in CONTAINERS else item for item in value]
    if type(value) is not dict:
        return value
    if "$t" in value and len(value) == 2 and "v" in value:
        return _value_of_tag(value, make)
    for key, item in value.items():
        if type(item) in CONTAINERS:
            value[key] = _untag(item, make)
    return value


def _value_of_tag(tag: dict[str, Any], make: Makers) -> Any:
    kind, text = tag["$t"], tag["v"]
    try:
        if kind == "dict":
            return {_untag(key, make): _untag(item, make) for key, item in text}
        if type(text) is str:
            if kind == "str":
                return _ESCAPE.sub(_unescape, text)
            if kind == "float":
                return float(text)
            if kind == "int":
                return int(text, 0)
    except (ValueError, TypeError):  # written by somebody else: leave it as it reads
        return tag
    return make[kind](text) if type(kind) is str and kind in make else tag
