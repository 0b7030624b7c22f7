"""Lets `-Q` name queues by their lanes: `-Q gpu` serves what graphs call `gpu`, like `-Q agentflow.gpu`."""

import sys
from typing import Any

from celery.app.amqp import AMQP, Queues
from celery.utils.functional import maybe_list

from agentflow.dispatch.lanes import lane_queue, queue_lane
from agentflow.graph.names import checked_lane


def _queue(name: str) -> str:
    """The queue that is meant. One that no graph can name ends the worker, which would never get anything from it."""
    queue = lane_queue(name)
    try:
        checked_lane(queue_lane(queue))
    except ValueError as error:
        sys.exit(f"agentflow: this worker does not start: -Q {name!r}: {error}")
    return queue


class LaneQueues(Queues):  # type: ignore[misc]  # Celery has no types
    """A worker's queues, named by lane."""

    def select(self, include: str | list[str] | None) -> None:
        """Serve these lanes or queues; none: all that are declared."""
        super().select([_queue(name) for name in maybe_list(include) or ()])

    def deselect(self, exclude: str | list[str] | None) -> None:
        """Leave these out."""
        super().deselect([lane_queue(name) for name in maybe_list(exclude) or ()])


class LaneAMQP(AMQP):  # type: ignore[misc]
    """Celery's source of queues."""

    queues_cls = LaneQueues


def lanes_of(consumer: Any) -> list[str]:
    """The lanes that a worker's consumer serves now: a running worker can be told to serve more or fewer."""
    taking = consumer.task_consumer  # None while it connects anew
    names = consumer.app.amqp.queues.consume_from if taking is None else [queue.name for queue in taking.queues]
    return [queue_lane(name) for name in list(names)]
