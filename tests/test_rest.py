"""REST: what each request answers, who may name whom, one shape for errors, and its own description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mcp_server.rest.openapi import document
from mcp_server.rest.operations import OPERATIONS
from mcp_server.rest.problems import of_error
from mcp_server.settings import OAuthSettings, ServerSettings
from memory_plugin import errors
from tests.http_server import Answer, Serving, own_database, serving

TOKENS = ServerSettings(tokens=True, rate_limit=0)


@pytest.fixture(scope="module")
def server(server_url: str, template: str, worker_id: str) -> Iterator[Serving]:
    """One server with tokens for this module."""
    with own_database(server_url, template, f"rest_{worker_id}") as url, serving(url, TOKENS) as running:
        yield running


class Person:
    """Somebody with a token."""

    def __init__(self, server: Serving, name: str | None, *scopes: str) -> None:
        self.server = server
        wanted: Any = scopes or ("read", "write")
        self.token = server.run(lambda core: core.tokens.create(user_id=name, scopes=wanted)).secret

    def get(self, path: str) -> Answer:
        return self.server.ask("GET", f"/api/v1{path}", token=self.token)

    def post(self, path: str, **body: Any) -> Answer:
        return self.server.ask("POST", f"/api/v1{path}", body, token=self.token)

    def delete(self, path: str) -> Answer:
        return self.server.ask("DELETE", f"/api/v1{path}", token=self.token)


def code(answer: Answer) -> tuple[int, str]:
    assert answer.json["status"] == "error"
    return answer.status, answer.json["error"]["code"]


# -- the summary of a user


def test_the_summary_of_a_user_is_saved_replaced_and_read(server: Serving) -> None:
    alice = Person(server, "alice")
    assert alice.get("/memory/alice").json == {"status": "ok", "memory": None}
    saved = alice.post("/memory", user_id="alice", content="Likes tea")
    assert (saved.status, saved.json) == (200, {"status": "ok", "message": "Memory saved successfully"})
    first = alice.get("/memory/alice").json["memory"]
    assert set(first) == {"content", "created_at", "updated_at"}
    alice.post("/memory", user_id="alice", content="Likes coffee")
    second = alice.get("/memory/alice").json["memory"]
    assert second["content"] == "Likes coffee"
    assert second["created_at"] == first["created_at"] < second["updated_at"]
    assert len(server.run(lambda core: core.user_memory.versions("alice"))) == 2


@pytest.mark.parametrize("user", ["a/b", "a b", "..", "größe@example.com", "a\nb", "%2F", "a?b#c", "memory"])
def test_a_user_may_have_any_name(server: Serving, user: str) -> None:
    from urllib.parse import quote

    person = Person(server, user)
    assert person.post("/memory", user_id=user, content=f"about {user}").status == 200
    assert person.get(f"/memory/{quote(user, safe='')}").json["memory"]["content"] == f"about {user}"


# -- facts and search


def test_a_fact_is_remembered_found_read_and_forgotten(server: Serving) -> None:
    ben = Person(server, "ben")
    stored = ben.post("/memories", content="Ben's boat is called Mathilde", key="boat").json
    assert (stored["result"], stored["version"]) == ("created", 1)
    assert ben.post("/memories", content="Ben's boat is called Mathilde", key="boat").json["result"] == "duplicate"
    [hit] = ben.post("/recall", query="what is the boat called?", kinds=["memory"]).json["results"]
    assert (hit["id"], hit["kind"], hit["key"], hit["flagged"]) == (stored["id"], "memory", "boat", False)
    assert ben.get(f"/memories/{stored['id']}").json["memory"]["content"] == "Ben's boat is called Mathilde"
    assert ben.delete(f"/memories/{stored['id']}").json == {"status": "ok", "id": stored["id"]}
    found = ben.post("/recall", query="boat").json
    assert (found["results"], found["words_only"]) == ([], "This store has no embedder.")
    assert code(ben.get(f"/memories/{stored['id']}")) == (404, "not_found")


def test_passages_are_found_with_what_to_cite(server: Serving) -> None:
    server.run(lambda core: core.references.add(text="# Gyros\n\nA gyro precesses under torque.", source="gyro.md"))
    [hit] = Person(server, "cleo").post("/references/search", query="torque").json["results"]
    assert hit["citation"]["uri"].startswith("memory://reference/")
    assert (hit["citation"]["title"], hit["kind"]) == ("Gyros", "reference")


# -- conversations


def test_conversations_are_listed_and_read_page_by_page(server: Serving) -> None:
    said = [f"message {number}" for number in range(7)]

    async def talk(core: Any) -> None:
        for thread in ("t/1", "t2", "t3"):
            await core.conversations.create(thread, user_id="dora", title=f"About {thread}")
            await core.conversations.append(thread, said, user_id="dora")

    server.run(talk)
    dora = Person(server, "dora")
    first = dora.get("/conversations?limit=2").json
    rest = dora.get(f"/conversations?limit=2&cursor={first['cursor']}").json
    assert {each["thread_id"] for each in first["conversations"] + rest["conversations"]} == {"t/1", "t2", "t3"}
    assert rest["cursor"] is None
    assert [each["title"] for each in dora.get("/conversations?search=t3").json["conversations"]] == ["About t3"]
    assert dora.get("/conversations/t%2F1").json["conversation"]["message_count"] == 7

    read: list[str] = []
    query = "?limit=3"
    while True:
        page = dora.get(f"/conversations/t%2F1/messages{query}").json
        read = [each["text"] for each in page["messages"]] + read
        if page["cursor"] is None:
            break
        query = f"?limit=3&before={page['cursor']}"
    assert read == said
    assert code(dora.get("/conversations/t2/messages?before=none")) == (404, "not_found")
    assert code(dora.get("/conversations?cursor=none"))[0] == 422


# -- who may


def test_a_user_may_name_himself_alone(server: Serving) -> None:
    emil = Person(server, "emil")
    Person(server, "mona").post("/memory", user_id="mona", content="a secret")
    for answer in (
        emil.get("/memory/mona"),
        emil.post("/memory", user_id="mona", content="x"),
        emil.post("/memories", user_id="mona", content="x"),
        emil.post("/recall", user_id="mona", query="secret"),
        emil.post("/references/search", user_id="mona", query="secret"),
        emil.get("/conversations?user_id=mona"),
    ):
        assert code(answer) == (403, "forbidden")
    assert emil.post("/recall", user_id="emil", query="secret").json["results"] == []


def test_a_service_names_the_user_in_each_call(server: Serving) -> None:
    backend = Person(server, None, "service", "write")
    stored = backend.post("/memories", user_id="nora", content="Nora runs").json
    assert backend.get(f"/memories/{stored['id']}").json["memory"]["user_id"] == "nora"
    assert backend.post("/recall", user_id="nora", query="runs").json["results"]
    assert backend.post("/recall", user_id="olaf", query="runs").json["results"] == []
    assert code(backend.post("/recall", query="runs")) == (422, "invalid")
    assert code(Person(server, None, "service").delete(f"/memories/{stored['id']}")) == (403, "insufficient_scope")
    assert backend.delete(f"/memories/{stored['id']}").status == 200


def test_on_this_machine_the_configured_user_counts(database_url: str) -> None:
    with serving(database_url, ServerSettings(user_id="alice")) as server:
        assert server.ask("POST", "/api/v1/memory", {"user_id": "alice", "content": "x"}).status == 200
        assert server.ask("GET", "/api/v1/memory/bob").status == 403
        assert server.ask("GET", "/api/v1/conversations").json["conversations"] == []
        assert "security" not in server.ask("GET", "/api/v1/openapi.json").json


def test_a_server_for_reading_has_nothing_that_writes(database_url: str) -> None:
    with serving(database_url, ServerSettings(read_only=True)) as server:
        assert server.ask("POST", "/api/v1/memory", {"user_id": "alice", "content": "x"}).status == 404
        assert server.ask("DELETE", "/api/v1/memories/01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11").status == 405
        assert server.ask("GET", "/api/v1/memory/alice").json["memory"] is None


# -- errors


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("POST", "/recall", b"{", 400, "not_json"),
        ("POST", "/recall", b'{"query": "\xff"}', 400, "not_json"),
        ("POST", "/recall", {"query": ""}, 422, "invalid"),
        ("POST", "/recall", {"query": "x", "limit": 0}, 422, "invalid"),
        ("POST", "/recall", {"query": "x", "since": "yesterday"}, 422, "invalid"),
        ("POST", "/recall", {"query": "x", "until": 0}, 422, "invalid"),
        ("POST", "/recall", {"query": "x", "kinds": []}, 422, "invalid"),
        ("POST", "/memory", {"user_id": "alice", "content": "a\0b"}, 422, "invalid"),
        ("POST", "/memory", {"user_id": "alice", "content": "x", "role": "admin"}, 422, "invalid"),
        ("POST", "/memory?dry=1", {"user_id": "alice", "content": "x"}, 422, "invalid"),
        ("GET", "/conversations?limit=1&limit=2", None, 422, "invalid"),
        ("GET", "/conversations?limit=x", None, 422, "invalid"),
        ("GET", "/memories/1", None, 422, "invalid"),
        ("GET", "/memories/01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11", None, 404, "not_found"),
        ("GET", "/memory/%FF", None, 400, "not_text"),
        ("GET", "/memory/", None, 404, "not_found"),
        ("GET", "/nothing", None, 404, "not_found"),
        ("PUT", "/memory", {"user_id": "alice", "content": "x"}, 405, "wrong_method"),
        ("POST", "/openapi.json", {}, 405, "wrong_method"),
    ],
)
def test_what_is_wrong_is_said_in_one_shape(
    server: Serving, method: str, path: str, body: Any, status: int, word: str
) -> None:
    token = Person(server, "alice").token
    answer = server.ask(method, f"/api/v1{path}", body, token=token)
    assert code(answer) == (status, word)
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json["error"]) <= {"code", "message", "details"}
    assert ("allow" in answer.headers) == (status == 405)


def test_a_body_that_does_not_say_it_is_json_is_refused(server: Serving) -> None:
    token = Person(server, "alice").token
    answer = server.ask("POST", "/api/v1/recall", {"query": "x"}, token=token, Content_Type="text/plain")
    assert code(answer) == (415, "not_json")


def test_a_refusal_does_not_repeat_what_was_sent(server: Serving) -> None:
    answer = Person(server, "alice").post("/memory", user_id="alice", content=["hunter2"])
    assert code(answer) == (422, "invalid")
    assert "hunter2" not in answer.text
    assert answer.json["error"]["details"][0]["where"] == "body.content"


def test_every_error_of_the_library_has_a_status() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MemoryPluginError)
    ]
    statuses = {kind.__name__: of_error(kind("why")).status for kind in kinds}
    assert all(400 <= status < 600 for status in statuses.values())
    assert statuses["NotFoundError"] == 404
    assert statuses["ContentTooLargeError"] == 413
    assert statuses["OutcomeUnknownError"] == 503
    assert of_error(errors.DatabaseError("SELECT secret")).body.error.message != "SELECT secret"


def test_a_database_that_is_gone_is_a_503(database_url: str) -> None:
    with serving(database_url, TOKENS) as server:
        token = Person(server, "alice").token

        async def lose(core: Any) -> None:
            async def fails(*_: object, **__: object) -> None:
                raise errors.DatabaseUnavailableError("The database cannot be reached: is it running?")

            core.for_tenant("default").user_memory.get = fails

        server.run(lose)
        answer = server.ask("GET", "/api/v1/memory/alice", token=token)
        assert code(answer) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"


# -- the description


def test_the_document_describes_every_operation() -> None:
    oauth = OAuthSettings(issuer="https://login.example.com", audience="x")
    whole = document(OPERATIONS, replace(TOKENS, oauth=oauth, public_url="https://memory.example.com"))
    described = {
        (method.upper(), path.removeprefix("/api/v1")) for path, methods in whole["paths"].items() for method in methods
    }
    assert described == {(each.method, each.path) for each in OPERATIONS}
    assert whole["openapi"].startswith("3.1")
    assert whole["security"] == [{"bearer": []}]
    text = json.dumps(whole)
    used = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used <= set(whole["components"]["schemas"])
    for methods in whole["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert {"401", "403", "429", "503"} <= set(operation["responses"])


@pytest.mark.filterwarnings("ignore")
def test_the_server_keeps_to_its_own_document(server: Serving) -> None:
    """Requests made from the document, good ones and bad ones: each answer is one that it describes."""
    from schemathesis import openapi
    from schemathesis.config import SchemathesisConfig
    from schemathesis.engine import events, from_schema

    token = Person(server, "alice", "service", "write").token
    more_than_said = [  # a cursor is not any text, a fact is no credential, and what begins comes before its end
        {"include-name": name, "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", 422]}}}
        for name in ("GET /api/v1/conversations", "POST /api/v1/memories")
    ]
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "max-time": 120,
            "base-url": server.url,
            "headers": {"Authorization": f"Bearer {token}"},
            "generation": {"max-examples": 3, "mode": "all", "no-shrink": True, "database": "none"},
            # what random requests find beyond these takes minutes: every bound and every kind of mistake is here
            "phases": {
                "coverage": {"unexpected-methods": ["PATCH"]},
                "examples": {"enabled": False},
                "fuzzing": {"enabled": False},
                "stateful": {"enabled": False},
            },
            "operations": more_than_said,
        }
    )
    schema = openapi.from_dict(server.ask("GET", "/api/v1/openapi.json").json, config=config)
    wrong, checked = [], set()
    for event in from_schema(schema).execute():
        assert not isinstance(event, events.FatalError), event
        if isinstance(event, events.NonFatalError):
            wrong.append(f"{event.label}: {event.value!r}")
        if isinstance(event, events.ScenarioFinished):
            for checks in event.recorder.checks.values():
                checked.add(event.recorder.label)
                wrong += [
                    f"{event.recorder.label}: {check.failure_info.failure.title}: {check.failure_info.failure.message}"
                    for check in checks
                    if check.failure_info is not None
                ]
    assert wrong == []
    assert checked == {f"{each.method} /api/v1{each.path}" for each in OPERATIONS}
