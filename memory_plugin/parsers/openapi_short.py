"""Operations and schemas too long for one chunk, said shortly in one: names and types, no remarks.

What is searched for is nearly always what an operation does and what it takes, and that stands in this
one passage; what each field means follows in passages of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from memory_plugin.chunking import count_tokens
from memory_plugin.parsers.openapi_schema import Fields, one_line, short

_FIRST_SENTENCES = re.compile(r".{40,}?[.!?](?=\s|$)")
_NAME = re.compile(r"- (?P<name>.+?) \((?P<about>.*?)\)(?=: |$)")
# characters of the description, and whether types are said, from the fullest on
_SHAPES = ((400, True), (160, True), (160, False))
_FEWEST = 8
_SHORT_ENOUGH = 60
_PARAMETER = re.compile(r"\{[^{}]*\}|:\w+|<[^<>]*>")
_VERBS = {
    "GET": "retrieve",
    "PUT": "replace",
    "PATCH": "update",
    "DELETE": "delete",
    "HEAD": "check",
    "QUERY": "search",
}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NO_PLURAL = re.compile(r"(?:ss|us|is)$")


class Listing:
    """Names under a head, in one line."""

    def __init__(self, head: str, lines: Sequence[str]) -> None:
        self.head = head
        self.items = [(match["name"], match["about"]) for line in lines if (match := _NAME.match(line))]

    def line(self, typed: bool, most: int | None) -> str:
        """The names, with their types or without, all or so many."""
        shown = self.items if most is None else self.items[:most]
        names = [f"{name} ({about})" if typed and about else name for name, about in shown]
        more = len(self.items) - len(shown)
        return f"{self.head} {', '.join(names)}{f' and {more} more' if more else ''}"


def shortened(
    first: Sequence[str], description: str, listings: Sequence[Listing], last: Sequence[str], room: int
) -> str:
    """One text of at most `room` tokens: what stands first, a description cut at sentences, the names, the rest.

    What is still too long loses names from the end of the longest lists.
    """
    text = ""
    for characters, typed in _SHAPES:
        text = _joined(first, description, characters, [each.line(typed, None) for each in listings], last)
        if count_tokens(text) <= room:
            return text
    most = max((len(each.items) for each in listings), default=0)
    while most > _FEWEST and count_tokens(text) > room:
        most = max(_FEWEST, most * 3 // 4)
        text = _joined(first, description, 160, [each.line(False, most) for each in listings], last)
    return text


def _joined(first: Sequence[str], description: str, characters: int, lists: Sequence[str], last: Sequence[str]) -> str:
    said = sentences(description, characters)
    return "\n".join(line for line in (*first, said, *lists, *last) if line)


def sentences(text: str, characters: int) -> str:
    """The first sentences of a text, as many as fit; at least the beginning of the first one."""
    line = one_line(text)
    if len(line) <= characters:
        return line
    end = 0
    for match in _FIRST_SENTENCES.finditer(line, 0, characters + 1):  # what is further on is never taken
        if match.end() > characters:
            break
        end = match.end()
    return line[:end] if end else line[: characters - 1].rstrip() + "…"


def short_schema(head: str, schema: Any, description: str, fields: Fields, room: int) -> str:
    """A schema in one text of at most `room` tokens."""
    return shortened([head], description, [Listing("Fields:", top_level(fields, schema))], [], room)


def top_level(fields: Fields, schema: Any) -> list[str]:
    """The lines of a schema's own fields, without what is nested in them."""
    return [line for line in fields.lines(schema, follow=1, detail="names") if line.startswith("- ")]


def short_responses(responses: Mapping[str, Any], types: Mapping[str, str]) -> str:
    """The answers in one line: `200 (Refund), default (Error)`."""
    said = [f"{short(status)} ({types[status]})" if types.get(status) else short(status) for status in responses]
    return f"Responses: {', '.join(said[:12])}" if said else ""


def purpose(head: str, description: object) -> str:
    """What an operation without a summary does: a short description says so itself, else its method and path."""
    said = one_line(description)
    if said and len(said) <= _SHORT_ENOUGH:
        return said
    *_, method, path = head.split(" ") if head.count(" ") else ("", "", head)
    custom = by_custom(method, path)
    return custom[:1].upper() + custom[1:]


def by_custom(method: str, path: str) -> str:
    """What REST's customs tell of an operation: "create refund" of POST /v1/refunds.

    On a collection POST creates and GET lists; on one thing POST updates; what follows a thing is an
    action on it, or belongs to it.
    """
    parts = [part for part in path.split("/") if part]
    names = [part for part in parts if not _PARAMETER.search(part)]
    if not names or not path.startswith("/"):
        return ""
    last = _spoken(names[-1])
    one, verb = _singular(last), _VERBS.get(method, method.lower())
    if _PARAMETER.search(parts[-1]):
        return f"{'update' if method == 'POST' else verb} {one}"
    owned = len(names) > 1 and _PARAMETER.search(parts[-2]) is not None
    owner = _singular(_spoken(names[-2])) if owned else ""
    if last == one:  # no collection: an action, or the one thing of its kind
        return f"{last} {owner}".strip() if method == "POST" else f"{verb} {owner} {last}".replace("  ", " ")
    verb = {"POST": "create", "GET": "list"}.get(method, verb)
    return f"{verb} {one if method == 'POST' else last}{f' of {owner}' if owner else ''}"


def _spoken(segment: str) -> str:
    """`payment methods` of `payment_methods` or `paymentMethods`."""
    return " ".join(word.lower() for word in _WORDS.findall(segment))


def _singular(words: str) -> str:
    if words.endswith("ies"):
        return words[:-3] + "y"
    if words.endswith(("sses", "xes", "ches", "shes")):
        return words[:-2]
    return words[:-1] if words.endswith("s") and not _NO_PLURAL.search(words) else words
