"""Makes one HTTP request on behalf of a user, within limits.

Redirects are followed here and not by httpx, because each hop must pass the guard again and must not carry one site's
secrets to another. Size is counted while the reply is unpacked; the time limit covers everything, redirects included.
Error messages name the host only: paths, queries and headers may hold secrets.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

from agentflow import __version__
from agentflow.errors import BadInput, Transient
from agentflow.net.inflation import OFFERED, Damaged, Unpacker
from agentflow.net.ssrf import GuardedTransport, check_form
from agentflow.settings import settings
from agentflow.texts import ContentType, text_of

MAX_REDIRECTS: Final = 10

_CONNECT_SECONDS: Final = 10.0
"""Per address of a host, so that a dead address leaves time for the next."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_OWN_HEADERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "expect"}
    | {"accept-encoding", "proxy-authorization", "proxy-connection"}
)
"""Headers that follow from the request itself. A user's values would contradict it."""

_CROSS_SITE_HEADERS: Final = frozenset({"accept", "accept-language", "user-agent"})
"""The headers that are also sent to another site. Any other may hold a key."""


@dataclass(frozen=True)
class Limits:
    """The limits of one fetch.

    Attributes:
        allow: "host:port" pairs that may be reached although they are not public.
        seconds: for everything, from resolving the name to the last byte.
        max_bytes: size of the unpacked body.
    """

    allow: tuple[str, ...]
    seconds: float
    max_bytes: int

    @classmethod
    def from_settings(cls) -> "Limits":
        """The limits in this process's settings."""
        return cls(settings().http_allow, settings().http_timeout, settings().http_max_bytes)


@dataclass(frozen=True)
class Body:
    """A request's body: text, or form fields (and files), or nothing.

    Attributes:
        content: the text.
        media_type: the type of `content`, unless the user's headers give one.
        fields: form fields; a list repeats a field.
        files: (field, (file name, content, media type)); makes it a multipart form.
    """

    content: str | None = None
    media_type: str = ""
    fields: Mapping[str, str | list[str]] = field(default_factory=dict)
    files: Sequence[tuple[str, tuple[str, bytes, str]]] = ()


@dataclass(frozen=True)
class Reply:
    """The reply of the last hop.

    Attributes:
        status: the HTTP status.
        headers: the headers.
        body: the unpacked bytes.
    """

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def content_type(self) -> ContentType:
        """The declared type of the body."""
        return ContentType.parse(self.headers.get("content-type", ""))

    @property
    def text(self) -> str:
        """The body as text."""
        said = self.content_type
        return text_of(self.body, said.charset, said.media_type)


