"""Each format on real files, and what files do that mean harm or are broken."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import json
import logging
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator

import docx
import pypdf
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memory_plugin.errors import ContentTooLargeError, DocumentError, UnsupportedError
from memory_plugin.parsers import EXTENSIONS, ParseLimits, parse, supported_extensions
from memory_plugin.types import ParsedDocument
from tests.chunk_checks import assert_sound, assert_sound_chunks

SENTENCE = "The refund goes back to the card that paid, and it takes five to ten days. "


def texts(document: ParsedDocument) -> list[str]:
    return [chunk.text for chunk in document.chunks]


def refusal(data: bytes | str, name: str, **options: object) -> str:
    """The sentence with which a document is refused."""
    with pytest.raises((DocumentError, ContentTooLargeError)) as caught:
        parse(data, name=name, **options)  # type: ignore[arg-type]
    if isinstance(caught.value, DocumentError):
        assert caught.value.name == name
    message = str(caught.value)
    assert message.startswith(f"'{name}'")
    assert message.endswith(".")
    assert "\n" not in message
    return message


def make_pdf(pages: list[list[str]], title: str | None = None) -> bytes:
    """A PDF by hand: one font, one stream of text lines a page, compressed like real ones."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for lines in pages:
        shown = "".join(f"({line}) Tj T*\n" for line in lines)
        stream = zlib.compress(f"BT /F1 12 Tf 14 TL 72 720 Td\n{shown}ET".encode("latin-1"))
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream))
        kids.append(b"%d 0 R" % (len(objects) + 1))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % len(objects)
        )
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(pages), b" ".join(kids))
    info = b""
    if title:
        objects.append(b"<< /Title (%s) >>" % title.encode("latin-1"))
        info = b" /Info %d 0 R" % len(objects)
    data = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    data += b"trailer << /Size %d /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, info, table)
    return bytes(data)


def make_docx() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Refund handbook"
    document.add_heading("Refunds", level=1)
    document.add_paragraph(SENTENCE)
    document.add_paragraph("Ask for the order number.", style="List Bullet")
    document.add_paragraph("Check the date.", style="List Bullet")
    document.add_heading("Limits", level=2)
    table = document.add_table(rows=2, cols=2)
    for cell, words in zip(table._cells, ("Plan", "Days", "Pro", "30"), strict=True):
        cell.text = words
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def word_archive(body: str, **parts: bytes) -> bytes:
    """A Word file with the XML given as its body."""
    stream = io.BytesIO()
    namespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f'<w:document xmlns:w="{namespace}"><w:body>{body}</w:body></w:document>')
        for name, data in parts.items():
            archive.writestr(f"word/{name}.xml", data)
    return stream.getvalue()


# ---------------------------------------------------------------- what holds for all formats

MARKED = st.lists(
    st.sampled_from(
        [
            "# ",
            "Title\n=====\n",
            "- ",
            "1. ",
            "```\n",
            "~~~\n",
            "> ",
            "| a | b |\n|---|---|\n",
            "\n",
            "\n\n",
            "    ",
            "\t",
        ]
        + [
            "---\n",
            "title: x\n",
            "[a]: http://b\n",
            "<div>",
            "</p>",
            "<table><tr><td>",
            "<!--",
            "-->",
            "<pre>",
            "<main>",
        ]
        + [
            "def f():\n",
            "class A {\n",
            "}\n",
            ".. note::\n",
            "::\n",
            "===\n",
            "a,b\n",
            '"',
            "{",
            "}",
            ":",
            "[",
            "]",
            "1",
        ]
        + ["word ", "Sentence. ", "退款。", "👍", "\r\n", "\u2028", "\x1b", "\x0c", "&#0;", "&amp;", "é"]
    ),
    max_size=60,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(MARKED, st.sampled_from(["x", *sorted(EXTENSIONS - {".pdf", ".docx"})]))
@example("---\n---\n", ".md")
@example("\x0c\x0c", ".txt")
def test_any_text_in_any_format_is_sound_or_refused(text: str, ending: str) -> None:
    try:
        document = parse(text, name=f"file{ending}")
    except DocumentError:
        return
    assert_sound(document)
    lines = 1 + text.count("\n") + text.count("\r")
    assert all(chunk.line is not None and 1 <= chunk.line <= lines for chunk in document.chunks)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=400), st.sampled_from(["", ".txt", ".md", ".html", ".json", ".csv", ".pdf", ".docx", ".yaml"])
)
@example(b"PK\x03\x04", ".docx")
@example(b"%PDF-1.7", ".pdf")
def test_any_bytes_under_any_name_are_sound_or_refused(data: bytes, ending: str) -> None:
    try:
        document = parse(data, name=f"file{ending}")
    except DocumentError:
        return
    assert_sound(document)


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.rst", "a.py"])
def test_spans_point_into_the_file_as_it_was_written(name: str) -> None:
    text = "Title\r\n=====\r\n\r\nSome *words*.\r\n\r\n- item\r\n"
    document = parse(text.encode(), name=name)
    assert document.text == text
    assert_sound(document)


