"""Memory that the process has freed."""

from __future__ import annotations

from contextlib import suppress


def give_back_freed() -> None:
    """Return to the system what was used and freed, as loading a model does, where the C library has a way."""
    import ctypes

    with suppress(OSError, AttributeError, TypeError):  # what other C libraries than that of GNU answer
        ctypes.CDLL(None).malloc_trim(0)
