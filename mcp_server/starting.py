"""A start without work that the first answer does not need."""

from __future__ import annotations

import gc


def begin() -> None:
    """Prepare the process, before the protocol library is imported, to answer soon.

    Importing makes half a million objects, none of which is garbage: looking for it takes a tenth of
    the time. Until `settle` is called, nobody looks.
    """
    gc.disable()
    _build_messages_when_they_come()


def settle() -> None:
    """Collect garbage from now on, but not among what the start has made: it stays."""
    gc.freeze()
    gc.enable()


def give_back() -> None:
    """Return to the system what the start has used and freed: some megabytes, where the C library has a way.

    What is loaded by now stays too, and is not searched for garbage: that took 25 ms each time, out of some call.
    """
    from memory_plugin.embedding.heap import give_back_freed

    gc.freeze()
    give_back_freed()


def _build_messages_when_they_come() -> None:
    """Let the validator of a message be built with the first message of its kind.

    The protocol library has one for each message of each version of the protocol, and building all
    takes a quarter of its start and 3 MB; a client uses a dozen of them.
    """
    try:
        from mcp_types._wire_base import WireModel
    except ImportError:
        return  # a version of the library that is made otherwise; it builds what it likes
    WireModel.model_config["defer_build"] = True