@pytest.mark.parametrize("ending", supported_extensions())
def test_every_extension_has_a_parser(ending: str) -> None:
    data = {
        ".pdf": make_pdf([["words"]]),
        ".docx": make_docx(),
        ".json": b'{"a": "words"}',
        ".jsonl": b'"words"',
        ".ndjson": b'"words"',
    }
    assert "words" in parse(data.get(ending, b"words"), name=f"x{ending}").text or ending == ".docx"


@pytest.mark.parametrize(
    ("name", "media_type", "data", "expected"),
    [
        ("notes", None, "# Title\n\nwords", "text/markdown"),
        ("page", None, "<!DOCTYPE html><p>words", "text/html"),
        ("page.php?id=1", "text/html; charset=utf-8", "<p>words", "text/html"),
        ("guide.md", "text/plain", "words", "text/markdown"),
        ("guide.md", "application/octet-stream", "words", "text/markdown"),
        ("https://example.org/a/guide.MD?raw=1#top", None, "words", "text/markdown"),
        ("data", None, '{"a": [1]}', "application/json"),
        ("data", "application/problem+json", '{"a": [1]}', "application/json"),
        ("braces", None, "{not json}", "text/plain"),
        ("LICENSE", None, "words", "text/plain"),
        ("script", "text/x-python", "x = 1", "text/x-python"),
        ("report.txt", None, make_pdf([["words"]]), "application/pdf"),
        ("manual", None, ".. note:: words\n", "text/x-rst"),
    ],
)
def test_the_format_is_found(name: str, media_type: str | None, data: bytes | str, expected: str) -> None:
    assert parse(data, name=name, media_type=media_type).media_type == expected


def test_the_title_comes_from_the_caller_then_the_document_then_the_name() -> None:
    assert parse("# Inside\n\nx", name="dir/file.md", title="Given").title == "Given"
    assert parse("# Inside\n\nx", name="dir/file.md").title == "Inside"
    assert parse("just words", name="dir/my file.txt").title == "my file"


@pytest.mark.parametrize("data", [b"", "", b"  \n\t ", "\ufeff", codecs.BOM_UTF16_LE])
def test_an_empty_document_is_refused(data: bytes | str) -> None:
    assert "is empty" in refusal(data, "a.md")


def test_limits_name_themselves() -> None:
    assert "10 bytes" in refusal(b"x" * 11, "a.txt", limits=ParseLimits(max_bytes=10))
    assert "10 bytes" in refusal("é" * 6, "a.txt", limits=ParseLimits(max_bytes=10))
    assert "2 MiB, the most" in refusal(b"x" * 2_097_153, "a.txt", limits=ParseLimits(max_bytes=2_097_152))
    assert "of the kind 'html'" in refusal("<p>x", "a.html", limits=ParseLimits(max_rebuilt_bytes=3))
    assert "with emoji" in refusal("x😀".encode(), "a.txt", limits=ParseLimits(max_wide_bytes=4))
    assert "3 values" in refusal("[1,2,3,4]", "a.json", limits=ParseLimits(max_values=3))
    assert "5 characters" in refusal('{"a": "12345"}', "a.json", limits=ParseLimits(max_characters=5))
    assert "1 chunks" in refusal("# a\n\nb\n\n# c\n\nd", "a.md", limits=ParseLimits(max_chunks=1))
    assert "1 chunks" in refusal("<p>a" * 60, "a.html", limits=ParseLimits(max_chunks=1))
    assert "1 pages" in refusal(make_pdf([["a"], ["b"]]), "a.pdf", limits=ParseLimits(max_pages=1))


def test_unstorable_characters_reach_no_chunk() -> None:
    document = parse(
        "# He\x00ad\n\n" + "many words " * 20 + "\ud800 \x00", name="a\ud800.md", media_type="text/markdown"
    )
    assert_sound(document)
    assert "\ufffd" in document.text


# ---------------------------------------------------------------- encodings

