"""Our Redis transport delivers what kombu's does, with fewer round trips, and keeps its book of what is under way."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow.dispatch.lanes import queue_name
from agentflow.dispatch.publish import EXECUTE, Publisher, TaskMessage
from agentflow.dispatch.transport import WRITE_EVERY

Consume = Callable[..., Any]
BOOK, INDEX = "unacked", "unacked_index"


def messages(nodes: Iterable[int], lane: str = "default", priority: int = 5) -> list[TaskMessage]:
    return [TaskMessage(EXECUTE, lane, ["run", node, 1], "Test", priority, 60.0) for node in nodes]


def waiting(broker: Any, lane: str = "default") -> int:
    return sum(broker.llen(key) for key in broker.scan_iter(f"{queue_name(lane)}*"))


def calls(broker: Any, command: str) -> int:
    return int(broker.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def book(broker: Any) -> tuple[int, int]:
    return broker.hlen(BOOK), broker.zcard(INDEX)


def test_what_was_published_in_one_batch_is_consumed_in_its_order(publisher: Publisher, consume: Consume) -> None:
    assert publisher.send(messages(range(500)))
    assert consume(prefetch=500).get(500) == list(range(500))


def test_one_message_and_a_batch_arrive_alike(publisher: Publisher, consume: Consume) -> None:
    assert publisher.send(messages([7]))
    assert publisher.send(messages([7, 7]))
    consuming = consume()
    assert consuming.get(3) == [7, 7, 7]
    one, *others = [
        (message.body, {k: v for k, v in message.headers.items() if k not in ("id", "root_id")}, message.content_type)
        for message in consuming.received
    ]
    assert others == [one, one]
    assert len({message.headers["id"] for message in consuming.received}) == 3


def test_a_connection_that_the_broker_closed_is_replaced(publisher: Publisher, consume: Consume, broker: Any) -> None:
    for node in range(3):
        assert publisher.send(messages([node]))
        broker.client_kill_filter(_type="normal", skipme=True)
    assert publisher.send(messages([3]))
    assert consume().get(4) == [0, 1, 2, 3]


def test_a_message_that_is_done_soon_is_never_written_down(publisher: Publisher, consume: Consume, broker: Any) -> None:
    publisher.send(messages(range(10)))  # before anyone fetches: one fetch takes all, and no write comes in between
    consuming = consume()
    consuming.get(10)
    for message in consuming.received:
        message.ack()
    end = time.monotonic() + 3 * WRITE_EVERY
    consuming.until(lambda: time.monotonic() > end)
    assert book(broker) == (0, 0)
    assert calls(broker, "hset") == calls(broker, "zadd") == 0
    assert waiting(broker) == 0


def test_a_message_that_takes_long_is_written_down_and_crossed_out_when_it_is_done(
    publisher: Publisher, consume: Consume, broker: Any
) -> None:
    publisher.send(messages(range(3)))
    consuming = consume()
    consuming.get(3)
    consuming.until(lambda: book(broker) == (3, 3))
    consuming.received[0].ack()
    consuming.until(lambda: book(broker) == (2, 2))
    consuming.received[1].ack()
    consuming.received[2].ack()
    consuming.until(lambda: book(broker) == (0, 0))
    assert calls(broker, "hset") == 1, "what comes together is written together"


def test_the_book_is_in_kombus_own_form_so_that_its_workers_can_restore_from_it(
    publisher: Publisher, consume: Consume, broker: Any
) -> None:
    consuming = consume()
    publisher.send(messages([1]))
    consuming.get(1)
    consuming.until(lambda: book(broker) == (1, 1))
    consuming.channel.qos.restore_by_tag(consuming.received[0].delivery_tag)
    assert consuming.get(2) == [1, 1]


def test_what_is_crossed_out_while_the_worker_stops_does_not_come_again(
    publisher: Publisher, consume: Consume, broker: Any
) -> None:
    consuming = consume()
    publisher.send(messages([1]))
    consuming.get(1)
    consuming.until(lambda: book(broker) == (1, 1))
    consuming.received[0].ack()
    consuming.close()
    assert book(broker) == (0, 0)
    assert waiting(broker) == 0


@pytest.mark.parametrize("written", [False, True])
def test_a_rejected_message_is_delivered_again(
    publisher: Publisher, consume: Consume, broker: Any, written: bool
) -> None:
    consuming = consume()
    publisher.send(messages([1, 2]))
    consuming.get(2)
    if written:
        consuming.until(lambda: book(broker) == (2, 2))
    consuming.received[0].reject(requeue=True)
    assert consuming.get(3) == [1, 2, 1]
    for message in consuming.received[1:]:
        message.ack()
    consuming.until(lambda: book(broker) == (0, 0))
    assert waiting(broker) == 0


def test_a_message_that_is_thrown_away_does_not_come_again(publisher: Publisher, consume: Consume, broker: Any) -> None:
    consuming = consume()
    publisher.send(messages([1]))
    consuming.get(1)
    consuming.received[0].reject(requeue=False)
    consuming.close()
    assert book(broker) == (0, 0)
    assert waiting(broker) == 0


@pytest.mark.parametrize("written", [False, True])
def test_a_worker_that_stops_gives_back_what_it_has_not_done(
    publisher: Publisher, consume: Consume, broker: Any, written: bool
) -> None:
    consuming = consume()
    publisher.send(messages(range(4)))
    consuming.get(4)
    if written:
        consuming.until(lambda: book(broker) == (4, 4))
    consuming.received[1].ack()
    consuming.close()
    assert book(broker) == (0, 0)
    assert sorted(consume().get(3)) == [0, 2, 3]


def test_what_arrives_while_a_worker_stops_is_not_lost(publisher: Publisher, consume: Consume, broker: Any) -> None:
    consuming = consume()
    publisher.send(messages([1]))
    consuming.get(1)
    blocked = calls(broker, "blmpop")
    consuming.until(lambda: calls(broker, "blmpop") > blocked or broker.info("clients")["blocked_clients"])
    publisher.send(messages([2, 3]))
    consuming.close()
    assert sorted(consume().get(3)) == [1, 2, 3]


def test_a_worker_takes_several_messages_at_once(publisher: Publisher, consume: Consume, broker: Any) -> None:
    publisher.send(messages(range(60)))
    consume(prefetch=60).get(60)
    assert calls(broker, "blmpop") <= 3
    assert calls(broker, "brpop") == 0


def test_a_worker_takes_no_more_than_it_may_hold(publisher: Publisher, consume: Consume, broker: Any) -> None:
    publisher.send(messages(range(10)))
    consuming = consume(prefetch=3)
    assert consuming.get(3) == [0, 1, 2]
    consuming.until(lambda: book(broker) == (3, 3))
    assert len(consuming.received) == 3
    assert waiting(broker) == 7
    consuming.received[0].ack()
    consuming.received[1].ack()
    assert consuming.get(5) == [0, 1, 2, 3, 4]
    assert waiting(broker) == 5


def test_a_server_without_blmpop_is_asked_for_one_message_at_a_time(
    consume: Consume, own_valkey: Callable[..., Any]
) -> None:
    url = own_valkey('rename-command BLMPOP ""').url
    publisher = Publisher(url)
    assert publisher.send(messages(range(10)))
    consuming = consume(url=url, prefetch=4)
    assert consuming.get(4) == [0, 1, 2, 3]
    for message in list(consuming.received):
        message.ack()
    assert consuming.get(8) == list(range(8))
    consuming.received[-1].reject(requeue=True)
    for message in consuming.received[4:7]:
        message.ack()
    assert sorted(consuming.get(11)) == [*range(8), 7, 8, 9]
    publisher._forget()


def test_the_most_urgent_is_served_first(publisher: Publisher, consume: Consume) -> None:
    for number in range(2):
        for priority in (0, 5, 9, 2, 7, 3, 8, 6, 4, 1):
            assert publisher.send(messages([10 * priority + number], priority=priority))
    # Ten levels; within one, first come, first served.
    assert consume(prefetch=1).get(1) == [90]
    assert consume().get(19) == [91, *(10 * priority + number for priority in range(8, -1, -1) for number in range(2))]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["default", "io"])), max_size=40), st.integers(1, 12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_is_served_by_urgency_and_then_in_the_order_of_its_lane(
    publisher: Publisher, consume: Consume, broker: Any, sent: list[tuple[int, str]], prefetch: int
) -> None:
    broker.flushall()
    for number, (priority, lane) in enumerate(sent):
        assert publisher.send(messages([number], lane=lane, priority=priority))
    consuming = consume("default", "io", prefetch=prefetch)
    for done in range(len(sent)):  # one after the other, as a worker does that has room for so many
        consuming.get(done + 1)
        consuming.received[done].ack()
    got = consuming.nodes()
    consuming.close()
    assert sorted(got) == list(range(len(sent)))
    for lane in ("default", "io"):
        order = [number for number in got if sent[number][1] == lane]
        assert order == sorted(order, key=lambda number: (-sent[number][0], number))
    urgencies = [sent[number][0] for number in got]
    assert urgencies == sorted(urgencies, reverse=True), "across lanes, too"


def test_urgent_work_of_one_lane_is_served_before_the_rest_of_another(publisher: Publisher, consume: Consume) -> None:
    publisher.send(messages([1], lane="default", priority=0))
    publisher.send(messages([2], lane="io", priority=9))
    publisher.send(messages([3], lane="cpu", priority=9))
    assert consume("default", "io", "cpu").get(3)[-1] == 1


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_it_is_used_from_then_on_also_where_kombus_own_was_used_before(scheme: str) -> None:
    program = (
        "from kombu import Connection\n"
        "from agentflow.dispatch.transport import Transport, install\n"
        f"url = '{scheme}://localhost'\n"
        "before = Connection(url).get_transport_cls()\n"
        "install()\n"
        "print(before is Transport, Connection(url).get_transport_cls() is Transport)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(
    "options",
    [
        {"sep": ":", "priority_steps": [0, 5], "queue_order_strategy": "priority"},  # as Celery's guide has them
        {"global_keyprefix": "ours:"},
    ],
)
def test_a_worker_hears_who_publishes_whatever_its_options_say_of_keys(
    options: dict[str, Any], publisher: Publisher, consume: Consume
) -> None:
    assert publisher.send([*messages([1]), *messages([2], priority=9)])
    assert sorted(consume(**options).get(2)) == [1, 2]


def test_lanes_are_apart(publisher: Publisher, consume: Consume, broker: Any) -> None:
    publisher.send([*messages([1], lane="io"), *messages([2], lane="gpu")])
    assert consume("gpu").get(1) == [2]
    assert waiting(broker, "io") == 1
