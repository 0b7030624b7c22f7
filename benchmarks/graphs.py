"""Builds the benchmark's shapes as graphs of trivial blocks, so that the engine is measured.

A step is a Calculator that adds 1, like the step of canvas. The last node of each graph is an output node with the
run's result. It counts as a node: a chain of 300 has 300 nodes, as canvas' chain has 300 tasks.
"""

from typing import Any

from agentflow.blocks.registry import by_name

Document = dict[str, Any]
OUTPUT = "result"
"""The name of each graph's output node."""


def _node(node_id: str, block: str, **defaults: Any) -> dict[str, Any]:
    return {"id": node_id, "block_id": by_name(block).id, "input_default": defaults}


def _link(source: str, source_pin: str, sink: str, sink_pin: str) -> dict[str, Any]:
    return {
        "id": f"{source}.{source_pin}>{sink}.{sink_pin}",
        "source_id": source,
        "source_name": source_pin,
        "sink_id": sink,
        "sink_name": sink_pin,
    }


def _step(node_id: str, *, b: int = 1, **defaults: Any) -> dict[str, Any]:
    return _node(node_id, "Calculator", operation="Add", b=b, **defaults)


def chain(length: int) -> Document:
    """`length` nodes in a row, of which the last is the output; its value is `length` - 1."""
    steps = length - 1
    nodes = [_step("s0", a=0), *(_step(f"s{number}") for number in range(1, steps))]
    links = [_link(f"s{number - 1}", "result", f"s{number}", "a") for number in range(1, steps)]
    nodes.append(_node("out", "AgentOutput", name=OUTPUT))
    links.append(_link(f"s{steps - 1}", "result", "out", "value"))
    return {"name": f"chain of {length}", "nodes": nodes, "links": links}


def fan(width: int) -> Document:
    """One source, `width` steps that it feeds, and a list of their results: [1, 2, … width]."""
    nodes = [_step("source", a=-1), *(_step(f"s{number}", b=number + 1) for number in range(width))]
    links = [_link("source", "result", f"s{number}", "a") for number in range(width)]
    nodes += [_node("gather", "CreateList"), _node("out", "AgentOutput", name=OUTPUT)]
    links += [_link(f"s{number}", "result", "gather", f"values_$_{number}") for number in range(width)]
    links.append(_link("gather", "list", "out", "value"))
    return {"name": f"fan of {width}", "nodes": nodes, "links": links}


def pairs(count: int) -> Document:
    """`count` independent pairs of a step that feeds another: their claims and settles do not interact."""
    nodes = [_step(f"s{number}", a=0) for number in range(count)] + [_step(f"t{number}") for number in range(count)]
    links = [_link(f"s{number}", "result", f"t{number}", "a") for number in range(count)]
    return {"name": f"{count} pairs", "nodes": nodes, "links": links}
