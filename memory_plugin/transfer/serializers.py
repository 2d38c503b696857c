"""The serializer of a source: what it reads is whole, or refused.

LangGraph's serializer gives the bare arguments back where a class cannot be imported or is not
allowed. Stored again, that would be the value from then on; so here it is an error that names the
class.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from memory_plugin.errors import ConfigurationError, InvalidInputError, UnsupportedError

# how LangGraph's serializer numbers what MessagePack has no type for; below are constructors, above is a snapshot
_METHOD = 3
_ARRAY = 6
_LARGE = 16_384
_REMEMBERED = 32 << 20


class Reader:
    """Decodes the values of a source.

    A message stands in every version of its list: it is built once for the same bytes, so nobody
    may change what comes out of here.
    """

    def __init__(self, serde: SerializerProtocol | None = None, *, encrypted: bool = False) -> None:
        self._problems: list[str] = []
        self._built: OrderedDict[tuple[int, bytes], Any] = OrderedDict()
        self._size = 0
        self._build: Callable[[int, bytes], Any] | None = getattr(JsonPlusSerializer(), "_unpack_ext_hook", None)
        if serde is not None:
            self.serde = serde
            return
        checked = JsonPlusSerializer(__unpack_ext_hook__=self._hook if self._build is not None else None)
        self.serde = _encrypting(checked) if encrypted else checked

    def load(self, type: str, blob: bytes | None) -> Any:
        """The value.

        Raises:
            InvalidInputError: it cannot be given back as it was; the message says why.
        """
        self._problems.clear()
        unregister = register_serde_event_listener(self._hear)
        try:
            value = self.serde.loads_typed((type, b"" if blob is None else blob))
        except NotImplementedError as error:
            if "+" in type:
                raise InvalidInputError(
                    f"it is encrypted ({type}): pass --encrypted with LANGGRAPH_AES_KEY, or --serde"
                ) from error
            raise InvalidInputError(f"the serializer does not know its type {type!r}: pass --serde") from error
        except Exception as error:  # serializers and ciphers fail in their own ways; the thread is named with it
            raise InvalidInputError(f"it cannot be decoded ({error.__class__.__name__}: {error})") from error
        finally:
            unregister()
        if type.startswith("json"):
            self._look_for_envelopes(value)
        if self._problems:
            raise InvalidInputError(
                f"{self._problems[0]}: run this where your application's code can be imported, or pass --serde"
            )
        return value

    def _hear(self, event: SerdeEvent) -> None:
        if event["kind"] != "msgpack_unregistered_allowed":
            self._problems.append(f"the class {event['module']}.{event['name']} is blocked")

    def _hook(self, code: int, data: bytes) -> Any:
        key = (code, data)
        if key in self._built:
            self._built.move_to_end(key)
            return self._built[key]
        assert self._build is not None  # or this would not be the hook
        before = len(self._problems)
        value = self._build(code, data)
        made = self._check(code, data)
        if (isinstance(made, type) and not isinstance(value, made)) or (code == _ARRAY and value is None):
            what = f"{made.__module__}.{made.__qualname__}" if isinstance(made, type) else "an array"
            self._problems.append(f"{what} could not be built from what is stored of it")
        if len(self._problems) == before and len(data) <= _LARGE:
            self._remember(key, value)
        return value

    def _remember(self, key: tuple[int, bytes], value: Any) -> None:
        self._built[key] = value
        self._size += len(key[1])
        while self._size > _REMEMBERED:
            (_, dropped), _ = self._built.popitem(last=False)
            self._size -= len(dropped)

    def _check(self, code: int, data: bytes) -> Any:
        """What it should be an instance of, where that is sure; at any depth each class must be found."""
        if code == _ARRAY:
            return None
        parts = ormsgpack.unpackb(data, ext_hook=self._check, option=ormsgpack.OPT_NON_STR_KEYS)
        if code > _ARRAY:
            return None
        found = _attribute(parts[0], parts[1])
        if found is None:
            self._problems.append(f"the class {parts[0]}.{parts[1]} cannot be imported")
        return None if code == _METHOD else found

    def _look_for_envelopes(self, value: Any) -> None:
        """JSON of early versions: an object that nobody could build stays a dict that says so."""
        waiting = [value]
        for each in waiting:
            if isinstance(each, dict):
                if each.get("lc") in {1, 2} and each.get("type") in {"constructor", "not_implemented"}:
                    self._problems.append(f"the class {'.'.join(map(str, each.get('id') or ['?']))} cannot be built")
                waiting += each.values()
            elif isinstance(each, list):
                waiting += each


@cache
def _attribute(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except Exception:  # noqa: BLE001 - what a module does when it is imported, and how it fails, is its own
        return None


def _encrypting(serde: SerializerProtocol) -> SerializerProtocol:
    from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

    if not os.environ.get("LANGGRAPH_AES_KEY"):
        raise ConfigurationError("--encrypted needs LANGGRAPH_AES_KEY: set it to the key of 16, 24 or 32 characters.")
    try:
        return EncryptedSerializer.from_pycryptodome_aes(serde)
    except ImportError as error:
        raise UnsupportedError("Encryption needs pycryptodome: pip install pycryptodome.") from error
    except ValueError as error:
        raise ConfigurationError(f"LANGGRAPH_AES_KEY cannot be used: {error}") from error


def serializers(named: str | None, *, encrypted: bool) -> tuple[Reader, SerializerProtocol]:
    """The reader of the source, and the serializer of the target.

    Args:
        named: `module:attribute` of a serializer, or of a function without arguments that makes one.
        encrypted: AES with the key in LANGGRAPH_AES_KEY.

    Raises:
        ConfigurationError: there is no such serializer, or no key.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: an application's classes are found from its folder
    if named is None:
        plain = JsonPlusSerializer()
        return Reader(encrypted=encrypted), _encrypting(plain) if encrypted else plain
    if encrypted:
        raise ConfigurationError("--encrypted and --serde name two serializers: give one of them.")
    serde = _named(named)
    return Reader(serde), serde


def _named(named: str) -> SerializerProtocol:
    module, colon, attribute = named.partition(":")
    if not colon:
        raise ConfigurationError(f"{named!r} names no serializer: write module:attribute.")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module of the application fails in its own way
        raise ConfigurationError(f"The serializer {named} cannot be loaded: {error}.") from error
    if callable(found):
        found = found()
    if not (hasattr(found, "dumps_typed") and hasattr(found, "loads_typed")):
        raise ConfigurationError(f"{named} is no serializer: it needs dumps_typed and loads_typed.")
    serde: SerializerProtocol = found
    return serde
