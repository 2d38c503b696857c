"""Whatever is done to a checkpointer, in whatever order: it shows what LangGraph's saver in memory shows."""

from __future__ import annotations

import asyncio
import copy
import itertools
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from memory_plugin import Memory
from memory_plugin.errors import NotFoundError
from memory_plugin.langgraph import ConversationSaver
from tests.saver_tools import checkpoint, history, opened, place

pytest_plugins = ("tests.saver_fixtures",)

_tenants = itertools.count(1)

NAMESPACES = ["", "sub:1", "sub:1|deep:2"]
RUNS = ["run-1", "run-2", "run-3"]
LISTS = ["messages", "archive"]
DELTA = "log"


class Oracle(InMemorySaver):
    """The saver in memory, with what it leaves out: copies, thinning, deletion of runs.

    It never drops a value that it was once given, because a late put may still bring it along.
    """

    def delete_thread(self, thread_id: str) -> None:
        """Values stay; checkpoints and writes go."""
        self.storage.pop(thread_id, None)
        for key in [key for key in self.writes if key[0] == thread_id]:
            del self.writes[key]

    def copy(self, source: str, target: str) -> None:
        """Everything of one thread under another name."""
        self.storage[target] = copy.deepcopy(self.storage[source])
        for key in [key for key in self.writes if key[0] == source]:
            self.writes[(target, *key[1:])] = dict(self.writes[key])
        for key in [key for key in self.blobs if key[0] == source]:
            self.blobs[(target, *key[1:])] = self.blobs[key]

    def keep_latest(self, thread: str) -> None:
        """The newest of each namespace, and what its delta channel lives on."""
        for namespace, stored in self.storage[thread].items():
            if stored:
                self._drop(thread, namespace, set(stored), keep={max(stored)})

    def delete_runs(self, runs: list[str]) -> None:
        """The checkpoints of these runs, but those that a delta channel lives on."""
        for thread, namespace in [(each, name) for each in self.storage for name in self.storage[each]]:
            stored = self.storage[thread][namespace]
            asked = {name for name in stored if self.serde.loads_typed(stored[name][1]).get("run_id") in runs}
            self._drop(thread, namespace, asked, keep=set(stored) - asked)

    def _drop(self, thread: str, namespace: str, doomed: set[str], *, keep: set[str]) -> None:
        stored = self.storage[thread][namespace]
        needed: set[str] = set()
        for head in keep:
            here: str | None = head
            while here in stored:
                needed.add(here)
                if not self._is_open(thread, namespace, here):
                    break
                here = stored[here][2]
        for name in doomed - needed:
            del stored[name]
            self.writes.pop((thread, namespace, name), None)

    def _is_open(self, thread: str, namespace: str, name: str) -> bool:
        """Whether the delta channel has no value of its own here."""
        versions = self.serde.loads_typed(self.storage[thread][namespace][name][0])["channel_versions"]
        if DELTA not in versions:
            return False
        return self.blobs.get((thread, namespace, DELTA, versions[DELTA]), ("empty",))[0] == "empty"


class State(NamedTuple):
    """A checkpoint as its writer remembers it."""

    thread: str
    namespace: str
    checkpoint_id: str | None
    values: dict[str, Any]
    versions: dict[str, Any]

    @property
    def config(self) -> Any:
        return place(self.thread, self.namespace, self.checkpoint_id)


EDITS = st.lists(
    st.tuples(st.sampled_from(["say", "say", "say", "same id", "nameless", "remove", "edit", "touch", "move", "clear"]),
              st.integers(0, 7)),
    max_size=4,
)  # fmt: skip
PLAIN = st.sampled_from(
    [None, 1, 1.0, True, 1e16, -0.0, "text", "nul\x00", {"b": [1], "a": (2,)}, b"raw", [], {1, 2}, {3: "x"}, 2**63]
)


