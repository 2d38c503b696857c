"""Storing a prepared put: against what is known first, and against the database where that was wrong."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import orjson

from memory_plugin.capabilities.checkpoint_rows import Range
from memory_plugin.capabilities.checkpoints import Checkpoints
from memory_plugin.jsonable import clean_text
from memory_plugin.langgraph.assemble import learn_said
from memory_plugin.langgraph.codec import ValueCodec
from memory_plugin.langgraph.known import KnownThread
from memory_plugin.langgraph.names import original_name, stored_name, stored_version
from memory_plugin.langgraph.plan import Plan, PreparedPut, learn_from_put, plan_put, unresolved
from memory_plugin.langgraph.reading import read

_ATTEMPTS = 4


class Putting:
    """One put on its way.

    Args:
        known: what is known of the thread; learned from, and corrected where it was wrong.
        conversation: the channel of the root state that is the conversation.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        codec: ValueCodec,
        known: KnownThread,
        prepared: PreparedPut,
        *,
        conversation: str,
    ) -> None:
        self._checkpoints = checkpoints
        self._codec = codec
        self._known = known
        self._prepared = prepared
        self._conversation = conversation
        self._complete = False
        self._again = False
        self._alone = False

    async def store(self) -> None:
        """Write it, in one statement where what is known is right."""
        self._complete = not await self._read_parent()
        if self._complete:
            await self._read_said()
        plan = await self._plan()
        # Only new messages have to wait for each other: who comes second must know the first one's rows.
        lock = self._known.lock if plan.put.messages else None
        waits = lock is not None and lock.locked()
        async with lock or nullcontext():
            if waits:
                plan = await self._plan()
            base = await self._write(plan)
            attempts = 1
            while base is None:
                attempts += 1
                await self._look_again(last=attempts >= _ATTEMPTS)
                plan = await self._plan()
                base = await self._write(plan)
            learn_from_put(self._known, self._prepared, plan, base)

    async def _write(self, plan: Plan) -> int | None:
        known, buffer, put = self._known, self._prepared.buffer, plan.put
        if buffer is not None and buffer.text == known.buffer and put.anchor is None:
            # whether that is still so is seen by the parent only: the thread may have been deleted since
            parent = (put.namespace, put.parent_id or "")
            if parent in known.checkpoints:
                put = replace(put, anchor=parent)
            else:
                known.buffer = None
        if buffer is not None and buffer.text != known.buffer:
            put = replace(put, buffer=buffer.text, buffer_channels=buffer.channels)
            known.buffer = None  # unknown until the answer is there
        result = await self._checkpoints.put(put)
        self._again = self._again or result.repeated
        if buffer is not None and result.base is not None:
            known.buffer = buffer.text
        return result.base

    async def _look_again(self, *, last: bool) -> None:
        """It is stored already, or somebody deleted what it lives on: write whatever is not there.

        The last attempt takes nothing over, so that nothing can be missing.
        """
        self._known.reset()
        self._complete, self._again, self._alone = True, self._again or last, last
        if not last:
            await self._read(self._prepared.checkpoint_id)
            if not await self._read_parent():
                await self._read_said()

    async def _plan(self) -> Plan:
        prepared = self._prepared
        found: dict[str, list[Range]] = {}
        open_channels = [] if self._alone else unresolved(self._known, prepared)
        if open_channels:
            versions = [(stored_name(name), str(stored_version(prepared.unchanged[name]))) for name in open_channels]
            refs = await self._checkpoints.refs_of_versions(prepared.thread_id, prepared.namespace, versions)
            for name, ranges in refs.items():
                found[original_name(name)] = [(start, end) for start, end in orjson.loads(ranges)]
        return plan_put(
            self._codec,
            self._known,
            prepared,
            conversation=self._conversation,
            found=found,
            complete=self._complete,
            again=self._again,
        )

    async def _read_parent(self) -> bool:
        """Learn the parent's messages where another process, or another saver, wrote them.

        False when there is no such parent although the put has one.
        """
        prepared = self._prepared
        new = any(taken.encoded for taken in prepared.lists.values())
        if prepared.parent_id is None or not (new or prepared.unchanged):
            return True
        parent = self._known.checkpoints.get((prepared.namespace, prepared.parent_id))
        if parent is not None and (parent.learned or not new):
            return True
        return await self._read(prepared.parent_id)

    async def _read_said(self) -> None:
        """Learn what stayed of the conversation when its checkpoints expired: a late step must not say it again."""
        prepared = self._prepared
        lists = [prepared.values.get(channel) for channel in (*prepared.lists, *prepared.unchanged)]
        messages = [message for each in lists if self._codec.is_messages(each) for message in each or ()]
        ids = sorted({message.id for message in messages if type(message.id) is str})
        if ids:
            rows = await self._checkpoints.said(prepared.thread_id, [clean_text(each) for each in ids])
            learn_said(self._codec, rows, self._known)

    async def _read(self, checkpoint_id: str) -> bool:
        prepared = self._prepared
        place = prepared.thread_id, prepared.namespace, checkpoint_id
        return await read(self._checkpoints, self._codec, self._known, *place) is not None
