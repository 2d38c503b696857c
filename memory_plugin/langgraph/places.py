"""Where a config of LangGraph points to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig

from memory_plugin.errors import InvalidInputError
from memory_plugin.langgraph.names import stored_name
from memory_plugin.validation import identifier


def place_of(config: RunnableConfig) -> tuple[str, str, str | None]:
    """Thread, namespace (as it is stored) and checkpoint id of a config.

    Raises:
        InvalidInputError: no thread is named, or an id that cannot be stored.
    """
    configurable = config.get("configurable") or {}
    if configurable.get("thread_id") is None:
        raise InvalidInputError("The config needs configurable.thread_id: the conversation to read or write.")
    return (
        identifier(configurable["thread_id"], "thread_id"),
        stored_name(str(configurable.get("checkpoint_ns") or "")),
        checkpoint_id_of(configurable),
    )


def checkpoint_id_of(configurable: Mapping[str, Any]) -> str | None:
    """The id of a checkpoint; None where none is named."""
    found = configurable.get("checkpoint_id")
    return None if found is None or found == "" else identifier(found, "checkpoint_id")
