"""What near duplicates are told by: `python -m benchmarks.near_duplicates`.

Pairs of facts that say the same in other words, and pairs that differ in one value, a tense or a negation. The table
says how many of each are reported by words and by meaning, and how many would be merged; a list of facts in a file, one
a line, adds how many of its facts have a neighbour that near.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from memory_plugin.capabilities.memory_nearness import NEAR_MEANING, NEAR_WORDS, content_words, repeats, shared
from memory_plugin.embedding import resolve_embedder

SAME = [
    ("Alice prefers tea to coffee", "Alice prefers tea over coffee"),
    ("Alice prefers tea", "Alice likes tea best"),
    ("Alice prefers tea", "Alice prefers tea."),
    ("Bob works at Acme as an engineer", "Bob is an engineer at Acme"),
    ("Bob lives in Lyon, France", "Bob lives in Lyon"),
    ("The user's name is Carol", "User name: Carol"),
    ("Carol is allergic to peanuts", "Carol has a peanut allergy"),
    ("Dan has two cats named Tom and Kit", "Dan has two cats, Tom and Kit"),
    ("Eve plays the violin in an orchestra", "Eve plays violin in an orchestra"),
    ("The project deadline is 31 May 2041", "The deadline of the project is 31 May 2041"),
    ("Refunds take five working days", "A refund takes five working days"),
    ("Frank prefers answers in French", "Frank wants answers in French"),
    ("Grace is training for a marathon in Boston", "Grace trains for the Boston marathon"),
    ("Heidi's favourite colour is green", "Heidi's favorite color is green"),
    ("Ivan drives a red Volvo", "Ivan drives a red Volvo car"),
    ("Judy studies medicine at Leiden University", "Judy is studying medicine at Leiden University"),
    ("The office closes at six on Fridays", "On Fridays the office closes at six"),
    ("Mallory wants the report as a PDF file", "Mallory wants the report as PDF"),
    ("Niaj is vegetarian", "Niaj is a vegetarian"),
    ("Olivia dislikes long meetings in the morning", "Olivia dislikes long morning meetings"),
    ("Peggy moved to Oslo in March 2040", "In March 2040 Peggy moved to Oslo"),
    ("The API runs on port 8080 in staging", "In staging the API runs on port 8080"),
    ("Rupert prefers dark mode in all editors", "Rupert prefers dark mode in every editor"),
    ("Sybil has a sister called Anna", "Sybil's sister is called Anna"),
    ("Trent wakes up at six every day", "Every day Trent wakes up at six"),
    ("Victor collects old stamps from Asia", "Victor collects old Asian stamps"),
    ("Wendy uses Python for data analysis", "Wendy uses Python for analysing data"),
    ("Yara was promoted to head of sales", "Yara got promoted to head of sales"),
    ("Zoe is learning Spanish with an app", "Zoe learns Spanish with an app"),
    ("The customer asked for a discount of ten percent", "The customer asked for a ten percent discount"),
]
"""The same in other words."""

OTHER = [
    ("Alice lives in Rome", "Alice lives in Oslo"),
    ("Alice prefers tea", "Alice prefers coffee"),
    ("Alice likes tea", "Alice does not like tea"),
    ("Bob works at Acme", "Bob works at Initech"),
    ("Bob's budget is 5000 euros", "Bob's budget is 6000 euros"),
    ("The project deadline is 31 May 2041", "The project deadline is 30 June 2041"),
    ("Carol is allergic to peanuts", "Carol is allergic to shellfish"),
    ("Dan has two cats", "Dan has three cats"),
    ("Eve plays the violin in an orchestra", "Eve plays the piano in an orchestra"),
    ("Frank prefers answers in French", "Frank prefers answers in German"),
    ("Grace ran the Boston marathon in 2039", "Grace ran the Boston marathon in 2040"),
    ("Heidi's favourite colour is green", "Heidi's favourite colour is blue"),
    ("Ivan drives a red Volvo", "Ivan drives a blue Volvo"),
    ("Judy studies medicine at Leiden University", "Judy studies law at Leiden University"),
    ("The office closes at six on Fridays", "The office closes at four on Fridays"),
    ("Mallory wants the report as a PDF file", "Mallory wants the invoice as a PDF file"),
    ("The API runs on port 8080 in staging", "The API runs on port 9090 in staging"),
    ("Peggy moved to Oslo in March 2040", "Peggy moved to Oslo in May 2040"),
    ("Olivia dislikes long meetings in the morning", "Peter dislikes long meetings in the morning"),
    ("Sybil has a sister called Anna", "Sybil has a brother called Anna"),
    ("Rupert prefers dark mode in all editors", "Rupert prefers light mode in all editors"),
    ("Trent wakes up at six every day", "Trent wakes up at six on Mondays"),
    ("The customer asked for a discount of ten percent", "The customer asked for a refund of ten percent"),
    ("Zoe is learning Spanish with an app", "Zoe is teaching Spanish with an app"),
    ("Wendy uses Python for data analysis", "Wendy never uses Python for data analysis"),
    ("Yara was promoted to head of sales", "Yara wants to be promoted to head of sales"),
    ("Victor sold his house to Walter", "Walter sold his house to Victor"),
    ("The staging database is called amber", "The production database is called amber"),
    ("Backups run every night at two", "Backups ran last night at two"),
    ("Niaj is vegetarian", "Niaj was vegetarian until 2039"),
]
"""Something else, in nearly the same words."""


async def main(files: dict[str, list[str]]) -> None:
    """Print the table."""
    embedder = resolve_embedder(None)

    async def cosines(texts: list[str], others: list[str]) -> list[float]:
        if embedder is None:
            return [0.0] * len(texts)
        rows = zip(await embedder.embed_documents(texts), await embedder.embed_documents(others), strict=True)
        return [sum(x * y for x, y in zip(one, other, strict=True)) for one, other in rows]

    print(f"{'pairs':<24}{'words':>8}{'meaning':>9}{'merged':>8}{'of':>5}")
    for name, pairs in (("the same", SAME), ("another value", OTHER)):
        words = [(content_words(one), content_words(other)) for one, other in pairs]
        meaning = await cosines([one for one, _ in pairs], [other for _, other in pairs])
        counts = (
            sum(shared(*each) >= NEAR_WORDS for each in words),
            sum(each >= NEAR_MEANING for each in meaning),
            sum(repeats(*each) for each in words),
        )
        print(f"{name:<24}{counts[0]:>8}{counts[1]:>9}{counts[2]:>8}{len(pairs):>5}")
    for name, facts in files.items():
        near = [0, 0]
        for place, fact in enumerate(facts[1:], start=1):
            before = facts[:place]
            near[0] += max(shared(content_words(fact), content_words(other)) for other in before) >= NEAR_WORDS
            near[1] += max(await cosines([fact] * place, before)) >= NEAR_MEANING
        print(f"{name:<24}{near[0]:>8}{near[1]:>9}{'':>8}{len(facts) - 1:>5}")


if __name__ == "__main__":
    lines = {Path(path).name: Path(path).read_text("utf-8").splitlines() for path in sys.argv[1:]}
    asyncio.run(main(lines))
