"""The state machine is what the diagrams say, and nothing leads out of an end but a retry by hand."""

import itertools

import pytest

from agentflow.engine.statuses import (
    MOVES,
    NODE_OPEN,
    NODE_TERMINAL,
    RUN_MOVES,
    RUN_OPEN,
    RUN_TERMINAL,
    NodeStatus,
    RunStatus,
    is_legal,
)

N, R = NodeStatus, RunStatus

RETRY = "the run is retried"

ARROWS = {
    None: {N.INCOMPLETE, N.QUEUED, *NODE_TERMINAL},
    N.INCOMPLETE: {N.QUEUED, N.CANCELLED},
    N.QUEUED: {N.RUNNING, N.CANCELLED},
    N.RUNNING: {N.COMPLETED, N.FAILED, N.CANCELLED, N.QUEUED, N.WAITING},
    N.WAITING: {N.QUEUED, N.CANCELLED},
    N.COMPLETED: set(),
    N.FAILED: {N.QUEUED},
    N.CANCELLED: {N.QUEUED, N.INCOMPLETE, N.WAITING},
}

RUN_ARROWS = {
    R.QUEUED: {R.RUNNING, R.COMPLETED, R.FAILED, R.CANCELLED},
    R.RUNNING: {R.WAITING, R.COMPLETED, R.FAILED, R.CANCELLED},
    R.WAITING: {R.RUNNING, R.COMPLETED, R.FAILED, R.CANCELLED},
    R.COMPLETED: set(),
    R.FAILED: {R.QUEUED, R.RUNNING},
    R.CANCELLED: {R.QUEUED, R.RUNNING},
}


@pytest.mark.parametrize(("source", "target"), list(itertools.product([None, *N], N)))
def test_a_node_execution_moves_along_the_arrows_only(source: NodeStatus | None, target: NodeStatus) -> None:
    assert is_legal(MOVES, source, target) == (target in ARROWS[source])


@pytest.mark.parametrize(("source", "target"), list(itertools.product(R, R)))
def test_a_run_moves_along_the_arrows_only(source: RunStatus, target: RunStatus) -> None:
    assert is_legal(RUN_MOVES, source, target) == (target in RUN_ARROWS[source])


def test_only_a_retry_by_hand_leads_out_of_an_end() -> None:
    assert all(move.reason == RETRY for move in MOVES if move.source in NODE_TERMINAL)
    assert all(move.target in (R.QUEUED, R.RUNNING) for move in RUN_MOVES if move.source in RUN_TERMINAL)


def test_what_completed_never_runs_again() -> None:
    assert not any(move.source is N.COMPLETED for move in MOVES)
    assert not any(move.source is R.COMPLETED for move in RUN_MOVES)


def test_only_what_runs_can_complete_or_fail() -> None:
    taken_over = {None}  # by a fork
    assert {move.source for move in MOVES if move.target in (N.COMPLETED, N.FAILED)} == {N.RUNNING} | taken_over


def test_whatever_has_not_ended_can_be_cancelled() -> None:
    assert {move.source for move in MOVES if move.target is N.CANCELLED} == {None, *N} - NODE_TERMINAL
    assert {move.source for move in RUN_MOVES if move.target is R.CANCELLED} == RUN_OPEN


def test_every_move_is_written_once_with_its_reason() -> None:
    assert len({move[:2] for move in MOVES}) == len(MOVES)
    assert all(move.reason for move in MOVES)


def test_every_status_can_be_reached() -> None:
    assert {move.target for move in MOVES} == set(N)
    assert {move.target for move in RUN_MOVES if move.source in RUN_OPEN} == set(R) - {R.QUEUED}, (
        "a run is created QUEUED"
    )


def test_open_and_ended_do_not_overlap_and_only_leftovers_are_neither() -> None:
    assert NODE_OPEN.isdisjoint(NODE_TERMINAL)
    assert set(N) - NODE_OPEN - NODE_TERMINAL == {N.INCOMPLETE}
    assert RUN_OPEN.isdisjoint(RUN_TERMINAL)
    assert set(R) == RUN_OPEN | RUN_TERMINAL


def test_statuses_are_stored_under_their_own_names() -> None:
    assert all(status.value == status.name == str(status) for status in [*N, *R])
