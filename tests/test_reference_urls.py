"""Fetching documents: what an operator allows, and the ways around it that must lead nowhere."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from memory_plugin.capabilities.reference_web import Fetcher, UrlPolicy
from memory_plugin.core import MemoryCore
from memory_plugin.errors import ConfigurationError, ContentTooLargeError, DocumentError, InvalidInputError
from memory_plugin.settings import Settings

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Site:
    """A web server on the loopback address: what it answers by path, and what it was asked."""

    port: int = 0
    pages: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def fetcher(self, *hosts: str, networks: str = "127.0.0.0/8", **options: Any) -> Fetcher:
        """Allowed to ask this site under the names given."""
        rules = ",".join(f"http://{host}:{self.port}" for host in hosts or ("127.0.0.1",))
        return Fetcher(UrlPolicy.of(rules, networks, **options))


def page(body: bytes, media_type: str = "text/markdown; charset=utf-8", status: int = 200, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", media_type)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            if value:
                request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.headers["Host"], self.path))
            answer = site.pages.get(self.path.partition("?")[0])
            try:
                answer(self) if answer else self.send_error(404)
            except OSError:  # whoever asked has gone
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names and the addresses they resolve to, one after the other, the last one for good."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *arguments: Any, **keywords: Any) -> Any:
        if host in known:
            answers = known[host]
            host = answers.pop(0) if len(answers) > 1 else answers[0]
        return real(host, port, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


# ---------------------------------------------------------------- what is allowed


@pytest.mark.parametrize(
    ("rules", "url", "allowed"),
    [
        ("docs.example.com", "https://docs.example.com/a", True),
        ("docs.example.com", "https://DOCS.example.com.:443/a", True),
        ("docs.example.com", "http://docs.example.com/a", False),
        ("docs.example.com", "https://docs.example.com:8443/a", False),
        ("docs.example.com", "https://evil-docs.example.com/a", False),
        ("docs.example.com", "https://docs.example.com.evil.net/a", False),
        ("*.example.com", "https://a.b.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("*.example.com", "https://badexample.com/", False),
        ("*", "https://anything.net/", True),
        ("*", "http://anything.net/", False),
        ("http://10.0.0.7:8080, other.net", "http://10.0.0.7:8080/x", True),
        ("[::1]:9000", "https://[::1]:9000/", True),
    ],
)
def test_a_host_is_allowed_by_scheme_name_and_port(rules: str, url: str, allowed: bool) -> None:
    fetcher = Fetcher(UrlPolicy.of(rules, None))
    if allowed:
        assert fetcher._checked(url).path
    else:
        with pytest.raises(InvalidInputError, match="MEMORY_REFERENCE_URLS does not name"):
            fetcher._checked(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://docs.example.com/a",
        "file:///etc/passwd",
        "gopher://docs.example.com/",
        "https://user:secret@docs.example.com/",
        "https:///nothing",
        "https://docs.example.com/a b",
        "https://docs.example.com\\@evil.net/",
        "https://docs.example.com:99999/",
        "https://[1::2::3]/",
    ],
)
def test_what_is_no_web_address_is_refused_and_no_password_is_shown(url: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        Fetcher(UrlPolicy.of("*", None))._checked(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("2001:0:53aa:64c:0:0:80ff:fffe", False),
    ],
)
def test_only_public_addresses_are_connected_to(address: str, allowed: bool) -> None:
    assert UrlPolicy.of("*", None).permits(ipaddress.ip_address(address)) is allowed


def test_a_network_can_be_allowed_by_name() -> None:
    policy = UrlPolicy.of("*", "10.1.0.0/16, ::1")
    permitted = [policy.permits(ipaddress.ip_address(each)) for each in ("10.1.9.9", "10.2.0.1", "::1", "127.0.0.1")]
    assert permitted == [True, False, True, False]


@pytest.mark.parametrize(("hosts", "networks"), [("ht!tp://x", ""), ("a.com:0", ""), ("a.com/path", ""), ("a", "10.x")])
def test_a_setting_that_cannot_be_read_says_so(hosts: str, networks: str) -> None:
    with pytest.raises(ConfigurationError, match="MEMORY_REFERENCE_"):
        UrlPolicy.of(hosts, networks)


# ---------------------------------------------------------------- fetching


async def test_a_page_comes_with_its_name_type_and_address(site: Site) -> None:
    site.pages["/docs/Guide%20A.md"] = page(b"# Guide")
    content = await site.fetcher().fetch(site.url("/docs/Guide%20A.md?raw=1#part"))
    assert (content.data, content.name) == (b"# Guide", "Guide A.md")
    assert content.media_type == "text/markdown; charset=utf-8"
    assert content.source == site.url("/docs/Guide%20A.md?raw=1")


async def test_nothing_is_asked_without_leave(site: Site) -> None:
    site.pages["/a"] = page(b"a")
    for fetcher in (Fetcher(), site.fetcher("localhost"), site.fetcher(networks="")):
        with pytest.raises(InvalidInputError):
            await fetcher.fetch(site.url("/a"))
    assert site.asked == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1"])
async def test_odd_spellings_of_an_address_are_that_address(site: Site, host: str) -> None:
    fetcher = site.fetcher(host, networks="")
    with pytest.raises((InvalidInputError, DocumentError), match="not a public one|not known"):
        await fetcher.fetch(site.url("/", host))
    assert site.asked == []


async def test_the_address_that_was_checked_is_the_one_connected_to(site: Site, names: dict[str, list[str]]) -> None:
    """A name that resolves to something else the second time (DNS rebinding) is never looked up twice."""
    site.pages["/a"] = page(b"from the site")
    names["rebind.example"] = ["127.0.0.1", "127.0.0.99"]
    content = await site.fetcher("rebind.example").fetch(site.url("/a", "rebind.example"))
    assert content.data == b"from the site"
    assert site.asked == [(f"rebind.example:{site.port}", "/a")]
    names["rebind.example"] = ["10.0.0.1", "127.0.0.1"]
    with pytest.raises(InvalidInputError, match="not a public one"):
        await site.fetcher("rebind.example").fetch(site.url("/a", "rebind.example"))


async def test_each_redirect_is_checked_again(site: Site, names: dict[str, list[str]]) -> None:
    names |= {"inside.example": ["10.0.0.1"], "docs.example": ["127.0.0.1"]}
    site.pages["/moved"] = page(b"", status=302, Location="/there")
    site.pages["/there"] = page(b"here")
    site.pages["/to-inside"] = page(b"", status=301, Location=site.url("/", "inside.example"))
    site.pages["/to-other"] = page(b"", status=307, Location=site.url("/there", "localhost"))
    site.pages["/to-file"] = page(b"", status=302, Location="file:///etc/passwd")
    site.pages["/round"] = page(b"", status=302, Location="/round")
    fetcher = site.fetcher("docs.example", "inside.example")
    content = await fetcher.fetch(site.url("/moved", "docs.example"))
    assert (content.data, content.name) == (b"here", "there")
    assert content.source == site.url("/moved", "docs.example")
    for path, reason in (
        ("/to-inside", "not a public one"),
        ("/to-other", "does not name"),
        ("/to-file", "only https and http"),
    ):
        with pytest.raises(InvalidInputError, match=reason):
            await fetcher.fetch(site.url(path, "docs.example"))
    with pytest.raises(DocumentError, match="redirected more than 5 times"):
        await fetcher.fetch(site.url("/round", "docs.example"))


async def test_a_page_over_the_limit_is_refused_whatever_it_declares(site: Site) -> None:
    site.pages["/declared"] = page(b"x" * 2_000)
    site.pages["/undeclared"] = page(b"x" * 2_000, Content_Length="")
    site.pages["/packed"] = page(b"x", Content_Encoding="gzip")
    fetcher = site.fetcher(size=1_000)
    for path in ("/declared", "/undeclared"):
        with pytest.raises(ContentTooLargeError):
            await fetcher.fetch(site.url(path))
    with pytest.raises(DocumentError, match="not asked for"):
        await fetcher.fetch(site.url("/packed"))


async def test_a_page_that_trickles_runs_into_the_limit(site: Site) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b"x")
            time.sleep(0.05)

    site.pages["/slow"] = trickle
    before = set(threading.enumerate())
    started = time.monotonic()
    with pytest.raises(DocumentError, match="did not come within"):
        await site.fetcher(seconds=0.3).fetch(site.url("/slow"))
    assert time.monotonic() - started < 3
    await asyncio.sleep(0.2)
    added = set(threading.enumerate()) - before
    assert not [thread for thread in added if thread.name.startswith("asyncio") and thread.daemon]


async def test_what_goes_wrong_is_named(site: Site, unused_tcp_port: int) -> None:
    site.pages["/empty"] = page(b"")
    fetcher = Fetcher(UrlPolicy.of(f"http://127.0.0.1:{site.port} http://127.0.0.1:{unused_tcp_port}", "127.0.0.1"))
    for url, reason in (
        (site.url("/gone"), "status 404"),
        (site.url("/empty"), "is empty"),
        (f"http://127.0.0.1:{unused_tcp_port}/", "cannot be fetched"),
    ):
        with pytest.raises(DocumentError, match=reason):
            await fetcher.fetch(url)


# ---------------------------------------------------------------- in the store


async def test_a_url_is_a_document_of_the_store(site: Site, database_url: str) -> None:
    site.pages["/kiln"] = page(b"# Kiln\n\nStoneware is fired at 1240 degrees.")
    settings = Settings(
        reference_urls=f"http://127.0.0.1:{site.port}", reference_networks="127.0.0.1", embeddings="none"
    )
    async with MemoryCore.open(database_url, settings=settings) as core:
        document = await core.references.add(site.url("/kiln#top"))
        assert (document.title, document.source, document.status) == ("Kiln", site.url("/kiln"), "added")
        assert document.media_type == "text/markdown"
        report = await core.references.add_many([site.url("/kiln"), site.url("/gone"), "https://example.org/x"])
        assert report.unchanged == 1
        reasons = dict(report.failed)
        assert "status 404" in reasons[site.url("/gone")]
        assert "does not name" in reasons["https://example.org/x"]
        (hit,) = await core.references.search("how hot is stoneware fired?", limit=1)
        assert hit.citation is not None and hit.citation.source == site.url("/kiln")
