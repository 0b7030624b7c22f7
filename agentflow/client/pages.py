"""How is a list read that comes in pages? Page after page, as far as the reader goes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from agentflow.client.http import Http

_Item = TypeVar("_Item", covariant=True)


class PageOf(Protocol[_Item]):
    """One page."""

    @property
    def items(self) -> Sequence[_Item]: ...

    @property
    def next_cursor(self) -> str | None: ...


def every(http: Http, path: str, read: Callable[[Any], PageOf[_Item]], query: Mapping[str, Any]) -> Iterator[_Item]:
    """All things of the list at `path`; `read` makes a page of a reply."""
    after: str | None = None
    while True:
        page = read(http.call("GET", path, query={**query, "after": after}))
        yield from page.items
        after = page.next_cursor
        if after is None:
            return
