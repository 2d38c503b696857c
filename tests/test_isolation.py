"""Nobody reaches another's rows: each tool, resource, prompt, completion, subscription and route is tried with each id.

What is tried is read from the server's own lists, so that what is added to them is tried too. An
answer must not hold a word of the other's texts, must be the same as that to an id which nobody has,
and must leave the other's rows as they are.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import PromptReference, ResourceTemplateReference

from mcp_server.access import CoreAccess, already_open
from mcp_server.http import http_app
from mcp_server.identity import READ
from mcp_server.rest.operations import OPERATIONS
from mcp_server.server import build_server
from mcp_server.settings import ServerSettings
from memory_plugin.core import MemoryCore

WORD = "quokka"
"""Stands in every text of Alice, and in nothing else."""

THREAD, KEY, SHELF = "thread-7f3a9", "fact-key-5c1", "shelf-3"
BASE = "http://127.0.0.1:8000"
UUIDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
ADDRESS = re.compile(r"memory://[^\s\"'<>\\|,)]+")
PASSING = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z|\"(?:request_?[iI]d|score)\":[^,}]*|score: [\d.]+|[A-Za-z0-9_-]{40,}")


@dataclass
class Attack:
    """A server, Alice with rows of every kind, their ids, and those who want them."""

    app: Any
    core: MemoryCore
    ids: dict[str, str]
    tokens: dict[str, str]

    def http(self, who: str) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(self.app),
            base_url=BASE,
            headers={"Authorization": f"Bearer {self.tokens[who]}"},
            timeout=60,
        )

    @asynccontextmanager
    async def mcp(self, who: str, era: str = "auto") -> AsyncIterator[Client]:
        async with (
            self.http(who) as http,
            Client(streamable_http_client(f"{BASE}/mcp", http_client=http), mode=era) as c,
        ):
            yield c

    async def rows(self) -> list[str]:
        """Everything that is Alice's, and nothing of when it was read."""
        return [
            json.dumps(record, default=str, sort_keys=True)
            async for record in self.core.for_tenant("acme").export(user_id="alice")
        ]


PLAIN = frozenset(["query", "content", "text", "title", "search", "since", "until", "valid_from", "valid_to", "source"])
"""Parameters that take words or times."""

ATTACKERS = ("bob of acme", "alice of other")


@asynccontextmanager
async def attacked(core: MemoryCore) -> AsyncIterator[Attack]:
    acme, other = core.for_tenant("acme"), core.for_tenant("other")
    tokens = {
        "alice": (await acme.tokens.create(user_id="alice")).secret or "",
        "bob of acme": (await acme.tokens.create(user_id="bob")).secret or "",
        "alice of other": (await other.tokens.create(user_id="alice")).secret or "",
    }
    ids = await _everything_of_alice(acme)
    access = CoreAccess(lambda: already_open(core))
    server = build_server(access, add_references=True)
    app = http_app(server, access, ServerSettings(tokens=True, rate_limit=0))
    async with access, server.session_manager.run():
        yield Attack(app, core, ids, tokens)


async def _everything_of_alice(acme: MemoryCore) -> dict[str, str]:
    fact = await acme.remember(f"The {WORD} eats leaves", user_id="alice", key=KEY)
    await acme.conversations.create(THREAD, user_id="alice", title=f"About the {WORD}")
    said = await acme.conversations.append(
        THREAD, [{"role": "user", "content": f"I saw a {WORD}", "id": "message-91"}], user_id="alice"
    )
    document = await acme.references.add(
        text=f"# Animals\n\nThe {WORD} is small.", source="animals.md", user_id="alice", collection=SHELF
    )
    await acme.working_memory.update(f"Find the {WORD}", user_id="alice")
    await acme.working_memory.update(f"Draw the {WORD}", thread_id=THREAD)
    await acme.user_memory.save("alice", f"Loves the {WORD}")
    await acme.agent_settings.set("animal", WORD, scope="user", scope_id="alice")
    await acme.indexed()
    [passage] = await acme.search_references(WORD, user_id="alice")
    assert passage.citation is not None
    return {
        "user": "alice",
        "fact": str(fact.id),
        "address of the fact": f"memory://memory/{fact.id}",
        "key": KEY,
        "thread": THREAD,
        "address of the thread": f"memory://conversation/{THREAD}",
        "message": str(said[0].id),
        "address of the message": f"memory://conversation/{THREAD}#{said[0].id}",
        "document": str(document.id),
        "passage": passage.citation.uri,
        "working memory": f"memory://working-memory/{THREAD}",
        "collection": SHELF,
    }


