"""What ranks a hit: the signals, how much each counts, and what a question says about its answer."""

from __future__ import annotations

from memory_plugin.ranking.question import Question, read_question
from memory_plugin.ranking.rerank import Reranker, reranked
from memory_plugin.ranking.scoring import Scored, fuse
from memory_plugin.ranking.weights import Weights

__all__ = ["Question", "Reranker", "Scored", "Weights", "fuse", "read_question", "reranked"]
