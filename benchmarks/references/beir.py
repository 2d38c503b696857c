"""Retrieval sets in the layout of BEIR, and one that is made of what every Python has: its docstrings."""

from __future__ import annotations

import csv
import importlib
import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEPTH = 10
_MODULES = tuple(
    """
    argparse array ast asyncio.events base64 bisect bz2 calendar cmd codecs collections configparser contextlib copy csv
    datetime decimal difflib dis email.message enum filecmp fileinput fnmatch fractions ftplib functools gc getopt
    getpass gettext glob graphlib gzip hashlib heapq hmac html http.client http.server imaplib inspect io ipaddress
    itertools json linecache locale logging lzma mailbox math mimetypes multiprocessing.pool netrc operator optparse os
    pathlib pdb pickle pickletools platform plistlib poplib pprint profile pstats queue random re reprlib sched secrets
    selectors shelve shlex shutil signal smtplib socket socketserver sqlite3 ssl stat statistics string struct
    subprocess symtable sys tarfile tempfile textwrap threading time timeit tokenize trace traceback types unittest.case
    unittest.mock urllib.parse urllib.request urllib.robotparser uuid warnings wave weakref webbrowser xml.dom.minidom
    xml.etree.ElementTree zipfile zipimport zlib
    """.split()  # noqa: SIM905 - a list of names is read as one
)
_SENTENCE = re.compile(r"(?P<first>.{25,200}?[.:])\s+(?P<rest>\S.{120,})\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Text:
    """One document of a set."""

    id: str
    title: str
    text: str

    @property
    def whole(self) -> str:
        """Title and text, as systems without titles take it."""
        return f"{self.title}\n\n{self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Documents, questions by id, and how relevant which document is to which question."""

    name: str
    corpus: Sequence[Text]
    queries: Mapping[str, str]
    relevant: Mapping[str, Mapping[str, int]]


def load(folder: Path, split: str = "test") -> RetrievalSet:
    """The set in a folder: corpus.jsonl, queries.jsonl, qrels/test.tsv, or the judgements of another split.

    Raises:
        ValueError: a file is missing, or is not in this layout.
    """
    try:
        corpus = [
            Text(str(row["_id"]), str(row.get("title") or ""), str(row.get("text") or ""))
            for row in _rows(folder / "corpus.jsonl")
        ]
        questions = {str(row["_id"]): str(row["text"]) for row in _rows(folder / "queries.jsonl")}
        relevant: dict[str, dict[str, int]] = {}
        with (folder / "qrels" / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                if int(row["score"]) > 0:
                    relevant.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is not in the layout of BEIR ({type(error).__name__}: {error}).") from error
    return RetrievalSet(folder.name, corpus, {key: questions[key] for key in relevant if key in questions}, relevant)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def docstrings(limit: int | None = None) -> RetrievalSet:
    """A set that needs no download: of each docstring of the standard library, the first sentence asks for the rest.

    It is easier than sets made by people, and its numbers compare systems with each other only.
    """
    corpus: list[Text] = []
    queries: dict[str, str] = {}
    relevant: dict[str, dict[str, int]] = {}
    seen: set[str] = set()
    for name, doc in _documented():
        match = _SENTENCE.match(inspect.cleandoc(doc))
        if match is None or match["rest"] in seen or (limit is not None and len(corpus) >= limit):
            continue
        seen.add(match["rest"])
        corpus.append(Text(name, "", match["rest"]))
        queries[name] = " ".join(match["first"].split())
        relevant[name] = {name: 1}
    return RetrievalSet("docstrings of the standard library", corpus, queries, relevant)


def _documented() -> Iterator[tuple[str, str]]:
    for name in _MODULES:
        module = importlib.import_module(name)
        for key, value in sorted(vars(module).items()):
            if getattr(value, "__module__", None) not in (name, f"_{name}") or not (
                inspect.isclass(value) or callable(value)
            ):
                continue
            members = [(key, value)]
            if inspect.isclass(value):
                members += [(f"{key}.{inner}", each) for inner, each in sorted(vars(value).items()) if callable(each)]
            for place, each in members:
                doc = getattr(each, "__doc__", None)
                if isinstance(doc, str) and not place.rpartition(".")[2].startswith("_"):
                    yield f"{name}.{place}", doc


def ndcg(ranking: Sequence[str], relevant: Mapping[str, int], depth: int = DEPTH) -> float:
    """Normalised discounted cumulative gain with linear gains, as BEIR reports it."""
    gain = sum(relevant.get(each, 0) / math.log2(place + 1) for place, each in enumerate(ranking[:depth], start=1))
    ideal = sorted(relevant.values(), reverse=True)[:depth]
    best = sum(value / math.log2(place + 1) for place, value in enumerate(ideal, start=1))
    return gain / best if best else 0.0


def recall(ranking: Sequence[str], relevant: Mapping[str, int], depth: int = DEPTH) -> float:
    """The part of the relevant documents within the first places."""
    return len(set(ranking[:depth]) & relevant.keys()) / len(relevant) if relevant else 0.0
