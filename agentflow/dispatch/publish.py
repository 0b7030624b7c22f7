"""Publishes ready node executions in one broker round trip, as Celery messages that carry only ids.

A failure here does not fail the run: the rows are QUEUED in PostgreSQL, and recovery publishes them later. So nothing
in this module raises: it logs the failure and returns False.

The messages are built here and not by `Task.apply_async`: the API publishes without the worker's code, and building
signatures is most of the cost of `apply_async`. The format is Celery's task protocol 2
(https://docs.celeryq.dev/en/stable/internals/protocol.html).
"""

import json
import logging
import os
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from kombu import Connection, Producer

from agentflow.clock import monotonic
from agentflow.dispatch.lanes import LANES, MOST_URGENT, NOTIFICATIONS, queue_name, wire_priority
from agentflow.dispatch.transport import install
from agentflow.dispatch.watching import wake
from agentflow.graph.plan import Plan
from agentflow.ids import new_token
from agentflow.logs import log_outage
from agentflow.settings import settings
from agentflow.storage.runs import Ready

logger = logging.getLogger(__name__)

EXECUTE: Final = "agentflow.execute"
FINALISE: Final = "agentflow.finalise_run"
EXAMINE: Final = "agentflow.examine_run"
NOTIFY: Final = "agentflow.deliver_notifications"
"""The names of the Celery tasks (`worker/tasks.py`)."""

KILL_AFTER: Final = "kill_after"
"""The header with the seconds after which the worker's main process kills the child that runs the task."""

KILL_GRACE = 10.0
"""Seconds that a block gets after its timeout to end by itself, before its process is killed."""

