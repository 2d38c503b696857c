"""`python -m memory_plugin.demo`, the same as `memory-plugin demo`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from memory_plugin.demo import DEFAULT_DIRECTORY, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the demo with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m memory_plugin.demo", description="An agent that remembers.")
    parser.add_argument("--data-dir", type=Path, help=f"directory of the demo (default: {DEFAULT_DIRECTORY})")
    parser.add_argument("--url", help="postgresql:// URL of a server, instead of the embedded one")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the database to look inside: the embedded one stays up, elsewhere the rows stay",
    )
    given = parser.parse_args(arguments)
    return run(data_dir=given.data_dir, url=given.url, keep=given.keep, console=Console())


if __name__ == "__main__":
    sys.exit(main())
