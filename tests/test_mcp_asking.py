"""What a person decides: erasing for good, and which of two similar memories stays; and clients that cannot ask."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.types import ElicitRequestParams, ElicitResult, InputRequiredResult

from mcp_server import create_server
from mcp_server.access import CoreAccess, already_open
from mcp_server.server import build_server
from mcp_server.settings import ServerSettings
from memory_plugin.core import MemoryCore
from memory_plugin.errors import NotFoundError
from tests.test_mcp_tools import call, refusal

ERAS = ["auto", "legacy"]
BOTH, REPLACE, OLD = "keep both", "replace the old one", "keep the old one"


class Person:
    """Answers every question in the same way, and remembers what was asked."""

    def __init__(self, action: str = "accept", **content: Any) -> None:
        self._answer = ElicitResult(action=action, content=content or None)  # type: ignore[arg-type]
        self.asked: list[str] = []

    async def __call__(self, _: Any, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        return self._answer


@pytest.fixture
async def alice(database_url: str) -> AsyncIterator[MemoryCore]:
    async with MemoryCore.open(database_url, user_id="alice", embeddings=False) as opened:
        yield opened


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def asking(core: MemoryCore, era: str, person: Person | None) -> AsyncIterator[Client]:
    async with Client(create_server(core), mode=era, elicitation_callback=person) as client:
        yield client


async def texts(core: MemoryCore) -> set[str]:
    return {item.content for item in (await core.memories.list()).items}


# -- erasing


async def test_a_person_who_agrees_erases_a_memory_with_its_history(alice: MemoryCore, era: str) -> None:
    stored = await alice.remember("Alice drinks green tea")
    person = Person(erase=True)
    async with asking(alice, era, person) as client:
        gone = await call(client, "forget", id=str(stored.id), erase=True)
    assert (gone["forgotten"], gone["erased"]) == (True, True)
    assert len(person.asked) == 1 and "Alice drinks green tea" in person.asked[0]
    with pytest.raises(NotFoundError):
        await alice.memories.history(stored.id)


@pytest.mark.parametrize("person", [Person("decline"), Person("cancel"), Person(erase=False)])
async def test_without_a_yes_nothing_is_erased(alice: MemoryCore, era: str, person: Person) -> None:
    stored = await alice.remember("Alice drinks green tea")
    async with asking(alice, era, person) as client:
        assert "did not agree" in await refusal(client, "forget", id=str(stored.id), erase=True)
    assert await texts(alice) == {"Alice drinks green tea"}


async def test_forgetting_softly_asks_nobody(alice: MemoryCore, era: str) -> None:
    stored = await alice.remember("Alice drinks green tea")
    person = Person("decline")
    async with asking(alice, era, person) as client:
        assert (await call(client, "forget", id=str(stored.id)))["erased"] is False
    assert person.asked == []
    assert len(await alice.memories.history(stored.id)) == 1


async def test_a_client_that_cannot_ask_confirms_by_a_second_call(alice: MemoryCore, era: str) -> None:
    stored = await alice.remember("Alice drinks green tea", key="drink")
    async with asking(alice, era, None) as client:
        first = await refusal(client, "forget", id=str(stored.id), erase=True)
        assert "Nothing was erased: ask the user" in first and "Alice drinks green tea" in first
        code = re.search(r"confirm=(\w+)", first)
        assert code is not None
        assert "Nothing was erased" in await refusal(client, "forget", id=str(stored.id), erase=True, confirm="yes")
        await alice.remember("Alice drinks black tea", key="drink")
        again = await refusal(client, "forget", id=str(stored.id), erase=True, confirm=code[1])
        assert "black tea" in again, "the code was for another text"
        code = re.search(r"confirm=(\w+)", again)
        assert code is not None
        gone = await call(client, "forget", id=str(stored.id), erase=True, confirm=code[1])
    assert gone["erased"] is True
    assert await texts(alice) == set()


async def test_what_is_not_mine_is_not_asked_about(alice: MemoryCore, era: str, database_url: str) -> None:
    async with MemoryCore.open(database_url, user_id="bob", embeddings=False) as bob:
        stored = await bob.remember("Bob's secret tea")
    person = Person(erase=True)
    async with asking(alice, era, person) as client:
        assert "There is no memory" in await refusal(client, "forget", id=str(stored.id), erase=True)
    assert person.asked == []


# -- nearly the same


@pytest.mark.parametrize(
    ("person", "status", "left"),
    [
        (Person(choice=BOTH), "created", {"Alice drinks green tea", "Alice drinks green tea daily"}),
        (Person(choice=REPLACE), "updated", {"Alice drinks green tea daily"}),
        (Person(choice=OLD), "duplicate", {"Alice drinks green tea"}),
    ],
    ids=["both", "replace", "old"],
)
async def test_a_person_decides_between_two_that_say_nearly_the_same(
    alice: MemoryCore, era: str, person: Person, status: str, left: set[str]
) -> None:
    old = await alice.remember("Alice drinks green tea")
    person.asked.clear()
    async with asking(alice, era, person) as client:
        stored = await call(client, "remember", content="Alice drinks green tea daily")
    assert stored["status"] == status
    assert len(person.asked) == 1 and "“Alice drinks green tea”" in person.asked[0]
    assert await texts(alice) == left
    assert (stored["id"] == str(old.id)) is (status != "created")
    assert len(await alice.memories.history(old.id)) == (2 if status == "updated" else 1)


async def test_nothing_is_stored_when_the_person_does_not_decide(alice: MemoryCore, era: str) -> None:
    await alice.remember("Alice drinks green tea")
    async with asking(alice, era, Person("cancel")) as client:
        assert "did not decide" in await refusal(client, "remember", content="Alice drinks green tea daily")
    assert await texts(alice) == {"Alice drinks green tea"}


async def test_a_client_that_cannot_ask_stores_it_and_is_told_of_the_other(alice: MemoryCore, era: str) -> None:
    old = await alice.remember("Alice drinks green tea")
    async with asking(alice, era, None) as client:
        stored = await call(client, "remember", content="Alice drinks green tea daily")
    assert stored["status"] == "created"
    assert stored["similar"] == [{"id": str(old.id), "text": "Alice drinks green tea"}]
    assert "nearly the same" in stored["notice"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"content": "alice drinks  GREEN tea"},
        {"content": "Alice drinks green tea daily", "key": "drink"},
        {"content": "Bob drinks black coffee at noon"},
        {"content": "Alice drinks"},
    ],
    ids=["the same text", "a key", "another fact", "too short"],
)
async def test_what_needs_no_decision_asks_nobody(alice: MemoryCore, arguments: dict[str, str]) -> None:
    await alice.remember("Alice drinks green tea")
    person = Person("cancel")
    async with asking(alice, "auto", person) as client:
        assert "similar" not in await call(client, "remember", **arguments)
    assert person.asked == []


async def test_the_memory_of_somebody_else_is_never_the_similar_one(
    alice: MemoryCore, era: str, database_url: str
) -> None:
    for user in ("bob", None):
        async with MemoryCore.open(database_url, user_id=user, embeddings=False) as other:
            await other.remember("Alice drinks green tea")
    async with asking(alice, era, None) as client:
        assert "similar" not in await call(client, "remember", content="Alice drinks green tea daily")


async def test_the_answer_to_a_question_may_reach_another_process(alice: MemoryCore) -> None:
    """Two servers of one address take turns, as behind a plain proxy; one of another address takes no part."""
    stored = await alice.remember("Alice drinks green tea")
    keys = [ServerSettings(url=f"postgresql://db/{name}").state_key({}) for name in ("x", "x", "y")]
    servers = [build_server(CoreAccess(lambda: already_open(alice)), state_key=key) for key in keys]
    async with AsyncExitStack() as stack:
        asked, answered, stranger = [
            (await stack.enter_async_context(Client(server, elicitation_callback=Person()))).session
            for server in servers
        ]
        arguments = {"id": str(stored.id), "erase": True}
        question = await asked.call_tool("forget", arguments, allow_input_required=True)
        assert isinstance(question, InputRequiredResult) and question.input_requests is not None
        given: dict[str, Any] = {
            "input_responses": {
                name: ElicitResult(action="accept", content={"erase": True}) for name in question.input_requests
            },
            "request_state": question.request_state,
        }
        with pytest.raises(MCPError, match="requestState"):
            await stranger.call_tool("forget", arguments, **given)
        assert await texts(alice) == {"Alice drinks green tea"}
        done = await answered.call_tool("forget", arguments, **given)
    assert done.structured_content is not None and done.structured_content["erased"] is True
