"""Access tokens of an authorization server: which are accepted, and how clients find their way to it."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from mcp_server.oauth import KEYS_FRESH, KEYS_PAUSE, AccessTokens, IssuerKeys, KeysUnavailableError, fetch_json
from mcp_server.settings import OAuthSettings, ServerSettings
from tests.http_server import own_database, serving

ISSUER = "https://login.example.com/"
AUDIENCE = "https://memory.example.com/mcp"
SETTINGS = OAuthSettings(issuer=ISSUER, audience=AUDIENCE, jwks_url="https://login.example.com/keys")

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def as_jwk(key: Any, algorithm: Any, **more: str) -> dict[str, Any]:
    return {**json.loads(algorithm.to_jwk(key.public_key())), **more}


JWKS = {
    "keys": [
        as_jwk(RSA_KEY, RSAAlgorithm, kid="r", use="sig"),
        as_jwk(EC_KEY, ECAlgorithm, kid="e", alg="ES256"),
        as_jwk(STRANGER, RSAAlgorithm, kid="enc", use="enc"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "o"},
        "no key",
    ]
}


class Issuer:
    """Gives the keys, and counts how often it is asked."""

    def __init__(self, document: Any = JWKS) -> None:
        self.document = document
        self.asked: list[str] = []
        self.now = 1000.0

    async def fetch(self, url: str) -> Any:
        self.asked.append(url)
        if isinstance(self.document, Exception):
            raise self.document
        return self.document

    def tokens(self, settings: OAuthSettings = SETTINGS) -> AccessTokens:
        return AccessTokens(settings, IssuerKeys(settings, fetch=self.fetch, clock=lambda: self.now))


def signed(
    *, key: Any = RSA_KEY, algorithm: str = "RS256", headers: dict[str, Any] | None = None, **claims: Any
) -> str:
    whole = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": int(time.time()) + 60,
        "scope": "openid memory:read memory:write",
        **claims,
    }
    kept = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": "r", **(headers or {})})


async def test_a_token_of_the_issuer_for_this_server_names_its_user() -> None:
    identity = await Issuer().tokens().verify(signed(headers={"typ": "at+jwt"}))
    assert identity is not None
    assert (identity.user_id, identity.scopes, identity.issuer) == ("alice", {"read", "write"}, ISSUER)
    by_curve = (
        await Issuer()
        .tokens()
        .verify(
            signed(
                key=EC_KEY,
                algorithm="ES256",
                headers={"kid": "e"},
                aud=["other", AUDIENCE],
                scope=None,
                scp=["memory:service"],
            )
        )
    )
    assert by_curve is not None
    assert by_curve.scopes == {"read", "service"}


PUBLIC = RSA_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def with_mac(token: str, secret: bytes) -> str:
    """The token as one signed with a shared secret; the library itself refuses to make it."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    header = part(b'{"alg":"HS256","kid":"r"}')
    signing = f"{header}.{token.split('.')[1]}"
    return f"{signing}.{part(hmac.digest(secret, signing.encode(), 'sha256'))}"


WRONG = {
    "another audience": lambda: signed(aud="https://other.example.com/mcp"),
    "no audience": lambda: signed(aud=None),
    "another issuer": lambda: signed(iss="https://evil.example.com/"),
    "issuer without the slash": lambda: signed(iss=ISSUER.rstrip("/")),
    "over": lambda: signed(exp=int(time.time()) - 60),
    "never over": lambda: signed(exp=None),
    "not yet": lambda: signed(nbf=int(time.time()) + 120),
    "another key": lambda: signed(key=STRANGER),
    "a key for encryption": lambda: signed(key=STRANGER, headers={"kid": "enc"}),
    "unknown key": lambda: signed(headers={"kid": "nobody's"}),
    "key of another algorithm": lambda: signed(key=EC_KEY, algorithm="ES256"),
    "unsigned": lambda: signed(key=None, algorithm="none"),
    "signed with the public key as a secret": lambda: with_mac(signed(), PUBLIC),
    "signed with a published secret": lambda: signed(key=b"secret" * 8, algorithm="HS256", headers={"kid": "o"}),
    "algorithm that is not allowed": lambda: signed(algorithm="RS512"),
    "token of another type": lambda: signed(headers={"typ": "logout+jwt"}),
    "critical extension": lambda: signed(headers={"crit": ["x"], "x": 1}),
    "no user": lambda: signed(sub=None),
    "user that is no text": lambda: signed(sub="a\0b"),
    "changed": lambda: signed()[:-4] + "AAAA",
    "too long": lambda: signed(filler="x" * 20_000),
    "no token": lambda: "mpx_abc",
}


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
@pytest.mark.parametrize("what", WRONG)
async def test_what_is_refused(what: str) -> None:
    assert await Issuer().tokens().verify(WRONG[what]()) is None


async def test_user_and_tenant_come_from_the_claims_that_are_named() -> None:
    settings = OAuthSettings(
        issuer=ISSUER, audience=AUDIENCE, jwks_url="https://x/keys", user_claim="email", tenant_claim="org"
    )
    identity = await Issuer().tokens(settings).verify(signed(email="a@example.com", org="acme"))
    assert identity is not None
    assert (identity.user_id, identity.tenant) == ("a@example.com", "acme")
    assert await Issuer().tokens(settings).verify(signed(email="a@example.com")) is None


