"""The source that is written for a graph builds that graph again."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from agentflow.builder import Graph, to_python
from agentflow.errors import GraphInvalid
from agentflow.graph import model
from agentflow.graph.exchange import distinct_parts
from agentflow.graph.pins import TOOLS, tool_pin
from agentflow.shipped import shipped

EXPORTS = sorted((Path(__file__).parents[1] / "graph" / "exports").glob("*.json"))
EXAMPLES = sorted(shipped("examples").glob("*.json"))

STORE = "1ff065e9-88e8-4358-9d82-8dc91f622ba9"


def built(source: str) -> Graph:
    """What the program `source` builds, without a warning that the graph itself does not deserve."""
    names: dict[str, Any] = {}
    exec(compile(source, "graph", "exec"), names)
    made = names["g"]
    assert isinstance(made, Graph)
    return made


def flat(graph: model.Graph) -> model.Graph:
    """`graph` with its parts side by side, and with tool pins that name their sinks."""

    def explicit(part: model.Graph) -> model.Graph:
        links = [
            link.model_copy(update={"source_name": tool_pin(link.sink_id, link.sink_name)})
            if link.source_name == TOOLS
            else link
            for link in part.links
        ]
        return part.model_copy(update={"links": links, "sub_graphs": []})

    parts = [explicit(part) for part in distinct_parts(graph).values()]
    return explicit(graph).model_copy(update={"sub_graphs": parts})


@pytest.mark.parametrize("path", [*EXAMPLES, *EXPORTS], ids=lambda path: path.stem)
def test_graphs_in_the_wild_are_built_again_byte_for_byte(path: Path) -> None:
    document = model.Graph.from_json(path.read_text(encoding="utf-8"))
    assert built(to_python(document)).to_json() == flat(document).to_json()


def test_the_source_is_what_one_would_write() -> None:
    g = Graph("count", id="0198c5a2-0000-7000-8000-000000000001")
    split = g.add("TextSplit", text=g.input("text", str), delimiter=" ", settings={"timeout": 5})
    split.node_title = "Take the words"
    split.texts.to(g.add("CountItems", "print").collection, static=True)
    g.output("first", split.texts[0], "class")
    assert to_python(g) == (
        "from agentflow.builder import Graph\n\n"
        "g = Graph('count', id='0198c5a2-0000-7000-8000-000000000001')\n"
        "text = g.add('AgentShortTextInput', 'text', name='text')\n"
        "text_split = g.add(\n"
        "    'TextSplit',\n"
        "    'text_split',\n"
        "    delimiter=' ',\n"
        "    node_title='Take the words',\n"
        "    settings={'timeout': 5.0},\n"
        ")\n"
        "print_2 = g.add('CountItems', 'print')\n"
        "class_2 = g.add('AgentOutput', 'class', name='first')\n"
        "text.result >> text_split.text\n"
        "g.link(text_split.texts, print_2.collection, static=True)\n"
        "text_split.texts[0] >> class_2.value\n"
    )


def test_what_is_odd_but_storable_is_kept() -> None:
    document: dict[str, Any] = {
        "name": "öd\n'\"\\ {g}",
        "version": 3,
        "instructions": "",
        "is_active": False,
        "recommended_schedule_cron": None,
        "settings": {"safe_mode": False, "strange": 1},
        "nodes": [
            {
                "id": "1 a",
                "block_id": STORE,
                "input_default": {"input": "\ud800\x00", "data": [None, 1e300, {"": {}}], "unknown": 1},
                "metadata": {"customized_name": "", "position": {"x": -1}},
                "webhook_id": "w",
                "graph_id": "0198c5a2-0000-7000-8000-000000000001",
                "graph_version": 2,
                "more": [1],
            },
            {"id": "1_A", "block_id": "gone", "input_default": {"x y": "a" * 500}, "settings": {"cache": None}},
        ],
        "links": [
            {"source_id": "1 a", "source_name": "output_$_007", "sink_id": "1_A", "sink_name": "class_#_if", "id": "L"},
            {"source_id": "1_A", "source_name": "_x", "sink_id": "1 a", "sink_name": "input_$_3_@_a", "colour": "red"},
            {"source_id": "1_A", "source_name": "node_id", "sink_id": "1 a", "sink_name": "data", "is_static": True},
        ],
    }
    graph = model.Graph.model_validate(document)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is no setting 'strange'
        again = built(to_python(graph))
    assert again.to_json() == graph.to_json()
    assert json.loads(again.to_json())["nodes"][0]["more"] == [1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"nodes": [{"id": "a", "block_id": STORE}, {"id": "a", "block_id": STORE}]}, "two nodes with one id"),
        (
            {"links": [{"source_id": "a", "source_name": "output", "sink_id": "b", "sink_name": "input"}]},
            "the graph has no node 'b'",
        ),
        (
            {"links": [{"source_id": "a", "source_name": "out", "sink_id": "a", "sink_name": "input"}]},
            "no output pin 'out'",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, Any], told: str) -> None:
    document = {"nodes": [{"id": "a", "block_id": STORE}], **changes}
    with pytest.raises(GraphInvalid, match=told):
        to_python(model.Graph.model_validate(document))
