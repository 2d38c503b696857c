"""Locks between the processes that share one data directory."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

__all__ = ["LOCKS", "FileLock"]

LOCKS = ("lock", "users", "alive")
"""Who may start or stop the server; who uses it; whose death the watcher waits for."""


class FileLock:
    """A lock on a file, shared or exclusive, that the kernel drops with the process."""

    def __init__(self, path: Path, account: tuple[int, int] | None) -> None:
        # A link planted by the directory's owner must not make root create or give away another file.
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        self._region = (0, 0)
        if sys.platform != "win32" and account is not None:
            os.fchown(self._fd, *account)

    def acquire(self, *, shared: bool, timeout: float | None) -> bool:
        """Whether the lock was taken within `timeout` seconds; None waits for ever."""
        if sys.platform != "win32" and timeout is None:
            import fcntl

            fcntl.flock(self._fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            return True
        deadline = time.monotonic() + (timeout or 0)
        while not self._try(shared):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return True

    def _try(self, shared: bool) -> bool:
        try:
            if sys.platform == "win32":
                import msvcrt

                # No shared locks here: a user locks the byte of its own number, the last can lock them all.
                self._region = (os.getpid(), 1) if shared else (0, 2**31 - 1)
                os.lseek(self._fd, self._region[0], os.SEEK_SET)
                msvcrt.locking(self._fd, msvcrt.LK_NBLCK, self._region[1])
            else:
                import fcntl

                fcntl.flock(self._fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
                return False
            raise
        return True

    def release(self) -> None:
        """Give the lock back and keep the file open for the next time."""
        if sys.platform == "win32":
            import msvcrt

            os.lseek(self._fd, self._region[0], os.SEEK_SET)
            msvcrt.locking(self._fd, msvcrt.LK_UNLCK, self._region[1])
        else:
            import fcntl

            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file; the lock stays with the processes that hold a copy of it."""
        os.close(self._fd)
