"""Checks whether an address may be reached from here, so that a user's URL cannot reach our private networks (SSRF).

A host name is resolved once; *every* address must be public; and the connection goes to a checked address, so that
the name cannot point elsewhere a moment later (DNS rebinding). TLS still verifies the name. The checks apply to
resolved addresses, so odd spellings (decimal, octal, hex, IPv4 inside IPv6) need no rules of their own.
`GuardedTransport` does this for every request; redirects are requests like any other.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import httpx

from agentflow.errors import BadInput, NoSuchHost, Transient

Address = IPv4Address | IPv6Address

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) → addresses as texts. Raises socket.gaierror."""

_SCHEMES: Final = {"http": 80, "https": 443}

_CLOSED_IPV4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by a carrier's customers; one cloud's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # one cloud's host agent, at a public address
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; one cloud's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112: anycast, answered by the nearest server
        "192.52.193.0/24",  # automatic multicast tunnelling
        "192.88.99.0/24",  # relays from IPv6
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)

_OPEN_IPV6: Final = IPv6Network("2000::/3")
"""The range allocated to hosts. Everything outside it is closed."""

_CLOSED_IPV6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments
        "2001:db8::/32",  # documentation
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)

_NAT64: Final = IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE: Final = IPv6Network("::/96")


def is_public(address: Address) -> bool:
    """Whether `address` can be reached by anybody on the internet.

    An IPv6 address that embeds IPv4 addresses (mapped, compatible, NAT64, 6to4, Teredo) is judged by those.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_IPV4)
    if carried := _carried(address):
        return all(map(is_public, carried))
    return address in _OPEN_IPV6 and not any(address in network for network in _CLOSED_IPV6)


def _carried(address: IPv6Address) -> tuple[IPv4Address, ...]:
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address.sixtofour:
        return (address.sixtofour,)
    if address.teredo:
        return address.teredo
    if address in _NAT64 or address in _IPV4_COMPATIBLE:
        return (IPv4Address(int(address) & 0xFFFF_FFFF),)
    return ()


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of `host`, in the system's order of preference.

    Raises:
        socket.gaierror: there are none, or the resolver does not answer.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def checked_addresses(url: httpx.URL, allow: Collection[str], resolver: Resolver = resolve) -> list[str]:
    """The addresses to which a request for `url` may be sent.

    Args:
        url: http or https, with a host.
        allow: "host:port" pairs that may be reached although they are not public; the host as written in the URL.
        resolver: resolves names.

    Raises:
        BadInput: see `check_form`; or the host does not exist, or one of its addresses is not public.
        Transient: the name could not be resolved now.
    """
    check_form(url)
    host, port = url.raw_host.decode("ascii"), url.port or _SCHEMES[url.scheme]
    addresses = await _resolved(host, port, resolver)
    if host_and_port(url) not in allow:
        for text in addresses:
            if not is_public(_parsed(text)):
                raise BadInput(f"{url.host} may not be reached from here: it is not a public address")
    return addresses


def check_form(url: httpx.URL) -> None:
    """Refuses URLs that cannot be fetched whatever their host is.

    Raises:
        BadInput: the URL is not http or https, or has no host.
    """
    if url.scheme not in _SCHEMES:
        raise BadInput(f"only http and https addresses can be fetched, not {url.scheme or 'one without a scheme'}")
    try:
        host = url.host  # httpx decodes an internationalised name only here, and may fail
    except UnicodeError:
        raise BadInput(f"{url.raw_host.decode('ascii', 'replace')} is not a host name") from None
    if not host:
        raise BadInput("the address has no host")
    if url.port is not None and not 0 < url.port < 65_536:
        raise BadInput(f"{url.port} is no port")


def host_and_port(url: httpx.URL) -> str:
    """`url` as the setting http_allow names it: host:port, with an IPv6 host in square brackets."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or _SCHEMES.get(url.scheme, 0)}"


async def _resolved(host: str, port: int, resolver: Resolver) -> list[str]:
    try:
        addresses = await resolver(host, port)
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            raise NoSuchHost(f"there is no host called {host}") from None
        raise Transient(f"the host name {host} could not be resolved: {error.strerror}") from None
    except (UnicodeError, ValueError):  # a label is empty or too long
        raise BadInput(f"{host} is not a host name") from None
    if not addresses:
        raise Transient(f"the host name {host} has no address")
    return addresses


def _parsed(text: str) -> Address:
    try:
        return ip_address(text.partition("%")[0])  # a link-local address may have a zone (%eth0)
    except ValueError:
        raise BadInput(f"{text} is not an address") from None


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends each request only to an address that was checked just before.

    The request below this transport has the address in place of the host. The Host header, and the name that TLS asks
    for and verifies, stay the host's.

    Args:
        allow: "host:port" pairs that need not be public.
        resolver: resolves names.
        inner: opens connections; None: directly, without a proxy.
    """

    def __init__(
        self, allow: Collection[str], *, resolver: Resolver = resolve, inner: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._allow = frozenset(pair.lower() for pair in allow)
        self._resolver = resolver
        # Connections are never reused: two hosts at one address would share one, and with it one host's TLS identity.
        one_each = httpx.Limits(max_keepalive_connections=0)
        self._inner = inner or httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False, limits=one_each)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends `request`, trying the host's addresses in turn until one accepts the connection.

        Raises:
            BadInput: see `checked_addresses`.
            Transient: the name could not be resolved now.
            httpx.TransportError: connecting, sending or receiving failed.
        """
        addresses = await checked_addresses(request.url, self._allow, self._resolver)
        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(_pinned(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent, so the next address can be tried
        return await self._inner.handle_async_request(_pinned(request, addresses[-1]))

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._inner.aclose()


def _pinned(request: httpx.Request, address: str) -> httpx.Request:
    return httpx.Request(
        method=request.method,
        url=request.url.copy_with(host=address),
        headers=request.headers,  # with the Host header of the original address
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.raw_host.decode("ascii")},
    )


@cache
def _tls() -> ssl.SSLContext:
    """Cached: building it takes tens of milliseconds, and it holds no connection."""
    return httpx.create_ssl_context()
