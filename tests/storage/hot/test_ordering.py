"""In which order values arrive: the clauses on order, one a test."""

from collections.abc import Callable

import pytest
from driver import Driver
from plans import plan_of
from sqlalchemy import func, update
from sqlalchemy.orm import Session

from agentflow.engine.settlement import FLUSHED, Transition, WaitFor
from agentflow.graph.plan import Plan
from agentflow.graph.settings import NodeSettings
from agentflow.storage.runs import Ready
from agentflow.storage.tables import NodeExecution, Wait

Drive = Callable[[Plan], Driver]

LINE = plan_of((0, "x", 1, "a"), (1, "x", 2, "a"), nodes=3)
"""Node 0 gives node 1 its values, node 1 gives node 2 what comes of them."""

RETRY = Transition.retried("transient", "try again", 3600)
WAIT = Transition.waiting(WaitFor("timer", "", 3600, {}))


@pytest.fixture
def at_once(session_of: Callable[[], Session]) -> Callable[[Driver], None]:
    """`at_once(driver)`: what a retry of 1/1 waits for, or 1/1 itself, is due now."""

    def come(driver: Driver) -> None:
        with session_of() as session, session.begin():
            due = NodeExecution.due_at.is_not(None)
            session.execute(update(NodeExecution).where(due).values(due_at=func.agentflow_now()))
            session.execute(update(Wait).values(until=func.agentflow_now()))
        driver.hot.wake_due(driver.key(1, 1))

    return come


def begun(drive: Drive, plan: Plan = LINE, count: int = 3) -> Driver:
    """Node 1 has `count` executions, all of them ready."""
    driver = drive(plan)
    driver.run(0, 1, *(("x", number) for number in range(1, count + 1)))
    return driver


def test_outputs_of_one_execution_arrive_in_the_order_in_which_they_were_yielded(drive: Drive) -> None:
    driver = drive(plan_of((0, "x", 1, "a"), (0, "y", 1, "a"), nodes=2))
    give = driver.yields(0)
    give(("y", 1), ("x", 2), ("x", 3), ("y", 4))
    give(("x", 5))
    give(("y", 6), ("x", 7))
    assert driver.arrived(1, "a") == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("pins", "arrive"), [(("x", "x_#_k"), [{"k": 5}, 5]), (("x_#_k", "x"), [5, {"k": 5}])])
def test_a_value_goes_out_on_each_link_of_its_pin_in_the_order_of_the_links(
    drive: Drive, pins: tuple[str, str], arrive: list[object]
) -> None:
    driver = drive(plan_of(*((0, pin, 1, "a") for pin in pins), nodes=2))
    driver.run(0, 1, ("x", {"k": 5}))
    assert driver.arrived(1, "a") == arrive


def test_what_is_yielded_goes_out_before_its_execution_has_ended(drive: Drive) -> None:
    driver = drive(LINE)
    assert driver.yields(0)(("x", 1)).ready == [Ready(1, 1)]
    assert driver.at(0) == {1: ("RUNNING", {})}


def test_execution_k_is_delivered_before_the_next_even_if_it_is_done_later(drive: Drive) -> None:
    driver = begun(drive)
    tokens = [driver.claim(1, index)[0] for index in (1, 2, 3)]
    assert driver.settle(1, 3, tokens[2], ("x", "third")).ready == []
    assert driver.settle(1, 2, tokens[1], ("x", "second")).ready == []
    assert driver.at(2) == {}, "they are done, and wait for their turn"
    assert driver.settle(1, 1, tokens[0], ("x", "first")).ready == [Ready(2, 1), Ready(2, 2), Ready(2, 3)]
    assert driver.arrived(2, "a") == ["first", "second", "third"]


def test_executions_of_one_node_may_run_at_the_same_time(drive: Drive) -> None:
    driver = begun(drive)
    assert [driver.claim(1, index)[1].verdict for index in (3, 1, 2)] == ["claimed"] * 3


@pytest.mark.parametrize("kept", ["retry", "wait", "lost lease"])
def test_a_retry_a_wait_and_a_lost_worker_hold_back_what_lies_behind(drive: Drive, kept: str) -> None:
    driver = begun(drive)
    token, _ = driver.claim(1, 1)
    driver.settle(1, 1, token, ("x", "first"), change=FLUSHED)
    if kept == "lost lease":
        driver.return_lease(1, 1, token)
    else:
        driver.settle(1, 1, token, first=1, change=RETRY if kept == "retry" else WAIT)
    assert driver.run(1, 2, ("x", "second")).ready == []
    assert driver.run(1, 3, ("x", "third")).ready == []
    assert driver.arrived(2, "a") == ["first"], "what it yielded itself has gone out"


@pytest.mark.parametrize("kept", ["retry", "wait"])
def test_what_was_held_back_goes_out_when_that_has_ended(drive: Drive, kept: str, at_once: Callable[..., None]) -> None:
    driver = begun(drive, count=2)
    driver.run(1, 1, change=RETRY if kept == "retry" else WAIT)
    driver.run(1, 2, ("x", "second"))
    at_once(driver)
    assert driver.run(1, 1, ("x", "first")).ready == [Ready(2, 1), Ready(2, 2)]
    assert driver.arrived(2, "a") == ["first", "second"]


def test_a_failed_execution_gives_its_turn_to_the_next(drive: Drive) -> None:
    driver = begun(drive, count=2)
    assert driver.run(1, 2, ("x", "second")).ready == []
    assert driver.run(1, 1, change=Transition.failed("block", "broken")).ready == [Ready(2, 1)]
    assert driver.arrived(2, "a") == ["second"]


def test_between_different_nodes_that_feed_one_pin_arrival_decides(drive: Drive) -> None:
    driver = drive(plan_of((0, "x", 2, "a"), (1, "y", 2, "a"), nodes=3))
    give, give_other = driver.yields(0), driver.yields(1)
    give_other(("y", 1))
    give(("x", 2), ("x", 3))
    give_other(("y", 4))
    assert driver.arrived(2, "a") == [1, 2, 3, 4]


def test_arrival_order_gives_the_order_across_executions_up_but_not_within_one(drive: Drive) -> None:
    settings = {1: NodeSettings(ordering="arrival")}
    driver = begun(drive, plan_of((0, "x", 1, "a"), (1, "x", 2, "a"), nodes=3, settings=settings), count=2)
    driver.claim(1, 1)
    assert driver.run(1, 2, ("x", "2a"), ("x", "2b")).ready == [Ready(2, 1), Ready(2, 2)]
    assert driver.arrived(2, "a") == ["2a", "2b"]
