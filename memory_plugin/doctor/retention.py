"""Retention: what the policies would remove, and whether anybody applies them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory_plugin.doctor.findings import Diagnosis
from memory_plugin.types import Retention

if TYPE_CHECKING:
    from memory_plugin.db.database import Database
    from memory_plugin.settings import Settings

MOST_THREADS = 20_000
"""Threads of a tenant up to which it is counted what is due: that looks at each of them."""


async def check_retention(found: Diagnosis, database: Database, settings: Settings) -> None:
    """Compare what is stored with how long it is to be kept."""
    from memory_plugin.capabilities.retention import Retentions

    policy = settings.retention()
    every = settings.retention_every
    applied = f"an open store applies it every {every}" if every is not None else "`memory-plugin prune` applies it"
    if found.rows.get("conversations", 0) > MOST_THREADS:
        found.add("retention", "ok", f"{_said(policy)}; {applied} (too many threads to count what is due)")
        return
    due = await Retentions(database, tenant=settings.tenant, default=policy).apply(dry_run=True)
    number = due.pruned + due.expired + due.emptied
    if not number:
        found.add("retention", "ok", f"{_said(policy)}; nothing is due")
        return
    detail = f"{_said(policy)}; due are {due.expired:,} threads to go, {due.pruned + due.emptied:,} to be trimmed"
    if every is not None:
        found.add("retention", "ok", f"{detail}: {applied}")
        return
    found.add(
        "retention",
        "warning",
        f"{detail}, {sum(due.rows.values()):,} rows in all.",
        "Run `memory-plugin prune` (every night), or set MEMORY_RETENTION_EVERY=1h where a store stays open.",
    )


def _said(policy: Retention) -> str:
    """The policy in words."""
    if policy == Retention():
        return "everything is kept, except where a thread has a policy of its own"
    parts = []
    if policy.keep_last is not None:
        parts.append(f"{policy.keep_last:,} checkpoints of a thread")
    if policy.keep_for is not None:
        parts.append(f"checkpoints for {policy.keep_for}")
    if policy.expire_after is not None:
        what = "threads" if policy.expire == "thread" else "the checkpoints of threads"
        parts.append(f"{what} until they were idle for {policy.expire_after}")
    return f"kept are {', '.join(parts)}"
