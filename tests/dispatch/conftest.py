"""A publisher, and a consumer that runs the event loop of a Celery worker's main process, on a real Valkey."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer
from kombu.asynchronous import Hub

from agentflow.dispatch import transport
from agentflow.dispatch.lanes import queue
from agentflow.dispatch.publish import Publisher
from agentflow.embedded import valkey
from agentflow.embedded.keys import Secrets
from agentflow.embedded.roster import Roster
from agentflow.embedded.valkey import Valkey


class Consuming:
    """Consumes lanes as a worker does, and keeps what it got, unacknowledged."""

    def __init__(self, url: str, *lanes: str, prefetch: int = 100, **options: Any) -> None:
        transport.install()
        self.received: list[Any] = []
        self._connection = Connection(url, transport_options={"polling_interval": 0.1, **options})
        self._connection.connect()
        self.channel = self._connection.default_channel
        consumer = Consumer(self.channel, [queue(lane) for lane in lanes or ("default",)], accept=["json"])
        consumer.register_callback(lambda _, message: self.received.append(message))
        consumer.qos(prefetch_count=prefetch)
        consumer.consume()
        hub = Hub()
        self._connection.register_with_event_loop(hub)
        self._hub, self._loop = hub, hub.create_loop()

    def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Run the loop until the condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"still not so after {seconds} s"
            next(self._loop)

    def get(self, count: int) -> list[int]:
        """Wait until so many messages have come in all; the node numbers in them."""
        self.until(lambda: len(self.received) >= count)
        return self.nodes()

    def nodes(self) -> list[int]:
        return [json.loads(message.body)[0][1] for message in self.received]

    def close(self) -> None:
        """Close it as a worker does that stops."""
        self._connection.close()
        self._hub.close()


@pytest.fixture(scope="package")
def _valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    path = tmp_path_factory.mktemp("valkey")
    server = Valkey(path, Secrets(path), Roster(path), durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def broker_url(_valkey: Valkey) -> str:
    """The address of an empty Valkey that nobody else uses: these tests count what they send to it."""
    with redis.Redis.from_url(_valkey.url) as client:
        client.flushall()
    return _valkey.url


@pytest.fixture
def consume(broker_url: str) -> Iterator[Callable[..., Consuming]]:
    """`consume(*lanes, prefetch=100, url=…, **options of the transport)` consumes until the end of the test."""
    with ExitStack() as made:

        def make(*lanes: str, url: str = broker_url, prefetch: int = 100, **options: Any) -> Consuming:
            consuming = Consuming(url, *lanes, prefetch=prefetch, **options)
            made.callback(consuming.close)
            return consuming

        yield make


@pytest.fixture
def publisher(broker_url: str) -> Iterator[Publisher]:
    made = Publisher(broker_url)
    yield made
    made._forget()


@pytest.fixture
def broker(broker_url: str) -> Iterator[Any]:
    """A client of the Valkey."""
    with redis.Redis.from_url(broker_url, decode_responses=True) as client:
        client.config_resetstat()
        yield client


@pytest.fixture
def own_valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Valkey]]:
    """`own_valkey(configuration="")` starts a server that the test may stop, with more lines of configuration."""
    made: list[Valkey] = []

    def start(configuration: str = "") -> Valkey:
        monkeypatch.setattr(valkey, "_CONFIGURATION", valkey._CONFIGURATION + configuration + "\n")
        made.append(Valkey(tmp_path, Secrets(tmp_path), Roster(tmp_path), durable=False))
        made[-1].start()
        return made[-1]

    yield start
    for server in made:
        server.stop()
