"""A bot with a memory: every chat keeps its history in PostgreSQL, and facts are found across chats of a person.

Try it in the terminal:

    python examples/telegram_bot.py

or as a real bot, with a token from @BotFather:

    TELEGRAM_BOT_TOKEN=123:abc python examples/telegram_bot.py

`/start` forgets what was said in the chat and greets. Ctrl-C, or SIGTERM from a supervisor, lets
the bot finish the answer it is working on, and then ends it.

Without a key for a model the answers come from a small local one made of rules. The database is the
embedded PostgreSQL unless MEMORY_DATABASE_URL names another.

    pip install "memory-plugin[embedded,langchain]"
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig

from memory_plugin import Memory
from memory_plugin.demo.choice import make_model

T = TypeVar("T")

GREETING = "Hello! Tell me about yourself, or ask me what I remember. /start begins anew."
PROMPT = "You are a friendly assistant. Call remember for lasting facts, and recall before you answer about the person."


# -- the transport: where messages come from and answers go


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message of a person."""

    chat_id: str
    user_id: str
    text: str


class Transport(Protocol):
    """What the bot needs to know of Telegram, or of anything else."""

    def messages(self) -> AsyncIterator[Incoming]:
        """Messages as they come, until there will be no more."""
        ...

    async def send(self, chat_id: str, text: str) -> None:
        """Deliver an answer."""
        ...


class ConsoleTransport:
    """One chat on the terminal; it ends with the input."""

    async def messages(self) -> AsyncIterator[Incoming]:
        """The lines that are typed."""
        begun = b""
        while read := await in_background(lambda: os.read(0, 65_536)):
            *lines, begun = (begun + read).split(b"\n")
            for line in lines:
                if text := line.decode(errors="replace").strip():
                    yield Incoming("console", "console-user", text)

    async def send(self, chat_id: str, text: str) -> None:  # noqa: ARG002 - there is only one
        """Print the answer."""
        print(f"bot> {text}", flush=True)


class TelegramTransport:
    """Telegram's Bot API by long polling, with nothing but the standard library."""

    def __init__(self, token: str, *, api: str = "https://api.telegram.org", poll_seconds: int = 25) -> None:
        self._url = f"{api}/bot{token}"
        self._poll_seconds = poll_seconds

    async def messages(self) -> AsyncIterator[Incoming]:
        """Text messages of all chats, each once."""
        offset = 0
        while True:
            updates = await self._call("getUpdates", offset=offset, timeout=self._poll_seconds)
            for update in updates:
                offset = update["update_id"] + 1
                message = update.get("message") or {}
                if message.get("text"):
                    sender = message.get("from") or message["chat"]
                    yield Incoming(f"telegram-{message['chat']['id']}", f"telegram-{sender['id']}", message["text"])

    async def send(self, chat_id: str, text: str) -> None:
        """Send the answer to the chat."""
        await self._call("sendMessage", chat_id=int(chat_id.removeprefix("telegram-")), text=text)

    async def _call(self, method: str, **parameters: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the address is ours, not a user's
            f"{self._url}/{method}",
            data=json.dumps(parameters).encode(),
            headers={"Content-Type": "application/json"},
        )

        def fetch() -> Any:
            with urllib.request.urlopen(request, timeout=self._poll_seconds + 10) as answer:  # noqa: S310
                return json.load(answer)["result"]

        return await in_background(fetch)


async def in_background(work: Callable[[], T]) -> T:
    """Wait for something that blocks, on a thread that does not keep the program from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: Exception | None) -> None:
        if not done.cancelled():
            done.set_exception(error) if error is not None else done.set_result(cast("T", result))

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - it is raised again where the result is awaited
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program is ending
            loop.call_soon_threadsafe(tell, result, failed)

    threading.Thread(target=run, daemon=True).start()
    return await done


# -- the bot


class Bot:
    """Answers messages; all it knows is in the memory, so it can be restarted at any time."""

    def __init__(self, memory: Memory, transport: Transport) -> None:
        self._memory = memory
        self._transport = transport
        self._agent = create_agent(make_model(), memory.tools(), system_prompt=PROMPT)

    async def answer(self, incoming: Incoming) -> None:
        """Answer one message and keep both sides of it."""
        history = self._memory.history(incoming.chat_id, user_id=incoming.user_id)
        if incoming.text == "/start":
            await history.aclear()
            await history.aadd_messages([AIMessage(GREETING)])
            await self._transport.send(incoming.chat_id, GREETING)
            return
        await history.aadd_messages([HumanMessage(incoming.text)])
        before = await history.aget_messages()
        config: RunnableConfig = {"configurable": {"thread_id": incoming.chat_id, "user_id": incoming.user_id}}
        state: Any = {"messages": before}
        result = await self._agent.ainvoke(state, config)
        # what is new: the calls of tools with their results, and the answer
        await history.aadd_messages(result["messages"][len(before) :])
        await self._transport.send(incoming.chat_id, result["messages"][-1].text)


async def until(stop: asyncio.Event, source: AsyncIterator[Incoming]) -> AsyncIterator[Incoming]:
    """The messages of the source until it ends or `stop` is set."""
    stopping = asyncio.ensure_future(stop.wait())
    while not stop.is_set():
        coming = asyncio.ensure_future(anext(source, None))
        await asyncio.wait({coming, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            coming.cancel()
            break
        incoming = coming.result()
        if incoming is None:
            break
        yield incoming
    stopping.cancel()


async def main() -> None:
    """Run the bot until its input ends or it is told to stop."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # on Windows Ctrl-C ends the program by itself
            loop.add_signal_handler(each, stop.set)
    token = os.environ.get("TELEGRAM_BOT_TOKEN")
    transport: Transport = TelegramTransport(token) if token else ConsoleTransport()
    async with Memory.open() as memory:
        bot = Bot(memory, transport)
        print("The bot is ready.", flush=True)
        async for incoming in until(stop, transport.messages()):
            await bot.answer(incoming)
    print("The bot has stopped.", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
