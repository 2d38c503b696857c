"""Getting the documents of URLs, where the operator allows it.

Whoever can name a URL could otherwise make this process ask any service that it can reach: the
metadata service of a cloud, a database, a neighbour. So nothing is fetched unless its host is on a list,
and whatever a name resolves to must be a public address, or one in a network that is on a second list.
The connection goes to the address that was checked, not to the name again; each redirect starts over.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import ipaddress
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from memory_plugin.capabilities.reference_files import MAX_BYTES, Content
from memory_plugin.errors import ConfigurationError, ContentTooLargeError, DocumentError, InvalidInputError

if TYPE_CHECKING:
    from memory_plugin.settings import Settings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_REDIRECTS = 5
_PORTS = {"https": 443, "http": 80}
_RULE = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>\*|(?:\*\.)?[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?/?\Z"
)
_PIECE = 1 << 16
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f\\]")
_SAFE = "%/:=&?~#+!$,;'@()*[]"
# networks whose addresses hold an IPv4 address that they lead to, and where it begins in them
_HOLDING = ((ipaddress.ip_network("64:ff9b::/96"), 96), (ipaddress.ip_network("2002::/16"), 16))
_UNICAST = ipaddress.ip_network("2000::/3")
"""What of IPv6 is given out for public use; all else is private, or for other things."""
_TEREDO = ipaddress.ip_network("2001::/32")


class Rule(NamedTuple):
    """A host that may be asked; `*.name` is what is below a name, `*` any."""

    scheme: str
    host: str
    port: int

    def allows(self, scheme: str, host: str, port: int) -> bool:
        """Whether this place on the network is meant."""
        if (scheme, port) != (self.scheme, self.port):
            return False
        if self.host.startswith("*."):
            return host.endswith(self.host[1:])
        return self.host in ("*", host)


@dataclass(frozen=True, slots=True)
class UrlPolicy:
    """What may be fetched: hosts, networks beside the public ones, seconds and bytes for one document."""

    rules: Sequence[Rule] = ()
    networks: Sequence[Network] = ()
    seconds: float = 30.0
    bytes: int = MAX_BYTES

    @classmethod
    def of(cls, hosts: str | None, networks: str | None, *, seconds: float = 30.0, size: int = MAX_BYTES) -> UrlPolicy:
        """The policy that is written with commas: `docs.example.com, *.example.org, http://10.0.0.7:8080`.

        Raises:
            ConfigurationError: something in it is no host or no network.
        """
        return cls(
            [_rule(part) for part in _listed(hosts)],
            [_network(part) for part in _listed(networks)],
            seconds,
            min(size, MAX_BYTES),
        )

    def permits(self, address: Address) -> bool:
        """Whether an address may be connected to: a public one, or one of the networks allowed."""
        address = _leads_to(address)
        if any(address.version == network.version and address in network for network in self.networks):
            return True
        if address.version == 6 and address not in _UNICAST:
            return False
        return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


class _Target(NamedTuple):
    """A place to ask: what the URL says, and how it is said in a request."""

    scheme: str
    host: str
    port: int
    path: str


class _Answer(NamedTuple):
    status: int
    location: str | None
    media_type: str | None
    data: bytes


class Fetcher:
    """Fetches documents as far as the policy goes; without one, nothing."""

    def __init__(self, policy: UrlPolicy | None = None) -> None:
        self._policy = policy or UrlPolicy()

    @classmethod
    def of(cls, settings: Settings) -> Fetcher:
        """One that fetches what the settings allow.

        Raises:
            ConfigurationError: they hold what is no host or no network.
        """
        return cls(
            UrlPolicy.of(
                settings.reference_urls,
                settings.reference_networks,
                seconds=settings.reference_url_timeout,
                size=settings.reference_url_bytes,
            )
        )

    async def fetch(self, url: str, source: str | None = None) -> Content:
        """The document at a URL; without a source given it is known by the URL, its fragment left out.

        Raises:
            InvalidInputError: not allowed, or no URL.
            DocumentError: it could not be fetched; the message says why.
            ContentTooLargeError: over the size allowed.
        """
        given = url.partition("#")[0]
        try:
            async with asyncio.timeout(self._policy.seconds):
                answer, last = await self._follow(given)
        except TimeoutError as error:
            raise DocumentError(
                f"{_shown(given)!r} did not come within {self._policy.seconds:g} seconds: try again, or raise "
                "MEMORY_REFERENCE_URL_TIMEOUT.",
                name=_shown(given),
            ) from error
        if not answer.data:
            raise DocumentError(f"{_shown(given)!r} is empty.", name=_shown(given))
        name = unquote(last.path.partition("?")[0].rstrip("/").rsplit("/", 1)[-1]) or last.host
        return Content(
            answer.data, name, source or given, hashlib.sha256(answer.data).digest(), media_type=answer.media_type
        )

    async def _follow(self, url: str) -> tuple[_Answer, _Target]:
        first = url
        for _ in range(MAX_REDIRECTS + 1):
            target = self._checked(url)
            answer = await self._ask(target, first)
            if answer.status not in _REDIRECTS or not answer.location:
                if answer.status != 200:
                    raise DocumentError(
                        f"{_shown(first)!r} was answered with status {answer.status}: check the address.",
                        name=_shown(first),
                    )
                return answer, target
            url = urljoin(url, answer.location).partition("#")[0]
        raise DocumentError(f"{_shown(first)!r} was redirected more than {MAX_REDIRECTS} times.", name=_shown(first))

    def _checked(self, url: str) -> _Target:
        """The target of a URL that the policy allows, as far as can be told without asking for its address."""
        if not self._policy.rules:
            raise InvalidInputError(
                f"{_shown(url)!r} is a URL, and fetching is not enabled: download it and add the file, pass its "
                "content as data= with source= set to the URL, or name its host in MEMORY_REFERENCE_URLS."
            )
        target = _target(url)
        if not any(rule.allows(target.scheme, target.host, target.port) for rule in self._policy.rules):
            raise InvalidInputError(
                f"{_shown(url)!r} may not be fetched: MEMORY_REFERENCE_URLS does not name "
                f"{target.scheme}://{target.host}:{target.port}."
            )
        return target

    async def _ask(self, target: _Target, first: str) -> _Answer:
        addresses = await self._addresses(target)
        request = _Request(target, addresses, self._policy)
        try:
            return await asyncio.to_thread(request.run)
        except (OSError, http.client.HTTPException) as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise DocumentError(f"{_shown(first)!r} cannot be fetched: {reason[:300]}.", name=_shown(first)) from error
        finally:
            request.abort()  # whoever waits no longer leaves no thread behind that does

    async def _addresses(self, target: _Target) -> list[str]:
        """The addresses of a host that may be connected to, numbers only: they are not looked up again."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise DocumentError(
                f"The host {target.host!r} is not known: check the address.", name=target.host
            ) from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = [each for each in addresses if self._policy.permits(ipaddress.ip_address(each.partition("%")[0]))]
        if not allowed:
            raise InvalidInputError(
                f"{target.host!r} may not be fetched from: its address is not a public one, and not in "
                "MEMORY_REFERENCE_NETWORKS."
            )
        return allowed


