"""The knowledge graph of the reference MCP memory server: its JSON Lines file becomes facts.

An observation becomes a fact about its entity, a relation a sentence of its three parts. Each has a
key made from its names, so that the same file again is known, and says in its metadata what it is
about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from memory_plugin.portable.facts import Fact, FactsProgress, FactsReport, Remembering, key_of, remember_all
from memory_plugin.portable.importing import Failure

ORIGIN = "mcp-memory"


async def import_mcp_memory(
    memory: Remembering,
    records: Iterable[Any],
    *,
    user_id: str | None = None,
    dry_run: bool = False,
    on_progress: FactsProgress | None = None,
) -> FactsReport:
    """Remember the entities and relations.

    Args:
        records: the value of each line; an exception among them is that line's failure.
        user_id: whose facts they become; the store's own user by default.
        dry_run: write nothing.
    """
    return await remember_all(memory, _facts(records, user_id), dry_run=dry_run, on_progress=on_progress)


def _facts(records: Iterable[Any], user_id: str | None) -> Iterator[Fact | Failure]:
    for line, record in enumerate(records, start=1):
        kind = record.get("type") if isinstance(record, Mapping) else None
        if isinstance(record, Exception):
            yield Failure(line, "", str(record))
        elif kind == "entity" and _texts(record, "name"):
            yield from _entity(line, record, user_id)
        elif kind == "relation" and _texts(record, "from", "to", "relationType"):
            yield _relation(line, record, user_id)
        else:
            message = "it is neither an entity with a name nor a relation with from, to and relationType"
            yield Failure(line, str(kind or ""), message)


def _texts(record: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(record.get(name), str) and record[name].strip() for name in names)


def _entity(line: int, record: Mapping[str, Any], user_id: str | None) -> Iterator[Fact | Failure]:
    name, kind = record["name"], record.get("entityType")
    about: dict[str, Any] = {"origin": ORIGIN, "subject": name}
    if isinstance(kind, str) and kind:
        about["subject_type"] = kind
    named = f"{name} ({kind})" if "subject_type" in about else name
    observations = record.get("observations") or []
    if not isinstance(observations, list):
        yield Failure(line, "entity", "its observations are no list")
        return
    if not observations:
        yield Fact(line, named, key_of(ORIGIN, "entity", name), about, user_id)
    for observation in observations:
        if not isinstance(observation, str) or not observation.strip():
            yield Failure(line, "entity", f"an observation of {name!r:.80} is no text")
            continue
        yield Fact(line, f"{named}: {observation}", key_of(ORIGIN, "observation", name, observation), about, user_id)


def _relation(line: int, record: Mapping[str, Any], user_id: str | None) -> Fact:
    subject, verb, other = record["from"], record["relationType"], record["to"]
    sentence = f"{subject} {verb.replace('_', ' ').replace('-', ' ')} {other}"
    about = {"origin": ORIGIN, "subject": subject, "relation": verb, "object": other}
    return Fact(line, sentence, key_of(ORIGIN, "relation", subject, verb, other), about, user_id)
