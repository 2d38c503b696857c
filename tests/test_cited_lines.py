"""The line that a passage is cited by, where the text that is searched is not the file as it was written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_plugin.parsers import parse, read

HTML = """<!doctype html>
<title>T</title>
<body>

<h1>
Alpha</h1>
<p>
  Beta
<p>Gamma
<h2>Delta</h2><table>
<tr><th>k<th>v
<tr><td>Zeta<td>y</table>
<ul><li>Theta
<li>Iota</ul>
<table><tr><td>Kappa</table>
"""

LIST = """[
  {"name": "Alpha"},

  "Beta", ["Gamma"],
  {"a":
 1}]"""

OBJECT = """{"o": {
"Alpha": {}}, "list": [
{"Beta": 1},
[[]],
 {"Gamma": 2}],
"Delta": 1, "e": [],
"Eta": [1]}"""

API_JSON = """{"openapi": "3.1.0",
"info": {"title": "Alpha"},
"paths": {
"/a": {"parameters": [],
"get": {"summary": "Beta"}}},
"components": {"x": [1],
"schemas": {"Gamma": {},
"Delta": {"type": "string"}}}}"""

API_YAML = """openapi: 3.1.0
x: {paths: 1}
info:
  title: Alpha
paths:
  /a:
    parameters: []
    get:
      summary: Beta
    post: {}
  /b: {$ref: '#/components/pathItems/B'}
components:
  pathItems: {B: {put: {}}}
  schemas: {Gamma: {},
    Delta: &d {type: string},
    Eta: *d}
"""

SCHEMA = """{"$schema": "https://json-schema.org/draft/2020-12/schema",
"$defs": {
"Alpha": {},
"Beta": {}}}"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a.html",
            HTML,
            {
                "Alpha": 6,
                "Beta": 8,
                "Gamma": 9,
                "Delta": 10,
                "k | v": 12,
                "- Theta": 13,
                "- Iota": 14,
                "Kappa": 15,
            },
        ),
        ("old.html", "<h1>Alpha</h1>\r\r<p>Beta", {"Alpha": 1, "Beta": 3}),
        ("list.json", LIST, {"name: Alpha": 2, "Beta": 4, "- Gamma": 4, "a: 1": 5}),
        ("object.json", OBJECT, {"Delta: 1": 6, "o:": 1, "Beta: 1": 3, "- []": 4, "Gamma: 2": 5, "Eta:": 7}),
        ("a key that stands twice.json", '{"a": 1,\n"a": [{"b": 2}]}', {"b: 2": None}),
        ("lines.jsonl", '{"a": "Alpha"}\n\n{"a": "Beta"}\n', {"a: Alpha": 1, "a: Beta": 3}),
        ("api.json", API_JSON, {"Alpha": 2, "GET /a": 5, "Schema Gamma (any)": 7, "Schema Delta (string)": 8}),
        (
            "api.yaml",
            API_YAML,
            {
                "Alpha": 3,
                "GET /a": 8,
                "POST /a": 10,
                "PUT /b": 11,
                "Schema Gamma (any)": 14,
                "Schema Delta (string)": 15,
                "Schema Eta (string)": 16,
            },
        ),
        ("schema.json", SCHEMA, {"Schema schema.json (any)": 1, "Schema Alpha (any)": 3, "Schema Beta (any)": 4}),
        ("excel.csv", '"sep=;"\r\nname;note\r\nAlpha;"two\r\nlines"\r\n', {"name | note": 3}),
        ("header alone.csv", "\nAlpha,Beta\n", {"Alpha | Beta": 2}),
    ],
)
def test_each_part_has_the_line_it_begins_on(name: str, text: str, expected: dict[str, int]) -> None:
    extract = read(text, name=name)._extract
    assert {extract.text[block.start : block.end].split("\n")[0]: block.line for block in extract.blocks} == expected


def test_a_long_listing_in_a_page_is_cited_piece_by_piece() -> None:
    listing = "".join(f"value_{number} = compute({number})\n" for number in range(400))
    page = f"<h1>Code</h1>\n\n<pre><code>\n{listing}</code></pre>"
    chunks = parse(page, name="a.html").chunks
    assert len(chunks) > 3
    lines = page.split("\n")
    for chunk in chunks[1:]:
        assert chunk.line is not None
        assert lines[chunk.line - 1] == chunk.text.split("\n")[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100)
@given(st.lists(JSON, min_size=1, max_size=6).map(lambda items: [*items, {"last": 1}]), st.booleans())
def test_the_elements_of_any_list_in_json_have_their_lines(items: list[object], nested: bool) -> None:
    text = json.dumps({"items": items} if nested else items, indent=1, ensure_ascii=False)
    lines = [block.line for block in read(text, name="a.json")._extract.blocks]
    expected = [3 if nested else 2]
    for item in items:
        expected.append(expected[-1] + 1 + json.dumps(item, indent=1).count("\n"))
    assert lines == [
        line for line, item in zip(expected, items, strict=False) if not isinstance(item, str) or item.strip()
    ]
