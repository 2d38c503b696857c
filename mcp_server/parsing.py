"""HTTP read by the parser in C, with a bound on what comes before a body."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_HEAD = 64 * 1024
"""Bytes of a request's line and headers that are waited for; the parser itself would keep any number."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection that gives up on a request whose headers do not end."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waits_for: int | None = None  # bytes of a head so far, None outside of one

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        waited = self._waits_for
        super().data_received(data)
        # what began with these bytes is counted from the next ones on
        if waited is None or self._waits_for is None:
            return
        self._waits_for = waited + len(data)
        if self._waits_for > LONGEST_HEAD and not self.transport.is_closing():
            self._waits_for = None
            self.send_400_response("The headers of this request are too long.")

    def on_message_begin(self) -> None:
        """As the parser calls it."""
        super().on_message_begin()
        self._waits_for = 0

    def on_headers_complete(self) -> None:
        """As the parser calls it."""
        self._waits_for = None
        super().on_headers_complete()
