"""Calls of tools that are answered without the library's transport: the same answers, the same bounds."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from mcp_server.parsing import LONGEST_HEAD
from mcp_server.settings import ServerSettings
from memory_plugin.core import MemoryCore
from tests.http_server import Answer, Serving, own_database, serving

HERE, LIBRARY = "application/json, text/event-stream", "application/*"
"""What a client accepts: the second is fine with the library, and nothing that is looked for before it."""


@pytest.fixture(scope="module")
def server(server_url: str, template: str, worker_id: str) -> Iterator[Serving]:
    """One server for this module, which knows a fact."""
    with own_database(server_url, template, f"calls_{worker_id}") as url, serving(url, ServerSettings()) as running:
        running.run(_filled)
        yield running


async def _filled(core: MemoryCore) -> None:
    await core.remember("Alice keeps bees in Bonn")


def post(server: Serving, body: Any, accept: str, **headers: str) -> Answer:
    headers = {"mcp_protocol_version": "2025-11-25", **headers}
    return server.ask("POST", "/mcp", body, accept=accept, **headers)


def call(name: str = "recall", /, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    "body",
    [
        call(query="bees"),
        {**call(query="bees"), "id": "seven"},
        call(query=" "),
        call(query="bees", limit="many"),
        call("nonsense"),
        {"jsonrpc": "2.0", "id": 7, "method": "tools/call"},
        {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"arguments": {}}},
        {"jsonrpc": "2.0", "id": None, "method": "tools/call", "params": {}},
        {"jsonrpc": "2.0", "method": "tools/call", "params": {}},
        [call(query="bees")],
        b"no json",
        b"",
    ],
)
def test_an_answer_is_the_librarys_own(server: Serving, body: Any) -> None:
    here, library = post(server, body, HERE), post(server, body, LIBRARY)
    assert (here.status, here.headers["content-type"]) == (library.status, library.headers["content-type"])
    assert here.text == library.text


def test_a_fact_is_found_in_both_ways(server: Serving) -> None:
    for accept in (HERE, LIBRARY):
        answer = json.loads(post(server, call(query="bees"), accept).text)
        assert "keeps bees" in answer["result"]["structuredContent"]["results"][0]["text"]


@pytest.mark.parametrize("headers", [{"mcp_protocol_version": "1999-01-01"}, {"content_type": "text/plain"}])
def test_what_the_library_refuses_stays_refused(server: Serving, headers: dict[str, str]) -> None:
    assert post(server, call(query="bees"), HERE, **headers).status >= 400


def test_a_client_that_takes_no_json_is_refused(server: Serving) -> None:
    assert post(server, call(query="bees"), "text/html").status == 406


def test_headers_without_an_end_are_refused(server: Serving) -> None:
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        refused = b""
        try:
            for _ in range(100):
                connection.sendall(b"a" * (LONGEST_HEAD // 8))
        except OSError:
            pass
        try:
            refused = connection.recv(1000)
        except ConnectionResetError:
            return
        assert refused.startswith(b"HTTP/1.1 400 ")