_SOCKET_TIMEOUT = 2.0  # seconds; a broker that hangs must not delay a settle, nor the keeper until leases expire
_AWAY = 1.0  # seconds without another try after a failure, so that callers do not queue up behind a dead broker
_OPTIONS = {
    "socket_keepalive": True,
    # kombu uses these when it reconnects by itself; its defaults would delay a submission by seconds.
    "max_retries": 1,
    "interval_start": 0.05,
    "interval_step": 0,
    "interval_max": 0.05,
}
_NO_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def patience(url: str, seconds: float) -> dict[str, float]:
    """Transport options with timeouts: a broker that is frozen accepts connections and never answers."""
    if is_redis(url):
        return {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    return {"read_timeout": seconds, "write_timeout": seconds}


def is_redis(url: str) -> bool:
    """Whether the broker at this address speaks Redis' protocol."""
    return url.startswith(("redis://", "rediss://"))


class TaskMessage(NamedTuple):
    """One message to Celery.

    Attributes:
        priority: 9 is most urgent.
        kill_after: seconds until the worker's main process kills its process, of a node execution.
        limits: Celery's own hard and soft time limit, in seconds: for what is rare, as each sets a timer.
    """

    task: str
    lane: str
    args: list[Any]
    shadow: str
    priority: int
    kill_after: float | None
    limits: tuple[float | None, float | None] = (None, None)


class Publisher:
    """The broker connection of a process, shared by its threads and opened at the first message."""

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        self._lock = threading.Lock()
        self._pid = 0
        self._producer: Any = None
        self._declared: set[str] = set()
        self._away_until = 0.0

    def send(self, messages: Sequence[TaskMessage]) -> bool:
        """Publish messages in one round trip. Returns whether the broker accepted them."""
        if not messages:
            return True
        with self._lock:
            if monotonic() < self._away_until:
                return False
            try:
                self._publish(messages)
            except Exception as error:  # any error of the broker's client: rows stay QUEUED, recovery publishes them
                log_outage(logger, "publish_failed", error)
                self._forget()
                return False
        return True

    def depth(self, lanes: Sequence[str]) -> int | None:
        """The number of messages that wait in these lanes; None if the broker is unreachable."""
        with self._lock:
            if monotonic() < self._away_until:
                return None
            try:
                if self._producer is None or self._pid != os.getpid():
                    self._connect()
                return sum(self._declare(lane) for lane in lanes)
            except Exception as error:  # as in `send`
                log_outage(logger, "broker_not_asked", error)
                self._forget()
                return None

    def _declare(self, lane: str) -> int:
        """Declare the lane's queue. Returns the number of messages in it."""
        declared = self._producer.channel.queue_declare(
            queue_name(lane), durable=True, auto_delete=False, arguments={"x-max-priority": MOST_URGENT}
        )
        self._declared.add(lane)
        return int(declared.message_count)

    def _forget(self) -> None:
        producer, self._producer = self._producer, None
        self._away_until = monotonic() + _AWAY
        if producer is not None:
            try:
                producer.connection.release()
            except Exception as error:
                logger.debug("broker_release_failed", extra={"error": repr(error)})

    def _connect(self) -> None:
        install()
        connection = Connection(
            self._url,
            connect_timeout=_SOCKET_TIMEOUT,
            transport_options={**patience(self._url, _SOCKET_TIMEOUT), **(_OPTIONS if is_redis(self._url) else {})},
        )
        connection.ensure_connection(max_retries=1, interval_start=0.05, interval_step=0, interval_max=0.05)
        self._producer = Producer(connection.default_channel, auto_declare=False)
        self._transport = connection.transport.driver_type
        self._declared = set()
        self._pid = os.getpid()

    def _publish(self, messages: Sequence[TaskMessage]) -> None:
        if self._producer is None or self._pid != os.getpid():
            self._connect()
        for lane in {message.lane for message in messages} - self._declared:
            self._declare(lane)
        if len(messages) == 1:
            self._publish_one(messages[0])
            return
        with self._producer.batch():
            for message in messages:
                self._publish_one(message)

    def _publish_one(self, message: TaskMessage) -> None:
        headers = _headers(message)
        self._producer.publish(
            json.dumps((message.args, {}, _NO_EMBED)),
            exchange="",  # straight to the queue: works even if the broker lost its bindings
            routing_key=queue_name(message.lane),
            content_type="application/json",
            content_encoding="utf-8",
            priority=wire_priority(message.priority, self._transport),
            delivery_mode=2,
            correlation_id=headers["id"],
            headers=headers,
        )


def _headers(message: TaskMessage) -> dict[str, Any]:
    task_id = str(new_token())
    return {
        "lang": "py",
        "task": message.task,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "shadow": message.shadow,
        "retries": 0,
        "eta": None,
        "expires": None,
        # Mostly none: each sets a timer, and a cancelled timer stays in memory until it would have fired.
        "timelimit": message.limits,
        KILL_AFTER: message.kill_after,
        "argsrepr": repr(tuple(message.args)),
        "kwargsrepr": "{}",
        "origin": "agentflow",
        "ignore_result": True,
    }


@cache
def publisher() -> Publisher:
    """The publisher of this process."""
    return Publisher(settings().broker())


class Publishable(Protocol):
    """What publishing must know of a run: a worker's `RunContext`, or a `PublishedRun`."""

    @property
    def run_id(self) -> UUID: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def priority(self) -> int: ...


class PublishedRun(NamedTuple):
    """A run whose node executions are published, which also wakes its watchers.

    `priority`: 0 to 9; a node's own overrides it. `owner_id`: whose it is; None: live processes are to look it up.
    """

    run_id: UUID
    plan: Plan
    priority: int
    owner_id: UUID | None = None


def publish(run: Publishable, ready: Sequence[Ready]) -> bool:
    """Publish node executions of `run` that became QUEUED. Returns whether the broker accepted them.

    Names, lanes and timeouts come from the run's plan.
    """
    if isinstance(run, PublishedRun):  # a worker's `RunContext` wakes by itself, and knows for whom
        wake(run.run_id, run.owner_id, run.plan.graph_id)
    if not ready:
        return True
    plan, priority = run.plan, run.priority
    run_id, messages = str(run.run_id), []
    for node_number, idx in ready:
        node = plan.nodes[node_number]
        own = node.settings.priority
        messages.append(
            TaskMessage(
                EXECUTE,
                node.lane,
                [run_id, node_number, idx],
                node.block_name,
                priority if own is None else own,
                (node.timeout or settings().node_timeout) + KILL_GRACE,
            )
        )
    return publisher().send(messages)


def publish_finaliser(run_id: UUID, *, again: bool = False) -> bool:
    """Enqueue the finaliser of a run; duplicates are harmless. `again`: an earlier try may have killed its process."""
    args = [str(run_id), True] if again else [str(run_id)]
    return publisher().send([TaskMessage(FINALISE, "default", args, FINALISE, MOST_URGENT, None)])


def publish_examination(run_id: UUID) -> bool:
    """Have moderation examine what a run is given; duplicates are harmless."""
    return publisher().send([TaskMessage(EXAMINE, "default", [str(run_id)], EXAMINE, MOST_URGENT, None)])


def publish_channels(channel_ids: Sequence[UUID], limits: tuple[float, float]) -> bool:
    """Have workers deliver what is due at these channels; duplicates are harmless. `limits`: soft and hard, seconds."""
    soft, hard = limits
    return publisher().send([
        TaskMessage(NOTIFY, NOTIFICATIONS, [str(one)], NOTIFY, MOST_URGENT // 2, None, (hard, soft))
        for one in channel_ids
    ])  # fmt: skip


def waiting_channels() -> int | None:
    """The number of messages that wait for workers to deliver notifications; None if the broker is unreachable."""
    return publisher().depth((NOTIFICATIONS,))


def backlog() -> int | None:
    """The number of messages that wait in the default lanes; None if the broker is unreachable."""
    return publisher().depth(LANES)
