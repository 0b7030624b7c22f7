"""A graph that goes out loses its secrets and its ids; one that comes back in says the same as before."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.blocks.registry import catalogue
from agentflow.graph.exchange import export, is_export, modernised, normalised
from agentflow.graph.model import AGENT_BLOCK, Graph
from agentflow.graph.withholding import is_secret_name
from agentflow.services import documents
from agentflow.services.documents import fingerprint

INPUT = "c0a8e994-ebf1-4a9c-a4d8-89d09c86741b"
STORE = "1ff065e9-88e8-4358-9d82-8dc91f622ba9"
OUTPUT = "363ae599-353e-4804-937e-b2ee3cef3da4"


def graph(**changes: Any) -> Graph:
    document: dict[str, Any] = {
        "name": "g",
        "nodes": [
            {"id": "in", "block_id": INPUT, "input_default": {"name": "who", "value": "me"}},
            {"id": "keep", "block_id": STORE, "input_default": {}},
        ],
        "links": [{"source_id": "in", "source_name": "result", "sink_id": "keep", "sink_name": "input"}],
    }
    return Graph.model_validate({**document, **changes})


def with_literals(**literals: Any) -> dict[str, Any]:
    """What the literals of a node are after an export."""
    nodes = [{"id": "x", "block_id": STORE, "input_default": literals}]
    exported: dict[str, Any] = export(graph(nodes=nodes, links=[]), catalogue)["nodes"][0]["input_default"]
    return exported


def test_ids_of_graphs_nodes_and_links_are_new_and_links_follow() -> None:
    before = graph()
    after = export(before, catalogue)
    assert after["id"] != str(before.id)
    ids = [node["id"] for node in after["nodes"]]
    assert all(UUID(id) for id in ids)
    (link,) = after["links"]
    assert (link["source_id"], link["sink_id"]) == tuple(ids)
    assert link["id"] != before.links[0].id
    assert after["user_id"] == ""
    assert after["nodes"][1]["input_links"] == [link]
    assert json.dumps(after)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("api_key", True),
        ("apiKey", True),
        ("OPENAI_API_KEY", True),
        ("credentials", True),
        ("password", True),
        ("dbPassword", True),
        ("access_token", True),
        ("client-secret", True),
        ("max_tokens", False),
        ("key", False),
        ("tokenizer", False),
        ("passwordless", False),
        ("text", False),
    ],
)
def test_a_name_says_whether_its_value_is_secret(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret
    kept = with_literals(**{name: "x", "deep": [{name: "x", "other": {name: {"a": 1}}}]})
    assert (name not in kept) is secret
    assert (name not in kept["deep"][0]) is secret
    assert (name not in kept["deep"][0]["other"]) is secret


def test_a_dynamic_pin_is_secret_by_the_entry_that_it_makes() -> None:
    assert with_literals(**{"values_#_api_key": "x", "values_#_name": "y"}) == {"values_#_name": "y"}


def test_a_secret_input_node_keeps_its_flag_and_loses_its_value() -> None:
    nodes = [{"id": "in", "block_id": INPUT, "input_default": {"name": "n", "value": "hush", "secret": True}}]
    (node,) = export(graph(nodes=nodes, links=[]), catalogue)["nodes"]
    assert node["input_default"] == {"name": "n", "secret": True}


def test_webhooks_are_the_owners_own() -> None:
    nodes = [{"id": "x", "block_id": STORE, "webhook_id": "hook"}]
    assert export(graph(nodes=nodes, links=[]), catalogue)["nodes"][0]["webhook_id"] is None


def agent(node_id: str, graph_id: Any, **schemas: Any) -> dict[str, Any]:
    default = {"graph_id": str(graph_id), "graph_version": 1, **schemas}
    return {"id": node_id, "block_id": AGENT_BLOCK, "input_default": default}


def test_references_among_the_parts_are_kept_whatever_they_are_called() -> None:
    first, second, elsewhere, own = uuid4(), uuid4(), uuid4(), uuid4()
    parts = [
        {"id": str(first), "name": "a", "nodes": [agent("x", second)]},
        {"id": str(second), "name": "b", "nodes": [agent("y", first), agent("z", own)]},
    ]
    before = graph(id=str(own), nodes=[agent("n", first), agent("m", elsewhere)], links=[], sub_graphs=parts)
    after = export(before, catalogue)
    a, b = after["sub_graphs"]
    refers = {node["input_default"]["graph_id"] for node in after["nodes"]}
    assert refers == {a["id"], str(elsewhere)}
    assert a["nodes"][0]["input_default"] == {"graph_id": b["id"], "graph_version": 1}
    assert {node["input_default"]["graph_id"] for node in b["nodes"]} == {a["id"], after["id"]}
    assert {str(first), str(second), str(own)}.isdisjoint({a["id"], b["id"], after["id"]})


def test_the_schema_of_a_sub_graph_node_keeps_its_secret_inputs_but_not_their_values() -> None:
    schema = {"type": "object", "properties": {"api_key": {"type": "string", "default": "x"}, "n": {"default": 1}}}
    after = export(graph(nodes=[agent("n", uuid4(), input_schema=schema)], links=[]), catalogue)
    shown = after["nodes"][0]["input_default"]["input_schema"]["properties"]
    assert shown == {"api_key": {"type": "string"}, "n": {"default": 1}}


def test_tool_pins_and_compensation_follow_the_nodes() -> None:
    nodes = [
        {"id": "ask", "block_id": STORE, "settings": {"compensate_with": "tool"}},
        {"id": "tool", "block_id": STORE},
    ]
    links = [
        {"source_id": "ask", "source_name": name, "sink_id": "tool", "sink_name": "input"}
        for name in ("tools_^_tool_~_input", "tools")
    ]
    after = export(graph(nodes=nodes, links=links), catalogue)
    ask, tool = after["nodes"]
    assert {link["source_name"] for link in after["links"]} == {f"tools_^_{tool['id']}_~_input", "tools"}
    assert ask["settings"] == {"compensate_with": tool["id"]}


def test_a_tool_pin_that_names_no_node_of_the_graph_stays() -> None:
    nodes = [{"id": "ask", "block_id": STORE}, {"id": "tool", "block_id": STORE}]
    ends = {"source_id": "ask", "sink_id": "tool", "sink_name": "input"}
    links = [{**ends, "source_name": f"tools_^_{name}_~_input"} for name in ("search_the_web", "tool")]
    after = export(graph(nodes=nodes, links=links), catalogue)
    names = [link["source_name"] for link in after["links"]]
    assert names == ["tools_^_search_the_web_~_input", f"tools_^_{after['nodes'][1]['id']}_~_input"]


def test_two_versions_of_one_graph_are_two_graphs_from_then_on() -> None:
    own, other = uuid4(), uuid4()
    nodes = [agent("new", other), agent("old", other), agent("any", other), agent("me", own)]
    for node, version in zip(nodes, (3, 2, None, 1), strict=True):
        node["input_default"]["graph_version"] = version
    parts = [{"id": str(other), "version": version, "name": f"v{version}"} for version in (2, 3)]
    before = graph(id=str(own), nodes=nodes, links=[], sub_graphs=parts)
    after = export(before, catalogue)
    old, new = (part["id"] for part in after["sub_graphs"])
    assert [node["input_default"]["graph_id"] for node in after["nodes"]] == [new, old, new, after["id"]]
    assert {node["input_default"]["graph_version"] for node in after["nodes"]} == {1}


def test_a_part_that_is_repeated_is_one_part() -> None:
    part = {"id": str(uuid4()), "name": "part"}
    own = str(uuid4())
    repeated = graph(id=own, sub_graphs=[part, {**part, "sub_graphs": [part, {"id": own, "version": 1}]}])
    assert [inner["name"] for inner in export(repeated, catalogue)["sub_graphs"]] == ["part"]


def test_what_others_wrote_beside_goes_out_without_its_secrets() -> None:
    nodes = [{"id": "x", "block_id": STORE, "webhook": {"id": 1}, "note": {"token": "x", "text": "y"}}]
    after = export(graph(nodes=nodes, links=[], forked_from_id="f", api_key="x"), catalogue)
    assert (after["forked_from_id"], after["nodes"][0]["note"]) == ("f", {"text": "y"})
    assert "api_key" not in after
    assert "webhook" not in after["nodes"][0]


def test_sub_graph_nodes_of_2024_call_their_inputs_data() -> None:
    def brought_up(**literals: Any) -> dict[str, Any]:
        nodes = [{"id": "n", "block_id": AGENT_BLOCK, "input_default": literals}]
        inner = {"nodes": nodes}
        after = modernised(graph(nodes=nodes, links=[], sub_graphs=[inner]))
        assert after.nodes == after.sub_graphs[0].nodes
        return after.nodes[0].input_default

    assert brought_up(data={"a": 1}) == {"inputs": {"a": 1}}
    assert brought_up(data={"a": 1}, inputs={}) == {"data": {"a": 1}, "inputs": {}}
    assert brought_up(data="an input of that name") == {"data": "an input of that name"}


@pytest.mark.parametrize("name", ["current", "of_2024", "missing_blocks"])
def test_an_export_can_be_exported_again(name: str) -> None:
    path = Path(__file__).parent / "exports" / f"{name}.json"
    before = documents.read(json.loads(path.read_text())).graph
    after = documents.read(json.loads(json.dumps(export(before, catalogue)))).graph
    for one, other in zip(normalised(before), normalised(after), strict=True):
        assert [node.block_id for node in one.nodes] == [node.block_id for node in other.nodes]
        assert [node.metadata for node in one.nodes] == [node.metadata for node in other.nodes]
        assert [(link.source_name, link.sink_name, link.is_static) for link in one.links] == [
            (link.source_name, link.sink_name, link.is_static) for link in other.links
        ]
    assert is_export(json.loads(path.read_text()))


def test_what_another_system_wrote_is_told_by_what_it_alone_writes() -> None:
    assert not is_export({"name": "x", "nodes": [{"id": "a", "block_id": "b"}], "links": []})
    assert is_export({"nodes": [], "user_id": ""})
    assert is_export({"nodes": [{"id": "a", "block_id": "b", "input_links": []}]})
    assert is_export({"nodes": [], "subgraphs": {}})
    assert not is_export({"nodes": "nonsense"})


names = st.text("abcxyz_", min_size=1, max_size=8).filter(lambda name: not is_secret_name(name))
literals = st.dictionaries(names, st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers()), max_size=3)


@st.composite
def graphs(draw: Any) -> Graph:
    """Graphs with parts that refer to each other."""
    ids = [uuid4() for _ in range(draw(st.integers(1, 3)))]

    def document(graph_id: UUID) -> dict[str, Any]:
        count = draw(st.integers(1, 4))
        nodes: list[dict[str, Any]] = [
            {"id": f"n{number}", "block_id": STORE, "input_default": draw(literals)} for number in range(count)
        ]
        if draw(st.booleans()):
            nodes.append(agent("sub", draw(st.sampled_from(ids))))
        ends = st.sampled_from([f"n{number}" for number in range(count)])
        links = [
            {"source_id": draw(ends), "source_name": "output", "sink_id": draw(ends), "sink_name": draw(names)}
            for _ in range(draw(st.integers(0, 3)))
        ]
        return {"id": str(graph_id), "name": draw(st.text("ab", max_size=3)), "nodes": nodes, "links": links}

    documents = [document(graph_id) for graph_id in ids]
    return Graph.model_validate({**documents[0], "sub_graphs": documents[1:]})


def without_ids(graph: Graph) -> Any:
    """What a graph says, with its nodes by number and its links by their ends."""

    def plain(part: Graph) -> Any:
        numbers = {node.id: number for number, node in enumerate(part.nodes)}
        return (
            part.name,
            [(node.block_id, node.input_default, node.settings) for node in part.nodes],
            [(numbers[link.source_id], link.source_name, numbers[link.sink_id], link.sink_name) for link in part.links],
        )

    return [plain(part) for part in normalised(graph)]


@given(graphs())
def test_what_was_exported_says_what_it_said(before: Graph) -> None:
    after = Graph.model_validate(json.loads(json.dumps(export(before, catalogue))))
    assert without_ids(after) == without_ids(before)
    again = Graph.model_validate(export(after, catalogue))
    assert without_ids(again) == without_ids(before)


@given(graphs())
def test_copies_that_differ_in_ids_of_graphs_alone_have_one_fingerprint(before: Graph) -> None:
    text = before.to_json()
    for part in (before, *before.sub_graphs):
        text = text.replace(str(part.id), str(uuid4()))
    assert fingerprint(Graph.from_json(text)) == fingerprint(before)
