"""A mask of one graph's node counts in that graph alone, and before a mask of all nodes of that id."""

from uuid import UUID

import pytest

from agentflow.graph.scoped_masks import masks_of, scoped

HERE, ELSEWHERE = UUID(int=1), UUID(int=2)
ALL = {"n": {"a": 1, "b": 1}}
OWN = {scoped(HERE, "n"): {"b": 2}}


@pytest.mark.parametrize(
    ("graph_id", "masks", "expected"),
    [
        (HERE, {}, {}),
        (HERE, ALL, {"n": {"a": 1, "b": 1}}),
        (HERE, OWN, {"n": {"b": 2}}),
        (HERE, ALL | OWN, {"n": {"a": 1, "b": 2}}),
        (ELSEWHERE, ALL | OWN, {"n": {"a": 1, "b": 1}}),
        (ELSEWHERE, OWN, {}),
        (HERE, {scoped(HERE, "x/y"): {"a": 1}, "y": {"a": 2}}, {"x/y": {"a": 1}, "y": {"a": 2}}),
    ],
)
def test_a_graphs_own_masks_go_before(graph_id, masks, expected):
    before = repr(masks)
    found = masks_of(graph_id, masks)
    assert {name: pins for name, pins in found.items() if not name.startswith("0000")} == expected
    assert masks_of(graph_id, found) == found, "a second time changes nothing"
    assert masks_of(ELSEWHERE, masks_of(HERE, {})) == {}
    assert repr(masks) == before