FRENCH = "Le remboursement a été créé. Déjà payé à l'hôtel, ça coûte très cher.\n"
RUSSIAN = "Возврат денег создан. Клиент получит его через пять дней.\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "latin-1"], ids=str)
def test_western_text_is_read_in_its_encoding(encoding: str) -> None:
    assert parse(FRENCH.encode(encoding), name="a.txt").text == FRENCH


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", FRENCH),
        ("cp1252", "Größe und Gewicht: über die Straße.\n"),
        ("cp1252", "It’s a “quoted” text – nothing else.\n"),
        ("cp1254", "Şirket için ödeme iadesi oluşturuldu, müşteri beş gün içinde alır.\n"),
        ("cp1250", "Zażółć gęślą jaźń. Zwrot pieniędzy został utworzony dla klienta.\n"),
        ("cp1251", RUSSIAN * 3),
    ],
)
def test_a_clear_case_is_told_without_being_declared(encoding: str, text: str) -> None:
    document = parse(text.encode(encoding), name="a.txt")
    assert (document.text, document.metadata["encoding"]) == (text, encoding)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_utf_16_of_either_order(mark: bytes) -> None:
    encoding = "utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be"
    document = parse(mark + RUSSIAN.encode(encoding), name="a.txt")
    assert (document.text, document.metadata["encoding"]) == (RUSSIAN, encoding)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_western_utf_16_without_a_mark_is_told_by_its_zeros(encoding: str) -> None:
    document = parse(FRENCH.encode(encoding), name="a.txt")
    assert (document.text, document.metadata["encoding"]) == (FRENCH, encoding)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", RUSSIAN),
        ("koi8_r", RUSSIAN),
        ("cp1253", "Η επιστροφή χρημάτων δημιουργήθηκε σήμερα.\n"),
        ("shift_jis", "返金が作成されました。顧客は五日後に受け取ります。\n"),
        ("gb18030", "退款已创建。客户将在五天内收到。\n"),
        ("cp1250", "Zażółć gęślą jaźń. Zwrot pieniędzy został utworzony dla klienta.\n"),
        ("cp1250", "Klíč je v čase.\n"),
        ("cp1250", "Złoty\n"),
        ("cp1250", "Árvíztűrő tükörfúrógép. A visszatérítés elkészült, az ügyfél öt napon belül megkapja.\n"),
        ("cp1257", "Grąžinimas sukurtas, klientas gaus pinigus per penkias dienas.\n"),
        ("cp1252", "El niño pidió una devolución mañana.\n"),
        ("cp1252", "Perché il rimborso è già più lento?\n"),
        ("cp1252", "très créé\n"),
        ("big5", "退款已建立。客戶將在五天內收到。\n"),
        ("euc_kr", "환불이 생성되었습니다. 고객은 닷새 후에 받습니다.\n"),
        ("cp1255", "ההחזר נוצר. הלקוח יקבל אותו בעוד חמישה ימים.\n"),
        ("cp1251", "Refund API: возврат создан, see docs\n"),
        ("cp1254", "Şirket için ödeme iadesi oluşturuldu, müşteri beş gün içinde alır.\n"),
        ("mac_roman", FRENCH),
        ("mac_roman", "il a été créé\n"),
        ("cp850", FRENCH),
        ("cp437", "Größe und Gewicht über\n"),
    ],
)
@pytest.mark.parametrize("times", [1, 20])
def test_no_encoding_is_ever_guessed_wrong(encoding: str, text: str, times: int) -> None:
    """Either the very text, or a refusal that says what to do."""
    data = (text * times).encode(encoding)
    try:
        assert parse(data, name="a.txt").text == text * times
    except DocumentError as error:
        assert "charset=" in str(error)
    assert parse(data, name="a.txt", media_type=f"text/plain; charset={encoding}").text == text * times


def test_a_declared_latin_1_is_windows_1252_as_in_browsers() -> None:
    document = parse("“x” – y\n".encode("cp1252"), name="a.txt", media_type="text/plain; charset=ISO-8859-1")
    assert document.text == "“x” – y\n"


def test_a_page_declares_its_encoding() -> None:
    page = f'<html><head><meta charset="koi8-r"></head><body><p>{RUSSIAN}</body></html>'
    assert RUSSIAN.strip() in parse(page.encode("koi8-r"), name="a.html").text


def test_utf_8_wins_over_a_wrong_declaration() -> None:
    assert parse(FRENCH.encode(), name="a.txt", media_type="text/plain; charset=latin-1").text == FRENCH


@pytest.mark.parametrize("charset", ["unicode_escape", "rot13", "idna", "punycode", "no-such", "undefined", "utf-7"])
def test_a_charset_that_is_none_is_not_believed(charset: str) -> None:
    assert parse(FRENCH.encode("cp1252"), name="a.txt", media_type=f"text/plain; charset={charset}").text == FRENCH


