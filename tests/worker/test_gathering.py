"""A gather makes lists of what arrives: in order, in groups, and of nothing where a for-each had no items."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from probes import Outputs, Probe, Rows, Submit, Yields, passes
from steps import execute

from agentflow.blocks import registry
from agentflow.blocks.base import Context
from agentflow.worker.finalise import finalise

pytestmark = pytest.mark.timeout(60, method="thread")


LISTS = 3  # the node that takes the lists


def only_odd(inputs: Any, context: Context) -> Yields:
    if inputs.value % 2:
        yield "value", inputs.value


def fails(inputs: Any, context: Context) -> Yields:
    raise ValueError("it failed")
    yield


@pytest.fixture
def gathering(probe: Probe, submit: Submit) -> Callable[..., UUID]:
    """`gathering(items)`: node 0 gives them one by one, node 1 passes each, node 2 gathers, node 3 takes the lists.

    `work`: what node 1 does. `literals`: of the gather. `size`: comes over a link from node 4.
    """

    def start(
        items: list[Any],
        work: Callable[..., Yields] = passes,
        literals: dict[str, Any] | None = None,
        size: int | None = None,
        **more: Any,
    ) -> UUID:
        nodes = [
            ("each", registry.by_name("StepThroughItems").id, {"items": items}),
            ("one", probe(work), {}),
            ("gather", registry.by_name("Gather").id, literals or {}),
            ("lists", probe(passes), {}),
        ]
        links = [
            ("each", "item", "one", "value"),
            ("one", "value", "gather", "item"),
            ("gather", "items", "lists", "value"),
        ]
        if size is not None:
            nodes.append(("size", registry.by_name("StoreValue").id, {"input": size}))
            links.append(("size", "output", "gather", "size"))
        return submit(
            {
                "name": "gather",
                "nodes": [{"id": id, "block_id": block, "input_default": given} for id, block, given in nodes],
                "links": [
                    {"source_id": source, "source_name": pin, "sink_id": sink, "sink_name": into}
                    for source, pin, sink, into in links
                ],
            },
            **more,
        )

    return start


@pytest.fixture
def lists_of(outputs: Outputs, rows: Rows) -> Callable[..., list[Any]]:
    """`lists_of(run)` runs it to its end and gives the lists that came of it."""

    def run(run_id: UUID, *, backwards: bool = False) -> list[Any]:
        while not finalise(run_id):
            ready = rows(
                "SELECT node, idx FROM node_executions WHERE run_id = :run AND status = 'QUEUED' ORDER BY node, idx",
                run=run_id,
            )
            assert ready, "nothing is ready, and yet the run does not end"
            for node, idx in reversed(ready) if backwards else ready:
                execute(run_id, node, idx)
        return [value for _, value in outputs(run_id, LISTS)]

    return run


Gathering = Callable[..., UUID]
ListsOf = Callable[..., list[Any]]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_gather_gives_groups_in_order_and_the_rest_when_nothing_more_can_come(
    backwards: bool, gathering: Gathering, lists_of: ListsOf, rows: Rows
) -> None:
    run_id = gathering(list(range(7)), literals={"size": 3})
    assert lists_of(run_id, backwards=backwards) == [[0, 1, 2], [3, 4, 5], [6]]
    assert rows("SELECT status FROM runs") == ["COMPLETED"]


def test_a_gather_without_a_size_gives_all_at_once(gathering: Gathering, lists_of: ListsOf) -> None:
    assert lists_of(gathering(list(range(7)))) == [list(range(7))]


def test_a_gather_of_whole_groups_gives_no_empty_rest(gathering: Gathering, lists_of: ListsOf) -> None:
    assert lists_of(gathering(list(range(6)), literals={"size": 3})) == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("count", [3, 4, 5])
def test_the_size_may_come_over_a_link(count: int, gathering: Gathering, lists_of: ListsOf) -> None:
    rest = [list(range(count))[start : start + 2] for start in range(0, count, 2)]
    assert lists_of(gathering(list(range(count)), size=2)) == rest


@pytest.mark.parametrize("count", [3, 4, 5])
def test_the_size_may_be_masked(count: int, gathering: Gathering, lists_of: ListsOf) -> None:
    run_id = gathering(list(range(count)), literals={"size": 2}, nodes_input_masks={"gather": {"size": 3}})
    assert lists_of(run_id) == [list(range(count))[start : start + 3] for start in range(0, count, 3)]


@pytest.mark.parametrize("given", [{}, {"literals": {"size": 3}}, {"size": 3}])
def test_a_for_each_without_items_gathers_an_empty_list(
    given: dict[str, Any], gathering: Gathering, lists_of: ListsOf, rows: Rows
) -> None:
    assert lists_of(gathering([], **given)) == [[]]
    assert rows("SELECT status FROM runs") == ["COMPLETED"]


@pytest.mark.parametrize(("items", "expected"), [([1, 2, 3], [[1, 3]]), ([2, 4], [[]])])
def test_what_a_filter_lets_through_is_gathered_even_if_that_is_nothing(
    items: list[int], expected: list[Any], gathering: Gathering, lists_of: ListsOf
) -> None:
    assert lists_of(gathering(items, only_odd)) == expected


def test_a_for_each_that_failed_gathers_nothing(gathering: Gathering, lists_of: ListsOf, rows: Rows) -> None:
    run_id = gathering([], nodes_input_masks={"each": {"items_str": "[1, 2"}})
    assert lists_of(run_id) == []
    assert rows("SELECT status FROM runs") == ["FAILED"]


def test_a_branch_that_is_not_taken_gathers_nothing(
    probe: Probe, submit: Submit, lists_of: ListsOf, rows: Rows
) -> None:
    nodes = [
        ("branch", probe(only_odd), {"value": 2}),
        ("each", registry.by_name("StepThroughItems").id, {}),
        ("gather", registry.by_name("Gather").id, {}),
        ("lists", probe(passes), {}),
    ]
    links = [
        ("branch", "value", "each", "items"),
        ("each", "item", "gather", "item"),
        ("gather", "items", "lists", "value"),
    ]
    run_id = submit(
        {
            "name": "branch",
            "nodes": [{"id": id, "block_id": block, "input_default": given} for id, block, given in nodes],
            "links": [
                {"source_id": source, "source_name": pin, "sink_id": sink, "sink_name": into}
                for source, pin, sink, into in links
            ],
        }
    )
    assert lists_of(run_id) == []
    assert rows("SELECT status FROM runs") == ["COMPLETED"]


def test_items_that_failed_are_left_out(gathering: Gathering, lists_of: ListsOf, rows: Rows) -> None:
    assert lists_of(gathering([1, 2], fails)) == [[]]
    assert rows("SELECT status, reason FROM runs") == [("FAILED", "node_failed")]
