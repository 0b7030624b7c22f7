"""A WebSocket to a live process, for tests: one message at a time."""

import contextlib
import json
from typing import Any

from websockets.sync.client import ClientConnection


class Socket:
    """A WebSocket to the live process, one message at a time."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, **message: Any) -> None:
        self.connection.send(json.dumps(message))

    def receive(self, timeout: float = 20.0) -> dict[str, Any]:
        """The next message that is no heartbeat."""
        while (message := json.loads(self.connection.recv(timeout)))["type"] == "heartbeat":
            pass
        assert set(message) == {"id", "type", "channel", "data"}
        return message

    def subscribe(self, channel: str, after: str | None = None) -> dict[str, Any]:
        self.send(type="subscribe", channel=channel, **({"after": after} if after else {}))
        answer = self.receive()
        assert answer["type"] == "subscribed", answer
        return answer

    def until_over(self) -> list[dict[str, Any]]:
        """All events up to the end of the one channel that is watched."""
        found = []
        while (message := self.receive(40))["type"] == "event":
            found.append(message)
        assert message["type"] == "over", message
        return found

    def closed_with(self, timeout: float = 20.0) -> int | None:
        """The code with which the server closes; what comes before is skipped."""
        with contextlib.suppress(Exception):
            while True:
                self.connection.recv(timeout)
        return self.connection.protocol.close_code