def test_broken_utf_16_is_refused() -> None:
    assert "broken at byte" in refusal(codecs.BOM_UTF16_LE + b"a\x00\x00\xd8a\x00", "a.txt")


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00>\x00\x01\x00\x00\x00",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        bytes(range(1, 32)) * 8,
        "control\x01\x02\x03",
        "text with\x00NUL",
        "utf sixteen without a mark".encode("utf-16-le") + b"\x00\x00",
        "Возврат: five days".encode("utf-16-le"),
    ],
)
def test_binary_that_claims_to_be_text_is_refused(data: bytes | str) -> None:
    assert "binary data" in refusal(data, "notes.txt", media_type="text/plain")


def test_colours_of_a_terminal_log_are_no_reason_to_refuse_it() -> None:
    assert parse("\x1b[32mINFO\x1b[0m refund created\n" * 5, name="a.log").chunks


# ---------------------------------------------------------------- Markdown


def test_markdown_headings_make_the_path() -> None:
    document = parse("# API\n\n## Refunds `v1`\n\nText.\n\n### [How](x.md)\n\nMore.\n\n# FAQ\n\nEnd.", name="a.md")
    assert [chunk.heading_path for chunk in document.chunks] == [
        ("API", "Refunds v1"),
        ("API", "Refunds v1", "How"),
        ("FAQ",),
    ]
    assert [chunk.line for chunk in document.chunks] == [1, 7, 11]


def test_a_heading_in_a_code_fence_is_code() -> None:
    document = parse("# Real\n\n```sh\n# not a heading\n```\n\nafter", name="a.md")
    assert {chunk.heading_path for chunk in document.chunks} == {("Real",)}


def test_a_code_fence_stays_whole() -> None:
    fence = "```python\n" + "\n".join(f"refund({number})  # comment" for number in range(25)) + "\n```"
    document = parse(f"# A\n\n{SENTENCE * 10}\n\n{fence}\n\n{SENTENCE * 10}", name="a.md")
    assert any(fence in text for text in texts(document))


def test_front_matter_gives_the_title_and_is_no_heading() -> None:
    document = parse("---\ntitle: 'Refund guide'\ntags: [a]\n---\n\n# First\n\nWords.", name="a.md")
    assert document.title == "Refund guide"
    assert document.chunks[-1].heading_path == ("First",)


def test_a_markdown_table_is_cut_between_its_rows() -> None:
    rows = "\n".join(f"| {number} | {SENTENCE}|" for number in range(80))
    document = parse(f"# T\n\n| No | Text |\n|---:|:---|\n{rows}\n", name="a.md")
    assert len(document.chunks) > 3
    assert all(line.endswith("|") for text in texts(document)[1:] for line in text.splitlines())
    assert document.chunks[1].metadata == {"table_header": "| No | Text |"}


def test_link_definitions_are_not_lost() -> None:
    assert "http://example.org" in "".join(texts(parse("See [a].\n\n[a]: http://example.org\n", name="a.md")))


def test_markdown_of_very_many_short_lines_keeps_its_headings_fences_and_items() -> None:
    source = "- a\n" * 30_000 + "\n## Part\n\ntwo\nlines\n\n```py\n# no heading\n\nx\n```\n" + "* b\n" * 30_000
    document = parse(source, name="a.md")
    assert_sound(document)
    (part,) = (chunk for chunk in document.chunks if chunk.text.startswith("## Part"))
    assert part.heading_path == ("Part",)
    assert "two\nlines\n\n```py\n# no heading\n\nx\n```" in part.text
    assert document.chunks[0].heading_path == ()
    assert document.chunks[-1].heading_path == ("Part",)


def test_long_markdown_is_the_same_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    from memory_plugin.parsers import markdown

    section = (
        "# H\n\nText.\n\n- one\n\n  still one\n- two\n\n```\n\n# code\n\n```\n\n> quote\n\n| a |\n|---|\n| b |\n\n"
    )
    whole = parse(section * 60, name="a.md")
    monkeypatch.setattr(markdown, "_WINDOW", 200)
    monkeypatch.setattr(markdown, "_LONG_WINDOW", 100_000)
    assert parse(section * 60, name="a.md").chunks == whole.chunks


# ---------------------------------------------------------------- reStructuredText, code


def test_rst_headings_take_their_level_from_the_order_of_their_lines() -> None:
    text = "=====\nTitle\n=====\n\nIntro.\n\nPart\n----\n\nText::\n\n    literal\n\n    more\n\nSub\n~~~\n\n- item\n  goes on\n\nPart 2\n------\n\nEnd."
    document = parse(text, name="a.rst")
    assert [chunk.heading_path for chunk in document.chunks] == [
        ("Title",),
        ("Title", "Part"),
        ("Title", "Part", "Sub"),
        ("Title", "Part 2"),
    ]
    assert document.title == "Title"
    assert "Text::\n\n    literal\n\n    more" in document.text[slice(document.chunks[1].start, document.chunks[1].end)]


