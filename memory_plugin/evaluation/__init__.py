"""Measuring recall on conversations with questions whose evidence is known.

Conversations go in through `conversations.append`, questions through `recall`: what is measured is
what an application gets. Other ways to rank the same messages stand beside it for comparison.
"""

from __future__ import annotations

from memory_plugin.evaluation.datasets import Dialogue, Question, Turn, load
from memory_plugin.evaluation.metrics import Scores, score
from memory_plugin.evaluation.report import markdown
from memory_plugin.evaluation.run import Evaluation, SystemResult, evaluate

__all__ = [
    "Dialogue",
    "Evaluation",
    "Question",
    "Scores",
    "SystemResult",
    "Turn",
    "evaluate",
    "load",
    "markdown",
    "score",
]
