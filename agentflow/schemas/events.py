"""Defines the events of a run, as subscribers receive them."""

from datetime import datetime
from typing import Any

from agentflow.engine.statuses import RUN_TERMINAL
from agentflow.schemas.base import Reply


class EventOutput(Reply):
    """A value that came out. A long one is left out, and `truncated` is true."""

    pin: str
    value: Any = None
    truncated: bool = False


class RunEvent(Reply):
    """Something that happened in a run.

    `kind` is `run` (its status changed), `claimed` (a worker took a node execution), `flushed` (it gave outputs and
    goes on), `settled` (its attempt is over, and there is another one if `status` is QUEUED; or it waits: WAITING),
    `woken` (what it waited for has come) or `lost` (its worker died or was stopped; it runs again). `id` is what
    `Last-Event-ID` takes.
    """

    id: str
    kind: str
    at: datetime
    status: str | None = None
    reason: str | None = None
    error: str | None = None
    node_id: str | None = None
    block: str | None = None
    title: str | None = None
    index: int | None = None
    attempt: int | None = None
    is_output: bool = False
    outputs: list[EventOutput] = []
    outputs_truncated: bool = False

    @property
    def ends_run(self) -> bool:
        """Whether this event ends the run."""
        return self.kind == "run" and self.status in RUN_TERMINAL


class EventList(Reply):
    """Some events of a run, in order. `over`: it has ended, and there are no more."""

    items: list[RunEvent]
    over: bool
