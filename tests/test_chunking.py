"""The chunker: exact spans, structure kept, sizes held, linear work."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_plugin import chunking
from memory_plugin.chunking import Block, ChunkSizes, count_tokens, iter_chunks
from memory_plugin.errors import ConfigurationError
from memory_plugin.parsers import parse
from memory_plugin.parsers.plain import paragraphs
from memory_plugin.types import Chunk
from tests.chunk_checks import assert_sound_chunks

SENTENCE = "The refund goes back to the card that paid, and it takes five to ten days. "
KINDS = ("heading", "paragraph", "list", "code", "table", "record")
TEXTS = st.text(
    alphabet=st.one_of(
        st.sampled_from("aA1 .!?\n\r\t-|#`é。中\u0301👍\u200d\u00a0"), st.characters(exclude_categories=["Cs"])
    ),
    max_size=600,
)


def chunks_of(text: str, *blocks: Block, sizes: ChunkSizes = chunking.DEFAULT_SIZES) -> list[Chunk]:
    return list(iter_chunks(text, blocks or paragraphs(text, 0, len(text)), sizes=sizes, numbered=True))


def written(*parts: tuple[str, str, tuple[str, ...]]) -> tuple[str, list[Block]]:
    """A text from (words, kind, heading path) parts, and its blocks."""
    text, blocks = "", []
    for words, kind, path in parts:
        start = len(text)
        text += words
        blocks.append(Block(start, len(text), kind, path))  # type: ignore[arg-type]
        text += "\n\n"
    return text, blocks


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[Block]]:
    """Any text with any blocks in order: with gaps, of any kind, under any headings."""
    text = draw(TEXTS) * draw(st.integers(1, 4))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    blocks = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        if draw(st.booleans()):
            path = tuple(draw(st.lists(st.sampled_from("AB"), max_size=2)))
            blocks.append(Block(start, end, draw(st.sampled_from(KINDS)), path, page=draw(st.sampled_from([None, 1]))))
    return text, blocks


@settings(max_examples=150, deadline=None)
@given(documents(), st.sampled_from([ChunkSizes(16, 16), ChunkSizes(20, 40), ChunkSizes()]))
def test_any_text_with_any_blocks_gives_sound_chunks(document: tuple[str, list[Block]], sizes: ChunkSizes) -> None:
    text, blocks = document
    assert_sound_chunks(text, list(iter_chunks(text, blocks, sizes=sizes)), sizes.maximum)


@settings(max_examples=60, deadline=None)
@given(documents())
def test_the_estimate_holds_the_same_promises(document: tuple[str, list[Block]]) -> None:
    text, blocks = document
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "_tokenizer", lambda: None)
        assert_sound_chunks(text, list(iter_chunks(text, blocks, sizes=ChunkSizes(16, 24))), 24)


def test_short_neighbours_under_one_heading_become_one_chunk() -> None:
    text, blocks = written(*[(f"Paragraph {number}.", "paragraph", ("A",)) for number in range(5)])
    assert [chunk.text for chunk in chunks_of(text, *blocks)] == [text.strip()]


def test_neighbours_under_different_headings_stay_apart() -> None:
    text, blocks = written(("One.", "paragraph", ("A",)), ("Two.", "paragraph", ("B",)))
    assert [chunk.heading_path for chunk in chunks_of(text, *blocks)] == [("A",), ("B",)]


def test_pages_stay_apart() -> None:
    text = "first page\n\nsecond page"
    chunks = chunks_of(text, Block(0, 10, page=1), Block(12, len(text), page=2))
    assert [(chunk.page, chunk.text) for chunk in chunks] == [(1, "first page"), (2, "second page")]


def test_a_heading_opens_the_chunk_of_its_section() -> None:
    text, blocks = written(
        ("Top", "heading", ("Top",)), ("Sub", "heading", ("Top", "Sub")), ("Words.", "paragraph", ("Top", "Sub"))
    )
    (chunk,) = chunks_of(text, *blocks)
    assert (chunk.text, chunk.heading_path) == ("Top\n\nSub\n\nWords.", ("Top", "Sub"))


def test_a_heading_without_text_does_not_take_the_next_section() -> None:
    text, blocks = written(("A", "heading", ("A",)), ("B", "heading", ("B",)), ("Words.", "paragraph", ("B",)))
    assert [chunk.text for chunk in chunks_of(text, *blocks)] == ["A", "B\n\nWords."]


def test_a_heading_is_not_left_alone_above_a_long_paragraph() -> None:
    paragraph = SENTENCE * 15
    text, blocks = written(("Refunds", "heading", ("Refunds",)), (paragraph, "paragraph", ("Refunds",)))
    first = chunks_of(text, *blocks)[0]
    assert first.text.startswith("Refunds\n\nThe refund goes back")


def test_a_block_between_target_and_maximum_stays_whole() -> None:
    code = "\n".join(f"value_{number} = compute({number})" for number in range(44))
    assert chunking.TARGET_TOKENS < count_tokens(code) < chunking.MAX_TOKENS
    text, blocks = written(("Before.", "paragraph", ()), (code, "code", ()), ("After.", "paragraph", ()))
    assert any(code in chunk.text for chunk in chunks_of(text, *blocks))


def test_a_long_paragraph_is_cut_at_sentence_ends() -> None:
    chunks = chunks_of(SENTENCE * 120)
    assert len(chunks) > 3
    assert all(chunk.text.endswith("days.") for chunk in chunks)


def test_an_abbreviation_does_not_end_a_sentence() -> None:
    text = "Fees, e.g. Visa and those of Dr. Smith, stay. Next."
    pieces = [text[start:end] for start, end in chunking._pieces(text, 0, len(text), chunking._SENTENCE)]
    assert pieces == ["Fees, e.g. Visa and those of Dr. Smith, stay. ", "Next."]


def test_a_sentence_without_end_is_cut_between_words() -> None:
    words = "refund charge customer " * 400
    chunks = chunks_of(words)
    assert_sound_chunks(words, chunks)
    assert {word for chunk in chunks for word in chunk.text.split()} == {"refund", "charge", "customer"}


def test_chinese_is_cut_at_its_own_full_stops() -> None:
    text = "退款已创建，客户将在五天内收到。" * 80
    chunks = chunks_of(text)
    assert_sound_chunks(text, chunks)
    assert len(chunks) > 3
    assert all(chunk.text.endswith("。") for chunk in chunks)


def test_text_without_any_spaces_is_cut_evenly() -> None:
    text = "退款已创建客户将在五天内收到" * 300
    chunks = chunks_of(text)
    assert_sound_chunks(text, chunks)
    assert min(chunk.tokens for chunk in chunks) > chunking.TARGET_TOKENS // 2


def test_no_cut_inside_a_combined_character() -> None:
    text = "e\u0301" * 3000
    assert not any(chunk.text.startswith("\u0301") for chunk in chunks_of(text))


def test_code_is_cut_at_blank_lines_and_keeps_its_indentation() -> None:
    method = "    def refund(self, charge):\n        return self.client.post('/refunds', charge)\n\n"
    code = "class Client:\n" + method * 60
    chunks = chunks_of(code, Block(0, len(code), "code"))
    assert len(chunks) > 2
    assert all(chunk.text.startswith("    def") for chunk in chunks[1:])


def test_a_long_table_is_cut_between_rows_and_names_its_columns() -> None:
    rows = "".join(f"| plan {number} | {number} EUR |\n" for number in range(80))
    text = "| Plan | Price |\n|---|---|\n" + rows
    chunks = chunks_of(text, Block(0, len(text), "table"))
    assert all(line.endswith("|") for chunk in chunks for line in chunk.text.splitlines())
    assert {chunk.metadata.get("table_header") for chunk in chunks[1:]} == {"| Plan | Price |"}


def test_list_items_stay_whole() -> None:
    items = [f"- {SENTENCE.strip()} Item {number}.\n" for number in range(40)]
    text, blocks, start = "".join(items), [], 0
    for item in items:
        blocks.append(Block(start, start + len(item), "list"))
        start += len(item)
    assert all(chunk.text.startswith("- ") for chunk in chunks_of(text, *blocks))


def test_a_tail_too_small_to_stand_alone_joins_the_chunk_before() -> None:
    paragraph = "word " * 205
    text, blocks = written((paragraph.strip(), "paragraph", ()), ("One more word about it all.", "paragraph", ()))
    assert len(chunks_of(text, *blocks)) == 1


def test_lines_are_counted_in_the_text() -> None:
    text = "one\r\ntwo\r\n\r\n" + SENTENCE * 20 + "\r\n\r\nlast"
    blocks = [
        Block(0, 8, heading_path=("a",)),
        Block(12, len(text) - 8),
        Block(len(text) - 4, len(text), heading_path=("b",)),
    ]
    chunks = chunks_of(text, *blocks)
    assert (chunks[0].line, chunks[1].line, chunks[-1].line) == (1, 4, 6)


def test_a_line_given_by_the_parser_wins() -> None:
    assert chunks_of("row", Block(0, 3, "table", line=41))[0].line == 41


def test_visible_text_outside_every_block_is_not_lost() -> None:
    chunks = chunks_of("[ref]: x\n\nwords\n\ntail", Block(10, 15))
    assert "".join(chunk.text for chunk in chunks).count("[ref]: x") == 1
    assert chunks[-1].text.endswith("tail")


@pytest.mark.parametrize(("target", "maximum"), [(15, 100), (200, 100), (0, 0)])
def test_sizes_that_cannot_work_are_refused(target: int, maximum: int) -> None:
    with pytest.raises(ConfigurationError, match="16 <= target <= maximum"):
        ChunkSizes(target, maximum)


def test_five_megabytes_take_seconds_and_each_character_is_counted_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    paragraph = SENTENCE * 3 + "\n\n" + "word " * 30 + "\n\n" + "中" * 40 + "\n\n"
    text = paragraph * (5_000_000 // len(paragraph))
    counted = 0

    def counting(piece: str) -> int:
        nonlocal counted
        counted += len(piece)
        return count_tokens(piece)

    monkeypatch.setattr(chunking, "count_tokens", counting)
    started = time.process_time()
    number = sum(1 for _ in iter_chunks(text, paragraphs(text, 0, len(text)), numbered=True))
    assert number > 2_500
    assert counted < 4 * len(text)
    assert time.process_time() - started < 30


@pytest.mark.parametrize("text", ["word " * 40_000, "x" * 200_000, "中" * 60_000, "a. " * 60_000, "\n" * 200_000 + "x"])
def test_shapeless_text_is_counted_a_few_times_only(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = 0

    def counting(piece: str) -> int:
        nonlocal counted
        counted += len(piece)
        return len(piece) // 3 + 1

    monkeypatch.setattr(chunking, "count_tokens", counting)
    assert sum(1 for _ in iter_chunks(text, [Block(0, len(text))])) >= 1
    assert counted < 8 * len(text)


@pytest.mark.parametrize("name", ["list.md", "list.txt"])
def test_very_short_lines_are_not_counted_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def counting(piece: str) -> int:
        nonlocal calls
        calls += 1
        return len(piece) // 2 + 1

    monkeypatch.setattr(chunking, "count_tokens", counting)
    text = "- a\n" * 60_000
    started = time.process_time()
    document = parse(text, name=name)
    assert calls < 60_000 / 3
    assert time.process_time() - started < 10
    assert all(chunk.text.startswith("- a") and chunk.text.endswith("- a") for chunk in document.chunks)


def test_the_tokenizer_is_real_and_does_not_load_its_package() -> None:
    program = (
        "import sys; from memory_plugin.chunking import _tokenizer, count_tokens; "
        "assert _tokenizer() is not None; assert count_tokens('Hello world.') == 3; "
        "assert 'wordllama' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_counting_in_slices_agrees_with_counting_at_once() -> None:
    text = SENTENCE * 400
    tokenizer = chunking._tokenizer()
    assert tokenizer is not None
    exact = len(tokenizer.encode(text, add_special_tokens=False))
    assert abs(count_tokens(text) - exact) <= len(text) // 4096


def test_counting_survives_lone_surrogates() -> None:
    assert count_tokens("a \ud800 b") > 0


def test_a_broken_tokenizer_file_is_said_and_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tokenizers").mkdir()
    (tmp_path / "tokenizers" / "a_tokenizer.json").write_text("{}")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(chunking, "find_spec", lambda name: spec)
    assert chunking._tokenizer.__wrapped__() is None
    assert "Token counts are estimated" in caplog.text


def test_the_maximum_holds_where_parts_count_less_than_their_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "count_tokens", lambda text: len(text) if len(text) > 20 else 1)
    text = "ten letter " * 40
    blocks = [Block(start, start + 11) for start in range(0, len(text), 11)]
    chunks = chunks_of(text, *blocks, sizes=ChunkSizes(30, 40))
    assert max(len(chunk.text) for chunk in chunks) <= 40
    assert "".join(chunk.text for chunk in chunks).replace(" ", "") == text.replace(" ", "")


def test_the_estimate_is_near_the_tokenizer_for_english(monkeypatch: pytest.MonkeyPatch) -> None:
    text = SENTENCE * 20
    exact = count_tokens(text)
    monkeypatch.setattr(chunking, "_tokenizer", lambda: None)
    assert exact * 0.9 < count_tokens(text) < exact * 1.4


def test_counting_keeps_no_texts() -> None:
    """The cache of the tokenizer would: 6 KB for each short text."""
    import psutil

    count_tokens("loaded")
    before = psutil.Process().memory_info().rss
    for number in range(4_000):
        count_tokens(f"{number} is a number, and this is a sentence of some length about it. " * 3)
    assert psutil.Process().memory_info().rss - before < 10_000_000
