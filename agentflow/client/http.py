"""Sends requests over one connection pool, and retries them where that is safe.

A request whose connection failed did not arrive, and is always retried. One that was interrupted later may have
arrived, and is retried only if repeating it is harmless.
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx

from agentflow.errors import AgentFlowError
from agentflow.schemas.problems import TYPE_PREFIX, ProblemDocument, ProblemPlace

FIRST_PAUSE: Final = 0.1
"""Seconds before the second attempt; the pause doubles each time."""

LONGEST_PAUSE: Final = 5.0

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_TRY_LATER = (429, 503)  # the API refused the request before doing anything
_TAG: Final = re.compile(r"<[^>]*>")
_LONGEST_EXCERPT: Final = 100  # characters of a foreign page that are quoted
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

_Item = TypeVar("_Item", covariant=True)


class ApiError(AgentFlowError):
    """The API answered with a problem.

    Attributes:
        status: the HTTP status.
        type: the problem's stable type, `urn:agentflow:problem:…`.
        detail: what is wrong, for a person.
        errors: the places in the graph that are wrong, if any.
    """

    def __init__(self, problem: ProblemDocument) -> None:
        super().__init__(problem.detail)
        self.status: int = problem.status
        self.type: str = problem.type
        self.detail: str = problem.detail
        self.errors: list[ProblemPlace] = problem.errors
        self.instance: str | None = problem.instance

    @property
    def slug(self) -> str:
        """The last part of the type: `not-found`, `graph-invalid`, ..."""
        return self.type.removeprefix(TYPE_PREFIX)


class Unreachable(AgentFlowError):
    """The API does not answer."""


class Http:
    """Requests to one API with one key.

    Args:
        url: the API's address, without `/api/v1`.
        key: the API key.
        timeout: seconds to wait for a reply.
        attempts: the most tries of a request.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float = 30.0,
        attempts: int = 5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.attempts = attempts
        self.sleep = sleep
        self.authorization = f"Bearer {key}"
        self.trusts_proxies = urlsplit(self.url).hostname not in _LOOPBACK  # no proxy to our own machine
        self._client = httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": self.authorization, "Accept": "application/json"},
            timeout=timeout,
            trust_env=self.trusts_proxies,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> Any:
        """Send a request. Returns the reply's JSON, or None if it has none.

        Args:
            repeatable: whether repeating the request is harmless.

        Raises:
            ApiError: the API refuses it.
            Unreachable: there is no reply.
        """
        content = None if body is None else json.dumps(body)
        given = {**(headers or {}), **({"Content-Type": "application/json"} if content is not None else {})}
        known = {name: value for name, value in (query or {}).items() if value is not None}
        for attempt in range(1, self.attempts + 1):
            try:
                response = self._client.request(method, path, content=content, params=known, headers=given)
            except httpx.TransportError as error:
                if attempt == self.attempts or not (repeatable or isinstance(error, _NOT_SENT)):
                    raise Unreachable(f"{self.url} does not answer: {error or type(error).__name__}") from error
                self.sleep(pause(attempt))
                continue
            if response.status_code in _TRY_LATER and attempt < self.attempts:
                self.sleep(max(pause(attempt), retry_after(response)))
                continue
            return read(response)
        raise AssertionError("the last attempt returns or raises")

    def stream(self, path: str, headers: Mapping[str, str], timeout: float) -> AbstractContextManager[httpx.Response]:
        """Open an event stream, to be read line by line. `timeout`: the longest silence, in seconds."""
        return self._client.stream(
            "GET", path, headers={**headers, "Accept": "text/event-stream"}, timeout=httpx.Timeout(10.0, read=timeout)
        )


class PageOf(Protocol[_Item]):
    """One page."""

    @property
    def items(self) -> Sequence[_Item]: ...

    @property
    def next_cursor(self) -> str | None: ...


def every(http: Http, path: str, read: Callable[[Any], PageOf[_Item]], query: Mapping[str, Any]) -> Iterator[_Item]:
    """All items of the list at `path`, page by page. `read` parses a reply into a page."""
    after: str | None = None
    while True:
        page = read(http.call("GET", path, query={**query, "after": after}))
        yield from page.items
        after = page.next_cursor
        if after is None:
            return


def read(response: httpx.Response) -> Any:
    """The JSON of a reply; None if it has none.

    Raises:
        ApiError: it is a problem document, or an error of a proxy.
        Unreachable: the server is not AgentFlow.
    """
    try:
        content = response.json() if response.content else None
    except ValueError:
        if response.is_success:
            raise Unreachable(_not_ours(response)) from None
        content = None
    if response.is_success:
        return content
    raise ApiError(ProblemDocument.read(response.status_code, content or _not_ours(response)))


def _not_ours(response: httpx.Response) -> str:
    """The message about a reply that is not AgentFlow's: its origin, and how it begins."""
    words = " ".join(_TAG.sub(" ", response.text).split())
    excerpt = f": {words[:_LONGEST_EXCERPT]}" if words else ""
    where = response.url.copy_with(path="", query=None)
    return f"what answers at {where} is not AgentFlow: HTTP {response.status_code}{excerpt}"


def retry_after(response: httpx.Response) -> float:
    """Seconds after which the API allows a retry; 0 if it does not say."""
    try:
        return min(float(response.headers.get("Retry-After", 0)), LONGEST_PAUSE)
    except ValueError:  # it may also be a date
        return 0.0


def pause(attempt: int) -> float:
    """Seconds of backoff after attempt number `attempt` failed, with jitter."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1))
    return longest * (0.5 + random.random() / 2)  # noqa: S311  (not used for security)
