"""Bearer tokens: what they open, what they never show; and stores of many tenants over one pool."""

from __future__ import annotations

import asyncio
import gc
import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from memory_plugin import tenants
from memory_plugin.capabilities.tokens import PREFIX, Token, _parts
from memory_plugin.cli import app
from memory_plugin.core import MemoryCore
from memory_plugin.errors import ConfigurationError, InvalidInputError, NotFoundError


def secret_of(token: Token) -> str:
    assert token.secret is not None
    return token.secret


async def test_a_token_opens_what_it_was_made_for(core: MemoryCore) -> None:
    made = await core.tokens.create(user_id="alice", scopes=["write"], name="laptop")
    found = await core.tokens.verify(secret_of(made))
    assert found is not None
    assert (found.tenant, found.user_id, found.scopes, found.id) == ("default", "alice", ("read", "write"), made.id)
    assert secret_of(made).startswith(PREFIX)


async def test_it_is_verified_in_the_tenant_it_names_whatever_store_is_asked(core: MemoryCore) -> None:
    made = await core.for_tenant("Größe. _-").tokens.create(user_id="alice")
    found = await core.tokens.verify(secret_of(made))
    assert found is not None
    assert found.tenant == "Größe. _-"
    assert await core.tokens.list() == []


async def test_the_secret_is_nowhere_in_the_database(core: MemoryCore) -> None:
    made = await core.tokens.create(user_id="alice")
    row = await core.database.fetchval("SELECT t::text FROM memory.tokens t")
    assert secret_of(made).rpartition(".")[2] not in row
    assert secret_of(made) not in repr(made)
    assert [each.secret for each in await core.tokens.list()] == [None]


@pytest.mark.parametrize("end", ["revoked", "over", "erased", "another secret", "another tenant", "cut off"])
async def test_what_opens_nothing(core: MemoryCore, end: str) -> None:
    made = await core.tokens.create(user_id="alice", expires_in=timedelta(milliseconds=1 if end == "over" else 60_000))
    used = secret_of(made)
    match end:
        case "revoked":
            first = await core.tokens.revoke(made.id)
            assert (await core.tokens.revoke(str(made.id))).revoked_at == first.revoked_at
        case "over":
            await asyncio.sleep(0.01)
        case "erased":
            await core.erasure.erase_user("alice")
        case "another secret":
            other = await core.tokens.create(user_id="alice")
            used = ".".join([*used.split(".")[:2], secret_of(other).split(".")[2]])
        case "another tenant":
            other = await core.for_tenant("other").tokens.create(user_id="alice")
            used = ".".join([secret_of(other).split(".")[0], *used.split(".")[1:]])
        case _:
            used = used[:-4]
    assert await core.tokens.verify(used) is None


@given(st.text() | st.from_regex(r"\Ampt_[\w-]*\.[0-9a-f]{0,33}\.[\w-]*\Z"))
def test_no_text_is_a_crash(text: str) -> None:
    parts = _parts(text)
    assert parts is None or "\0" not in parts[0]


async def test_what_cannot_be_a_token_is_refused(core: MemoryCore) -> None:
    for wrong in (
        {"user_id": None},
        {"user_id": "a", "scopes": []},
        {"user_id": "a", "scopes": ["admin"]},
        {"user_id": "a", "expires_in": timedelta(0)},
    ):
        with pytest.raises(InvalidInputError):
            await core.tokens.create(**wrong)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        await core.tokens.revoke("01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11")
    with pytest.raises(InvalidInputError):
        await core.tokens.revoke("x")


async def test_using_it_again_writes_nothing(core: MemoryCore) -> None:
    """Only the hour is noted: a busy token must not make a version of its row for each request."""
    made = await core.tokens.create(scopes=["service"])
    versions = "SELECT xmin::text FROM memory.tokens"
    assert await core.tokens.verify(secret_of(made)) is not None
    first = await core.database.fetchval(versions)
    assert await core.tokens.verify(secret_of(made)) is not None
    assert await core.database.fetchval(versions) == first
    assert (await core.tokens.list())[0].used_hour is not None


def test_the_command_line_makes_lists_and_revokes(database_url: str) -> None:
    def run(*arguments: str) -> dict[str, object]:
        result = CliRunner().invoke(app, ["--url", database_url, "--json", *arguments])
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout))

    made = run("tokens", "create", "--user", "alice", "--scope", "read", "--name", "phone", "--expires", "never")
    assert isinstance(made["token"], dict)
    assert made["token"]["scopes"] == ["read"]
    assert made["token"]["expires_at"] is None
    run("tokens", "revoke", made["token"]["id"])
    [listed] = run("tokens", "list", "--user", "alice")["tokens"]  # type: ignore[misc]
    assert (listed["name"], listed["secret"]) == ("phone", None)
    assert listed["revoked_at"] is not None
    plain = CliRunner().invoke(app, ["--url", database_url, "-q", "tokens", "create", "--user", "bob"])
    assert plain.stdout.startswith(PREFIX)
    assert "bob" in CliRunner().invoke(app, ["--url", database_url, "tokens", "list"]).stdout


# -- many tenants


async def test_tenants_share_the_pool_and_nothing_else(database_url: str) -> None:
    async with MemoryCore.open(database_url, user_id="alice", embeddings=False) as core:
        other = core.for_tenant("other")
        await core.remember("Alice drinks tea")
        await other.remember("Alice drinks coffee", user_id="alice")
        assert other.database.engine is core.database.engine
        assert other.user_id is None
        assert [hit.text for hit in await core.recall("drinks")] == ["Alice drinks tea"]
        assert [hit.text for hit in await other.recall("drinks", user_id="alice")] == ["Alice drinks coffee"]
        assert core.for_tenant("other") is other is other.for_tenant("other")
        assert core.for_tenant("default").user_id is None


async def test_a_store_of_another_tenant_is_not_opened_or_closed_by_itself(database_url: str) -> None:
    core = MemoryCore.open(database_url, embeddings=False)
    with pytest.raises(ConfigurationError, match="not open"):
        core.for_tenant("other")
    async with core:
        with pytest.raises(ConfigurationError, match="open already"):
            await core.for_tenant("other").__aenter__()
        with pytest.raises(InvalidInputError):
            core.for_tenant("")


async def test_those_used_last_are_kept_and_all_end_with_the_store(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants, "KEPT", 2)
    async with MemoryCore.open(database_url, embeddings=False) as core:
        first = core.for_tenant("t0")
        for number in range(4):
            await core.for_tenant(f"t{number}").remember("a fact", user_id="u")
        assert core.for_tenant("t0") is not first
        del first
        gc.collect()
    assert [task for task in asyncio.all_tasks() if "indexer" in task.get_name()] == []


def test_the_sync_face_gives_a_sync_store(database_url: str) -> None:
    with MemoryCore.open(database_url, embeddings=False) as core:
        other = core.for_tenant("other")
        other.remember("a fact", user_id="u")
        assert len(other.recall("fact", user_id="u")) == 1
