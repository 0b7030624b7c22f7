"""A subscriber ends up with exactly the events of the database, in their order, over whatever cuts."""

import pytest
from fleet import graph, link, node

pytestmark = pytest.mark.scenario


def items(count: int) -> dict:
    """A graph with three node executions an item."""
    return graph(
        [node("each", "StepThroughItems", items=list(range(count))), node("out", "AgentOutput", name="n")],
        [link("each:item", "out:value")],
    )


def test_a_run_is_told_from_its_first_event_to_its_last(fleet, dial, stored):
    run = fleet.submit(items(3))
    socket = dial()
    socket.subscribe(f"run:{run}")
    events = socket.until_over()
    assert [event["id"] for event in events] == stored(run)
    assert {event["channel"] for event in events} == {f"run:{run}"}
    assert (events[-1]["data"]["kind"], events[-1]["data"]["status"]) == ("run", "COMPLETED")
