"""HTML as a stream of tags and text, read once from left to right.

The tolerant parsers at hand scan a broken page again and again: 150 KB of unclosed tags kept one busy
for five minutes. Text extraction needs no tree, and this reader never looks at a character twice more
than a fixed number of times, whatever the page holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Literal, NamedTuple

TokenKind = Literal["text", "start", "end"]

_NAME = re.compile(r"[A-Za-z][^\s/>]{0,60}")
_DELIMITER = re.compile(r"[>\"']")
_RAW = frozenset({"script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"})
_DECODED_RAW = frozenset({"title", "textarea"})
_ATTRIBUTE = re.compile(r"([^\s=/>\"'<]{1,60})(?:\s{0,20}=\s{0,20}(?:\"([^\"]*)\"|'([^']*)'|([^\s>\"']+)))?")
_MAX_ATTRIBUTES = 4_000


class Token(NamedTuple):
    """A piece of text (in `value`), or a tag with its lower-case `name` and its attributes as written.

    `at` is the offset it begins at.
    """

    kind: TokenKind
    name: str
    value: str
    at: int


def tokens(html: str) -> Iterator[Token]:
    """The tags and the text of a page; comments, declarations and scripts are left out."""
    return _Reader(html).run()


def attributes(source: str) -> dict[str, str]:
    """The attributes of a start tag (its first 4,000 characters), entities decoded."""
    found: dict[str, str] = {}
    for name, double, single, bare in _ATTRIBUTE.findall(source[:_MAX_ATTRIBUTES]):
        found.setdefault(name.lower(), unescape(double or single or bare))
    return found


class _Reader:
    def __init__(self, html: str) -> None:
        self.html = html
        # what is known not to come any more from here on: then it need not be looked for again
        self.absent: set[str] = set()

    def find(self, what: str, start: int) -> int:
        if what in self.absent:
            return -1
        at = self.html.find(what, start)
        if at < 0:
            self.absent.add(what)
        return at

    def run(self) -> Iterator[Token]:
        html, at = self.html, 0
        while at < len(html):
            tag = self.find("<", at)
            if tag < 0:
                yield Token("text", "", unescape(html[at:]), at)
                return
            if tag > at:
                yield Token("text", "", unescape(html[at:tag]), at)
            following = html[tag + 1 : tag + 2]
            if following in ("!", "?"):
                at = self.skip_markup(tag)
            elif following == "/":
                name = _NAME.match(html, tag + 2)
                at = self.after(">", tag + 2)
                if name:
                    yield Token("end", name.group().lower(), "", tag)
            elif (name := _NAME.match(html, tag + 1)) and (end := self.tag_end(name.end())) >= 0:
                lower = name.group().lower()
                yield Token("start", lower, html[name.end() : end], tag)
                at = end + 1
                if lower in _RAW:
                    close = self.raw_end(lower, at)
                    if lower in _DECODED_RAW:
                        yield Token("text", "", unescape(html[at:close]), at)
                    at = close
            else:
                yield Token("text", "", "<", tag)
                at = tag + 1

    def skip_markup(self, at: int) -> int:
        """Past a comment, a declaration or a processing instruction; an unclosed one takes the rest."""
        if self.html.startswith("<!--", at):
            if self.html.startswith((">", "->"), at + 4):
                return self.after(">", at + 4)
            return self.after("-->", at + 4)
        return self.after(">", at)

    def after(self, what: str, start: int) -> int:
        at = self.find(what, start)
        return len(self.html) if at < 0 else at + len(what)

    def tag_end(self, at: int) -> int:
        """Where the `>` of a start tag is, quoted values skipped; -1 when there is none."""
        first = self.find(">", at)
        if first < 0:
            return -1
        position = at
        while match := _DELIMITER.search(self.html, position):
            mark = match.group()
            if mark == ">":
                return match.start()
            position = match.end()
            if self.html[max(at, match.start() - 40) : match.start()].rstrip().endswith("="):
                close = self.find(mark, position)
                if close < 0:
                    return first  # a quote that is never closed quotes nothing
                position = close + 1
        return first

    def raw_end(self, name: str, at: int) -> int:
        """Where the text of a script, a style or a title ends."""
        position = at
        while (tag := self.find("</", position)) >= 0:
            if self.html[tag + 2 : tag + 2 + len(name)].lower() == name:
                return tag
            position = tag + 2
        return len(self.html)
