"""Which settings of a node do nothing, because of what the node is? Its author is warned when the graph is stored.

Only what a node sets for itself is looked at: what its graph sets is meant for all, as far as it concerns them. What a
setting means at each sort of node stands in docs/graphs.md.
"""

from collections.abc import Collection, Iterator
from typing import Final

from agentflow.graph.catalogue import BlockKind, BlockSpec
from agentflow.graph.settings import GraphSettings, NodeSettings, effective

WITHOUT_EFFECT: Final = ("compensate_with",)
"""Settings that a graph may carry and that nothing heeds in this version."""

OF_THE_ROOT: Final = ("budget", "max_node_executions", "priority")
"""Settings of a graph that are taken from the run at the root of a tree, and so do nothing in a sub-graph."""

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
    """A sentence for each setting that the node has and that does nothing.

    Args:
        spec: the node's block.
        node: what the node sets.
        graph: what its graph sets.
        out: the pins that links leave from, by their base names.
    """
    given = {key for key in type(node).model_fields if key in node.model_fields_set and getattr(node, key) is not None}
    given -= set(WITHOUT_EFFECT)  # said of every node
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