def test_rst_tables_and_transitions_are_no_headings() -> None:
    text = "Title\n=====\n\n====  ====\nA     B\n====  ====\n1     2\n====  ====\n\n----\n\nWords."
    assert {chunk.heading_path for chunk in parse(text, name="a.rst").chunks} == {("Title",)}


@pytest.mark.parametrize(
    ("name", "source", "names"),
    [
        (
            "a.py",
            "import os\n\n\n@decorated\ndef refund():\n    return 1\n\n\nclass Client:\n    x = 1\n",
            {"refund", "Client"},
        ),
        (
            "a.ts",
            "export async function refund() {\n}\n\nexport interface Charge {\n  id: string\n}\n",
            {"refund", "Charge"},
        ),
        (
            "a.go",
            "package x\n\nfunc (c *Client) Refund() error {\n}\n\ntype Charge struct {\n}\n",
            {"Refund", "Charge"},
        ),
        ("a.rs", "pub(crate) fn refund() {\n}\n\nimpl<T> Client {\n}\n", {"refund", "Client"}),
        ("a.sql", "CREATE TABLE refunds (\n  id int\n);\n", {"refunds"}),
        ("a.toml", "[tool.refund]\nx = 1\n", {"tool.refund"}),
        ("a.proto", "service Refunds {\n}\n", {"Refunds"}),
    ],
)
def test_definitions_name_the_chunks_of_code(name: str, source: str, names: set[str]) -> None:
    document = parse(source, name=name)
    assert_sound(document)
    assert names <= {chunk.heading_path[0] for chunk in document.chunks if chunk.heading_path}


def test_a_definition_begins_with_its_decorators_and_comments() -> None:
    source = "x = 1\n\n# Gives money back.\n@retry(\n    times=3,\n)\ndef refund():\n    pass\n"
    chunk = next(chunk for chunk in parse(source, name="a.py").chunks if chunk.heading_path == ("refund",))
    assert chunk.text.startswith("# Gives money back.")
    assert chunk.line == 3


# ---------------------------------------------------------------- HTML

PAGE = """<!doctype html><html><head><title>Refund &amp; guide</title><style>p {color: red}</style></head>
<body><nav><a href="/">Home</a></nav><h1>Refunds<a class="anchor" href="#r">¶</a></h1>
<p>A <b>refund</b> goes&nbsp;back to the<br>card.</p><script>track("x")</script>
<h2>Steps</h2><ol><li>Open the charge<li>Press <em>Refund</em><ul><li>all of it</li></ul></ol>
<pre><code>curl -X POST \\
  /v1/refunds</code></pre>
<table><thead><tr><th>Plan</th><th>Days</th></tr></thead><tr><td>Free<td>5</tr><tr><td>Pro</td><td><p>10</p></td></tr></table>
<p hidden>secret</p><svg><title>icon</title><text>drawn</text></svg><img src="x.png" alt="A receipt">
<footer>Imprint</footer></body></html>"""


def test_html_is_what_a_reader_sees() -> None:
    document = parse(PAGE, name="a.html")
    assert_sound(document)
    assert document.title == "Refund & guide"
    assert document.text == (
        "Refunds\n\nA refund goes back to the\ncard.\n\nSteps\n\n1. Open the charge\n2. Press Refund\n  - all of it\n\n"
        "curl -X POST \\\n  /v1/refunds\n\nPlan | Days\nFree | 5\nPro | 10\n\nA receipt"
    )
    assert [chunk.heading_path for chunk in document.chunks] == [("Refunds",), ("Refunds", "Steps")]


def test_main_is_the_page_where_it_is_long_enough() -> None:
    article = SENTENCE * 4
    assert parse(f"<p>Menu</p><main><p>{article}</main><p>Ads</p>", name="a.html").text == article.strip()
    assert "Menu" in parse("<p>Menu</p><main>Loading</main>", name="a.html").text


def test_a_page_laid_out_with_tables_is_read_cell_by_cell() -> None:
    page = "<table><tr><td>Menu<td><h2>Refunds</h2><table><tr><td>a<td>b<tr><td>c<td>d</table></table>"
    assert_sound(parse(page, name="a.html"))
    assert "a | b\nc | d" in parse(page, name="a.html").text


def test_a_page_that_is_all_navigation_is_read_all_the_same() -> None:
    assert parse("<nav><p>Only this", name="a.html").text == "Only this"


def test_a_page_without_text_is_refused() -> None:
    assert "shows no text" in refusal("<html><script>render()</script></html>", "a.html")


def test_a_long_html_table_repeats_its_header() -> None:
    rows = "".join(f"<tr><td>plan {number}</td><td>{SENTENCE}</td></tr>" for number in range(60))
    document = parse(f"<table><tr><th>Plan</th><th>Text</th></tr>{rows}</table>", name="a.html")
    assert len(document.chunks) > 3
    assert all(text.startswith("Plan | Text\n") for text in texts(document))


