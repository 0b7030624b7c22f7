"""What claim, settle, release, lose, renew and stop promise, one promise a test."""

import random
import threading
from collections.abc import Callable
from uuid import UUID

import pytest
from driver import Driver
from plans import plan_of
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from agentflow.engine.codec import dumps
from agentflow.engine.settlement import FLUSHED, Transition
from agentflow.engine.statuses import RunStatus
from agentflow.engine.verdict import Verdict
from agentflow.errors import AlreadyEnded, EngineError, NotFound, Unavailable
from agentflow.graph.plan import Plan
from agentflow.ids import new_id, new_token
from agentflow.storage import runs
from agentflow.storage.hot.node_executions import Held, HotConnection
from agentflow.storage.runs import Ready
from agentflow.storage.tables import Delivery, Event, NodeExecution, Output, Run

Start = Callable[..., tuple[UUID, list[Ready]]]
Sessions = Callable[[], Session]

PAIR = plan_of((0, "x", 1, "a"), nodes=2)
FAN = plan_of((0, "x", 1, "a"), (1, "x", 2, "a"), nodes=3)


def rows(session_of: Sessions, table: type, run_id: UUID) -> int:
    with session_of() as session:
        return session.scalar(select(func.count()).select_from(table).where(table.run_id == run_id)) or 0


def test_only_one_of_two_claims_gets_it(drive: Callable[[Plan], Driver]) -> None:
    driver = drive(PAIR)
    assert driver.claim(0, 1)[1].verdict == "claimed"
    assert driver.claim(0, 1)[1].verdict == "gone"


def test_the_first_claim_makes_the_run_running_and_says_so(
    drive: Callable[[Plan], Driver], session_of: Sessions
) -> None:
    driver = drive(PAIR)
    driver.run(0, 1, ("x", 1))
    driver.claim(1, 1)
    with session_of() as session:
        run = session.get_one(Run, driver.run_id)
        assert (run.status, run.started_at is not None) == (RunStatus.RUNNING, True)
        events = session.execute(
            select(Event.kind, Event.status, Event.node).where(Event.run_id == driver.run_id).order_by(Event.id)
        ).all()
    assert [tuple(event) for event in events] == [
        ("run", "QUEUED", None),
        ("run", "RUNNING", None),
        ("claimed", "RUNNING", 0),
        ("settled", "COMPLETED", 0),
        ("claimed", "RUNNING", 1),
    ]


def test_a_value_reaches_its_sink_unaltered(drive: Callable[[Plan], Driver]) -> None:
    driver = drive(PAIR)
    value = {"z": 1, "a": [2**80, "NUL \x00", None, {"deep": "é"}]}
    driver.run(0, 1, ("x", value))
    claimed = driver.claim(1, 1)[1]
    assert claimed.inputs == '{"a":' + dumps(value) + "}"


def test_a_late_worker_cannot_settle(drive: Callable[[Plan], Driver], session_of: Sessions) -> None:
    driver = drive(PAIR)
    late, _ = driver.claim(0, 1)
    driver.return_lease(0, 1, late, bearable=3)
    current, _ = driver.claim(0, 1)
    assert driver.settle(0, 1, late, ("x", "late")).verdict == "lost"
    assert driver.settle(0, 1, current, ("x", "current")).verdict == "landed"
    assert rows(session_of, Output, driver.run_id) == 1


def test_a_settle_whose_reply_was_lost_lands_once(drive: Callable[[Plan], Driver], session_of: Sessions) -> None:
    driver = drive(PAIR)
    token, _ = driver.claim(0, 1)
    assert driver.settle(0, 1, token, ("x", 1)).ready == [Ready(1, 1)]
    again = driver.settle(0, 1, token, ("x", 1))
    assert (again.verdict, again.ready) == ("landed", [])
    assert rows(session_of, Delivery, driver.run_id) == 1


