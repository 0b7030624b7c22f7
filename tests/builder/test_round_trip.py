"""Whatever is built comes back from its JSON, and from its source, as it was; and it is valid."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.blocks import registry
from agentflow.builder import Graph, Node, Pin, to_python
from agentflow.errors import GraphInvalid
from agentflow.graph.pins import Step, split

pytestmark = pytest.mark.filterwarnings("ignore::agentflow.builder.Doubtful")  # links are drawn by lot

registry.every()  # imported now: hypothesis refuses imports that draw random numbers in a strategy

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
keys = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"], exclude_characters="#@"), min_size=1, max_size=4
)

BLOCKS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "StoreValue": {"input": json_values.filter(lambda value: value is not None), "data": json_values},
    "FillTextTemplate": {
        "format": st.text(max_size=5),
        "values": st.dictionaries(keys, json_values, max_size=3),
        "escape_html": st.booleans(),
    },
    "Calculator": {"operation": st.sampled_from(["Add", "Divide"]), "a": st.integers(-9, 9), "b": st.just("1.5")},
    "CountItems": {"collection": st.lists(json_values, max_size=3)},
    "AddToList": {"list": st.lists(json_values, max_size=3), "entry": json_values},
    "Condition": {"value1": st.integers(), "operator": st.sampled_from(["==", "<"]), "value2": st.integers()},
}
"""Block → what its input pins may be given."""

SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "timeout": st.floats(1, 100),
        "retry": st.fixed_dictionaries({}, optional={"max_failures": st.integers(0, 3), "jitter": st.booleans()}),
        "cache": st.none(),
        "ordering": st.sampled_from(["ordered", "arrival"]),
    },
)


def keys_of_pins(key: str) -> bool:
    """Whether a key can be part of a pin's name."""
    return split(f"x_#_{key}_#_y") == ("x", (Step("#", key), Step("#", "y")))


def _place(draw: Any, pin: Pin) -> Pin:
    """`pin`, or a place in what it carries."""
    for step in draw(st.lists(st.tuples(st.sampled_from("$#@"), st.integers(0, 5), keys), max_size=2)):
        try:
            pin = pin[step[1]] if step[0] == "$" else pin[step[2]] if step[0] == "#" else pin.attr(step[2])
        except GraphInvalid:  # a key that looks like a delimiter
            continue
    return pin


def _add(draw: Any, g: Graph, sources: list[Pin]) -> Node:
    """A node that is given literals, pins, and containers of both."""
    block = draw(st.sampled_from(sorted(BLOCKS)))
    given: dict[str, Any] = {}
    for pin, literals in BLOCKS[block].items():
        value = draw(literals)
        if draw(st.booleans()):
            value = _place(draw, draw(st.sampled_from(sources)))
        elif isinstance(value, dict | list) and draw(st.booleans()):
            source = draw(st.sampled_from(sources))
            named = {key: item for key, item in value.items() if keys_of_pins(key)} if isinstance(value, dict) else {}
            value = [*value, source] if isinstance(value, list) else {**named, "fed": source}
        given[pin] = value
    return g.add(block, node_title=draw(st.none() | keys), settings=draw(SETTINGS), **given)


@st.composite
def graphs(draw: Any, depth: int = 1) -> Graph:
    """Valid graphs: inputs, blocks fed from before them, loops back, sub-graphs, outputs."""
    g = Graph(
        draw(keys),
        description=draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)),
        settings=draw(SETTINGS),
    )
    names = draw(st.lists(keys.filter(str.strip), min_size=1, max_size=3, unique=True))
    sources = [g.input(name, draw(st.sampled_from([Any, str, int])), title=draw(keys)) for name in names]
    for _ in range(draw(st.integers(1, 4))):
        node = _add(draw, g, sources)
        assert node.node_block is not None
        sources += [node[pin] for pin in node.node_block.outputs]
    if depth and draw(st.booleans()):
        part = draw(graphs(depth=0))
        taken = part.nodes[0].node_values["name"]
        node = g.sub_graph(part, dict.fromkeys(part_inputs(part), 1) | {taken: sources[0]})
        sources.append(node["result"])
    if draw(st.booleans()):  # a loop
        draw(st.sampled_from(sources)) >> _place(draw, g.add("StoreValue").input)
    for source in draw(st.lists(st.sampled_from(sources), max_size=2)):
        g.output(draw(keys.filter(str.strip)), source)
    g.output("result", sources[-1])
    return g


def part_inputs(part: Graph) -> list[str]:
    return [node.node_values["name"] for node in part.nodes if node.node_block and node.node_block.kind == "Input"]


@given(graphs())
@settings(deadline=None, max_examples=60)
def test_a_graph_that_is_built_is_valid_and_comes_back_from_its_json_and_from_its_source(g: Graph) -> None:
    assert [problem for problem in g.problems() if problem.severity == "error"] == []
    text = g.to_json()
    again = Graph.from_json(text)
    assert again.to_json() == text
    assert again.as_model() == g.as_model()
    again.add("StoreValue", "one more", input=1)
    assert g.to_json() == text
    names: dict[str, Any] = {}
    exec(to_python(g), names)
    assert names["g"].to_json() == text


@given(graphs(), graphs())
@settings(deadline=None, max_examples=20)
def test_going_on_with_a_copy_is_going_on_with_the_graph(g: Graph, part: Graph) -> None:
    copy = Graph.from_json(g.to_json())
    for graph in (g, copy):
        first = next(node for node in graph.nodes if node.node_block and node.node_block.kind == "Input")
        node = graph.sub_graph(part, dict.fromkeys(part_inputs(part), first.result))
        graph.output("all", node["result"])
    assert copy.to_json() == g.to_json()
