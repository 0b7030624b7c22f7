"""`/api/v1/runs/{id}/events`: what happens in a run, as it happens (server-sent events).

Read from the events table, so nothing is missed: a client that was cut off goes on where it was by `Last-Event-ID`.
A stream holds a thread of the web process as long as it is open, so their number is limited, and nobody gets them all.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from functools import partial
from threading import Event, Lock
from uuid import UUID

from flask import Response, current_app, request
from pydantic import Field

from agentflow import clock
from agentflow.api.blueprint import blueprint, owner_id
from agentflow.api.replies import json_text
from agentflow.api.runs import RunPath
from agentflow.errors import AgentFlowError, Busy, TooMany, Unavailable
from agentflow.logs import log_outage
from agentflow.schemas.base import Request
from agentflow.schemas.events import RunEvent
from agentflow.services import events
from agentflow.services.events import Batch, Subject
from agentflow.services.transaction import transaction

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
"""A comment is sent after this silence: it keeps proxies from closing, and finds clients that are gone."""

RETRY_MILLISECONDS = 1000
"""After a cut a client shall wait for so long before it comes back."""

_BUSY_SECONDS = 0.025  # the wait between two looks while things happen …
_IDLE_SECONDS = 0.5  # … growing to this while nothing does
_GROWTH = 1.5

closing = Event()
"""Set when the web process is told to stop: open streams end, and their clients come back to the next one."""

api = blueprint("events", "What happens in a run, live.")


class EventQuery(Request):
    """Where to begin."""

    after: str | None = Field(None, max_length=64, description="The id of an event; `Last-Event-ID` goes before it.")


class StreamSlots:
    """How many streams may be open in this process: `count`, and of one owner half of them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._each = (count + 1) // 2
        self._taken: Counter[UUID] = Counter()
        self._lock = Lock()

    def take(self, owner: UUID) -> None:
        """Occupy one for `owner`.

        Raises:
            TooMany: the owner has as many as one may have.
            Busy: all are taken.
        """
        with self._lock:
            if self._taken[owner] >= self._each:
                raise TooMany(f"{self._each} event streams are open for you already: close one, or ask again later")
            if self._taken.total() >= self._count:
                raise Busy("all event streams of this process are taken; ask again in a moment")
            self._taken[owner] += 1

    def give_back(self, owner: UUID) -> None:
        """Free one that `owner` took."""
        with self._lock:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]


@api.get("/runs/<uuid:run_id>/events", responses={200: RunEvent})
def stream_events(path: RunPath, query: EventQuery) -> Response:
    """A run's events from the first on, or after `Last-Event-ID`: `text/event-stream`, until the run has ended.

    Each event's data is one JSON object. 204: the run has ended, and everything was seen.
    """
    start = events.position(request.headers.get("Last-Event-ID") or query.after)
    with transaction() as session:
        subject = events.subject(session, owner_id(), path.run_id)
        first = events.read(session, subject, start)
    if first.over and not first.events:
        return Response(status=204)
    slots: StreamSlots = current_app.extensions["event_streams"]
    slots.take(owner_id())
    response = Response(_stream(subject, first), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-cache, no-transform"
    response.headers["X-Accel-Buffering"] = "no"  # nginx passes each event on at once
    response.call_on_close(partial(slots.give_back, owner_id()))
    return response


def _stream(subject: Subject, batch: Batch) -> Iterator[str]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    wait, heard = _BUSY_SECONDS, clock.monotonic()
    try:
        while True:
            if batch.events:
                yield "".join(map(_block, batch.events))
                wait, heard = _BUSY_SECONDS, clock.monotonic()
            elif clock.monotonic() - heard > HEARTBEAT_SECONDS:
                yield ": still here\n\n"
                heard = clock.monotonic()
            if batch.over or closing.is_set():
                return
            if len(batch.events) < events.BATCH:
                closing.wait(wait)
                wait = min(wait * _GROWTH, _IDLE_SECONDS)
            with transaction() as session:
                batch = events.read(session, subject, batch.position, batch.held_since)
    except Unavailable as error:
        log_outage(logger, "event_stream_interrupted", error, run=str(subject.run_id))
    except AgentFlowError as error:
        # The client has had its headers; it sees a stream that ends, and comes back.
        logger.warning("event_stream_broken", extra={"run": str(subject.run_id), "error": str(error)})


def _block(event: RunEvent) -> str:
    return f"id: {event.id}\nevent: {event.kind}\ndata: {json_text(event)}\n\n"
