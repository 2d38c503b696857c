"""Many tenants over one pool of connections: a store gives the store of another tenant."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

from memory_plugin.errors import ConfigurationError
from memory_plugin.validation import identifier

if TYPE_CHECKING:
    from memory_plugin.bridge import Bridge
    from memory_plugin.db.database import Database
    from memory_plugin.embedding.guard import Guard
    from memory_plugin.indexer import Indexer

KEPT = 256
"""Tenants whose stores are kept for the next call; each holds no connection of its own."""


class Views:
    """The stores of other tenants that share one store's connections; those used last are kept.

    Attributes:
        threads: what checkpointers know of threads, of all tenants together, so that one limit holds for all.
        guards: what stands between the stores and their embedders, by name, so that all know which one hangs.
        reading: held while documents of one of them are read by the model for documents, which takes its time.
    """

    def __init__(self) -> None:
        self.threads: OrderedDict[Any, Any] = OrderedDict()
        self.guards: dict[str, Guard] = {}
        self.reading = asyncio.Lock()
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self._indexers: WeakSet[Indexer] = WeakSet()
        self._stopping: set[asyncio.Task[None]] = set()

    def get(self, tenant: str) -> Any:
        """The store of the tenant, None when it has to be made."""
        if tenant in self._kept:
            self._kept.move_to_end(tenant)
        return self._kept.get(tenant)

    def add(self, tenant: str, view: Any, indexer: Indexer) -> None:
        """Keep a store; that which was not used for longest may go."""
        self._kept[tenant] = view
        self._indexers.add(indexer)
        if len(self._kept) > KEPT:
            _, gone = self._kept.popitem(last=False)
            task = asyncio.get_running_loop().create_task(gone._indexer.stop())  # noqa: SLF001 - a store like ours
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def stop(self) -> None:
        """End what the stores do in the background."""
        for indexer in list(self._indexers):
            await indexer.stop()
        self._kept.clear()
        self.threads.clear()


class ManyTenants(ABC):
    """A store that opens the stores of other tenants beside it."""

    settings: Any
    database: Database
    _url: str | None
    _embeddings: object
    _weights: Any
    _bridge: Bridge | None
    _closing: Any
    _indexer: Indexer
    _shared: Views

    @abstractmethod
    def _build(self) -> None:
        """Make the capabilities of this tenant."""

    def for_tenant(self, tenant: str) -> Self:
        """The store of another tenant (or of this one, for no user in particular), over the same connections.

        It is open for as long as this one, and is neither entered nor closed itself. Name the user in
        each call: no default applies. Retention in the background stays that of this store's tenant.

        Raises:
            ConfigurationError: this store is not open.
            InvalidInputError: the tenant is empty, or no text that can be stored.
        """
        if self._closing is None:
            raise ConfigurationError("The store is not open: use it inside `async with` or `with`.")
        known = self._shared.get(identifier(tenant, "tenant"))
        if known is not None:
            found: Self = known
            return found
        settings = self.settings.model_copy(update={"tenant": tenant, "user_id": None})
        view = type(self)(self._url, settings=settings, embeddings=self._embeddings, weights=self._weights)  # type: ignore[call-arg]
        for name in ("_bridge", "_closing", "_shared", "_embedders", "embedder", "observer"):
            setattr(view, name, getattr(self, name))
        view.database = self.database.for_tenant(tenant)
        view._build()  # noqa: SLF001 - one of us
        self._shared.add(tenant, view, view._indexer)  # noqa: SLF001
        return view
