"""Which classes a stored value may be made of.

LangGraph's serializer notes the name of a class beside its data, and by default imports and calls on
reading whatever stands there: who can write to the database could run any function. Here reading builds
plain types, what LangGraph itself writes, and classes that hold data and that the program has loaded
already: dataclasses, named tuples, enumerations and pydantic models. Nothing is imported, no function is
called, and nothing that acts (a model, a tool, a chain, settings that read the environment) is built.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Collection
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

from langgraph.checkpoint.serde import _msgpack, jsonplus
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

__all__ = ["CheckpointTypes", "data_serializer", "is_data_class", "serializer_for"]

CheckpointTypes = Literal["data", "any"]

_PLAIN = (UUID, Decimal, set, frozenset, deque, date, time, timedelta, tzinfo, Enum)
_PYDANTIC = frozenset({"BaseModel", "SecretStr", "SecretBytes", "Secret"})

# what acts when it is made or used, by name: none of these packages need be there
_ACTING = frozenset(
    {
        ("langchain_core.runnables.base", "Runnable"),
        ("langchain_core.embeddings.embeddings", "Embeddings"),
        ("langchain_core.document_loaders.base", "BaseLoader"),
        ("langchain_core.callbacks.base", "BaseCallbackHandler"),
        ("langchain_core.vectorstores.base", "VectorStore"),
        ("langchain_core.stores", "BaseStore"),
        ("pydantic_settings.main", "BaseSettings"),
    }
)


class _DataTypes(set[tuple[str, ...]]):
    """An allow-list that has what was named, and every loaded class that holds data."""

    def __contains__(self, key: object) -> bool:
        if super().__contains__(key):
            return True
        match key:
            case (str(module), str(name)):
                return _is_loaded_data(module, name)
        return False


def serializer_for(types: CheckpointTypes) -> JsonPlusSerializer | None:
    """The serializer of savers that were given none; None for LangGraph's own.

    With LANGGRAPH_STRICT_MSGPACK LangGraph's rules hold, which are narrower: the classes that a graph
    declares in its state, and no others.
    """
    return data_serializer() if types == "data" and not _msgpack.STRICT_MSGPACK_ENABLED else None


def data_serializer(*, also: Collection[type] = ()) -> JsonPlusSerializer:
    """LangGraph's serializer, building on reading only what holds data; also for inside an EncryptedSerializer.

    What it may not build comes back as the data that is stored of it, and LangGraph logs the name of the
    class. What it writes is the same.

    Args:
        also: further classes that may be built.
    """
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    allowed = _DataTypes((each.__module__, each.__name__) for each in also)
    serde._allowed_msgpack_modules = allowed  # noqa: SLF001 - LangGraph takes a fixed list only
    serde._unpack_ext_hook = jsonplus._create_msgpack_ext_hook(allowed)  # noqa: SLF001
    return serde


def _is_loaded_data(module: str, name: str) -> bool:
    """Whether it is a class of a module that is loaded, under its own name, and holds data."""
    home = sys.modules.get(module)
    found = vars(home).get(name) if home is not None else None  # not getattr, which may import
    if not isinstance(found, type) or (found.__module__, found.__name__) != (module, name):
        return False
    return is_data_class(found)


def is_data_class(kind: type[Any]) -> bool:
    """Whether the class holds data and does nothing else by being made."""
    bases = [(base.__module__, base.__name__) for base in kind.__mro__]
    if any(base in _ACTING for base in bases):
        return False
    if dataclasses.is_dataclass(kind) or issubclass(kind, _PLAIN):
        return True
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return True
    return any(module.partition(".")[0] == "pydantic" and name in _PYDANTIC for module, name in bases)
