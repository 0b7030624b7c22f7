"""How a run ends, from what its node executions came to."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from plans import plan_of

from agentflow.engine.statuses import FailureReason, NodeStatus, RunStatus
from agentflow.engine.verdict import FirstFailure, NodeCount, Verdict, failure_is_unhandled, judge
from agentflow.graph.settings import NodeSettings

PLAN = plan_of((0, "x", 1, "a"), (0, "error", 2, "b"), nodes=3)
DONE = [NodeCount(0, NodeStatus.COMPLETED, 1, 1)]
FIRST = FirstFailure(1, "block", "it broke")
DESCRIBED = "Node 1 (n1): it broke"

R = RunStatus


def verdict(
    counts: Sequence[NodeCount] = DONE,
    stop: tuple[RunStatus, str] | None = None,
    first_failure: FirstFailure | None = None,
    missing: dict[int, dict[str, int]] | None = None,
) -> Verdict:
    return judge(PLAN, counts, missing or {}, stop, first_failure)


@pytest.mark.parametrize(
    ("stop", "first_failure", "expected"),
    [
        (None, None, (R.COMPLETED, None, None)),
        (None, FIRST, (R.FAILED, "node_failed", DESCRIBED)),
        (None, FIRST._replace(reason="worker_lost"), (R.FAILED, "worker_lost", DESCRIBED)),
        (None, FIRST._replace(reason="system"), (R.FAILED, "engine", DESCRIBED)),
        (None, FIRST._replace(reason="timeout"), (R.FAILED, "node_failed", DESCRIBED)),
        ((R.CANCELLED, "user"), None, (R.CANCELLED, "user", None)),
        ((R.CANCELLED, "user"), FIRST, (R.CANCELLED, "user", None)),
        ((R.FAILED, FailureReason.NODE_FAILED), FIRST, (R.FAILED, "node_failed", DESCRIBED)),
        ((R.FAILED, FailureReason.NODE_FAILED), None, (R.FAILED, "node_failed", "node_failed")),
        (
            (R.FAILED, FailureReason.TIMEOUT),
            FIRST,
            (R.FAILED, "timeout", "the run did not end before its deadline"),
        ),
        (
            (R.FAILED, FailureReason.LIMIT),
            None,
            (
                R.FAILED,
                "max_node_executions",
                "the run has more node executions than it may: most likely a loop without an end",
            ),
        ),
        (
            (R.FAILED, "moderation"),
            None,
            (R.FAILED, "moderation", "moderation refused what the run was given, or what a child run of it gives"),
        ),
        ((R.FAILED, "moderation"), FIRST, (R.FAILED, "moderation", DESCRIBED)),
        ((R.FAILED, "elsewhere"), None, (R.FAILED, "elsewhere", "elsewhere")),
    ],
)
def test_a_run_ends_so(
    stop: tuple[RunStatus, str] | None,
    first_failure: FirstFailure | None,
    expected: tuple[RunStatus, str | None, str | None],
) -> None:
    ended = verdict(stop=stop, first_failure=first_failure)
    assert (ended.status, ended.reason, ended.error) == expected


@pytest.mark.parametrize("reason", FailureReason)
def test_whatever_fails_a_run_is_said_in_words(reason: FailureReason) -> None:
    assert verdict(stop=(R.FAILED, reason)).error


def test_failures_that_were_handled_or_ignored_do_not_fail_the_run_but_are_counted() -> None:
    ended = verdict([NodeCount(0, NodeStatus.FAILED, 3, 3), *DONE])
    assert ended.status is R.COMPLETED
    assert ended.stats["node_error_count"] == 3


def test_what_cannot_be_stored_in_a_title_or_message_is_replaced() -> None:
    plan = replace(PLAN, nodes=(PLAN.nodes[0], replace(PLAN.nodes[1], title="a\x00b"), PLAN.nodes[2]))
    assert judge(plan, DONE, {}, None, FirstFailure(1, "block", "\ud800")).error == "a\ufffdb (n1): \ufffd"


@pytest.mark.parametrize(
    ("node", "on_node_failure", "unhandled"),
    [
        (0, "continue", False),  # a link leaves its error pin
        (0, "stop", False),
        (0, "ignore", False),
        (1, "continue", True),
        (1, "stop", True),
        (1, "ignore", False),
    ],
)
def test_a_failure_is_handled_by_a_link_from_the_error_pin_or_by_being_ignored(
    node: int, on_node_failure: Any, unhandled: bool
) -> None:
    own = NodeSettings(on_node_failure=on_node_failure)
    plan = plan_of((0, "error", 1, "a"), nodes=2, settings={0: own, 1: own})
    assert failure_is_unhandled(plan, node) is unhandled


def test_a_part_of_the_error_handles_it_too() -> None:
    assert not failure_is_unhandled(plan_of((0, "error_#_code", 1, "a"), nodes=2), 0)


def test_executions_count_when_they_ran_and_leftovers_apart() -> None:
    stats = verdict(
        [
            NodeCount(0, NodeStatus.COMPLETED, 10, 10),
            NodeCount(1, NodeStatus.FAILED, 2, 2),
            NodeCount(1, NodeStatus.CANCELLED, 5, 3),
            NodeCount(1, NodeStatus.INCOMPLETE, 4, 0),
            NodeCount(2, NodeStatus.INCOMPLETE, 1, 0),
        ],
        missing={1: {"a": 4}},
    ).stats
    assert stats == {
        "node_count": 15,
        "node_error_count": 2,
        "node_cancelled_count": 5,
        "leftovers": [
            {"node_id": "n1", "count": 4, "missing": {"a": 4}},
            {"node_id": "n2", "count": 1, "missing": {}},
        ],
        "leftover_count": 5,
        "cost": 0,
    }


def test_leftovers_are_no_error() -> None:
    assert verdict([*DONE, NodeCount(1, NodeStatus.INCOMPLETE, 9, 0)]).status is R.COMPLETED


def test_a_run_of_nothing_completes() -> None:
    assert verdict([]) == Verdict(
        R.COMPLETED,
        None,
        None,
        {
            "node_count": 0,
            "node_error_count": 0,
            "node_cancelled_count": 0,
            "leftovers": [],
            "leftover_count": 0,
            "cost": 0,
        },
    )
