"""Build the wheel, install it in an empty environment, and run the demo's core from there.

Run by `make wheel`. It proves that what a user installs is whole: the migrations, the type
marker, the scripts and the demo's own data are in the wheel, and nothing is taken from the
checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
import pathlib, sys
import memory_plugin
from memory_plugin import Memory
from memory_plugin.db.migrate import migrations_path

home = pathlib.Path(sys.prefix).resolve()
for path in (pathlib.Path(memory_plugin.__file__), migrations_path()):
    assert home in path.resolve().parents, f"{path} is not in the new environment"
with Memory.open() as memory:
    assert memory.remember("The wheel carries its migrations", user_id="u").status == "created"
    assert memory.indexed(30)
    assert memory.recall("what does the wheel carry?", user_id="u")[0].kind == "memory"
    memory.history("t").add_user_message("hello")
    assert memory.recall("hello", thread_id="t")[0].kind == "message"
    print("opened", memory.embedder.name)
"""


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command to its end and give what it printed; its errors are shown."""
    print("$", " ".join(str(part) for part in command[:6]), flush=True)
    done = subprocess.run(
        [str(part) for part in command], env=env, cwd=cwd, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"failed with {done.returncode}:\n{done.stdout}")
    return done.stdout


def main() -> None:
    """Build, look inside, install, run."""
    with tempfile.TemporaryDirectory(prefix="memory-plugin-wheel-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", place / "dist", ROOT)
        (wheel,) = (place / "dist").glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        for wanted in ("memory_plugin/_migrations/env.py", "memory_plugin/py.typed", "mcp_server/__main__.py"):
            assert wanted in names, f"{wanted} is missing from the wheel"
        assert not any(name.startswith(("migrations/", "tests/")) for name in names), "top-level strays in the wheel"

        run(sys.executable, "-m", "venv", place / "venv")
        python = place / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        run(
            python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "-c", ROOT / "constraints.txt", f"{wheel}[embedded,documents,langchain]",
        )  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MEMORY_", "PYTHON"))}
        environment["MEMORY_DATA_DIR"] = str(place / "data")
        print(run(python, "-c", PROGRAM, env=environment, cwd=place), end="")
        print(run(python, "-m", "memory_plugin.cli", "--version", env=environment, cwd=place), end="")
        demo = run(python, "-m", "memory_plugin.demo", env=environment, cwd=place)
        print(demo[-1500:])
    print("the wheel is whole")


if __name__ == "__main__":
    main()
