"""What is ready in a lane that no worker serves says so, waits for one to come, and ends FAILED after a time."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from probes import Chain, Outputs, Probe, Rows, Statuses, owner_of, passes
from sqlalchemy import text
from steps import execute

from agentflow.dispatch.lanes import queue_name
from agentflow.errors import NotFound
from agentflow.services import cancellation, lanes, node_executions
from agentflow.services import run_views as runs
from agentflow.services.cursors import PageRequest
from agentflow.services.node_executions import NodeFilter
from agentflow.services.transaction import transaction
from agentflow.settings import Settings, settings
from agentflow.worker.finalise import finalise
from agentflow.worker.process import Process
from agentflow.worker.upkeep import Upkeep


class Fleet:
    """A worker's recovery, and the workers that say which lanes they serve; time goes on as the test says."""

    def __init__(self, broker: Any) -> None:
        self.process = Process()
        self.upkeep = Upkeep(self.process)
        self.seconds = 0.0
        self._broker = broker

    def wait(self, seconds: float) -> None:
        """Let time pass; recovery does a pass after it."""
        self.seconds += seconds
        self.process.hot.stop_flag(UUID(int=0))  # opens the connection
        self.process.hot._connection.execute(f"SET agentflow.clock_offset = '{self.seconds} seconds'")
        self.upkeep.recovery._backlog = 0
        self.upkeep.recovery.repair_overdue()

    def begin_anew(self) -> None:
        """Nothing has happened yet."""
        with transaction() as session:
            for table in ("node_executions", "runs", "lanes"):
                session.execute(text(f"DELETE FROM {table}"))
        self.seconds = 0.0

    def serve(self, *lanes: str) -> None:
        """A worker says which lanes it serves."""
        self.process.hot.serve(lanes)

    def messages(self, lane: str) -> int:
        """Takes all messages of a lane from the broker; how many there were."""
        count = 0
        for key in self._broker.scan_iter(f"{queue_name(lane)}*"):
            count += self._broker.llen(key)
            self._broker.delete(key)
        return count


