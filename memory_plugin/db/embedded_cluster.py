"""One data directory: making it a PostgreSQL cluster, starting and stopping its server, and what a crash leaves."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shlex
import shutil
import socket
import stat
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from memory_plugin.db.embedded_binaries import MAJOR, run_program
from memory_plugin.db.embedded_errors import full_disk, telling_line
from memory_plugin.db.embedded_lock import FileLock
from memory_plugin.db.embedded_owner import account_for, let_through, make_readable
from memory_plugin.errors import EmbeddedDatabaseError, StorageFullError

__all__ = ["PATIENCE", "USE_TCP", "Cluster", "Postmaster"]

_logger = logging.getLogger(__name__)

_SUPERUSER = "postgres"
_PREFIX = ".memory-plugin."
_SOCKET_PREFIX = "memory-plugin-"
_IGNORED = frozenset({"lost+found", ".DS_Store"})
USE_TCP = sys.platform == "win32"
# sun_path holds 108 bytes on Linux and 104 elsewhere, the final NUL included
_SOCKET_LIMIT = 107 if sys.platform == "linux" else 103
PATIENCE = 60.0  # seconds for one start, stop or crash recovery
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


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What the server wrote into postmaster.pid; no socket directory means TCP."""

    pid: int
    port: int
    socket_dir: str


class Cluster:
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
            make_readable(self._binaries)
            for path in (self.data_dir, self._binaries / "postgres"):
                let_through(path, *self._account)
            if not (self.data_dir / "PG_VERSION").exists():
                shutil.chown(self.data_dir, *self._account)
        elif not os.access(self.data_dir, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "Permission denied", str(self.data_dir))

    def adopt_account(self) -> None:
        """Decide which user runs the server."""
        self._account = account_for(self.data_dir)

    def lock_file(self, name: str) -> FileLock:
        """One of the `LOCKS`, opened and not yet taken."""
        return FileLock(self.data_dir / (_PREFIX + name), self._account)

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

    def postmaster(self) -> Postmaster | None:
        """The server that postmaster.pid names, running or crashed; None without a whole such file."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text("utf-8", "surrogateescape").splitlines()
            pid, port, directory = int(lines[0]), int(lines[3]), lines[4].strip()
        except (FileNotFoundError, ValueError, IndexError):
            return None
        return Postmaster(pid, port, str(self.data_dir / directory) if directory else "")

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
            raise StorageFullError(full_disk(self.data_dir, str(error))) from error
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
        status, output = self._run("pg_ctl", "stop", "-D", ".", "-w", "-t", f"{PATIENCE:.0f}", "-m", "fast")
        if status != 0 and self.answers():
            raise self._failure("did not stop", output)
        if _is_ours(postmaster.socket_dir):
            with contextlib.suppress(OSError):
                Path(postmaster.socket_dir).rmdir()

    # -- the directory

    def _check_contents(self) -> None:
        try:
            version = (self.data_dir / "PG_VERSION").read_text("utf-8", "replace").strip()
        except FileNotFoundError:
            names = {path.name for path in self.data_dir.iterdir() if not path.name.startswith(_PREFIX)}
            if names - _IGNORED:
                raise EmbeddedDatabaseError(
                    f"{self.data_dir} holds other files and no PostgreSQL data: choose an empty directory."
                ) from None
            return
        if version != MAJOR:
            raise EmbeddedDatabaseError(
                f"{self.data_dir} was made by PostgreSQL {version}, and this installation has PostgreSQL {MAJOR}: run "
                "`memory-plugin backup FILE` with the installation that made it, then `memory-plugin --data-dir "
                "NEW_DIRECTORY restore FILE` with this one."
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
        for path in sorted(done.iterdir(), key=lambda path: path.name == "PG_VERSION"):
            path.rename(self.data_dir / path.name)
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
        if USE_TCP:
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
        if USE_TCP:
            with socket.create_server(("127.0.0.1", 0)) as free:
                settings = f"-h 127.0.0.1 -p {free.getsockname()[1]}"
            settings += " -k ''" if os.name == "posix" else ""
        else:
            settings = f"-k {shlex.quote(socket_dir)} -h '' -p 5432 -c unix_socket_permissions=0700"
        # `.` and not the name of the directory, which pg_ctl would pass through a shell.
        options = ("start", "-D", ".", "-l", "log", "-w", "-t", f"{PATIENCE:.0f}", "-o", settings)
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

    def _outlives(self, previous: Postmaster) -> bool:
        """Wait while a server that does not listen starts up or shuts down; says whether it came up."""
        deadline = time.monotonic() + PATIENCE
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
            return Path(process.cwd()).samefile(self.data_dir)
        except (psutil.NoSuchProcess, FileNotFoundError):
            return False
        except (psutil.AccessDenied, PermissionError):
            return True

    def _clear_remains(self, previous: Postmaster | None) -> None:
        """Keep what a crashed server left from blocking the next one when its process id lives on elsewhere.

        The rest of postmaster.pid stays: PostgreSQL finds surviving sessions of the crashed server by it.
        """
        pid_file = self.data_dir / "postmaster.pid"
        if previous is None:
            pid_file.unlink(missing_ok=True)  # cut off while it was written, so never of a running server
            return
        with os.fdopen(os.open(pid_file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)), "r+b") as file:
            rest = file.read().partition(b"\n")[2]
            file.seek(0)
            file.write(b"%d\n%s" % (_NO_SUCH_PID, rest))
            file.truncate()
        if _is_ours(previous.socket_dir) or Path(previous.socket_dir) == self.data_dir:
            Path(previous.socket_dir, f".s.PGSQL.{previous.port}.lock").unlink(missing_ok=True)

    def _socket_dir(self, previous: Postmaster | None) -> str:
        """The data directory, or a private temporary one where clients could not use that path."""
        path = str(self.data_dir)
        fits = len(os.fsencode(path)) + len("/.s.PGSQL.5432") <= _SOCKET_LIMIT
        if sys.platform == "win32" or USE_TCP or (fits and "," not in path and path.isprintable()):
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
        return run_program(self._binaries / program, *arguments, data_dir=self.data_dir, account=self._account)

    def _failure(self, what: str, output: str) -> EmbeddedDatabaseError | StorageFullError:
        line = telling_line(output)
        _logger.debug("PostgreSQL in %s %s: %s", self.data_dir, what, output)
        full = re.search("No space left on device|Disk quota exceeded", output) and "shared memory" not in line
        if full or shutil.disk_usage(self.data_dir).free < _WAL_SEGMENT:
            return StorageFullError(full_disk(self.data_dir, line))
        advice = f"look into {self.log}" if self.log.exists() else "remove the cause and try again"
        return EmbeddedDatabaseError(f"The PostgreSQL in {self.data_dir} {what} ({line}): {advice}.")


def _is_ours(socket_dir: str) -> bool:
    """Whether a socket directory is one of the temporary ones made here."""
    return Path(socket_dir).name.startswith(_SOCKET_PREFIX)
