"""Blocks get tokens that are good and wide enough, and nothing that they give shows a part of them."""

import json
from uuid import UUID

import pytest
from oauth2_server import *  # noqa: F403
from oauth2_server import URL, log_in
from planted import found_in_database
from sqlalchemy import text

from agentflow.blocks.base import BlockInput, BlockOutput
from agentflow.blocks.credentials import credentials
from agentflow.credentials import service
from agentflow.credentials.oauth2_providers import OAuthProvider
from agentflow.graph.withholding import HIDDEN
from agentflow.services.transaction import transaction
from agentflow.settings import settings

pytestmark = pytest.mark.timeout(60, method="thread")

ACME = credentials("acme", types=("oauth2", "api_key"), scopes=("read", "write"))


class Input(BlockInput):
    value: object = None
    credentials: ACME


class Output(BlockOutput):
    value: object
    number: int


def tells(inputs, context):
    yield "number", len(context.credential("acme").api_key)


@pytest.fixture
def graph(probe):
    """`graph(run=tells, **literals)` is a graph of one node, `n`, which takes a token with two scopes."""

    def of(run=tells, **literals):
        block = probe(run, Input=Input, Output=Output)
        return {"name": "g", "nodes": [{"id": "n", "block_id": block, "input_default": literals}]}

    return of


@pytest.fixture
def play(api, work):
    """Runs a graph, and gives the node, or what was refused."""

    def run(document, meanwhile=lambda: None, **more):
        reply = api.post("/api/v1/runs", json={"graph": document, **more})
        if reply.status_code != 202:
            return [(one["node"], one["pin"], one["message"]) for one in reply.json["errors"]]
        meanwhile()
        work(UUID(reply.json["id"]))
        (node,) = [
            one for one in api.get(f"/api/v1/runs/{reply.json['id']}/nodes").json["items"] if one["node_id"] == "n"
        ]
        return node

    return run


def rows(statement, **values):
    with transaction() as session:
        return [tuple(row) for row in session.execute(text(statement), values)]


LACKS = "the credential 'acme' lacks the scope write: authorise it again with them"


@pytest.mark.parametrize("way", ["literal", "submission", "only one"])
def test_too_few_scopes_are_a_422_that_names_node_and_pin(api, acme, graph, play, way):
    narrow = log_in(api, acme, scopes=["read"])["id"]
    document = graph(credentials={"id": narrow}) if way == "literal" else graph()
    more = {"credentials": {"acme_api_key-oauth2_credentials": narrow}} if way == "submission" else {}
    assert play(document, **more) == [("n", "credentials", LACKS)]
    log_in(api, acme, credential_id=narrow, scopes=["write", "read", "more"])
    assert play(document, **more)["status"] == "COMPLETED"


def test_the_only_one_that_is_wide_enough_is_taken(api, acme, graph, play):
    log_in(api, acme, scopes=["read"])
    log_in(api, acme, scopes=["read", "write"])
    assert play(graph())["status"] == "COMPLETED"


def test_scopes_that_a_scope_contains_count(api, acme, graph, play, monkeypatch):
    entry = OAuthProvider(**acme.entry(implied_scopes={"all": ("write",), "write": ("read",)}))
    monkeypatch.setattr(settings(), "oauth_providers", {"acme": entry})
    log_in(api, acme, scopes=["all"])
    assert play(graph())["status"] == "COMPLETED"


def test_only_tokens_have_scopes(api, acme, graph, play):
    api.post(URL, json={"provider": "acme", "secret": {"type": "api_key", "api_key": "k" * 12}})
    assert play(graph())["outputs"]["number"] == [12]


def test_scopes_are_looked_at_again_when_it_runs(api, acme, graph, play):
    wide = log_in(api, acme, scopes=["read", "write"])["id"]
    node = play(graph(credentials={"id": wide}), lambda: log_in(api, acme, credential_id=wide, scopes=["read"]))
    assert (node["status"], node["reason"], node["error"]) == ("FAILED", "user", LACKS)
    rows("DELETE FROM credentials RETURNING 1")
    wide = log_in(api, acme, scopes=["read", "write"])["id"]
    node = play(graph(), lambda: log_in(api, acme, credential_id=wide, scopes=["read"]))
    assert (node["status"], node["reason"], node["error"]) == ("FAILED", "user", LACKS)


def test_a_token_is_renewed_when_the_block_asks_and_not_before(api, acme, graph, play):
    log_in(api, acme, scopes=["read", "write"])
    rows("UPDATE credentials SET renew_at = now(), token_expires_at = now() RETURNING 1")

    def asks_nothing(inputs, context):
        yield "number", 1

    assert play(graph(asks_nothing))["status"] == "COMPLETED"
    assert acme.refreshed == 0
    assert play(graph())["status"] == "COMPLETED"
    assert acme.refreshed == 1


def test_nothing_that_a_block_gives_shows_a_token_not_even_one_that_it_did_not_get(api, acme, graph, play):
    made = log_in(api, acme, scopes=["read", "write"])
    with transaction() as session:
        ((owner,),) = session.execute(text("SELECT owner_id FROM credentials")).all()
        one = service.get(session, owner, UUID(made["id"]))
        secret = service.key_ring().decrypt(service.sealed_of(one), service.bound_of(one))

    def gives(inputs, context):
        token = context.credential("acme").api_key
        yield "value", {"one": f"<{token}>", "other": f"<{secret['refresh_token']}>"}

    node = play(graph(gives))
    assert node["outputs"]["value"] == [{"one": f"<{HIDDEN}>", "other": f"<{HIDDEN}>"}]
    assert found_in_database(*secret.values()) == set()


def test_without_another_attempt_a_fault_fails_the_node_and_the_credential_stays(api, acme, graph, play):
    made = log_in(api, acme, scopes=["read", "write"])
    rows("UPDATE credentials SET renew_at = now(), token_expires_at = now() RETURNING 1")
    acme.replies = [(500, {}, json.dumps({"error": "PLANTED"}).encode())]
    node = play(graph())
    assert (node["status"], node["reason"]) == ("FAILED", "transient")
    assert node["error"] == "acme did not renew the credential 'acme' (it answers 500)"
    assert api.get(f"{URL}/{made['id']}").json["state"] == "valid"
