"""Look for input that breaks a promise: `python -m tests.fuzz TARGET --seconds 60`; needs atheris."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Fuzz one target, or all of them one after the other in processes of their own."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", help="one of them; all where none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    asked = parser.parse_args()
    if asked.target is None:
        _all(asked.seconds)
        return
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is missing: run `pip install atheris` (Linux and macOS).")
    from tests.fuzz.readers import READERS

    if asked.target not in READERS:
        sys.exit(f"There is no target {asked.target!r}: name one of {', '.join(READERS)}.")
    with atheris.instrument_imports(include=READERS[asked.target]):
        from tests.fuzz.targets import CORPUS, LONGEST, TARGETS, seeds

        for seed in seeds(asked.target):  # what is imported on the way is followed too
            TARGETS[asked.target](seed)
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as grown:
        options = [f"-max_total_time={asked.seconds}", f"-max_len={LONGEST}", "-timeout=20", "-rss_limit_mb=3000"]
        options += [f"-artifact_prefix={Path.cwd()}/fuzz-{asked.target}-"]
        atheris.Setup([sys.argv[0], *options, grown, str(CORPUS / asked.target)], TARGETS[asked.target])
        atheris.Fuzz()


def _all(seconds: int) -> None:
    import subprocess

    from tests.fuzz.readers import READERS

    codes = {
        name: subprocess.run(
            [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(seconds)], check=False
        ).returncode
        for name in READERS
    }
    broken = [name for name, code in codes.items() if code]
    sys.exit(f"Broken: {', '.join(broken)}; the input is in fuzz-TARGET-..." if broken else 0)


if __name__ == "__main__":
    main()
