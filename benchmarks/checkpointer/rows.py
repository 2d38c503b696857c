"""What is measured, and what must come of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Unit = Literal["ms", "operations/s", "bytes", "times"]
Rule = Literal["at most", "at least", "alone"]

OURS, OFFICIAL = "ours", "postgres"

GROUPS = ("floor", "aput", "aput_writes", "aget_tuple", "alist", "delay", "turn", "bytes", "throughput")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report.

    `limit` is the gate: "at most" and "at least" are about ours divided by the official PostgreSQL
    saver, "alone" is the most that our own value may be. None is for information.
    """

    key: str
    group: str
    title: str
    unit: Unit
    limit: float | None = None
    rule: Rule = "at most"

    @property
    def gate(self) -> str:
        """The gate in words."""
        if self.limit is None:
            return ""
        if self.rule == "at least":
            return f"at least {self.limit:g}x"
        return f"ours at most {self.limit:g}" if self.rule == "alone" else f"at most {self.limit:.2f}"

    def met(self, ratio: float | None, ours: float | None) -> bool | None:
        """Whether the gate is met; None where there is none, or where nothing was measured."""
        value = ours if self.rule == "alone" else ratio
        if self.limit is None or value is None:
            return None
        return value >= self.limit if self.rule == "at least" else value <= self.limit


ROWS = (
    Row("floor-select", "floor", "SELECT 1, by the driver alone", "ms"),
    Row("floor-insert", "floor", "INSERT of one row of one column, by the driver alone", "ms"),
    Row("aput-10", "aput", "aput, 10 messages", "ms", 0.30),
    Row("aput-100", "aput", "aput, 100 messages", "ms", 0.12),
    Row("aput-1000", "aput", "aput, 1000 messages", "ms", 0.03),
    Row("aput-1000-fresh", "aput", "aput, 1000 messages, just loaded by a new saver", "ms"),
    Row("aput_writes", "aput_writes", "aput_writes", "ms", 0.50),
    Row("aget_tuple-10", "aget_tuple", "aget_tuple, 10 messages", "ms", 0.35),
    Row("aget_tuple-100", "aget_tuple", "aget_tuple, 100 messages", "ms", 0.25),
    Row("aget_tuple-1000", "aget_tuple", "aget_tuple, 1000 messages", "ms", 0.20),
    Row("aget_tuple-1000-first", "aget_tuple", "aget_tuple, 1000 messages, first read of a new saver", "ms"),
    Row("alist-10", "alist", "alist(limit=10), 100 checkpoints", "ms", 0.15),
    Row("aput-1000-1ms", "delay", "aput, 1000 messages, 1 ms away", "ms", 0.15),
    Row("aput-1000-10ms", "delay", "aput, 1000 messages, 10 ms away", "ms", 0.45),
    Row("aget_tuple-100-1ms", "delay", "aget_tuple, 100 messages, 1 ms away", "ms"),
    Row("aput_writes-1ms", "delay", "aput_writes, 1 ms away", "ms"),
    Row("turn", "turn", "agent turn, growing to 400 messages", "ms", 0.40),
    Row("bytes-100", "bytes", "bytes that 100 turns add", "bytes", 0.10),
    Row("bytes-200", "bytes", "bytes that 200 turns add", "bytes"),
    Row("bytes-200-index", "bytes", "bytes that 200 turns add, with our index for searching them", "bytes"),
    Row("growth", "bytes", "turns 101 to 200 against turns 1 to 100, in bytes", "times", 1.25, "alone"),
    Row("throughput-aput", "throughput", "aput, 64 tasks, 100 messages", "operations/s", 10, "at least"),
    Row("throughput-aput_writes", "throughput", "aput_writes, 64 tasks", "operations/s", 5, "at least"),
    Row("throughput-aget_tuple", "throughput", "aget_tuple, 64 tasks, 100 messages", "operations/s", 8, "at least"),
)
BY_KEY = {row.key: row for row in ROWS}


def chosen(words: Iterable[str]) -> list[str]:
    """The groups that these words begin, all of them where there are none.

    Raises:
        ValueError: a word begins no group.
    """
    found: set[str] = set()
    for word in words:
        # "aput" is the group of that name, not aput_writes as well
        hits = [word] if word in GROUPS else [group for group in GROUPS if word and group.startswith(word)]
        if not hits:
            raise ValueError(f"{word!r} is nothing that is measured: use some of {', '.join(GROUPS)}.")
        found.update(hits)
    return [group for group in GROUPS if group in found or not found]