class _Request:
    """One request to an address that was checked; it blocks, and may be ended from another thread."""

    def __init__(self, target: _Target, addresses: Sequence[str], policy: UrlPolicy) -> None:
        self._target = target
        self._addresses = addresses
        self._policy = policy
        self._socket: socket.socket | None = None
        self._ended = False

    def abort(self) -> None:
        """End the connection, also in the middle of a read."""
        self._ended = True
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended by itself
                return

    def run(self) -> _Answer:
        """Ask and read the answer.

        Raises:
            OSError, HTTPException: what went wrong on the way.
            DocumentError, ContentTooLargeError: an answer that is not taken.
        """
        target = self._target
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.sock = self._connected()
        try:
            connection.request(
                "GET",
                target.path,
                headers={"Accept-Encoding": "identity", "User-Agent": "memory-plugin", "Connection": "close"},
            )
            response = connection.getresponse()
            location = response.headers.get("Location")
            if response.status != 200:
                return _Answer(response.status, location, None, b"")
            data = self._body(response)
            return _Answer(200, None, response.headers.get("Content-Type"), data)
        finally:
            connection.close()

    def _connected(self) -> socket.socket:
        """A connection to the first address that takes one; the certificate must be that of the host named."""
        problem: OSError | None = None
        for address in self._addresses:
            try:
                plain = socket.create_connection((address, self._target.port), timeout=self._policy.seconds)
            except OSError as error:
                problem = error
                continue
            self._socket = plain
            if self._target.scheme == "https":
                context = ssl.create_default_context()
                self._socket = context.wrap_socket(plain, server_hostname=self._target.host)
            if self._ended:
                self._socket.close()
                raise OSError("it was ended")
            return self._socket
        raise problem or OSError("there is no address to connect to")

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        name, most = self._target.host, self._policy.bytes
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise DocumentError(
                f"{name!r} answered in the encoding {coding[:40]!r}, which was not asked for.", name=name
            )
        length = response.headers.get("Content-Length", "")
        data = bytearray()
        if not (length.isdecimal() and int(length) > most):
            while len(data) <= most and (piece := response.read(_PIECE)):
                data += piece
        if (not data and length.isdecimal() and int(length) > most) or len(data) > most:
            raise ContentTooLargeError(
                f"What {name!r} answers is larger than the {most // 1024**2} MiB a document may have: "
                "nothing was written."
            )
        return bytes(data)


