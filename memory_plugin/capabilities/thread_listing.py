"""One page of conversations as one statement, and the place where the next one begins.

A search goes through two indexes: the words of titles and ids, and those of messages in the search
index; both without case and accents. All words must be in the title, or all in one message; the
last one may be the beginning of a word.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from memory_plugin.db.database import Record
from memory_plugin.db.expressions import FOLDED, FOLDED_LEXEMES, THREAD_WORDS
from memory_plugin.errors import InvalidInputError

Order = Literal["recent", "relevance"]

MOST_WORDS = 32
"""Words of a search that count."""

SHORTEST_START = 3
"""Characters from which the beginning of a word is looked for in messages too."""

_SPLIT = re.compile(r"[\x01-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f\s]+")
_ALONE = re.compile("([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
_MARKS = re.compile("[\u0300-\u036f]+")
_LETTERS = str.maketrans({"ß": "ss", **dict(zip("łŁøØđĐħĦı", "lLoOdDhHi", strict=True))})

# the word as the messages were indexed, with and without its accents, and as it is
_CONTENT = f"""content AS (
    SELECT ({FOLDED.format("string_agg('(' || query::text || ')', ' & ')")})::tsquery AS query FROM (
        SELECT to_tsquery({{language}}::text::regconfig, raw)
            || to_tsquery({{language}}::text::regconfig, plain) || to_tsquery('simple', plain) AS query
        FROM unnest({{raws}}::text[], {{plains}}::text[]) AS w (raw, plain)
        WHERE numnode(to_tsquery({{language}}::text::regconfig, raw)) > 0
    ) AS words
), """

_MATCHED = f"""matched AS MATERIALIZED (
    SELECT thread_id, round(sum(score)::numeric, 6) AS score FROM (
        SELECT thread_id, 1::float8 AS score FROM {{seen}}conversations WHERE tenant_id = $1 AND {{in_title}}
        UNION ALL
        SELECT thread_id, hits / (1 + hits) FROM (
            SELECT thread_id, sum(1 / (1 + ln(1 + length)))::float8 AS hits FROM {{seen}}passages
            WHERE tenant_id = $1 AND kind = 2 AND live_until IS NULL
              AND ({FOLDED_LEXEMES}) @@ (SELECT query FROM content)
            GROUP BY thread_id
        ) AS said
    ) AS found GROUP BY thread_id
)
"""


def folded(text: str) -> str:
    """The text in lower case without its accents, as the indexes have it."""
    return _MARKS.sub("", unicodedata.normalize("NFD", text)).translate(_LETTERS).lower()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a listing shows; None leaves a side open. `metadata` is JSON text."""

    user_id: str | None = None
    search: str | None = None
    metadata: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    order: Order = "recent"


def statement(
    columns: str, tenant: str, language: str, wanted: Wanted, after: Sequence[Any] | None, size: int
) -> tuple[str, list[Any]]:
    """The statement of a page and its arguments.

    Args:
        columns: of the conversation.
        after: the place that a cursor names.
    """
    arguments: list[Any] = [tenant]

    def bind(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    conditions = ["c.tenant_id = $1", "c.forgotten_at IS NULL"]
    if wanted.user_id is not None:
        conditions.append(f"c.user_id = {bind(wanted.user_id)}")
    if wanted.metadata is not None:
        conditions.append(f"c.metadata @> {bind(wanted.metadata)}::text::jsonb")
    if wanted.since is not None:
        hour = wanted.since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        conditions.append(f"c.active_hour >= {bind(hour)} AND c.updated_at >= {bind(wanted.since)}")
    if wanted.until is not None:
        until = bind(wanted.until)
        conditions.append(f"c.active_hour <= {until} AND c.updated_at < {until}")
    head, source, score = "", "{seen}conversations c", "0::numeric"
    if wanted.search is not None:
        head = _search(wanted.search, language, bind)
        source, score = "matched m JOIN {seen}conversations c ON c.thread_id = m.thread_id", "m.score"
    order = ["c.active_hour", "c.updated_at", "c.thread_id"]
    if wanted.order == "relevance":
        order.insert(0, score)
    if after is not None:
        places = [bind(value) for value in after]
        if wanted.order == "relevance":
            places[0] += "::text::numeric"
        else:
            conditions.append(f"c.active_hour <= {places[0]}")
        conditions.append(f"({', '.join(order)}) < ({', '.join(places)})")
    text = (
        f"{head}SELECT {columns}, {score}::text AS score FROM {source} WHERE {' AND '.join(conditions)}\n"
        f"ORDER BY {', '.join(f'{each} DESC' for each in order)} LIMIT {bind(size)}"
    )
    return text, arguments


def _search(search: str, language: str, bind: Any) -> str:
    raws = [part for word in _SPLIT.split(search.lower()) for part in _ALONE.split(word) if part.strip()][:MOST_WORDS]
    plains = [folded(word) for word in raws]
    in_title = []
    if plains:
        query = " & ".join([f"'{word}'" for word in plains[:-1]] + [f"'{plains[-1]}':*"])
        in_title.append(f"({THREAD_WORDS}) @@ to_tsquery('simple', {bind(query)}::text)")
    if not plains or _SPLIT.search(search.strip().replace(" ", "")):
        # signs are no words: they must stand there as they were written
        literal = folded(search.strip()).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        whole = FOLDED.format("coalesce(title, '') || ' ' || thread_id")
        in_title.append(f"lower({whole}) LIKE {bind(f'%{literal}%')}::text")
    start = ":*" if raws and len(plains[-1]) >= SHORTEST_START else ""
    marked = [[f"'{word}'" for word in words] for words in (raws, plains)]
    for words in marked:
        if words:
            words[-1] += start
    content = _CONTENT.format(language=bind(language), raws=bind(marked[0]), plains=bind(marked[1]))
    return "WITH " + content + _MATCHED.replace("{in_title}", " AND ".join(in_title))


def write_cursor(row: Record, order: Order) -> str:
    """The place of the last row of a page."""
    place = [row["active_hour"].isoformat(), row["updated_at"].isoformat(), row["thread_id"]]
    if order == "relevance":
        place.insert(0, row["score"])
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode()


def read_cursor(cursor: str | None, order: Order) -> list[Any] | None:
    """The place that a cursor names.

    Raises:
        InvalidInputError: it is not one of a page in this order.
    """
    if cursor is None:
        return None
    try:
        *score, hour, updated, thread = orjson.loads(base64.urlsafe_b64decode(cursor.encode()))
        place = [*(str(float(each)) for each in score), datetime.fromisoformat(hour), datetime.fromisoformat(updated)]
    except (ValueError, TypeError, UnicodeError) as error:
        raise InvalidInputError("The cursor is not one that a page gave: start again without one.") from error
    if len(score) != (order == "relevance"):
        raise InvalidInputError("The cursor is of a page in another order: start again without one.")
    return [*place, str(thread)]