async def test_keys_are_asked_for_once_until_they_are_old_or_a_new_one_turns_up() -> None:
    issuer = Issuer()
    tokens = issuer.tokens()
    for _ in range(3):
        assert await tokens.verify(signed()) is not None
    assert len(issuer.asked) == 1
    for _ in range(3):  # made-up keys do not make us ask as often as somebody likes
        assert await tokens.verify(signed(headers={"kid": "new"}, key=STRANGER)) is None
    assert len(issuer.asked) == 1
    issuer.now += KEYS_PAUSE + 1
    issuer.document = {"keys": [*JWKS["keys"], as_jwk(STRANGER, RSAAlgorithm, kid="new")]}
    assert await tokens.verify(signed(headers={"kid": "new"}, key=STRANGER)) is not None
    issuer.now += KEYS_FRESH + 1
    issuer.document = KeysUnavailableError("gone")
    assert await tokens.verify(signed()) is not None, "the keys that are known go on working"


async def test_without_keys_nothing_can_be_said() -> None:
    issuer = Issuer(KeysUnavailableError("gone"))
    tokens = issuer.tokens()
    with pytest.raises(KeysUnavailableError):
        await tokens.verify(signed())
    issuer.now += 2
    issuer.document = JWKS
    assert await tokens.verify(signed()) is not None


async def test_keys_come_over_https_from_where_the_configuration_says() -> None:
    for url in ("http://login.example.com/keys", "file:///etc/passwd", "ftp://login.example.com/keys"):
        with pytest.raises(KeysUnavailableError, match="https"):
            await fetch_json(url)


# -- over HTTP, with an issuer that is there


@pytest.fixture(scope="module")
def issuer_url() -> Iterator[str]:
    """An issuer with metadata and keys, on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            base = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
            documents = {
                "/realm/.well-known/openid-configuration": {"issuer": f"{base}/realm", "jwks_uri": f"{base}/keys"},
                "/.well-known/oauth-authorization-server/realm": {
                    "issuer": "https://evil.example.com",
                    "jwks_uri": "x",
                },
                "/keys": JWKS,
            }
            found = documents.get(self.path)
            if self.path == "/elsewhere":
                self.send_response(302)
                self.send_header("Location", "/keys")
            else:
                self.send_response(200 if found else 404)
            body = json.dumps(found).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/realm"
    server.shutdown()
    server.server_close()


async def test_a_redirect_is_not_followed(issuer_url: str) -> None:
    with pytest.raises(KeysUnavailableError, match="302"):
        await fetch_json(issuer_url.replace("/realm", "/elsewhere"))


def test_a_client_finds_the_issuer_and_comes_back_with_a_token(
    server_url: str, template: str, worker_id: str, issuer_url: str
) -> None:
    settings = ServerSettings(
        tenant="acme",
        public_url="https://memory.example.com",
        oauth=OAuthSettings(issuer=issuer_url, audience=AUDIENCE),
    )
    with own_database(server_url, template, f"oauth_{worker_id}") as url, serving(url, settings) as server:
        asked = server.ask("POST", "/mcp", {})
        assert asked.status == 401
        challenge = asked.headers["www-authenticate"]
        assert challenge.startswith("Bearer ")
        place = "/.well-known/oauth-protected-resource/mcp"
        assert f'resource_metadata="https://memory.example.com{place}"' in challenge
        assert "error=" not in challenge, "nothing was wrong: there was no token"
        found = server.ask("GET", place, Host="memory.example.com").json
        assert found["resource"] == AUDIENCE
        assert found["authorization_servers"] == [issuer_url]
        assert "memory:read" in found["scopes_supported"]

        token = signed(iss=issuer_url)
        assert server.ask("POST", "/api/v1/memory", {"user_id": "alice", "content": "x"}, token=token).status == 200
        summary = server.run(lambda core: core.for_tenant("acme").user_memory.get("alice"))
        assert summary is not None, "the server's own tenant, where no claim names one"
        assert server.ask("GET", "/api/v1/memory/bob", token=token).status == 403
        narrow = signed(iss=issuer_url, scope="memory:read")
        assert server.ask("POST", "/api/v1/memory", {"user_id": "alice", "content": "y"}, token=narrow).status == 403
        none = server.ask("GET", "/api/v1/memory/alice", token=signed(iss=issuer_url, scope="openid"))
        assert none.status == 403
        assert 'error="insufficient_scope"' in none.headers["www-authenticate"]
        bad = server.ask("GET", "/api/v1/memory/alice", token=signed(iss=issuer_url, aud="other"))
        assert bad.status == 401
        assert 'error="invalid_token"' in bad.headers["www-authenticate"]
        local = server.run(lambda core: core.tokens.create(user_id="alice"))
        assert server.ask("GET", "/api/v1/memory/alice", token=local.secret).status == 401, "--tokens was not given"
