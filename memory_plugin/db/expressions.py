"""Expressions that indexes are made of: a statement that is to use such an index says the same."""

from __future__ import annotations

FOLDED = (
    r"translate(replace(regexp_replace(normalize({}, NFD), '[\u0300-\u036f]+', '', 'g'), 'ß', 'ss'),"
    " 'łŁøØđĐħĦı', 'lLoOdDhHi')"
)
"""A text without its accents, with built-in functions alone."""

THREAD_WORDS = (
    r"to_tsvector('simple', regexp_replace(regexp_replace("
    + FOLDED.format("coalesce(title, '') || ' ' || thread_id")
    + r", '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007f]+', ' ', 'g'),"
    r" '([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])',"
    r" ' \1 ', 'g'))"
)
"""The words of a thread's title and id, each character of a script without spaces as a word."""

FOLDED_LEXEMES = (
    "CASE WHEN octet_length(lexemes::text) = char_length(lexemes::text) THEN lexemes "
    f"ELSE ({FOLDED.format('lexemes::text')})::tsvector END"
)
"""The words of a passage without their accents: those of ASCII alone have none."""
