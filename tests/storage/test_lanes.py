"""Nodes whose executions only wait for a worker are told from those that wait for something else."""

from collections.abc import Callable

from plans import plan_of
from sqlalchemy.orm import Session

from agentflow.engine.settlement import Transition
from agentflow.storage.lanes import ready


def test_only_what_is_due_and_neither_held_nor_claimed_waits_for_a_worker(
    drive, session_of: Callable[[], Session]
) -> None:
    driver = drive(plan_of((0, "x", 1, "a"), (0, "x", 2, "a"), (0, "x", 3, "a"), nodes=4))

    def found() -> frozenset[int]:
        with session_of() as session:
            return ready(session, driver.run_id)

    assert found() == {0}
    driver.run(0, 1, ("x", 1))
    assert found() == {1, 2, 3}
    driver.claim(2, 1)
    driver.run(3, 1, change=Transition.retried("transient", "again", 3600))
    assert found() == {1}
