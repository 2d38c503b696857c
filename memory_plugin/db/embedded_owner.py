"""The user who runs the server, and the permissions that user needs on the way to data and binaries."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path

from memory_plugin.errors import EmbeddedDatabaseError

__all__ = ["account_for", "let_through", "make_readable"]

_ACCOUNT = "pgserver"


def account_for(data_dir: Path) -> tuple[int, int] | None:
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


def let_through(path: Path, uid: int, gid: int) -> None:
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


def make_readable(binaries: Path) -> None:
    """Let everybody read and run PostgreSQL where root installed it for itself alone (umask 077)."""
    if (binaries / "postgres").stat().st_mode & 0o005 == 0o005:
        return
    root = binaries.parent
    for path in (root, *root.rglob("*")):
        found = path.lstat()
        if found.st_uid == 0 and not stat.S_ISLNK(found.st_mode):
            path.chmod(stat.S_IMODE(found.st_mode) | 0o004 | (0o001 if found.st_mode & 0o100 else 0))
