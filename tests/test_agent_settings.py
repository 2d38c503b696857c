"""Agent settings against a real database."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from memory_plugin.capabilities.agent_settings import AgentSettingsStore, SettingChange
from memory_plugin.capabilities.conversations import Conversations
from memory_plugin.db.database import Database
from memory_plugin.errors import InvalidInputError, NotFoundError
from tests.counting import CountingDatabase

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def settings(database: Database) -> AgentSettingsStore:
    return AgentSettingsStore(database, tenant="acme")


@pytest.fixture
async def counting(database_url: str) -> AsyncIterator[CountingDatabase]:
    opened = CountingDatabase(database_url)
    yield opened
    await opened.close()


class TestSetting:
    async def test_nothing_was_set_yet(self, settings: AgentSettingsStore) -> None:
        assert await settings.active("prompt") is None
        assert await settings.merged("prompt") is None
        assert await settings.history("prompt") == []

    async def test_it_says_who_and_why(self, settings: AgentSettingsStore) -> None:
        first = await settings.set("model", "small", set_by="ada", reason="cheaper")
        assert (first.version, first.value, first.set_by, first.reason) == (1, "small", "ada", "cheaper")
        assert await settings.active("model") == first

    async def test_the_value_that_is_current_makes_no_version(self, settings: AgentSettingsStore) -> None:
        first = await settings.set("limits", {"a": 1, "b": [1, 2]})
        assert await settings.set("limits", {"a": 1, "b": [1, 2]}, set_by="bob") == first

    @pytest.mark.parametrize(("before", "after"), [(1, 1.0), (1, True), (0, False), (None, 0), ("1", 1), (0.0, -0.0)])
    async def test_values_that_differ_by_type_are_different(
        self, settings: AgentSettingsStore, before: Any, after: Any
    ) -> None:
        await settings.set("value", before)
        changed = await settings.set("value", after)
        assert changed.version == 2
        assert type(changed.value) is type(after)

    async def test_json_null_is_a_value(self, settings: AgentSettingsStore) -> None:
        await settings.set("model", "small")
        await settings.set("model", None, scope="user", scope_id="ada")
        active = await settings.active("model", user_id="ada")
        assert active is not None
        assert (active.scope, active.value) == ("user", None)

    @given(value=JSON)
    async def test_any_json_comes_back_equal(self, settings: AgentSettingsStore, value: Any) -> None:
        written = await settings.set("value", value)
        active = await settings.active("value")
        assert active is not None
        assert written.value == active.value == value
        assert type(active.value) is type(value)

    async def test_nan_comes_back(self, settings: AgentSettingsStore) -> None:
        assert math.isnan((await settings.set("value", math.nan)).value)

    @pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {1: "a"}, {"a": object()}])
    async def test_what_json_cannot_hold_is_refused(self, settings: AgentSettingsStore, value: Any) -> None:
        with pytest.raises(InvalidInputError, match="cannot be kept as JSON"):
            await settings.set("value", value)
        assert await settings.active("value") is None

    async def test_a_value_that_contains_itself_is_refused(self, settings: AgentSettingsStore) -> None:
        circle: list[Any] = []
        circle.append(circle)
        with pytest.raises(InvalidInputError):
            await settings.set("value", circle)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"name": ""},
            {"name": "a\x00b"},
            {"name": "n", "scope": "planet"},
            {"name": "n", "scope": "user"},
            {"name": "n", "scope": "thread", "scope_id": ""},
            {"name": "n", "scope": "agent", "scope_id": None},
            {"name": "n", "scope": "tenant", "scope_id": "ada"},
            {"name": "n", "set_by": ""},
            {"name": "n", "reason": "half \ud83d"},
        ],
    )
    async def test_a_wrong_owner_or_name_is_refused(
        self, settings: AgentSettingsStore, arguments: dict[str, Any]
    ) -> None:
        name = arguments.pop("name")
        with pytest.raises(InvalidInputError):
            await settings.set(name, "value", **arguments)

    async def test_tenants_are_apart(self, database: Database, settings: AgentSettingsStore) -> None:
        await settings.set("model", "small")
        assert await AgentSettingsStore(database, tenant="other").active("model") is None

    async def test_writers_at_once_lose_nothing(self, settings: AgentSettingsStore) -> None:
        written = await asyncio.gather(*(settings.set("count", number) for number in range(30)))
        assert sorted(one.version for one in written) == list(range(1, 31))
        assert {one.value for one in await settings.history("count", limit=100)} == set(range(30))

    async def test_the_time_of_versions_grows(self, settings: AgentSettingsStore) -> None:
        await asyncio.gather(*(settings.set("count", number) for number in range(20)))
        times = [one.valid_from for one in await settings.history("count", limit=100)]
        assert times == sorted(times, reverse=True)
        assert len(set(times)) == 20


class TestSchemas:
    SCHEMA = {
        "type": "object",
        "properties": {"limit": {"type": "integer", "minimum": 1}},
        "required": ["limit"],
    }

    async def test_a_value_that_fits(self, settings: AgentSettingsStore) -> None:
        assert (await settings.set("limits", {"limit": 3}, schema=self.SCHEMA)).value == {"limit": 3}

    async def test_a_value_that_does_not_fit_is_named(self, settings: AgentSettingsStore) -> None:
        with pytest.raises(InvalidInputError, match="at limit: 0 is less than"):
            await settings.set("limits", {"limit": 0}, schema=self.SCHEMA)
        assert await settings.active("limits") is None

    async def test_a_schema_that_is_none(self, settings: AgentSettingsStore) -> None:
        with pytest.raises(InvalidInputError, match="schema of setting"):
            await settings.set("limits", 1, schema={"type": "nonsense"})

    async def test_nothing_is_fetched_for_a_schema(self, settings: AgentSettingsStore) -> None:
        with pytest.raises(InvalidInputError, match="schema of setting"):
            await settings.set("limits", 1, schema={"$ref": "http://127.0.0.1:9/schema.json"})


class TestInheritance:
    async def test_the_most_specific_wins(self, settings: AgentSettingsStore) -> None:
        chain: list[tuple[Any, str]] = [("tenant", ""), ("agent", "a"), ("user", "u"), ("thread", "t")]
        for scope, scope_id in chain:
            await settings.set("model", scope, scope=scope, scope_id=scope_id)
            active = await settings.active("model", agent_id="a", user_id="u", thread_id="t")
            assert active is not None
            assert active.value == scope

    async def test_what_is_set_later_for_more_people_does_not_hide_it(self, settings: AgentSettingsStore) -> None:
        await settings.set("model", "mine", scope="user", scope_id="u")
        await settings.set("model", "everyone's")
        active = await settings.active("model", user_id="u")
        assert active is not None
        assert active.value == "mine"

    async def test_others_are_not_asked(self, settings: AgentSettingsStore) -> None:
        await settings.set("model", "ada's", scope="user", scope_id="ada")
        await settings.set("model", "agent's", scope="agent", scope_id="ada")
        assert await settings.active("model", user_id="bob", thread_id="ada") is None

    @pytest.mark.parametrize("name", ["agent_id", "user_id", "thread_id"])
    async def test_an_empty_id_is_refused(self, settings: AgentSettingsStore, name: str) -> None:
        with pytest.raises(InvalidInputError):
            await settings.active("model", **{name: ""})

    async def test_merging_lays_objects_over_each_other(self, settings: AgentSettingsStore) -> None:
        await settings.set("options", {"tone": "dry", "length": 3})
        await settings.set("options", {"length": 5}, scope="agent", scope_id="a")
        await settings.set("options", {"tone": "warm"}, scope="thread", scope_id="t")
        assert await settings.merged("options", agent_id="a", thread_id="t") == {"tone": "warm", "length": 5}

    async def test_merging_stops_at_what_is_no_object(self, settings: AgentSettingsStore) -> None:
        await settings.set("options", {"tone": "dry"})
        await settings.set("options", "off", scope="agent", scope_id="a")
        await settings.set("options", {"length": 5}, scope="user", scope_id="u")
        assert await settings.merged("options", agent_id="a") == "off"
        assert await settings.merged("options", agent_id="a", user_id="u") == {"length": 5}

    async def test_deleting_an_override_lets_the_wider_scope_count(self, settings: AgentSettingsStore) -> None:
        await settings.set("model", "wide")
        await settings.set("model", "narrow", scope="user", scope_id="u")
        assert await settings.delete("model", scope="user", scope_id="u") == {"agent_settings": 1}
        active = await settings.active("model", user_id="u")
        assert active is not None
        assert active.value == "wide"

    async def test_deleting_all_of_a_user(self, settings: AgentSettingsStore) -> None:
        for name in ("model", "tone"):
            await settings.set(name, 1, scope="user", scope_id="u")
            await settings.set(name, 2, scope="user", scope_id="u")
        assert await settings.delete(scope="user", scope_id="u") == {"agent_settings": 4}


class TestHistory:
    async def test_newest_first(self, settings: AgentSettingsStore) -> None:
        for value in ("one", "two", "three"):
            await settings.set("model", value)
        assert [one.value for one in await settings.history("model")] == ["three", "two", "one"]
        assert [one.version for one in await settings.history("model", limit=2)] == [3, 2]

    async def test_what_was_current_at_a_time(self, settings: AgentSettingsStore) -> None:
        first = await settings.set("model", "one")
        second = await settings.set("model", "two")
        tick = timedelta(microseconds=1)
        assert await settings.at("model", first.valid_from - tick) is None
        assert await settings.at("model", first.valid_from) == first
        assert await settings.at("model", second.valid_from - tick) == first
        assert await settings.at("model", second.valid_from.replace(tzinfo=None)) == second

    @pytest.mark.parametrize("when", [None, "2024-01-01"])
    async def test_a_time_is_needed(self, settings: AgentSettingsStore, when: Any) -> None:
        with pytest.raises(InvalidInputError):
            await settings.at("model", when)

    async def test_rolling_back_writes_a_new_version(self, settings: AgentSettingsStore) -> None:
        await settings.set("model", {"name": "one"}, set_by="ada")
        await settings.set("model", {"name": "two"})
        restored = await settings.roll_back("model", 1, set_by="bob", reason="worse answers")
        assert (restored.version, restored.value) == (3, {"name": "one"})
        assert (restored.set_by, restored.reason) == ("bob", "worse answers")
        assert len(await settings.history("model")) == 3

    async def test_rolling_back_to_the_current_value_writes_nothing(self, settings: AgentSettingsStore) -> None:
        await settings.set("model", "one")
        assert (await settings.roll_back("model", 1)).version == 1

    @pytest.mark.parametrize("version", [0, 2, 2**40])
    async def test_rolling_back_to_no_version(self, settings: AgentSettingsStore, version: int) -> None:
        await settings.set("model", "one")
        with pytest.raises(NotFoundError, match="'model' of the tenant has no version"):
            await settings.roll_back("model", version)

    async def test_rolling_back_what_was_never_set(self, settings: AgentSettingsStore) -> None:
        with pytest.raises(NotFoundError):
            await settings.roll_back("model", 1)

    async def test_rolling_back_stays_in_its_scope(self, settings: AgentSettingsStore) -> None:
        await settings.set("model", "everyone's")
        with pytest.raises(NotFoundError, match="user 'ada'"):
            await settings.roll_back("model", 1, scope="user", scope_id="ada")

    async def test_a_roll_back_among_writers_is_a_version_too(self, settings: AgentSettingsStore) -> None:
        await settings.set("count", "start")
        await settings.set("count", "next")
        written = await asyncio.gather(
            settings.roll_back("count", 1), *(settings.set("count", number) for number in range(10))
        )
        assert sorted(one.version for one in written) == list(range(3, 14))


class TestComparing:
    async def test_key_by_key(self, settings: AgentSettingsStore) -> None:
        await settings.set("options", {"tone": "dry", "model": {"name": "a", "size": 1}, "same": [1]})
        await settings.set("options", {"model": {"name": "b", "size": 1}, "same": [1], "limit": 3})
        assert await settings.compare("options", 1, 2) == [
            SettingChange(("limit",), "added", after=3),
            SettingChange(("model", "name"), "changed", "a", "b"),
            SettingChange(("tone",), "removed", before="dry"),
        ]

    async def test_plain_values(self, settings: AgentSettingsStore) -> None:
        await settings.set("model", "a")
        await settings.set("model", "b")
        assert await settings.compare("model", 2, 1) == [SettingChange((), "changed", "b", "a")]
        assert await settings.compare("model", 2, 2) == []

    async def test_numbers_of_another_type_are_a_change(self, settings: AgentSettingsStore) -> None:
        await settings.set("options", {"limit": 1})
        await settings.set("options", {"limit": True})
        assert [change.path for change in await settings.compare("options", 1, 2)] == [("limit",)]

    async def test_a_version_that_is_not_there(self, settings: AgentSettingsStore) -> None:
        await settings.set("model", "a")
        with pytest.raises(NotFoundError, match="no version 7"):
            await settings.compare("model", 1, 7)


async def test_each_operation_is_one_statement(counting: CountingDatabase) -> None:
    settings = AgentSettingsStore(counting, tenant="acme")
    first = await settings.set("model", "one")
    await settings.set("model", "two")
    await Conversations(counting, tenant="acme").append("t", [("user", "hello"), ("assistant", "hello")])
    operations: list[Callable[[], Awaitable[Any]]] = [
        lambda: settings.set("model", "three"),
        lambda: settings.active("model", agent_id="a", user_id="u", thread_id="t"),
        lambda: settings.merged("model", agent_id="a", user_id="u", thread_id="t"),
        lambda: settings.history("model"),
        lambda: settings.at("model", first.valid_from),
        lambda: settings.roll_back("model", 1),
        lambda: settings.compare("model", 1, 2),
        lambda: settings.of_answer("model", "t"),
        lambda: settings.delete("model"),
    ]
    for operation in operations:
        counting.sent.clear()
        await operation()
        assert len(counting.sent) == 1


class TestOfAnAnswer:
    async def test_the_time_the_thread_and_the_user_say_what_counted(
        self, database: Database, settings: AgentSettingsStore
    ) -> None:
        chats = Conversations(database, tenant="acme")
        told = [("user", "hello"), ("assistant", "first"), ("user", "and now?"), ("assistant", "second")]
        await settings.set("prompt", "be kind")
        [_, first] = await chats.append("t", told[:2], user_id="ada")
        await settings.set("prompt", "be brief")
        await settings.set("prompt", "be Ada's", scope="user", scope_id="ada")
        await chats.append("t", told[2:])
        await settings.set("prompt", "be of the agent", scope="agent", scope_id="support")
        await chats.append("other", told[:2])

        async def prompt(thread_id: str, **which: Any) -> Any:
            found = await settings.of_answer("prompt", thread_id, **which)
            return found and (found.value, found.version)

        assert await prompt("t", turn=1) == ("be kind", 1)
        assert await prompt("t", message_id=str(first.id)) == ("be kind", 1)
        assert await prompt("t") == await prompt("t", turn=2, agent_id="support") == ("be Ada's", 1)
        assert await prompt("other") == ("be brief", 2)
        assert await prompt("other", agent_id="support") == ("be of the agent", 1)
        assert await settings.of_answer("voice", "t") is None

    async def test_an_answer_that_names_its_version_is_believed(
        self, database: Database, settings: AgentSettingsStore
    ) -> None:
        await settings.set("prompt", "be kind")
        await settings.set("prompt", "be brief")
        noted = {"agent_settings": {"prompt": {"scope": "tenant", "scope_id": "", "version": 1}}}
        answer = AIMessage("hello", response_metadata=noted, id="a-1")
        await Conversations(database, tenant="acme").append("t", [HumanMessage("hello"), answer])
        found = await settings.of_answer("prompt", "t", message_id="a-1")
        assert found is not None
        assert found.value == "be kind"

    async def test_there_is_no_such_answer(self, database: Database, settings: AgentSettingsStore) -> None:
        with pytest.raises(NotFoundError):
            await settings.of_answer("prompt", "t")
        await Conversations(database, tenant="acme").append("t", "hello")
        with pytest.raises(NotFoundError):
            await settings.of_answer("prompt", "t", turn=2)

    async def test_inheritance_at_a_time(self, settings: AgentSettingsStore) -> None:
        first = await settings.set("options", {"tone": "dry"})
        await settings.set("options", {"tone": "warm"}, scope="user", scope_id="ada")
        then = await settings.active("options", user_id="ada", at=first.valid_from)
        assert then == first
        assert await settings.merged("options", user_id="ada", at=first.valid_from) == {"tone": "dry"}
        assert await settings.active("options", at=first.valid_from - timedelta(seconds=1)) is None
