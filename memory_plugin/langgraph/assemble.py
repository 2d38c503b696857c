"""From a stored row back to a CheckpointTuple, and what is learned of its messages on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import CheckpointTuple

from memory_plugin.capabilities.checkpoints import CheckpointRow, Range
from memory_plugin.langgraph.codec import ValueCodec
from memory_plugin.langgraph.known import KnownCheckpoint, KnownThread, digests
from memory_plugin.langgraph.names import original_name, original_version

GRAPH = 0
"""Origin of a message of the conversation itself."""
INTERNAL = 2
"""Origin of a message that only a subgraph or another channel has."""


def tuple_of(codec: ValueCodec, row: CheckpointRow, known: KnownThread | None) -> CheckpointTuple:
    """The CheckpointTuple of a row; what it reads is learned, so that the next put knows it."""
    versions = {
        original_name(channel): original_version(version) for channel, version in orjson.loads(row.versions).items()
    }
    values: dict[str, Any] = {
        original_name(blob.channel): codec.load(blob.json, blob.type, blob.blob) for blob in row.blobs
    }
    spans = spans_of(row.refs)
    decoded = {each.seq: codec.load_message(each.body, each.type, each.raw) for each in row.messages}
    for channel, ranges in spans.items():
        values[channel] = [decoded[seq] for start, end in ranges for seq in range(start, end) if seq in decoded]
    if known is not None:
        _learn(known, row, versions, spans, decoded)
    configurable = {"thread_id": row.thread_id, "checkpoint_ns": original_name(row.namespace)}
    checkpoint = {
        **codec.load_metadata(row.checkpoint),
        "id": row.checkpoint_id,
        "channel_values": values,
        "channel_versions": versions,
    }
    return CheckpointTuple(
        config={"configurable": {**configurable, "checkpoint_id": row.checkpoint_id}},
        checkpoint=checkpoint,  # type: ignore[arg-type]  # stored from a Checkpoint, whatever its version
        metadata=codec.load_metadata(row.metadata),  # type: ignore[arg-type]  # likewise
        parent_config=({"configurable": {**configurable, "checkpoint_id": row.parent_id}} if row.parent_id else None),
        pending_writes=[
            (original_name(task), original_name(write.channel), codec.load(write.json, write.type, write.blob))
            for task, write in row.writes
        ],
    )


def spans_of(refs: str | None) -> dict[str, list[Range]]:
    """The message lists of a checkpoint, by channel, from its stored references."""
    if refs is None:
        return {}
    return {
        original_name(channel): [(start, end) for start, end in ranges]
        for channel, ranges in orjson.loads(refs).items()
    }


def _learn(
    known: KnownThread,
    row: CheckpointRow,
    versions: Mapping[str, Any],
    spans: Mapping[str, list[Range]],
    decoded: Mapping[int, BaseMessage],
) -> None:
    if row.namespace == "" and ("", row.checkpoint_id) not in known.checkpoints:
        known.buffer = None  # somebody else may have written the memory buffer too
    known.learn(digests(list(decoded.values())), decoded)
    known.internal.update(each.seq for each in row.messages if each.origin == INTERNAL)
    known.remember(row.namespace, row.checkpoint_id, KnownCheckpoint(versions, spans, learned=True))