def test_a_flush_sent_twice_lands_once(drive: Callable[[Plan], Driver], session_of: Sessions) -> None:
    driver = drive(PAIR)
    token, _ = driver.claim(0, 1)
    assert driver.settle(0, 1, token, ("x", 1), change=FLUSHED).ready == [Ready(1, 1)]
    assert driver.settle(0, 1, token, ("x", 1), change=FLUSHED).ready == []
    assert driver.settle(0, 1, token, ("x", 2), first=1).ready == [Ready(1, 2)]
    assert rows(session_of, Output, driver.run_id) == 2


def test_an_attempt_goes_on_behind_what_an_earlier_one_had_stored(drive: Callable[[Plan], Driver]) -> None:
    driver = drive(PAIR)
    token, _ = driver.claim(0, 1)
    driver.settle(0, 1, token, ("x", 1), ("x", 2), change=FLUSHED)
    driver.return_lease(0, 1, token, bearable=3)
    token, claimed = driver.claim(0, 1)
    assert (claimed.emitted, claimed.attempt, claimed.losses) == (2, 2, 1)
    assert driver.settle(0, 1, token, ("x", 3), first=2).ready == [Ready(1, 3)]


def test_what_a_later_execution_flushed_goes_out_when_its_turn_comes(drive: Callable[[Plan], Driver]) -> None:
    driver = drive(FAN)
    driver.run(0, 1, ("x", 1), ("x", 2), ("x", 3))
    first, _ = driver.claim(1, 1)
    second, _ = driver.claim(1, 2)
    assert driver.settle(1, 2, second, ("x", "2a"), change=FLUSHED).ready == []
    assert driver.run(1, 3, ("x", "3a")).ready == []
    assert driver.settle(1, 1, first, ("x", "1a")).ready == [Ready(2, 1), Ready(2, 2)]
    assert driver.settle(1, 2, second, ("x", "2b"), first=1).ready == [Ready(2, 3), Ready(2, 4)]
    inputs = [driver.claim(2, idx)[1].inputs for idx in range(1, 5)]
    assert inputs == ['{"a":"1a"}', '{"a":"2a"}', '{"a":"2b"}', '{"a":"3a"}']


def test_a_long_queue_behind_one_execution_is_released_in_bounded_steps(drive: Callable[[Plan], Driver]) -> None:
    driver = drive(FAN)
    count = 600
    driver.run(0, 1, *(("x", number) for number in range(count)))
    first, _ = driver.claim(1, 1)
    for idx in range(2, count + 1):
        assert driver.run(1, idx, ("x", idx)).ready == []
    settled = driver.settle(1, 1, first, ("x", 1))
    released, release_after, calls = list(settled.ready), settled.release_after, 0
    while release_after is not None:
        more, release_after = driver.hot.release(driver.key(1, release_after))
        released += more
        calls += 1
    assert released == [Ready(2, idx) for idx in range(1, count + 1)]
    assert calls == 2


def test_a_retry_is_not_claimed_before_it_is_due(drive: Callable[[Plan], Driver], session_of: Sessions) -> None:
    driver = drive(PAIR)
    token, _ = driver.claim(0, 1)
    assert driver.settle(0, 1, token, change=Transition.retried("transient", "try again", 3600)).verdict == "landed"
    assert driver.claim(0, 1)[1].verdict == "gone"
    assert not driver.hot.quiescent(driver.run_id)
    with session_of() as session, session.begin():
        session.execute(update(NodeExecution).values(due_at=func.agentflow_now()))
    assert driver.claim(0, 1)[1][1:5] == (2, 0, 1, 0)  # second attempt, nothing emitted, one failure, no loss


