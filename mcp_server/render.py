"""From stored text to an answer: harmless, fenced, within its budget, the same in text and in JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent
from pydantic_core import to_json

from mcp_server.results import Answer
from memory_plugin.fencing import FENCE, one_line

A = TypeVar("A", bound=Answer)

BYTES_PER_TOKEN = 4
"""How much of an answer counts as a token; bytes, so that scripts with dense tokens get less text."""

DEFAULT_TOKENS = 1500
SMALLEST_BUDGET = 400
LARGEST_BUDGET = 25_000

_ENVELOPE = 550
"""Bytes kept free for what the protocol adds to a result: its type, its flags, the server's name and icon."""

_SHORTEST_TEXT = 80
"""Characters below which an entry is left out rather than cut further."""

_PLAIN = re.compile(r"[\w.:/#@+=-]+\Z")


def label(text: str | None, characters: int = 200) -> str | None:
    """Stored text that stands beside other text, such as a title: harmless, on one line, not long."""
    if not text:
        return None
    return one_line(text, characters)


def date(at: datetime | None) -> str | None:
    """A time as answers show it: ISO 8601 in UTC, to the second."""
    return at.astimezone(UTC).isoformat()[:19] + "Z" if at is not None else None


def facts(answer: Answer) -> dict[str, Any]:
    """The answer as JSON data, without what is not known."""
    return answer.model_dump(mode="json", exclude_none=True)


def as_text(answer: Answer) -> str:
    """The same facts for clients that show only text, stored text fenced and marked line by line.

    No line of stored text can pass for a line of ours: each starts with `> `, ours never do.
    """
    return _text_of(facts(answer))


def _text_of(data: Mapping[str, Any]) -> str:
    lines = [data["notice"]]
    stored = [name for name, value in data.items() if _is_stored(name, value)]
    plain = {name: value for name, value in data.items() if name not in stored and name != "notice"}
    if plain:
        lines.append(_line(plain))
    if any(data[name] for name in stored):
        lines.append(f"<{FENCE}>")
        for name in stored:
            lines.extend(_stored_lines(data[name]))
        lines.append(f"</{FENCE}>")
    return "\n".join(lines)


def _is_stored(name: str, value: object) -> bool:
    return name in {"text", "content"} or isinstance(value, list)


def _stored_lines(value: str | Sequence[Mapping[str, Any]]) -> list[str]:
    if isinstance(value, str):
        return _quoted(value)
    lines: list[str] = []
    for number, entry in enumerate(value, start=1):
        about = {name: fact for name, fact in entry.items() if name != "text"}
        lines.append(f"[{number}] {_line(about)}")
        lines.extend(_quoted(entry.get("text", "")))
    return lines


def _quoted(text: str) -> list[str]:
    return [f"> {line}" for line in text.split("\n")] if text else []


def _line(values: Mapping[str, Any]) -> str:
    return " | ".join(f"{name}: {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.match(value):
        return value
    return to_json(value).decode()


class _Shape(NamedTuple):
    """An answer as it is sent."""

    answer: Answer
    data: dict[str, Any]
    text: str


_latest: _Shape | None = None
"""That of the answer that was measured last: nearly always it fits, and is sent next."""


def _shaped(answer: Answer) -> _Shape:
    known = _latest
    if known is not None and known.answer is answer:
        return known
    data = facts(answer)
    return _Shape(answer, data, _text_of(data))


def result(answer: Answer) -> CallToolResult:
    """The answer of a tool, complete in its text and complete in its structured content."""
    global _latest  # noqa: PLW0603 - one answer after the other is made, on one event loop
    shape = _shaped(answer)
    _latest = None
    return CallToolResult(content=[TextContent(type="text", text=shape.text)], structured_content=shape.data)


def size(answer: Answer) -> int:
    """Bytes of the whole result on the wire, text and structured content together."""
    global _latest  # noqa: PLW0603
    _latest = shape = _shaped(answer)
    return len(to_json(shape.text)) + len(to_json(shape.data)) + _ENVELOPE


def fit(build: Callable[[int, int], A], *, count: int, longest: int, max_tokens: int) -> A:
    """The fullest answer within the budget.

    Args:
        build: makes the answer with at most so many entries of at most so many characters.
        count: entries there are.
        longest: characters of the longest one.
        max_tokens: budget of the whole result, see `BYTES_PER_TOKEN`.

    Texts are shortened evenly first, short ones stay whole; then entries are left out.

    Raises:
        ToolError: it would not fit even without any text.
    """
    budget = max_tokens * BYTES_PER_TOKEN
    longest = min(longest, budget)

    def fits(entries: int, characters: int) -> bool:
        return size(build(entries, characters)) <= budget

    answer = build(count, longest)
    if size(answer) <= budget:
        return answer
    count = _largest(0, count, lambda entries: fits(entries, _SHORTEST_TEXT))
    # a text that is cut says so, which makes a short one longer: what is known to fit is where to start from
    least = min(_SHORTEST_TEXT, longest) if count else 0
    answer = build(count, _largest(least, longest, lambda characters: fits(count, characters)))
    if size(answer) > budget:
        raise ToolError(f"The answer does not fit into max_tokens={max_tokens} even without its text: allow more.")
    return answer


def _largest(low: int, high: int, good: Callable[[int], bool]) -> int:
    """The largest number that is good, where everything below a good one is good; `low` if none is."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if good(middle) else (low, middle - 1)
    return low
