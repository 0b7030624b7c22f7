"""Fakes the web while an example of a block runs: requests get the example's replies, and nothing else is reachable.

For `trial` only. Requests sent by `fetch`, by httpx or by httpx2 never leave the process. A request without a reply
fails the example, even if the block handles the error.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import httpx

from agentflow.blocks.base import HttpReply
from agentflow.net import ssrf


class Unexpected(AssertionError):
    """A request for which the example has no reply."""


class _Web:
    """The replies that are left, and the requests that had none."""

    def __init__(self, replies: Sequence[HttpReply]) -> None:
        self.left = list(replies)
        self.unexpected: list[str] = []

    def take(self, method: str, url: str) -> HttpReply:
        for reply in self.left:
            if (reply.method, reply.url) == (method, url):
                self.left.remove(reply)
                return reply
        self.unexpected.append(f"{method} {url}")
        raise Unexpected(f"no reply is given for {method} {url}")


@contextmanager
def answering(replies: Sequence[HttpReply]) -> Iterator[None]:
    """Answer requests with `replies`, each once; replies for the same address in their order.

    Raises:
        AssertionError: a request had no reply, or a reply was never requested.
    """
    web = _Web(replies)
    with ExitStack() as patches:
        for target, name, made in _replacements(web):
            patches.enter_context(patch.object(target, name, made))
        yield
    assert not web.unexpected, f"no reply is given for {', '.join(web.unexpected)}"
    left = ", ".join(f"{reply.method} {reply.url}" for reply in web.left)
    assert not left, f"not asked for: {left}"


def _replacements(web: _Web) -> Iterator[tuple[Any, str, Any]]:
    """The methods through which requests leave: (owner, name, replacement)."""
    for library, guarded in _libraries():

        def synchronous(transport: Any, request: Any, library: Any = library) -> Any:
            return _response(library, request, web.take(request.method, str(request.url)))

        async def asynchronous(transport: Any, request: Any, library: Any = library) -> Any:
            return _response(library, request, web.take(request.method, str(request.url)))

        yield library.HTTPTransport, "handle_request", synchronous
        yield library.AsyncHTTPTransport, "handle_async_request", asynchronous
        for transport in guarded:
            yield transport, "handle_async_request", asynchronous


def _libraries() -> Iterator[tuple[Any, list[type]]]:
    """The HTTP libraries, with our transports on top of them, which would resolve addresses."""
    yield httpx, [ssrf.GuardedTransport]
    try:
        import httpx2

        from agentflow.net import model_transport
    except ImportError:  # the extra `ai` is not installed
        return
    yield httpx2, [model_transport.GuardedTransport]


def _response(library: Any, request: Any, reply: HttpReply) -> Any:
    body = reply.body if isinstance(reply.body, bytes | str) else json.dumps(reply.body)
    content = body.encode() if isinstance(body, str) else body
    headers = dict(reply.headers)
    if not isinstance(reply.body, bytes | str) and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "application/json"
    headers["Content-Length"] = str(len(content))
    return library.Response(reply.status, headers=headers, stream=library.ByteStream(content), request=request)
