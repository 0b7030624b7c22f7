"""Guards requests to model endpoints that a user names, as `ssrf` guards web blocks, for another HTTP library.

The providers' SDKs send through httpx2, the successor of httpx. This transport reaches public addresses only, sends
nothing of the operator's (the SDKs add headers from the environment), and limits replies like those of web blocks.
Needs the extra `ai`.
"""

import ssl
from collections.abc import AsyncIterator, Collection
from typing import Final

import httpx
import httpx2

from agentflow.errors import BadInput
from agentflow.net.ssrf import checked_addresses
from agentflow.settings import settings

_SENT_HEADERS: Final = frozenset(
    {"accept", "connection", "content-length", "content-type", "host", "transfer-encoding", "user-agent"}
)
"""The headers that a user's endpoint gets. Any other may hold a key or identify the operator's account."""


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends each request only to an address that was checked just before; see `ssrf.GuardedTransport`.

    Args:
        allow: "host:port" pairs that need not be public.
        max_bytes: size limit of a reply.
        tls: the TLS context for https.
    """

    def __init__(self, allow: Collection[str], max_bytes: int, tls: ssl.SSLContext) -> None:
        self._allow = frozenset(pair.lower() for pair in allow)
        self._max_bytes = max_bytes
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._inner = httpx2.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends `request`, trying the host's addresses in turn until one accepts the connection.

        Raises:
            BadInput: see `ssrf.checked_addresses`; or the reply is compressed, or becomes too large while it is read.
            Transient: the name could not be resolved now.
            httpx2.TransportError: connecting, sending or receiving failed.
        """
        addresses = await checked_addresses(httpx.URL(str(request.url)), self._allow)
        for address in addresses[:-1]:
            try:
                return self._measured(await self._inner.handle_async_request(_pinned(request, address)), request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue  # nothing was sent, so the next address can be tried
        return self._measured(await self._inner.handle_async_request(_pinned(request, addresses[-1])), request)

    def _measured(self, response: httpx2.Response, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        if response.headers.get("content-encoding", "identity") != "identity":
            raise BadInput(f"{host} answers in an encoding that was not asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Measured(response.stream, self._max_bytes, host),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._inner.aclose()


async def measure(response: httpx2.Response) -> None:
    """Stops reading a reply beyond AGENTFLOW_HTTP_MAX_BYTES: a hook for clients without the guard."""
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Measured(response.stream, settings().http_max_bytes, response.request.url.host)


class _Measured(httpx2.AsyncByteStream):
    """A reply's body. Reading stops as soon as it is too large."""

    def __init__(self, inner: httpx2.AsyncByteStream, max_bytes: int, host: str) -> None:
        self._inner = inner
        self._max_bytes = max_bytes
        self._host = host

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._max_bytes
        async for part in self._inner:
            left -= len(part)
            if left < 0:
                raise BadInput(f"the reply of {self._host} has more than {self._max_bytes} bytes")
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


def _pinned(request: httpx2.Request, address: str) -> httpx2.Request:
    headers = {name: value for name, value in request.headers.items() if name in _SENT_HEADERS}
    return httpx2.Request(
        method=request.method,
        url=request.url.copy_with(host=address),
        headers={**headers, "accept-encoding": "identity"},  # a small compressed reply could fill the memory
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.raw_host.decode("ascii")},
    )
