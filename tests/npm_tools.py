"""Node programs that check the MCP server from outside: the protocol's conformance suite and the Inspector.

`python -m tests.npm_tools`, which is `make conformance`, installs them into the virtual environment and runs the
tests that need them. A machine without npm is told so and skips them; with npm, every failure is one.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

CONFORMANCE = "@modelcontextprotocol/conformance"
INSPECTOR = "@modelcontextprotocol/inspector"
PACKAGES = {CONFORMANCE: "0.2.0-alpha.12", INSPECTOR: "2.12.0"}

OLDEST_NODE = (22, 19)
NODE = "24.21.0"
"""Installed beside them where the machine's own Node is older than they need."""

FOLDER = Path(sys.prefix) / "npm"
MODULES = FOLDER / "node_modules"
COMMANDS = MODULES / ".bin"

ROOT = Path(__file__).parent.parent
TESTS = ("tests/test_mcp_conformance.py", "tests/test_mcp_inspector.py")


def node() -> str:
    """The Node to run them with."""
    own = MODULES / _node_package() / "bin" / "node"
    return str(own) if own.exists() else "node"


def environment(home: Path) -> dict[str, str]:
    """The environment for a Node program: it finds its Node, and writes to nobody's home."""
    path = os.pathsep.join([str(Path(node()).parent), os.environ["PATH"]]) if node() != "node" else os.environ["PATH"]
    return {**os.environ, "PATH": path, "HOME": str(home), "NO_COLOR": "1"}


def _node_package() -> str:
    system = {"win32": "win"}.get(sys.platform, sys.platform)
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine())
    return f"node-bin-{system}-{machine}" if (system, machine) == ("darwin", "arm64") else f"node-{system}-{machine}"


def _is_new_enough() -> bool:
    if shutil.which("node") is None:
        return False
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)\.(\d+)", said)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST_NODE


def _install(npm: str) -> int:
    wanted = dict(PACKAGES) if _is_new_enough() else {**PACKAGES, _node_package(): NODE}
    listed = "\n".join(f"{name}@{version}" for name, version in wanted.items())
    stamp = FOLDER / "installed.txt"
    if stamp.exists() and stamp.read_text() == listed:
        return 0
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    print(f"Installing into {FOLDER}:\n{listed}", flush=True)
    # no scripts of packages run, and no lock file keeps where they came from
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--no-package-lock", "--loglevel=error"]
    done = subprocess.run([npm, "install", *quiet, "--prefix", str(FOLDER), *listed.split("\n")], check=False)
    if done.returncode == 0:
        stamp.write_text(listed)
    else:
        print("npm could not install them: see above. The MCP server was not checked from outside.", file=sys.stderr)
    return done.returncode


def main() -> int:
    """Install what is needed, run the tests, and give the exit code."""
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed: the conformance suite and the Inspector are skipped. Install Node.js to run them.")
        return 0
    failed = _install(npm)
    return (
        failed
        or subprocess.run([sys.executable, "-m", "pytest", "-m", "npm", *TESTS], cwd=ROOT, check=False).returncode
    )


if __name__ == "__main__":
    sys.exit(main())
