"""The server on a network: tokens, hosts, pages, rates, sizes, the log, and several workers behind a proxy."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client, MCPError
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

from mcp_server.guard import security_of
from mcp_server.http import MAX_BODY, listen
from mcp_server.limits import Buckets
from mcp_server.settings import OAuthSettings, ServerSettings, parse
from memory_plugin.core import MemoryCore
from tests.http_server import Serving, own_database, serving
from tests.test_mcp_transports import http_server

ERAS = ["auto", "legacy"]
PUBLIC = ServerSettings(
    tokens=True, public_url="https://memory.example.com", allow_origins=("https://chat.example.com",)
)


@pytest.fixture(scope="module")
def server(server_url: str, template: str, worker_id: str) -> Iterator[Serving]:
    """One server with tokens for this module."""
    with own_database(server_url, template, f"http_{worker_id}") as url, serving(url, PUBLIC) as running:
        yield running


def token_of(server: Serving, **wanted: Any) -> str:
    made = server.run(lambda core: core.tokens.create(**wanted))
    assert made.secret is not None
    return made.secret


def client(url: str, token: str, era: str) -> Client:
    http = create_mcp_http_client(headers={"Authorization": f"Bearer {token}"})
    return Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=era)


# -- tokens


@pytest.mark.parametrize("era", ERAS)
async def test_a_token_acts_for_its_user(server: Serving, era: str) -> None:
    alice, bob = token_of(server, user_id="alice"), token_of(server, user_id="bob")
    async with client(server.url, alice, era) as mine:
        assert not (await mine.call_tool("remember", {"content": f"Alice keeps bees in {era}"})).is_error
        found = await mine.call_tool("recall", {"query": "bees"})
        assert "keeps bees" in str(found.structured_content)
    async with client(server.url, bob, era) as other:
        found = await other.call_tool("recall", {"query": "bees"})
        assert "keeps bees" not in str(found.structured_content)


@pytest.mark.parametrize("era", ERAS)
async def test_a_token_for_reading_sees_and_calls_no_tool_that_writes(server: Serving, era: str) -> None:
    async with client(server.url, token_of(server, user_id="carol", scopes=["read"]), era) as reader:
        tools = (await reader.list_tools()).tools
        assert "recall" in {tool.name for tool in tools}
        assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in tools)
        refused = await reader.call_tool("remember", {"content": "Carol likes tea"})
        assert refused.is_error
        assert "scope write" in refused.content[0].text
    assert server.run(lambda core: core.recall("tea", user_id="carol")) == []


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (None, False),
        ("", True),
        ("Basic YWxpY2U6eA==", True),
        ("Bearer mpt_x.y.z", True),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", True),
        ("mpt_x", True),
    ],
)
@pytest.mark.parametrize("path", ["/mcp", "/api/v1/memory/alice", "/api/v1/nothing", "/elsewhere"])
def test_nothing_is_answered_without_a_valid_token(server: Serving, path: str, sent: str | None, error: bool) -> None:
    headers = {} if sent is None else {"Authorization": sent}
    answer = server.ask("GET", path, **headers)
    assert answer.status == 401
    assert ('error="invalid_token"' in answer.headers["www-authenticate"]) == error


def test_a_revoked_token_is_refused_at_once(server: Serving) -> None:
    made = server.run(lambda core: core.tokens.create(user_id="dan"))
    assert server.ask("GET", "/api/v1/memory/dan", token=made.secret).status == 200
    server.run(lambda core: core.tokens.revoke(made.id))
    assert server.ask("GET", "/api/v1/memory/dan", token=made.secret).status == 401


def test_a_service_names_its_users_in_rest_and_is_nobody_in_mcp(server: Serving) -> None:
    service = token_of(server, scopes=["service", "write"])
    for user in ("erin", "frank"):
        body = {"user_id": user, "content": f"about {user}"}
        assert server.ask("POST", "/api/v1/memory", body, token=service).status == 200
    assert server.ask("GET", "/api/v1/memory/frank", token=service).json["memory"]["content"] == "about frank"
    assert server.ask("POST", "/api/v1/recall", {"query": "about"}, token=service).status == 422
    assert server.ask("POST", "/mcp", {}, token=service).json["error"] == "no_user"


async def test_without_the_servers_own_application_no_identity_is_made_up(core: MemoryCore) -> None:
    """The configured user is nobody's where tokens are asked for, whatever way a request comes."""
    from mcp_server.access import CoreAccess, already_open
    from mcp_server.server import build_server

    access = CoreAccess(lambda: already_open(core))
    access.needs_identity = True
    async with Client(build_server(access)) as straight:
        assert (await straight.call_tool("recall", {"query": "tea"})).is_error
        with pytest.raises(MCPError):
            await straight.read_resource("memory://memory/01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11")