@pytest.mark.parametrize(
    "page",
    [
        "<a " * 50_000,
        "<a x='" * 50_000 + ">z",
        "<!--" * 50_000,
        "</" * 50_000,
        "<div>x" * 50_000,
        "<script>" + "</" * 100_000,
        "x<a x=" + " " * 200_000 + ">",
        "&#x" * 50_000,
        "<ul><li>x" * 20_000,
        "<table><tr><td>x" * 20_000,
    ],
    ids=lambda page: page[:12],
)
def test_broken_html_takes_no_more_than_its_size(page: str) -> None:
    started = time.process_time()
    with contextlib.suppress(DocumentError):
        parse(f"<p>x{page}", name="a.html", limits=ParseLimits(max_chunks=100_000))
    assert time.process_time() - started < 10


# ---------------------------------------------------------------- PDF


def test_a_pdf_keeps_its_pages() -> None:
    data = make_pdf([["Refunds take five", "to ten days."], ["Charges are made", "at once."]], title="Payments guide")
    document = parse(data, name="guide.pdf")
    assert_sound(document)
    assert document.title == "Payments guide"
    assert document.metadata == {"pages": 2}
    assert [(chunk.page, chunk.text) for chunk in document.chunks] == [
        (1, "Refunds take five\nto ten days."),
        (2, "Charges are made\nat once."),
    ]


def test_words_divided_at_the_end_of_a_line_are_joined() -> None:
    assert "reimbursement" in parse(make_pdf([["the reimburse-", "ment of"]]), name="a.pdf").text


def test_a_page_without_text_is_no_chunk_and_keeps_its_number() -> None:
    assert [chunk.page for chunk in parse(make_pdf([["one"], [], ["three"]]), name="a.pdf").chunks] == [1, 3]


def test_a_scan_is_refused_with_the_word_ocr() -> None:
    assert "OCR" in refusal(make_pdf([[], []]), "scan.pdf")


@pytest.mark.parametrize(("password", "readable"), [("", True), ("secret", False)])
def test_only_a_pdf_that_asks_for_a_password_is_refused(password: str, readable: bool) -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(make_pdf([["words"]])))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    stream = io.BytesIO()
    writer.write(stream)
    if readable:
        assert parse(stream.getvalue(), name="a.pdf").text == "words"
    else:
        assert "protected by a password" in refusal(stream.getvalue(), "a.pdf")


@pytest.mark.parametrize(
    "data",
    [b"%PDF-1.7\ngarbage", b"%PDF-1.4\n" + b"\xff" * 5000, make_pdf([["words"]])[:200], b"<html>not found</html>"],
)
def test_a_broken_pdf_is_refused(data: bytes) -> None:
    assert "not a readable PDF" in refusal(data, "a.pdf", media_type="application/pdf")


def test_a_damaged_pdf_is_read_in_silence() -> None:
    """The remarks of the parser on sloppy files stay off the terminal of the application."""
    damaged = make_pdf([["words"]]).replace(b"startxref\n", b"startxref\n9")
    program = (
        "import sys; from memory_plugin.parsers import parse; print(parse(sys.stdin.buffer.read(), name='a.pdf').text)"
    )
    result = subprocess.run([sys.executable, "-c", program], input=damaged, capture_output=True, check=True)
    assert (result.stdout.strip(), result.stderr) == (b"words", b"")


def test_a_level_set_by_the_application_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("pypdf"), "level", logging.INFO)
    parse(make_pdf([["words"]]), name="a.pdf")
    assert logging.getLogger("pypdf").level == logging.INFO


def test_a_pdf_that_came_as_text_is_refused() -> None:
    assert "pass the bytes" in refusal("%PDF-1.7 ...", "a.pdf")


# ---------------------------------------------------------------- Word


def test_a_word_document_keeps_headings_lists_and_tables() -> None:
    document = parse(make_docx(), name="handbook.docx")
    assert_sound(document)
    assert document.title == "Refund handbook"
    assert [chunk.heading_path for chunk in document.chunks] == [("Refunds",), ("Refunds", "Limits")]
    assert "- Ask for the order number.\n- Check the date." in document.text
    assert "Plan | Days\nPro | 30" in document.text


def test_word_shows_insertions_and_content_controls_but_no_deletions() -> None:
    body = (
        "<w:p><w:r><w:t>kept </w:t></w:r><w:ins><w:r><w:t>added</w:t></w:r></w:ins><w:del><w:r><w:delText>gone</w:delText>"
        "</w:r></w:del></w:p><w:sdt><w:sdtContent><w:p><w:r><w:t>in a control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "<w:p><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
    )
    assert parse(word_archive(body), name="a.docx").text == "kept added\n\nin a control"


