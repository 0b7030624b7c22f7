"""Finds feedback pins: pins that bring the results of a node's own earlier work back to it.

A block that works in a loop (an agent that calls tools) declares such pins: its own conversation comes back to it, and
so does the output of the tool that it called. In a graph, a declared pin is a feedback pin if every link into it comes
from the node itself or from a node downstream of it. The first execution does not wait for it, and its k-th value goes
to execution k + 1. A value on it serves one execution: it never stays, even over a static link.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from agentflow.graph.pins import base_name

_Id = TypeVar("_Id", bound=Hashable)


def feedback_pins(
    declared: Mapping[_Id, Collection[str]], links: Iterable[tuple[_Id, _Id, str]]
) -> Mapping[_Id, tuple[str, ...]]:
    """The feedback pins of each node that has any, named as in its links. Takes time linear in nodes and links.

    Args:
        declared: node → the feedback pins that its block declares; nodes without any may be left out.
        links: (source, sink, pin of the sink).
    """
    declared = {node: pins for node, pins in declared.items() if pins}
    if not declared:
        return {}
    sinks: dict[_Id, list[_Id]] = defaultdict(list)
    arriving: dict[tuple[_Id, str], list[_Id]] = defaultdict(list)
    for source, sink, pin in links:
        sinks[source].append(sink)
        if base_name(pin) in declared.get(sink, ()):
            arriving[sink, pin].append(source)
    # A node that links to another and lies downstream of it is on a cycle with it.
    cycle = _cycles(sinks)
    found: dict[_Id, tuple[str, ...]] = {}
    for (sink, pin), sources in arriving.items():
        if all(cycle[source] == cycle[sink] for source in sources):
            found[sink] = (*found.get(sink, ()), pin)
    return found


def _cycles(sinks: Mapping[_Id, Sequence[_Id]]) -> Mapping[_Id, _Id]:
    """Node → representative of its strongly connected component (Kosaraju's algorithm)."""
    sources: dict[_Id, list[_Id]] = defaultdict(list)
    for source, reached in sinks.items():
        for sink in reached:
            sources[sink].append(source)
    component: dict[_Id, _Id] = {}
    for root in reversed(list(_post_order(sinks))):
        waiting = [root]
        while waiting:
            node = waiting.pop()
            if node not in component:
                component[node] = root
                waiting += sources[node]
    return component


def _post_order(sinks: Mapping[_Id, Sequence[_Id]]) -> Iterator[_Id]:
    """All nodes in post-order of a depth-first search."""
    seen: set[_Id] = set()
    for root in sinks:
        if root in seen:
            continue
        seen.add(root)
        path = [(root, iter(sinks[root]))]
        while path:
            node, rest = path[-1]
            step = next((sink for sink in rest if sink not in seen), None)
            if step is None:
                yield node
                path.pop()
            else:
                seen.add(step)
                path.append((step, iter(sinks.get(step, ()))))
