"""Defines who reads: a connection with its subscriptions.

A reader is given what it can take at once. What it cannot take is not kept for it: its place stays where it is, and it
is read from PostgreSQL when there is room again. So a slow one costs no memory, and delays nobody. One that takes
nothing for `SLOW_SECONDS` is cut off.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from agentflow.clock import monotonic
from agentflow.live.channels import Channel
from agentflow.live.messages import Cut, Parcel

if TYPE_CHECKING:
    from agentflow.live.callers import Credentials
    from agentflow.live.hub import Topic

HEARTBEAT_SECONDS: Final = 15.0
"""After so much silence a heartbeat is sent: proxies close what is silent, and clients notice what is dead."""

SLOW_SECONDS: Final = 10.0
"""A reader to whom nothing more could be sent for so long is cut off."""

MAX_SUBSCRIPTIONS: Final = 100
"""Channels that one connection may watch."""


class Subscription:
    """A reader's place in a channel."""

    __slots__ = ("place", "reader", "topic")

    def __init__(self, reader: "Reader", topic: "Topic", place: Any) -> None:
        self.reader = reader
        self.topic = topic
        self.place = place


class Reader(ABC):
    """A connection that was let in.

    Attributes:
        credentials: by which it was let in.
        subscriptions: its places, by the name of the channel.
    """

    def __init__(self, credentials: "Credentials") -> None:
        self.credentials = credentials
        self.subscriptions: dict[str, Subscription] = {}
        self.is_closed = False
        self._heard_at = monotonic()
        self._behind_since: float | None = None

    @property
    @abstractmethod
    def is_behind(self) -> bool:
        """Whether it cannot take anything now."""

    @abstractmethod
    def give(self, parcel: Parcel) -> None:
        """Send messages."""

    @abstractmethod
    def beat(self) -> None:
        """Send a heartbeat."""

    @abstractmethod
    def cut(self, why: Cut) -> None:
        """Say why, and close the connection; not to be called twice."""

    def take(self, parcel: Parcel, now: float) -> None:
        """Give it messages, and note when (`clock.monotonic`)."""
        self._heard_at = now
        self.give(parcel)

    def check(self, now: float) -> Cut | None:
        """Send a heartbeat if one is due. Returns why it must be cut off; None: it need not."""
        if self.is_behind:
            self._behind_since = self._behind_since or now
            return Cut.TOO_SLOW if now - self._behind_since > SLOW_SECONDS else None
        self._behind_since = None
        if now - self._heard_at > HEARTBEAT_SECONDS:
            self._heard_at = now
            self.beat()
        return None

    def moved(self) -> None:
        """Note that it has received something."""
        self._behind_since = None

    def watches(self, channel: Channel) -> bool:
        """Whether it is subscribed to the channel."""
        return channel.name in self.subscriptions
