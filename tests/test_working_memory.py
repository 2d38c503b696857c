"""Working memories and user summaries against a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from memory_plugin.capabilities.conversations import Conversations
from memory_plugin.capabilities.user_memory import UserMemories
from memory_plugin.capabilities.working_memory import DEFAULT_TEMPLATE, ChatContext, WorkingMemories, diff, template
from memory_plugin.db.database import Database
from memory_plugin.errors import ConflictError, ContentTooLargeError, InvalidInputError, NotFoundError
from tests.counting import CountingDatabase

HOSTILE = [
    "'; DROP TABLE memory.working_memory; --",
    "$1 {s} %s {0} \\x00 \\",
    "é 漢字 🙂 \u202e right to left \ufeff",
    "line\r\nline\ttab\x01\x7f",
    "",
    " ",
]


@pytest.fixture
async def counting(database_url: str) -> AsyncIterator[CountingDatabase]:
    opened = CountingDatabase(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def working(database: Database) -> WorkingMemories:
    return WorkingMemories(database, tenant="acme")


@pytest.fixture
def summaries(database: Database) -> UserMemories:
    return UserMemories(database, tenant="acme")


class TestWorkingMemory:
    async def test_nothing_was_written_yet(self, working: WorkingMemories) -> None:
        assert await working.get(thread_id="t") is None

    async def test_what_was_written_is_read(self, working: WorkingMemories) -> None:
        written = await working.update("- name: Ada", thread_id="t")
        assert await working.get(thread_id="t") == written
        assert (written.scope, written.scope_id, written.version) == ("chat", "t", 1)

    async def test_a_chat_and_a_user_of_the_same_id_are_apart(self, working: WorkingMemories) -> None:
        await working.update("of the chat", thread_id="same")
        await working.update("of the user", user_id="same")
        of_user = await working.get(user_id="same")
        assert of_user is not None
        assert (of_user.scope, of_user.content) == ("user", "of the user")

    async def test_tenants_are_apart(self, database: Database, working: WorkingMemories) -> None:
        await working.update("secret", user_id="ada")
        assert await WorkingMemories(database, tenant="other").get(user_id="ada") is None

    @pytest.mark.parametrize(
        "owner",
        [
            {},
            {"thread_id": ""},
            {"user_id": ""},
            {"thread_id": "t", "user_id": "u"},
            {"thread_id": None, "user_id": None},
        ],
    )
    @pytest.mark.parametrize("method", ["get", "versions", "delete"])
    async def test_there_is_no_shared_default(
        self, working: WorkingMemories, method: str, owner: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidInputError):
            await getattr(working, method)(**owner)

    @pytest.mark.parametrize("owner", [{}, {"thread_id": ""}, {"thread_id": "t", "user_id": "u"}])
    async def test_nothing_is_written_without_an_owner(
        self, database: Database, working: WorkingMemories, owner: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidInputError):
            await working.update("text", **owner)
        assert await database.fetchval("SELECT count(*) FROM memory.working_memory") == 0

    @pytest.mark.parametrize("missing", ["undefined", "null", "None"])
    async def test_a_missing_id_that_became_text_is_no_id(self, working: WorkingMemories, missing: str) -> None:
        with pytest.raises(InvalidInputError, match="missing id"):
            await working.update("of somebody", thread_id=missing)
        with pytest.raises(InvalidInputError, match="missing id"):
            await working.with_history("t", user_id=missing)

    @pytest.mark.parametrize("text", HOSTILE)
    async def test_any_text_comes_back_unchanged(self, working: WorkingMemories, text: str) -> None:
        await working.update(text, thread_id=text or "t")
        found = await working.get(thread_id=text or "t")
        assert found is not None
        assert found.content == text

    @pytest.mark.parametrize("text", ["a\x00b", "half \ud83d", b"bytes", None, 7])
    async def test_a_text_the_store_cannot_hold_is_refused(self, working: WorkingMemories, text: Any) -> None:
        with pytest.raises(InvalidInputError):
            await working.update(text, thread_id="t")

    async def test_a_text_over_the_limit_is_refused(self, working: WorkingMemories) -> None:
        with pytest.raises(ContentTooLargeError):
            await working.update("x" * 1_000_001, thread_id="t")

    async def test_every_version_is_kept_newest_first(self, working: WorkingMemories) -> None:
        for text in ("one", "two", "three"):
            await working.update(text, thread_id="t")
        found = await working.versions(thread_id="t")
        assert [(one.version, one.content) for one in found] == [(3, "three"), (2, "two"), (1, "one")]
        assert [one.version for one in await working.versions(thread_id="t", limit=1)] == [3]

    async def test_the_same_text_makes_no_version(self, working: WorkingMemories) -> None:
        first = await working.update("same", thread_id="t")
        assert await working.update("same", thread_id="t") == first
        assert len(await working.versions(thread_id="t")) == 1

    async def test_an_earlier_text_again_is_a_new_version(self, working: WorkingMemories) -> None:
        for text in ("one", "two", "one"):
            last = await working.update(text, thread_id="t")
        assert last.version == 3

    async def test_a_stale_write_is_refused_and_named(self, working: WorkingMemories) -> None:
        await working.update("one", thread_id="t")
        await working.update("two", thread_id="t")
        with pytest.raises(ConflictError, match="at version 2, not 1"):
            await working.update("mine", thread_id="t", expected_version=1)

    async def test_the_expected_version_lets_the_write_through(self, working: WorkingMemories) -> None:
        first = await working.update("one", thread_id="t", expected_version=0)
        assert (await working.update("two", thread_id="t", expected_version=first.version)).version == 2

    async def test_expecting_a_version_where_there_is_none(self, working: WorkingMemories) -> None:
        with pytest.raises(ConflictError, match="at version 0, not 3"):
            await working.update("text", thread_id="t", expected_version=3)

    async def test_a_write_whose_answer_got_lost_can_be_repeated(self, working: WorkingMemories) -> None:
        await working.update("one", thread_id="t")
        written = await working.update("two", thread_id="t", expected_version=1)
        assert await working.update("two", thread_id="t", expected_version=1) == written

    @pytest.mark.parametrize("version", [-1, "1", True, 1.0])
    async def test_a_version_is_a_whole_number(self, working: WorkingMemories, version: Any) -> None:
        with pytest.raises(InvalidInputError):
            await working.update("text", thread_id="t", expected_version=version)

    async def test_writers_at_once_lose_nothing(self, working: WorkingMemories) -> None:
        texts = [f"text {number}" for number in range(40)]
        written = await asyncio.gather(*(working.update(text, thread_id="t") for text in texts))
        assert sorted(one.version for one in written) == list(range(1, 41))
        kept = await working.versions(thread_id="t", limit=100)
        assert {one.content for one in kept} == set(texts)

    async def test_of_writers_at_once_who_expect_the_same_version_one_wins(self, working: WorkingMemories) -> None:
        await working.update("base", thread_id="t")
        answers = await asyncio.gather(
            *(working.update(f"text {number}", thread_id="t", expected_version=1) for number in range(8)),
            return_exceptions=True,
        )
        assert sorted(type(answer).__name__ for answer in answers) == ["ConflictError"] * 7 + ["WorkingMemory"]

    async def test_the_same_text_from_writers_at_once_is_one_version(self, working: WorkingMemories) -> None:
        written = await asyncio.gather(*(working.update("same", thread_id="t") for _ in range(8)))
        assert {one.version for one in written} == {1}

    async def test_deleting_erases_every_version(self, working: WorkingMemories) -> None:
        await working.update("one", user_id="ada")
        await working.update("two", user_id="ada")
        await working.update("kept", thread_id="ada")
        assert await working.delete(user_id="ada") == {"working_memory": 2}
        assert await working.get(user_id="ada") is None
        assert await working.get(thread_id="ada") is not None

    async def test_each_operation_is_one_statement(self, counting: CountingDatabase) -> None:
        working = WorkingMemories(counting, tenant="acme")
        operations: list[Callable[[], Awaitable[Any]]] = [
            lambda: working.update("text", thread_id="t", expected_version=0),
            lambda: working.get(thread_id="t"),
            lambda: working.versions(thread_id="t"),
            lambda: working.delete(thread_id="t"),
        ]
        for operation in operations:
            counting.sent.clear()
            await operation()
            assert len(counting.sent) == 1


class TestTemplates:
    def test_the_default_has_its_sections(self) -> None:
        headings = [line[3:] for line in DEFAULT_TEMPLATE.splitlines() if line.startswith("## ")]
        assert headings == ["Key Facts", "Current Focus", "Preferences"]

    def test_own_sections(self) -> None:
        assert template(["People", "Plans"]) == "## People\n(nothing yet)\n\n## Plans\n(nothing yet)\n"

    def test_a_section_needs_a_name(self) -> None:
        with pytest.raises(InvalidInputError):
            template([""])


class TestDiff:
    async def test_it_names_the_versions_and_the_lines(self, working: WorkingMemories) -> None:
        before = await working.update("- tea\n- milk", thread_id="t")
        after = await working.update("- tea\n- lemon", thread_id="t")
        assert diff(before, after).splitlines() == [
            "--- version 1",
            "+++ version 2",
            "@@ -1,2 +1,2 @@",
            " - tea",
            "-- milk",
            "+- lemon",
        ]

    def test_nothing_changed(self) -> None:
        assert diff("same", "same") == ""

    async def test_of_versions_by_number(self, working: WorkingMemories) -> None:
        for text in ("- tea", "- tea\n- lemon", "- lemon"):
            await working.update(text, user_id="ada")
        assert (await working.diff(user_id="ada")).splitlines()[2:] == ["@@ -1,2 +1 @@", "-- tea", " - lemon"]
        assert (await working.diff(1, 2, user_id="ada")).splitlines()[-1] == "+- lemon"
        assert (await working.diff(0, 1, user_id="ada")).splitlines()[-1] == "+- tea"
        assert await working.diff(2, 2, user_id="ada") == ""

    async def test_of_a_version_that_is_not_there(self, working: WorkingMemories) -> None:
        with pytest.raises(NotFoundError):
            await working.diff(thread_id="t")
        await working.update("- tea", thread_id="t")
        with pytest.raises(NotFoundError, match="no version 7"):
            await working.diff(1, 7, thread_id="t")


class TestWithHistory:
    async def test_one_round_trip_brings_the_chat_and_the_user(self, counting: CountingDatabase) -> None:
        working, chats = WorkingMemories(counting, tenant="acme"), Conversations(counting, tenant="acme")
        await chats.append("t", [("user", f"line {number}") for number in range(5)])
        await working.update("of the chat", thread_id="t")
        await working.update("of the user", user_id="ada")
        await UserMemories(counting, tenant="acme").save("ada", "Likes tea.")
        counting.sent.clear()
        found = await working.with_history("t", user_id="ada", limit=2)
        assert len(counting.sent) == 1
        assert [message.text for message in found.messages] == ["line 3", "line 4"]
        assert found.messages == await chats.messages("t", limit=2)
        assert found.chat == await working.get(thread_id="t")
        assert found.user == await working.get(user_id="ada")
        assert found.summary == await UserMemories(counting, tenant="acme").get("ada")

    async def test_what_was_not_written_is_none(self, working: WorkingMemories) -> None:
        assert await working.with_history("t", user_id="ada") == ChatContext(messages=[])
        assert await working.with_history(user_id="ada", limit=0) == ChatContext(messages=[])

    async def test_somebody_must_be_named(self, working: WorkingMemories) -> None:
        with pytest.raises(InvalidInputError, match="at least one"):
            await working.with_history()


class TestUserMemory:
    async def test_nothing_was_saved_yet(self, summaries: UserMemories) -> None:
        assert await summaries.get("ada") is None
        assert await summaries.versions("ada") == []

    async def test_what_was_saved_is_read(self, summaries: UserMemories) -> None:
        saved = await summaries.save("ada", "Likes tea.")
        assert await summaries.get("ada") == saved
        assert saved.version == 1

    async def test_created_at_is_that_of_the_first_version(self, summaries: UserMemories) -> None:
        first = await summaries.save("ada", "Likes tea.")
        second = await summaries.save("ada", "Likes coffee.")
        assert second.created_at == first.created_at
        assert second.updated_at > first.updated_at

    async def test_versions_are_kept_newest_first(self, summaries: UserMemories) -> None:
        for text in ("one", "two"):
            await summaries.save("ada", text)
        assert [one.content for one in await summaries.versions("ada")] == ["two", "one"]

    async def test_the_same_text_makes_no_version(self, summaries: UserMemories) -> None:
        first = await summaries.save("ada", "same")
        assert await summaries.save("ada", "same") == first

    async def test_users_and_tenants_are_apart(self, database: Database, summaries: UserMemories) -> None:
        await summaries.save("ada", "Likes tea.")
        assert await summaries.get("bob") is None
        assert await UserMemories(database, tenant="other").get("ada") is None

    @pytest.mark.parametrize("user", ["", None])
    async def test_there_is_no_shared_summary(self, summaries: UserMemories, user: Any) -> None:
        with pytest.raises(InvalidInputError):
            await summaries.save(user, "text")
        with pytest.raises(InvalidInputError):
            await summaries.get(user)
        with pytest.raises(InvalidInputError):
            await summaries.delete(user)

    @pytest.mark.parametrize("text", HOSTILE)
    async def test_any_text_comes_back_unchanged(self, summaries: UserMemories, text: str) -> None:
        await summaries.save("ada", text)
        found = await summaries.get("ada")
        assert found is not None
        assert found.content == text

    async def test_a_nul_is_refused(self, summaries: UserMemories) -> None:
        with pytest.raises(InvalidInputError):
            await summaries.save("ada", "a\x00b")

    async def test_writers_at_once_lose_nothing(self, summaries: UserMemories) -> None:
        saved = await asyncio.gather(*(summaries.save("ada", f"text {number}") for number in range(20)))
        assert sorted(one.version for one in saved) == list(range(1, 21))
        assert len({one.created_at for one in saved}) == 1

    async def test_deleting_erases_every_version(self, summaries: UserMemories) -> None:
        await summaries.save("ada", "one")
        await summaries.save("ada", "two")
        assert await summaries.delete("ada") == {"user_memory": 2}
        assert await summaries.get("ada") is None

    async def test_each_operation_is_one_statement(self, counting: CountingDatabase) -> None:
        summaries = UserMemories(counting, tenant="acme")
        await summaries.save("ada", "text")
        await summaries.get("ada")
        assert len(counting.sent) == 2
