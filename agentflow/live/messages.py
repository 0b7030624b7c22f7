"""Defines what subscribers receive, and the codes with which they are cut off.

A message is a JSON object {id, type, channel, data}; see docs/live.md. A batch of them is encoded once for all that
get it.
"""

import json
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

from websockets.frames import Frame, Opcode

from agentflow.errors import AgentFlowError
from agentflow.forking import lazy
from agentflow.schemas.problem_kinds import kind_of
from agentflow.schemas.problems import TYPE_PREFIX, ProblemDocument


class Cut(IntEnum):
    """Why a connection is closed, as a WebSocket close code."""

    STOPPING = 1012  # this process stops: connect again
    FULL = 1013  # all connections of this process are taken: try again later
    MISUSED = 4400  # too much that is no message
    UNAUTHENTICATED = 4401  # no key or session; or it was revoked, has expired, or its user is suspended
    FORBIDDEN = 4403  # the key may not do this (any more)
    TOO_SLOW = 4408  # what was sent was not received in time: go on after the last id
    TOO_MANY = 4429  # the owner has as many connections as one may have


WORDS: Final = {
    Cut.STOPPING: "the server stops: connect again",
    Cut.FULL: "all connections of this process are taken; try again in a moment",
    Cut.MISUSED: "too many messages that could not be understood",
    Cut.UNAUTHENTICATED: "the key or session is not valid, or not any more",
    Cut.FORBIDDEN: "the key or session may not do this, or not any more",
    Cut.TOO_SLOW: "you receive too slowly: connect again, and go on after the last id",
    Cut.TOO_MANY: "you have as many connections as one user may have: close one",
}
"""What each means, for a person."""


class Message(NamedTuple):
    """Something that happened.

    Attributes:
        id: what `after` takes to go on behind it.
        type: what kind of thing `data` is.
        kind: the kind of the event, as the older stream of a run names it.
        data: JSON.
    """

    id: str
    type: str
    kind: str
    data: str


class Parcel:
    """Some messages of a channel, for all that are at the same position of it.

    Args:
        channel: the channel's name.
        messages: in their order.
        over: the id after them, if there will be no more; else None.
    """

    def __init__(self, channel: str, messages: Sequence[Message], over: str | None) -> None:
        self._channel = json.dumps(channel)
        self._messages = messages
        self.over = over

    @lazy
    def frames(self) -> bytes:
        """The messages as WebSocket frames."""
        return b"".join(map(frame, self._texts()))

    @lazy
    def blocks(self) -> bytes:
        """The messages as server-sent events."""
        ids = [*(message.id for message in self._messages), *([self.over] if self.over is not None else [])]
        texts = zip(ids, self._texts(), strict=True)
        return "".join(f"id: {id_}\ndata: {text}\n\n" for id_, text in texts).encode()

    @lazy
    def run_events(self) -> bytes:
        """The messages as server-sent events of a run: named by their kind, and nothing around their data."""
        blocks = (f"id: {one.id}\nevent: {one.kind}\ndata: {one.data}\n\n" for one in self._messages)
        return "".join(blocks).encode()

    def _texts(self) -> list[str]:
        texts = [
            f'{{"id":"{one.id}","type":"{one.type}","channel":{self._channel},"data":{one.data}}}'
            for one in self._messages
        ]
        if self.over is not None:
            texts.append(f'{{"id":"{self.over}","type":"over","channel":{self._channel},"data":null}}')
        return texts


def text(type_: str, channel: str | None = None, data: Any = None) -> str:
    """A message about the connection itself, without an id."""
    return json.dumps({"id": None, "type": type_, "channel": channel, "data": data}, separators=(",", ":"))


def frame(message: str) -> bytes:
    """A message as a WebSocket frame; the server's are not masked, so that it is the same for all."""
    return Frame(Opcode.TEXT, message.encode()).serialize(mask=False)


def problem(error: AgentFlowError) -> dict[str, Any]:
    """An error as the API tells it. Of our own faults only the kind: their messages may name hosts."""
    kind = kind_of(type(error))
    detail = error.message if kind.status < 500 else kind.title
    document = ProblemDocument(type=TYPE_PREFIX + kind.slug, title=kind.title, status=kind.status, detail=detail)
    return document.model_dump(mode="json")
