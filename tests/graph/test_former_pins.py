"""Pins that a block called otherwise once mean those of today."""

from dataclasses import replace

from agentflow.graph.catalogue import BlockSpec
from agentflow.graph.former_pins import with_present_pins
from agentflow.graph.model import Graph


def graph(nodes: dict[str, dict], *links: tuple[str, str, str, str], parts: tuple[Graph, ...] = ()) -> Graph:
    return Graph(
        nodes=[{"id": id, "block_id": "adder", "input_default": given} for id, given in nodes.items()],
        links=[dict(zip(("source_id", "source_name", "sink_id", "sink_name"), ends, strict=True)) for ends in links],
        sub_graphs=list(parts),
    )


def present(catalogue, given: Graph):
    def of(block_id: str) -> BlockSpec | None:
        spec = catalogue(block_id)
        former = {"former_inputs": {"old": "items_$_1", "b": "a"}, "former_outputs": {"sum": "result"}}
        return replace(spec, **former) if spec else None

    return with_present_pins(given, of)


def ends(found: Graph) -> list[tuple[str, str]]:
    return [(link.source_name, link.sink_name) for link in found.links]


def test_links_and_literals_get_todays_names_and_their_author_is_told(catalogue):
    found, problems = present(catalogue, graph({"x": {"old": 5, "text": "t"}, "y": {}}, ("x", "sum", "y", "old_#_k")))
    assert ends(found) == [("result", "items_$_1_#_k")]
    assert found.nodes[0].input_default == {"items_$_1": 5, "text": "t"}
    assert [(problem.node, problem.pin, problem.severity) for problem in problems] == [
        ("x", "old", "warning"),
        ("x", "sum", "warning"),
        ("y", "old_#_k", "warning"),
    ]
    assert "'sum' of Adder is called 'result' today" in problems[1].message


def test_a_pin_that_the_block_has_today_is_left_alone(catalogue):
    given = graph({"x": {"b": 1}, "y": {}}, ("x", "result", "y", "b"))
    found, problems = present(catalogue, given)
    assert (found.nodes, found.links, problems) == (given.nodes, given.links, [])


def test_what_is_given_under_todays_name_counts(catalogue):
    found, _ = present(catalogue, graph({"x": {"old": 1, "items_$_1": 2}}))
    assert found.nodes[0].input_default == {"items_$_1": 2}


def test_links_that_become_one_are_one(catalogue):
    found, _ = present(catalogue, graph({"x": {}, "y": {}}, ("x", "sum", "y", "a"), ("x", "result", "y", "a")))
    assert ends(found) == [("result", "a")]


def test_sub_graphs_are_renamed_too(catalogue):
    part = graph({"x": {"old": 1}}).model_copy(update={"name": "inner"})
    found, (problem,) = present(catalogue, graph({"y": {}}, parts=(part,)))
    assert found.sub_graphs[0].nodes[0].input_default == {"items_$_1": 1}
    assert problem.message.startswith("sub-graph 'inner': ")
