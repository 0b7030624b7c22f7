"""What a failure means for its node, its run and the other branches: `on_node_failure` of the graph and of the node."""

from typing import Any

import pytest
from probes import Chain, Outputs, Probe, Rows, Statuses, Submit, Yields, passes
from steps import execute

from agentflow.blocks.base import BlockInput, Context
from agentflow.errors import BadInput, SystemFault, Transient
from agentflow.worker.finalise import finalise

pytestmark = pytest.mark.timeout(60, method="thread")


def fails(inputs: Any, context: Context) -> Yields:
    raise RuntimeError("it broke")
    yield


def test_inputs_that_do_not_fit_end_the_node_execution_and_the_reason_goes_out_on_its_error_pin(
    probe: Probe, submit: Submit, statuses: Statuses, outputs: Outputs, rows: Rows
) -> None:
    class Positive(BlockInput):
        value: int
        needed: str

    nodes = [
        {"id": "first", "block_id": probe(passes), "input_default": {"value": "7"}},
        {"id": "picky", "block_id": probe(passes, Input=Positive), "input_default": {"needed": "literal"}},
        {"id": "told", "block_id": probe(passes), "input_default": {}},
    ]
    links = [
        {"source_id": "first", "source_name": "value", "sink_id": "picky", "sink_name": "value"},
        {"source_id": "picky", "source_name": "error", "sink_id": "told", "sink_name": "value"},
    ]
    run_id = submit({"name": "picky", "nodes": nodes, "links": links}, nodes_input_masks={"first": {"value": None}})
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "FAILED user", "2/1": "QUEUED"}
    (reason,) = rows("SELECT error FROM node_executions WHERE run_id = :run AND node = 1", run=run_id)
    assert "value" in reason
    execute(run_id, 2, 1)
    assert outputs(run_id, 2) == [("value", reason)]


@pytest.mark.parametrize(
    ("graph", "own", "others", "ends"),
    [
        ({}, {}, "COMPLETED", ("FAILED", "node_failed")),
        ({"on_node_failure": "continue"}, {}, "COMPLETED", ("FAILED", "node_failed")),
        ({"on_node_failure": "stop"}, {}, "CANCELLED", ("FAILED", "node_failed")),
        ({"on_node_failure": "ignore"}, {}, "COMPLETED", ("COMPLETED", None)),
        ({}, {"on_node_failure": "stop"}, "CANCELLED", ("FAILED", "node_failed")),
        ({}, {"on_node_failure": "ignore"}, "COMPLETED", ("COMPLETED", None)),
        ({"on_node_failure": "stop"}, {"on_node_failure": "continue"}, "COMPLETED", ("FAILED", "node_failed")),
        ({"on_node_failure": "stop"}, {"on_node_failure": "ignore"}, "COMPLETED", ("COMPLETED", None)),
        ({"on_node_failure": "ignore"}, {"on_node_failure": "stop"}, "CANCELLED", ("FAILED", "node_failed")),
    ],
)
def test_a_failure_that_no_link_takes(
    probe: Probe,
    submit: Submit,
    statuses: Statuses,
    rows: Rows,
    graph: dict[str, Any],
    own: dict[str, Any],
    others: str,
    ends: tuple[str, str | None],
) -> None:
    """continue: the others go on, and the run is FAILED; stop: the others end with it; ignore: it is only counted."""
    nodes = [
        {"id": "fails", "block_id": probe(fails), "input_default": {}, "settings": own},
        {"id": "other", "block_id": probe(passes), "input_default": {"value": 1}},
    ]
    run_id = submit({"name": "two", "nodes": nodes, "links": [], "settings": graph})
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    assert finalise(run_id)
    assert statuses(run_id) == {"0/1": "FAILED block", "1/1": others}
    assert rows("SELECT status, reason FROM runs WHERE id = :run", run=run_id) == [ends]
    assert rows("SELECT (stats ->> 'node_error_count')::int FROM runs WHERE id = :run", run=run_id) == [1]


@pytest.mark.parametrize("setting", ["continue", "stop", "ignore"])
def test_a_failure_that_a_link_takes_ends_nothing_whatever_is_set(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows, setting: str
) -> None:
    run_id = chain(probe(fails), probe(passes), pin="error", settings={"on_node_failure": setting})
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    assert finalise(run_id)
    assert statuses(run_id) == {"0/1": "FAILED block", "1/1": "COMPLETED"}
    assert rows("SELECT status, reason FROM runs WHERE id = :run", run=run_id) == [("COMPLETED", None)]


def reports(inputs: Any, context: Context) -> Yields:
    yield "error", "not today"


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (BadInput("bad"), "user", "FAILED user"),
        (RuntimeError("bug"), "block", "FAILED block"),
        (None, "block", "FAILED block"),
        (Transient("503"), "transient", "QUEUED transient"),
        (ConnectionError("refused"), "transient", "QUEUED transient"),
        (TimeoutError("no answer"), "transient", "QUEUED transient"),
        (SystemFault("disk"), "system", "FAILED system"),
    ],
)
def test_each_kind_of_failure_is_told_and_only_transient_ones_are_tried_again(
    probe: Probe, chain: Chain, statuses: Statuses, api: Any, error: Exception | None, kind: str, status: str
) -> None:
    def raises(inputs: Any, context: Context) -> Yields:
        assert error is not None
        raise error
        yield

    run_id = chain(probe(reports if error is None else raises), settings={"retry": {"max_failures": 1, "base": 0}})
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": status}
    (shown,) = api.get(f"/api/v1/runs/{run_id}/nodes").json["items"]
    assert shown["reason"] == kind


def test_a_failed_item_does_not_keep_the_others_and_each_failure_counts(
    probe: Probe, submit: Submit, outputs: Outputs, rows: Rows
) -> None:
    def four(inputs: Any, context: Context) -> Yields:
        for number in range(4):
            yield "value", number

    def even(inputs: Any, context: Context) -> Yields:
        if inputs.value % 2:
            raise BadInput("odd")
        yield "value", inputs.value

    nodes = [
        {"id": name, "block_id": probe(run), "input_default": {}}
        for name, run in (("four", four), ("even", even), ("last", passes))
    ]
    links = [
        {"source_id": source, "source_name": "value", "sink_id": sink, "sink_name": "value"}
        for source, sink in (("four", "even"), ("even", "last"))
    ]
    run_id = submit({"name": "some", "nodes": nodes, "links": links})
    execute(run_id, 0, 1)
    for index in (4, 3, 2, 1):
        execute(run_id, 1, index)
    for index in (1, 2):
        execute(run_id, 2, index)
    assert outputs(run_id, 2) == [("value", 0), ("value", 2)]
    assert finalise(run_id)
    ended = rows("SELECT status, (stats ->> 'node_error_count')::int FROM runs WHERE id = :run", run=run_id)
    assert ended == [("FAILED", 2)]
