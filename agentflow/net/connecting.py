"""Connects to a server that a user names and that does not speak HTTP.

The guard is that of HTTP requests (`ssrf`): the host is resolved once, every address must be public, and connections go
only to the checked addresses.
"""

import asyncio
import socket
import ssl
from functools import cache

import httpx

from agentflow.errors import BadInput, Transient
from agentflow.net.ssrf import checked_addresses, resolve
from agentflow.settings import settings


def addresses_of(host: str, port: int) -> list[str]:
    """The checked addresses of a server. settings().http_allow names the exceptions that need not be public.

    Raises:
        BadInput: the host does not exist, or one of its addresses is not public.
        Transient: the name cannot be resolved now.
    """
    try:
        url = httpx.URL(scheme="http", host=host, port=port)
    except (httpx.InvalidURL, ValueError):
        raise BadInput(f"{host!r} is not a host name") from None
    if not host or host.lower().strip("[]") not in (url.host.lower(), url.raw_host.decode("ascii")):
        raise BadInput(f"{host!r} is not a host name")
    allow = frozenset(pair.lower() for pair in settings().http_allow)
    return asyncio.run(_within(url, allow, settings().http_timeout))


async def _within(url: httpx.URL, allow: frozenset[str], seconds: float) -> list[str]:
    try:
        async with asyncio.timeout(seconds):
            return await checked_addresses(url, allow, resolve)
    except TimeoutError:
        raise Transient(f"the host name {url.host} was not resolved within {seconds:g} s") from None


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """Connects to a server at one of its checked addresses.

    Args:
        host: the server's name.
        port: the server's port.
        seconds: how long to wait for each address, and later for each answer.

    Raises:
        BadInput: see `addresses_of`.
        Transient: see `addresses_of`; or the server cannot be reached.
    """
    for address in addresses_of(host, port):
        try:
            return socket.create_connection((address, port), seconds)
        except OSError:
            continue  # try the next address
    raise Transient(f"{host} cannot be reached on port {port}")


@cache
def tls() -> ssl.SSLContext:
    """Verifies host names with the same trusted certificates as web blocks. Cached: building it takes tens of ms."""
    return httpx.create_ssl_context()