def test_the_notes_of_a_word_document_come_last() -> None:
    namespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    notes = f'<w:footnotes xmlns:w="{namespace}"><w:footnote><w:p><w:r><w:t>a note</w:t></w:r></w:p></w:footnote></w:footnotes>'
    document = parse(word_archive("<w:p><w:r><w:t>body</w:t></w:r></w:p>", footnotes=notes.encode()), name="a.docx")
    assert document.chunks[-1].heading_path == ("Footnotes",)
    assert document.chunks[-1].text == "a note"


def test_a_frame_around_text_is_text() -> None:
    cell = "<w:tr><w:tc><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:tc></w:tr>"
    table = f"<w:tbl>{cell.format('framed')}<w:sdt><w:sdtContent>{cell.format('held')}</w:sdtContent></w:sdt></w:tbl>"
    assert parse(word_archive(table + "<w:tbl/>"), name="a.docx").text == "framed\n\nheld"


def test_an_archive_of_very_many_parts_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(10_001):
            archive.writestr(f"{number}", b"")
    assert "10,000 parts" in refusal(stream.getvalue(), "a.docx")


def test_a_zip_bomb_is_refused_by_what_it_declares() -> None:
    data = word_archive("<w:p><w:r><w:t>" + "a" * 3_000_000 + "</w:t></w:r></w:p>")
    assert len(data) < 10_000
    assert "bytes when unpacked" in refusal(data, "a.docx", limits=ParseLimits(max_rebuilt_bytes=1_000_000))


def test_a_zip_bomb_that_lies_about_its_size_is_refused() -> None:
    data = bytearray(word_archive("<w:p><w:r><w:t>" + "a" * 3_000_000 + "</w:t></w:r></w:p>"))
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = (1000).to_bytes(4, "little")
    refusal(bytes(data), "a.docx", limits=ParseLimits(max_rebuilt_bytes=1_000_000))


def test_all_parts_of_a_word_document_share_one_limit() -> None:
    namespace = b"http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    notes = b'<w:footnotes xmlns:w="%s">%s</w:footnotes>' % (namespace, b" " * 600_000)
    data = word_archive(" " * 600_000, footnotes=notes)
    assert "bytes when unpacked" in refusal(data, "a.docx", limits=ParseLimits(max_rebuilt_bytes=1_000_000))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_entities_are_refused(encoding: str) -> None:
    stream = io.BytesIO()
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>'
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("word/document.xml", bomb.encode(encoding))
    assert "entities" in refusal(stream.getvalue(), "a.docx")


def test_deeply_nested_xml_is_read() -> None:
    deep = "<w:r>" * 50_000 + "<w:t>deep</w:t>" + "</w:r>" * 50_000
    assert parse(word_archive(f"<w:p>{deep}</w:p>"), name="a.docx").text == "deep"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04 broken", "not a readable Word document"),
        (make_docx()[:-60], "not a readable Word document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "protected by a password"),
        (word_archive("<w:p>"), "not a readable Word document"),
        (word_archive("<w:p/>"), "holds no text"),
    ],
)
def test_a_broken_word_document_is_refused(data: bytes, words: str) -> None:
    assert words in refusal(data, "a.docx")


@pytest.mark.parametrize(
    ("part", "advice"),
    [
        ("xl/workbook.xml", "save each of its sheets as CSV"),
        ("ppt/presentation.xml", "save it as PDF"),
        ("mimetype", "save it as DOCX"),
        ("a.txt", "without a Word document"),
    ],
)
def test_an_archive_of_anything_else_is_refused(part: str, advice: str) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(part, "<x/>")
    assert advice in refusal(stream.getvalue(), "a.xlsx")


def test_an_old_word_file_is_known_by_its_first_bytes() -> None:
    assert "save it as .docx" in refusal(b"\xd0\xcf\x11\xe0" + bytes(600), "letter.doc")


# ---------------------------------------------------------------- CSV, JSON


def test_each_chunk_of_a_csv_has_the_header() -> None:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["name", "note"])
    writer.writerows([f"User {number}", f'says, "{number}"'] for number in range(200))
    document = parse(stream.getvalue(), name="users.csv")
    assert_sound(document)
    assert len(document.chunks) > 5
    assert all(text.startswith("name | note\n") for text in texts(document))
    assert document.chunks[0].line == 2
    assert 'User 7 | says, "7"' in document.text
    second = document.chunks[1]
    assert f"User {second.line - 2} |" in second.text.splitlines()[1]


