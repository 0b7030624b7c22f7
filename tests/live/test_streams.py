"""A subscriber ends up with exactly the events of the database, in their order, over whatever cuts."""

import httpx
import pytest
from fleet import graph, link, node

pytestmark = pytest.mark.scenario


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


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


def test_the_apis_own_address_streams_through_the_live_process(fleet, stored):
    run = fleet.submit(items(3))
    assert [event.id for event in fleet.client.events(run)] == stored(run)
    with httpx.stream("GET", f"{fleet.url}/api/v1/runs/{run}/events", headers=bearer(fleet.key)) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert "x-request-id" not in reply.headers  # it is not the API that answers
        text = reply.read().decode()
    assert [line[4:] for line in text.splitlines() if line.startswith("id: ")] == stored(run)
