"""Reads the event stream of a run. It reconnects where the stream broke off, and polls while no stream is available."""

from collections.abc import Iterator
from typing import Final
from uuid import UUID

import httpx
from httpx_sse import EventSource

from agentflow.client.http import ApiError, Http, Unreachable, pause, read
from agentflow.schemas.events import EventList, RunEvent

SILENCE: Final = 45.0
"""Seconds without even a heartbeat (one every 15 s) after which a stream counts as broken."""

POLL_SECONDS: Final = 1.0
"""The polling interval while all streams are taken."""

_NO_STREAM = ("too-many", "busy")  # problems: this owner has all their streams, or all streams are taken


def events(http: Http, run_id: UUID | str, after: str | None = None) -> Iterator[RunEvent]:
    """The run's events, each once, until it has ended. `after`: the id of the last one already seen.

    Raises:
        ApiError: the API refuses the request (no such run, ...).
        Unreachable: too many attempts in a row failed.
    """
    last, failed = after, 0
    while True:
        try:
            for event in _one_stream(http, run_id, last):
                if event is None:
                    return
                last, failed = event.id, 0
                yield event
                if event.ends_run:
                    return
        except ApiError as error:
            if error.slug in _NO_STREAM:
                page = _page(http, run_id, last)
                for event in page.items:
                    last, failed = event.id, 0
                    yield event
                    if event.ends_run:
                        return
                if page.over:
                    return
                http.sleep(POLL_SECONDS)
                continue
            if error.status < 500 and error.status != 429:
                raise
            failed += 1
            if failed >= http.attempts:
                raise
        except httpx.TransportError as error:
            failed += 1
            if failed >= http.attempts:
                raise Unreachable(f"{http.url} does not answer: {error or type(error).__name__}") from error
        http.sleep(pause(max(failed, 1)))


def _one_stream(http: Http, run_id: UUID | str, last: str | None) -> Iterator[RunEvent | None]:
    """The events of one connection, then None if there will be no more."""
    headers = {"Last-Event-ID": last} if last else {}
    with http.stream(f"/runs/{run_id}/events", headers, SILENCE) as response:
        if response.status_code == 204:
            yield None
            return
        if not response.is_success:
            response.read()
            read(response)
        for message in EventSource(response).iter_sse():
            if message.data:  # else it is a heartbeat, or only says when to come again
                yield RunEvent.model_validate_json(message.data)


def _page(http: Http, run_id: UUID | str, last: str | None) -> EventList:
    """The events after `last` that exist now.

    Raises:
        ApiError, Unreachable: as `Http.call`.
    """
    return EventList.model_validate(http.call("GET", f"/runs/{run_id}/events", query={"after": last}))
