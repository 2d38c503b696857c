"""The memory before a model: what is known of the user and the chat, for one call and kept nowhere.

What is added here goes to the model and never into a state, so that nothing recalled is stored again
as if it had been said.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

from memory_plugin.capabilities.working_memory import DEFAULT_TEMPLATE
from memory_plugin.errors import InvalidInputError
from memory_plugin.langchain.rendering import (
    CountTokens,
    Part,
    approximate_tokens,
    compose,
    facts_part,
    text_part,
)
from memory_plugin.types import AgentSettings, Hit, HitKind, WorkingMemoryScope
from memory_plugin.validation import positive_limit

if TYPE_CHECKING:
    from memory_plugin.bridge import Bridge
    from memory_plugin.capabilities.working_memory import ChatContext
    from memory_plugin.core import MemoryCore

T = TypeVar("T")

BUDGET = 1500
FACTS = 6
SECONDS = 5.0

IN_CONTEXT = 24
"""So many hits more are asked for where the messages that the model sees anyway may be among them."""

RECALLED = "memory_recalled"
"""What marks a message that came out of the store, for whoever reads conversations for facts."""

NOTED = "agent_settings"
"""Under this name of `response_metadata` an answer says which settings it was given with."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Said:
    """What was said in one turn, from the person's words on, and whose it is."""

    messages: Sequence[BaseMessage]
    user_id: str | None
    thread_id: str | None


OnFailure = Callable[[str, Exception], object]
Propose = Callable[[Said], object]


class ContextOptions(TypedDict, total=False):
    """What is put before the model; each as `MemoryContext` explains it."""

    user_id: str | None
    agent_id: str | None
    budget: int
    summary: bool
    working_memory: WorkingMemoryScope | None
    template: str | None
    recall: int
    kinds: Sequence[HitKind]
    prompt_setting: str | None
    model_setting: str | None
    count_tokens: CountTokens
    on_failure: OnFailure | None
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadedMemory:
    """What was loaded for one call of a model.

    Attributes:
        text: for the system message; empty where nothing is known.
        prompt: the system prompt that is active as a setting, None where there is none.
        model: the parameters of the model that are active as a setting.
        settings: the versions of the settings in use, by name.
        hits: what was recalled.
        failures: what could not be loaded, and why.
    """

    text: str = ""
    prompt: str | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, AgentSettings] = field(default_factory=dict)
    hits: Sequence[Hit] = ()
    failures: Mapping[str, Exception] = field(default_factory=dict)

    def system(self, given: SystemMessage | None = None) -> SystemMessage | None:
        """The system message with the memory behind it; None where there is neither."""
        if self.prompt is not None:
            given = SystemMessage(self.prompt)
        if not self.text:
            return given
        if given is None:
            return SystemMessage(self.text, additional_kwargs={RECALLED: True})
        content: str | list[str | dict[str, Any]]
        if isinstance(given.content, str):
            content = f"{given.content}\n\n{self.text}" if given.content else self.text
        else:  # blocks stay as they are: a provider may have cached them
            content = [*given.content, {"type": "text", "text": self.text}]
        return given.model_copy(update={"content": content})

    def note(self, answer: AIMessage) -> AIMessage:
        """The answer, with the versions of the settings that it was given with in its `response_metadata`."""
        if not self.settings:
            return answer
        used = {
            name: {"scope": each.scope, "scope_id": each.scope_id, "version": each.version}
            for name, each in self.settings.items()
        }
        return answer.model_copy(update={"response_metadata": {**answer.response_metadata, NOTED: used}})


