"""How does a block reach a server that a user names, when it does not speak HTTP?

Under the same guard as web blocks (`ssrf`): the host is resolved once, every address must be public, and connections go
to the addresses that were checked. A credential goes only to the server that its operator named for it: users choose
the server, so that without this any of them could have the password sent to a machine of their own.
"""

import asyncio
import socket
import ssl
from functools import cache
from urllib.parse import urlsplit

import httpx

from agentflow.blocks.credentials import Credential
from agentflow.blocks.ssrf import checked_addresses, resolve
from agentflow.errors import BadInput, Transient
from agentflow.settings import settings


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a server that may be reached; settings().http_allow names the exceptions.

    Raises:
        BadInput: there is no such host, or one of its addresses is not public.
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
    """A connection to a server, at one of its checked addresses.

    Args:
        host: its name.
        port: its port.
        seconds: how long to wait for each address, and later for each answer.

    Raises:
        BadInput: see `addresses_of`.
        Transient: see there; or it cannot be reached.
    """
    for address in addresses_of(host, port):
        try:
            return socket.create_connection((address, port), seconds)
        except OSError:
            continue  # the next address may do
    raise Transient(f"{host} cannot be reached on port {port}")


@cache
def tls() -> ssl.SSLContext:
    """Verifies names; trusts what web blocks trust. One for the process: making it takes tens of milliseconds."""
    return httpx.create_ssl_context()


def hold_to_its_server(credential: Credential, host: str, port: int, example: str) -> None:
    """
    Args:
        credential: with the server in `base_url`; without a port there, any port of it.
        host: where the user wants it sent.
        port: likewise.
        example: how a base_url looks.

    Raises:
        BadInput: the credential names no server, or another one.
    """
    try:
        site = urlsplit(credential.base_url)
        own_port = site.port
    except ValueError:
        raise BadInput(f"the credential {credential.provider} has a base_url that is no address") from None
    if not site.hostname:
        raise BadInput(
            f"the credential {credential.provider} does not say for which server it is: "
            f"the operator sets its base_url, such as {example}"
        )
    if site.hostname != host.lower() or (own_port or port) != port:
        where = f"{site.hostname}:{own_port}" if own_port else site.hostname
        raise BadInput(f"the credential {credential.provider} is for {where}, and goes nowhere else")
