"""Memories that mem0 exported: a JSON list, the answer of `get_all`, or JSON Lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from memory_plugin.portable.facts import Fact, FactsProgress, FactsReport, Remembering, key_of, remember_all
from memory_plugin.portable.importing import Failure

ORIGIN = "mem0"

_KEPT = ("created_at", "updated_at", "categories", "actor_id", "role")


async def import_mem0(
    memory: Remembering,
    records: Iterable[Any],
    *,
    user_id: str | None = None,
    dry_run: bool = False,
    on_progress: FactsProgress | None = None,
) -> FactsReport:
    """Remember each memory under its old id as the key: one that changed since the last import is updated.

    Its `run_id` becomes the thread, `created_at` the time from which it is true; the metadata is kept,
    with the id and the times as `mem0_id`, `created_at`, `updated_at`.

    Args:
        records: the memories; an exception among them is the failure of its place.
        user_id: whose facts they become; by default each memory's own user, and without one the store's.
        dry_run: write nothing.
    """
    return await remember_all(memory, _facts(records, user_id), dry_run=dry_run, on_progress=on_progress)


def _facts(records: Iterable[Any], user_id: str | None) -> Iterator[Fact | Failure]:
    for line, record in enumerate(records, start=1):
        if isinstance(record, Exception):
            yield Failure(line, "", str(record))
        elif not isinstance(record, Mapping) or not isinstance(record.get("memory"), str):
            yield Failure(line, "", "it has no text under `memory`")
        else:
            yield _fact(line, record, user_id)


def _fact(line: int, record: Mapping[str, Any], user_id: str | None) -> Fact | Failure:
    given = record.get("metadata")
    if given is not None and not isinstance(given, Mapping):
        return Failure(line, "memory", "its metadata is no object")
    own = {name: _text(record.get(name)) for name in ("id", "user_id", "agent_id", "run_id")}
    about = {**(given or {}), "origin": ORIGIN, **{name: record[name] for name in _KEPT if record.get(name)}}
    if own["id"]:
        about["mem0_id"] = own["id"]
    return Fact(
        line,
        record["memory"],
        key_of(ORIGIN, own["id"]) if own["id"] else None,
        about,
        user_id=user_id or own["user_id"],
        thread_id=own["run_id"],
        agent_id=own["agent_id"],
        valid_from=_time(record.get("created_at")),
    )


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _time(value: Any) -> datetime | None:
    """The time, None where it is none that can be read: the fact is worth more than its date."""
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
