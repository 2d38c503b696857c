"""An evaluation as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from memory_plugin.evaluation.metrics import Scores
from memory_plugin.evaluation.run import Evaluation


def markdown(evaluations: Sequence[Evaluation]) -> str:
    """Tables for people: all systems side by side, then recall by category."""
    return "\n".join(line for each in evaluations for line in _section(each))


def _section(found: Evaluation) -> list[str]:
    unit = "one thread a session" if found.threads == "session" else "one thread a conversation"
    questions = found.systems[0].overall.questions if found.systems else 0
    lines = [
        f"## {found.data}",
        "",
        f"{found.dialogues} conversations, {found.turns:,} messages ({unit}), {questions:,} questions.",
        "",
        "| system | R@5 | R@10 | hit@10 | all@10 | MRR |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| {system.name} | {_cells(system.overall)} |" for system in found.systems]
    if found.systems:
        own = found.systems[0]
        lines += [
            "",
            f"A query takes {found.query_p50:.1f} ms, 95% of them under {found.query_p95:.1f} ms.",
            f"{found.ingest_rate:,.0f} messages a second were stored and indexed.",
            "",
            "| category | questions | R@5 | R@10 | hit@10 | all@10 | MRR |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [f"| {name} | {scores.questions} | {_cells(scores)} |" for name, scores in own.categories.items()]
    return [*lines, ""]


def _cells(scores: Scores) -> str:
    values = (scores.recall_5, scores.recall_10, scores.hit_10, scores.all_10, scores.reciprocal_rank)
    return " | ".join(f"{100 * value:.1f}" for value in values)