class Saving(RuleBasedStateMachine):
    """Two savers over one database, each with a store and a memory of its own, beside the oracle."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.oracle = Oracle()
        self.known: list[State] = []
        self.numbers = itertools.count(1)
        self.threads = ["t0", "t1"]
        self.stores: list[Memory] = []
        self.savers: list[ConversationSaver] = []
        tenant = f"oracle-{next(_tenants)}"
        for _ in range(2):
            store, saver = self.run(self.stack.enter_async_context(opened(url, tenant)))
            store.kick = lambda: None  # type: ignore[method-assign]  # what recall finds is another matter
            self.stores.append(store)
            self.savers.append(saver)

    def run(self, coroutine: Any) -> Any:
        return self.loop.run(coroutine)

    def teardown(self) -> None:
        try:
            for saver in self.savers:
                assert self.run(history(saver)) == self.run(history(self.oracle))
            for thread in self.threads:
                self.check_conversation(thread)
        finally:
            self.run(self.stack.aclose())
            self.loop.close()

    def check_conversation(self, thread: str) -> None:
        """Chat history shows the messages of the newest root checkpoint, and counts them if it has the channel."""
        latest = self.oracle.get_tuple(place(thread))
        said = [] if latest is None else latest.checkpoint["channel_values"].get("messages", [])
        conversations = self.stores[0].conversations
        assert [each.text for each in self.run(conversations.messages(thread))] == [each.text for each in said]
        try:
            counted = self.run(conversations.get(thread)).message_count
        except NotFoundError:
            counted = 0
        if latest is not None and "messages" in latest.checkpoint["channel_versions"]:
            assert counted == len(said)

    # -- what a graph does

    @rule(
        which=st.integers(0, 1),
        parent=st.just(0) | st.integers(0, 40),
        fresh=st.booleans(),
        namespace=st.sampled_from([*NAMESPACES, ""]),
        edits=st.dictionaries(st.sampled_from(LISTS), EDITS, max_size=2),
        plain=st.dictionaries(st.sampled_from(["x", "y", "nul\x00", "back\\slash"]), PLAIN, max_size=2),
        gone=st.sampled_from([None, None, None, "x", "archive"]),
        delta=st.sampled_from(["unchanged", "written", "snapshot"]),
        run_id=st.sampled_from(RUNS),
        tag=st.sampled_from(["p", "q", None]),
    )
    def put(self, which: int, parent: int, fresh: bool, namespace: str, edits: Any, plain: Any, gone: Any,
            delta: str, run_id: str, tag: Any) -> None:  # fmt: skip
        """A step from any earlier checkpoint, however old: the latest, a fork, or the first of a namespace."""
        if fresh or not self.known:
            base = State(self.threads[parent % len(self.threads)], namespace, None, {}, {})
        else:
            base = self.known[-1 - parent % len(self.known)]
        values, versions = dict(base.values), dict(base.versions)
        stored = self.oracle.storage[base.thread][base.namespace]
        if DELTA in versions and base.checkpoint_id not in stored:  # deleted, and its writes with it
            del versions[DELTA]
        changed = {name: self.edited(values.get(name, []), each) for name, each in edits.items()} | plain
        values |= changed
        fresh_versions = {name: self.version() for name in changed}
        if gone in values:
            del values[gone]
            fresh_versions[gone] = self.version()
        counters: dict[str, Any] = {}
        if delta != "unchanged":
            fresh_versions[DELTA] = self.version()
        if delta == "snapshot":
            values[DELTA] = _DeltaSnapshot([next(self.numbers)])
        elif DELTA in versions or delta == "written":
            counters = {"counters_since_delta_snapshot": {DELTA: (1, 1)}}
        versions |= fresh_versions
        given = checkpoint(values, versions)
        metadata: Any = {"source": "loop", "step": next(self.numbers), "run_id": run_id, "parents": {}, **counters}
        if tag is not None:
            metadata["tag"] = tag
        self.put_both(which, base.config, given, metadata, fresh_versions)
        values.pop(DELTA, None)
        self.known.append(State(base.thread, base.namespace, given["id"], values, versions))

    def put_both(self, which: int, config: Any, given: Any, metadata: Any, versions: Any) -> None:
        """Both get the very objects that the graph goes on with."""
        ours = self.run(self.savers[which].aput(config, given, metadata, versions))
        assert ours == self.oracle.put(config, given, metadata, versions)

    def version(self) -> str:
        return f"{next(self.numbers):012}.0"

    def edited(self, messages: list[BaseMessage], edits: list[tuple[str, int]]) -> list[BaseMessage]:
        changed = list(messages)
        for kind, number in edits:
            text = f"m{next(self.numbers)}"
            at = number % len(changed) if changed else 0
            if kind == "say":
                changed.append(HumanMessage(text, id=text))
            elif kind == "same id":
                changed.append(AIMessage(text, id=f"id-{number % 2}"))
            elif kind == "nameless":
                changed.append(HumanMessage(f"said {number % 2}"))
            elif kind == "clear":
                changed = []
            elif kind == "touch" and changed:
                self.touch(changed[at], text)
            elif changed:
                taken = changed.pop(at)
                if kind == "edit":
                    changed.insert(at, type(taken)(f"{taken.text}!", id=taken.id))
                elif kind == "move":
                    changed.insert(number % 3, taken)
        return changed

    def touch(self, message: BaseMessage, text: str) -> None:
        """Change a message in place; nobody goes on from the earlier states that have it."""
        message.additional_kwargs.setdefault("deep", {})["list"] = [text]
        message.additional_kwargs["pair"] = (1, text)  # no JSON: comes back as a list
        self.known = [
            state
            for state in self.known
            if not any(each is message for name in LISTS for each in state.values.get(name, ()))
        ]

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0, 1), number=st.integers(0, 40), source=st.sampled_from(["loop", "update"]))
    def put_again(self, which: int, number: int, source: str) -> None:
        """A put that is tried again, perhaps by another process and with other metadata."""
        state = self.known[-1 - number % len(self.known)]
        stored = self.oracle.get_tuple(state.config)
        if stored is None:
            return
        parent = place(state.thread, state.namespace, stored.parent_config and checkpoint_id(stored.parent_config))
        given = {**stored.checkpoint, "channel_values": dict(stored.checkpoint["channel_values"])}
        self.put_both(which, parent, given, {**stored.metadata, "source": source}, given["channel_versions"])

    @rule(
        which=st.integers(0, 1),
        number=st.integers(0, 40),
        writes=st.lists(
            st.tuples(st.sampled_from(["x", "y", DELTA, DELTA, "__interrupt__", "__error__", "__resume__", "__scheduled__",
                                       "__pregel_tasks"]), st.integers(0, 9)), max_size=3),
        task=st.integers(0, 3),
        path=st.sampled_from(["", "~__pregel_pull, a", "~__pregel_push, 10", "~__pregel_push, 9", "Z"]),
    )  # fmt: skip
    @precondition(lambda self: self.known)
    def put_writes(self, which: int, number: int, writes: Any, task: int, path: str) -> None:
        """What tasks wrote; also for a checkpoint that is deleted by now."""
        config = self.known[-1 - number % len(self.known)].config
        self.run(self.savers[which].aput_writes(config, writes, f"task-{task}", path))
        self.oracle.put_writes(config, writes, f"task-{task}", path)

    @rule(which=st.integers(0, 1), thread=st.integers(0, 9), namespace=st.sampled_from(NAMESPACES), writes=PLAIN)
    def put_writes_first(self, which: int, thread: int, namespace: str, writes: Any) -> None:
        """Writes that arrive before the checkpoint they belong to."""
        given = checkpoint({"x": 1}, {"x": self.version()})
        thread_id = self.threads[thread % len(self.threads)]
        config = place(thread_id, namespace, given["id"])
        for saver in (self.savers[which], self.oracle):
            self.run(saver.aput_writes(config, [("x", writes)], "early", ""))
        self.put_both(
            1 - which, place(thread_id, namespace), given, {"source": "input", "step": -1}, given["channel_versions"]
        )
        self.known.append(
            State(thread_id, namespace, given["id"], dict(given["channel_values"]), dict(given["channel_versions"]))
        )

    # -- housekeeping

    @precondition(lambda self: len(self.threads) < 6)
    @rule(which=st.integers(0, 1), source=st.integers(0, 5))
    def copy_thread(self, which: int, source: int) -> None:
        name, target = self.threads[source % len(self.threads)], f"t{len(self.threads)}"
        if not any(self.oracle.storage[name].values()):
            return
        self.threads.append(target)
        self.run(self.savers[which].acopy_thread(name, target))
        self.oracle.copy(name, target)
        self.known += [state._replace(thread=target) for state in self.known if state.thread == name][-3:]

    @rule(which=st.integers(0, 1), thread=st.integers(0, 5))
    def delete_thread(self, which: int, thread: int) -> None:
        name = self.threads[thread % len(self.threads)]
        self.run(self.savers[which].adelete_thread(name))
        self.oracle.delete_thread(name)

    @rule(which=st.integers(0, 1), runs=st.lists(st.sampled_from(RUNS), max_size=2))
    def delete_for_runs(self, which: int, runs: list[str]) -> None:
        self.run(self.savers[which].adelete_for_runs(runs))
        self.oracle.delete_runs(runs)

    @rule(which=st.integers(0, 1), thread=st.integers(0, 5))
    def prune(self, which: int, thread: int) -> None:
        name = self.threads[thread % len(self.threads)]
        self.run(self.savers[which].aprune([name], strategy="keep_latest"))
        self.oracle.keep_latest(name)

    # -- reading

    @rule(
        which=st.integers(0, 1),
        number=st.integers(0, 40),
        latest=st.booleans(),
        then=st.sampled_from(["go on", "spoil"]),
    )
    @precondition(lambda self: self.known)
    def get(self, which: int, number: int, latest: bool, then: str) -> None:
        """What was read belongs to the reader, who goes on from it or changes it."""
        state = self.known[-1 - number % len(self.known)]
        config = place(state.thread, state.namespace, None if latest else state.checkpoint_id)
        ours, theirs = (self.run(saver.aget_tuple(config)) for saver in (self.savers[which], self.oracle))
        assert (ours and ours._replace(config=None)) == (theirs and theirs._replace(config=None))
        if ours is None:
            return
        values = dict(ours.checkpoint["channel_values"])
        if then == "go on":
            values.pop(DELTA, None)
            versions = dict(ours.checkpoint["channel_versions"])
            self.known.append(state._replace(checkpoint_id=ours.checkpoint["id"], values=values, versions=versions))
        else:
            ours.checkpoint["channel_versions"].update(dict.fromkeys(state.versions, state.versions.get("messages")))
            for message in itertools.chain(*(values.get(name, ()) for name in LISTS)):
                message.content += " spoilt"
                message.additional_kwargs["deep"] = "spoilt"

    @rule(
        which=st.integers(0, 1),
        number=st.integers(0, 40),
        filter=st.sampled_from([None, {"tag": "p"}, {"tag": None}, {"run_id": "run-1", "source": "loop"}]),
        before=st.none() | st.integers(0, 40),
        limit=st.sampled_from([None, 0, 1, 2, 5]),
    )
    @precondition(lambda self: self.known)
    def list(self, which: int, number: int, filter: Any, before: Any, limit: Any) -> None:
        """One namespace, in its order; `before` may be of any thread and namespace."""
        state = self.known[-1 - number % len(self.known)]
        options = {"filter": filter, "limit": limit}
        if before is not None:
            options["before"] = self.known[-1 - before % len(self.known)].config
        config = place(state.thread, state.namespace)
        ours = self.run(listed(self.savers[which], config, options))
        assert ours == self.run(listed(self.oracle, config, options))

    @rule(which=st.integers(0, 1), number=st.integers(0, 40), latest=st.booleans())
    @precondition(lambda self: self.known)
    def delta_history(self, which: int, number: int, latest: bool) -> None:
        state = self.known[-1 - number % len(self.known)]
        config = place(state.thread, state.namespace, None if latest else state.checkpoint_id)
        wanted: Any = {"config": config, "channels": [DELTA, "x", "never there"]}
        ours = self.run(self.savers[which].aget_delta_channel_history(**wanted))
        assert ours == self.oracle.get_delta_channel_history(**wanted)

    @rule(which=st.integers(0, 1))
    def forget(self, which: int) -> None:
        """A process that starts anew."""
        self.savers[which]._known.clear()


def checkpoint_id(config: Any) -> Any:
    return config["configurable"]["checkpoint_id"]


async def listed(saver: Any, config: Any, options: Any) -> Any:
    return [each async for each in saver.alist(config, **options)]


def test_any_operations_of_two_savers_show_what_the_saver_in_memory_shows(shared_url: str) -> None:
    run_state_machine_as_test(
        lambda: Saving(shared_url),
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
