"""`/credits`: what a user has, grants, limits, signed top-ups, estimates, and what nobody can pay for."""

import base64
import csv
import io
import json
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import text

from agentflow import clock
from agentflow.accounts import keys, store
from agentflow.accounts.scopes import Role
from agentflow.blocks import registry
from agentflow.blocks.base import Block, BlockInput, BlockOutput
from agentflow.blocks.registry import Registry
from agentflow.credentials.system import system_id
from agentflow.credits import store as credits
from agentflow.graph.costs import Cost, CostType
from agentflow.net.signing import sign
from agentflow.services.transaction import transaction
from agentflow.settings import ProviderCredential, settings
from agentflow.triggers.signatures import TOLERANCE

SECRET = SecretStr("whsec_" + base64.b64encode(b"0123456789" * 3).decode())


@pytest.fixture
def boss(app):
    with transaction() as session:
        key = keys.create(session, store.add_user(session, "boss", Role.ADMIN), "key")[0]
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return client


@pytest.fixture
def owner(api):
    return api.get("/api/v1/me").json["user"]["id"]


@pytest.fixture
def on(monkeypatch, environment):
    monkeypatch.setattr(settings(), "credits", True)


@pytest.fixture
def block(monkeypatch):
    """`block(cost)` makes a block with pins `value` and `model`; gives its id."""
    made = []

    class Input(BlockInput):
        value: str = ""
        model: str = "gpt-4o"

    class Output(BlockOutput):
        value: str

    def make(cost):
        body = {"id": str(uuid4()), "name": f"Costs{len(made)}", "cost": cost, "Input": Input, "Output": Output}
        made.append(type(body["name"], (Block,), {**body, "run": lambda _, inputs, context: iter([("value", "x")])}))
        known = Registry([*ours, *made])
        monkeypatch.setattr(registry, "_registry", lambda: known)
        return body["id"]

    ours = registry.every()
    return make


def graph(*blocks, **more):
    nodes = [{"id": f"n{number}", "block_id": block, "input_default": {}} for number, block in enumerate(blocks)]
    return {"name": "dear", "nodes": nodes, "links": [], **more}


def grant(client, user, amount, reason="welcome", **headers):
    body = {"user_id": user, "amount": amount, "reason": reason}
    return client.post("/api/v1/credits/grants", json=body, headers=headers)


@pytest.fixture
def top_up(app, monkeypatch):
    """Delivers a top-up, signed."""
    monkeypatch.setattr(settings(), "top_up_secret", SECRET)

    def deliver(body, *, secret=SECRET, at=0.0, **headers):
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        timestamp = str(int(clock.now().timestamp() + at))
        given_headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,bm8= {sign(secret, 'msg_1', timestamp, text)}",
            **headers,
        }
        return app.test_client().post("/api/v1/credits/top-ups", data=text, headers=given_headers)

    return deliver


def balance(client, **query):
    return client.get("/api/v1/credits", query_string=query).json["balance"]


def test_who_was_given_nothing_has_nothing(api, owner):
    assert api.get("/api/v1/credits").json == {
        "user_id": owner,
        "balance": 0,
        "held": 0,
        "available": 0,
        "spent_today": 0,
        "low": False,
        "daily_limit": None,
        "enabled": False,
    }
    assert api.get("/api/v1/credits/transactions").json == {"items": [], "next_cursor": None}


def test_an_admin_gives_and_the_owner_sees_it(api, boss, owner):
    given_one = grant(boss, owner, 500)
    assert given_one.status_code == 201, given_one.json
    assert (given_one.json["amount"], given_one.json["type"], given_one.json["user_id"]) == (500, "GRANT", owner)
    assert balance(api) == balance(boss, user_id=owner) == 500
    (only,) = api.get("/api/v1/credits/transactions").json["items"]
    assert only == given_one.json
    (entry,) = [one for one in boss.get("/api/v1/audit").json["items"] if one["action"] == "grant_credits"]
    assert (entry["target"], entry["status"]) == (owner, None)


