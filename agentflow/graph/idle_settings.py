"""Warns about settings that have no effect on a node because of its kind of block.

Only the node's own settings are checked: the graph's are defaults for all nodes, whether they apply or not.
docs/graphs.md says what each setting means for each kind of node.
"""

from collections.abc import Collection, Iterator
from typing import Final

from agentflow.graph.catalogue import BlockKind, BlockSpec
from agentflow.graph.settings import GraphSettings, NodeSettings, effective

WITHOUT_EFFECT: Final = ("compensate_with",)
"""Settings that a graph may carry but that this version ignores."""

OF_THE_ROOT: Final = ("budget", "max_node_executions", "priority", "queue_timeout", "runs")
"""Graph settings that hold for a whole tree of runs. The root sets them; they do nothing in a sub-graph."""

_WAITING: Final = {
    "cache": "only what a block gives without waiting is kept",
    "concurrency": "what waits holds no place",
    "timeout": "it is for each attempt, and what waits makes none",
}

_AGENT: Final = {
    "cache": "only what a block gives without waiting is kept",
    "timeout": "it is for each attempt; how long the run of its graph may take is that graph's `deadline`",
}


def idle_settings(spec: BlockSpec, node: NodeSettings, graph: GraphSettings, out: Collection[str]) -> Iterator[str]:
    """One sentence for each of the node's settings that has no effect.

    Args:
        spec: the node's block.
        node: the node's own settings.
        graph: the settings of its graph.
        out: the base names of the output pins that have links.
    """
    given = {key for key in type(node).model_fields if key in node.model_fields_set and getattr(node, key) is not None}
    given -= set(WITHOUT_EFFECT)  # reported for every node by `validation`
    if spec.kind is BlockKind.NOTE:
        yield from (f"the setting '{key}' has no effect: a note never runs" for key in sorted(given))
        return
    told = _AGENT if spec.kind is BlockKind.AGENT else _WAITING if spec.waits else {}
    yield from (f"the setting '{key}' has no effect on {spec.name}: {told[key]}" for key in sorted(given & told.keys()))
    if "cache" in given - told.keys() and not spec.cacheable:
        yield f"the setting 'cache' has no effect on {spec.name}: what it gives may be another each time"
    if "ordering" in given and not out:
        yield "the setting 'ordering' has no effect: no link leaves this node"
    if "on_node_failure" in given and "error" in out:
        yield "the setting 'on_node_failure' has no effect: the link from 'error' handles every failure"
    holds = effective(graph, node)
    if "retry" in given and holds.retry.max_failures == 0 and node.retry.model_fields_set - {"max_failures"}:
        yield "the setting 'retry' has no effect without 'max_failures': nothing is tried again"
    if "max_losses" in given and holds.on_worker_lost == "fail":
        yield "the setting 'max_losses' has no effect: with on_worker_lost 'fail' no loss is borne"
