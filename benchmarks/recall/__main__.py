"""The same as `memory-plugin eval`, from a checkout: `python -m benchmarks.recall PATH...`."""

from __future__ import annotations

import sys

from memory_plugin.cli import main

if __name__ == "__main__":
    main(["eval", *sys.argv[1:]])
