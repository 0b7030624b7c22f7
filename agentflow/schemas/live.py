"""Defines what a subscriber of live updates gets, as the typed client gives it."""

from uuid import UUID

from agentflow.schemas.base import Reply
from agentflow.schemas.events import RunEvent


class WatchedEvent(RunEvent):
    """Something that happened in one of several runs."""

    run_id: UUID
    graph_id: UUID


class Update(Reply):
    """Something that happened in a channel, or (`type` is `over`) that nothing more will.

    `id` is what `after` takes to go on behind it. `data` is a `WatchedEvent` in channels of several runs.
    """

    id: str
    type: str
    channel: str
    data: WatchedEvent | RunEvent | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come in the channel."""
        return self.type == "over"
