"""Source code and configuration: top-level definitions stay whole, names become the heading path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from memory_plugin.chunking import Block
from memory_plugin.parsers.base import Extract, label

LANGUAGES: Mapping[str, str] = {
    ".bash": "shell",
    ".c": "c",
    ".cc": "c++",
    ".cfg": "ini",
    ".cjs": "javascript",
    ".clj": "clojure",
    ".conf": "ini",
    ".cpp": "c++",
    ".cs": "csharp",
    ".css": "css",
    ".dart": "dart",
    ".ex": "elixir",
    ".exs": "elixir",
    ".go": "go",
    ".graphql": "graphql",
    ".h": "c",
    ".hcl": "hcl",
    ".hpp": "c++",
    ".hs": "haskell",
    ".ini": "ini",
    ".java": "java",
    ".jl": "julia",
    ".js": "javascript",
    ".jsx": "javascript",
    ".kt": "kotlin",
    ".kts": "kotlin",
    ".lua": "lua",
    ".mjs": "javascript",
    ".php": "php",
    ".pl": "perl",
    ".proto": "protobuf",
    ".ps1": "powershell",
    ".py": "python",
    ".pyi": "python",
    ".r": "r",
    ".rb": "ruby",
    ".rs": "rust",
    ".scala": "scala",
    ".scss": "css",
    ".sh": "shell",
    ".sql": "sql",
    ".swift": "swift",
    ".tf": "hcl",
    ".toml": "toml",
    ".ts": "typescript",
    ".tsx": "typescript",
    ".vue": "vue",
    ".xml": "xml",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".zsh": "shell",
}

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")
# a line that only closes what stands above it, or goes on with it, starts nothing
_CLOSER = re.compile(r"[)\]}]|(?:end|else|elif|elsif|except|finally|catch|fi|done|esac)\b")
_DECORATION = re.compile(r"@|#(?!!|include|define|if|endif|else)|//|/\*|\*|--|\"\"\"|'''")
_MODIFIERS = (
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|sealed|open|async|pub"
    r"(?:\([\w ]{1,20}\))?|unsafe|extern|const|inline|virtual|override|data|partial|suspend|declare)\s+){0,6}"
)
_DEFINITION = re.compile(
    _MODIFIERS + r"(?:def|class|function\*?|func|fn|struct|enum|interface|trait|impl(?:<[^<>]{0,60}>)?|module|mod|"
    r"namespace|object|protocol|extension|record|type|macro_rules!|defmodule|service|message|resource|"
    r"(?:create(?:\s+or\s+replace)?\s+(?:table|view|function|index|type|procedure|trigger)(?:\s+if\s+not\s+exists)?))"
    r"\s+(?:\([^()]{0,100}\)\s*)?(?P<name>[\"`]?[\w.:$]{1,100})",
    re.IGNORECASE,
)
_SECTION = re.compile(r"\[{1,2}(?P<name>[^\[\]\r\n]{1,100})\]{1,2}\s*$")


def parse_code(text: str, language: str) -> Extract:
    """The source as it stands, cut before each line at the margin that begins something.

    A definition begins with the comments and decorators above it; its name is the heading
    path of its chunks.
    """
    return Extract(text, _blocks(text), f"text/x-{language}", numbered=True, metadata={"language": language})


def _blocks(text: str) -> Iterator[Block]:
    start = 0
    name: str | None = None
    blank = True  # whether the line above is blank
    lead: int | None = None  # where the comments and decorators above begin
    for match in _LINE.finditer(text):
        line, at = match.group(), match.start()
        if not line or line.isspace():
            blank = True
            continue
        if not line[0].isspace() and not _CLOSER.match(line):
            definition = _DEFINITION.match(line) or _SECTION.match(line)
            if definition or blank:
                begin = lead if lead is not None and definition else at
                if begin > start:
                    yield _block(start, begin, name)
                start = max(begin, start)
                name = definition["name"].strip('"`:') if definition else None
            decoration = _DECORATION.match(line) and not definition
            lead = (at if lead is None else lead) if decoration else None
        blank = False
    if start < len(text):
        yield _block(start, len(text), name)


def _block(start: int, end: int, name: str | None) -> Block:
    return Block(start, end, "code", (label(name),) if name else ())
