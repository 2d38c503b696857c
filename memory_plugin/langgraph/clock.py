"""Ids of checkpoints that follow each other although the clocks of their writers disagree.

LangGraph takes the greatest id of a thread for its latest checkpoint, and makes ids of the clock of whoever
writes. Where one machine's clock is behind another's, what it adds to a thread would be older than what it
goes on from: its turn would be stored, and never be seen again. So whoever reads a checkpoint makes its own ids
later than that from then on, as if it had looked at the writer's clock.
"""

from __future__ import annotations

from typing import Any, cast

from langgraph.checkpoint.base import id as ids

__all__ = ["follow"]

_SECOND = 10_000_000
"""Ticks of such an id in a second."""

_LATEST = (12_219_292_800 + 32_503_680_000) * _SECOND
"""The year 3000: whoever claims to come from later is not followed, for there ids come to an end."""


def follow(checkpoint_id: str) -> None:
    """Let the ids that this process makes from now on be later than this one."""
    said_at = _ticks(checkpoint_id)
    last: int | None = cast("Any", ids)._last_v6_timestamp  # noqa: SLF001 - there is no other way to tell LangGraph
    if said_at is not None and (last or 0) < said_at < _LATEST:
        cast("Any", ids)._last_v6_timestamp = said_at  # noqa: SLF001


def _ticks(checkpoint_id: str) -> int | None:
    """The time in an id of version 6, in tenths of microseconds; None in another id."""
    if len(checkpoint_id) != 36 or checkpoint_id[14] != "6":
        return None
    try:
        return int(checkpoint_id[:8] + checkpoint_id[9:13] + checkpoint_id[15:18], 16)
    except ValueError:
        return None
