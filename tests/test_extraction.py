"""Facts that a model proposes: what it reads, what is kept of its answers, and going on after any failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from memory_plugin.cli import extraction as extraction_command
from memory_plugin.core import MemoryCore
from memory_plugin.errors import ConfigurationError, ConflictError, InvalidInputError, NotFoundError
from memory_plugin.memory import Memory
from tests.test_cli import Run, bare, cli, no_terminal_settings, thread, words_only  # noqa: F401 - fixtures

USAGE = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
Answer = Callable[[str], Any]


def fact(content: str, *messages: int, **rest: Any) -> dict[str, Any]:
    return {"content": content, "messages": list(messages or (1,)), **rest}


class ScriptedModel(BaseChatModel):
    """A chat model at the edge of the network: it answers what the test says, by a tool call where it has tools."""

    calls_tools: bool = True
    model_name: str = "scripted"
    _answer: Answer = PrivateAttr()
    _prompts: list[str] = PrivateAttr(default_factory=list)

    def __init__(self, answer: Answer, **fields: Any) -> None:
        super().__init__(**fields)
        self._answer = answer

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        if not self.calls_tools:
            raise NotImplementedError
        return self

    def _generate(self, messages: Sequence[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        raise AssertionError("asked without await")

    async def _agenerate(self, messages: Sequence[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        prompt = str(messages[-1].content)
        self._prompts.append(prompt)
        answer = self._answer(prompt)
        if asyncio.iscoroutine(answer):
            answer = await answer
        message = AIMessage(answer) if isinstance(answer, str) else AIMessage("", tool_calls=[call_of(answer)])
        message.usage_metadata = USAGE  # type: ignore[assignment]
        return ChatResult(generations=[ChatGeneration(message=message)])


def call_of(facts: Any) -> Any:
    return {"name": "ExtractedFacts", "args": {"facts": facts}, "id": "c1", "type": "tool_call"}


def said(prompt: str) -> str:
    return prompt.split("Conversation:\n", 1)[1]


@pytest.fixture
async def lunch(core: MemoryCore) -> AsyncIterator[MemoryCore]:
    """A conversation of two messages."""
    await core.conversations.append(
        "lunch",
        [
            {"role": "user", "content": "I can't eat nuts", "name": "Fay", "id": "m1"},
            {"role": "assistant", "content": "No nuts, noted", "id": "m2"},
        ],
        user_id="fay",
    )
    yield core


async def contents(core: MemoryCore, **wanted: Any) -> list[str]:
    return sorted(each.content for each in (await core.extraction.proposals(**wanted)).items)


# ---------------------------------------------------------------- proposals


async def test_a_proposal_is_recalled_only_once_it_is_accepted_and_names_its_source(lunch: MemoryCore) -> None:
    model = ScriptedModel(lambda prompt: [fact("Fay is allergic to nuts", subject="Fay", attribute="allergy")])
    report = await lunch.extraction.run(model)
    assert (report.threads, report.messages, report.calls, report.proposals) == (1, 2, 1, 1)
    assert (report.input_tokens, report.output_tokens) == (100, 10)
    assert await lunch.recall("allergic", kinds=["memory"]) == []
    (proposal,) = (await lunch.extraction.proposals(user_id="fay")).items
    assert (proposal.messages, proposal.model, proposal.user_id, proposal.thread_id) == (
        ["m1"],
        "scripted",
        "fay",
        "lunch",
    )
    item = await lunch.extraction.accept(proposal.id)
    assert (item.key, item.user_id, item.trust, item.metadata["proposed_by"]) == (
        "fay#allergy",
        "fay",
        "assistant",
        "scripted",
    )
    assert item.source is not None
    assert (item.source.thread_id, item.source.message_id) == ("lunch", "m1")
    assert [hit.text for hit in await lunch.recall("allergic", kinds=["memory"])] == ["Fay is allergic to nuts"]
    (accepted,) = (await lunch.extraction.proposals(status="accepted")).items
    assert accepted.memory_id == item.id


async def test_a_proposal_is_decided_once(lunch: MemoryCore) -> None:
    await lunch.extraction.run(ScriptedModel(lambda prompt: [fact("Fay is allergic to nuts")]))
    (proposal,) = (await lunch.extraction.proposals()).items
    assert (await lunch.extraction.reject(str(proposal.id))).status == "rejected"
    with pytest.raises(ConflictError):
        await lunch.extraction.accept(proposal.id)
    with pytest.raises(NotFoundError):
        await lunch.extraction.reject("01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11")
    with pytest.raises(InvalidInputError):
        await lunch.extraction.reject("7")
    assert (await lunch.memories.list()).items == []


async def test_an_acceptance_that_fails_leaves_the_proposal_open(lunch: MemoryCore) -> None:
    await lunch.extraction.run(ScriptedModel(lambda prompt: [fact("Fay is allergic to nuts")]))
    (proposal,) = (await lunch.extraction.proposals()).items
    with pytest.raises(InvalidInputError):
        await lunch.extraction.accept(proposal.id, content="  ")
    assert await contents(lunch) == ["Fay is allergic to nuts"]


async def test_what_is_known_rejected_malformed_or_said_by_no_person_is_not_proposed(lunch: MemoryCore) -> None:
    await lunch.remember("fay likes FIGS", user_id="fay")
    facts = [
        fact("Fay likes figs"),
        fact("Fay is allergic to nuts"),
        fact("Fay is  allergic to NUTS"),
        fact("The assistant took a note", 2),
        fact("Out of thin air", 7),
        fact("Fay's password: hunter2"),
        {"content": "", "messages": [1]},
        {"messages": "none"},
        "nonsense",
    ]
    report = await lunch.extraction.run(ScriptedModel(lambda prompt: facts))
    assert await contents(lunch) == ["Fay is allergic to nuts"]
    assert (report.proposals, report.known, report.dropped) == (1, 2, 6)


async def test_facts_come_from_text_too_and_from_plain_functions(lunch: MemoryCore) -> None:
    text = 'Here you are:\n```json\n{"facts": [{"content": "Fay is allergic to nuts", "messages": [1]}]}\n```'
    report = await lunch.extraction.run(ScriptedModel(lambda prompt: text, calls_tools=False))
    assert (report.proposals, report.input_tokens) == (1, 100)
    await lunch.conversations.append("lunch", {"role": "user", "content": "and no figs"})
    answer = json.dumps({"facts": [fact("Fay eats no figs")]})
    assert (await lunch.extraction.run(lambda prompt: answer)).proposals == 1
    with pytest.raises(ConfigurationError):
        await lunch.conversations.append("lunch", {"role": "user", "content": "and no dates"})
        await lunch.extraction.run(object())


# ---------------------------------------------------------------- what is read


async def test_what_came_out_of_recall_is_never_read(memory: Memory) -> None:
    marked = {"memory_recalled": True}
    await memory.history("t").aadd_messages(
        [
            HumanMessage("I moved to Oslo"),
            HumanMessage("SECONDHAND one", additional_kwargs=marked),
            HumanMessage([{"type": "text", "text": "SECONDHAND two", **marked}, {"type": "text", "text": "I like it"}]),
            AIMessage("", tool_calls=[{"name": "recall", "args": {}, "id": "c"}]),
            ToolMessage("SECONDHAND three", tool_call_id="c", name="recall"),
        ]
    )
    model = ScriptedModel(lambda prompt: [])
    await memory.extraction.run(model)
    (prompt,) = model._prompts
    assert "SECONDHAND" not in prompt
    assert "I moved to Oslo" in said(prompt)
    assert "I like it" in said(prompt)


async def test_a_conversation_is_read_in_batches_and_later_only_what_is_new(lunch: MemoryCore) -> None:
    await lunch.conversations.append(
        "long", [{"role": "user", "content": f"statement {n}"} for n in range(25)], user_id="bob"
    )
    model = ScriptedModel(lambda prompt: [])
    report = await lunch.extraction.run(model, thread_id="long", batch=10)
    assert (report.calls, report.messages) == (3, 25)
    await lunch.conversations.append("long", {"role": "user", "content": "one more"})
    report = await lunch.extraction.run(model, user_id="bob", batch=10)
    assert (report.calls, report.messages, said(model._prompts[-1]).count("\n")) == (1, 1, 0)


async def test_what_goes_on_is_left_for_later_and_a_dry_run_asks_and_stores_nothing(lunch: MemoryCore) -> None:
    model = ScriptedModel(lambda prompt: [])
    assert (await lunch.extraction.run(model, settled=timedelta(hours=1))).calls == 0
    dry = await lunch.extraction.run(dry_run=True)
    assert (dry.calls, dry.messages, dry.input_tokens > 5, dry.dry_run) == (1, 2, True, True)
    assert (await lunch.extraction.run(model, most_calls=1)).calls == 1
    with pytest.raises(InvalidInputError):
        await lunch.extraction.run()


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda prompt: '{"facts": [{"content": "Fay', "nothing readable"),
        (lambda prompt: asyncio.sleep(3600), "no answer in 0.2 s"),
        (lambda prompt: 1 / 0, "ZeroDivisionError"),
    ],
    ids=["broken", "slow", "raises"],
)
async def test_a_failure_is_told_tried_again_and_at_last_passed_over(
    lunch: MemoryCore, answer: Answer, reason: str
) -> None:
    for attempt in (1, 2, 3):
        report = await lunch.extraction.run(ScriptedModel(answer), seconds=0.2)
        assert (report.failed, report.proposals, report.passed_over) == (1, 0, 2 if attempt == 3 else 0)
        assert reason in report.errors[0]
    assert (await lunch.extraction.run(ScriptedModel(answer), seconds=0.2)).calls == 0


async def test_one_conversation_that_fails_does_not_stop_the_others(lunch: MemoryCore) -> None:
    await lunch.conversations.append("dinner", {"role": "user", "content": "I like rice"}, user_id="bob")

    def answer(prompt: str) -> Any:
        return [fact("Bob likes rice")] if "rice" in said(prompt) else 1 / 0

    report = await lunch.extraction.run(ScriptedModel(answer))
    assert (report.calls, report.failed, await contents(lunch)) == (2, 1, ["Bob likes rice"])
    healthy = await lunch.extraction.run(ScriptedModel(lambda prompt: [fact("Fay is allergic to nuts")]))
    assert (healthy.calls, healthy.proposals) == (1, 1)


async def test_a_run_that_was_killed_goes_on_where_it_was(lunch: MemoryCore) -> None:
    await lunch.conversations.append("lunch", [{"role": "user", "content": f"I like dish {n}"} for n in range(4)])
    first = asyncio.Event()

    async def stuck(prompt: str) -> Any:
        if "dish 1" in said(prompt):
            first.set()
            await asyncio.sleep(3600)
        return [fact("Fay is allergic to nuts")]

    run = asyncio.create_task(lunch.extraction.run(ScriptedModel(stuck), batch=2))
    await first.wait()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    model = ScriptedModel(lambda prompt: [fact(f"Fay likes {said(prompt)[-6:]}")])
    async with MemoryCore.open(lunch.database.url, embeddings=False) as other:
        report = await other.extraction.run(model, batch=2)
    assert (report.calls, report.messages) == (2, 4)
    assert await contents(lunch) == ["Fay is allergic to nuts", "Fay likes dish 1", "Fay likes dish 3"]


async def test_processes_side_by_side_propose_a_fact_once(lunch: MemoryCore) -> None:
    model = ScriptedModel(lambda prompt: asyncio.sleep(0.05, [fact("Fay is allergic to nuts")]))
    reports = await asyncio.gather(*(lunch.extraction.run(model) for _ in range(3)))
    assert sum(report.proposals for report in reports) == 1
    assert await contents(lunch) == ["Fay is allergic to nuts"]


async def test_the_background_reads_while_the_store_is_open(lunch: MemoryCore) -> None:
    model = ScriptedModel(lambda prompt: [fact("Fay is allergic to nuts")])
    await lunch.extraction.start(model, every=timedelta(seconds=0.05), settled=timedelta(0))
    for _ in range(400):
        if await contents(lunch):
            break
        await asyncio.sleep(0.05)
    await lunch.extraction.stop()
    assert await contents(lunch) == ["Fay is allergic to nuts"]


async def test_a_conversation_takes_its_proposals_along(lunch: MemoryCore) -> None:
    await lunch.extraction.run(ScriptedModel(lambda prompt: [fact("Fay is allergic to nuts")]))
    assert (await lunch.conversations.delete("lunch"))["proposals"] == 1
    assert await contents(lunch, status=None) == []


# ---------------------------------------------------------------- the command line


@pytest.mark.usefixtures("words_only")
def test_proposals_are_made_listed_and_decided_by_commands(
    cli: Run,  # noqa: F811
    thread: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ScriptedModel(lambda prompt: [fact("Alice has a kettle"), fact("Alice is sad")])
    monkeypatch.setattr(extraction_command, "_chat_model", lambda name: model)
    assert cli("extract").code == 2
    assert cli("--json", "extract", "--dry-run").json["extraction"]["messages"] == 2
    made = cli("--json", "extract", "--model", "any:one").json["extraction"]
    assert (made["proposals"], made["input_tokens"]) == (2, 100)
    first, second = cli("--json", "proposals", "list", "--user", "alice").json["proposals"]
    assert cli("proposals", "reject", first["id"]).code == 0
    accepted = cli("--json", "proposals", "accept", second["id"], "--key", "kettle").json["memory"]
    assert (accepted["content"], accepted["key"]) == (second["content"], "kettle")
    assert "Nothing is proposed" in cli("proposals", "list").err
