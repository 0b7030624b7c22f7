"""The runs of a suspended user pause, and exactly those go on when the user is resumed."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import pytest
from following import die_after, upkeep
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from probes import Chain, Probe, Rows, Statuses, Submit, Yields, owner_of, passes
from steps import execute

from agentflow.accounts import users as accounts
from agentflow.accounts.scopes import Role
from agentflow.blocks.base import Context
from agentflow.engine.waits import ChildRun
from agentflow.services import graphs, steering, suspension, users
from agentflow.services.cancellation import cancel
from agentflow.services.transaction import carry_out, transaction
from agentflow.worker.finalise import finalise
from agentflow.worker.process import process
from agentflow.worker.upkeep import Upkeep

pytestmark = pytest.mark.timeout(120, method="thread")


def change(owner: UUID, *, suspended: bool) -> None:
    """Suspend or resume a user; nothing of theirs has followed yet."""
    with transaction() as session:
        accounts.change(session, owner, suspended=suspended)


def follow(owner: UUID) -> None:
    carry_out(users.follow(owner))


def let_time_pass(rows: Rows) -> None:
    rows(
        "UPDATE users SET suspended_at = suspended_at - interval '2 minutes' WHERE suspended_at IS NOT NULL RETURNING 1"
    )


def paused(rows: Rows) -> set[UUID]:
    return set(rows("SELECT id FROM runs WHERE paused_at IS NOT NULL"))


def marked(rows: Rows) -> set[UUID]:
    return set(rows("SELECT id FROM runs WHERE suspended"))


def test_a_run_that_is_suspended_in_mid_run_goes_on_where_it_was(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows
) -> None:
    def is_suspended(inputs: Any, context: Context) -> Yields:
        owner = owner_of(rows, context.run_id)
        change(owner, suspended=True)
        follow(owner)
        yield "value", 1

    run_id = chain(probe(is_suspended), probe(passes))
    owner = owner_of(rows, run_id)
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "QUEUED"}, "what ran finished, and nothing new began"
    assert not finalise(run_id)
    change(owner, suspended=False)
    follow(owner)
    assert (paused(rows), marked(rows)) == (set(), set())
    execute(run_id, 1, 1)
    assert finalise(run_id)
    assert rows("SELECT status FROM runs") == ["COMPLETED"]


def test_what_the_user_had_paused_stays_paused_and_anothers_runs_go_on(probe: Probe, chain: Chain, rows: Rows) -> None:
    own, theirs = chain(probe(passes)), chain(probe(passes))
    owner = owner_of(rows, own)
    carry_out(steering.pause(owner, own))
    with transaction() as session:
        other = accounts.add(session, "other", Role.MEMBER).id
    rows("UPDATE runs SET owner_id = :other WHERE id = :run RETURNING 1", other=other, run=theirs)
    third = chain(probe(passes))
    change(owner, suspended=True)
    follow(owner)
    assert (paused(rows), marked(rows)) == ({own, third}, {third})
    change(owner, suspended=False)
    follow(owner)
    assert (paused(rows), marked(rows)) == ({own}, set())


def tree(probe: Probe, chain: Chain, rows: Rows) -> tuple[UUID, UUID]:
    """A run that waits for a child run, and that one."""
    known: dict[str, str] = {}

    def parent(inputs: Any, context: Context) -> Yields:
        if context.resumed is None or context.resumed.value["status"] in ("QUEUED", "RUNNING"):
            yield ChildRun(known["graph"])  # type: ignore[misc]
        else:
            yield "value", "done"

    owner = owner_of(rows, chain(probe(passes)))
    with transaction() as session:
        document = {"name": "child", "nodes": [{"id": "x", "block_id": probe(passes)}], "links": []}
        known["graph"] = str(graphs.create(session, owner, document).id)
    root = chain(probe(parent))
    execute(root, 0, 1)
    (child,) = rows("SELECT id FROM runs WHERE parent_run_id = :run", run=root)
    return root, UUID(str(child))


def test_child_runs_pause_and_go_on_each_by_itself(probe: Probe, chain: Chain, rows: Rows) -> None:
    root, child = tree(probe, chain, rows)
    owner = owner_of(rows, root)
    carry_out(steering.pause(owner, child))
    change(owner, suspended=True)
    follow(owner)
    assert {root, child} <= paused(rows)
    assert child not in marked(rows)
    change(owner, suspended=False)
    follow(owner)
    assert paused(rows) == {child}
    carry_out(steering.resume(owner, child))
    change(owner, suspended=True)
    follow(owner)
    assert {root, child} <= marked(rows)
    change(owner, suspended=False)
    follow(owner)
    assert paused(rows) == set()


def test_a_resume_that_was_under_way_goes_on_when_the_user_is_back(probe: Probe, chain: Chain, rows: Rows) -> None:
    root, child = tree(probe, chain, rows)
    owner = owner_of(rows, root)
    carry_out(steering.pause(owner, root))
    die_after(steering.resume(owner, root), 1)
    assert paused(rows) == {child}
    change(owner, suspended=True)
    follow(owner)
    assert {root, child} <= paused(rows)
    change(owner, suspended=False)
    follow(owner)
    assert paused(rows) == {child}
    rows("UPDATE runs SET passing_down_at = now() - interval '1 hour' WHERE passing_down_at IS NOT NULL RETURNING 1")
    Upkeep(process()).recovery.pass_down()
    assert paused(rows) == set()


def test_a_run_that_begins_while_its_user_is_being_suspended_is_paused_too(
    probe: Probe, chain: Chain, rows: Rows
) -> None:
    late = chain(probe(passes))
    change(owner := owner_of(rows, late), suspended=True)
    follow(owner)
    rows("UPDATE runs SET paused_at = NULL, suspended = false RETURNING 1")  # as if it had begun only now
    upkeep(rows)
    assert late in marked(rows)
    assert rows("SELECT 1 FROM users WHERE follow_at IS NOT NULL") == [1], "more may come"
    let_time_pass(rows)
    upkeep(rows)
    assert rows("SELECT 1 FROM users WHERE follow_at IS NOT NULL") == []


def test_a_run_that_ended_meanwhile_loses_its_mark_and_stays_ended(probe: Probe, chain: Chain, rows: Rows) -> None:
    run_id = chain(probe(passes))
    owner = owner_of(rows, run_id)
    change(owner, suspended=True)
    follow(owner)
    with transaction() as session:
        cancel(session, owner, run_id, "an admin's wish")
    finalise(run_id)
    change(owner, suspended=False)
    upkeep(rows)
    assert marked(rows) == set()
    assert rows("SELECT status FROM runs") == ["CANCELLED"]
    assert rows("SELECT 1 FROM users WHERE follow_at IS NOT NULL") == []


def test_what_the_user_says_after_their_return_counts(probe: Probe, chain: Chain, rows: Rows) -> None:
    run_id = chain(probe(passes))
    owner = owner_of(rows, run_id)
    change(owner, suspended=True)
    follow(owner)
    change(owner, suspended=False)
    carry_out(steering.pause(owner, run_id))  # before its turn has come
    upkeep(rows)
    assert (paused(rows), marked(rows)) == ({run_id}, set())


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    own=st.lists(st.booleans(), max_size=12),
    deaths=st.lists(st.tuples(st.booleans(), st.integers(0, 14)), max_size=4),
    at_once=st.integers(1, 5),
)
def test_however_often_processes_die_exactly_the_others_go_on(
    probe: Probe, submit: Submit, rows: Rows, monkeypatch: Any, own: list[bool], deaths: Iterable[Any], at_once: int
) -> None:
    monkeypatch.setattr(suspension, "MOST_AT_ONCE", at_once)
    rows("UPDATE runs SET ended_at = now(), status = 'CANCELLED' WHERE ended_at IS NULL RETURNING 1")
    nodes = [{"id": "n", "block_id": probe(passes), "input_default": {"value": 1}}]
    runs = [submit({"name": "one", "nodes": nodes, "links": []}) for _ in [*own, False]]
    owner = owner_of(rows, runs[0])
    for run_id in (run for run, is_own in zip(runs, own, strict=False) if is_own):
        carry_out(steering.pause(owner, run_id))
    before = paused(rows) & set(runs)
    for suspended, steps in deaths:
        change(owner, suspended=suspended)
        die_after(users.follow(owner), steps)
    change(owner, suspended=True)
    upkeep(rows)
    assert paused(rows) >= set(runs)
    change(owner, suspended=False)
    upkeep(rows)
    assert paused(rows) & set(runs) == before
    assert marked(rows) & set(runs) == set()
    assert rows("SELECT 1 FROM users WHERE follow_at IS NOT NULL") == []
