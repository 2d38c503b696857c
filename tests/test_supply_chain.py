"""Every pinned package has a known licence, the bill of materials is whole, and neither names a machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.supply_chain import ONLY_DEVELOPMENT, REFUSED, ROOT, licence_of, pins, rows, uses, write_bill


def test_every_pinned_package_is_on_the_page_and_no_other() -> None:
    assert sorted(rows()) == sorted(pins()), "run `make licences`"


def test_the_page_says_what_the_installed_packages_say() -> None:
    said = {name: licence for name in pins() if (licence := licence_of(name)) is not None}
    assert len(said) > 100
    assert {name: rows()[name][0] for name in said} == said, "run `make licences`"


def test_no_licence_binds_who_uses_the_library() -> None:
    assert {name: licence for name, (licence, _) in rows().items() if REFUSED.search(licence)} == {}
    bound = {
        name for name, (licence, use) in rows().items() if ONLY_DEVELOPMENT.search(licence) and use != "development"
    }
    assert bound == set()


def test_what_the_library_always_needs_is_marked_so() -> None:
    assert {name for name, use in uses().items() if use == "always"} >= {"asyncpg", "sqlalchemy", "pydantic", "mcp"}
    assert rows()["pytest"][1] == "development"


def test_the_bill_of_materials_has_every_pin_and_no_path(tmp_path: Path) -> None:
    write_bill(tmp_path / "sbom.json")
    text = (tmp_path / "sbom.json").read_text("utf-8")
    bill = json.loads(text)
    assert bill["bomFormat"] == "CycloneDX"
    assert {
        each["name"].lower().replace("_", "-").replace(".", "-"): each["version"] for each in bill["components"]
    } == {name.replace(".", "-"): version for name, version in pins().items()}
    assert all(each["purl"].startswith("pkg:pypi/") and each["licenses"] for each in bill["components"])
    assert not re.search(rf"{re.escape(str(ROOT))}|file://|/tmp/|/home/|/{'root'}/", text)


def test_the_policy_says_how_to_report() -> None:
    policy = (ROOT / "SECURITY.md").read_text("utf-8")
    for heading in (
        "## Reporting",
        "## Who may do what",
        "## What is promised",
        "## What is not promised",
        "## What an operator must do",
    ):
        assert heading in policy
