"""How does a Python program write a graph? Node by node, with links drawn between pins.

    from agentflow.builder import Graph

    with Graph("digest") as g:
        text = g.input("text", str)
        words = g.add("TextSplit", text=text, delimiter=" ")
        each = g.add("StepThroughItems")
        words.texts >> each.items
        g.output("words", each.item)
    print(g.to_json())

A graph that is written like this is a `graph.model.Graph`, and nothing beside it: what the builder adds is that a
wrong name is told at its line. `with` checks the whole at its end. Nothing here talks to a server or runs a block.
"""

from agentflow.builder.faults import Doubtful, NoSuchPin
from agentflow.builder.graph import Graph
from agentflow.builder.lookup import Missing
from agentflow.builder.node import Node
from agentflow.builder.pins import Pin
from agentflow.builder.source import to_python

__all__ = ["Doubtful", "Graph", "Missing", "NoSuchPin", "Node", "Pin", "to_python"]
