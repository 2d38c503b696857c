"""What the doctor has looked at, how it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force: the variable that can set it, its value fit to be shown, who set it."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, and what to do about it."""

    name: str
    status: Status
    detail: str
    advice: str | None = None


@dataclass(slots=True)
class Diagnosis:
    """All that was found; `rows` counts the tenant's rows by table, up to MOST_COUNTED."""

    settings: list[Setting] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is an error."""
        return all(check.status != "error" for check in self.checks)

    def add(self, name: str, status: Status, detail: str, advice: str | None = None) -> None:
        """Note one thing that was looked at."""
        self.checks.append(Check(name, status, detail, advice))


def in_bytes(number: float) -> str:
    """A size as a person reads it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:,.0f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"