@pytest.mark.parametrize(("delimiter", "name"), [(";", "a.csv"), ("\t", "a.tsv"), ("\t", "a.csv"), ("|", "a.csv")])
def test_the_delimiter_is_found(delimiter: str, name: str) -> None:
    data = "\n".join(delimiter.join(row) for row in (["city", "people, about"], ["Rome", "2,8"], ["Oslo", "0,7"]))
    assert parse(data, name=name).metadata["columns"] == ["city", "people, about"]


def test_a_table_without_header_is_rows_only() -> None:
    document = parse("1,2\n3,4\n", name="a.csv")
    assert (document.text, document.metadata["columns"]) == ("1 | 2\n3 | 4", [])


def test_a_row_too_long_for_a_line_names_its_columns() -> None:
    document = parse(f'question,answer\n"How do I\nrefund?","{SENTENCE * 20}"\n', name="faq.csv")
    assert document.chunks[0].text.startswith("question: How do I\nrefund?\nanswer: The refund")
    assert {chunk.heading_path for chunk in document.chunks} == {("How do I refund?",)}


def test_a_cell_beyond_the_reader_is_refused() -> None:
    assert "not a readable table" in refusal('a,b\n"' + "x" * 200_000 + '",2\n', "a.csv")


def test_json_becomes_an_outline() -> None:
    data = {
        "name": "Acme",
        "limits": {"daily": 1000.50, "on": True},
        "users": [{"id": 1, "tags": ["a", "b"]}, {"id": 2}],
    }
    document = parse(json.dumps(data), name="a.json")
    assert_sound(document)
    assert document.text == (
        "name: Acme\n\nlimits:\n  daily: 1000.5\n  on: true\n\nid: 1\ntags:\n  - a\n  - b\n\nid: 2"
    )
    assert [chunk.heading_path for chunk in document.chunks] == [(), ("limits",), ("users",)]


def test_numbers_stay_as_they_were_written() -> None:
    assert parse('{"a": 1.10, "b": 1e400, "c": %s, "d": NaN}' % ("9" * 5000), name="a.json").text.startswith(
        "a: 1.10\nb: 1e400\nc: 999"
    )


def test_each_json_line_has_its_number() -> None:
    lines = "\n".join(json.dumps({"id": number, "text": SENTENCE * 3}) for number in range(10))
    document = parse(lines, name="a.jsonl")
    assert_sound(document)
    assert document.chunks[-1].line is not None
    assert f"id: {document.chunks[-1].line - 1}\n" in document.chunks[-1].text


def test_broken_json_is_refused_with_its_place() -> None:
    assert "line 2, column 1" in refusal('{"a": 1,\n}', "a.json")
    assert "line 3" in refusal('{"a": 1}\n{"a": 2}\n{"a": \n', "a.jsonl")


@pytest.mark.parametrize("data", ["[" * 10_000, "[" * 10_000 + "]" * 10_000, '{"a":' * 200 + "1" + "}" * 200])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.schema.json"])
def test_deep_json_is_refused(data: str, name: str) -> None:
    assert "levels" in refusal(data, name) or "JSON" in refusal(data, name)


def test_surrogates_escaped_in_json_reach_no_chunk() -> None:
    document = parse('{"a": "x\\ud800\\u0000y", "\\udfff": [{"b": 1}]}', name="a.json")
    assert_sound(document)


def test_yaml_that_is_no_api_stays_as_it_is() -> None:
    source = "# where to listen\nserver:\n  port: 80\n\nclient: {a: 1}\n"
    document = parse(source, name="a.yaml")
    assert (document.text, document.media_type) == (source, "text/x-yaml")


# ---------------------------------------------------------------- optional packages


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if no optional package were installed."""
    for package in ("pypdf", "markdown_it", "yaml", "charset_normalizer"):
        monkeypatch.setitem(sys.modules, package, None)
    yield


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7", "a.pdf"),
        (b"# words", "a.md"),
        (b"openapi: 3.1.0\npaths: {}\n", "a.yaml"),
        (RUSSIAN.encode("cp1251"), "a.txt"),
    ],
)
@pytest.mark.usefixtures("without")
def test_a_missing_parser_says_how_to_get_it(data: bytes, name: str) -> None:
    with pytest.raises(UnsupportedError, match=r'pip install "memory-plugin\[documents\]"'):
        parse(data, name=name)


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize("name", ["a.txt", "a.html", "a.rst", "a.py", "a.csv", "a.yaml"])
def test_the_other_formats_need_no_package(name: str) -> None:
    assert_sound_chunks("words", parse(b"words", name=name).chunks)


def test_importing_the_parsers_loads_none_of_them() -> None:
    program = (
        "import sys, memory_plugin.parsers; heavy = {'pypdf', 'markdown_it', 'yaml', 'tokenizers', 'numpy', "
        "'charset_normalizer', 'zipfile', 'xml.etree.ElementTree'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
