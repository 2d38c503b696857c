"""Waiting for the search index."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory_plugin.capabilities.passages import Passages


class Indexes:
    """A store whose writes are indexed in the background."""

    passages: Passages

    async def indexed(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the public name
        """Wait until all that was written so far can be found by words and by meaning.

        The model for documents may still be reading them then: `spaces.build_documents` waits for that.

        Args:
            timeout: seconds to wait; None waits as long as it takes.

        Returns:
            False when the time ran out first.

        Raises:
            EmbeddingError: the embedder failed; everything is found by words all the same.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.passages.catch_up()
                await self.passages.fill()
                return True
        return False
