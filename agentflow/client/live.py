"""Watches channels over a WebSocket. It connects again where the connection broke off, and misses nothing."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from agentflow.client.http import ApiError, Http, Unreachable, pause
from agentflow.clock import monotonic
from agentflow.schemas.live import Update
from agentflow.schemas.problems import ProblemDocument

SILENCE: Final = 45.0
"""Seconds without even a heartbeat (one every 15 s) after which a connection counts as broken."""

PATIENCE: Final = 60.0
"""Seconds for which a connection that was there is tried again: a process that was killed is started anew meanwhile."""

_CONNECT_SECONDS: Final = 10.0
_FINAL: Final = {4400: (400, "malformed"), 4401: (401, "unauthenticated"), 4403: (403, "forbidden")}
"""Close codes after which connecting again is useless, as problems of the API."""


def watch(http: Http, channels: Sequence[str], after: Mapping[str, str]) -> Iterator[Update]:
    """What happens in channels, until all of them are over; only those of runs ever are.

    Args:
        http: the API.
        channels: their names: `run:<id>`, `graph:<id>`, `runs`.
        after: channel → the id of the last update of it that was seen.

    Raises:
        ApiError: there is no such channel, or the key may not watch it (any more).
        Unreachable: too many attempts in a row failed; for `PATIENCE` seconds at least, once it was connected.
    """
    places: dict[str, str | None] = {channel: after.get(channel) for channel in dict.fromkeys(channels)}
    failed, patient_until = 0, 0.0
    while places:
        try:
            with _connected(http) as connection:
                for update in _updates(connection, places):
                    failed = 0
                    yield update
                    patient_until = monotonic() + PATIENCE
        except InvalidStatus as error:
            failed += 1
            if error.response.status_code < 500 or (failed >= http.attempts and monotonic() > patient_until):
                raise ApiError(_problem(error)) from error
        except (OSError, WebSocketException) as error:  # a silence is a TimeoutError
            _raise_if_final(error)
            failed += 1
            if failed >= http.attempts and monotonic() > patient_until:
                raise Unreachable(f"{http.url} does not answer: {error or type(error).__name__}") from error
        if places:
            http.sleep(pause(max(failed, 1)))


def _connected(http: Http) -> AbstractContextManager[ClientConnection]:
    return connect(
        f"ws{http.url.removeprefix('http')}/ws",
        additional_headers={"Authorization": http.authorization},
        open_timeout=_CONNECT_SECONDS,
        close_timeout=1.0,
        compression=None,
        max_size=None,
        proxy=True if http.trusts_proxies else None,
    )


def _updates(connection: ClientConnection, places: dict[str, str | None]) -> Iterator[Update]:
    """The updates of one connection; keeps in `places` how far each channel was seen, and drops those that are over."""
    while True:
        message: dict[str, Any] = json.loads(connection.recv(SILENCE))
        channel, kind = message["channel"], message["type"]
        if kind == "welcome":
            for name, last in places.items():
                connection.send(json.dumps({"type": "subscribe", "channel": name} | ({"after": last} if last else {})))
        elif kind == "subscribed":
            places[channel] = message["data"]["after"]  # what happens before the first update is not to be missed
        elif kind == "error":
            raise ApiError(ProblemDocument.read(message["data"]["status"], message["data"]))
        elif message["id"] is not None and channel in places:
            update = Update.model_validate(message)
            if update.is_over:
                del places[channel]
            else:
                places[channel] = update.id
            yield update
            if not places:
                return


def _raise_if_final(error: Exception) -> None:
    if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code in _FINAL:
        status, slug = _FINAL[error.rcvd.code]
        raise ApiError(
            ProblemDocument(
                type=f"urn:agentflow:problem:{slug}", title=slug, status=status, detail=error.rcvd.reason or slug
            )
        ) from error


def _problem(error: InvalidStatus) -> ProblemDocument:
    response = error.response
    try:
        content = json.loads(response.body or b"")
    except ValueError:
        content = None
    return ProblemDocument.read(response.status_code, content or "no WebSocket can be opened there")
