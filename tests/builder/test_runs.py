"""A graph that was built in Python runs, and does what it says."""

from collections.abc import Callable
from uuid import UUID

import pytest
from installation import app, environment, key, shared_database, url, work

from agentflow.builder import Graph
from agentflow.client import Client

__all__ = ["app", "environment", "key", "shared_database", "url", "work"]

# pytest-timeout's other method is SIGALRM itself.
pytestmark = pytest.mark.timeout(60, method="thread")


def test_a_built_graph_runs_with_its_links_into_and_out_of_containers(
    url: str, key: str, work: Callable[[UUID], None]
) -> None:
    with Graph("greet") as g:
        who = g.input("who", dict)
        filled = g.add(
            "FillTextTemplate", format="{{a}}, {{b[0]}}{{c}}", values={"a": "Hello", "b": [who["name"]], "c": "!"}
        )
        g.output("greeting", filled.output)
    with Client(url, key) as client:
        run = g.run(client, {"who": {"name": "Ada"}})
        work(run.id)
        assert client.get_run(run.id).outputs == {"greeting": ["Hello, Ada!"]}


def test_a_sub_graph_runs_with_what_its_node_is_given(url: str, key: str, work: Callable[[UUID], None]) -> None:
    with Graph("double") as double:
        number = double.input("number", int)
        double.output("twice", double.add("Calculator", operation="Multiply", a=number, b=2).result)
    with Graph("outer") as g:
        each = g.add("StepThroughItems", items=g.input("numbers", list))
        node = g.sub_graph(double, {"number": each.item})
        g.output("doubles", node.twice)
    with Client(url, key) as client:
        run = g.run(client, {"numbers": [1, 2]})
        work(run.id)
        for child in client.runs(parent=run.id):
            work(child.id)
        work(run.id)
        assert client.get_run(run.id).outputs == {"doubles": [2, 4]}
