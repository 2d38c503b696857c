"""Other people's programs that use the MCP server: the conformance suite, the Inspector, LangChain's clients.

`python -m tests.outside_tools`, which is `make conformance`, installs them below the virtual environment and runs the
tests that need them. A machine without npm is told so and skips what comes from there; all else that fails is a
failure.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

CONFORMANCE = "@modelcontextprotocol/conformance"
INSPECTOR = "@modelcontextprotocol/inspector"
BUNDLES = "@anthropic-ai/mcpb"
PACKAGES = {CONFORMANCE: "0.2.0-alpha.12", INSPECTOR: "2.12.0", BUNDLES: "2.1.2"}

OLDEST_NODE = (22, 19)
NODE = "24.21.0"
"""Installed beside them where the machine's own Node is older than they need."""

LANGCHAIN = {
    "adapters": ("langchain-mcp-adapters==0.3.2", "mcp==1.30.0", "httpx-sse==0.4.3"),
    "langchain": ("fastmcp-slim[client]==4.1.2", "mcp==2.3.0"),
}
"""LangChain's clients, and what each needs that is not installed for the project itself."""

ROOT = Path(__file__).parent.parent
FOLDER = Path(sys.prefix) / "outside"
MODULES = FOLDER / "node_modules"


def node() -> str:
    """The Node to run them with."""
    own = MODULES / _node_package() / "bin" / "node"
    return str(own) if own.exists() else "node"


def environment(home: Path) -> dict[str, str]:
    """The environment for a Node program: it finds its Node, and writes to nobody's home."""
    path = os.environ["PATH"] if node() == "node" else os.pathsep.join([str(Path(node()).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "HOME": str(home), "NO_COLOR": "1"}


def python_of(client: str) -> Path:
    """The interpreter of one of LangChain's clients."""
    return FOLDER / client / "bin" / "python"


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


def _once(what: str, wanted: list[str], command: list[str]) -> None:
    """Run what installs something, unless it did already; the stamp names what."""
    stamp = FOLDER / f"{what}.txt"
    listed = "\n".join(wanted)
    if stamp.exists() and stamp.read_text() == listed:
        return
    stamp.unlink(missing_ok=True)
    print(f"Installing into {FOLDER}:\n{listed}", flush=True)
    subprocess.run([*command, *wanted], check=True)
    stamp.write_text(listed)


def _install_from_npm(npm: str) -> None:
    wanted = dict(PACKAGES) if _is_new_enough() else {**PACKAGES, _node_package(): NODE}
    # no scripts of packages run, and no lock file keeps where they came from
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--no-package-lock", "--loglevel=error"]
    listed = [f"{name}@{version}" for name, version in wanted.items()]
    _once("npm", listed, [npm, "install", *quiet, "--prefix", str(FOLDER)])


def _install_langchain(client: str) -> None:
    """An environment that sees the project's packages behind its own."""
    folder = FOLDER / client
    if not python_of(client).exists():
        venv.create(folder, with_pip=False)
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        (packages / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    quiet = ["--quiet", "--disable-pip-version-check", "--no-warn-conflicts"]
    command = [sys.executable, "-m", "pip", "--python", str(python_of(client)), "install", *quiet]
    _once(client, list(LANGCHAIN[client]), command)


def main() -> int:
    """Install what is needed, run the tests, and give the exit code."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    tests = ["tests/test_mcp_langchain.py"]
    npm = shutil.which("npm")
    try:
        for client in LANGCHAIN:
            _install_langchain(client)
        if npm is not None:
            _install_from_npm(npm)
            tests += ["tests/test_mcp_bundle.py", "tests/test_mcp_conformance.py", "tests/test_mcp_inspector.py"]
    except subprocess.CalledProcessError as error:
        print(f"Not installed, so the MCP server was not checked: {error}", file=sys.stderr)
        return 1
    status = subprocess.run([sys.executable, "-m", "pytest", "-m", "outside", *tests], cwd=ROOT, check=False).returncode
    if npm is None:
        print("npm is not installed: the conformance suite and the Inspector were left out. Node.js brings it.")
    return status


if __name__ == "__main__":
    sys.exit(main())
