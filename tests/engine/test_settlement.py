"""What a settlement holds follows from the plan, the node and what becomes of it."""

import json
from dataclasses import replace
from typing import Any

import pytest
from plans import plan_of

from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.routing import Batch, Router
from agentflow.engine.settlement import COMPLETED, FLUSHED, Consequences, Transition, WaitFor, settlement
from agentflow.engine.statuses import FailureReason
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.plan import Plan
from agentflow.graph.settings import Concurrency, NodeSettings
from agentflow.ids import new_id, new_token

WAIT = WaitFor("timer", "", 5.0, {"state": 0})
FAILED = Transition.failed("block", "broken")
RETRIED = Transition.retried("transient", "again", 1.0)
WAITS = Transition.waiting(WAIT)
ENDINGS = (COMPLETED, FAILED, RETRIED, WAITS, Transition.stopped())

LIMITED = NodeSettings(concurrency=Concurrency(key="k", limit=1))


def consequences(
    made: Transition, *, kind: BlockKind = BlockKind.STANDARD, own: NodeSettings | None = None, **more: Any
) -> Consequences:
    plan = plan_of(nodes=1, settings={0: own or NodeSettings()})
    plan = replace(plan, nodes=(replace(plan.nodes[0], kind=kind),))
    return settle(plan, made, **more).consequences


def settle(plan: Plan, made: Transition, batch: Batch | None = None, **more: Any) -> Any:
    lease = Lease(new_token(), "me", 60.0)
    return settlement(plan, ExecutionKey(new_id(), 0, 1), lease, batch or Batch(first=0), made, **more)


@pytest.mark.parametrize("made", [COMPLETED, FAILED, RETRIED, FLUSHED])
def test_most_settlements_have_no_consequences(made: Transition) -> None:
    assert consequences(made) == Consequences()
    assert consequences(made).as_json() is None


def test_a_flush_has_none_whatever_the_node_is() -> None:
    found = consequences(FLUSHED, kind=BlockKind.OUTPUT, own=LIMITED, in_child_run=True, stats={"cost": 1})
    assert found.as_json() is None


@pytest.mark.parametrize("made", ENDINGS)
@pytest.mark.parametrize("kind", list(BlockKind))
def test_a_slot_is_freed_by_all_but_a_sub_graph_node_that_waits(made: Transition, kind: BlockKind) -> None:
    kept = made is WAITS and kind is BlockKind.AGENT
    assert consequences(made, kind=kind, own=LIMITED).frees_slot == (not kept)


@pytest.mark.parametrize("made", ENDINGS)
@pytest.mark.parametrize("kind", list(BlockKind))
@pytest.mark.parametrize("in_child_run", [False, True])
def test_a_parent_is_woken_by_the_output_nodes_of_a_child_run(
    made: Transition, kind: BlockKind, in_child_run: bool
) -> None:
    woken = consequences(made, kind=kind, in_child_run=in_child_run).wakes_parent
    assert woken == (in_child_run and kind is BlockKind.OUTPUT)


@pytest.mark.parametrize("made", ENDINGS)
def test_a_failure_for_good_stops_the_run_where_that_is_wanted(made: Transition) -> None:
    stopped = consequences(made, own=NodeSettings(on_node_failure="stop")).stops_run
    assert stopped == (FailureReason.NODE_FAILED if made is FAILED else None)


def test_what_is_rare_travels_as_one_json_text_of_what_applies() -> None:
    found = consequences(WAITS, own=LIMITED, stats={"cost": 2})
    assert json.loads(found.as_json() or "") == {
        "stats": {"cost": 2},
        "wait": {
            "kind": "timer", "key": "", "seconds": 5.0, "state": '{"state":0}',
            "name": None, "data": "null", "editable": None,
        },
        "frees_slot": True,
    }  # fmt: skip


def test_a_state_as_deep_as_a_value_may_be_is_told() -> None:
    state: Any = 1
    for _ in range(740):
        state = [state]
    told = Consequences(wait=replace(WAIT, state={"state": state})).as_json()
    assert told is not None
    assert told.count("[") == 740


def test_routes_follow_from_the_links() -> None:
    plan = plan_of((0, "x", 1, "a"), (0, "x", 2, "b"), nodes=3)
    batch = Batch(first=4)
    Router(plan.nodes[0]).add(batch, "x", 1, "1")
    made = settle(plan, COMPLETED, batch)
    assert (made.routes.ordinals, made.routes.sinks, made.ordered) == ([4, 4], [1, 2], True)