def nobodys(value: str) -> str:
    """An id of the same form that nobody has."""
    if value == "alice":
        return "alicf"
    found = UUIDS.search(value)
    if found is not None:
        return value.replace(found[0], str(uuid.UUID(int=uuid.UUID(found[0]).int ^ 0xF0F)))
    return value.replace(THREAD, "thread-7f3b0").replace(KEY, "fact-key-5c2").replace(SHELF, "shelf-4")


def shape(text: str, value: str) -> str:
    """An answer without what differs between any two calls: the id that was asked for, new ids, times."""
    parts = (name for pair in ((THREAD, KEY, SHELF), map(nobodys, (THREAD, KEY, SHELF))) for name in pair)
    for each in dict.fromkeys((value, quote(value, safe=""), *parts)):
        text = text.replace(each, "ID")
    return PASSING.sub("-", UUIDS.sub("ID", text))


def filled(schema: Mapping[str, Any], name: str | None = None, value: str | None = None) -> dict[str, Any]:
    """Arguments that the schema takes: the required ones as short as can be, one of them with a value."""
    arguments = {each: _least(schema["properties"][each]) for each in schema.get("required", ()) if each != name}
    return arguments if name is None else {**arguments, name: value}


def _least(schema: Mapping[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    kinds = {"integer": schema.get("minimum", 1), "boolean": False, "array": [], "object": {}}
    return kinds.get(schema.get("type", ""), "leaves")


def ids_for(name: str, ids: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What to try in a parameter: everything, except where it is plainly no id."""
    for what, value in ids.items():
        if name not in PLAIN or what in {"thread", "key"}:
            yield what, value


def texts_of(schema: Mapping[str, Any]) -> Iterator[str]:
    """The parameters that take a text of any kind."""
    for name, part in schema.get("properties", {}).items():
        choices = part.get("anyOf", [part])
        if any(choice.get("type") == "string" and "enum" not in choice for choice in choices):
            yield name


def _reads(tool: Any) -> bool:
    return bool(tool.annotations is not None and tool.annotations.read_only_hint)


async def said(work: Any) -> str:
    """What a call answers, also when it fails."""
    try:
        return str((await work).model_dump_json(by_alias=True))
    except MCPError as error:
        return json.dumps([error.error.code, error.error.message, error.error.data])


@pytest.mark.parametrize("who", ATTACKERS)
async def test_no_tool_reaches_anothers_rows(core: MemoryCore, who: str) -> None:
    async with attacked(core) as attack:
        before, tried = await attack.rows(), 0
        async with attack.mcp(who) as client:
            # those that write come last, so that nobody finds what they stored
            tools = [(_reads(tool), tool) for tool in (await client.list_tools()).tools]
            for reads, tool in sorted(tools, key=lambda each: not each[0]):
                assert WORD not in await said(client.call_tool(tool.name, filled(tool.input_schema)))
                for name in texts_of(tool.input_schema):
                    for what, value in ids_for(name, attack.ids):
                        answers = []
                        for each in (value, nobodys(value)):
                            answer = await said(client.call_tool(tool.name, filled(tool.input_schema, name, each)))
                            assert WORD not in answer, (tool.name, name, what)
                            answers.append(shape(answer, each))
                            tried += 1
                        stored = not reads and all('"isError":false' in each for each in answers)
                        assert stored or answers[0] == answers[1], (tool.name, name, what, answers)
        assert tried > 100
        assert await attack.rows() == before


@pytest.mark.parametrize(("who", "era"), list(zip(ATTACKERS, ["auto", "legacy"], strict=True)))
async def test_no_resource_or_prompt_or_completion_reaches_anothers_rows(core: MemoryCore, who: str, era: str) -> None:
    async with attacked(core) as attack:
        async with attack.mcp("alice", era) as alice:
            templates = (await alice.list_resource_templates()).resource_templates
            seen = [str(each.uri) for each in (await alice.list_resources()).resources]
            for tool in (await alice.list_tools()).tools:
                if _reads(tool):
                    answer = await said(alice.call_tool(tool.name, {**filled(tool.input_schema), "query": WORD}))
                    seen += ADDRESS.findall(answer)
            addresses = list(dict.fromkeys([*seen, *(value for value in attack.ids.values() if "://" in value)]))
            addresses += [
                re.sub(r"\{[^}]+\}", quote(value, safe=""), template.uri_template)
                for template in templates
                if template.uri_template.count("{") == 1
                for value in (THREAD, attack.ids["fact"], attack.ids["document"], "alice")
            ]
            shown = [address for address in addresses if WORD in await said(alice.read_resource(address))]
            assert len({address.split("/")[2] for address in shown}) >= 3, "Alice herself must see what is hers"
            prompts = (await alice.list_prompts()).prompts

        async with attack.mcp(who, era) as client:
            for address in addresses:
                assert WORD not in await said(client.read_resource(address)), address
            for prompt in prompts:
                names = [each.name for each in prompt.arguments or ()]
                for value in ("leaves", *attack.ids.values()):
                    assert WORD not in await said(client.get_prompt(prompt.name, dict.fromkeys(names, value))), (
                        prompt.name
                    )
                for name in names:
                    await _completes_nothing(client, attack, PromptReference(name=prompt.name), name)
            for template in templates:
                for name in re.findall(r"\{[+#/?&.;]?(\w+)", template.uri_template):
                    await _completes_nothing(client, attack, ResourceTemplateReference(uri=template.uri_template), name)


async def _completes_nothing(client: Client, attack: Attack, reference: Any, name: str) -> None:
    for begun in ("", "t", "thread", attack.ids["fact"][:8], attack.ids["document"][:8], WORD[:3]):
        answer = await said(client.complete(reference, {"name": name, "value": begun}))
        assert WORD not in answer
        assert not any(value in answer for value in attack.ids.values() if value not in {"alice", begun}), (name, begun)


@pytest.mark.parametrize("who", ATTACKERS)
async def test_nobody_is_told_when_anothers_rows_change(core: MemoryCore, who: str) -> None:
    """A subscription is refused at once; one that was not would answer by a stream that goes on."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "Mcp-Protocol-Version": "2026-07-28",
        "Mcp-Method": "subscriptions/listen",
    }
    async with attacked(core) as attack, attack.http(who) as http, asyncio.timeout(60):
        for what, value in attack.ids.items():
            answers = []
            for each in (value, nobodys(value)):
                wanted = {"notifications": {"resourceSubscriptions": [each]}, "_meta": meta}
                message = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": wanted}
                answer = await http.post("/mcp", json=message, headers=headers)
                assert "error" in answer.json(), (what, answer.text)
                answers.append(shape(answer.text, each))
            assert answers[0] == answers[1], (what, answers)


@pytest.mark.parametrize("who", ATTACKERS)
async def test_no_rest_route_reaches_anothers_rows(core: MemoryCore, who: str) -> None:
    async with attacked(core) as attack:
        before, tried = await attack.rows(), 0

        async def call(operation: Any, values: dict[str, dict[str, Any]]) -> tuple[int, str]:
            path = operation.path
            for name, value in values["where"].items():
                path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
            answer = await http.request(
                operation.method,
                f"/api/v1{path}",
                params=values["query"],
                **({"json": values["body"]} if operation.body is not None else {}),
            )
            assert answer.status_code < 500, answer.text
            return answer.status_code, answer.text

        async with attack.http(who) as http:
            for operation in sorted(OPERATIONS, key=lambda each: each.scope != READ):
                models = {place: getattr(operation, place) for place in ("where", "query", "body")}
                schemas = {place: model.model_json_schema() if model else {} for place, model in models.items()}
                for place, schema in schemas.items():
                    for name in texts_of(schema):
                        for what, value in ids_for(name, attack.ids):
                            answers = []
                            for each in (value, nobodys(value)):
                                status, text = await call(
                                    operation,
                                    {
                                        part: filled(of, *((name, each) if part == place else ())) if of else {}
                                        for part, of in schemas.items()
                                    },
                                )
                                assert WORD not in text, (operation.name, name, what)
                                answers.append((status, shape(text, each)))
                                tried += 1
                            own = who == "alice of other" and what == "user"  # her name is the same
                            assert own or answers[0] == answers[1], (operation.name, name, what, answers)
        assert tried > 100
        assert await attack.rows() == before


async def test_alice_herself_is_shown_her_rows_by_the_same_calls(core: MemoryCore) -> None:
    """What was tried above would have shown something, had it been let through."""
    async with attacked(core) as attack:
        async with attack.mcp("alice") as client:
            shown = {
                tool.name
                for tool in (await client.list_tools()).tools
                for name in texts_of(tool.input_schema)
                for value in (WORD, *attack.ids.values())
                if _reads(tool)
                and WORD in await said(client.call_tool(tool.name, filled(tool.input_schema, name, value)))
            }
        assert {"recall", "search_references", "read_item"} <= shown
        async with attack.http("alice") as http:
            for path in ("/memory/alice", f"/memories/{attack.ids['fact']}", f"/conversations/{THREAD}/messages"):
                assert WORD in (await http.get(f"/api/v1{path}")).text