class MemoryContext:
    """Loads what a model should know before it answers; made by `Memory.context`.

    Whose memory it is comes from the run's config (`configurable.user_id` and `thread_id`). Nothing
    of a user is loaded where no user is known. Whatever fails is left out and reported: in the log,
    to `on_failure`, and in `failures` until the next load.

    Args:
        core: the open store.
        bridge: the way of sync calls to it.
        user_id: whose memory it is where the config names nobody.
        agent_id: whose settings count.
        budget: tokens of all that is added.
        summary: whether the summary of the user is.
        working_memory: which one is: that of the "chat" or of the "user"; None for neither.
        template: what stands for a working memory that nobody has written yet; "" for nothing, None
            for the default.
        recall: how many facts are recalled for what the person said last; 0 for none.
        kinds: what is recalled.
        prompt_setting: name of the setting that is the system prompt.
        model_setting: name of the setting that holds parameters of the model, an object.
        count_tokens: counts the tokens of a text; by default four bytes are one.
        on_failure: is told what could not be loaded, and why.
        seconds: how long each part may take.
    """

    def __init__(
        self,
        core: MemoryCore,
        bridge: Bridge,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        budget: int = BUDGET,
        summary: bool = True,
        working_memory: WorkingMemoryScope | None = "chat",
        template: str | None = None,
        recall: int = FACTS,
        kinds: Sequence[HitKind] = ("memory",),
        prompt_setting: str | None = None,
        model_setting: str | None = None,
        count_tokens: CountTokens = approximate_tokens,
        on_failure: OnFailure | None = None,
        seconds: float = SECONDS,
    ) -> None:
        if working_memory not in {"chat", "user", None}:
            raise InvalidInputError(f"working_memory must be 'chat', 'user' or None, not {working_memory!r}.")
        self._core = core
        self._bridge = bridge
        self._user_id = user_id if user_id is not None else core.user_id
        self._agent_id = agent_id
        self._budget = positive_limit(budget, "budget", maximum=1_000_000)
        self._summary = summary
        self._working_memory = working_memory
        self._template = DEFAULT_TEMPLATE if template is None else template
        self._recall = positive_limit(recall, "recall")
        self._kinds = tuple(kinds)
        self._prompt_setting = prompt_setting
        self._model_setting = model_setting
        self._count = count_tokens
        self._on_failure = on_failure
        self._seconds = seconds
        self.failures: Mapping[str, Exception] = {}

    # -- the plain functions

    async def aprepare(
        self, messages: Sequence[BaseMessage], config: RunnableConfig | None = None
    ) -> list[BaseMessage]:
        """The messages for a model, with the memory in their system message; those given stay as they are.

        Args:
            config: of the run; by default the one of the node that calls.
        """
        return _prepared(messages, await self.aload(messages, config))

    def prepare(self, messages: Sequence[BaseMessage], config: RunnableConfig | None = None) -> list[BaseMessage]:
        """`aprepare` from a thread without the store's loop."""
        return _prepared(messages, self.load(messages, config))

    # -- loading

    async def aload(self, messages: Sequence[BaseMessage], config: RunnableConfig | None = None) -> LoadedMemory:
        """What is known, for a model that is about to see these messages; never fails."""
        failures: dict[str, Exception] = {}
        work = self._bridge.reach(self._load(messages, *self._who(config), failures))
        loaded = await _guarded("memory", failures, work)
        return self._reported(loaded, failures)

    def load(self, messages: Sequence[BaseMessage], config: RunnableConfig | None = None) -> LoadedMemory:
        """`aload` from a thread without the store's loop."""
        failures: dict[str, Exception] = {}
        loaded = None
        try:
            loaded = self._bridge.run(self._load(messages, *self._who(config), failures))
        except Exception as error:  # noqa: BLE001 - the border: the agent answers without its memory, and it is said why
            failures["memory"] = error
        return self._reported(loaded, failures)

    async def _load(
        self,
        messages: Sequence[BaseMessage],
        user: str | None,
        thread: str | None,
        failures: dict[str, Exception],
    ) -> LoadedMemory:
        seconds = self._seconds
        texts, hits, prompt, model = await asyncio.gather(
            _guarded("working memory and summary", failures, self._texts(user, thread), seconds),
            _guarded("recall", failures, self._facts(messages, user), seconds),
            _guarded("prompt", failures, self._setting(self._prompt_setting, str, user, thread), seconds),
            _guarded("model", failures, self._setting(self._model_setting, dict, user, thread), seconds),
        )
        parts = [
            *self._parts_of(texts),
            *([facts_part("Recalled for this turn, with its date:", hits)] if hits else []),
        ]
        return LoadedMemory(
            text=compose(parts, budget=self._budget, count=self._count),
            prompt=None if prompt is None else prompt.value,
            model={} if model is None else model.value,
            settings={each.name: each for each in (prompt, model) if each is not None},
            hits=hits or (),
            failures=failures,
        )

    async def _texts(self, user: str | None, thread: str | None) -> ChatContext | None:
        chat = thread if self._working_memory == "chat" else None
        person = user if self._summary or self._working_memory == "user" else None
        if chat is None and person is None:
            return None
        return await self._core.working_memory.with_history(chat, user_id=person, limit=0)

    def _parts_of(self, texts: ChatContext | None) -> list[Part]:
        if texts is None:
            return []
        parts = []
        if self._summary and texts.summary is not None:
            parts.append(text_part("User Memory: ", texts.summary.content))
        if self._working_memory is None:
            return parts
        whose = "this conversation" if self._working_memory == "chat" else "this user"
        written = texts.chat if self._working_memory == "chat" else texts.user
        if written is not None:
            parts.append(text_part(f"Working memory of {whose} (version {written.version}):\n", written.content))
        elif self._template:
            parts.append(text_part(f"Working memory of {whose} (version 0, not written yet):\n", self._template))
        return parts

    async def _facts(self, messages: Sequence[BaseMessage], user: str | None) -> list[Hit]:
        asked = next((message.text for message in reversed(messages) if isinstance(message, HumanMessage)), "")
        if user is None or not self._recall or not asked.strip():
            return []
        seen = {message.id for message in messages if message.id is not None}
        known = {message.text for message in messages}
        more = min(len(messages), IN_CONTEXT) if "message" in self._kinds else 0
        hits = await self._core.recall(asked, user_id=user, kinds=self._kinds, limit=self._recall + more)
        # what the model has before it anyway is not recalled
        return [hit for hit in hits if hit.kind != "message" or not (hit.message_id in seen or hit.text in known)][
            : self._recall
        ]

    async def _setting(
        self, name: str | None, kind: type, user: str | None, thread: str | None
    ) -> AgentSettings | None:
        if name is None:
            return None
        found = await self._core.agent_settings.active(name, agent_id=self._agent_id, user_id=user, thread_id=thread)
        if found is not None and not isinstance(found.value, kind):
            wanted = "text" if kind is str else "an object"
            raise InvalidInputError(f"The setting {name!r} is not {wanted}: the agent goes on without it.")
        return found

    # -- after the agent

    async def apropose(self, propose: Propose, messages: Sequence[BaseMessage]) -> None:
        """Hand the last turn to `propose`, a function or a coroutine function; never fails."""
        failures: dict[str, Exception] = {}
        said = self.said(messages)
        if said.messages:
            work = propose(said) if inspect.iscoroutinefunction(propose) else asyncio.to_thread(propose, said)
            await _guarded("proposals", failures, work)
        self._report(failures)

    def propose(self, propose: Propose, messages: Sequence[BaseMessage]) -> None:
        """`apropose` from a thread without the store's loop; a plain function runs in this thread."""
        failures: dict[str, Exception] = {}
        said = self.said(messages)
        try:
            if said.messages:
                work = propose(said)
                if inspect.iscoroutine(work):
                    self._bridge.run(work)
        except Exception as error:  # noqa: BLE001 - the border: what was answered is not lost for it
            failures["proposals"] = error
        self._report(failures)

    def said(self, messages: Sequence[BaseMessage], config: RunnableConfig | None = None) -> Said:
        """The last turn of a conversation, from the person's words on."""
        start = max((place for place, each in enumerate(messages) if isinstance(each, HumanMessage)), default=0)
        return Said(list(messages[start:]), *self._who(config))

    # -- helpers

    def _who(self, config: RunnableConfig | None) -> tuple[str | None, str | None]:
        """The user and the thread of a run."""
        given = ensure_config(config)
        configurable = given.get("configurable") or {}
        user = configurable.get("user_id", (given.get("metadata") or {}).get("user_id"))
        thread = configurable.get("thread_id")
        user = self._user_id if user is None or user == "" else str(user)
        return user, None if thread is None or thread == "" else str(thread)

    def _reported(self, loaded: LoadedMemory | None, failures: Mapping[str, Exception]) -> LoadedMemory:
        self._report(failures)
        return loaded if loaded is not None else LoadedMemory(failures=failures)

    def _report(self, failures: Mapping[str, Exception]) -> None:
        self.failures = failures
        for part, error in failures.items():
            _log.warning("The agent goes on without %s: %s", part, error)
            if self._on_failure is not None:
                try:
                    self._on_failure(part, error)
                except Exception:  # noqa: BLE001 - the border: who is told of a failure must not make it a greater one
                    _log.exception("on_failure failed itself")


async def _guarded(
    part: str, failures: dict[str, Exception], work: Awaitable[T], seconds: float | None = None
) -> T | None:
    """The result, or None with the reason in `failures`."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except Exception as error:  # noqa: BLE001 - the border: the agent answers without this part, and it is said why
        failures[part] = TimeoutError(f"It took longer than {seconds} seconds.") if limit.expired() else error
    return None


def _prepared(messages: Sequence[BaseMessage], loaded: LoadedMemory) -> list[BaseMessage]:
    """The messages with the memory in the first of them, the system message."""
    first = messages[0] if messages and isinstance(messages[0], SystemMessage) else None
    system = loaded.system(first)
    rest = messages[1:] if first is not None else messages
    return [*([] if system is None else [system]), *rest]
