"""From stored text to an answer: harmless, fenced, within its budget, whatever the text is."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp.server.mcpserver.exceptions import ToolError

from mcp_server.answers import moment
from mcp_server.render import SMALLEST_BUDGET, as_text, date, facts, fit, label, result, size
from mcp_server.results import DATA_NOTICE, Found, Item, Recalled
from mcp_server.schema import of_answer, of_arguments
from memory_plugin.fencing import _INVISIBLE, _LINE_BREAKS, FENCE, harmless

GAPS = ["", " ", "\u200b", "\t", "\ufeff", "\u2060\u200d"]
texts = st.text(max_size=300) | st.lists(
    st.sampled_from([*FENCE, "<", "/", ">", "\n", "> ", "[2] id: x", "\r", "\u2028", "☕", '"', *GAPS]), max_size=60
).map("".join)
fences = st.lists(st.sampled_from(GAPS), min_size=len(FENCE) + 2, max_size=len(FENCE) + 2).flatmap(
    lambda gaps: st.sampled_from(["", "/"]).map(
        lambda slash: "<" + gaps[0] + slash + gaps[1] + "".join(map("".join, zip(FENCE, gaps[2:], strict=True))) + ">"
    )
)


def found(text: str, number: int = 0) -> Found:
    return Found(id=f"id-{number}", kind="memory", text=harmless(text), score=0.5)


def recalled(stored: list[str], max_tokens: int) -> Recalled:
    entries = [found(text, number) for number, text in enumerate(stored)]

    def build(count: int, characters: int) -> Recalled:
        kept = [each.cut(characters) for each in entries[:count]]
        return Recalled(
            notice=DATA_NOTICE, results=kept, truncated=kept != entries, omitted=len(entries) - len(kept) or None
        )

    return fit(
        build, count=len(entries), longest=max((len(each.text) for each in entries), default=0), max_tokens=max_tokens
    )


# -- harmless


@given(before=texts, fence=fences, after=texts)
def test_no_spelling_of_the_fence_survives(before: str, fence: str, after: str) -> None:
    cleaned = re.sub(r"[\s\u200b-\u200f\u2060\ufeff]", "", harmless(before + fence + after)).lower()
    assert f"<{FENCE}" not in cleaned and f"</{FENCE}" not in cleaned


@given(texts)
def test_making_harmless_twice_changes_nothing_more(text: str) -> None:
    assert harmless(harmless(text)) == harmless(text)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="<"), max_size=200))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text


def test_nothing_that_has_to_go_is_printable() -> None:
    """So that ordinary text is passed on without being searched."""
    everything = [chr(point) for point in range(0x110000)]
    printable = "".join(filter(str.isprintable, everything)).replace("<", "")
    assert len(printable) > 140_000
    assert _INVISIBLE.search(printable) is None
    assert _LINE_BREAKS.search(printable) is None


@pytest.mark.parametrize("text", ["if a < b:", "<div>code</div>", "List<memory>", "x </memory> y", "👩‍👩‍👧 family"])
def test_code_and_emoji_stay_as_they_are(text: str) -> None:
    assert harmless(text) == text


@pytest.mark.parametrize("hidden", ["\x00", "\x1b[31m", "\u202e", "\u2066", "\U000e0041", "\ud800"])
def test_what_a_person_cannot_see_is_left_out(hidden: str) -> None:
    assert hidden[0] not in harmless(f"a{hidden}b")


@given(st.text(max_size=400))
def test_a_label_is_one_short_line(text: str) -> None:
    line = label(text)
    assert line is None or (len(line) <= 200 and len(line.splitlines()) <= 1)


# -- text


@given(st.lists(texts, min_size=1, max_size=5))
def test_every_line_of_stored_text_is_marked(stored: list[str]) -> None:
    answer = Recalled(notice=DATA_NOTICE, results=[found(text, number) for number, text in enumerate(stored)])
    lines = as_text(answer).split("\n")
    assert lines[0] == DATA_NOTICE
    assert lines.count(f"<{FENCE}>") == lines.count(f"</{FENCE}>") == 1
    ours = [line for line in lines if not line.startswith("> ")]
    assert [line for line in ours if line.startswith("[")] == [
        f"[{number}] id: id-{number - 1} | score: 0.5 | kind: memory" for number in range(1, len(stored) + 1)
    ]
    assert len(ours) == len(stored) + 4
    assert len(as_text(answer).splitlines()) == len(lines), "no other character breaks a line"


@given(texts)
def test_the_text_can_be_read_back_from_the_fence(text: str) -> None:
    item = Item(notice=DATA_NOTICE, id="x", kind="memory", text=harmless(text), characters=len(text))
    body = as_text(item).split("\n")[3:-1]
    assert "\n".join(line.removeprefix("> ") for line in body) == facts(item)["text"]


def test_unknown_facts_are_left_out_of_both() -> None:
    answered = result(Recalled(notice="n", results=[found("tea")]))
    assert answered.structured_content == {
        "notice": "n",
        "results": [{"text": "tea", "id": "id-0", "score": 0.5, "kind": "memory"}],
        "truncated": False,
    }
    assert "None" not in answered.content[0].text and "null" not in answered.content[0].text


# -- budgets


@given(st.lists(st.text(max_size=3000) | texts, max_size=12), st.integers(SMALLEST_BUDGET, 2000))
@example(["texts", "that", "are", "short", "", "and", "grow", "when cut"], SMALLEST_BUDGET)
def test_a_result_never_exceeds_its_budget(stored: list[str], max_tokens: int) -> None:
    answer = recalled(stored, max_tokens)
    wire = result(answer).model_dump_json(by_alias=True, exclude_none=True).encode("utf-8", "replace")
    assert len(wire) <= size(answer) <= 4 * max_tokens
    assert len(answer.results) + (answer.omitted or 0) == len(stored)
    for entry, text in zip(answer.results, stored, strict=False):
        whole = harmless(text)
        assert entry.text == whole if not entry.truncated else whole.startswith(entry.text[:-1])
    assert answer.truncated == (any(entry.truncated for entry in answer.results) or bool(answer.omitted))
    if stored:
        assert answer.results, "one entry always has room"


def test_what_fits_is_not_touched() -> None:
    stored = ["tea", "coffee"]
    answer = recalled(stored, 1500)
    assert [entry.text for entry in answer.results] == stored
    assert not answer.truncated


def test_a_million_characters_are_cut_in_reasonable_time() -> None:
    answer = recalled(["x" * 1_000_000] * 50, 1500)
    assert answer.truncated and size(answer) <= 6000


def test_what_cannot_be_cut_is_refused() -> None:
    huge = Item(notice="n", id="x" * 5000, kind="memory", text="", characters=0)
    with pytest.raises(ToolError, match="does not fit"):
        fit(lambda _, __: huge, count=1, longest=0, max_tokens=SMALLEST_BUDGET)


# -- dates


def test_times_are_shown_in_utc_to_the_second() -> None:
    assert date(datetime(2026, 1, 1, 1, 30, 15, 999, timezone(timedelta(hours=2)))) == "2025-12-31T23:30:15Z"
    assert date(None) is None


@pytest.mark.parametrize(
    ("text", "end", "expected"),
    [
        ("2026-01-31", False, datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31", True, datetime(2026, 2, 1, tzinfo=UTC)),
        ("2026-01-31T10:00:00Z", True, datetime(2026, 1, 31, 10, tzinfo=UTC)),
        (" 2026-01-31T10:00 ", False, datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T10:00:00+02:00", False, datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("", False, None),
        (None, True, None),
    ],
)
def test_a_plain_date_is_the_whole_day(text: str | None, end: bool, expected: datetime | None) -> None:
    assert moment(text, "until", end=end) == expected


@pytest.mark.parametrize("text", ["yesterday", "31.01.2026", "2026-13-01", "9999-12-31", "1"])
def test_what_is_no_date_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ToolError, match=r"until must be an ISO date such as \d{4}-\d\d-\d\d"):
        moment(text, "until", end=True)


# -- schemas


def test_schemas_lose_titles_nulls_and_references_but_no_field() -> None:
    schema = of_answer(Recalled.model_json_schema())
    entry = schema["properties"]["results"]["items"]
    assert set(entry["properties"]) == set(Found.model_fields)
    assert not re.search(r'"title"|\$ref|"null"|anyOf', str(schema).replace("'", '"'))


def test_an_argument_called_title_is_kept() -> None:
    schema = {
        "properties": {"title": {"title": "Title", "anyOf": [{"type": "string"}, {"type": "null"}], "default": None}}
    }
    assert of_arguments(schema) == {"properties": {"title": {"type": "string"}}}
