"""Serves `/api/v1/runs/{id}/events`: the events of a run, live, as server-sent events.

Events are read from the events table, so none is missed: a client that was disconnected resumes with `Last-Event-ID`.
A live process serves the stream, if there is one (`relay.py`). If not, this one does: then an open stream occupies a
place (see `places.py`), and a client that gets none can poll.
"""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from uuid import UUID

from flask import Response, current_app, request
from pydantic import Field

from agentflow import clock
from agentflow.api.blueprint import blueprint, may_go_on, owner_id
from agentflow.api.places import Places, client_gone, closing
from agentflow.api.relay import pass_on
from agentflow.api.replies import reply
from agentflow.api.runs import RunPath
from agentflow.errors import AgentFlowError, Unavailable
from agentflow.logs import log_outage
from agentflow.schemas.base import Request
from agentflow.schemas.events import EventList, RunEvent
from agentflow.schemas.json_text import json_text
from agentflow.services import events
from agentflow.services.events import Batch, Subject
from agentflow.services.transaction import transaction

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
"""After this much silence a comment is sent. It keeps proxies from closing, and detects clients that are gone."""

RETRY_MILLISECONDS = 1000
"""How long a client should wait before it reconnects."""

_BUSY_SECONDS = 0.025  # the interval between two queries while events come …
_IDLE_SECONDS = 0.5  # … growing to this while none do
_GROWTH = 1.5

api = blueprint("events", "What happens in a run, live.")


class EventQuery(Request):
    """Where to begin."""

    after: str | None = Field(
        None,
        pattern=r"^[0-9]{1,18}-[0-9]{1,18}$",
        description="The id of an event; `Last-Event-ID` goes before it.",
    )


@api.get("/runs/<uuid:run_id>/events", responses={200: RunEvent})
def stream_events(path: RunPath, query: EventQuery) -> Response:
    """A run's events from the first on, or after `Last-Event-ID`: `text/event-stream`, until the run has ended.

    It ends as well when the key is revoked, the session ends or the user is suspended.

    Each event's data is one JSON object. 204: the run has ended, and everything was seen.
    Who accepts `application/json` and no stream gets those that there are, at once: for clients that ask now and then,
    because all streams are taken (429, 503), or because they like it better.
    """
    after = request.headers.get("Last-Event-ID") or query.after
    if not request.accept_mimetypes["text/event-stream"] and request.accept_mimetypes["application/json"]:
        return reply(_existing(path.run_id, after))
    if (passed := pass_on()) is not None:
        return passed
    start = events.position(after)
    with transaction() as session:
        subject = events.subject(session, owner_id(), path.run_id)
        first = events.read(session, subject, start)
    if first.over and not first.events:
        return Response(status=204)
    places: Places = current_app.extensions["event_streams"]
    places.take(owner_id())
    response = Response(_stream(subject, first, client_gone(), may_go_on()), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store, no-transform"
    response.headers["X-Accel-Buffering"] = "no"  # nginx must forward each event at once
    response.call_on_close(partial(places.release, owner_id()))
    return response


def _existing(run_id: UUID, after: str | None) -> EventList:
    """The events so far, including those that streams still hold back: a polling client has waited already."""
    waited_since = clock.monotonic() - events.PATIENCE_SECONDS
    with transaction() as session:
        batch = events.read(session, events.subject(session, owner_id(), run_id), events.position(after), waited_since)
    return EventList(items=batch.events, over=batch.over)


def _stream(subject: Subject, batch: Batch, gone: Callable[[], bool], allowed: Callable[[], bool]) -> Iterator[str]:
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
            if batch.over:
                return
            if len(batch.events) < events.BATCH:
                closing.wait(wait)
                wait = min(wait * _GROWTH, _IDLE_SECONDS)
            if closing.is_set() or gone() or not allowed():
                return
            with transaction() as session:
                batch = events.read(session, subject, batch.position, batch.held_since)
    except Unavailable as error:
        log_outage(logger, "event_stream_interrupted", error, run=str(subject.run_id))
    except AgentFlowError as error:
        # The headers are sent already. The client sees the stream end, and reconnects.
        logger.warning("event_stream_broken", extra={"run": str(subject.run_id), "error": str(error)})


def _block(event: RunEvent) -> str:
    return f"id: {event.id}\nevent: {event.kind}\ndata: {json_text(event)}\n\n"
