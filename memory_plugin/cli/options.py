"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_args

import typer

from memory_plugin.types import HIT_KINDS, HitKind

User = Annotated[
    str | None, typer.Option("--user", metavar="ID", help="Whose it is.  [env: MEMORY_USER_ID]", show_default=False)
]
Thread = Annotated[str | None, typer.Option("--thread", metavar="ID", help="Of this conversation only.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, metavar="N", help="How many at the most.")]
Cursor = Annotated[
    str | None, typer.Option("--cursor", metavar="TEXT", help="Where the page before ended: it says so.")
]
Collection = Annotated[str | None, typer.Option("--collection", metavar="NAME", help="Of this collection only.")]
Explain = Annotated[bool, typer.Option("--explain", help="Show what each score is made of.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def examples(*lines: str) -> str:
    """The end of a command's help: commands to copy, one a line."""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  {line}" for line in lines)])  # after \\b lines are not joined


_AGO = re.compile(r"(\d{1,6})([mhdw])\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str | None, option: str) -> datetime | None:
    """A date, a time, or how long ago: 2026-03-01, 2026-03-01T09:30+01:00, 90m, 12h, 7d, 2w.

    A time without a zone is one of this machine's zone.

    Raises:
        typer.BadParameter: it is none of these.
    """
    if text is None:
        return None
    try:
        if ago := _AGO.match(text.strip()):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        message = f"{text!r} is not a date, a time or a span: use 2026-03-01, 2026-03-01T09:30 or 7d."
        raise typer.BadParameter(message, param_hint=option) from None


def metadata(pairs: Sequence[str] | None, option: str = "--metadata") -> dict[str, Any] | None:
    """`name=value` pairs as a mapping; numbers, true, false, null and JSON structures are taken as such.

    Args:
        option: the pairs were given with, to be named where one is wrong.

    Raises:
        typer.BadParameter: one has no name or no equals sign.
    """
    if not pairs:
        return None
    values = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name.strip():
            raise typer.BadParameter(f"{pair!r} is not of the form name=value.", param_hint=option)
        values[name.strip()] = _value(value)
    return values


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> Any:
    raise ValueError(constant)  # NaN and Infinity are words here, not numbers


def one_of(word: str | None, choices: Any, option: str) -> Any:
    """The word, when it is one of the values of a Literal; None where none was given.

    Raises:
        typer.BadParameter: it is none of them.
    """
    if word is not None and word not in get_args(choices):
        raise typer.BadParameter(f"{word!r} is none of {', '.join(get_args(choices))}.", param_hint=option)
    return word


def kinds(names: Sequence[str] | None) -> tuple[HitKind, ...]:
    """Which kinds to look for, all when none is named.

    Raises:
        typer.BadParameter: there is no such kind.
    """
    for name in names or ():
        if name not in HIT_KINDS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(HIT_KINDS)}.", param_hint="--kind")
    return tuple(kind for kind in HIT_KINDS if kind in names) if names else HIT_KINDS
