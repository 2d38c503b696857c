"""How long something is, as text: 30d, 12h, ISO 8601, or seconds."""

from __future__ import annotations

import re
from datetime import timedelta

_SHORT = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhdw]?)\Z", re.ASCII | re.IGNORECASE)
_ISO = re.compile(
    r"P(?=.)(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?=.)(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,6})?)S)?)?\Z",
    re.ASCII | re.IGNORECASE,
)
_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """The time that a text names: `90` or `90s`, `45m`, `12h`, `30d`, `2w`, `P30D`, `PT12H`.

    Raises:
        ValueError: it names none, or none above zero and up to 100 years.
    """
    span, bare = None, text.strip()
    if short := _SHORT.match(bare):
        span = timedelta(**{_UNITS[short[2].lower()]: float(short[1])})
    elif iso := _ISO.match(bare):
        weeks, days, hours, minutes, seconds = (float(part or 0) for part in iso.groups())
        span = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    if span is None:
        raise ValueError(f"{text!r} is not a time: write 90s, 45m, 12h, 30d, 2w, P30D or a number of seconds")
    if not timedelta(0) < span <= timedelta(days=36_500):
        raise ValueError(f"{text!r} is not a time above zero and up to 100 years")
    return span


def short(span: timedelta) -> str:
    """A time in the largest unit that gives a whole number: 30d, 12h, 90s."""
    seconds = span.total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"
