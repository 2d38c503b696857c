"""A MariaDB of the test run's own, from Debian's packages: in a folder of its own, on a socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pymysql

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
MARIADBD = shutil.which("mariadbd", path=_PATH)
INSTALL = shutil.which("mariadb-install-db", path=_PATH)
MISSING = "MariaDB is not installed: `apt-get install mariadb-server` runs these tests"


class MariaDB:
    """A running server; `stop` ends it."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "socket"
        common = [
            "--no-defaults",
            f"--datadir={folder / 'data'}",
            "--innodb-log-file-size=4M",
            "--innodb-buffer-pool-size=16M",
            "--innodb-flush-log-at-trx-commit=0",
        ]
        user = ["--user=root"] if os.getuid() == 0 else []
        subprocess.run(
            [str(INSTALL), *common, *user, "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True,
            capture_output=True,
        )
        self._process = subprocess.Popen(
            [
                str(MARIADBD),
                *common,
                *user,
                f"--socket={self.socket}",
                f"--pid-file={folder / 'pid'}",
                f"--log-error={folder / 'log'}",
                "--skip-networking",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait(folder / "log")

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self.run("SELECT 1")
            except pymysql.err.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.stop()
                    raise AssertionError(f"MariaDB did not start:\n{log.read_text() if log.exists() else ''}") from None
                time.sleep(0.05)
            else:
                return

    def run(self, *statements: str) -> None:
        """Run statements as the administrator."""
        connection = pymysql.connect(unix_socket=str(self.socket), user="root", autocommit=True)
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def url(self, driver: str, database: str) -> str:
        return f"{driver}://root@localhost/{database}?unix_socket={self.socket}&charset=utf8mb4"

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
