"""A failed reply in real runs: it fails a node that leaves it to nobody, and is waited for where that may help."""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from installation import api, app, environment, key, shared_database, submit, work
from sqlalchemy import text

from agentflow.blocks import registry
from agentflow.services.transaction import transaction
from agentflow.settings import Settings, settings

if TYPE_CHECKING:
    from web_site import Site

__all__ = ["api", "app", "environment", "key", "shared_database", "submit", "work"]

pytestmark = pytest.mark.timeout(60, method="thread")

Submit = Callable[..., UUID]
Work = Callable[..., None]


@pytest.fixture(autouse=True)
def _allowed(environment: Settings, site: "Site", monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AGENTFLOW_HTTP_ALLOW", site.pair)
    settings.cache_clear()
    yield
    settings.cache_clear()


def request(url: str, *pins: str, **own: Any) -> dict[str, Any]:
    """One request, whose pins of these names are outputs of the run."""
    given = {"url": url, "method": "GET"}
    ask = {"id": "ask", "block_id": registry.by_name("SendWebRequest").id, "input_default": given, "settings": own}
    output = registry.by_name("AgentOutput").id
    nodes = [ask, *({"id": pin, "block_id": output, "input_default": {"name": pin}} for pin in pins)]
    links = [{"source_id": "ask", "source_name": pin, "sink_id": pin, "sink_name": "value"} for pin in pins]
    return {"name": "request", "nodes": nodes, "links": links}


def shown(api: FlaskClient, run_id: UUID) -> tuple[str, Any]:
    run: Any = api.get(f"/api/v1/runs/{run_id}").json
    return run["status"], run["outputs"]


@pytest.mark.parametrize("status", [404, 503])
@pytest.mark.parametrize("pins", [(), ("response",), ("client_error", "server_error"), ("response", "error")])
def test_a_failed_reply_goes_on_or_fails_the_node(
    site: "Site", api: FlaskClient, submit: Submit, work: Work, status: int, pins: tuple[str, ...]
) -> None:
    run_id = submit(request(site.url(f"/status/{status}"), *pins))
    work(run_id)
    taken = "client_error" if status == 404 else "server_error"
    if taken in pins:
        assert shown(api, run_id) == ("COMPLETED", {taken: [{"status": status}]})
    elif "error" in pins:
        ended, outputs = shown(api, run_id)
        assert ended == "COMPLETED"
        assert f"status {status}" in outputs["error"][0]
    else:
        assert shown(api, run_id) == ("FAILED", {})


@pytest.mark.parametrize(("after", "least"), [("7", 7), ("", 0)])
def test_a_node_waits_as_long_as_the_reply_says(
    site: "Site", submit: Submit, work: Work, after: str, least: float
) -> None:
    own = {"retry": {"max_failures": 1, "base": 0, "jitter": False}}
    run_id = submit(request(site.url(f"/busy/429?after={after}"), "response", **own))
    work(run_id, most=1)
    with transaction() as session:
        found = session.execute(
            text(
                "SELECT status, reason, extract(epoch FROM due_at - agentflow_now())::float8 FROM node_executions "
                "WHERE run_id = :run AND node = 0"
            ),
            {"run": run_id},
        ).one()
    assert found[:2] == ("QUEUED", "transient")
    assert least - 3 < found[2] <= least


def test_a_node_that_is_run_by_itself_shows_the_reply(
    site: "Site", api: FlaskClient, submit: Submit, work: Work
) -> None:
    """As `POST /blocks/{id}/execute` and models do: whoever runs it sees all of its pins."""
    document = request(site.url("/status/404"))
    document["nodes"][0] |= {"id": "node", "input_default": {}}
    given = {"url": site.url("/status/404"), "method": "GET"}
    run_id = submit(document, nodes_input_masks={"node": given})
    work(run_id)
    assert shown(api, run_id)[0] == "COMPLETED"
    with transaction() as session:
        found = session.execute(
            text("SELECT pin, value FROM outputs WHERE run_id = :run AND node = 0"), {"run": run_id}
        )
        assert [(pin, json.loads(value)) for pin, value in found] == [("client_error", {"status": 404})]


def test_a_failed_reply_is_not_given_again(site: "Site", api: FlaskClient, submit: Submit, work: Work) -> None:
    for path, times in (("/status/404", 2), ("/status/503", 2), ("/status/200", 1)):
        site.seen.clear()
        for _ in range(2):
            work(submit(request(site.url(path), "response", "client_error", "server_error", cache={"ttl": 600})))
        assert len(site.seen) == times
