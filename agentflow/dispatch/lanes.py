"""Which queues are there? One a lane; a worker subscribes to lanes.

`agentflow.<lane>` is the name of the broker's queue. A worker consumes the lanes of `LANES` unless it is started with
`-Q`; a node that names another lane waits until a worker subscribes to it.
"""

from kombu import Exchange, Queue

LANES = ("default", "io", "cpu")
"""The lanes that every worker serves by default."""

MOST_URGENT = 9
"""Priorities are 0 to 9, each a level of its own, for people and in RabbitMQ; Redis as kombu uses it has it the other
way round, and there each level is a list (`transport.py`)."""

_EXCHANGE = Exchange("agentflow", type="direct", durable=True)


def queue_name(lane: str) -> str:
    """The name of the lane's queue at the broker."""
    return f"agentflow.{lane}"


def lane_queue(name: str) -> str:
    """The queue that somebody means who says `name`: a lane (`gpu`), or the queue itself (`agentflow.gpu`)."""
    return name if name.startswith(queue_name("")) else queue_name(name)


def queue_lane(name: str) -> str:
    """The lane of a queue of the broker's."""
    return name.removeprefix(queue_name(""))


def queue(lane: str) -> Queue:
    """The lane's queue, declared alike by who publishes and who consumes."""
    name = queue_name(lane)
    return Queue(name, _EXCHANGE, routing_key=name, durable=True, max_priority=MOST_URGENT)


def wire_priority(priority: int, transport: str) -> int:
    """`priority` (9 is most urgent) as the transport counts it."""
    return MOST_URGENT - priority if transport == "redis" else priority
