"""Whether a checkpoint is the same on both sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import get_serializable_checkpoint_metadata
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from memory_plugin.langgraph.codec import drop_secrets
from memory_plugin.transfer.values import State, Write

_WIDTH = 32


def widened(version: Any) -> Any:
    """A version as wide as the official saver writes it, so that it sorts as text among the official ones."""
    if isinstance(version, str):
        head, dot, tail = version.partition(".")
        if head.isdigit() and len(head) < _WIDTH:
            return f"{head:0>{_WIDTH}}{dot}{tail}"
    return version


def widened_all(versions: Mapping[str, Any]) -> dict[str, Any]:
    """The versions of channels, or of those that each node has seen."""
    return {
        name: widened_all(version) if isinstance(version, Mapping) else widened(version)
        for name, version in versions.items()
    }


def kept_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What of metadata is stored: not the credentials, nor the copy of all writes that LangGraph gave up."""
    complete = get_serializable_checkpoint_metadata({}, dict(metadata))  # type: ignore[arg-type]  # any mapping will do
    return drop_secrets(complete)


def difference(source: State, target: State, *, ahead: bool = False) -> str | None:
    """What differs first, None where nothing does.

    Args:
        ahead: the thread went on in the target, where tasks may have written more since.
    """
    if source.parent_id != target.parent_id:
        return "its parent differs"
    return (
        _values_differ(source.values, target.values)
        or _bookkeeping_differs(source, target)
        or _writes_differ(source.writes, target.writes, ahead=ahead)
    )


def _values_differ(source: Mapping[str, Any], target: Mapping[str, Any]) -> str | None:
    for name in sorted(source.keys() | target.keys()):
        if name not in target:
            return f"channel {name!r} has no value"
        if name not in source:
            return f"channel {name!r} has a value that it had not"
        if not same(source[name], target[name]):
            return f"the value of channel {name!r} differs"
    return None


def _bookkeeping_differs(source: State, target: State) -> str | None:
    for name in ("channel_versions", "versions_seen"):
        if widened_all(source.checkpoint.get(name) or {}) != widened_all(target.checkpoint.get(name) or {}):
            return f"{name} differs"
    rest = {"channel_values", "channel_versions", "versions_seen"}
    for name in sorted((source.checkpoint.keys() | target.checkpoint.keys()) - rest):
        if source.checkpoint.get(name) != target.checkpoint.get(name):
            return f"{name!r} of the checkpoint differs"
    if not same(kept_metadata(source.metadata), kept_metadata(target.metadata)):
        return "its metadata differs"
    return None


def _writes_differ(source: Sequence[Write], target: Sequence[Write], *, ahead: bool) -> str | None:
    if ahead:
        known = {(each.task_id, each.idx) for each in source}
        target = [each for each in target if (each.task_id, each.idx) in known]
    if len(source) != len(target):
        return f"it has {len(target)} pending writes instead of {len(source)}"
    for mine, other in zip(source, target, strict=True):
        if ahead and mine.idx < 0 and (mine.task_id, mine.idx) == (other.task_id, other.idx):
            continue  # what a resumed task writes there replaces what was there
        if (mine.task_id, mine.task_path, mine.idx, mine.channel) != (
            other.task_id,
            other.task_path,
            other.idx,
            other.channel,
        ):
            return "its pending writes stand in another order"
        if not same(mine.value, other.value):
            return f"the pending write to {mine.channel!r} differs"
    return None


def same(one: Any, other: Any) -> bool:
    """Whether two decoded values are equal in value and in type, at any depth.

    Objects that do not say whether they are equal are compared by what the serializer makes of them.
    """
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in {str, int, bool, bytes}:
        return bool(one == other)
    if kind is float:
        return repr(one) == repr(other)  # -0.0 is not 0.0, and NaN is NaN
    if kind in {list, tuple}:
        return len(one) == len(other) and all(map(same, one, other))
    if kind is dict:
        return len(one) == len(other) and all(key in other and same(value, other[key]) for key, value in one.items())
    if isinstance(one, BaseMessage):
        return _same_message(one, other)
    return _same_object(one, other)


def _same_message(one: BaseMessage, other: BaseMessage) -> bool:
    mine, theirs = one.__dict__, other.__dict__
    if mine == theirs and one.__pydantic_extra__ == other.__pydantic_extra__:
        return True
    return same(mine, theirs) and same(one.__pydantic_extra__, other.__pydantic_extra__)


def _same_object(one: Any, other: Any) -> bool:
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(same(getattr(one, name, None), getattr(other, name, None)) for name in names)
    try:
        if bool(one == other):
            return True
    except Exception:  # noqa: BLE001, S110 - arrays and foreign objects compare in their own ways, or not at all
        pass
    try:
        serde = JsonPlusSerializer(pickle_fallback=True)
        return serde.dumps_typed(one) == serde.dumps_typed(other)
    except Exception:  # noqa: BLE001 - an object that cannot be serialized is equal to nothing but itself
        return False