def test_two_last_settles_do_not_miss_the_end(database_url: str, start: Start, session_of: Sessions) -> None:
    plan = plan_of((0, "x", 2, "a"), (1, "x", 2, "b"), nodes=3)  # two starting nodes that yield nothing
    for _ in range(20):
        run_id, _ = start(plan)
        barrier = threading.Barrier(2)
        noticed: list[bool] = []

        def last(
            node: int, run_id: UUID = run_id, barrier: threading.Barrier = barrier, noticed: list[bool] = noticed
        ) -> None:
            hot = HotConnection(database_url)
            driver = Driver(hot, session_of, plan, run_id)
            token, _ = driver.claim(node, 1)
            barrier.wait(timeout=10)
            driver.settle(node, 1, token)
            noticed.append(hot.quiescent(run_id))
            hot.close()

        threads = [threading.Thread(target=last, args=(node,)) for node in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        assert any(noticed)


def test_nothing_starts_after_a_stop_and_a_running_attempt_lands_as_cancelled(
    drive: Callable[[Plan], Driver], session_of: Sessions
) -> None:
    driver = drive(FAN)
    driver.run(0, 1, ("x", 1), ("x", 2))
    token, _ = driver.claim(1, 1)
    with session_of() as session, session.begin():
        assert runs.stop(session, driver.run_id, RunStatus.CANCELLED, "user") == ("stopped", 1)
    with session_of() as session, session.begin():
        assert runs.stop(session, driver.run_id, RunStatus.FAILED, "timeout") == ("already", 1), "the first stop wins"
    assert driver.claim(1, 2)[1].verdict == "stopped"
    assert driver.settle(1, 1, token, ("x", 1), change=FLUSHED).verdict == "stopped"
    assert driver.settle(1, 1, token, ("x", 1)).verdict == "stopped"
    assert driver.hot.quiescent(driver.run_id)
    with session_of() as session:
        statuses = session.execute(
            select(NodeExecution.node, NodeExecution.idx, NodeExecution.status)
            .where(NodeExecution.run_id == driver.run_id)
            .order_by(NodeExecution.node, NodeExecution.idx)
        ).all()
    assert [tuple(row) for row in statuses] == [(0, 1, "COMPLETED"), (1, 1, "CANCELLED"), (1, 2, "CANCELLED")]
    assert rows(session_of, Output, driver.run_id) == 2


def test_what_comes_back_after_a_stop_is_closed(drive: Callable[[Plan], Driver], session_of: Sessions) -> None:
    driver = drive(PAIR)
    token, _ = driver.claim(0, 1)
    with session_of() as session, session.begin():
        runs.stop(session, driver.run_id, RunStatus.CANCELLED, "user")
    assert driver.return_lease(0, 1, token, bearable=3).verdict == "stopped"
    assert driver.claim(0, 1)[1].verdict == "stopped"
    assert driver.hot.quiescent(driver.run_id)


def test_a_stop_between_the_look_and_the_end_is_heeded(drive: Callable[[Plan], Driver], session_of: Sessions) -> None:
    driver = drive(plan_of(nodes=1))
    driver.run(0, 1)
    census = driver.hot.rest(driver.run_id).census
    assert census is not None
    with session_of() as session, session.begin():
        runs.stop(session, driver.run_id, RunStatus.CANCELLED, "user")
    completed = Verdict(RunStatus.COMPLETED, None, None, {})
    assert not driver.hot.finish(driver.run_id, census, completed, may_grow=False).done
    stopped = driver.hot.rest(driver.run_id).census
    assert stopped is not None
    assert stopped.stop == (RunStatus.CANCELLED, "user")


def test_an_ended_or_unknown_run_cannot_be_stopped(drive: Callable[[Plan], Driver], session_of: Sessions) -> None:
    driver = drive(plan_of(nodes=1))
    driver.run(0, 1)
    census = driver.hot.rest(driver.run_id).census
    assert census is not None
    completed = Verdict(RunStatus.COMPLETED, None, None, {})
    assert driver.hot.finish(driver.run_id, census, completed, may_grow=False).done
    assert not driver.hot.finish(driver.run_id, census, completed, may_grow=False).done, "a run ends once"
    assert driver.hot.rest(driver.run_id).verdict == "busy"
    with session_of() as session, session.begin():
        with pytest.raises(AlreadyEnded):
            runs.stop(session, driver.run_id, RunStatus.CANCELLED, "user")
        with pytest.raises(NotFound):
            runs.stop(session, new_id(), RunStatus.CANCELLED, "user")


def test_a_lease_lost_too_often_goes_to_who_took_it_away(drive: Callable[[Plan], Driver]) -> None:
    driver = drive(PAIR)
    for _ in range(2):
        token, _ = driver.claim(0, 1)
        assert driver.return_lease(0, 1, token, bearable=2)[0] == "queued"
    token, _ = driver.claim(0, 1)
    taken = new_token()
    assert driver.return_lease(0, 1, token, bearable=2, new=taken) == ("poisoned", 0, 3, None, 0)
    assert driver.settle(0, 1, token, ("x", 1)).verdict == "lost"
    assert driver.settle(0, 1, taken, change=Transition.failed("worker_lost", "lost")).verdict == "landed"


def test_recovery_sees_what_is_overdue_and_only_that(drive: Callable[[Plan], Driver], hot: HotConnection) -> None:
    driver = drive(plan_of(nodes=3))
    driver.claim(0, 1, lease=1)
    driver.claim(1, 1, lease=3600)
    assert hot.overdue(15, 100, False, True) == []
    hot._connection.execute("SET agentflow.clock_offset = '10 seconds'")
    found = {(item.action, item.key.node) for item in hot.overdue(15, 100, False, True)}
    assert found == {("return", 0), ("publish", 2)}
    assert hot.overdue(15, 100, False, True) == [], "what was found is put off"


def test_what_waits_behind_others_at_the_broker_is_not_rung_before_long(
    drive: Callable[[Plan], Driver], hot: HotConnection
) -> None:
    drive(plan_of(nodes=1))
    hot._rows("stop_flag", [new_id()])  # opens the connection
    hot._connection.execute("SET agentflow.clock_offset = '10 seconds'")
    assert hot.overdue(15, 100, True, True) == []
    assert hot.overdue(15, 100, False, True) == [], "it is put off"
    assert hot.check_now(100) == 1
    assert [item.action for item in hot.overdue(15, 100, False, True)] == ["publish"], "the broker's queues are empty"
    assert hot.check_now(100) == 0, "it was rung"
    hot._connection.execute("SET agentflow.clock_offset = '200 seconds'")
    assert [item.action for item in hot.overdue(15, 100, True, True)] == ["publish"], "it has waited for long"


def test_leases_are_renewed_for_their_holder_only(drive: Callable[[Plan], Driver], session_of: Sessions) -> None:
    driver = drive(plan_of(nodes=2))
    driver.claim(0, 1, lease=1, holder="host/1")
    driver.claim(1, 1, lease=1, holder="host/2")
    held = [Held("host/1", driver.key(0, 1)), Held("host/1", driver.key(1, 1))]
    assert driver.hot.renew(held, 900) == [(driver.key(0, 1), False)]
    with session_of() as session, session.begin():
        left = dict(
            session.execute(
                select(NodeExecution.node, func.extract("epoch", NodeExecution.lease_until - func.agentflow_now()))
            ).all()
        )
        runs.stop(session, driver.run_id, RunStatus.CANCELLED, "user")
    assert left[0] > 800 > 2 > left[1]
    assert driver.hot.renew(held, 900) == [(driver.key(0, 1), True)], "its block is to be stopped"


def test_a_forgotten_run_is_found(drive: Callable[[Plan], Driver], start: Start, hot: HotConnection) -> None:
    driver = drive(plan_of(nodes=1))
    busy, _ = start(driver.plan)
    driver.run(0, 1)
    assert hot.forgotten_runs(UUID(int=0), 100) == ([driver.run_id], None)
    seen, after = [], UUID(int=0)
    for _ in range(3):
        forgotten, last = hot.forgotten_runs(after, 1)
        seen += forgotten
        after = last or UUID(int=0)
    assert seen == [driver.run_id]
    assert busy not in seen


def test_a_value_for_many_sinks_is_stored_once(drive: Callable[[Plan], Driver], session_of: Sessions) -> None:
    driver = drive(plan_of(*((0, "x", sink, "a") for sink in range(1, 101)), nodes=101))
    assert len(driver.run(0, 1, ("x", "v" * 10_000)).ready) == 100
    assert rows(session_of, Output, driver.run_id) == 1
    assert rows(session_of, Delivery, driver.run_id) == 100


def test_parts_selected_by_dynamic_pins_arrive_at_their_sinks(drive: Callable[[Plan], Driver]) -> None:
    driver = drive(
        plan_of((0, "x_#_name", 1, "a"), (0, "x_$_1", 2, "a"), (0, "x", 3, "a"), (0, "x_#_none", 4, "a"), nodes=5)
    )
    assert driver.run(0, 1, ("x", {"name": "Ada"})).ready == [Ready(1, 1), Ready(3, 1)]
    assert driver.claim(1, 1)[1].inputs == '{"a":"Ada"}'
    assert driver.claim(3, 1)[1].inputs == '{"a":{"name":"Ada"}}'


def test_a_lease_that_was_renewed_since_it_was_seen_is_not_taken_away(drive: Callable[[Plan], Driver]) -> None:
    driver = drive(PAIR)
    token, _ = driver.claim(0, 1, lease=60)
    assert driver.return_lease(0, 1, token, expired=True).verdict == "gone"
    assert driver.settle(0, 1, token, ("x", 1)).verdict == "landed"


def test_a_lease_that_is_given_back_in_order_is_no_loss(drive: Callable[[Plan], Driver]) -> None:
    driver = drive(PAIR)
    for _ in range(5):
        token, claimed = driver.claim(0, 1)
        assert claimed.losses == 0
        assert driver.return_lease(0, 1, token, bearable=None)[0] == "queued"


def test_no_lease_counts_as_lost_while_nobody_could_renew(drive: Callable[[Plan], Driver], hot: HotConnection) -> None:
    driver = drive(plan_of(nodes=1))
    driver.claim(0, 1, lease=1)
    hot._connection.execute("SET agentflow.clock_offset = '10 seconds'")
    assert hot.overdue(15, 100, False, False) == []
    hot._connection.execute("SET agentflow.clock_offset = '12 seconds'")
    assert [item.action for item in hot.overdue(15, 100, False, True)] == ["return"], "it was put off for a second only"


def test_what_was_put_off_is_looked_at_when_its_lease_has_run_out(
    drive: Callable[[Plan], Driver], hot: HotConnection
) -> None:
    driver = drive(plan_of(nodes=1))
    hot._rows("stop_flag", [driver.run_id])  # opens the connection
    hot._connection.execute("SET agentflow.clock_offset = '6 seconds'")
    assert hot.overdue(15, 100, True, True) == [], "put off for a minute or two, behind a queue"
    driver.claim(0, 1, lease=5)
    hot._connection.execute("SET agentflow.clock_offset = '12 seconds'")
    assert [item.action for item in hot.overdue(15, 100, True, True)] == ["return"]


def test_held_back_outputs_are_no_work_for_recovery_while_their_turn_has_not_come(
    drive: Callable[[Plan], Driver], hot: HotConnection
) -> None:
    driver = drive(FAN)
    driver.run(0, 1, ("x", 1), ("x", 2))
    driver.claim(1, 1, lease=600)
    driver.run(1, 2, ("x", "2a"))
    hot._connection.execute("SET agentflow.clock_offset = '10 seconds'")
    assert hot.overdue(15, 100, False, True) == []


def test_what_the_database_refuses_is_no_outage(drive: Callable[[Plan], Driver]) -> None:
    pin = "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FFF), k=3_000)))  # too long for an index
    driver = drive(plan_of((0, "x", 1, pin), nodes=2))
    token, _ = driver.claim(0, 1)
    with pytest.raises(EngineError) as refused:
        driver.settle(0, 1, token, ("x", 1))
    assert not isinstance(refused.value, Unavailable)
    assert driver.settle(0, 1, token, change=Transition.failed("system", "refused")).verdict == "landed"
