"""Sends messages to a webhook, signed as Standard Webhooks say (standardwebhooks.com), under the guard of addresses."""

import asyncio
import base64
import json
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import httpx
from pydantic import SecretStr

from agentflow.clock import now
from agentflow.errors import BadInput, Transient
from agentflow.net.answers import retry_after
from agentflow.net.fetching import Body, Limits, fetch
from agentflow.net.signing import sign
from agentflow.net.ssrf import checked_addresses, resolve
from agentflow.notifications.message import Message, ReceiverGone
from agentflow.settings import settings

_SECRET_BYTES: Final = 32

_LONGEST_REPLY: Final = 65_536
"""Bytes. Only its status matters."""


def new_secret() -> str:
    """A new signing secret, as Standard Webhooks write it."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def check(url: str) -> str:
    """The host of a webhook's address, if messages may be sent there.

    Raises:
        BadInput: it is no address of HTTP, its host does not exist, or is not public.
        Transient: its host could not be resolved now.
    """
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        raise BadInput("this is no address, as https://example.com/hook") from None
    asyncio.run(_checked(address))
    return address.host


def place_of(url: str) -> str:
    """Where an address leads: its host, with the port if it names one that is not the usual."""
    return httpx.URL(url).netloc.decode("ascii").lower()


def send(url: str, signing: Sequence[str], message: Message, seconds: float) -> None:
    """Send a message, with a signature for each secret.

    Raises:
        BadInput: the receiver cannot be used.
        ReceiverGone: it says that it is gone for good (410).
        Transient: it did not take the message; it may later, or after as long as it asks for (`after`).
    """
    body = json.dumps(
        {"type": message.type, "timestamp": message.timestamp, "data": message.data},
        ensure_ascii=False, separators=(",", ":"),
    )  # fmt: skip
    at = str(int(now().timestamp()))
    headers = {
        "webhook-id": message.id,
        "webhook-timestamp": at,
        "webhook-signature": " ".join(sign(SecretStr(one), message.id, at, body.encode()) for one in signing),
    }
    limits = Limits(settings().http_allow, seconds, _LONGEST_REPLY)
    reply = asyncio.run(fetch("POST", url, headers, Body(body, "application/json"), limits, follows=False))
    host = httpx.URL(url).host
    if reply.status == HTTPStatus.GONE:
        raise ReceiverGone(f"{host} is gone for good (410)")
    if not HTTPStatus(200) <= reply.status < 300:
        raise Transient(f"{host} answers {reply.status}", after=retry_after(reply.headers))


async def _checked(address: httpx.URL) -> None:
    allow = frozenset(pair.lower() for pair in settings().http_allow)
    try:
        async with asyncio.timeout(settings().http_timeout):
            await checked_addresses(address, allow, resolve)
    except TimeoutError:
        raise Transient(f"the host name {address.host} was not resolved in time") from None
