"""The items of any LangGraph store, read through its own interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from memory_plugin.capabilities.memory_items import ItemKey, ItemPut
from memory_plugin.capabilities.memory_values import searchable, strings_in, user_of
from memory_plugin.errors import InvalidInputError
from memory_plugin.portable.facts import FactsProgress, FactsReport, Remembering
from memory_plugin.portable.importing import Failure
from memory_plugin.screening import redacted_value
from memory_plugin.types import WriteStatus

PAGE = 100


class FoundItem(Protocol):
    """An item as a LangGraph store finds it."""

    @property
    def namespace(self) -> tuple[str, ...]:
        """Where it is."""

    @property
    def key(self) -> str:
        """Its name there."""

    @property
    def value(self) -> dict[str, Any]:
        """What it holds."""

    @property
    def updated_at(self) -> datetime:
        """When it was written."""


class Searching(Protocol):
    """What of a LangGraph store is needed here."""

    async def asearch(
        self, namespace_prefix: tuple[str, ...], /, *, limit: int = 10, offset: int = 0
    ) -> Sequence[FoundItem]:
        """The items below a namespace."""


async def import_store(
    memory: Remembering,
    store: Searching,
    *,
    namespace: Sequence[str] = (),
    user_label: int | None = None,
    dry_run: bool = False,
    on_progress: FactsProgress | None = None,
) -> FactsReport:
    """Put every item of a LangGraph store, under its namespace and key, with the text of its value searchable.

    An item that is here already with the same value is a duplicate; one with another value is updated.
    Nobody should write to the store meanwhile: it is read page by page.

    Args:
        namespace: only the items at or below it.
        user_label: which label of a namespace names the user, as in `MemoryStore`.
        dry_run: write nothing.
    """
    report, seen = FactsReport(), 0
    while found := await store.asearch(tuple(namespace), limit=PAGE, offset=seen):
        puts = []
        held = await memory.memories.items.get([ItemKey(tuple(item.namespace), item.key) for item in found])
        for place, (item, here) in enumerate(zip(found, held, strict=True), start=seen + 1):
            same = here is not None and here.value == item.value
            status: WriteStatus = "created" if here is None else "duplicate" if same else "updated"
            report.counts[status] += 1
            if not same:
                puts.append((place, status, _put(item.namespace, item.key, item.value, user_label)))
        if not dry_run:
            await _write(memory, puts, report)
        seen += len(found)
        if on_progress is not None:
            on_progress(report)
    return report


async def _write(memory: Remembering, puts: list[tuple[int, WriteStatus, ItemPut]], report: FactsReport) -> None:
    """Put a page at once, and one by one where something in it cannot be stored."""
    try:
        await memory.memories.items.put([put for _, _, put in puts])
    except InvalidInputError:
        for place, status, put in puts:
            try:
                await memory.memories.items.put([put])
            except InvalidInputError as error:
                report.counts[status] -= 1
                report.failed.append(Failure(place, "item", str(error)))


def _put(namespace: Sequence[str], key: str, value: Mapping[str, Any], user_label: int | None) -> ItemPut:
    labels = tuple(namespace)
    try:
        text = searchable(strings_in(redacted_value(value)))  # as of our own store: kept whole, shown without secrets
    except InvalidInputError:
        text = ""  # it cannot be stored, and the write says why
    return ItemPut(labels, key, value, content=text, user_id=user_of(labels, user_label))
