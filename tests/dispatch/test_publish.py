"""Publishing never fails a run and never holds one up; messages carry ids and nothing else."""

import importlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from plans import plan_of

from agentflow.dispatch import PublishedRun, backlog, publish, publish_finaliser
from agentflow.dispatch.lanes import LANES, queue_name, wire_priority
from agentflow.dispatch.publish import EXECUTE, FINALISE, KILL_AFTER, KILL_GRACE, Publisher, TaskMessage
from agentflow.dispatch.publish import publisher as publisher_of_process
from agentflow.embedded.valkey import Valkey
from agentflow.graph.settings import NodeSettings
from agentflow.ids import new_id
from agentflow.settings import settings
from agentflow.storage.runs import Ready

MODULE = importlib.import_module("agentflow.dispatch.publish")  # the package has a function of that name
Consume = Callable[..., Any]
QUICKLY = 2.0  # seconds

MESSAGE = TaskMessage(EXECUTE, "default", ["run", 0, 1], "Test", 5, 60.0)


@pytest.fixture
def process(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process publishes to the test's broker."""
    monkeypatch.setenv("AGENTFLOW_BROKER_URL", broker_url)
    settings.cache_clear()
    publisher_of_process.cache_clear()
    yield
    publisher_of_process()._forget()
    publisher_of_process.cache_clear()
    settings.cache_clear()


def sends(publisher: Publisher, count: int = 1) -> bool:
    """What `send` says; it must say so quickly."""
    before = time.monotonic()
    sent = publisher.send([MESSAGE] * count)
    assert time.monotonic() - before < QUICKLY
    return sent


SETTINGS = {
    0: NodeSettings(),
    1: NodeSettings(timeout=7, queue="gpu", priority=9),
    2: NodeSettings(queue="io"),
}


def test_a_message_carries_ids_only_and_flower_shows_the_block(process: None, consume: Consume) -> None:
    run_id = new_id()
    plan = plan_of(nodes=3, settings=SETTINGS, defaults={0: {"secret": "s3cret"}})
    assert publish(PublishedRun(run_id, plan, 4), [Ready(0, 1), Ready(1, 12), Ready(2, 3)])
    consuming = consume("default", "gpu", "io")
    consuming.until(lambda: len(consuming.received) == 3)
    found = {json.loads(message.body)[0][1]: message for message in consuming.received}
    arguments = {node: json.loads(message.body)[:2] for node, message in found.items()}
    assert arguments == {0: [[str(run_id), 0, 1], {}], 1: [[str(run_id), 1, 12], {}], 2: [[str(run_id), 2, 3], {}]}
    for message in found.values():
        assert message.headers["task"] == EXECUTE
        assert message.headers["shadow"] == "Test"
        assert message.headers["ignore_result"] is True
        assert message.content_type == "application/json"
        assert UUID(message.headers["id"])
        assert "s3cret" not in repr([message.body, message.headers, message.properties])
    usual = settings().node_timeout + KILL_GRACE
    assert {node: found[node].headers[KILL_AFTER] for node in found} == {0: usual, 1: 7 + KILL_GRACE, 2: usual}
    assert {tuple(found[node].headers["timelimit"]) for node in found} == {(None, None)}, "Celery sets no timer"
    assert {node: found[node].properties["priority"] for node in found} == {0: 9 - 4, 1: 9 - 9, 2: 9 - 4}
    assert {node: found[node].delivery_info["routing_key"] for node in found} == {
        0: queue_name("default"),
        1: queue_name("gpu"),
        2: queue_name("io"),
    }


def test_the_finaliser_is_rung_before_everything_else(process: None, consume: Consume) -> None:
    run_id = new_id()
    assert publish_finaliser(run_id)
    consuming = consume()
    consuming.until(lambda: consuming.received)
    message = consuming.received[0]
    assert json.loads(message.body)[0] == [str(run_id)]
    assert (message.headers["task"], message.properties["priority"]) == (FINALISE, 0)
    assert (message.headers["timelimit"], message.headers[KILL_AFTER]) == ([None, None], None)


@pytest.mark.parametrize(("priority", "transport", "wire"), [(9, "redis", 0), (0, "redis", 9), (9, "amqp", 9)])
def test_nine_is_most_urgent_whatever_the_broker_counts(priority: int, transport: str, wire: int) -> None:
    assert wire_priority(priority, transport) == wire


def test_nothing_to_publish_needs_no_broker() -> None:
    assert Publisher("redis://127.0.0.1:1/0").send([])


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_however_many_messages_go_out_in_few_commands(publisher: Publisher, broker: Any, count: int) -> None:
    sends(publisher)  # connects and declares
    before = {name: found["calls"] for name, found in broker.info("commandstats").items()}
    assert sends(publisher, count)
    after = {name: found["calls"] for name, found in broker.info("commandstats").items()}
    done = {name: calls - before.get(name, 0) for name, calls in after.items()}
    del done["cmdstat_info"]
    assert done.pop("cmdstat_lpush") == count
    assert sum(done.values()) <= 3


def test_the_backlog_is_what_waits_in_the_lanes_that_every_worker_serves(process: None, consume: Consume) -> None:
    assert backlog() == 0
    settings_by_node = {number: NodeSettings(queue=lane) for number, lane in enumerate([*LANES, "gpu"])}
    plan = plan_of(nodes=4, settings=settings_by_node)
    for priority in (0, 9):
        publish(PublishedRun(new_id(), plan, priority), [Ready(number, 1) for number in range(4)])
    assert backlog() == 2 * len(LANES)


def test_a_broker_that_is_not_there_is_noticed_quickly_and_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    publisher = Publisher("redis://127.0.0.1:1/0")
    assert sends(publisher) is False
    assert [record.message for record in caplog.records] == ["publish_failed"]
    assert sends(publisher, 100) is False
    assert len(caplog.records) == 1, "it is not tried again at once"
    assert publisher.depth(LANES) is None


def test_publishing_goes_on_when_the_broker_is_back(
    own_valkey: Callable[..., Valkey], monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    monkeypatch.setattr(MODULE, "_AWAY", 0.1)
    server = own_valkey()
    publisher = Publisher(server.url)
    assert sends(publisher)
    assert sends(publisher, 2)
    server.stop()
    for count in (1, 2, 1, 2):
        assert sends(publisher, count) is False
    server.start()
    eventually(lambda: sends(publisher))
    assert sends(publisher, 2)
    assert publisher.depth(LANES) == 3 + 3, "those of before were in its append-only file"
    publisher._forget()


def test_a_broker_that_hangs_is_given_up(
    own_valkey: Callable[..., Valkey], monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    monkeypatch.setattr(MODULE, "_AWAY", 0.1)
    monkeypatch.setattr(MODULE, "_SOCKET_TIMEOUT", 0.3)
    for name in ("socket_timeout", "socket_connect_timeout"):
        monkeypatch.setitem(MODULE._OPTIONS, name, 0.3)
    server = own_valkey()
    publisher = Publisher(server.url)
    assert sends(publisher)
    os.kill(server.child.pid, signal.SIGSTOP)
    try:
        assert sends(publisher) is False
        eventually(lambda: time.monotonic() > publisher._away_until)
        assert sends(publisher, 2) is False
    finally:
        os.kill(server.child.pid, signal.SIGCONT)
    eventually(lambda: sends(publisher))
    publisher._forget()


def test_a_broker_that_forgets_everything_takes_new_messages(
    publisher: Publisher, broker: Any, consume: Consume
) -> None:
    consuming = consume()
    sends(publisher)
    consuming.get(1)
    broker.flushall()
    assert sends(publisher)
    assert sends(publisher, 2)
    consuming.get(4)


def test_a_full_broker_is_a_failure_like_any_other(own_valkey: Callable[..., Valkey], tmp_path: Path) -> None:
    server = own_valkey("maxmemory 1")
    publisher = Publisher(server.url)
    assert sends(publisher) is False
    publisher._forget()
