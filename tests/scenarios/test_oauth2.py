"""Four real workers share a token that ends, of a provider that takes each refresh token once; and the worker that
renews it dies."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fleet import Fleet, graph, link, node, until
from oauth2_server import OAuth2Server, oauth2_server

from agentflow.client.http import ApiError
from agentflow.credentials.renewing import LEASE_SECONDS
from agentflow.schemas.runs import RunView

pytestmark = pytest.mark.scenario

_KEY = "b" * 42 + "A="


@pytest.fixture
def acme() -> Iterator[OAuth2Server]:
    with oauth2_server() as running:
        yield running


@pytest.fixture
def fleet(acme: OAuth2Server, database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """An API server and no worker yet, where the operator has an app at `acme`."""
    environment = {
        "AGENTFLOW_CREDENTIAL_KEYS": _KEY,
        "AGENTFLOW_OAUTH_PROVIDERS": json.dumps({"acme": acme.entry()}),
        "AGENTFLOW_PUBLIC_URL": "http://127.0.0.1:1",
    }
    made = Fleet(database_url, broker_url, tmp_path, environment=environment)
    try:
        made.start_web()
        yield made
    finally:
        made.stop()


def log_in(fleet: Fleet, acme: OAuth2Server, **more: Any) -> UUID:
    begun = fleet.client.credentials.begin_login("acme", **more)
    back = acme.allow(begun.authorization_url)
    return fleet.client.credentials.end_login(back["state"], back["code"]).id


def calls(acme: OAuth2Server, count: int, log: Path, retried: int = 0) -> dict[str, Any]:
    """So many executions that each call the provider with the token."""
    settings = {"retry": {"max_failures": retried, "base": 0.5}} if retried else {}
    return graph(
        [
            node("each", "StepThroughItems", items=list(range(count))),
            node("call", "TestToken", settings, url=f"{acme.url}/me", log=str(log)),
        ],
        [link("each:item", "call:value")],
    )


def statuses(fleet: Fleet, run: RunView) -> Counter[Any]:
    """How the calls ended, and what the provider said to them."""
    found = [one for one in fleet.client.nodes(run.id) if one.node_id == "call"]
    return Counter((one.status.value, *one.outputs.get("value", ())) for one in found)


def test_two_hundred_executions_at_the_moment_of_expiry_renew_once(
    fleet: Fleet, acme: OAuth2Server, log: Path, rows: Any
) -> None:
    fleet.ensure_workers(4)
    acme.life = 1
    log_in(fleet, acme)
    acme.life = 3600
    until(lambda: rows("SELECT 1 FROM credentials WHERE token_expires_at < now()"), "the token has ended")
    acme.good.clear()
    run = fleet.ended(fleet.submit(calls(acme, 200, log)), 120)
    assert (run.status, statuses(fleet, run)) == ("COMPLETED", Counter({("COMPLETED", 200): 200}))
    assert (acme.refreshed, acme.reused) == (1, 0)
    workers = {line.split()[3] for line in log.read_text().splitlines()}
    assert len(workers) == 4, "each of the workers had some"


def test_when_the_worker_that_renews_dies_another_succeeds_it(
    fleet: Fleet, acme: OAuth2Server, log: Path, rows: Any
) -> None:
    dying = fleet.start_worker()
    credential = log_in(fleet, acme)
    rows("UPDATE credentials SET renew_at = now(), token_expires_at = now() RETURNING 1")
    acme.hold.clear()
    run_id = fleet.submit(calls(acme, 20, log))
    until(lambda: acme.waiting == 1, "the provider holds an answer back")
    fleet.ensure_workers(4)
    fleet.kill(dying)
    until(lambda: acme.waiting == 0, "the provider notices that nobody waits for it")
    acme.hold.set()
    run = fleet.ended(run_id, LEASE_SECONDS + 60)
    assert (run.status, statuses(fleet, run)) == ("COMPLETED", Counter({("COMPLETED", 200): 20}))
    assert (acme.refreshed, acme.reused) == (1, 0)
    assert fleet.client.credentials.get(credential).state == "valid"
    assert fleet.client.credentials.test(credential).ok


def test_a_fault_of_the_provider_is_tried_again_and_a_refusal_is_told(
    fleet: Fleet, acme: OAuth2Server, log: Path, rows: Any
) -> None:
    fleet.ensure_workers(1)
    credential = log_in(fleet, acme)
    rows("UPDATE credentials SET renew_at = now(), token_expires_at = now() RETURNING 1")
    acme.replies = [(500, {}, b""), (400, {}, b'{"error": "invalid_grant"}')]
    run = fleet.ended(fleet.submit(calls(acme, 1, log, retried=3)), 60)
    (failed,) = [one for one in fleet.client.nodes(run.id) if one.node_id == "call"]
    assert (run.status, failed.status.value, failed.reason) == ("FAILED", "FAILED", "user")
    assert "acme refuses the credential 'acme' (invalid_grant)" in (failed.error or "")
    assert failed.attempt > 1, "the fault was tried again"
    assert fleet.client.credentials.get(credential).state == "needs_reauthorisation"
    with pytest.raises(ApiError) as refused:
        fleet.submit(calls(acme, 1, log))
    told = "the credential 'acme' needs to be authorised again"
    assert [(one.node, one.pin, one.message) for one in refused.value.errors] == [("call", "credentials", told)]
    log_in(fleet, acme, credential_id=credential)
    run = fleet.run(calls(acme, 1, log))
    assert statuses(fleet, run) == Counter({("COMPLETED", 200): 1})
