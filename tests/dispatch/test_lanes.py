"""A lane is called the same by a graph and by who starts a worker."""

from typing import Any

import pytest
from celery import Celery
from celery.utils.text import str_to_list

from agentflow.dispatch.lanes import LANES, MOST_URGENT, lane_queue, queue, queue_name
from agentflow.worker.queues import LaneAMQP


@pytest.fixture
def queues() -> Any:
    """Those of a worker, as the app declares them."""
    made = Celery("lanes", amqp=LaneAMQP, set_as_current=False)
    made.conf.update(task_queues=[queue(lane) for lane in LANES], task_queue_max_priority=MOST_URGENT)
    return made.amqp.queues


def test_a_lane_and_its_queue_mean_the_same() -> None:
    assert lane_queue("gpu") == lane_queue("agentflow.gpu") == queue_name("gpu")


@pytest.mark.parametrize("named", ["gpu,io", "agentflow.gpu,agentflow.io", ["gpu", "agentflow.io"]])
def test_a_worker_is_told_its_lanes_by_either_name(queues: Any, named: str | list[str]) -> None:
    queues.select(str_to_list(named))
    assert set(queues.consume_from) == {"agentflow.gpu", "agentflow.io"}


def test_a_worker_is_told_what_lanes_to_leave_out_and_serves_all_by_default(queues: Any) -> None:
    queues.select(None)
    assert set(queues.consume_from) == {queue_name(lane) for lane in LANES}
    queues.deselect(["cpu"])
    assert set(queues.consume_from) == {"agentflow.default", "agentflow.io"}
