"""What a run's input masks name must be there: a pin of a node in one of its graphs."""

from typing import Any
from uuid import UUID

import pytest

from agentflow.graph.catalogue import Catalogue
from agentflow.graph.masked_names import unknown_names

PART = UUID(int=5)
SUB = {"input_schema": {"properties": {"q": {}}}}
LACKED = ("error", "the pin")
NOBODY = ("warning", "no graph")


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        pytest.param({"a": {"input": 1}}, [], id="a pin"),
        pytest.param({"a": {"input_#_k": 1}}, [], id="a part of a pin"),
        pytest.param({"a": {"inptu": 1}}, [("a", "inptu", *LACKED)], id="no pin"),
        pytest.param({"a": {"inptu_#_k": 1}}, [("a", "inptu_#_k", *LACKED)], id="a part of no pin"),
        pytest.param({"ghost": {"x": 1, "y": 2}}, [("ghost", None, *NOBODY)], id="no node, be it with several pins"),
        pytest.param({"m": {"items": [1]}}, [], id="a node of a sub-graph"),
        pytest.param({"m": {"itmes": [1]}}, [("m", "itmes", *LACKED)], id="no pin of a node of a sub-graph"),
        pytest.param({"both": {"input": 1, "items": [1]}}, [], id="a node id of two graphs: any of them is meant"),
        pytest.param({"both": {"wrong": 1}}, [("both", "wrong", *LACKED)], id="a pin of neither"),
        pytest.param({f"{PART}/both": {"items": [1]}}, [], id="a node of one graph"),
        pytest.param({f"{PART}/both": {"input": 1}}, [(f"{PART}/both", "input", *LACKED)], id="no pin of it there"),
        pytest.param({f"{PART}/a": {"input": 1}}, [(f"{PART}/a", None, *NOBODY)], id="a node of another graph"),
        pytest.param({"sub": {"q": 1, "graph_id": "g"}}, [], id="inputs and own pins of a sub-graph node"),
        pytest.param({"sub": {"r": 1}}, [("sub", "r", *LACKED)], id="no input of its graph"),
        pytest.param({"open": {"r": 1}}, [], id="a sub-graph node that does not say what its graph takes"),
        pytest.param({"gone": {"x": 1}}, [], id="a block that is not here is told elsewhere"),
        pytest.param({}, [], id="nothing"),
    ],
)
def test_a_pin_that_its_node_lacks_is_an_error_and_a_node_that_no_graph_has_a_warning(
    catalogue: Catalogue, make_graph: Any, masks: dict[str, dict[str, Any]], expected: list[tuple[Any, ...]]
) -> None:
    root = make_graph({"a": "echo", "both": "echo", "sub": ("agent", SUB), "open": "agent", "gone": "nope"})
    part = make_graph({"m": "adder", "both": "adder"}).model_copy(update={"id": PART})
    found = list(unknown_names([root, part], catalogue, masks))
    assert [(one.node, one.pin, one.severity) for one in found] == [one[:3] for one in expected]
    assert all(words in one.message for one, (*_, words) in zip(found, expected, strict=True))