def _target(url: str) -> _Target:
    """The parts of a URL.

    Raises:
        InvalidInputError: not an http or https URL, or with a name and a password in it.
    """
    shown = _shown(url)
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".")
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError) as error:
        raise InvalidInputError(f"{shown!r} is not a URL: check the address.") from error
    if parts.scheme not in _PORTS:
        raise InvalidInputError(f"{shown!r} may not be fetched: only https and http are.")
    if not host or _NOT_IN_URL.search(url):
        raise InvalidInputError(f"{shown!r} is not a URL: check the address.")
    if parts.username is not None or parts.password is not None:
        raise InvalidInputError(f"{shown!r} has a name or a password in it: leave it out, nothing is signed in to.")
    path = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    return _Target(parts.scheme, host.lower(), port or _PORTS[parts.scheme], path)


def _shown(url: str) -> str:
    """A URL as a message may show it: without a name and a password."""
    return re.sub(r"//[^/]*@", "//…@", url)[:200]


def _leads_to(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does; else the address."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    for network, begin in _HOLDING:
        if address in network:
            return ipaddress.IPv4Address(int(address) >> (96 - begin) & 0xFFFFFFFF)
    if address in _TEREDO:
        return ipaddress.IPv4Address(~int(address) & 0xFFFFFFFF)
    return address


def _listed(text: str | None) -> list[str]:
    return [part for part in re.split(r"[,\s]+", text or "") if part]


def _rule(text: str) -> Rule:
    match = _RULE.match(text.lower())
    if match is None or int(match["port"] or 1) not in range(1, 65_536):
        raise ConfigurationError(
            f"MEMORY_REFERENCE_URLS holds {text[:100]!r}, which is no host: write it like docs.example.com, "
            "*.example.com, http://10.0.0.7:8080, or * for all."
        )
    scheme = match["scheme"] or "https"
    return Rule(scheme, match["host"].strip("[]"), int(match["port"] or _PORTS[scheme]))


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ConfigurationError(
            f"MEMORY_REFERENCE_NETWORKS holds {text[:100]!r}, which is no network: write it like 10.0.0.0/8."
        ) from error
