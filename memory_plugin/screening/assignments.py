"""Credentials that are known by what stands before them: `password: ...`, `API_KEY=...`, `Bearer ...`.

A name alone says little ("the password is stored in the vault"), so what follows must look like a value.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from memory_plugin.screening.tokens import entropy

_HINTS = ("pass", "pwd", "mot de", "contrase", "secret", "token", "key", "pin", "credential", "bearer", "basic")
"""One of these is in every text that the patterns below fit; looking for them is all that most texts cost."""

_PASSWORDS = r"pass(?:word|wort|wd|phrase|code)|pwd|mot[ ]de[ ]passe|contrase(?:ñ|n)a"
_KEYS = (
    r"(?:client|app|shared|webhook|signing)[ _-]?secret|secret(?:[ _-]?access)?[ _-]?key|secret"
    r"|(?:api|access|auth|private|encryption|signing|account|licen[cs]e|recovery|ssh|master)[ _-]?(?:key|token|code)"
    r"|token|credentials?"
)
_ASSIGNED = re.compile(
    rf"""(?:(?P<password>{_PASSWORDS})|(?<![a-z])(?P<key>{_KEYS})|(?<![A-Za-z])(?P<pin>(?-i:PIN)))
    (?:[ ](?:for|of|to|on|at)[ ][^\n.:=]{{1,60}}?)?
    ["'`\])*]{{0,3}}[ \t]{{0,4}}
    (?:(?P<sign>:=|=>|==?|:)\**[ \t]{{0,4}}|[ \t](?P<verb>is|was|ist|est|es)(?:[ \t]now)?[ \t:]{{1,3}})
    (?:(?P<quote>["'`])(?P<quoted>[^"'`\n]{{4,200}})(?P=quote)|(?P<plain>[^\s"'`<>]{{4,300}}))""",
    re.IGNORECASE | re.VERBOSE,
)
_HEADER = re.compile(
    r"(?<![A-Za-z])(?:bearer[ \t]{1,3}(?P<bearer>[A-Za-z0-9._~+/-]{16,2000}={0,2})"
    r"|authorization[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?basic[ \t]{1,3}(?P<basic>[A-Za-z0-9+/]{8,400}={0,2}))",
    re.IGNORECASE,
)
_CONNECTION = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]{1,30}+://[^\s:/@\"'<>]{0,64}+:(?P<password>[^\s/@\"'<>]{1,256}+)@[^\s\"'<>]{1,512}"
)

_PLACEHOLDER = re.compile(
    r"""(?:[*x•.\-_\#?X]{3,}|[$%{\[<(].*|.*[}>%]|(?:your|my|our|some|the|an?|example|insert|put)[_-].*|.*[_-]here
    |change[_-]?me|redacted|placeholder|(?:os\.|process\.|self\.|settings\.|config|env|getenv|get_|read_|input\().*
    |[\w.]+[(\[].*|(?=[a-z_]*\Z).*?(?:password|passwd|passphrase).*)\Z""",
    re.IGNORECASE | re.VERBOSE,
)
_NO_SECRET = re.compile(r"(?:\d{1,4}[-/.:]\d{1,2}(?:[-/.:]\d{1,4})?|https?://.*|[a-z]+://.*|/.*|~/.*|[A-Za-z]:\\.*)\Z")
_SAID_OF_PASSWORDS = (
    "above accepted access added again allowed always available before below broken change changed changing "
    "compromised correct created credentials current default denied different disabled empty enabled encrypted "
    "entered exists expired expires false field forgotten generated given hashed hidden incorrect invalid issued "
    "kept known later leaked length limit locked login longer lost maximum minimum missing needed never nothing "
    "obsolete optional outdated password please policy protected public read recovery rejected required requires "
    "reset resets revoked rotated rotation rules same saved secret secure security sent shared short should stored "
    "strength string strong their these unavailable undefined unique unknown unlimited unset until updated valid "
    "verified weak where which written wrong"
)
_WORDS = frozenset(_SAID_OF_PASSWORDS.split())
"""What is said about passwords, and is none."""

_NEXT = re.compile(r"[&;](?=[A-Za-z_]{1,40}=)")
"""Where in a query or a connection string the next value begins."""

_END_OF_CLAUSE = re.compile(r"[ \t]*(?:[.,;:!?)\]}]|\n|\Z)")


def assigned(text: str) -> Iterator[tuple[str, int, int]]:
    """The kind and place of each credential that its name, a header or an address gives away."""
    folded = text.lower()
    if any(hint in folded for hint in _HINTS):
        yield from _named(text)
        yield from _in_headers(text)
    if "://" in text:
        for match in _CONNECTION.finditer(text):
            if not _PLACEHOLDER.match(match["password"]) and match["password"].lower() not in {"password", "pass"}:
                yield "connection string", *match.span()


def _named(text: str) -> Iterator[tuple[str, int, int]]:
    for match in _ASSIGNED.finditer(text):
        found = _judged(text, match)
        if found is not None:
            yield found


def _in_headers(text: str) -> Iterator[tuple[str, int, int]]:
    for match in _HEADER.finditer(text):
        if match["basic"] is not None:
            if _is_login(match["basic"]):
                yield "password", *match.span("basic")
        elif any(character.isdigit() for character in match["bearer"]):
            yield "bearer token", *match.span("bearer")


def looks_like_value(value: str) -> bool:
    """Whether a text under a name such as `password` is more than a placeholder."""
    return len(value) >= 4 and not _PLACEHOLDER.match(value) and not _NO_SECRET.match(value)


def _judged(text: str, match: re.Match[str]) -> tuple[str, int, int] | None:
    quoted = match["quoted"] is not None
    start, end = match.span("quoted" if quoted else "plain")
    value = text[start:end]
    if not quoted:
        value = _NEXT.split(value, maxsplit=1)[0].rstrip(".,:;)]}")
        end = start + len(value)
    if match["pin"] is not None:
        return ("PIN", start, end) if re.fullmatch(r"\d{4}", value) else None
    if not looks_like_value(value):
        return None
    if match["key"] is not None:
        return ("API key", start, end) if _is_key(value) else None
    stated = quoted or match["sign"] is not None
    last = quoted or match["sign"] in {"=", "=="} or _END_OF_CLAUSE.match(text, end) is not None
    return ("password", start, end) if _is_password(value, stated=stated, last=last) else None


def _is_login(encoded: str) -> bool:
    """Whether it is a name and a password, as HTTP sends them."""
    try:
        return b":" in base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        return False


def _is_key(value: str) -> bool:
    mixed = any(character.isdigit() for character in value) and any(character.isalpha() for character in value)
    return mixed and len(value) >= 12 and " " not in value and value.isascii() and entropy(value) >= 3.0


def _is_password(value: str, *, stated: bool, last: bool) -> bool:
    """Whether it is one.

    Args:
        stated: it stands behind a sign or in quotes, rather than in a sentence.
        last: nothing of the sentence follows.
    """
    letters = sum(character.isalpha() for character in value)
    digits = sum(character.isdigit() for character in value)
    others = sum(not character.isalnum() and character not in "-'’. " for character in value)
    if digits == len(value):
        return digits >= 6
    if letters and (digits or others):
        return len(value) >= 5
    if value.lower() in _WORDS or not letters or (" " in value and not stated):
        return False
    mixed = value[1:] != value[1:].lower() and not value.isupper()
    return len(value) >= 6 and (mixed or (stated and last))