@pytest.fixture
def fleet(environment: Settings, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setattr(settings(), "unserved_seconds", 600.0)
    with redis.Redis.from_url(broker_url) as broker:
        made = Fleet(broker)
        yield made
        made.process.hot.close()


@pytest.fixture
def told(rows: Rows) -> Callable[[UUID], tuple[list[str], list[str | None]]]:
    """The queues that the run's view names, and the holds of its node executions."""

    def ask(run_id: UUID) -> tuple[list[str], list[str | None]]:
        owner = owner_of(rows, run_id)
        with transaction() as session:
            page = node_executions.page(session, owner, run_id, NodeFilter(), PageRequest(None, 100))
            return runs.get(session, owner, run_id).unserved_queues, [item.hold for item in page.items]

    return ask


def test_a_lane_that_nobody_serves_is_told_until_a_worker_comes(
    fleet: Fleet, probe: Probe, chain: Chain, told: Callable[..., Any], statuses: Statuses
) -> None:
    run_id = chain(probe(passes), settings={"queue": "gpu"})
    fleet.serve("default", "io", "cpu")
    assert told(run_id) == (["gpu"], ["unserved"])
    fleet.serve("gpu")
    assert told(run_id) == ([], [None])
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED"}


def test_what_is_wanted_is_what_waits_now(fleet: Fleet, probe: Probe, chain: Chain, rows: Rows) -> None:
    def wanted() -> list[str]:
        with transaction() as session:
            return lanes.wanted(session)

    fleet.serve("default", "io", "cpu")
    chain(probe(passes))
    first = chain(probe(passes), settings={"queue": "gpu"})
    chain(probe(passes), settings={"queue": "far"})
    assert wanted() == [], "it has only just become ready"
    rows("UPDATE node_executions SET queued_at = queued_at - interval '10 seconds' RETURNING 1")
    assert wanted() == ["far", "gpu"]
    with transaction() as session:
        cancellation.cancel(session, owner_of(rows, first), first, "by hand")
    assert wanted() == ["far"], "nothing of a cancelled run waits"
    fleet.serve("far")
    assert wanted() == []


def test_a_run_whose_plan_cannot_be_read_hides_no_other_lane(
    fleet: Fleet, probe: Probe, chain: Chain, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.serve("default", "io", "cpu")
    broken = chain(probe(passes), settings={"queue": "gpu"})
    chain(probe(passes), settings={"queue": "far"})
    rows("UPDATE node_executions SET queued_at = queued_at - interval '10 seconds' RETURNING 1")
    real = lanes.plan_of_run

    def plan_of_run(session: Any, run: Any) -> Any:
        if run.id == broken:
            raise NotFound("its block was removed")
        return real(session, run)

    monkeypatch.setattr(lanes, "plan_of_run", plan_of_run)
    with transaction() as session:
        assert lanes.wanted(session) == ["far"]


def test_it_ends_failed_when_no_worker_has_come_for_long_enough(
    fleet: Fleet, probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, rows: Rows
) -> None:
    run_id = chain(probe(passes), probe(passes), settings={"queue": "gpu", "retry": {"max_failures": 5}}, pin="error")
    for _ in range(9):
        fleet.wait(66)
    assert statuses(run_id) == {"0/1": "QUEUED"}
    fleet.wait(300)
    assert statuses(run_id) == {"0/1": "FAILED unserved", "1/1": "QUEUED"}
    ((pin, message),) = outputs(run_id)
    assert pin == "error"
    assert message.startswith("no worker has served the queue 'gpu' for")
    assert "AGENTFLOW_UNSERVED_SECONDS" in message


def test_a_run_that_it_ends_says_why(fleet: Fleet, probe: Probe, chain: Chain, rows: Rows) -> None:
    run_id = chain(probe(passes), settings={"queue": "gpu"})
    fleet.wait(1000)
    assert finalise(run_id)
    ((status, reason, error),) = rows("SELECT status, reason, error FROM runs")
    assert (status, reason) == ("FAILED", "unserved")
    assert error.startswith("Probe0 (n0): no worker has served the queue 'gpu'")


def test_the_time_counts_from_when_the_last_worker_went(
    fleet: Fleet, probe: Probe, chain: Chain, statuses: Statuses
) -> None:
    run_id = chain(probe(passes), settings={"queue": "gpu"})
    fleet.wait(500)
    fleet.serve("gpu")
    fleet.wait(500)
    assert statuses(run_id) == {"0/1": "QUEUED"}
    fleet.wait(500)
    assert statuses(run_id) == {"0/1": "FAILED unserved"}


def test_what_waits_in_a_served_lane_is_never_given_up(
    fleet: Fleet, probe: Probe, chain: Chain, statuses: Statuses
) -> None:
    run_id = chain(probe(passes), settings={"queue": "gpu"})
    for _ in range(50):
        fleet.serve("gpu")
        fleet.wait(25)
    assert statuses(run_id) == {"0/1": "QUEUED"}


def test_messages_do_not_pile_up_where_nobody_takes_them(fleet: Fleet, probe: Probe, chain: Chain) -> None:
    chain(probe(passes), settings={"queue": "gpu"})
    fleet.messages("gpu")
    for _ in range(11):
        fleet.wait(6)
    assert 1 <= fleet.messages("gpu") <= 4
    for _ in range(20):
        fleet.wait(20)
    assert fleet.messages("gpu") == 0
    fleet.serve("gpu")
    fleet.wait(25)
    fleet.serve("gpu")
    for _ in range(13):
        fleet.serve("gpu")
        fleet.wait(25)
    assert fleet.messages("gpu") >= 1, "a broker that was emptied meanwhile has it again"


def test_a_retry_that_is_not_due_waits_for_its_time_and_not_for_a_worker(
    fleet: Fleet, probe: Probe, chain: Chain, told: Callable[..., Any]
) -> None:
    def fails(inputs: Any, context: Any) -> Any:
        raise ConnectionError("not yet")

    run_id = chain(probe(fails), settings={"queue": "gpu", "retry": {"max_failures": 3, "base": 3600, "cap": 3600}})
    execute(run_id, 0, 1)
    assert told(run_id) == ([], [None])


@given(data=st.data())
@hypothesis_settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
def test_only_what_nobody_serves_is_given_up(
    data: st.DataObject, fleet: Fleet, probe: Probe, chain: Chain, rows: Rows
) -> None:
    """Lanes come and go at random; each execution's end is as the times say."""
    lanes = ["gpu", "far", "default"]
    wanted = data.draw(st.lists(st.sampled_from(lanes), min_size=1, max_size=5))
    block = probe(passes)
    fleet.begin_anew()
    made = {chain(block, settings={"queue": lane}): lane for lane in wanted}
    last = dict.fromkeys(lanes, 0.0)
    ended: set[UUID] = set()
    for _ in range(data.draw(st.integers(1, 30))):
        served = data.draw(st.sets(st.sampled_from(lanes)))
        if served:
            fleet.serve(*served)
            last |= dict.fromkeys(served, fleet.seconds)
        fleet.wait(data.draw(st.sampled_from([5, 20, 31, 100, 310])))
        for run_id, lane in made.items():
            (row,) = rows("SELECT status, reason FROM node_executions WHERE run_id = :run", run=run_id)
            since = fleet.seconds - last[lane]
            if row == ("FAILED", "unserved"):
                assert run_id in ended or since > 600 - 1, "given up too early"
                ended.add(run_id)
            else:
                assert row == ("QUEUED", None)
                assert since < 600 + 2 * 310 + 60, "waits for ever"
