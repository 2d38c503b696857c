"""The demo: an agent that remembers, step by step, and every claim checked.

`memory-plugin demo`, or `python -m memory_plugin.demo`. It talks to a real PostgreSQL, kills a real process and
calls a real MCP server; only the model is made of rules, unless a key for a hosted one is in the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["DEFAULT_DIRECTORY", "run"]

DEFAULT_DIRECTORY = Path(".demo")
"""Where the demo keeps its database, documents and logs, from the current folder."""


def run(*, data_dir: Path | None, url: str | None, keep: bool, console: Console) -> int:
    """Play the demo and give the exit code: 0 when every claim held, 1 when one did not, 130 after Ctrl-C.

    It can be run again in the same place: each run is another user with other threads, and the
    documents that are there already are not read again.

    Args:
        data_dir: the demo's directory; None takes `.demo` in the current folder. What the
            environment says about databases is left alone.
        url: `postgresql://` URL of a server to use instead of the embedded one; the demo makes
            a tenant of its own there, and erases it at the end.
        keep: keep the database to look inside: the embedded one stays up until Ctrl-C (on a
            terminal), and on a server of yours the rows stay.
        console: where it is shown.
    """
    from memory_plugin.demo.scenes import play
    from memory_plugin.demo.stage import Options

    return play(Options((data_dir or DEFAULT_DIRECTORY).absolute(), url, keep), console)
