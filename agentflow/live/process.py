"""Holds what a live process consists of, and opens channels for those who may watch them."""

from typing import Any, Final

from agentflow.accounts.keys import Caller
from agentflow.errors import TooMany
from agentflow.live.callers import Callers, Credentials
from agentflow.live.channels import Channel, kind_and_argument
from agentflow.live.ears import Ears
from agentflow.live.hub import Hub
from agentflow.live.readers import MAX_SUBSCRIPTIONS, Reader
from agentflow.services.transaction import transaction
from agentflow.settings import settings


class Live:
    """The parts of this process."""

    def __init__(self) -> None:
        self.callers: Final = Callers(settings().max_live_connections)
        self.hub: Final = Hub(lambda watched: self._ears.watch(watched))
        self._ears = Ears(settings().broker(), self.hub, self.callers)

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self.callers.start()
        self.hub.start()
        self._ears.start()

    async def stop(self) -> None:
        """Stop working."""
        await self._ears.stop()
        await self.hub.stop()
        await self.callers.stop()

    async def open(self, credentials: Credentials, name: str, after: str | None) -> tuple[Channel, Any]:
        """The channel that a caller means by this name, and the place after the message `after`; "": none is named.

        Raises:
            Malformed, NotFound, Forbidden: there is none for this caller.
            Unavailable: PostgreSQL does not answer.
        """
        kind, argument = kind_and_argument(name)
        credentials.caller.require(kind.scope)
        return await self.callers.in_thread(_open, kind, credentials.caller, argument, after or None)

    async def is_over(self, channel: Channel, place: Any) -> bool:
        """Whether nothing will come in a channel after a place."""
        return await self.callers.in_thread(_is_over, channel, place)

    def refuse_more(self, reader: Reader) -> None:
        """Refuse another subscription of a connection that has enough.

        Raises:
            TooMany: it watches as many channels as one may.
        """
        if len(reader.subscriptions) >= MAX_SUBSCRIPTIONS:
            raise TooMany(f"a connection watches {MAX_SUBSCRIPTIONS} channels at most: use another one, or `runs`")


def _open(kind: type[Channel], caller: Caller, argument: str, after: str | None) -> tuple[Channel, Any]:
    with transaction(looks=True) as session:
        channel = kind.open(session, caller, argument)
        return channel, channel.start(session, after)


def _is_over(channel: Channel, place: Any) -> bool:
    with transaction(looks=True) as session:
        return channel.is_over(session, place)
