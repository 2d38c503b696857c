"""The examples run as they stand: the notebooks top to bottom, and the programs with a script for a person."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import nbformat
import pytest
from nbclient import NotebookClient

from mcp_server.settings import ServerSettings
from tests.http_server import serving

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project on the path, and no key for a paid model."""
    for name in list(os.environ):
        if name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONUTF8", "1")
    monkeypatch.delenv("TELEGRAM_BOT_TOKEN", raising=False)


# -- the notebooks


def test_there_are_three_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS] == [
        "01_langgraph_agent.ipynb",
        "02_references_and_mcp.ipynb",
        "03_existing_tables.ipynb",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert len(notebook.cells) - len(code) >= len(code) // 2, "a newcomer needs words between the cells"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import sys; print(sys.executable)"))
    NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert Path(outputs[0].text.strip()).samefile(sys.executable), "the kernel must be of this environment"
    assert all(output.output_type != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs), [output for output in outputs if "name" in output]


# -- the agent in the terminal


def module_of(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def program(name: str, *arguments: str, url: str, said: str = "") -> str:
    """Run an example to its end and give what it printed."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        env={**os.environ, "MEMORY_DATABASE_URL": url},
        input=said,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_agent_goes_on_with_a_thread_and_recalls_in_another(database_url: str) -> None:
    told = program("langgraph_agent.py", url=database_url, said="I collect teapots.\nWhere is order A-1042?\n\n")
    assert "Thread 'main' has 0 messages" in told
    assert "agent> Noted: you collect teapots." in told
    assert "A-1042: {'text': 'Ada asked about order A-1042: 4 stoneware mugs'}" in told
    assert told.rstrip().endswith("Ada asked about order A-1042: 4 stoneware mugs"), (
        "recall finds the item of the store"
    )
    again = program("langgraph_agent.py", url=database_url, said="")
    assert "Thread 'main' has 8 messages" in again
    other = program("langgraph_agent.py", "other", url=database_url, said="What do I collect?\n\n")
    assert "Thread 'other' has 0 messages" in other
    assert "agent> You collect teapots." in other


def test_the_agent_with_middleware_is_shown_the_memory_and_knows_its_prompt(database_url: str) -> None:
    said = "I collect teapots.\n/why\n/prompt Be brief.\nGood morning.\n/why\n/memory What does Ada collect?\n\n"
    told = program("agent_middleware.py", url=database_url, said=said)
    assert "agent> Noted: you collect teapots." in told
    assert "It was given with the prompt of the program." in told
    assert "It was given with version 1, set by ada: Be brief." in told
    assert "memory] The user collects teapots" in told
    assert "(without" not in told


# -- the MCP client


def test_the_mcp_client_lists_remembers_and_recalls(database_url: str) -> None:
    assert "search_references: " in program("mcp_client.py", "tools", url=database_url)
    fact = "Ada drinks her tea without sugar"
    assert "Remembered." in program("mcp_client.py", "remember", fact, url=database_url)
    assert f"- {fact} [memory" in program("mcp_client.py", "recall", "How does Ada take her tea?", url=database_url)


def test_the_mcp_client_explains_itself() -> None:
    done = subprocess.run([sys.executable, EXAMPLES / "mcp_client.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "mcp_client.py recall" in done.stderr


# -- the chat over REST


def test_the_chat_puts_the_users_memory_before_the_model(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(database_url, ServerSettings(tokens=True)) as server:
        monkeypatch.setenv("CHAT_MEMORY_URL", server.url)
        monkeypatch.setenv("CHAT_MEMORY_TOKEN", server.run(lambda core: core.tokens.create(user_id="ada")).secret or "")
        said = "/memory Ada is a potter in Graz.\nHello!\n\n"
        first = program("rest_chat.py", "ada", url=database_url, said=said)
        assert first.startswith("0 system message")
        assert "Memory saved successfully" in first
        assert "assistant> " in first
        again = program("rest_chat.py", "ada", url=database_url)
        assert again.startswith("1 system message:\nYou are a helpful assistant.")
        assert "\nAda is a potter in Graz.\n</memory>" in again
        other = subprocess.run(
            [sys.executable, EXAMPLES / "rest_chat.py", "bob"], capture_output=True, text=True, check=False
        )
        assert other.returncode == 1
        assert other.stderr.startswith("403: This token may name its own user alone")


# -- the chat over FastAPI


class Chat:
    """The running application, and its clients."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.memory = app.state.memory

    async def client(self, **granted: Any) -> httpx2.AsyncClient:
        return self.with_token((await self.memory.tokens.create(**granted)).secret)

    def with_token(self, secret: str) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {secret}"}
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url="http://chat", headers=headers)


@pytest.fixture
def chat(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractAsyncContextManager[Chat]]:
    """Starts the application as a server does; each time anew, over the same database."""
    monkeypatch.setenv("MEMORY_DATABASE_URL", database_url)
    monkeypatch.delenv("CHAT_MODEL", raising=False)
    app = module_of("fastapi_chat").app

    @asynccontextmanager
    async def running() -> AsyncIterator[Chat]:
        async with app.router.lifespan_context(app):
            yield Chat(app)

    return running


async def say(client: httpx2.AsyncClient, text: str, chat_id: str = "first") -> str:
    answer = await client.post(f"/chats/{chat_id}/messages", json={"text": text})
    assert answer.status_code == 200, answer.text
    said: str = answer.json()["text"]
    return said


async def test_the_fastapi_chat_shows_the_model_the_users_memory_and_keeps_the_history(chat: Any) -> None:
    async with chat() as running, await running.client(user_id="ada") as ada:
        assert await say(ada, "Hello!") == "I know nothing about you yet. You have said 1 thing(s) in this chat."
        assert (await ada.put("/memory", json={"content": "Ada is a potter in Graz."})).status_code == 200
        assert (await ada.get("/memory")).json() == {"content": "Ada is a potter in Graz."}
    async with chat() as running, await running.client(user_id="ada") as ada:
        told = "I know this about you: Ada is a potter in Graz. You have said 2 thing(s) in this chat."
        assert await say(ada, "Good morning.") == told
        assert (await say(ada, "Hm.", "second")).endswith("You have said 1 thing(s) in this chat.")
        lines = (await ada.get("/chats/first/messages")).json()
        assert [line["role"] for line in lines] == ["human", "ai", "human", "ai"], "the memory is in no history"
        assert lines[-1]["text"] == told
        kept = await running.memory.conversations.list(user_id="ada")
        assert {each.thread_id for each in kept.items} == {"ada/first", "ada/second"}


async def test_the_fastapi_chat_shows_no_user_anything_of_another(chat: Any) -> None:
    async with chat() as running:
        ada, bob = await running.client(user_id="ada"), await running.client(user_id="bob")
        await ada.put("/memory", json={"content": "Ada is a potter in Graz."})
        await say(ada, "My secret is a teapot.")
        assert (await bob.get("/memory")).json() is None
        assert (await bob.get("/chats/first/messages")).json() == []
        assert await say(bob, "Hello!") == "I know nothing about you yet. You have said 1 thing(s) in this chat."
        assert len((await ada.get("/chats/first/messages")).json()) == 2
        for path in ("../ada/first", "..%2Fada%2Ffirst", "ada%2Ffirst"):
            assert (await bob.get(f"/chats/{path}/messages")).status_code in {404, 422}


async def test_the_fastapi_chat_asks_for_a_token_that_allows_it(chat: Any) -> None:
    async with chat() as running:
        assert (await running.with_token("made-up").get("/memory")).status_code == 401
        revoked = await running.memory.tokens.create(user_id="ada")
        await running.memory.tokens.revoke(revoked.id)
        assert (await running.with_token(revoked.secret).get("/memory")).status_code == 401
        reader = await running.client(user_id="ada", scopes=["read"])
        assert (await reader.get("/memory")).status_code == 200
        assert (await reader.put("/memory", json={"content": "x"})).status_code == 403
        assert (await (await running.client(scopes=["service"])).get("/memory")).status_code == 403
        refused = await (await running.client(user_id="ada")).put("/memory", json={"content": "a\x00b"})
        assert refused.status_code == 422
        assert "NUL" in refused.json()["detail"]


async def test_a_model_that_fails_leaves_no_half_of_a_turn_in_the_fastapi_chat(chat: Any) -> None:
    class Broken:
        async def ainvoke(self, *args: Any) -> None:
            raise ConnectionError("the model is away")

    async with chat() as running, await running.client(user_id="ada") as ada:
        running.app.state.model = Broken()
        with pytest.raises(ConnectionError):
            await say(ada, "Hello!")
        assert (await ada.get("/chats/first/messages")).json() == []


def test_the_fastapi_chat_takes_the_model_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_MODEL", "openai:gpt-4.1-mini")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    model = module_of("fastapi_chat").make_model()
    assert (type(model).__name__, model.model_name) == ("ChatOpenAI", "gpt-4.1-mini")


# -- the bot


def test_the_bot_remembers_until_it_is_told_to_start_anew(database_url: str) -> None:
    said = "I live in Graz.\nWhere do I live?\n"
    assert "bot> You live in Graz." in program("telegram_bot.py", url=database_url, said=said)
    history = "SELECT count(*) FROM memory.messages WHERE thread_id = 'console'"
    assert query(database_url, history) == 8
    assert "bot> Hello!" in program("telegram_bot.py", url=database_url, said="/start\n")
    assert query(database_url, history) == 1


def query(url: str, statement: str) -> Any:
    import asyncpg

    async def fetch() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(fetch())


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_bot_stops_in_order_on_a_signal(sent: signal.Signals, database_url: str) -> None:
    """Its input is open all the time: only the signal ends it."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "telegram_bot.py"],
        env={**os.environ, "MEMORY_DATABASE_URL": database_url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "The bot is ready.\n"
    process.stdin.write("I live in Graz.\n")
    process.stdin.flush()
    assert process.stdout.readline() == "bot> Noted: you live in Graz.\n"
    process.send_signal(sent)
    assert process.wait(30) == 0
    assert process.stdout.read() == "The bot has stopped.\n"
    assert process.stderr is not None
    assert process.stderr.read() == ""


@pytest.fixture
def bot_module() -> ModuleType:
    return module_of("telegram_bot")


class FakeTelegram:
    """The two methods of the Bot API that the transport uses, on a port of this machine."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.sent: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = json.dumps({"ok": True, "result": outer.answer(self.path, asked)}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, asked: dict[str, Any]) -> Any:
        if path == "/botTOKEN/sendMessage":
            self.sent.append(asked)
            return {"message_id": 1}
        assert path == "/botTOKEN/getUpdates"
        self.offsets.append(asked["offset"])
        updates = [
            {"update_id": 7, "message": {"chat": {"id": 5}, "from": {"id": 9}, "text": "I live in Graz."}},
            {"update_id": 8, "message": {"chat": {"id": 5}, "photo": []}},
            {"update_id": 9, "message": {"chat": {"id": -6}, "from": {"id": 9}, "text": "Where do I live?"}},
        ]
        return [update for update in updates if update["update_id"] >= asked["offset"]]


@pytest.fixture
def telegram() -> Iterator[FakeTelegram]:
    fake = FakeTelegram()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


async def test_over_telegram_a_person_is_known_in_every_chat(
    bot_module: ModuleType, telegram: FakeTelegram, memory: Any
) -> None:
    transport = bot_module.TelegramTransport("TOKEN", api=telegram.url, poll_seconds=1)
    bot, stop, answered = bot_module.Bot(memory, transport), asyncio.Event(), 0
    async with asyncio.timeout(60):
        async for incoming in bot_module.until(stop, transport.messages()):
            await bot.answer(incoming)
            answered += 1
            if answered == 2:
                stop.set()
    assert telegram.sent[0] == {"chat_id": 5, "text": "Noted: you live in Graz."}
    assert telegram.sent[1]["chat_id"] == -6
    assert telegram.sent[1]["text"].startswith("You live in Graz.")
    assert telegram.offsets[0] == 0
