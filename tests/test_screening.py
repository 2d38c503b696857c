"""The screen before long-term memory: what it finds, what it leaves alone, and that nothing gets past it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client

from mcp_server import create_server
from memory_plugin.core import MemoryCore
from memory_plugin.errors import InvalidInputError, SecretRefusedError
from memory_plugin.langgraph import MemoryStore
from memory_plugin.memory import Memory
from memory_plugin.portable import import_mem0
from memory_plugin.screening import find_secrets, redacted_value, screened

HIDDEN = "Tr0ub4dor&3"
LETTERS = "aZ3k9Qw1Xc7Vb5Nm2Lp8Rt4Yh6Gf0Jd"


def chance(length: int, alphabet: str = LETTERS) -> str:
    """A text that looks like chance, the same each time."""
    return "".join(alphabet[(place * 7 + place // 5) % len(alphabet)] for place in range(length))


SECRETS = {
    f"The password for the guest network is {HIDDEN}, he said": ("password", HIDDEN),
    "password: letmein.": ("password", "letmein"),
    "Wifi password: sunshine": ("password", "sunshine"),
    "DB_PASSWORD=s3cret!": ("password", "s3cret!"),
    'config = {"passphrase": "correct horse battery"}': ("password", "correct horse battery"),
    "POST user=a&password=hunter2&x=1": ("password", "hunter2"),
    "Son mot de passe est Soleil22": ("password", "Soleil22"),
    "Das Passwort ist Winter2024!": ("password", "Winter2024!"),
    "Her PIN is 4821": ("PIN", "4821"),
    "api key is 9f8a7b6c5d4e3f2a1b0c": ("API key", "9f8a7b6c5d4e3f2a1b0c"),
    "CLIENT_SECRET='abc123def456ghi7'": ("API key", "abc123def456ghi7"),
    "curl -H 'Authorization: Bearer abcdef0123456789abcd'": ("bearer token", "abcdef0123456789abcd"),
    "Authorization: Basic dXNlcjpodW50ZXI=": ("password", "dXNlcjpodW50ZXI="),
    "use postgresql://me:hunter2@db.example.org/app": (
        "connection string",
        "postgresql://me:hunter2@db.example.org/app",
    ),
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\n-----END OPENSSH PRIVATE KEY-----": ("private key", None),
    "-----BEGIN PRIVATE KEY-----\ncut off": ("private key", None),
    f"ghp_{chance(36)}": ("GitHub token", None),
    f"it is sk-ant-api03-{chance(40)} now": ("Anthropic key", f"sk-ant-api03-{chance(40)}"),
    f"sk-proj-{chance(44)}": ("OpenAI key", None),
    "AKIA2E0A8F3B244C9986".replace("0", "Q").replace("8", "R").replace("9", "S"): ("AWS access key", None),
    f"AIza{chance(35)}": ("Google API key", None),
    f"xoxb-123456789012-{chance(24)}": ("Slack token", None),
    f"hf_{chance(34, 'abcdefghijKLMNOPqrst')}": ("Hugging Face token", None),
    f"sk_live_{chance(24)}": ("Stripe key", None),
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P": ("JWT", None),
    f"the aws secret: {chance(40)}": ("API key", chance(40)),
    f"just {chance(44)} alone": ("random token", chance(44)),
    "pay with 4111 1111 1111 1111 please": ("card number", "4111 1111 1111 1111"),
    "Amex 3782-822463-10005": ("card number", "3782-822463-10005"),
    "to DE89 3704 0044 0532 0130 00 please": ("IBAN", "DE89 3704 0044 0532 0130 00"),
    "GB82WEST12345698765432": ("IBAN", None),
}

NOTHING = [
    "Alice's password manager is 1Password",
    "The password is stored in the vault",
    "The password was changed on 2024-05-01",
    "password: required, at least 12 characters",
    "password policy: 12-16 characters",
    "Password: <your password>",
    "password=${DB_PASSWORD}",
    "user = User(password=hashed_password)",
    "password = request.form['password']",
    "password = getpass()",
    "max_tokens: 4096, token: unlimited",
    "The secret is patience",
    "secret: the recipe has 12 spices",
    "The key to success: perseverance",
    "api key: see 1Password",
    "compass: north",
    "PIN code 110001",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "id 018f4d2e-7a3b-7c11-9f00-aabbccddeeff",
    "https://docs.example.org/document/d/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgvE2upms/edit",
    "integrity sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    "src/capabilities/memory_items_and_more.py",
    "AbstractSingletonProxyFactoryBean2ImplTestCaseV3",
    "sk-learn-is-a-good-library-for-machine-learning",
    "ticket-20230101-release-notes-v2-final-draft",
    "order 1234567890123456 and 4111 1111 1111 1112",
    "GB82WEST12345698765433",
    "postgresql://user:password@localhost/db",
    "Meet at 10:30, room 4, on 2026-03-01",
    "Bearer of good news",
    "-----BEGIN PUBLIC KEY-----",
]

HOSTILE = ["sk-", "://", "a:", "http://a:", "password='", "xoxb-a-", "hvs.", "+1", "1234-"]


@pytest.mark.parametrize("text", SECRETS, ids=lambda text: text[:30])
def test_a_credential_is_found_in_its_place(text: str) -> None:
    kind, value = SECRETS[text]
    (finding,) = find_secrets(text)
    assert (finding.kind, text[finding.start : finding.end]) == (kind, value or text)


@pytest.mark.parametrize("text", NOTHING, ids=lambda text: text[:30])
def test_what_only_speaks_of_credentials_is_left_alone(text: str) -> None:
    assert find_secrets(text) == []


def test_hostile_texts_take_time_in_proportion_to_their_length() -> None:
    """A pattern that looked back and forth would take minutes for these."""
    started = time.process_time()
    for part, length in [*((part, 20_000) for part in HOSTILE), ("password for ", 100_000), ("a.@", 100_000)]:
        find_secrets(part * (length // len(part)), personal=True)
    assert time.process_time() - started < 20


@given(st.text(max_size=300) | st.lists(st.sampled_from([*SECRETS, *NOTHING]), max_size=4).map(" ".join))
def test_findings_lie_one_behind_the_other_and_redacting_takes_them_out(text: str) -> None:
    findings = find_secrets(text, personal=True)
    ends = [0, *(finding.end for finding in findings)]
    assert all(end <= finding.start < finding.end for end, finding in zip(ends, findings, strict=False))
    assert ends[-1] <= len(text)
    secrets = [finding for finding in findings if not finding.personal]
    rest, place = [], 0
    for finding in secrets:
        rest += [text[place : finding.start], f"[redacted {finding.kind}]"]
        place = finding.end
    assert screened(text, "redact").content == "".join([*rest, text[place:]])


def test_people_are_pointed_out_and_not_refused() -> None:
    kept = screened("Mail a.b@example.org or call +33 6 12 34 56 78", "refuse")
    assert [(finding.kind, finding.personal) for finding in kept.findings] == [
        ("e-mail address", True),
        ("phone number", True),
    ]


def test_a_value_under_a_name_that_says_so_is_a_credential() -> None:
    value = {"login": {"user": "bob", "password": "letmein", "note": "asks twice"}, "max_tokens": "4096", "n": 1}
    assert redacted_value(value) == {
        "login": {"user": "bob", "password": "[redacted credential]", "note": "asks twice"},
        "max_tokens": "4096",
        "n": 1,
    }


def test_what_has_no_credential_is_not_copied() -> None:
    value = {"a": ["b", {"c": "d"}]}
    assert redacted_value(value) is value


# ---------------------------------------------------------------- where it stands


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"content": f"password: {HIDDEN}"}, "content"),
        ({"content": "the login", "value": {"a": [{"password": HIDDEN}]}}, "value['a'][0]['password']"),
        ({"content": "the login", "metadata": {"note": f"password={HIDDEN}"}}, "metadata['note']"),
    ],
)
async def test_a_credential_is_refused_by_kind_and_place_and_never_repeated(
    core: MemoryCore, given: dict[str, Any], where: str
) -> None:
    with pytest.raises(SecretRefusedError) as refused:
        await core.memories.remember(**given)
    assert where in str(refused.value)
    assert HIDDEN not in str(refused.value)
    assert (await core.memories.list()).items == []


async def test_the_call_wins_over_the_setting(core: MemoryCore) -> None:
    redacted = await core.remember(f"password: {HIDDEN}", metadata={"password": HIDDEN}, secrets="redact")
    assert (redacted.content, redacted.metadata) == (
        "password: [redacted password]",
        {"password": "[redacted credential]"},
    )
    allowed = await core.remember(f"password: {HIDDEN}", secrets="allow")
    assert (allowed.content, allowed.findings[0].kind) == (f"password: {HIDDEN}", "password")
    with pytest.raises(InvalidInputError, match="refuse, redact, allow"):
        await core.remember("x", secrets="maybe")  # type: ignore[arg-type]


async def test_the_setting_holds_for_calls_that_say_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_SECRETS", "redact")
    async with MemoryCore.open(database_url, embeddings=False) as core:
        assert (await core.remember(f"password: {HIDDEN}")).content == "password: [redacted password]"


async def test_an_import_reports_what_it_refuses_and_takes_the_rest(core: MemoryCore) -> None:
    records = [{"id": "1", "memory": f"password: {HIDDEN}"}, {"id": "2", "memory": "Alice prefers tea"}]
    report = await import_mem0(core, records)
    assert (report.counts["created"], len(report.failed)) == (1, 1)
    assert HIDDEN not in report.failed[0].message


async def test_a_store_item_gives_back_what_was_put_and_search_shows_it_without(memory: Memory) -> None:
    value = {"note": "the login of the wiki", "password": HIDDEN}
    await memory.store.aput(("memories", "alice"), "wiki", value)
    item = await memory.store.aget(("memories", "alice"), "wiki")
    assert item is not None
    assert item.value == value
    (hit,) = await memory.recall("login of the wiki", user_id="alice", kinds=["memory"])
    assert HIDDEN not in hit.text
    assert not [hit for hit in await memory.recall(HIDDEN, user_id="alice") if HIDDEN in hit.text]


async def test_a_store_that_allows_it_finds_everything(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_SECRETS", "allow")
    async with MemoryStore.from_conn_string(database_url) as store:
        await store.aput(("a",), "k", {"password": "Winterberg7"})
        (found,) = await store._core.recall("Winterberg7", kinds=["memory"])
        assert found.text == "Winterberg7"


async def test_a_model_is_told_over_mcp_and_as_an_agent(memory: Memory) -> None:
    given = {"content": f"The password of the wiki is {HIDDEN}"}
    async with Client(create_server(memory)) as client:
        answer = await client.call_tool("remember", given)
    (remember, *_) = (tool for tool in memory.tools() if tool.name == "remember")
    told = await remember.ainvoke(given)
    for text in (answer.content[0].text, told):
        assert "password" in text
        assert HIDDEN not in text
    assert answer.is_error
    assert (await memory.memories.list()).items == []
