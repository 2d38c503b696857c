"""One evaluation: every dialogue in, every question out, each ranking scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from memory_plugin.evaluation.baselines import Baselines
from memory_plugin.evaluation.datasets import Dialogue, Question
from memory_plugin.evaluation.metrics import DEPTH, Scores, mean, percentile, score

if TYPE_CHECKING:
    from memory_plugin.core import MemoryCore
    from memory_plugin.types import Hit

Threads = Literal["session", "conversation"]
Step = Callable[[str, int, int], None]
"""Told of progress: what is done, how much of it, and how much there is."""

RECALL = "memory-plugin recall"

_FORMAT_NAMES = {"locomo": "LoCoMo", "beam": "BEAM"}


@dataclass(slots=True)
class SystemResult:
    """How one way to rank did on one kind of data: over all, by category, by dialogue."""

    name: str
    overall: Scores
    categories: dict[str, Scores]
    dialogues: dict[str, Scores]


@dataclass(slots=True)
class Evaluation:
    """What was measured on one kind of data. Rates are messages a second, times milliseconds a query."""

    data: str
    dialogues: int
    turns: int
    threads: Threads
    systems: list[SystemResult]
    ingest_rate: float
    query_p50: float
    query_p95: float
    explained: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class _Asked:
    dialogue: str
    question: Question
    rankings: dict[str, list[str]]


async def evaluate(
    core: MemoryCore,
    dialogues: Sequence[Dialogue],
    *,
    threads: Threads = "conversation",
    baselines: bool = True,
    explain: bool = False,
    step: Step = lambda _what, _done, _whole: None,
) -> list[Evaluation]:
    """Measure recall on an empty store; one result for each kind of data.

    Each dialogue belongs to a user of its own. All are stored before the first question is asked, so
    that the statistics of words, and the competition for the index, are those of a shared store.

    Args:
        threads: "conversation" stores a dialogue as one thread, "session" each session as one.
        baselines: rank by other means too.
        explain: keep for each question what was found and why.
        step: told of progress.
    """
    results = []
    for name in dict.fromkeys(dialogue.format for dialogue in dialogues):
        chosen = [dialogue for dialogue in dialogues if dialogue.format == name]
        results.append(await _measure(core, name, chosen, threads, step, baselines=baselines, explain=explain))
    return results


async def _measure(
    core: MemoryCore,
    name: str,
    dialogues: Sequence[Dialogue],
    threads: Threads,
    step: Step,
    *,
    baselines: bool,
    explain: bool,
) -> Evaluation:
    turns = sum(len(dialogue.turns) for dialogue in dialogues)
    began = time.perf_counter()
    places: dict[str, str] = {}
    stored = 0
    for dialogue in dialogues:
        places |= await _store(core, dialogue, threads)
        stored += len(dialogue.turns)
        step("storing messages", stored, turns)
    await core.indexed()
    seconds = time.perf_counter() - began
    whole = sum(len(dialogue.questions) for dialogue in dialogues)
    asked: list[_Asked] = []
    times: list[float] = []
    explained: list[dict[str, Any]] = []
    for dialogue in dialogues:
        others = Baselines(core, dialogue) if baselines else None
        if others is not None:
            await others.prepare()
        for question in dialogue.questions:
            began = time.perf_counter()
            hits = await core.recall(question.text, user_id=user_of(dialogue), kinds=("message",), limit=DEPTH)
            times.append((time.perf_counter() - began) * 1000)
            rankings = {RECALL: [places[hit.id] for hit in hits]}
            if others is not None:
                rankings |= await others.rank(question.text)
            asked.append(_Asked(dialogue.id, question, rankings))
            if explain:
                explained.append(_explained(dialogue, question, hits, places))
            step("asking questions", len(asked), whole)
    return Evaluation(
        data=_FORMAT_NAMES[name],
        dialogues=len(dialogues),
        turns=turns,
        threads=threads,
        systems=[_summary(system, asked) for system in dict.fromkeys(s for each in asked for s in each.rankings)],
        ingest_rate=turns / seconds if seconds else 0.0,
        query_p50=percentile(times, 0.5),
        query_p95=percentile(times, 0.95),
        explained=explained,
    )


def user_of(dialogue: Dialogue) -> str:
    """The user that a dialogue is stored under."""
    return f"{dialogue.format}:{dialogue.id}"


async def _store(core: MemoryCore, dialogue: Dialogue, threads: Threads) -> dict[str, str]:
    """Append the dialogue, a session at a time; the turn of each message's id."""
    places: dict[str, str] = {}
    user = user_of(dialogue)
    for session in dict.fromkeys(turn.session for turn in dialogue.turns):
        said = [turn for turn in dialogue.turns if turn.session == session]
        thread = f"{user}:{session}" if threads == "session" else user
        messages = [
            {"role": turn.role, "content": turn.text, **({"name": turn.name} if turn.name else {})} for turn in said
        ]
        stored = await core.conversations.append(thread, messages, at=[turn.at for turn in said], user_id=user)
        places |= {str(message.id): turn.id for message, turn in zip(stored, said, strict=True)}
    return places


def _summary(system: str, asked: Sequence[_Asked]) -> SystemResult:
    scored = [(each, score(each.rankings.get(system, ()), each.question.gold)) for each in asked]
    headline = [(each, value) for each, value in scored if each.question.headline]
    return SystemResult(
        name=system,
        overall=mean(value for _, value in headline),
        categories={
            category: mean(value for each, value in scored if each.question.category == category)
            for category in sorted({each.question.category for each in asked})
        },
        dialogues={
            dialogue: mean(value for each, value in headline if each.dialogue == dialogue)
            for dialogue in dict.fromkeys(each.dialogue for each in asked)
        },
    )


def _explained(dialogue: Dialogue, question: Question, hits: Sequence[Hit], places: dict[str, str]) -> dict[str, Any]:
    return {
        "dialogue": dialogue.id,
        "category": question.category,
        "question": question.text,
        "gold": sorted(question.gold),
        "hits": [
            {
                "turn": places[hit.id],
                "right": places[hit.id] in question.gold,
                "score": round(hit.score, 4),
                "parts": {name: round(value, 4) for name, value in hit.parts.items()},
                "text": hit.text[:200],
            }
            for hit in hits
        ],
    }
