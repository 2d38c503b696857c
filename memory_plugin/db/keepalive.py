"""Noticing that the other end of a connection is gone although nobody said so.

A machine that lost its power, a firewall that forgot a connection, a network that was cut: who waits for an
answer then waits for ever, because nothing is sent and so nothing fails. The system asks the other end now and
then, if told to; whoever is alive answers without the server being bothered.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any, cast

import asyncpg

__all__ = ["DEAD_AFTER", "keep_alive"]

DEAD_AFTER = 60
"""Seconds of silence after which a connection over TCP is given up: 30 of rest, then three questions."""

_OPTIONS = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Names differ from system to system; the second is that of macOS."""


def keep_alive(connection: asyncpg.Connection) -> None:
    """Let the system look whether the other end is still there; nothing to do on a unix socket."""
    found = cast("Any", connection)._transport.get_extra_info("socket")  # noqa: SLF001 - asyncpg has no word for it
    if found is None or found.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    with contextlib.suppress(OSError):  # a system that cannot is no reason not to connect
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, seconds in _OPTIONS.items():
            if hasattr(socket, name):
                found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # and where something was sent that nobody acknowledges
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER * 1000)
