"""What a submission names reaches the pins that take it, in sub-graphs too, and is checked before anything starts."""

from uuid import uuid4

import pytest
from installation import *  # noqa: F403
from planted import body

from agentflow.blocks import registry

URL = "/api/v1/credentials"
MAIL = registry.by_name("SendEmail").id
AGENT = registry.by_name("AgentExecutor").id
LETTER = {
    "to_email": "a@example.com",
    "subject": "s",
    "body": "b",
    "config": {"smtp_server": "mail.example.com", "smtp_port": 25},
}
KEY = "smtp_user_password_credentials"


@pytest.fixture
def parent(push):
    """A graph that runs another, whose node needs a credential."""
    inner = push({"name": "inner", "nodes": [{"id": "mail", "block_id": MAIL, "input_default": LETTER}]})
    named = {"graph_id": str(inner), "graph_version": 1, "inputs": {}, "input_schema": {}, "output_schema": {}}
    return push({"name": "outer", "nodes": [{"id": "sub", "block_id": AGENT, "input_default": named}]})


def test_a_sub_graph_gets_what_its_parents_submission_names(api, parent, outcome):
    # Its own server is another one: so the message shows that the block got this one.
    secret = {"type": "user_password", "username": "u", "password": "hush", "base_url": "smtp://other.example.com:25"}
    first, second = (api.post(URL, json=body("smtp", secret)).json["id"] for _ in range(2))
    assert list(api.get(f"/api/v1/graphs/{parent}").json["credentials_input_schema"]["properties"]) == [KEY]
    unnamed = outcome(parent)
    assert "2 of your credentials for smtp fit" in unnamed["error"]
    for id in (first, second):
        named = outcome(parent, credentials={KEY: id})
        assert "is for other.example.com:25, and goes nowhere else" in named["error"]


def test_what_a_submission_names_for_a_sub_graph_is_checked_before_it_starts(api, stranger, parent, rows):
    theirs = stranger.post(URL, json=body("smtp")).json["id"]
    before = rows()
    for named in (theirs, str(uuid4()), {"id": theirs, "provider": "smtp"}):
        refused = api.post(f"/api/v1/graphs/{parent}/runs", json={"credentials": {KEY: named}})
        (problem,) = refused.json["errors"]
        assert (refused.status_code, problem["node"], problem["pin"]) == (422, "mail", "credentials")
        assert "is not yours" in problem["message"]
    assert rows() == before


@pytest.mark.parametrize("named", [5, "x", None, {}, {"id": "x"}, {"id": str(uuid4()), "api_key": "sk"}, []])
def test_what_names_no_credential_is_malformed(api, parent, named):
    refused = api.post(f"/api/v1/graphs/{parent}/runs", json={"credentials": {KEY: named}})
    assert refused.status_code == 400
    assert refused.json["errors"][0]["message"].startswith(f"credentials.{KEY}")


def test_the_same_submission_with_the_same_key_gives_the_same_run(api, parent):
    first, second = (api.post(URL, json=body("smtp")).json["id"] for _ in range(2))
    send = lambda id: api.post(  # noqa: E731
        f"/api/v1/graphs/{parent}/runs", json={"credentials": {KEY: id}}, headers={"Idempotency-Key": "once"}
    )
    assert send(first).json["id"] == send(first).json["id"]
    assert send(second).status_code == 422
    api.delete(f"{URL}/{first}")
    again = send(first)
    assert (again.status_code, again.headers["Idempotent-Replay"]) == (202, "true")
