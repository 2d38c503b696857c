"""What `from_conn_string` gives: a face over a store of its own, for `async with` and for `with`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from memory_plugin.bridge import Bridge
    from memory_plugin.core import MemoryCore

Face = TypeVar("Face")


class Opening(Generic[Face]):
    """Opens the store on entering, gives the face, and closes the store at the end."""

    def __init__(self, url: str | None, make: Callable[[MemoryCore, Bridge], Face], **options: Any) -> None:
        self._url = url
        self._make = make
        self._options = options
        self._core: MemoryCore | None = None

    def _open(self) -> MemoryCore:
        from memory_plugin.core import MemoryCore

        self._core = MemoryCore.open(self._url, **self._options)
        return self._core

    async def __aenter__(self) -> Face:
        core = await self._open().__aenter__()
        try:
            return self._make(core, core.bridge)
        except BaseException:
            await core.__aexit__(None, None, None)
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        if self._core is not None:
            await self._core.__aexit__(*exc_info)

    def __enter__(self) -> Face:
        core = self._open()
        core.__enter__()
        try:
            return self._make(core, core.bridge)
        except BaseException:
            core.__exit__(None, None, None)
            raise

    def __exit__(self, *exc_info: object) -> None:
        if self._core is not None:
            self._core.__exit__(*exc_info)


class Done:
    """An answer that is there already: `await face.setup()` and `face.setup()` both work."""

    def __await__(self) -> Iterator[None]:
        return iter(())
