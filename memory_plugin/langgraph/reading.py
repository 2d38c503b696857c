"""Reading one checkpoint against what is known of its thread: only what is not known travels."""

from __future__ import annotations

from langgraph.checkpoint.base import CheckpointTuple

from memory_plugin.capabilities.checkpoints import Checkpoints
from memory_plugin.langgraph.assemble import tuple_of
from memory_plugin.langgraph.codec import ValueCodec
from memory_plugin.langgraph.known import KnownThread


async def read(
    checkpoints: Checkpoints,
    codec: ValueCodec,
    known: KnownThread,
    thread_id: str,
    namespace: str,
    checkpoint_id: str | None,
) -> CheckpointTuple | None:
    """The checkpoint, or the latest of the namespace (as it is stored); its messages become known."""
    held, generation = known.held, known.generation
    row = await checkpoints.get(thread_id, namespace, checkpoint_id, held=held)
    if row is not None and row.kept and known.generation != generation:
        # what was held, and so left out, was dropped meanwhile
        held = None
        row = await checkpoints.get(thread_id, namespace, checkpoint_id)
    if row is None:
        return None
    if held is not None and not row.kept and known.generation == generation:
        known.reset()  # the thread was made anew since
    found = tuple_of(codec, row, known)
    if namespace == "" and checkpoint_id is None:
        known.newest = row.checkpoint_id
    return found
