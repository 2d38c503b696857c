"""The screen before long-term memory: what looks like a credential is kept out of it.

It knows credentials by their form (keys and tokens of services, private keys, JWTs), by what stands before them
(`password: ...`), by their check digits (cards, bank accounts), and by looking like chance. E-mail addresses and
telephone numbers are only pointed out. It reads no dictionary and asks nobody, so it misses what has no form:
it is a net below careful callers, not a guarantee.

Whatever the text, the time is proportional to its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, get_args

from memory_plugin.errors import InvalidInputError, SecretRefusedError
from memory_plugin.screening.assignments import assigned, looks_like_value
from memory_plugin.screening.numbers import account_numbers, contacts
from memory_plugin.screening.tokens import RANDOM, known_tokens
from memory_plugin.secret_names import is_secret_name
from memory_plugin.types import Finding, SecretsPolicy

__all__ = ["Screened", "find_secrets", "redacted_value", "screened"]

MAX_LEVELS = 200
"""Levels of a value that are looked at: deeper ones cannot be stored."""

_BEGIN_KEY = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_END_KEY = re.compile(r"-----END (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----")


@dataclass(frozen=True, slots=True)
class Screened:
    """What may be stored, and what was found in it."""

    content: str
    value: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    findings: tuple[Finding, ...]


def find_secrets(text: str, where: str = "content", *, personal: bool = False) -> list[Finding]:
    """Credentials in a text, in order, none overlapping another.

    Args:
        where: what the text is, for the findings.
        personal: e-mail addresses and telephone numbers too.
    """
    found = chain(_private_keys(text), known_tokens(text), assigned(text), account_numbers(text))
    findings = _apart(Finding(kind, where, start, end) for kind, start, end in found)
    if personal:
        people = (Finding(kind, where, start, end, personal=True) for kind, start, end in contacts(text))
        findings = _apart(chain(findings, people))
    return findings


def screened(
    content: str,
    policy: SecretsPolicy,
    *,
    value: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Screened:
    """A fact as the policy lets it be stored.

    Raises:
        SecretRefusedError: it holds a credential, and the policy is to refuse; the message says of which
            kind and where, never what it is.
        InvalidInputError: there is no such policy.
    """
    if policy not in get_args(SecretsPolicy):
        raise InvalidInputError(f"secrets must be one of {', '.join(get_args(SecretsPolicy))}, not {policy!r}.")
    findings = find_secrets(content, personal=True)
    inside = [*_inside(value, "value"), *_inside(metadata, "metadata")]
    everything = (*findings, *(finding for finding in inside))
    secrets = [finding for finding in everything if not finding.personal]
    if secrets and policy == "refuse":
        raise SecretRefusedError(_refusal(secrets), findings=tuple(secrets))
    if secrets and policy == "redact":
        content = _redacted(content, [finding for finding in findings if not finding.personal])
        value = None if value is None else redacted_value(value)
        metadata = None if metadata is None else redacted_value(metadata)
    return Screened(content, value, metadata, everything)


def redacted_value(value: Any, name: str | None = None, *, levels: int = MAX_LEVELS) -> Any:
    """The value with credentials in its texts replaced; what has none is not copied.

    Args:
        name: the key that it stands under: a text under `password` is one.

    Raises:
        InvalidInputError: it is nested too deeply to be stored.
    """
    if isinstance(value, str):
        findings = _in_text(value, "", name)
        return _redacted(value, findings) if findings else value
    if levels == 0:
        raise InvalidInputError("The value is nested too deeply, or contains itself: make it flatter.")
    if isinstance(value, Mapping):
        kept = {key: redacted_value(each, _name(key), levels=levels - 1) for key, each in value.items()}
        return value if all(kept[key] is each for key, each in value.items()) else kept
    if isinstance(value, list | tuple):
        items = [redacted_value(each, name, levels=levels - 1) for each in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value


def _inside(value: Any, where: str, name: str | None = None, levels: int = MAX_LEVELS) -> Iterator[Finding]:
    """Credentials in the texts of a value, each with the path to its text."""
    if isinstance(value, str):
        yield from _in_text(value, where, name)
    elif levels and isinstance(value, Mapping):
        for key, each in value.items():
            yield from _inside(each, f"{where}[{key!r:.80}]", _name(key), levels - 1)
    elif levels and isinstance(value, list | tuple):
        for place, each in enumerate(value):
            yield from _inside(each, f"{where}[{place}]", name, levels - 1)


def _in_text(text: str, where: str, name: str | None) -> list[Finding]:
    findings = find_secrets(text, where)
    if not findings and name is not None and is_secret_name(name) and looks_like_value(text):
        return [Finding("credential", where, 0, len(text))]
    return findings


def _name(key: Any) -> str | None:
    return key if isinstance(key, str) else None


def _private_keys(text: str) -> Iterator[tuple[str, int, int]]:
    if "PRIVATE KEY" not in text:
        return
    place = 0
    while begin := _BEGIN_KEY.search(text, place):
        end = _END_KEY.search(text, begin.end())
        place = end.end() if end else len(text)
        yield "private key", begin.start(), place


def _apart(findings: Iterator[Finding] | Sequence[Finding]) -> list[Finding]:
    """In the order of their places; of those that overlap the one that begins first, is longer, or says more."""
    kept: list[Finding] = []
    for finding in sorted(findings, key=lambda each: (each.start, -each.end, each.kind == RANDOM)):
        if not kept or finding.start >= kept[-1].end:
            kept.append(finding)
    return kept


def _redacted(text: str, findings: Sequence[Finding]) -> str:
    parts, place = [], 0
    for finding in findings:
        parts += [text[place : finding.start], f"[redacted {finding.kind}]"]
        place = finding.end
    return "".join([*parts, text[place:]])


def _refusal(secrets: Sequence[Finding]) -> str:
    first = secrets[0]
    article = "an" if first.kind[0] in "AEIOXaeio" else "a"
    more = f" and {len(secrets) - 1} more" if len(secrets) > 1 else ""
    return (
        f"What is to be remembered holds what looks like {article} {first.kind} "
        f"({first.where}, characters {first.start + 1} to {first.end}){more}: nothing was written. Leave it out and "
        "remember where it is kept, or set MEMORY_SECRETS (secrets= in code) to redact or allow."
    )
