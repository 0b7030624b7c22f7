"""Builds graphs in Python: a program adds nodes and draws links between their pins.

    from agentflow.builder import Graph

    with Graph("digest") as g:
        text = g.input("text", str)
        words = g.add("TextSplit", text=text, delimiter=" ")
        each = g.add("StepThroughItems")
        words.texts >> each.items
        g.output("words", each.item)
    print(g.to_json())

The result is a `graph.model.Graph` and nothing more; the builder adds that a wrong name is reported at its line. `with`
checks the whole graph at its end. Nothing here talks to a server or runs a block.
"""

from agentflow.builder.faults import Doubtful, NoSuchPin
from agentflow.builder.graph import Graph
from agentflow.builder.lookup import Missing
from agentflow.builder.node import Node, Pin
from agentflow.builder.source import to_python

__all__ = ["Doubtful", "Graph", "Missing", "NoSuchPin", "Node", "Pin", "to_python"]
