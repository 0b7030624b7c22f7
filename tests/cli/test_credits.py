"""`agentflow credits`, what `runs get` and `graphs estimate` say of costs, and what `doctor` says of the ledger."""

import json
from uuid import uuid4

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from agentflow.accounts import keys, store
from agentflow.accounts.scopes import Role
from agentflow.blocks import registry
from agentflow.blocks.base import Block, BlockOutput
from agentflow.blocks.registry import Registry
from agentflow.cli.connect import Exit
from agentflow.cli.main import agentflow
from agentflow.graph.costs import Cost, CostType
from agentflow.services.transaction import transaction
from agentflow.settings import settings


@pytest.fixture
def key(environment):
    """An admin's."""
    with transaction() as session:
        return keys.create(session, store.add_user(session, "boss", Role.ADMIN), "key")[0]


@pytest.fixture
def block(monkeypatch):
    """The id of a block that costs 4 credits, and 2 a second that is begun where its input `slow` is true."""

    class Output(BlockOutput):
        value: int

    costs = [Cost(2, CostType.SECOND, filter={"slow": True}), Cost(4)]
    body = {"id": str(uuid4()), "name": "Costs", "cost": costs, "Output": Output}
    made = type("Costs", (Block,), {**body, "run": lambda _, inputs, context: iter([("value", 1)])})
    known = Registry([*registry.every(), made])
    monkeypatch.setattr(registry, "_registry", lambda: known)
    return body["id"]


def done(result):
    assert result.exit_code == Exit.OK, result.stderr
    return result.stdout


def told(result):
    return json.loads(done(result))


def test_credits_are_given_limited_and_listed_by_a_users_name(command):
    done(command("users", "create", "Ann"))
    granted = command("credits", "grant", "ann", "500", "--reason", "welcome")
    assert (granted.exit_code, "500" in granted.stderr) == (Exit.OK, True)
    refunded = told(command("credits", "grant", "ann", "7", "--refund", "--json"))
    assert (refunded["type"], refunded["balance"]) == ("REFUND", 507)
    assert told(command("credits", "limit", "ann", "20", "--json"))["daily_limit"] == 20
    assert told(command("credits", "limit", "ann", "none", "--json"))["daily_limit"] is None
    assert told(command("credits", "show", "--user", "ann", "--json"))["balance"] == 507
    shown = command("credits", "show", "--user", "ann")
    assert ("507" in shown.stdout, "AGENTFLOW_CREDITS is off" in shown.stderr) == (True, True)
    lines = done(command("credits", "transactions", "--user", "ann", "--json")).splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["grant", "welcome"]
    table = command("credits", "transactions", "--user", "ann", "--limit", "1")
    assert ("+7" in table.stdout, "There are more than these 1" in table.stderr) == (True, True)


@pytest.mark.parametrize("amount", ["0", "-5", "1.5", "1e3", "9" * 30, "many"])
def test_what_is_no_number_of_credits_is_refused_before_it_is_sent(command, amount):
    assert command("credits", "grant", "--", "boss", amount).exit_code == Exit.REFUSED
    if amount != "0":
        assert command("credits", "limit", "--", "boss", amount).exit_code == Exit.REFUSED
    assert told(command("credits", "show", "--json"))["balance"] == 0


def test_a_member_sees_their_own_and_gives_nothing(command, monkeypatch):
    with transaction() as session:
        key = keys.create(session, store.add_user(session, "member"), "key")[0]
    monkeypatch.setattr(settings(), "api_key", key)
    assert told(command("credits", "show", "--json"))["balance"] == 0
    refused = command("credits", "grant", str(uuid4()), "5")
    assert (refused.exit_code, "scope admin" in refused.stderr) == (Exit.REFUSED, True)


def test_a_run_shows_its_cost_by_node_and_in_all(command, block, submit, work, monkeypatch):
    monkeypatch.setattr(settings(), "credits", True)
    done(command("credits", "grant", "boss", "50"))
    nodes = [{"id": name, "block_id": block, "input_default": {}} for name in ("a", "b")]
    run_id = submit({"name": "dear", "nodes": nodes, "links": []})
    work(run_id, most=1)
    assert told(command("runs", "get", str(run_id), "--json"))["costs"] == {"a": 4}
    work(run_id)
    shown = done(command("runs", "get", str(run_id)))
    assert "8 credits (a: 4, b: 4)" in shown
    rows = done(command("runs", "nodes", str(run_id)))
    assert "COST" in rows
    assert told(command("credits", "show", "--json"))["balance"] == 42
    assert "Costs" in done(command("credits", "transactions"))


def test_a_graph_is_estimated_before_it_runs(command, block, push):
    nodes = [{"id": name, "block_id": block, "input_default": {}} for name in ("a", "b")]
    push({"name": "dear", "nodes": nodes, "links": []})
    assert told(command("graphs", "estimate", "dear", "--json"))["least"] == 8
    assert "8" in done(command("graphs", "estimate", "dear"))
    push()
    assert "costs nothing" in command("graphs", "estimate", "echo").stderr


def test_a_block_shows_all_its_costs(block):
    shown = done(CliRunner().invoke(agentflow, ["blocks", "show", "Costs"]))
    assert '2 credits per 1 second if {"slow": true}; 4 credits' in shown


def test_doctor_proves_that_ledger_and_node_executions_agree(command, block, submit, work, monkeypatch):
    monkeypatch.setattr(settings(), "credits", True)
    done(command("credits", "grant", "boss", "50"))
    work(submit({"name": "dear", "nodes": [{"id": "a", "block_id": block, "input_default": {}}], "links": []}))

    def found():
        report = json.loads(CliRunner().invoke(agentflow, ["doctor", "--json"]).stdout)
        return [(one["level"], one["message"]) for one in report["findings"] if one["name"] == "credits"]

    assert found() == [("ok", "on; ledger, balances and node executions agree")]
    with transaction() as session:
        session.execute(text("UPDATE node_executions SET stats = jsonb_build_object('charged', 5)"))
        session.execute(text("UPDATE credit_balances SET balance = balance + 1"))
    levels, messages = zip(*found(), strict=True)
    assert levels == ("fail", "fail")
    assert "is 51, its transactions add up to 50" in messages[0]
    assert "notes 5 credits, the ledger has 4" in messages[1]
