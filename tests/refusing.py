"""A database that takes no writes, as a provider makes it where its disk is full."""

from __future__ import annotations

from memory_plugin.memory import Memory


def read_only(url: str) -> Memory:
    """A store over a database whose transactions are read-only."""
    sign = "&" if "?" in url else "?"
    return Memory.open(f"{url}{sign}options=-c%20default_transaction_read_only%3Don")