def test_what_needs_no_token_shows_no_data(server: Serving) -> None:
    for path in ("/healthz", "/readyz", "/api/v1/openapi.json"):
        assert server.ask("GET", path).status == 200
    assert server.ask("GET", "/healthz", Host="10.0.0.7:8000").status == 200, "load balancers ask by address"


# -- hosts and pages


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "memory.example.com"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "memory.example.com.evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://memory.example.com"}, 200),
        ({"Origin": "https://chat.example.com"}, 200),
    ],
)
def test_only_known_hosts_and_pages_are_answered(server: Serving, headers: dict[str, str], status: int) -> None:
    token = token_of(server, user_id="alice")
    assert server.ask("GET", "/api/v1/memory/alice", token=token, **headers).status == status
    assert server.ask("POST", "/mcp", {}, token=token, **headers).status == (406 if status == 200 else status)


def test_on_a_network_this_machines_own_names_do_not_count() -> None:
    settings = parse(["--http", "--host", "0.0.0.0", "--tokens", "--public-url", "https://m.example.com/"], {})
    assert security_of(settings).allowed_hosts == ["m.example.com", "m.example.com:*"]
    named = parse(["--http", "--host", "10.0.0.5", "--tokens", "--allow-host", "memory"], {})
    assert security_of(named).allowed_hosts[:2] == ["memory", "10.0.0.5"]


def test_a_page_may_ask_what_it_may_send_and_learn_why_it_was_refused(server: Serving) -> None:
    asked = {"Origin": "https://chat.example.com", "Access-Control-Request-Method": "POST"}
    allowed = server.ask("OPTIONS", "/mcp", **asked, Access_Control_Request_Headers="authorization")
    assert allowed.status == 200
    assert allowed.headers["access-control-allow-origin"] == "https://chat.example.com"
    refused = server.ask("POST", "/mcp", {}, Origin="https://chat.example.com")
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == "https://chat.example.com"
    assert "access-control-allow-origin" not in server.ask("OPTIONS", "/mcp", Origin="https://evil.example").headers


# -- the command line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--http --host 0.0.0.0 --tokens", "--public-url"),
        ("--http --tokens --user alice", "comes from the token"),
        ("--http --tokens --public-url http://memory.example.com", "https"),
        ("--http --tokens --public-url https://memory.example.com/mcp", "--public-url must be like"),
        ("--http --oauth-issuer https://login.example.com", "needs --public-url"),
        ("--http --oauth-issuer http://login.example.com --public-url https://m.example.com", "https URL"),
        (
            "--http --oauth-issuer https://login.example.com --public-url https://m.example.com --oauth-algorithms HS256",
            "--oauth-algorithms",
        ),
        ("--http --rate-limit -1", "--rate-limit"),
    ],
)
def test_what_would_not_be_safe_is_refused(arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments.split(), {})
    assert sentence in capsys.readouterr().err


def test_the_network_can_be_set_by_the_environment() -> None:
    settings = parse(
        ["--http", "--oauth-tenant-claim", "org"],
        {
            "MEMORY_MCP_TOKENS": "1",
            "MEMORY_MCP_PUBLIC_URL": "https://m.example.com",
            "MEMORY_MCP_OAUTH_ISSUER": "https://login.example.com",
        },
    )
    assert settings.tokens
    assert settings.oauth == OAuthSettings(
        issuer="https://login.example.com", audience="https://m.example.com/mcp", tenant_claim="org"
    )


# -- rates and sizes


@given(st.lists(st.floats(0, 5), max_size=60))
def test_no_one_gets_more_than_the_rate(pauses: list[float]) -> None:
    """In any time no more pass than were in the bucket and came in since; who waits as told passes."""
    now = 0.0
    buckets = Buckets(60, clock=lambda: now)
    passed = 0
    for pause in pauses:
        now += pause
        wait = buckets.take("a")
        passed += wait == 0
        assert passed <= 6 + now + 1e-6
        if wait:
            now += wait + 1e-9
            assert buckets.take("a") == 0
            passed += 1
    assert buckets.take("b") == 0


