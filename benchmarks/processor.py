"""How long processors worked, as Linux accounts for it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ACCOUNTED: Final = 0.0003
"""Seconds after the answer to a statement, within which the server's work for it is accounted for."""


def account_of(process: int) -> Path:
    """Where the system accounts for a process; not there, or not to be read, where it cannot be told."""
    return Path(f"/proc/{process}/schedstat")


def worked(account: Path) -> int:
    """Nanoseconds that a processor worked for the process until now."""
    return int(account.read_text().split()[0])