async def fetch(
    method: str,
    url: str,
    headers: dict[str, str],
    body: Body,
    limits: Limits,
    *,
    follows: bool = True,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Reply:
    """Sends one request and follows its redirects.

    Args:
        method: the HTTP method, in capitals.
        url: http or https.
        headers: the user's headers; those that describe the message itself are dropped.
        body: what to send.
        limits: the limits of time, size and addresses.
        follows: whether redirects are followed; else the reply is the redirect itself.
        transport: what sends; None: a new guarded transport. A caller that passes one is responsible for the guard.

    Raises:
        BadInput: the address is wrong or not public, a header is wrong, the reply is too large, or there are too many
            redirects.
        Transient: the host could not be reached, did not answer in time, or broke off.
    """
    host = ""
    try:
        target = httpx.URL(url)
        check_form(target)
        host = target.host
        async with asyncio.timeout(limits.seconds), _client(limits, transport) as client:
            request = _request(client, method, target, _sendable(headers), body)
            return await _follow(client, request, limits, MAX_REDIRECTS if follows else 0)
    except (TimeoutError, httpx.TimeoutException):
        raise Transient(f"{host} did not answer completely within {limits.seconds:g} s") from None
    except httpx.InvalidURL as error:
        raise BadInput(f"this is not an address that can be fetched: {error}") from None
    except (httpx.LocalProtocolError, UnicodeError):
        raise BadInput("the request cannot be sent: a header has characters that headers must not have") from None
    except httpx.ConnectError as error:
        if _is_wrong_certificate(error):
            raise BadInput(f"the TLS certificate of {host} cannot be trusted") from None
        raise Transient(f"{host} cannot be reached") from None
    except (httpx.TransportError, Damaged) as error:
        raise Transient(f"{host} did not answer as it should: {error}") from None


def _client(limits: Limits, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    """A client for one fetch. It keeps cookies from one hop to the next."""
    return httpx.AsyncClient(
        transport=transport or GuardedTransport(limits.allow),
        headers={"user-agent": f"agentflow/{__version__}", "accept-encoding": OFFERED},
        timeout=httpx.Timeout(limits.seconds, connect=min(_CONNECT_SECONDS, limits.seconds)),
        follow_redirects=False,
        trust_env=False,  # no proxies and no passwords from the worker's environment
    )


def _request(
    client: httpx.AsyncClient, method: str, url: httpx.URL, headers: dict[str, str], body: Body
) -> httpx.Request:
    if body.content is None:
        return client.build_request(
            method, url, headers=headers, data=dict(body.fields) or None, files=list(body.files) or None
        )
    if "content-type" not in {name.lower() for name in headers}:
        headers = {**headers, "content-type": body.media_type}
    return client.build_request(method, url, headers=headers, content=body.content.encode("utf-8", "replace"))


async def _follow(client: httpx.AsyncClient, request: httpx.Request, limits: Limits, most: int) -> Reply:
    own_cookie = "cookie" in request.headers
    for _ in range(MAX_REDIRECTS + 1):
        response = await client.send(request, stream=True)
        try:
            location = response.headers.get("location")
            if response.status_code not in _REDIRECTS or not location or not most:
                return Reply(response.status_code, response.headers, await _read(response, limits.max_bytes))
            request = redirected(client, request, response.status_code, location, own_cookie)
        finally:
            await response.aclose()
    raise BadInput(f"{request.url.host} redirects more than {MAX_REDIRECTS} times")


def redirected(
    client: httpx.AsyncClient, request: httpx.Request, status: int, location: str, own_cookie: bool
) -> httpx.Request:
    """The request that follows a redirect, made as browsers do or stricter.

    A 303, and a 301 or 302 after POST, become a GET without a body. Another site (scheme, host or port differ) gets no
    body, and only headers that can hold no secret. A step from http to https on the same host stays on the same site.

    Args:
        client: makes the request, with the cookies that earlier hops set.
        request: the request that was redirected.
        status: 301, 302, 303, 307 or 308.
        location: the target, relative or absolute.
        own_cookie: the user gave a Cookie header; within the site it is sent instead of the replies' cookies.

    Raises:
        BadInput: the target is neither http nor https.
        httpx.InvalidURL: `location` is not an address.
    """
    url = request.url.join(location)
    check_form(url)
    stays = _same_site(request.url, url)
    to_get = (status == 303 and request.method != "HEAD") or (status in (301, 302) and request.method == "POST")
    keeps_body = stays and not to_get

    def is_sent(name: str) -> bool:
        if name == "cookie":
            return stays and own_cookie
        if name in _OWN_HEADERS or (name.startswith("content-") and not keeps_body):
            return False
        return stays or name in _CROSS_SITE_HEADERS

    headers = {name: value for name, value in request.headers.items() if is_sent(name)}
    method = "GET" if to_get else request.method
    return client.build_request(method, url, headers=headers, content=request.read() if keeps_body else None)


def _same_site(first: httpx.URL, second: httpx.URL) -> bool:
    if first.host != second.host:
        return False
    if first.scheme == second.scheme:
        return _port(first) == _port(second)
    return (first.scheme, second.scheme) == ("http", "https") and (_port(first), _port(second)) == (80, 443)


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _sendable(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.strip().lower() not in _OWN_HEADERS}


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    """The unpacked body. Reading stops as soon as it exceeds `max_bytes`."""
    host, encoding = response.request.url.host, response.headers.get("content-encoding", "")
    try:
        unpacker = Unpacker(encoding)
    except LookupError:
        raise BadInput(f"{host} answers in an encoding that was not asked for: {encoding[:40]}") from None
    parts, room = [], max_bytes
    async for data in response.aiter_raw():
        part = unpacker.feed(data, room)
        room -= len(part)
        if room < 0:
            raise BadInput(f"the reply of {host} has more than {max_bytes} bytes")
        parts.append(part)
    unpacker.close()
    return b"".join(parts)


def _is_wrong_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
