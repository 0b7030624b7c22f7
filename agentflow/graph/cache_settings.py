"""Checks that `cache.key`, set on a graph or a node, names existing pins.

A misspelt name would leave the intended pin out of the key, so that one input would get the result of another.
"""

from collections.abc import Iterator
from dataclasses import replace

from agentflow.errors import Problem
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.model import Graph
from agentflow.graph.pins import base_name, enclosing
from agentflow.graph.settings import CacheSettings
from agentflow.graph.wiring import Wiring, input_pins


def check_caches(graph: Graph, wiring: Wiring, *, imported: bool) -> Iterator[Problem]:
    """The problems found, each with its node. For imported graphs they are only warnings."""
    for problem in _all(graph, wiring):
        yield replace(problem, severity="warning") if imported else problem


def _all(graph: Graph, wiring: Wiring) -> Iterator[Problem]:
    known = [id for id in wiring.nodes if id in wiring.specs and wiring.kind(id) is not BlockKind.NOTE]
    if graph.settings.cache is not None:
        yield from _check(graph.settings.cache, known, None, wiring)
    for id in known:
        cache = wiring.nodes[id].settings.cache
        if cache is not None:
            yield from _check(cache, [id], id, wiring)


def _check(cache: CacheSettings, nodes: list[str], at: str | None, wiring: Wiring) -> Iterator[Problem]:
    if cache.key is None:
        return
    if not cache.key:
        yield Problem("cache.key names no pin: leave it out, and all of them count", at)
    for name in cache.key:
        if not any(_takes(id, name, wiring) for id in nodes):
            yield Problem(f"cache.key: there is no input pin '{name}'", at, name)


def _takes(node_id: str, name: str, wiring: Wiring) -> bool:
    """Whether a node has that pin: its block declares it; a part of a pin also needs a link or a literal."""
    node = wiring.nodes[node_id]
    if base_name(name) not in input_pins(node, wiring.specs[node_id]):
        return False
    given = (*wiring.linked[node_id], *node.input_default)
    return name == base_name(name) or any(overlap(name, pin) for pin in given)


def overlap(first: str, second: str) -> bool:
    """Whether the two pins are the same, or one is part of the other."""
    return first in enclosing(second) or second in enclosing(first)
