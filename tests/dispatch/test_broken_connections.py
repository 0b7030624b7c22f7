"""A broker that goes away at any call of our transport raises what kombu's would, and keeps no channel from closing.

Between the client and a real Valkey stands a wire that is cut at the n-th thing that the client says, for every n of
what a worker's channel goes through in its life: before the broker has heard it, or before its answer has come.
"""

import logging
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu import Producer
from kombu.common import ignore_errors
from kombu.exceptions import BatchPublishError

from agentflow.dispatch import transport
from agentflow.dispatch.lanes import queue_name
from agentflow.dispatch.publish import EXECUTE, Publisher, TaskMessage

logger = logging.getLogger(__name__)
Consume = Callable[..., Any]


class Wire:
    """Passes on what a client and the broker say, until it is cut; then there is no broker any more."""

    def __init__(self, broker_url: str) -> None:
        address = urlsplit(broker_url)
        self._broker = (address.hostname, address.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = self._listening.getsockname()[1]
        self.url = address._replace(netloc=f":{address.password}@127.0.0.1:{port}").geturl()
        self.said = 0
        self.is_cut = False
        self._cut_at: int | None = None
        self._heard = False
        self._ends: dict[socket.socket, socket.socket] = {}
        self._asking: set[socket.socket] = set()  # the clients' ends
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def cut_at(self, number: int, *, heard: bool) -> None:
        """Cut it at what the client says as its `number`-th from here on; whether the broker still hears that."""
        self.said, self._cut_at, self._heard = 0, number, heard

    def cut(self) -> None:
        self.is_cut = True
        with suppress(OSError):  # it was cut already
            self._wake.send(b"x")
        self._wake.close()
        self._thread.join(timeout=5)

    def _pass_on(self) -> None:
        while not self.is_cut:
            ready, _, _ = select.select([self._listening, self._woken, *self._ends], [], [])
            for end in ready:
                if end is self._listening:
                    self._join(end.accept()[0])
                elif end in self._ends and not self.is_cut:
                    self._carry(end)
        for end in (self._listening, self._woken, *self._ends):
            end.close()

    def _join(self, client: socket.socket) -> None:
        broker = socket.create_connection(self._broker)
        self._ends |= {client: broker, broker: client}
        self._asking.add(client)

    def _carry(self, end: socket.socket) -> None:
        other = self._ends[end]
        try:
            data = end.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            for one in (end, other):
                self._asking.discard(one)
                del self._ends[one]
                one.close()
            return
        if end in self._asking:
            self.said += 1
            if self.said == self._cut_at:
                self.is_cut = True
                if not self._heard:
                    return
        other.sendall(data)


@pytest.fixture
def wire(broker_url: str) -> Iterator[Callable[[], Wire]]:
    """`wire()` is a new wire to the broker."""
    made: list[Wire] = []

    def make() -> Wire:
        made.append(Wire(broker_url))
        return made[-1]

    yield make
    for one in made:
        one.cut()


def live(consuming: Any, fill: Callable[[], None], written: Callable[[], bool]) -> None:
    """What a channel goes through."""
    fill()
    consuming.get(8)
    consuming.until(written)
    first, second, third, fourth, *_ = consuming.received
    first.ack()
    second.reject(requeue=True)
    third.reject(requeue=False)
    fourth.requeue()
    consuming.get(10)
    producer = Producer(consuming.channel, auto_declare=False)
    for _ in range(2):
        producer.publish("one", exchange="", routing_key="elsewhere")
    with producer.batch():
        for _ in range(3):
            producer.publish("several", exchange="", routing_key="elsewhere")
    assert consuming.channel.queue_declare("elsewhere", passive=True).message_count >= 5
    consuming.channel.basic_get("elsewhere")
    consuming.channel.queue_purge("elsewhere")
    consuming.channel.qos.write()
    consuming.channel.qos.restore_visible(interval=1)


def let_go(consuming: Any) -> None:
    """What Celery does when its connection is gone (`Consumer.on_connection_error_after_connected`), and later."""
    connection, errors = consuming._connection, consuming._connection.connection_errors
    channel, cycle = consuming.channel, connection.transport.cycle
    connection.collect(socket_timeout=0.1)
    ignore_errors(connection, connection.close)
    # Tasks that were running end after that, and are acknowledged or given back all the same.
    for number, message in enumerate(message for message in consuming.received if not message.acknowledged):
        if number % 2:
            message.ack_log_error(logger, errors)
        else:
            message.reject_log_error(logger, errors, requeue=True)
    channel.qos.restore_unacked_once()
    transport._write_all(cycle)


def run_with_cut(consume: Consume, wire: Wire, number: int, heard: bool, broker_url: str, broker: Any) -> bool:
    """One life of a channel that is cut at that; whether it was over before."""
    broker.flushall()
    publisher = Publisher(broker_url)

    def fill() -> None:
        assert publisher.send([TaskMessage(EXECUTE, "default", ["run", node, 1], "Test", 5, 60.0) for node in range(8)])

    consuming = consume(url=wire.url)
    errors = (
        *consuming._connection.connection_errors,
        *consuming._connection.channel_errors,
        BatchPublishError,
    )
    wire.cut_at(number, heard=heard)
    raised = None
    try:
        live(consuming, fill, lambda: broker.hlen("unacked") >= 8)
    except Exception as error:
        raised = error
    publisher._forget()
    assert raised is None or wire.is_cut, f"without a cut: {raised!r}"
    assert raised is None or isinstance(raised, errors), f"cut at {number}: {raised!r}"
    over = not wire.is_cut
    let_go(consuming)
    return over


@pytest.mark.parametrize("heard", [False, True], ids=["not-heard", "not-answered"])
def test_a_channel_survives_the_end_of_its_broker_at_each_of_its_calls(
    consume: Consume, wire: Callable[[], Wire], heard: bool, broker_url: str, broker: Any
) -> None:
    for number in range(1, 200):
        if run_with_cut(consume, wire(), number, heard, broker_url, broker):
            break
    else:
        raise AssertionError("a channel's life should have been shorter")
    assert number > 20, "the wire was cut in all of it"


@pytest.mark.parametrize("heard", [False, True], ids=["not-heard", "not-answered"])
def test_closing_survives_the_end_of_the_broker_at_each_of_its_calls(
    consume: Consume, wire: Callable[[], Wire], heard: bool, broker: Any, publisher: Publisher
) -> None:
    for number in range(1, 100):
        broker.flushall()
        cable = wire()
        consuming = consume(url=cable.url)
        publisher.send([TaskMessage(EXECUTE, "default", ["run", node, 1], "Test", 5, 60.0) for node in range(5)])
        consuming.get(5)
        consuming.received[0].ack()
        cable.cut_at(number, heard=heard)
        ignore_errors(consuming._connection, consuming._connection.close)
        consuming.channel.qos.restore_unacked_once()
        if not cable.is_cut:
            break
    else:
        raise AssertionError("closing should have been shorter")
    assert number > 3, "the wire was cut in all of it"
    given_back = sum(broker.llen(key) for key in broker.scan_iter(f"{queue_name('default')}*"))
    assert given_back == 4, "a close that is not cut gives back what is not done"


def test_what_is_published_after_the_broker_came_back_goes_out_at_once(own_valkey: Callable[..., Any]) -> None:
    server = own_valkey()
    publisher = Publisher(server.url)
    message = TaskMessage(EXECUTE, "default", ["run", 1, 1], "Test", 5, 60.0)
    assert publisher.send([message])
    server.stop()
    server.start()
    assert publisher.send([message]), "the connection that the broker has closed is not used"
    publisher._forget()
