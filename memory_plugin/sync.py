"""The sync face of an async object: the same methods, each run through the bridge.

One generic proxy instead of a twin of every class: a coroutine is run to its end, an async
iterator becomes an iterator, another part of the library comes back wrapped, and anything else
as it is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

from memory_plugin.bridge import Bridge

_OWN_PACKAGES = ("memory_plugin.capabilities.", "memory_plugin.core", "memory_plugin.providers.groups")
_STORES = frozenset({"memory_plugin.core", "memory_plugin.memory"})


class SyncProxy:
    """Wraps `target` so that its async methods are called without await."""

    __slots__ = ("_bridge", "_target")

    def __init__(self, target: Any, bridge: Bridge) -> None:
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_bridge", bridge)

    def __getattr__(self, name: str) -> Any:
        return self._wrap(getattr(self._target, name))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self._target).__name__}.{name} cannot be set")

    def __dir__(self) -> list[str]:
        return dir(self._target)

    def __repr__(self) -> str:
        return f"{self._target!r} (sync)"

    def _wrap(self, value: Any) -> Any:
        if inspect.ismethod(value) or inspect.isfunction(value):
            return self._method(value)
        if type(value).__module__.startswith(_OWN_PACKAGES):
            return SyncProxy(value, self._bridge)
        return value

    def _method(self, method: Callable[..., Any]) -> Callable[..., Any]:
        bridge = self._bridge

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if inspect.iscoroutine(result):
                return bridge.run(result)
            if isinstance(result, AsyncIterator):
                return bridge.iterate(result)
            return SyncProxy(result, bridge) if type(result).__module__ in _STORES else result

        return call
