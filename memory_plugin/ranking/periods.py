"""The times that a question names, as spans of time.

Where an expression of time stands is told by a pattern; what it means is dateparser's affair, which
is loaded the first time that a question has one (half a second, in a worker thread).
"""

from __future__ import annotations

import asyncio
import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

AFTERWARDS: Final = timedelta(days=7)
"""What happened is often told a few days later."""

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December|"
    r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.?"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_YEAR = r"(?:19|20)\d\d"
_UNIT = r"(?:day|week|month|year)s?"
_COUNT = r"(?:\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
_WEEKDAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
# a month or a year by itself only after a preposition: "May" and "March" are other words too
_BEFORE = r"(?:in|by|of|during|through|since|until|before|after|around|last|this|early|late)"
_DATED = re.compile(
    rf"\b(?:{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+{_YEAR})?|{_MONTH}\s+{_DAY}(?!\d)(?:,?\s+{_YEAR})?|{_MONTH},?\s+{_YEAR}|"
    rf"{_YEAR}-\d\d-\d\d|{_BEFORE}\s+(?P<bare>(?:{_MONTH}|{_YEAR})(?!-|,?\s+\d)))(?!\w)"
)
_RELATIVE = re.compile(
    rf"\b(?:yesterday|today|last\s+(?:week|month|year|{_WEEKDAY})|this\s+(?:week|month|year)|{_COUNT}\s+{_UNIT}\s+ago)\b",
    re.IGNORECASE,
)
_HAS_YEAR = re.compile(_YEAR)


@dataclass(frozen=True, slots=True)
class Period:
    """A span of time, its end not in it; `every_year` where the question names no year."""

    start: datetime
    end: datetime
    every_year: bool = False

    def nearness(self, at: datetime) -> float:
        """1 within the period, one half in the week after it, else 0."""
        start, end = self.start, self.end
        if self.every_year:
            # the latest such period that had begun by then
            years = at.year - start.year
            start, end = _moved(start, years), _moved(end, years)
            if start > at:
                start, end = _moved(start, -1), _moved(end, -1)
        if start <= at < end:
            return 1.0
        return 0.5 if end <= at < end + AFTERWARDS else 0.0


def names_time(text: str) -> bool:
    """Whether there is an expression of time in it, by the look of it."""
    head = text[:2000]
    return _DATED.search(head) is not None or _RELATIVE.search(head) is not None


async def periods_of(text: str, now: datetime) -> tuple[Period, ...]:
    """The periods that a question names; relative ones are counted from `now`."""
    if not names_time(text):
        return ()
    if not _parser.cache_info().currsize:
        return await asyncio.to_thread(_periods, text[:2000], now)
    return _periods(text[:2000], now)


def _periods(text: str, now: datetime) -> tuple[Period, ...]:
    found: list[Period] = []
    for match in list(_DATED.finditer(text))[:8]:
        expression = match["bare"] or match[0]
        period = _period(expression, now, every_year=_HAS_YEAR.search(expression) is None)
        found += [period] if period is not None else []
    for match in list(_RELATIVE.finditer(text))[:8]:
        period = _period(match[0], now, every_year=False)
        found += [period] if period is not None else []
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=16)
def _parser(day: datetime) -> Any:
    """A parser for which it is that day; the data of the language are loaded by the first use."""
    from dateparser.date import DateDataParser

    return DateDataParser(languages=["en"], settings={"PREFER_DATES_FROM": "past", "RELATIVE_BASE": day})


def _period(expression: str, now: datetime, *, every_year: bool) -> Period | None:
    day = now.astimezone(UTC).replace(hour=12, minute=0, second=0, microsecond=0, tzinfo=None)
    data = _parser(day).get_date_data(expression)
    if data.date_obj is None:
        return None
    day = data.date_obj.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    match data.period:
        case "year":
            return Period(day.replace(month=1, day=1), day.replace(year=day.year + 1, month=1, day=1))
        case "month":
            first = day.replace(day=1)
            return Period(first, first + timedelta(days=calendar.monthrange(first.year, first.month)[1]), every_year)
        case "week":
            monday = day - timedelta(days=day.weekday())
            return Period(monday, monday + timedelta(days=7))
        case _:
            return Period(day, day + timedelta(days=1), every_year)


def _moved(at: datetime, years: int) -> datetime:
    try:
        return at.replace(year=at.year + years)
    except ValueError:  # 29 February, or a year that is none
        return at.replace(day=28, year=max(1, min(9999, at.year + years)))
