"""Ranking: each signal moves a hit for its own reason, and what a hit scores is what its parts add up to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memory_plugin.capabilities.passages import MEMORY, MESSAGE, Candidate
from memory_plugin.core import MemoryCore
from memory_plugin.errors import InvalidInputError
from memory_plugin.memory import Memory
from memory_plugin.ranking import Question, Weights, fuse, read_question
from memory_plugin.ranking.periods import Period, periods_of
from memory_plugin.ranking.question import possible_names
from memory_plugin.types import Hit, uuid7

NOON = datetime(2023, 5, 8, 12, tzinfo=UTC)


def said(seq: int, words: float = 0.0, meaning: float | None = None, **other: object) -> Candidate:
    """A turn of one thread, a minute after the one before it."""
    values: dict[str, object] = {
        "id": uuid7(), "kind": MESSAGE, "words": words, "meaning": meaning, "said_at": NOON + timedelta(minutes=seq),
        "user_id": "u", "thread_id": "t", "seq": seq, "document_id": None, "speaker": "human", "length": 8,
    }  # fmt: skip
    return Candidate(**{**values, **other})  # type: ignore[arg-type]


def fact(words: float, meaning: float | None = None) -> Candidate:
    return said(1, words, meaning)._replace(kind=MEMORY, seq=None, thread_id=None)


def order(candidates: Sequence[Candidate], question: str | Question = "", weights: Weights | None = None) -> list[int]:
    """The places in their threads, the best first."""
    read = question if isinstance(question, Question) else read_question(question)
    return [each.candidate.seq or 0 for each in fuse(candidates, weights or Weights(), read)]


def without(name: str) -> Weights:
    return dataclasses.replace(Weights(), **{name: 0.0})


# ---------------------------------------------------------------- one signal at a time


def test_the_reply_to_what_matches_comes_before_what_stands_alone() -> None:
    candidates = [said(1, 4.0), said(2, 1.0), said(40, 1.2)]
    assert order(candidates) == [1, 2, 40]
    assert order(candidates, weights=Weights.plain()) == [1, 40, 2]


@pytest.mark.parametrize(
    ("name", "matching", "beside"), [("previous", 20, 21), ("next", 20, 19)], ids=["previous", "next"]
)
def test_a_neighbour_lends_its_words(name: str, matching: int, beside: int) -> None:
    only = dataclasses.replace(Weights.plain(), **{name: 0.5})
    candidates = [said(matching, 4.0), said(beside, 1.0), said(60, 1.2)]
    assert order(candidates, weights=only)[-1] == 60
    assert order(candidates, weights=Weights.plain())[-1] == beside


def test_what_follows_a_question_gains_more_than_what_follows_a_statement() -> None:
    candidates = [said(1, 4.0), said(2, 1.0), said(50, 4.0, asks=True), said(51, 1.0)]
    ranked = order(candidates)
    assert ranked.index(51) < ranked.index(2)
    level = {each.candidate.seq: each.parts["answer"] for each in fuse(candidates, Weights())}
    assert level[51] > 0 == level[2]


def test_a_session_that_is_about_the_matter_lifts_its_turns() -> None:
    about = [said(10, 3.0), said(12, 3.0), said(14, 3.0), said(17, 1.0)]
    only = dataclasses.replace(Weights.plain(), session=0.6)
    assert order([*about, said(90, 1.1)], weights=only)[-1] == 90
    assert order([*about, said(90, 1.1)], weights=Weights.plain())[-1] == 17


def test_a_long_silence_ends_a_session() -> None:
    later = {"said_at": NOON + timedelta(days=1)}
    candidates = [said(1, 3.0), said(2, 3.0), said(3, 3.0), said(4, 1.0, **later), said(5, 1.0, **later)]
    parts = {each.candidate.seq: each.parts for each in fuse(candidates, Weights())}
    assert parts[4]["previous"] == 0
    assert parts[4]["session"] < parts[3]["session"] / 2


def test_threads_lend_each_other_nothing() -> None:
    parts = {
        each.candidate.thread_id: each.parts
        for each in fuse([said(1, 4.0), said(2, 1.0, thread_id="other")], Weights())
    }
    assert parts["other"]["previous"] == 0


def test_long_messages_stand_for_themselves() -> None:
    def context(length: int) -> float:
        parts = fuse([said(1, 4.0, length=length), said(2, 2.0, length=length)], Weights())
        return next(each.parts["previous"] for each in parts if each.candidate.seq == 2)

    assert context(10) == context(20) > 5 * context(400) > 0


def test_whom_the_question_names_is_preferred() -> None:
    candidates = [said(1, 2.0, speaker="Ann Lee"), said(30, 2.2, speaker="Bob")]
    asked = read_question("What does Ann like?", speakers=["Ann"])
    assert order(candidates, asked) == [1, 30]
    assert order(candidates, asked, without("speaker")) == [30, 1]


def test_two_named_speakers_prefer_neither() -> None:
    asked = read_question("What do Ann and Bob like?", speakers=["Ann", "Bob"])
    assert all(each.parts["speaker"] == 0 for each in fuse([said(1, 1.0, speaker="Ann")], Weights(), asked))


def test_what_the_user_said_answers_questions_about_the_user() -> None:
    candidates = [said(1, 2.0, speaker="ai"), said(30, 1.9, speaker="human")]
    assert order(candidates, "How much do I pay?") == [30, 1]
    assert order(candidates, "How much does it cost?") == [1, 30]


def test_a_question_is_a_worse_answer() -> None:
    candidates = [said(1, 2.0, asks=True), said(30, 1.9)]
    assert order(candidates) == [30, 1]
    assert order(candidates, weights=without("question")) == [1, 30]


def test_a_question_of_when_wants_a_word_of_time() -> None:
    candidates = [said(1, 2.0, dated=True), said(30, 2.2)]
    assert order(candidates, "When did she move?") == [1, 30]
    assert order(candidates, "Where did she move?") == [30, 1]


def test_the_time_that_a_question_names_is_preferred() -> None:
    candidates = [said(1, 2.0), said(2, 2.2, said_at=NOON + timedelta(days=90))]
    asked = read_question("", periods=[Period(datetime(2023, 5, 1, tzinfo=UTC), datetime(2023, 6, 1, tzinfo=UTC))])
    assert order(candidates, asked) == [1, 2]
    assert order(candidates, asked, without("period")) == [2, 1]


def test_equal_scores_put_the_newest_first() -> None:
    assert order([said(1, 1.0), said(50, 1.0)], weights=Weights.plain()) == [50, 1]


# ---------------------------------------------------------------- the score


numbers = st.floats(0, 50)
candidates_of_any_kind = st.lists(
    st.tuples(st.booleans(), numbers, st.one_of(st.none(), st.floats(-1, 1)), st.booleans(), st.booleans()),
    min_size=1,
    max_size=25,
).map(
    lambda rows: [
        said(place, words, meaning, asks=asks, dated=dated) if is_message else fact(words, meaning)
        for place, (is_message, words, meaning, asks, dated) in enumerate(rows, start=1)
    ]
)


@given(candidates_of_any_kind)
def test_the_order_is_that_of_the_sums_and_the_same_each_time(candidates: list[Candidate]) -> None:
    asked = read_question("When did I go?")
    ranked = fuse(candidates, Weights(), asked)
    assert len(ranked) == len(candidates)
    assert all(each.score == pytest.approx(sum(each.parts.values())) for each in ranked)
    assert [each.score for each in ranked] == sorted((each.score for each in ranked), reverse=True)
    assert fuse(list(reversed(candidates)), Weights(), asked) == ranked


@given(candidates_of_any_kind)
@example(
    [fact(0.0), fact(1.0), said(3, 5e-324, asks=False, dated=True)]
)  # beside the fact nothing is left of its words
def test_messages_and_facts_share_one_scale(candidates: list[Candidate]) -> None:
    """The best message counts what it, or another, would by words and meaning alone: never more than 1."""
    ranked = fuse(candidates, without("fact"), read_question("When did I go?"))
    assert all(each.score <= 1 + 1e-9 for each in ranked)


def test_a_fact_that_matches_as_well_as_a_message_is_not_buried_under_its_talk() -> None:
    talk = [said(place, 3.0) for place in range(1, 12)]
    ranked = fuse([fact(3.0), *talk], Weights())
    assert next(place for place, each in enumerate(ranked) if each.candidate.kind == MEMORY) <= len(talk)
    assert max(each.score for each in ranked) == pytest.approx(
        next(each.score for each in ranked if each.candidate.kind == MEMORY)
    )


def test_context_counts_but_is_no_hit() -> None:
    ranked = fuse([said(1, 4.0, is_context=True), said(2, 1.0)], Weights())
    assert [each.candidate.seq for each in ranked] == [2]


def test_no_candidates_no_hits() -> None:
    assert fuse([], Weights()) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, "much", None, True])
def test_a_weight_is_a_finite_number(value: object) -> None:
    with pytest.raises(InvalidInputError, match="session"):
        Weights(session=value)  # type: ignore[arg-type]


def test_every_weight_is_explained() -> None:
    assert [field.name for field in dataclasses.fields(Weights) if f"{field.name}:" not in str(Weights.__doc__)] == []


# ---------------------------------------------------------------- reading the question


@pytest.mark.parametrize("text", ["When did she?", "how long ago was it", "On what date is it?", "Which year was that"])
def test_questions_of_when(text: str) -> None:
    assert read_question(text).asks_when


@pytest.mark.parametrize("text", ["What did she do when it rained?", "the whenever", "How much is it", ""])
def test_other_questions(text: str) -> None:
    assert not read_question(text).asks_when


def test_questions_about_me() -> None:
    assert read_question("what's my deadline").is_about_me
    assert not read_question("what is Mia's deadline").is_about_me


def test_words_that_may_be_names() -> None:
    assert possible_names("Where does Ann work, and O'Neil?") == ["Where", "Ann", "O", "Neil"]
    assert possible_names("where does ann work") == ["where", "does", "ann", "work"]
    assert len(possible_names(" ".join(f"Name{n}" for n in range(500)))) == 64


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("What happened in May 2023?", "2023-05-01", "2023-06-01"),
        ("what was said on 7 May, 2023", "2023-05-07", "2023-05-08"),
        ("on May 7th, 2023 we met", "2023-05-07", "2023-05-08"),
        ("anything of 2022-03-01?", "2022-03-01", "2022-03-02"),
        ("What did we do in 2022?", "2022-01-01", "2023-01-01"),
        ("what did I say yesterday", "2024-06-11", "2024-06-12"),
        ("what did I plan two weeks ago", "2024-05-27", "2024-06-03"),
        ("who called last month?", "2024-05-01", "2024-06-01"),
    ],
)
async def test_a_time_in_a_question_is_understood(text: str, start: str, end: str) -> None:
    assert await periods_of(text, datetime(2024, 6, 12, 9, tzinfo=UTC)) == (Period(day(start), day(end)),)


async def test_a_month_without_a_year_is_that_of_any_year() -> None:
    (period,) = await periods_of("When did she go camping in July?", datetime(2026, 1, 1, tzinfo=UTC))
    assert [period.nearness(day(text)) for text in ("2023-07-04", "2021-07-30", "2023-06-30")] == [1.0, 1.0, 0.0]
    assert period.nearness(day("2023-08-03")) == 0.5
    assert period.nearness(day("2023-09-03")) == 0.0


@pytest.mark.parametrize(
    "text", ["may I march on", "What is her mark in math?", "", "version 2024 of it", "In the end"]
)
async def test_what_names_no_time_has_no_period(text: str) -> None:
    assert await periods_of(text, NOON) == ()


# ---------------------------------------------------------------- through the store


async def talk(core: MemoryCore, thread: str, turns: Sequence[tuple[str, str]], user: str = "u") -> None:
    messages = [{"role": "user", "name": name, "content": text} for name, text in turns]
    times = [NOON + timedelta(minutes=place) for place in range(len(turns))]
    await core.conversations.append(thread, messages, at=times, user_id=user)


async def test_the_speaker_in_the_question_is_known_from_the_conversations(core: MemoryCore) -> None:
    await talk(core, "t", [("Bob", "I baked bread"), ("Cleo", "Nice one"), ("Ann", "I baked a bread for the fair too")])
    hits = await core.recall("What bread was baked by Ann?", user_id="u", kinds=["message"], explain=True)
    assert hits[0].speaker == "Ann"
    assert {hit.speaker: hit.parts["speaker"] > 0 for hit in hits} == {"Ann": True, "Bob": False}


async def test_speakers_of_others_are_nobodys_names(core: MemoryCore) -> None:
    await talk(core, "t", [("Ann", "I baked bread")], user="somebody else")
    await talk(core, "t2", [("Bob", "I baked bread")])
    (hit,) = await core.recall("What bread did Ann bake?", user_id="u", kinds=["message"], explain=True)
    assert hit.parts["speaker"] == 0


async def test_a_name_pulls_in_nothing_by_meaning(memory: Memory) -> None:
    await talk(
        memory, "t", [("Ann", "The dentist fixed my tooth"), ("Bob", "Ann Ann Ann, Ann and Ann"), ("Ann", "Fine")]
    )
    await memory.indexed(10)
    weights = dataclasses.replace(Weights.plain(), words=0.0)
    hits = await memory.recall("Ann's teeth", user_id="u", kinds=["message"], weights=weights)
    assert hits[0].text == "The dentist fixed my tooth"


async def test_neighbours_are_seen_only_where_the_search_may_look(core: MemoryCore) -> None:
    await talk(core, "t", [("Ann", "Where is the walrus?"), ("Bob", "The walrus sleeps"), ("Ann", "Thanks")])
    whole = await core.recall("walrus", user_id="u", kinds=["message"], explain=True)
    assert whole[0].text == "The walrus sleeps"
    assert whole[0].parts["answer"] > 0
    (late,) = await core.recall(
        "walrus", user_id="u", kinds=["message"], since=NOON + timedelta(minutes=1), explain=True
    )
    assert late.parts["answer"] == late.parts["previous"] == 0


async def test_what_is_beside_a_hit_is_no_hit_itself(core: MemoryCore) -> None:
    await talk(core, "t", [("Ann", "good morning"), ("Bob", "A walrus!"), ("Ann", "indeed")])
    assert [hit.text for hit in await core.recall("walrus", user_id="u")] == ["A walrus!"]


async def test_the_parts_add_up_to_the_score(core: MemoryCore) -> None:
    await core.remember("Ann keeps a walrus", user_id="u", importance=0.9)
    await talk(core, "t", [("Ann", "Where is the walrus?"), ("Bob", "The walrus sleeps since May")])
    for explain in (False, True):
        hits = await core.recall("When did I see the walrus in May?", user_id="u", explain=explain)
        assert len(hits) == 3
        assert all(hit.score == pytest.approx(sum(hit.parts.values())) for hit in hits)
        assert all("session" in hit.parts for hit in hits if hit.kind == "message")
    assert {"period", "role", "moment"} <= set(hits[0].parts) | set(hits[1].parts)


async def test_the_same_question_gets_the_same_answer(core: MemoryCore) -> None:
    await talk(core, "t", [("Ann", f"walrus number {number}") for number in range(40)])
    first = await core.recall("walrus", user_id="u", limit=20)
    assert [hit.id for hit in first] == [hit.id for hit in await core.recall("walrus", user_id="u", limit=20)]


async def test_weights_of_a_store_and_of_a_call(database_url: str) -> None:
    async with MemoryCore.open(database_url, embeddings=False, weights=Weights.plain()) as core:
        await talk(core, "t", [("Ann", "a walrus"), ("Bob", "the walrus")])
        assert all(set(hit.parts) == {"words"} for hit in await core.recall("walrus", user_id="u"))
        own = await core.recall("walrus", user_id="u", weights=Weights())
        assert all("session" in hit.parts for hit in own)


async def test_sessions_of_a_user_are_threads_or_one_thread(core: MemoryCore) -> None:
    """However an application cuts its conversations, the same turn wins."""
    first = [("Ann", "Any plans for the weekend?"), ("Bob", "A hike to the old lighthouse"), ("Ann", "Lovely")]
    second = [("Ann", "How was work?"), ("Bob", "Busy, and the lighthouse project is late")]
    await core.conversations.append(
        "one", [{"role": "user", "name": n, "content": c} for n, c in first], at=NOON, user_id="a"
    )
    await core.conversations.append(
        "one", [{"role": "user", "name": n, "content": c} for n, c in second], at=NOON + timedelta(days=3), user_id="a"
    )
    for number, turns in enumerate((first, second)):
        await core.conversations.append(
            f"b{number}", [{"role": "user", "name": n, "content": c} for n, c in turns],
            at=NOON + timedelta(days=3 * number), user_id="b",
        )  # fmt: skip
    found = [[hit.text for hit in await core.recall("weekend lighthouse plans", user_id=user)] for user in ("a", "b")]
    assert found[0] == found[1]
    assert found[0][0] in {first[0][1], first[1][1]}


# ---------------------------------------------------------------- reranking


async def by_length(query: str, hits: list[Hit]) -> list[float]:
    return [float(len(hit.text)) for hit in hits]


def by_length_in_a_thread(query: str, hits: list[Hit]) -> list[float]:
    return [float(len(hit.text)) for hit in hits]


@pytest.mark.parametrize("rerank", [by_length, by_length_in_a_thread], ids=["coroutine", "function"])
async def test_a_reranker_has_the_last_word(core: MemoryCore, rerank: object) -> None:
    for text in ("walrus", "walrus walrus at the shore of the sea", "walrus ahoy"):
        await core.remember(text, user_id="u")
    hits = await core.recall("walrus", user_id="u", rerank=rerank, limit=2)
    assert [hit.score for hit in hits] == [37.0, 11.0]
    assert all(hit.score == pytest.approx(sum(hit.parts.values())) for hit in hits)


async def test_a_reranker_sees_more_than_is_asked_for(core: MemoryCore) -> None:
    await talk(core, "t", [("Ann", f"walrus {number}") for number in range(30)])
    seen: list[int] = []

    async def count(query: str, hits: list[Hit]) -> list[float]:
        seen.append(len(hits))
        return [0.0] * len(hits)

    assert len(await core.recall("walrus", user_id="u", rerank=count, limit=1)) == 1
    assert seen == [30]


@pytest.mark.parametrize("given", [[], [1.0, 2.0], ["high"], None, [math.nan]])
async def test_a_reranker_that_gives_no_number_for_each_hit_is_told(core: MemoryCore, given: object) -> None:
    await core.remember("walrus", user_id="u")
    with pytest.raises(InvalidInputError, match="reranker"):
        await core.recall("walrus", user_id="u", rerank=lambda query, hits: given)


async def test_a_reranker_is_not_asked_about_nothing(core: MemoryCore) -> None:
    assert await core.recall("walrus", user_id="u", rerank=lambda query, hits: 1 / 0) == []


# ---------------------------------------------------------------- filters


async def test_every_user_gets_the_full_number_of_hits(database_url: str) -> None:
    """Fifty users with 400 vectors each: 10 of 10, and those that are nearest by exact search."""
    import random

    random.seed(7)
    vectors = [[random.gauss(0, 1) for _ in range(16)] for _ in range(20_000)]

    class Drawn:
        name, dims = "drawn", 16

        async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
            return [vectors[int(text.split()[-1])] for text in texts]

        async def embed_query(self, text: str) -> list[float]:
            return vectors[int(text.rsplit(maxsplit=1)[-1])]

    async with MemoryCore.open(database_url, embeddings=Drawn()) as core:
        await core.recall("0")  # makes the model known
        await core.database.execute(
            """
            WITH drawn AS (
                SELECT gen_random_uuid() AS id, v.vector, 'u' || (v.place - 1) % 50 AS user_id, v.place - 1 AS place
                FROM unnest($1::text[]) WITH ORDINALITY AS v (vector, place)
            ), facts AS (
                INSERT INTO memory.memories (tenant_id, id, item_id, namespace, key, content, content_hash, value, user_id)
                SELECT 'default', id, id, ARRAY['memories', user_id], place::text, 'fact ' || place, ''::bytea, '{}', user_id
                FROM drawn
            ), found AS (
                INSERT INTO memory.passages (tenant_id, id, kind, user_id, said_at, length, lexemes, weights)
                SELECT 'default', id, 1, user_id, now(), 1, ''::tsvector, '{}/268435456'::sparsevec FROM drawn
                RETURNING id
            )
            INSERT INTO memory.embeddings (tenant_id, model_id, passage_id, vector)
            SELECT 'default', (SELECT model_id FROM memory.embedding_models), d.id, d.vector::halfvec
            FROM drawn d JOIN found USING (id)
            """,
            [str(vector) for vector in vectors],
        )
        right = 0
        for user in range(50):
            query = vectors[user]
            near = sorted(
                range(user, 20_000, 50),
                key=lambda place: -sum(a * b for a, b in zip(query, vectors[place], strict=True)),
            )
            hits = await core.recall(f"fact {user}", user_id=f"u{user}", limit=10)
            assert len(hits) == 10
            right += len({f"fact {place}" for place in near[:10]} & {hit.text for hit in hits})
        assert right >= 0.95 * 500
