"""Passes a run's events on to the display: reports pauses between them, and selects those to show."""

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from agentflow import clock
from agentflow.schemas.events import RunEvent

IDLE: Final = 0.25
"""Seconds without an event after which a pause is reported."""


def with_pauses(events: Iterable[RunEvent], idle: float = IDLE) -> Iterator[RunEvent | None]:
    """The events as they arrive; None whenever none arrived for `idle` seconds. A separate thread reads them."""
    came: queue.SimpleQueue[RunEvent | BaseException | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for event in events:
                came.put(event)
            came.put(None)
        except BaseException as error:  # raised again in the consumer's thread
            came.put(error)

    threading.Thread(target=read, name="events of a run", daemon=True).start()
    while True:
        try:
            item = came.get(timeout=idle)
        except queue.Empty:
            yield None
            continue
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item


@dataclass(frozen=True, slots=True)
class Shown:
    """Which events are shown: those from `since` on; of those that exist already, at most the `last` ones."""

    since: datetime | None = None
    last: int | None = None
    asked_at: datetime = field(default_factory=clock.now)

    def marked(self, events: Iterable[RunEvent | None]) -> Iterator[tuple[RunEvent | None, bool]]:
        """Every event with whether to show it, and the pauses. Events that are not shown are needed for counts.

        Events that may be among the last ones are held back until a pause or a new event comes.
        """
        held: deque[RunEvent] = deque()
        caught_up = self.last is None
        for event in events:
            if not caught_up and (event is None or event.at >= self.asked_at):
                caught_up = True
                yield from ((one, self._is_new(one)) for one in held)
                held.clear()
            if event is None or caught_up:
                yield event, event is not None and self._is_new(event)
                continue
            held.append(event)
            if len(held) > (self.last or 0):
                yield held.popleft(), False
        yield from ((one, self._is_new(one)) for one in held)

    def wanted(self, events: Iterable[RunEvent]) -> Iterator[RunEvent]:
        """Only the events to show."""
        for event, shown in self.marked(with_pauses(events)):
            if event is not None and shown:
                yield event

    def _is_new(self, event: RunEvent) -> bool:
        return self.since is None or event.at >= self.since
