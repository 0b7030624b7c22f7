"""Webhooks that begin runs and wake them, with real workers, of which some die."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from fleet import Fleet, graph, link, node, noted, until
from installation import CREDENTIAL_KEY
from senders import SECRET, Sent, github, stripe

from agentflow.triggers.schemas import TriggerMade

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]


@pytest.fixture
def fleet(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """An API server and two workers, which can encrypt secrets."""
    made = Fleet(database_url, broker_url, tmp_path, environment={"AGENTFLOW_CREDENTIAL_KEYS": CREDENTIAL_KEY})
    try:
        made.start_web()
        made.have_workers(2)
        yield made
    finally:
        made.stop()


def send(made: TriggerMade, sent: Sent, **headers: str) -> dict[str, Any]:
    assert made.url is not None
    reply = httpx.post(made.url, content=sent.body, headers={**sent.headers, **headers}, timeout=60)
    assert reply.status_code in (200, 202), reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def hooked(log: Path, seconds: float = 0.0) -> dict[str, Any]:
    """A webhook feeds a node that takes its time."""
    return graph(
        [
            node("hook", "GenericWebhookTrigger"),
            node("work", "TestSleep", seconds=seconds, log=str(log)),
            node("out", "AgentOutput", name="got"),
        ],
        [link("hook:payload", "work:value"), link("work:value", "out:value")],
    )


def waiting(log: Path) -> dict[str, Any]:
    """Waits for a payment, and takes its time afterwards."""
    return graph(
        [
            node("wait", "WaitForEvent", name="charge.succeeded"),
            node("work", "TestSleep", seconds=2.0, log=str(log)),
            node("out", "AgentOutput", name="got"),
        ],
        [link("wait:payload", "work:value"), link("work:value", "out:value")],
    )


def kill_who_works(fleet: Fleet, log: Path, attempts: int) -> None:
    """Kill all workers when so many attempts have begun, and start one."""
    until(lambda: len(noted(log)) == attempts, "the block runs")
    for name in list(fleet.workers):
        fleet.kill(name)
    fleet.start_worker()


def test_a_hook_begins_a_run_which_ends_although_its_worker_dies(fleet: Fleet, log: Path) -> None:
    made = fleet.client.triggers.create(
        "issues", graph_id=fleet.client.graphs.create(hooked(log, 2.0)).id, scheme="github", secret=SECRET
    )
    sent = github()
    run_id = UUID(send(made, sent)["run_id"])
    kill_who_works(fleet, log, 1)
    assert send(made, sent)["run_id"] == str(run_id)
    run = fleet.ended(run_id)
    assert (run.status, run.outputs) == ("COMPLETED", {"got": [json.loads(sent.body)]})
    assert [attempt for _, _, attempt, _ in noted(log)] == [1, 2]
    (line,) = fleet.client.triggers.deliveries(made.id)
    assert (line.outcome, line.run_id, line.repeats) == ("run", run_id, 1)


def test_the_answer_has_the_outputs_of_a_run_that_ends_in_time(fleet: Fleet, log: Path) -> None:
    made = fleet.client.triggers.create(
        "issues", graph_id=fleet.client.graphs.create(hooked(log)).id, scheme="github", secret=SECRET
    )
    sent = github()
    answer = send(made, sent, Prefer="wait=30")
    assert (answer["status"], answer["outputs"]) == ("COMPLETED", {"got": [json.loads(sent.body)]})


def test_a_run_that_waits_goes_on_with_what_a_hook_brings_although_its_worker_dies(fleet: Fleet, log: Path) -> None:
    run_id = fleet.submit(waiting(log), labels={"charge": "ch_1"})
    until(lambda: fleet.client.get_run(run_id).status == "WAITING", "it waits for the payment")
    made = fleet.client.triggers.create(
        "payments",
        scheme="stripe",
        secret=SECRET,
        signal={"name_path": "$.type", "labels": {"charge": "$.data.object.id"}},
    )
    sent = stripe()
    for outcome in ("signal", "duplicate"):
        answer = send(made, sent)
        assert (answer["outcome"], answer["run_id"]) == (outcome, str(run_id))
    kill_who_works(fleet, log, 1)
    run = fleet.ended(run_id)
    assert (run.status, run.outputs) == ("COMPLETED", {"got": [json.loads(sent.body)]})
    assert len(noted(log)) == 2


def test_many_hooks_at_once_each_begin_one_run(fleet: Fleet, log: Path) -> None:
    made = fleet.client.triggers.create(
        "orders", graph_id=fleet.client.graphs.create(hooked(log)).id, scheme="github", secret=SECRET
    )
    sent = [github({"number": number}, id=f"delivery-{number}") for number in range(20)]
    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(lambda one: send(made, one), sent * 3))
    runs = {number: {answer["run_id"] for answer in answers[number::20]} for number in range(20)}
    assert all(len(found) == 1 for found in runs.values())
    assert len(set.union(*runs.values())) == 20
    for number, found in runs.items():
        assert fleet.ended(UUID(found.pop())).outputs == {"got": [{"number": number}]}
    assert {line.repeats for line in fleet.client.triggers.deliveries(made.id)} == {2}
