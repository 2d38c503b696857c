"""Which format a document is in, by its first bytes, its declared media type, its name and its look."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal

from memory_plugin.parsers.code import LANGUAGES

Format = Literal["markdown", "text", "html", "pdf", "rst", "code", "csv", "json", "jsonl", "yaml", "docx"]

_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

EXTENSION_FORMATS: Mapping[str, Format] = {
    **dict.fromkeys(LANGUAGES, "code"),
    ".csv": "csv",
    ".docx": "docx",
    ".htm": "html",
    ".html": "html",
    ".json": "json",
    ".jsonl": "jsonl",
    ".log": "text",
    ".markdown": "markdown",
    ".md": "markdown",
    ".mdx": "markdown",
    ".ndjson": "jsonl",
    ".pdf": "pdf",
    ".rst": "rst",
    ".text": "text",
    ".tsv": "csv",
    ".txt": "text",
    ".xhtml": "html",
    ".yaml": "yaml",
    ".yml": "yaml",
}

_MEDIA_FORMATS: Mapping[str, Format] = {
    _DOCX: "docx",
    "application/json": "json",
    "application/jsonl": "jsonl",
    "application/pdf": "pdf",
    "application/x-ndjson": "jsonl",
    "application/x-pdf": "pdf",
    "application/x-yaml": "yaml",
    "application/xhtml+xml": "html",
    "application/yaml": "yaml",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "markdown",
    "text/prs.fallenstein.rst": "rst",
    "text/rst": "rst",
    "text/tab-separated-values": "csv",
    "text/x-markdown": "markdown",
    "text/x-rst": "rst",
    "text/x-yaml": "yaml",
    "text/yaml": "yaml",
}

_HTML = re.compile(
    r"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,2000}?-->\s*)?<(?:!doctype html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_API = re.compile(r"^[\"']?(?:openapi|swagger)[\"']?[ \t]*:", re.MULTILINE)
_MARKDOWN = re.compile(r"^(?:#{1,6} \S|```|~~~|\[[^\]\n]{1,200}\]\([^)\s]{1,500}\))", re.MULTILINE)
_RST = re.compile(r"^\.\. [\w-]{1,40}::|^[^\s=~-][^\n]{2,200}\n([=~-])\1{3,}$", re.MULTILINE)
_LOOKED_AT = 20_000
_READ_TO_TELL = 1_000_000


def extension(name: str) -> str:
    """`.md` of `https://example.org/Guide.MD?raw=1#top`; empty where there is none."""
    base = re.split(r"[?#]", name.rsplit("/", 1)[-1].rsplit("\\", 1)[-1], maxsplit=1)[0]
    stem, dot, ending = base.rpartition(".")
    return f".{ending.lower()}" if dot and stem else ""


def stem(name: str) -> str:
    """The name without folders and extension, for a title."""
    base = name.rstrip("/").rsplit("/", 1)[-1].rsplit("\\", 1)[-1]
    ending = extension(base)
    return base[: len(base) - len(ending)] if base.lower().endswith(ending) else base


def media_type_parts(media_type: str | None) -> tuple[str, str | None]:
    """The bare lower-case media type, and the charset that came with it."""
    bare, *parameters = (media_type or "").split(";")
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "charset" and value.strip():
            return bare.strip().lower(), value.strip().strip("\"'")
    return bare.strip().lower(), None


def by_first_bytes(data: bytes) -> Format | None:
    """The binary formats that begin alike, whatever the file is called; older ones than DOCX are refused as such."""
    if data[:64].lstrip().startswith(b"%PDF-"):
        return "pdf"
    return "docx" if data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\xd0\xcf\x11\xe0")) else None


def by_declaration(name: str, media_type: str) -> Format | None:
    """By what the sender says; types that say little ("text/plain") give way to the name."""
    if media_type in _MEDIA_FORMATS:
        return _MEDIA_FORMATS[media_type]
    if media_type.endswith("+json"):
        return "json"
    if media_type.endswith("+yaml"):
        return "yaml"
    return EXTENSION_FORMATS.get(extension(name))


def language_of(ending: str, media_type: str) -> str:
    """The language of source code: `python` of `.py`, or of `text/x-python`."""
    return LANGUAGES.get(ending) or media_type.partition("/x-")[2] or "source"


def by_look(text: str, media_type: str) -> Format:
    """By the beginning of the text, for a document with no telling name or type."""
    head = text[:_LOOKED_AT]
    if _HTML.match(head):
        return "html"
    if head.lstrip()[:1] in ("{", "[") and _is_json(text):
        return "json"
    if _API.search(head):
        return "yaml"
    if media_type.startswith(("text/x-", "application/x-")) and media_type != "application/x-www-form-urlencoded":
        return "code"
    if _MARKDOWN.search(head):
        return "markdown"
    return "rst" if _RST.search(head) else "text"


def _is_json(text: str) -> bool:
    if len(text) > _READ_TO_TELL:
        return text.rstrip()[-1:] in ("}", "]")
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except RecursionError:
        return True  # the parser will say so in better words
    except ValueError:
        return False
    return True