def test_who_asks_too_often_is_told_when_to_come_back(database_url: str) -> None:
    with serving(database_url, ServerSettings(tokens=True, rate_limit=20)) as server:
        alice, bob = token_of(server, user_id="alice"), token_of(server, user_id="bob")
        statuses = [server.ask("GET", "/api/v1/memory/alice", token=alice).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        refused = server.ask("POST", "/mcp", {}, token=alice)
        assert refused.status == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 3
        assert server.ask("GET", "/api/v1/memory/bob", token=bob).status == 200
        service = token_of(server, scopes=["service"])
        assert {server.ask("GET", "/api/v1/memory/bob", token=service).status for _ in range(10)} == {200}


@pytest.mark.parametrize("path", ["/mcp", "/api/v1/recall"])
def test_a_body_that_is_too_large_is_refused(server: Serving, path: str) -> None:
    token = token_of(server, user_id="alice")
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    for sent in (
        f"Content-Length: {MAX_BODY + 1}\r\n\r\n".encode(),
        b"Transfer-Encoding: chunked\r\n\r\n" + (b"100000\r\n" + b" " * (1 << 20) + b"\r\n") * 5,
    ):
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=20) as connection:
            connection.sendall(head.encode() + sent)
            assert connection.recv(100).startswith(b"HTTP/1.1 413")


# -- the log


async def test_the_log_has_a_line_for_each_request_and_nothing_of_its_content(
    server: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    token = token_of(server, user_id="zoe-the-user")
    async with client(server.url, token, "auto") as zoe:
        await zoe.call_tool("remember", {"content": "Zoe has a zebra"})
        await zoe.call_tool("zebra", {})
    server.ask("POST", "/api/v1/recall", {"query": "zebra"}, token=token)
    server.ask("GET", "/api/v1/memory/zoe-the-user?zebra=1", token=token)
    server.ask("GET", "/api/v1/zebra", token=token)

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "mcp_server.requests"]

    for _ in range(500):  # a line is written when its answer is away
        if lines()[-1].startswith("GET - status=404 "):
            break
        await asyncio.sleep(0.01)
    assert any(
        re.match(r"POST /mcp:tools/call:remember status=200 ms=\d+\.\d bytes=\d+ who=token:", line) for line in lines()
    )
    assert any(line.startswith("GET /api/v1/memory/{user_id} status=422 ") for line in lines())
    text = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("mcp_server"))
    assert "zebra" not in text
    assert "zoe-the-user" not in text
    assert token not in text


# -- several workers


@contextmanager
def round_robin(backends: list[str]) -> Iterator[str]:
    """A plain proxy: each request goes to the next worker, whoever sent it."""
    turns = itertools.cycle(backends)
    used: list[str] = []

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        backend = next(turns)
        used.append(backend)
        async with httpx2.AsyncClient(timeout=30) as http:
            answer = await http.request(
                scope["method"], backend + scope["path"], content=body, headers=list(scope["headers"])
            )
        headers = [(k, v) for k, v in answer.headers.raw if k.lower() not in {b"transfer-encoding", b"connection"}]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})

    listening = socket.create_server(("127.0.0.1", 0))
    runner = uvicorn.Server(uvicorn.Config(proxy, log_config=None, lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(runner.serve(sockets=[listening])), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    runner.should_exit = True
    thread.join(20)
    listening.close()
    assert set(used) == set(backends)


async def test_two_workers_behind_a_plain_proxy_are_one_server(database_url: str) -> None:
    async with MemoryCore.open(database_url, embeddings=False) as core:
        token = (await core.tokens.create(user_id="alice")).secret
    assert token is not None
    with ExitStack() as stack:
        workers = [stack.enter_context(http_server("--tokens", MEMORY_DATABASE_URL=database_url))[1] for _ in range(2)]
        url = stack.enter_context(round_robin(workers))
        for era in ERAS:
            async with client(url, token, era) as alice:
                stored = await alice.call_tool("remember", {"content": f"Alice met Ben in {era} days", "key": era})
                assert not stored.is_error
                for _ in range(3):
                    found = await alice.call_tool("recall", {"query": f"{era} days"})
                    assert f"Ben in {era} days" in str(found.structured_content)


async def test_what_is_answered_is_sent_at_once() -> None:
    """An answer goes out in two parts: the second must not wait for the first to be acknowledged."""
    listening = listen("127.0.0.1", 0)
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken = writer.get_extra_info("socket")
        accepted.set_result(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(connected, sock=listening):
        _, writer = await asyncio.open_connection(*listening.getsockname())
        assert await accepted == 1
        writer.close()
