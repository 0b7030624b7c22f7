"""Work in a queue that no worker serves says so, and goes on as soon as one comes."""

import pytest
from celery import Celery
from fleet import Fleet, graph, link, node, until

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(120)]

IN_ITS_QUEUE = graph(
    [
        node("in", "AgentInput", name="word"),
        node("special", "StoreValue", {"queue": "special"}),
        node("out", "AgentOutput", name="word"),
    ],
    [link("in:result", "special:input"), link("special:output", "out:value")],
)


def holds(fleet: Fleet, run_id: object) -> list[str | None]:
    return [item.hold for item in fleet.client.nodes(run_id, node="special")]


def test_a_queue_that_nobody_serves_is_told_until_a_worker_serves_it(fleet: Fleet) -> None:
    accepted = fleet.client.submit_inline(IN_ITS_QUEUE, {"word": "hi"})
    (warning,) = accepted.warnings
    assert "no worker serves the queue 'special' now" in warning.message
    until(lambda: holds(fleet, accepted.id) == ["unserved"], "it is held")
    assert fleet.client.get_run(accepted.id).unserved_queues == ["special"]
    told = [reason.message for reason in fleet.client.explain(accepted.id).reasons]
    assert any("start one (`agentflow worker -Q special`)" in message for message in told)
    fleet.start_worker("-Q", "special")
    assert fleet.ended(accepted.id).outputs == {"word": ["hi"]}
    until(lambda: not fleet.client.submit_inline(IN_ITS_QUEUE, {"word": "hi"}).warnings, "it is known to be served")
    assert fleet.client.get_run(accepted.id).unserved_queues == []


def test_a_running_worker_that_is_told_to_serve_a_queue_says_so(fleet: Fleet) -> None:
    document = {
        **IN_ITS_QUEUE,
        "nodes": [
            {**one, "settings": {"queue": "later"} if "settings" in one else {}} for one in IN_ITS_QUEUE["nodes"]
        ],
    }
    run_id = fleet.submit(document, {"word": "hi"})
    until(lambda: holds(fleet, run_id) == ["unserved"], "it is held")
    with Celery("operator", broker=fleet.broker_url, set_as_current=False) as operator:
        operator.control.add_consumer("agentflow.later")
    assert fleet.ended(run_id).outputs == {"word": ["hi"]}
    until(lambda: not fleet.client.submit_inline(document, {"word": "hi"}).warnings, "it is known to be served")
