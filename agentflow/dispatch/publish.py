"""How are ready node executions published? All of them in one broker round trip, as Celery messages with ids only.

A failure here is no failure of the run: the rows are QUEUED in PostgreSQL, and recovery publishes them. So nothing in
this module raises; it logs, and says False.

The messages are built here rather than by `Task.apply_async`: the API publishes without the worker's code, and building
signatures is most of what `apply_async` costs. The format is Celery's task protocol 2
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
from agentflow.dispatch.lanes import LANES, MOST_URGENT, queue_name, wire_priority
from agentflow.dispatch.transport import install
from agentflow.graph.plan import Plan
from agentflow.ids import new_token
from agentflow.logs import log_outage
from agentflow.settings import settings
from agentflow.storage.runs import Ready

logger = logging.getLogger(__name__)

EXECUTE: Final = "agentflow.execute"
FINALISE: Final = "agentflow.finalise_run"
"""The names of the two Celery tasks (`worker/tasks.py`)."""

KILL_AFTER: Final = "kill_after"
"""The header that tells a worker's main process when to kill a child that is at the task, in seconds."""

KILL_GRACE = 10.0
"""Seconds after its timeout in which a block may still end by itself; then its process is killed."""

_SOCKET_TIMEOUT = 2.0  # seconds; a broker that hangs must not hold up a settle, nor the keeper beyond its leases
_AWAY = 1.0  # seconds in which a broker that has just failed is not tried again: nobody shall queue up behind it
_OPTIONS = {
    "socket_timeout": _SOCKET_TIMEOUT,
    "socket_connect_timeout": _SOCKET_TIMEOUT,
    "socket_keepalive": True,
    # Taken by kombu when it connects anew by itself; its default would hold a submission up for seconds.
    "max_retries": 1,
    "interval_start": 0.05,
    "interval_step": 0,
    "interval_max": 0.05,
}
_NO_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class TaskMessage(NamedTuple):
    """One message to Celery. `priority`: 9 is most urgent; `kill_after`: seconds after which its process is killed."""

    task: str
    lane: str
    args: list[Any]
    shadow: str
    priority: int
    kill_after: float | None


class Publisher:
    """One connection to the broker, for all threads of a process, made at the first message."""

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        self._lock = threading.Lock()
        self._pid = 0
        self._producer: Any = None
        self._declared: set[str] = set()
        self._away_until = 0.0

    def send(self, messages: Sequence[TaskMessage]) -> bool:
        """Publish messages in one round trip; whether the broker has taken them."""
        if not messages:
            return True
        with self._lock:
            if monotonic() < self._away_until:
                return False
            try:
                self._publish(messages)
            except Exception as error:  # whatever the broker's client raises: the rows stay QUEUED, recovery rings
                log_outage(logger, "publish_failed", error)
                self._forget()
                return False
        return True

    def depth(self, lanes: Sequence[str]) -> int | None:
        """How many messages wait in these lanes; None where the broker cannot be asked."""
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
        """Make sure that the lane's queue is there; how many messages it holds."""
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
            transport_options=_OPTIONS if self._url.startswith("redis") else {},
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
            exchange="",  # straight to the queue: a broker that lost its bindings still takes it
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
        # None of Celery's: for each it would set a timer, and a timer that is cancelled stays until it would have rung.
        "timelimit": [None, None],
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
    """A run whose node executions are published. `priority`: 0 to 9; a node's own overrides it."""

    run_id: UUID
    plan: Plan
    priority: int


def publish(run: Publishable, ready: Sequence[Ready]) -> bool:
    """Publish node executions of `run` that became QUEUED; whether the broker has taken them.

    Names, lanes and timeouts come from the run's plan.
    """
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


def ring_finaliser(run_id: UUID, *, again: bool = False) -> bool:
    """Enqueue the completion callback of a run; more than once is harmless. `again`: a process may have died of it."""
    args = [str(run_id), True] if again else [str(run_id)]
    return publisher().send([TaskMessage(FINALISE, "default", args, FINALISE, MOST_URGENT, None)])


def backlog() -> int | None:
    """How many messages wait in the default lanes for a worker to take them; None where the broker is away."""
    return publisher().depth(LANES)
