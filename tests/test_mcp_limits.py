"""Who guesses tokens waits, and who has one does not; what is measured of a server, and who may read it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mcp_server.access import CoreAccess, already_open
from mcp_server.limits import _MOST_BUCKETS, FAR_EXCEEDED, Failures, address_of
from mcp_server.metrics import Metrics
from mcp_server.settings import ServerSettings, parse
from memory_plugin.core import MemoryCore
from tests.http_server import Answer, own_database, serving
from tests.test_mcp_http import client, token_of

SCRAPER = "the-token-for-measurements"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


# -- failures


@given(st.integers(1, 30), st.lists(st.floats(0, 20), max_size=80))
def test_no_address_fails_more_often_than_is_allowed(allowed: int, pauses: list[float]) -> None:
    """In any time no more failures are answered as such than a minute allows and came free since."""
    clock = Clock()
    failures, answered = Failures(allowed, clock=clock), 0
    for pause in pauses:
        clock.now += pause
        if wait := failures.failed("a"):
            assert wait <= 60 * FAR_EXCEEDED + 60, "the longest wait is known"
            clock.now += wait + 1e-6
        else:
            answered += 1
        assert answered <= allowed + clock.now * allowed / 60 + 1e-6
    assert failures.failed("b") == 0, "each address for itself"


def test_an_address_is_blocked_only_far_above_the_limit_and_not_for_ever() -> None:
    clock = Clock()
    failures = Failures(6, clock=clock)
    waits = [failures.failed("a") for _ in range(6 * FAR_EXCEEDED)]
    assert waits[:6] == [0.0] * 6
    assert all(waits[6:])
    assert failures.blocked("a") == pytest.approx(10)
    assert failures.blocked("b") == 0
    for _ in range(1000):
        failures.failed("a")
    clock.now += 10.01
    assert failures.blocked("a") == 0, "more of the same makes it no longer"
    clock.now += 60 * FAR_EXCEEDED
    assert failures.failed("a") == 0


def test_only_so_many_addresses_are_remembered() -> None:
    failures = Failures(1)
    for number in range(_MOST_BUCKETS + 50):
        failures.failed(f"10.0.{number}")
        failures.blocked(f"unseen {number}")
    assert len(failures._tallies) == _MOST_BUCKETS


@pytest.mark.parametrize(
    ("client_name", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_a_customer_of_ipv6_is_one_address(client_name: str, address: str) -> None:
    assert address_of(client_name) == address


@pytest.fixture(scope="module")
def database(server_url: str, template: str, worker_id: str) -> Iterator[str]:
    with own_database(server_url, template, f"limits_{worker_id}") as url:
        yield url


def test_a_guesser_waits_and_a_valid_token_from_the_same_address_passes(database: str) -> None:
    settings = ServerSettings(tokens=True, failure_limit=3)
    with serving(database, settings) as server:
        alice = token_of(server, user_id="alice")

        def guess(number: int) -> Answer:
            return server.ask("GET", "/api/v1/memory/alice", token=f"mpt_guess.{number}")

        assert [guess(number).status for number in range(3)] == [401, 401, 401]
        refused = guess(3)
        assert refused.status == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json["error"]["code"] == "auth_rate_limited"
        assert server.ask("GET", "/mcp").status == 401, "no token is no guess"
        assert server.ask("GET", "/api/v1/memory/alice", token=alice).status == 200

        assert {guess(number).status for number in range(3 * FAR_EXCEEDED)} == {429}
        blocked = server.ask("GET", "/api/v1/memory/alice", token=alice)
        assert (blocked.status, blocked.json["error"]["code"]) == (429, "auth_rate_limited")
        assert server.ask("GET", "/healthz").status == 200


def test_each_address_behind_a_proxy_counts_for_itself(database: str) -> None:
    """Where the proxy is one that is trusted to say who asks; the application server reads that."""
    with serving(database, ServerSettings(tokens=True, failure_limit=1)) as server:
        for status in (401, 429):
            asked = server.ask("GET", "/mcp", token="mpt_x.y", X_Forwarded_For="198.51.100.1")
            assert asked.status == status
        assert server.ask("GET", "/mcp", token="mpt_x.y", X_Forwarded_For="198.51.100.2").status == 401


# -- measurements


def samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The numbers of a page of Prometheus, by name and labels; the official parser has to understand it."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


async def test_what_a_server_does_is_measured_without_saying_for_whom(database: str) -> None:
    settings = ServerSettings(tokens=True, metrics=True, metrics_token=SCRAPER, rate_limit=3000)
    with serving(database, settings) as server:
        zoe = token_of(server, user_id="zoe-the-user")
        async with client(server.url, zoe, "auto") as mine:
            await mine.call_tool("remember", {"content": "Zoe has a zebra"})
            await mine.call_tool("forget", {"id": "zebra"})
            await mine.call_tool("zebra", {})
        server.ask("GET", "/api/v1/memory/zoe-the-user", token=zoe)
        server.ask("GET", "/zebra", token=zoe)
        server.ask("GET", "/mcp", token="zebra")
        page = server.ask("GET", "/metrics", token=SCRAPER)
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/plain; version=")
    for word in ("zebra", "zoe", "tenant=", zoe, "default"):
        assert word not in page.text
    found = samples(page.text)

    def calls(tool: str, error: str) -> float:
        labels = (("error_type", error), ("gen_ai_tool_name", tool), ("mcp_method_name", "tools/call"))
        return found["mcp_server_operation_duration_seconds_count"][labels]

    assert (calls("remember", ""), calls("forget", "tool_error")) == (1, 1)
    requests = found["http_server_request_duration_seconds_count"]
    routes = {dict(labels)["http_route"] for labels in requests}
    assert routes <= {"/mcp", "/api/v1/memory/{user_id}", "_OTHER"}
    assert sum(requests.values()) >= 6
    refusals = {dict(labels)["reason"]: number for labels, number in found["memory_plugin_http_refusals_total"].items()}
    assert refusals == {"rate_limited": 0, "auth_rate_limited": 0, "invalid_token": 1}
    states = found["db_client_connection_count"]
    assert states[(("db_client_connection_state", "idle"),)] >= 1
    assert found["db_client_connection_max"][()] == 8
    assert found["db_client_connection_pending_requests"][()] == 0
    assert set(found["memory_plugin_index_queue"]) == {(("queue", "vectors"),), (("queue", "words"),)}
    assert found["process_resident_memory_bytes"][()] > 1e6


async def test_measurements_are_read_by_their_own_token_alone(database: str) -> None:
    settings = ServerSettings(tokens=True, metrics=True, metrics_token=SCRAPER, failure_limit=3)
    with serving(database, settings) as server:
        service = token_of(server, scopes=["service", "write"])
        assert server.ask("GET", "/metrics").status == 401
        assert server.ask("GET", "/metrics", token=service).status == 401
        assert server.ask("GET", "/metrics", token=f"{SCRAPER}x").status == 401
        assert server.ask("GET", "/metrics", token="\u00e9").status == 401
        assert server.ask("GET", "/metrics", token="guess").status == 429
        assert server.ask("GET", "/metrics", token=SCRAPER).status == 200
        assert server.ask("GET", "/metrics", token=SCRAPER, Host="evil.example").status == 421
        assert server.ask("GET", "/api/v1/memory/alice", token=SCRAPER).status == 429, "it opens nothing else"


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        (ServerSettings(), 404),
        (ServerSettings(metrics=True), 200),
        (ServerSettings(metrics=True, metrics_token=SCRAPER), 401),
        (ServerSettings(tokens=True, metrics_token=SCRAPER), 404),
        (ServerSettings(tokens=True, metrics=True), 404),
    ],
)
def test_measurements_are_off_unless_they_are_asked_for(database: str, settings: ServerSettings, status: int) -> None:
    with serving(database, settings) as server:
        assert server.ask("GET", "/metrics").status == status


def test_the_command_line_asks_for_a_token_of_measurements_on_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--http", "--metrics"], {}).metrics
    given = parse(["--http", "--tokens", "--metrics"], {"MEMORY_MCP_METRICS_TOKEN": SCRAPER})
    assert given.metrics_token == SCRAPER
    assert SCRAPER not in repr(given)
    with pytest.raises(SystemExit):
        parse(["--http", "--tokens", "--metrics"], {})
    assert "MEMORY_MCP_METRICS_TOKEN" in capsys.readouterr().err


async def test_measurements_do_not_wait_for_a_database_that_hangs(
    core: MemoryCore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import asyncio

    from mcp_server import metrics as module

    monkeypatch.setattr(module, "PATIENCE", 0.05)
    asked = []

    async def hang() -> None:
        asked.append(1)
        await asyncio.sleep(30)

    monkeypatch.setattr(core.passages, "backlog", hang)
    access = CoreAccess(lambda: already_open(core))
    measured = Metrics(access)
    assert b"db_client_connection_max 0.0" in (await measured.text())[0], "reading opens no memory"
    async with access:
        await access.core()
        with caplog.at_level(logging.WARNING):
            first, second = (await measured.text())[0], (await measured.text())[0]
    assert re.search(rb"db_client_connection_max 8.0", first + second)
    assert asked == [1], "what was counted just now is not counted again"
    assert "TimeoutError" in caplog.text


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, core: MemoryCore) -> None:
    import sys

    from memory_plugin.errors import ConfigurationError

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"memory-plugin\[metrics\]"):
        Metrics(CoreAccess(lambda: already_open(core)))


def test_zero_is_no_limit(database: str) -> None:
    """Without limits, as a setting says, nobody is made to wait."""
    with serving(database, ServerSettings(tokens=True, failure_limit=0)) as server:
        assert {server.ask("GET", "/mcp", token=f"x{number}").status for number in range(20)} == {401}
