"""What was measured as tables, and what follows from it for larger stores."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.pages import place_of
from benchmarks.sizes.measure import Measurement

PLACE = place_of("sizes")

_TURN_TABLES = ("messages", "checkpoints", "checkpoint_blobs", "checkpoint_writes", "conversations", "index_queue")
"""What conversations alone fill."""

STORES = (10**6, 10**7, 10**8, 10**9, 10**10)
"""Messages of the stores that are computed."""

BUSY = 86_400 / 4
"""Seconds in which a day's turns come: four times as dense as over the whole day."""

_GIGABYTE = 10**9


class Numbers:
    """What follows from a measurement; everything is an average over the data that was filled in."""

    def __init__(self, found: Measurement) -> None:
        self._found = found
        of_kind = {each.table: each for each in found.sizes}
        passages, vectors = of_kind["passages"], of_kind["embeddings"]
        self.search_row = passages.total + vectors.total
        """Bytes of a passage with its vector, whatever it is of."""
        self.conversation = found.bytes_of(*_TURN_TABLES) / (2 * found.turns)
        """Bytes of a message with its share of checkpoints, values and writes."""
        self.latest_only = (
            found.bytes_of("messages", "conversations") / (2 * found.turns)
            + found.bytes_of("checkpoints") / found.turns / 50
        )
        """Bytes of a message where only the latest checkpoint of a thread of 50 turns is kept."""
        self.indexes = (
            passages.indexes
            + vectors.indexes
            + sum(each.rows * each.indexes for each in found.sizes if each.table in _TURN_TABLES) / (2 * found.turns)
        )
        """Bytes of a message that are in indexes."""
        self.fact = of_kind["memories"].total + self.search_row
        """Bytes of a fact that can be found."""

    @property
    def message(self) -> float:
        """Bytes of a message that can be found, with its checkpoints."""
        return self.conversation + self.search_row

    def turn_seconds(self) -> float:
        """Processor seconds of the server for a turn: with its two messages indexed, a recall, and half a fact."""
        turn, index, recall, remember, _ = (each.server for each in self._found.costs)
        return turn + 2 * index + recall + remember / 2

    def turn_log(self) -> float:
        """Bytes of the log for the same."""
        turn, index, recall, remember, _ = (each.log for each in self._found.costs)
        return turn + 2 * index + recall + remember / 2


def markdown(found: Measurement) -> str:
    """Three tables."""
    numbers = Numbers(found)
    lines = ["| table | rows a turn | bytes a row | of these in indexes |", "|---|---|---|---|"]
    lines += [
        f"| {each.table} | {each.rows / found.turns:.2f} | {each.total:,.0f} | {each.indexes:,.0f} |"
        for each in found.sizes
        if each.rows >= found.turns / 100
    ]
    lines += ["", "| operation | processor of the server | log | wait, alone |", "|---|---|---|---|"]
    lines += [
        f"| {each.operation} | {each.server * 1000:.2f} ms | {each.log / 1000:,.1f} kB | {each.waited * 1000:.1f} ms |"
        for each in found.costs
    ]
    columns = (
        "messages",
        "all checkpoints",
        "the latest",
        "in indexes",
        "messages a day",
        "turns a second",
        "cores",
        "log",
    )
    lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for messages in STORES:
        daily = messages / 365
        rate = daily / 2 / BUSY
        lines.append(
            f"| {messages:,} | {size(messages * numbers.message)} | "
            f"{size(messages * (numbers.latest_only + numbers.search_row))} | "
            f"{size(messages * numbers.indexes)} | {daily:,.0f} | {rate:,.2f} | {rate * numbers.turn_seconds():,.2f} | "
            f"{size(rate * numbers.turn_log())}/s |"
        )
    return "\n".join(lines) + "\n\n" + _summary(found, numbers)


def _summary(found: Measurement, numbers: Numbers) -> str:
    return (
        f"A message takes {numbers.message:,.0f} bytes in all: {numbers.conversation:,.0f} with its share of "
        f"checkpoints ({numbers.latest_only:,.0f} where only the latest of a thread is kept), and "
        f"{numbers.search_row:,.0f} in the search index.\nA fact takes {numbers.fact:,.0f}. A turn with its two "
        f"messages indexed, a recall and half a fact costs {numbers.turn_seconds() * 1000:.1f} ms of a\ncore and "
        f"{numbers.turn_log() / 1000:,.0f} kB of log. Measured on PostgreSQL {found.version} with "
        f"{found.turns:,} turns, {found.facts:,} facts and {found.passages:,} passages.\n"
    )


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count / 1000:,.0f} kB"


def document(found: Measurement) -> dict[str, Any]:
    """The measurement for a program."""
    return asdict(found)
