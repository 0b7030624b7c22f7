"""Knows where the senders of each scheme put the id of a delivery and the type of its event. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agentflow.errors import Malformed
from agentflow.triggers.filters import MISSING, read
from agentflow.triggers.signatures import Headers, Scheme

MAX_SAID: Final = 255
"""Characters of an id or a type."""

PING: Final = "ping"
"""The event with which GitHub tries out a webhook."""


@dataclass(frozen=True, slots=True)
class Place:
    """A header, or a path in the payload."""

    header: str | None = None
    path: str | None = None

    def __str__(self) -> str:
        return self.header or str(self.path)


IDS: Final[Mapping[Scheme, tuple[Place, ...]]] = {
    Scheme.STANDARD: (Place(header="webhook-id"), Place(header="svix-id")),
    Scheme.GITHUB: (Place(header="X-GitHub-Delivery"),),
    Scheme.STRIPE: (Place(path="$.id"),),
    Scheme.SLACK: (Place(path="$.event_id"),),
    Scheme.NONE: (Place(header="webhook-id"), Place(header="Idempotency-Key")),
}
"""Where the id of a delivery stands: the first place that has one."""

EVENTS: Final[Mapping[Scheme, tuple[Place, ...]]] = {
    Scheme.STANDARD: (Place(path="$.type"),),
    Scheme.GITHUB: (Place(header="X-GitHub-Event"),),
    Scheme.STRIPE: (Place(path="$.type"),),
    Scheme.SLACK: (Place(path="$.event.type"), Place(path="$.type")),
    Scheme.NONE: (Place(header="X-Event-Type"), Place(path="$.type")),
}
"""Where the type of an event stands: the first place that has one."""


def said(places: tuple[Place, ...], headers: Headers, payload: Any) -> str | None:
    """The text at the first of `places` that has one; numbers count as texts. None: none has.

    Raises:
        Malformed: it is too long, or holds what no id and no type can.
    """
    for place in places:
        found = headers.get(place.header) if place.header else read(place.path or "$", payload)
        if found is None or found is MISSING or found == "" or isinstance(found, bool | dict | list | float):
            continue
        text = str(found)
        if len(text) > MAX_SAID or not text.isprintable():
            raise Malformed(f"{place} is longer than {MAX_SAID} characters, or has some that cannot be printed")
        return text
    return None


def challenge(scheme: Scheme, payload: Any) -> str | None:
    """What Slack wants to be told back, when it tries out an address; None: it does not."""
    if scheme is not Scheme.SLACK or not isinstance(payload, dict) or payload.get("type") != "url_verification":
        return None
    text = payload.get("challenge")
    return text if isinstance(text, str) and len(text) <= MAX_SAID and text.isprintable() else None


def is_ping(scheme: Scheme, headers: Headers) -> bool:
    """Whether GitHub only tries out an address."""
    return scheme is Scheme.GITHUB and headers.get("X-GitHub-Event") == PING
