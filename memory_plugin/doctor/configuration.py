"""The settings: which are in force, who set them, and what looks like one and is none."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from memory_plugin.db.urls import hide_secrets
from memory_plugin.doctor.findings import Diagnosis, Setting

if TYPE_CHECKING:
    from memory_plugin.settings import Settings

_PREFIX = "MEMORY_"
_OTHER_VARIABLES = ("MEMORY_MCP_", "MEMORY_DEMO_")
"""Beginnings of variables that belong to the server and to the demo."""


def read_settings(settings: Settings, given: Mapping[str, str]) -> list[Setting]:
    """Every setting with its value and where that is from; passwords are hidden."""
    return [
        Setting(_variable(name), shown(value), _source(name, settings, given))
        for name, value in ((name, getattr(settings, name)) for name in type(settings).model_fields)
    ]


def shown(value: object) -> str:
    """A value of the settings fit to be shown."""
    from pydantic import SecretStr

    if value is None:
        return "-"
    if isinstance(value, SecretStr):
        return hide_secrets(value.get_secret_value())
    return str(value)


def _variable(name: str) -> str:
    from memory_plugin.settings import Settings

    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"{_PREFIX}{name.upper()}"


def _source(name: str, settings: Settings, given: Mapping[str, str]) -> str:
    if name in given:
        return given[name]
    if name == "database_url" and "data_dir" in given:
        return given["data_dir"]  # it asks for the embedded database
    return "environment" if name in settings.model_fields_set else "default"


def check_variables(found: Diagnosis) -> None:
    """What begins as our variables do and is none of them is a mistake in writing."""
    known = {setting.name for setting in found.settings}
    unknown = [
        name
        for name in sorted(os.environ)
        if name.upper().startswith(_PREFIX)
        and name.upper() not in known
        and not name.upper().startswith(_OTHER_VARIABLES)
    ]
    for name in unknown:
        near = difflib.get_close_matches(name.upper(), known, 1)
        found.add(
            "settings",
            "warning",
            f"{name} is not a setting and has no effect.",
            f"Did you mean {near[0]}?" if near else "Unset it, or look the name up above.",
        )
    if not unknown:
        by_hand = sum(setting.source != "default" for setting in found.settings)
        found.add("settings", "ok", f"{by_hand} of {len(found.settings)} set, the others are the defaults")
