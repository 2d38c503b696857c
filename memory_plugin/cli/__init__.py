"""The command line, `memory-plugin`: every command, as text for people and as JSON for programs.

Nothing heavy is imported until a command runs: `--help` and `--version` answer at once.
"""

from __future__ import annotations

from memory_plugin.cli.app import app, main

__all__ = ["app", "main"]
