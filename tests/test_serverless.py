"""Short lives and hosted databases: what a connection costs, no pool at all, TLS as providers' URLs ask for it."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
import yaml
from asyncpg.connect_utils import SSLMode, SSLNegotiation, _parse_connect_dsn_and_args  # type: ignore[attr-defined]
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mcp_server.settings import parse
from memory_plugin import Memory
from memory_plugin.db.connections import _ARRAYS
from memory_plugin.db.database import Database
from memory_plugin.db.urls import normalise_url
from memory_plugin.errors import ConfigurationError, DatabaseUnavailableError
from memory_plugin.settings import Settings
from tests.saver_tools import Writer, place, said, values
from tests.snippets import ROOT
from tests.test_connections import until_closed
from tests.wire import wire

# ---------------------------------------------------------------- what a connection costs


async def test_a_new_connection_sends_nothing_before_the_first_statement(database_url: str) -> None:
    async with wire(database_url) as sent:
        database = Database(sent.url, pool_size=0)
        for number in range(3):
            assert await database.fetchval("SELECT $1::int", number) == number
        await database.close()
    assert (sent.connections, sent.statements) == (3, ["SELECT $1::int"] * 3)


async def test_arrays_of_built_in_types_are_known_as_the_server_knows_them(database_url: str) -> None:
    """What asyncpg would ask for on each new connection."""
    async with wire(database_url) as sent:
        database = Database(sent.url, pool_size=0)
        rows = await database.fetch(
            "SELECT t.oid::bigint, e.typname, e.oid::bigint AS element FROM pg_type t JOIN pg_type e ON e.typarray = t.oid"
            " WHERE t.oid = ANY ($1::text[]::oid[])",
            [str(oid) for oid in _ARRAYS],
        )
        assert {row["oid"]: (row["typname"], row["element"]) for row in rows} == _ARRAYS
        sent.statements.clear()
        ids = [uuid4(), None]
        assert await database.fetchval("SELECT $1::uuid[]", ids) == ids
        assert await database.fetchval("SELECT $1::float8[]", [1.5, None]) == [1.5, None]
        assert await database.fetchval("SELECT $1::bytea[]", [b"a,b", b""]) == [b"a,b", b""]
        assert len(sent.statements) == 3
        await database.close()


async def test_opening_a_store_costs_two_statements(database_url: str) -> None:
    async with wire(database_url) as sent, Memory.open(sent.url, embeddings=False):
        pass
    assert len(sent.statements) == 2
    assert "pg_extension" in sent.statements[0]
    assert "alembic_version" in sent.statements[1]


@pytest.mark.parametrize("pool_size", [0, 8])
@pytest.mark.parametrize(
    ("call", "statements"),
    [("remember", 3), ("recall", 4), ("working memory", 1), ("checkpoint", 1), ("store", 1)],
)
async def test_a_process_that_makes_one_call_sends_few_statements(
    database_url: str, pool_size: int, call: str, statements: int
) -> None:
    """Set up is the same two whatever is called; the rest is the call itself."""
    async with wire(database_url) as sent:
        settings = Settings(pool_size=pool_size)
        async with Memory.open(sent.url, embeddings=False, user_id="u", settings=settings) as memory:
            sent.statements.clear()
            match call:
                case "remember":
                    await memory.remember("Tea at four")
                case "recall":
                    await memory.recall("tea")
                case "working memory":
                    await memory.working_memory.get(user_id="u")
                case "checkpoint":
                    await memory.checkpointer.aget_tuple(place("t"))
                case _:
                    await memory.store.aget(("notes",), "k")
            made = list(sent.statements)
    assert len(made) <= statements, made


# ---------------------------------------------------------------- no pool


async def test_the_store_works_without_a_pool_and_leaves_no_connection_open(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_POOL_SIZE", "0")
    async with Memory.open(database_url, embeddings=False, user_id="u") as memory:
        await memory.remember("The studio closes at six")
        assert [hit.text for hit in await memory.recall("studio")] == ["The studio closes at six"]
        await memory.references.add(text="Refunds are paid within 14 days.", source="handbook")
        writer = Writer(memory.checkpointer, "t")
        await asyncio.gather(writer.put(messages=said("a", "b")), memory.store.aput(("notes",), "k", {"n": 1}))
        assert len((await values(memory.checkpointer, place("t")))["messages"]) == 2
        async with memory.transaction():
            await memory.remember("Six in winter, eight in summer")
            await memory.conversations.append("t2", "hello")
        assert await memory.indexed(timeout=10)
        await until_closed(database_url)  # the store is open, its connections are not
        await memory.forget(user_id="u", hard=True)


# ---------------------------------------------------------------- URLs as providers print them

PRINTED = {
    "Neon": (
        (
            "postgresql://alex:p@ep-cool-a1b2-pooler.eu-central-1.aws.neon.tech/agents"
            "?sslmode=require&channel_binding=require"
        ),
        ("ep-cool-a1b2-pooler.eu-central-1.aws.neon.tech", 5432),
        SSLMode.require,
    ),
    "Neon, checked": (
        (
            "postgresql://alex:p@ep-cool-a1b2.eu-central-1.aws.neon.tech/agents"
            "?sslmode=verify-full&sslrootcert={ca}&channel_binding=require&sslnegotiation=direct&connect_timeout=15"
        ),
        ("ep-cool-a1b2.eu-central-1.aws.neon.tech", 5432),
        SSLMode.verify_full,
    ),
    "Supabase": (
        (
            "postgres://postgres.abcdefgh:p@aws-0-eu-west-1.pooler.supabase.com:6543/postgres"
            "?sslmode=require&supa=base-pooler.x&pgbouncer=true&connection_limit=1"
        ),
        ("aws-0-eu-west-1.pooler.supabase.com", 6543),
        SSLMode.require,
    ),
    "RDS": (
        "postgresql+psycopg2://app:p@db.c1.eu-west-1.rds.amazonaws.com:5432/agents?sslmode=verify-full&sslrootcert={ca}",
        ("db.c1.eu-west-1.rds.amazonaws.com", 5432),
        SSLMode.verify_full,
    ),
    "Timescale": (
        "postgres://tsdbadmin:p@x.y.tsdb.cloud.timescale.com:30477/tsdb?sslmode=require",
        ("x.y.tsdb.cloud.timescale.com", 30477),
        SSLMode.require,
    ),
    "node": ("postgres://u:p@db.example.org/d?ssl=true", ("db.example.org", 5432), SSLMode.require),
}


def read_by_the_driver(url: str) -> tuple[list[Any], Any]:
    unset = dict.fromkeys(name for name in inspect.signature(_parse_connect_dsn_and_args).parameters if name != "dsn")
    addresses, parameters = _parse_connect_dsn_and_args(dsn=url, **unset)
    return addresses, parameters


@pytest.mark.parametrize("provider", PRINTED)
def test_a_printed_url_is_taken_and_nothing_of_it_becomes_a_setting_of_the_server(
    provider: str, authority: Authority
) -> None:
    printed, address, mode = PRINTED[provider]
    addresses, parameters = read_by_the_driver(normalise_url(printed.format(ca=authority.file)))
    assert (addresses, parameters.sslmode) == ([address], mode)
    assert not parameters.server_settings
    direct = "sslnegotiation=direct" in printed
    assert parameters.ssl_negotiation is (SSLNegotiation.direct if direct else SSLNegotiation.postgres)


def test_settings_of_the_server_in_a_url_are_kept() -> None:
    url = "postgresql://u@h/d?application_name=bot&options=endpoint%3Dep-cool-a1b2"
    assert read_by_the_driver(normalise_url(url))[1].server_settings == {
        "application_name": "bot",
        "options": "endpoint=ep-cool-a1b2",
    }


@pytest.mark.parametrize("mode", ["disable", "prefer", "require", "verify-ca"])
def test_the_authorities_of_the_system_are_for_a_full_check_only(mode: str) -> None:
    with pytest.raises(ConfigurationError, match="sslmode=verify-full only"):
        Database(f"postgresql://u@h/d?sslrootcert=system&sslmode={mode}")


# ---------------------------------------------------------------- TLS


class Authority:
    """Made for one test run; it signs one certificate for `localhost`."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ca.pem"
        self._certificate = folder / "server.pem"
        key, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root = _certificate("authority", key, issuer="authority", signer=key, authority=True)
        signed = _certificate("localhost", own, issuer="authority", signer=key, authority=False)
        self.file.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        self._certificate.write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + signed.public_bytes(serialization.Encoding.PEM)
        )

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate)
        context.set_alpn_protocols(["postgresql"])
        return context


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, *, issuer: str, signer: ec.EllipticCurvePrivateKey, authority: bool
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(signer, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def tls_before(url: str, authority: Authority, *, direct: bool) -> AsyncIterator[str]:
    """The server of the URL behind TLS on a port of localhost, as a provider's proxy has it; yields host and rest."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    target = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
        sink.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if direct:
                assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "postgresql"
            else:
                assert await reader.readexactly(8) == b"\0\0\0\x08\x04\xd2\x16\x2f"  # "may we speak TLS?"
                writer.write(b"S")
                await writer.start_tls(authority.server())
            server_reader, server_writer = await asyncio.open_unix_connection(target)
            await asyncio.gather(pass_on(reader, server_writer), pass_on(server_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            writer.close()  # the client did not trust us

    context = authority.server() if direct else None
    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://{parts.username}@localhost:{port}{parts.path}"


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
@pytest.mark.parametrize("trust", ["system", "file"])
async def test_a_full_check_passes_where_the_authority_is_trusted(
    database_url: str, authority: Authority, monkeypatch: pytest.MonkeyPatch, negotiation: str, trust: str
) -> None:
    if trust == "system":
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))  # where OpenSSL looks for the system's
    async with tls_before(database_url, authority, direct=negotiation == "direct") as url:
        asked = f"sslrootcert={'system' if trust == 'system' else authority.file}&sslnegotiation={negotiation}"
        database = Database(f"{url}?sslmode=verify-full&{asked}&channel_binding=require")
        assert await database.fetchval("SELECT 1") == 1
        await database.close()


async def test_an_authority_that_the_system_does_not_trust_is_refused(database_url: str, authority: Authority) -> None:
    async with tls_before(database_url, authority, direct=False) as url:
        database = Database(f"{url}?sslmode=verify-full&sslrootcert=system")
        with pytest.raises(DatabaseUnavailableError, match="check sslmode and the certificates"):
            await database.fetchval("SELECT 1")
        await database.close()


# ---------------------------------------------------------------- the compose file

COMPOSE = yaml.safe_load((ROOT / "examples" / "compose.yaml").read_text("utf-8"))
DOCKERFILE = (ROOT / "examples" / "Dockerfile").read_text("utf-8")
OF_POSTGRES = {"PGPASSWORD"}


def test_the_compose_file_sets_only_what_exists() -> None:
    environment = set(COMPOSE["services"]["server"]["environment"])
    settings = {field.validation_alias or f"MEMORY_{name.upper()}" for name, field in Settings.model_fields.items()}
    of_the_server = {"MEMORY_MCP_TOKENS", "MEMORY_MCP_PUBLIC_URL"}
    assert environment - settings - of_the_server - OF_POSTGRES == set()


def test_the_server_of_the_compose_file_asks_for_tokens_and_starts() -> None:
    environment = dict(COMPOSE["services"]["server"]["environment"])
    environment["MEMORY_MCP_PUBLIC_URL"] = environment["MEMORY_MCP_PUBLIC_URL"].partition(":-")[2].rstrip("}")
    (command,) = [line for line in DOCKERFILE.splitlines() if line.startswith("CMD ")]
    name, *arguments = yaml.safe_load(command.removeprefix("CMD "))
    settings = parse(arguments, environment)
    assert name == "memory-mcp"
    assert (settings.http, settings.host, settings.tokens) == (True, "0.0.0.0", True)  # noqa: S104 - in a container
    assert COMPOSE["services"]["server"]["ports"] == [f"127.0.0.1:{settings.port}:{settings.port}"]


def test_the_url_of_the_compose_file_is_that_of_its_database() -> None:
    database, server = COMPOSE["services"]["database"]["environment"], COMPOSE["services"]["server"]["environment"]
    assert server["MEMORY_DATABASE_URL"] == (
        f"postgresql://{database['POSTGRES_USER']}@database:5432/{database['POSTGRES_DB']}"
    )
    assert server["PGPASSWORD"] == database["POSTGRES_PASSWORD"]


def test_the_image_is_built_of_what_is_there() -> None:
    copied = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ")]
    assert [name for names in copied for name in names if not (ROOT / name).exists()] == []
    build = COMPOSE["services"]["server"]["build"]
    assert (ROOT / "examples" / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