def test_a_grant_that_is_sent_again_with_its_key_gives_nothing_more(api, boss, owner):
    first, again = (grant(boss, owner, 5, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json == again.json
    assert again.headers["Idempotent-Replay"] == "true"
    assert grant(boss, owner, 6, **{"Idempotency-Key": "k"}).status_code == 422
    assert grant(boss, owner, 5, **{"Idempotency-Key": "other"}).status_code == 201
    assert balance(api) == 10


def test_only_admins_give_and_set_limits_and_look_at_others(api, stranger, owner):
    assert grant(api, owner, 5).status_code == 403
    assert api.put("/api/v1/credits/limit", json={"user_id": owner, "daily_limit": None}).status_code == 403
    for path in ("/api/v1/credits", "/api/v1/credits/transactions"):
        assert stranger.get(path, query_string={"user_id": owner}).status_code == 404
    assert balance(api) == 0


@pytest.mark.parametrize("amount", [0, -1, -(10**30), 10**15 + 1, 10**400, 1.5, "5", True, None, [], 1e300])
def test_an_amount_that_is_no_number_of_credits_is_refused_and_nothing_is_given(api, boss, owner, top_up, amount):
    for reply in (grant(boss, owner, amount), top_up({"id": "p", "user_id": owner, "amount": amount})):
        assert (reply.status_code, "amount" in reply.json["detail"]) == (400, True), reply.json
    limited = boss.put("/api/v1/credits/limit", json={"user_id": owner, "daily_limit": amount})
    assert limited.status_code == (200 if amount in (0, None) and amount is not False else 400)
    assert balance(api) == 0


def test_a_balance_that_grows_beyond_all_counting_is_a_conflict(api, boss, owner):
    assert grant(boss, owner, credits.MOST).status_code == 201
    assert grant(boss, owner, 1).status_code == 409
    assert balance(api) == credits.MOST


def test_a_grant_to_nobody_is_a_404(boss):
    assert grant(boss, str(uuid4()), 5).status_code == 404
    assert boss.put("/api/v1/credits/limit", json={"user_id": str(uuid4()), "daily_limit": 5}).status_code == 404


def test_pages_hold_every_transaction_once(api, boss, owner):
    for amount in range(1, 12):
        grant(boss, owner, amount)
    seen, after = [], None
    while True:
        query = {"limit": 4, **({"after": after} if after else {})}
        page = api.get("/api/v1/credits/transactions", query_string=query).json
        seen += [one["amount"] for one in page["items"]]
        if (after := page["next_cursor"]) is None:
            break
    assert seen == list(range(11, 0, -1))
    assert api.get("/api/v1/credits/transactions", query_string={"after": "x"}).status_code == 400


def test_transactions_come_as_csv_too(api, boss, owner):
    for reason in ("one, two", "=1+1", "three"):
        assert grant(boss, owner, 5, reason).status_code == 201
    page = api.get("/api/v1/credits/transactions?limit=2", headers={"Accept": "text/csv"})
    assert page.mimetype == "text/csv"
    rest = api.get(
        "/api/v1/credits/transactions",
        query_string={"after": page.headers["X-Next-Cursor"]},
        headers={"Accept": "text/csv"},
    )
    assert "X-Next-Cursor" not in rest.headers
    rows = [row for text in (page.text, rest.text) for row in csv.DictReader(io.StringIO(text))]
    assert [(row["reason"], row["amount"], row["balance"]) for row in rows] == [
        ("three", "5", "15"),
        ("'=1+1", "5", "10"),
        ("one, two", "5", "5"),
    ]


def test_a_top_up_counts_once_however_often_it_is_delivered(api, boss, owner, top_up):
    body = {"id": "payment-1", "user_id": owner, "amount": 300}
    first, again = top_up(body), top_up(body)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["Idempotent-Replay"] == "true"
    assert top_up({**body, "amount": 301}).status_code == 422
    assert top_up({**body, "id": "payment-2", "user_id": str(uuid4())}).status_code == 404
    assert balance(api) == 300
    told = [(one["action"], one["user_id"], one["status"]) for one in boss.get("/api/v1/audit").json["items"]]
    assert told == [("top_up_credits", None, status) for status in (404, 422, None, None)]


def test_who_is_being_deleted_gets_nothing_more_and_old_payments_are_still_known(boss, owner, top_up):
    paid = {"id": "p1", "user_id": owner, "amount": 5}
    assert top_up(paid).status_code == 201
    with transaction() as session:
        session.execute(text("UPDATE users SET deleting_at = now() WHERE id = :id"), {"id": owner})
    for left in (5, 0):
        assert top_up(paid).status_code == 201
        assert top_up({**paid, "id": "p2"}).status_code == 409
        assert grant(boss, owner, 5).status_code == 409
        assert balance(boss, user_id=owner) == left
        with transaction() as session:  # as the deletion does a while before the user goes
            session.execute(text("DELETE FROM credit_balances"))


def test_a_top_up_that_is_not_signed_gives_nothing_and_leaves_nothing(app, api, boss, owner, top_up, monkeypatch):
    body = {"id": "payment-1", "user_id": owner, "amount": 300}
    other = SecretStr("whsec_" + base64.b64encode(b"x" * 30).decode())
    refused = [
        top_up(body, secret=other),
        top_up(body, at=-TOLERANCE - 5),
        top_up(body, at=TOLERANCE + 5),
        top_up(body, **{"webhook-signature": ""}),
        top_up(body, **{"webhook-signature": "v1,é"}),
        top_up(body, **{"webhook-timestamp": "²"}),
        top_up(body, **{"webhook-timestamp": "9" * 400}),
        top_up(body, **{"webhook-id": "msg_2"}),
    ]
    assert [reply.status_code for reply in refused] == [401] * len(refused)
    assert app.test_client().post("/api/v1/credits/top-ups?x=1", json=body).status_code == 400
    monkeypatch.setattr(settings(), "top_up_secret", None)
    assert top_up(body).status_code == 404
    assert balance(api) == 0
    assert boss.get("/api/v1/audit").json["items"] == []


@hypothesis_settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_body_that_was_changed_on_its_way_is_refused(top_up, owner, place, bit):
    text = json.dumps({"id": "p", "user_id": owner, "amount": 300}).encode()
    timestamp = str(int(clock.now().timestamp()))
    changed = bytearray(text)
    changed[place % len(text)] ^= 1 << bit
    headers = {"webhook-timestamp": timestamp, "webhook-signature": sign(SECRET, "msg_1", timestamp, text)}
    assert top_up(bytes(changed), **headers).status_code in (400, 401)


def test_a_limit_is_set_shown_and_taken_away(api, boss, owner, monkeypatch):
    monkeypatch.setattr(settings(), "credits_daily_limit", 50)
    for limit, shown in ((7, 7), (0, 0), (None, 50)):
        assert boss.put("/api/v1/credits/limit", json={"user_id": owner, "daily_limit": limit}).status_code == 200
        assert api.get("/api/v1/credits").json["daily_limit"] == shown
    assert boss.put("/api/v1/credits/limit", json={"user_id": owner}).status_code == 400


def test_what_can_cost_is_not_accepted_from_who_has_nothing(api, boss, owner, on, block, rows, push):
    costly, never = block(5), block([Cost(5, filter={"value": "never"})])
    before = rows()
    refused = api.post("/api/v1/runs", json={"graph": graph(costly)})
    assert (refused.status_code, refused.json["type"]) == (402, "urn:agentflow:problem:payment-required")
    assert rows() == before
    assert api.post(f"/api/v1/blocks/{costly}/execute", json={"inputs": {}, "wait": 0}).status_code == 402
    inner = push(graph(costly))
    sub = {"id": "s", "block_id": "e189baac-8c20-45a1-94a7-55177ea42565"}
    sub["input_default"] = {"graph_id": str(inner), "graph_version": 1, "input_schema": {}, "output_schema": {}}
    assert api.post("/api/v1/runs", json={"graph": {"name": "o", "nodes": [sub], "links": []}}).status_code == 402
    assert api.post("/api/v1/runs", json={"graph": graph(block(0))}).status_code == 202
    assert api.post("/api/v1/runs", json={"graph": graph(never)}).status_code == 202
    masked = {"graph": graph(never), "nodes_input_masks": {"n0": {"value": "never"}}}
    assert api.post("/api/v1/runs", json=masked).status_code == 402
    grant(boss, owner, 1)
    assert api.post("/api/v1/runs", json={"graph": graph(costly)}).status_code == 202
    boss.put("/api/v1/credits/limit", json={"user_id": owner, "daily_limit": 0})
    assert api.post("/api/v1/runs", json={"graph": graph(costly)}).status_code == 402


def test_with_credits_off_everything_is_accepted(api, block):
    assert api.post("/api/v1/runs", json={"graph": graph(block(5))}).status_code == 202


def test_an_estimate_says_what_each_node_costs_at_least_and_at_most(api, push, block):
    fixed, by_value = block(5), block([Cost(7, filter={"value": "a"}), Cost(2)])
    by_bytes, tokens, seconds = (
        block([Cost(1, CostType.BYTE)]),
        block([Cost(9, CostType.TOKENS)]),
        block([Cost(3, CostType.SECOND)]),
    )
    document = graph(fixed, by_value, by_bytes, tokens, seconds, by_value, block(0))
    document["nodes"][1]["input_default"] = {"value": "a"}
    document["links"] = [{"source_id": "n0", "source_name": "value", "sink_id": "n5", "sink_name": "value"}]
    path = f"/api/v1/graphs/{push(document)}/estimate"
    found = api.post(path).json
    size = len('{"value":"","model":"gpt-4o"}')
    told = {node["path"][0]: (node["least"], node["most"], node["by_use"]) for node in found["nodes"]}
    assert told == {
        "n0": (5, 5, False),
        "n1": (7, 7, False),
        "n2": (size, size, False),
        "n3": (3, 3, True),
        "n4": (0, 0, True),
        "n5": (2, 7, False),
    }
    least = 5 + 7 + size + 3 + 2
    assert (found["least"], found["most"], found["by_use"], found["balance"]) == (least, least + 5, True, 0)
    masked = api.post(path, json={"nodes_input_masks": {"n1": {"value": "b"}, "n3": {"model": "unknown"}}}).json
    told = {node["path"][0]: node["least"] for node in masked["nodes"]}
    assert (told["n1"], told["n3"]) == (2, 9)


def test_an_estimate_enters_sub_graphs_once(api, push, block):
    inner = push(graph(block(4)))
    sub = {"block_id": "e189baac-8c20-45a1-94a7-55177ea42565"}
    sub["input_default"] = {"graph_id": str(inner), "graph_version": 1, "input_schema": {}, "output_schema": {}}
    outer = push({"name": "o", "nodes": [{"id": "a", **sub}, {"id": "b", **sub}], "links": []})
    found = api.post(f"/api/v1/graphs/{outer}/estimate", json={}).json
    assert sorted(node["path"] for node in found["nodes"]) == [["a", "n0"], ["b", "n0"]]
    assert found["least"] == 8


def test_an_estimate_of_what_is_not_there_is_a_404(api, stranger, push):
    mine = push()
    for client, where, body in (
        (api, uuid4(), {}),
        (stranger, mine, {}),
        (api, mine, {"version": 2}),
        (api, mine, {"version": 2**31 - 1}),
    ):
        assert client.post(f"/api/v1/graphs/{where}/estimate", json=body).status_code == 404
    assert api.post(f"/api/v1/graphs/{mine}/estimate", json={"version": 0}).status_code == 400


@pytest.fixture
def ours(monkeypatch):
    """The operator has a key for openai."""
    monkeypatch.setattr(settings(), "credentials", {"openai": ProviderCredential(api_key="o" * 30)})


def asking(**more):
    block = registry.by_name("AITextGenerator").id
    return {"name": "asks", "nodes": [{"id": "ask", "block_id": block, "input_default": {"prompt": "Hi.", **more}}]}


def own_key(client, provider, title="mine"):
    body = {"provider": provider, "title": title, "secret": {"type": "api_key", "api_key": "k" * 30}}
    reply = client.post("/api/v1/credentials", json=body)
    assert reply.status_code == 201, reply.json
    return reply.json["id"]


def test_only_the_operators_key_costs_and_the_estimate_says_so(api, owner, on, ours, push):
    mine = own_key(api, "groq")
    by_ours, by_mine = asking(), asking(model="llama", credentials={"id": mine})
    for document, least, status in ((by_ours, 3, 402), (by_mine, 0, 202)):
        estimate = api.post(f"/api/v1/graphs/{push(document)}/estimate").json
        assert (estimate["least"], estimate["by_use"]) == (least, status == 402)
        assert api.post("/api/v1/runs", json={"graph": document}).status_code == status


@pytest.mark.parametrize(
    "pin",
    [
        None,
        {"provider": "openai"},
        {"provider": "OpenAI", "system": False},
        {"system": False, "id": None},
        {"id": str(system_id("openai")), "system": False},
    ],
)
def test_what_a_pin_says_of_the_operators_key_makes_it_no_cheaper(api, owner, on, ours, pin):
    assert api.post("/api/v1/runs", json={"graph": asking(credentials=pin)}).status_code == 402


def test_the_only_key_of_ones_own_comes_before_the_operators_and_is_free(api, owner, on, ours, push):
    own_key(api, "openai")
    assert api.post("/api/v1/runs", json={"graph": asking()}).status_code == 202
    own_key(api, "openai", "another")  # none of the two is taken: it is the operator's again
    assert api.post("/api/v1/runs", json={"graph": asking()}).status_code == 402


def test_a_key_of_ones_own_that_is_chosen_is_free_also_where_graphs_share_node_ids(api, owner, on, ours, push):
    own_key(api, "openai")
    chosen = own_key(api, "openai", "another")  # unless it is chosen, the operator's is taken
    document = asking()
    named = {"graph_id": str(push(asking())), "graph_version": 1, "inputs": {}, "input_schema": {}, "output_schema": {}}
    sub = {"id": "sub", "block_id": registry.by_name("AgentExecutor").id, "input_default": named}
    document["nodes"].append(sub)
    assert api.post("/api/v1/runs", json={"graph": document}).status_code == 402
    key = next(iter(api.get(f"/api/v1/graphs/{push(document)}").json["credentials_input_schema"]["properties"]))
    body = {"graph": document, "credentials": {key: chosen}}
    assert api.post("/api/v1/runs", json=body).status_code == 202


def test_a_model_that_comes_over_a_link_may_cost(api, on, ours, push):
    own_key(api, "groq")
    document = asking()
    store_value = registry.by_name("StoreValue").id
    document["nodes"].append({"id": "name", "block_id": store_value, "input_default": {"input": "gpt-4o"}})
    document["links"] = [{"source_id": "name", "source_name": "output", "sink_id": "ask", "sink_name": "model"}]
    (found,) = api.post(f"/api/v1/graphs/{push(document)}/estimate").json["nodes"]
    assert (found["least"], found["most"], set(found["types"])) == (0, None, {"cost_usd", "tokens"})
    assert api.post("/api/v1/runs", json={"graph": document}).status_code == 402


def test_a_balance_below_the_limit_is_low(api, boss, owner, monkeypatch):
    monkeypatch.setattr(settings(), "credits_low", 10)
    for amount, low in ((9, True), (1, False)):
        grant(boss, owner, amount)
        assert api.get("/api/v1/credits").json["low"] is low
