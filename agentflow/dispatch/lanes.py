"""Maps lanes to the broker's queues, `agentflow.<lane>`.

A worker consumes the lanes of `LANES` unless it is started with `-Q`. A node that names another lane waits until a
worker subscribes to it.
"""

from kombu import Exchange, Queue

from agentflow.graph.names import RESERVED_LANE

LANES = ("default", "io", "cpu")
"""The lanes that every worker serves by default."""

NOTIFICATIONS = RESERVED_LANE
"""The lane of what delivers notifications, which every worker serves by default, too. No graph may name it."""

MOST_URGENT = 9
"""Priorities are 0 to 9 and each is a separate level, for users as in RabbitMQ. kombu's Redis transport reverses the
order, and there each level is a list (`transport.py`)."""

_EXCHANGE = Exchange("agentflow", type="direct", durable=True)


def queue_name(lane: str) -> str:
    """The name of the lane's queue at the broker."""
    return f"agentflow.{lane}"


def lane_queue(name: str) -> str:
    """The queue for `name`, which is a lane (`gpu`) or already a queue (`agentflow.gpu`)."""
    return name if name.startswith(queue_name("")) else queue_name(name)


def queue_lane(name: str) -> str:
    """The lane of one of the broker's queues."""
    return name.removeprefix(queue_name(""))


def queue(lane: str) -> Queue:
    """The lane's queue. Publishers and consumers must declare it identically."""
    name = queue_name(lane)
    return Queue(name, _EXCHANGE, routing_key=name, durable=True, max_priority=MOST_URGENT)


def wire_priority(priority: int, transport: str) -> int:
    """`priority` (9 is most urgent) as the transport numbers it."""
    return MOST_URGENT - priority if transport == "redis" else priority
