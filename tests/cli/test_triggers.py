"""`agentflow triggers`."""

import json

import pytest
from click.testing import CliRunner
from hooked import HOOKED
from senders import SECRET, github

from agentflow.cli.connect import Exit
from agentflow.cli.main import agentflow


@pytest.fixture
def graph(push):
    return str(push(HOOKED))


def test_a_trigger_is_made_called_listed_changed_and_deleted(command, graph, app):
    made = command("triggers", "create", "orders", "--graph", graph, "--scheme", "none", "--label", "team=a",
                   "--event", "paid", "--where", "$.total above 100", "--wait", "0", "-i", "nobody=1")  # fmt: skip
    assert made.exit_code == Exit.OK, made.stderr
    assert "warning: the graph has no input 'nobody'" in made.stderr
    path = made.stdout.strip().partition("/hooks/")
    assert path[1], made.stdout
    call = app.test_client().post
    assert call(f"/hooks/{path[2]}", json={"type": "paid", "total": 120}).json["outcome"] == "run"
    assert call(f"/hooks/{path[2]}", json={"type": "paid", "total": 20}).json["outcome"] == "ignored"
    assert call(f"/hooks/{path[2]}", data="{").status_code == 400
    assert "orders" in command("triggers", "list", "--graph", "hooked").stdout
    listed = command("triggers", "deliveries", "orders")
    assert listed.exit_code == Exit.OK, listed.stderr
    assert ("run" in listed.stdout, "1 more could not be read" in listed.stderr) == (True, True)
    (ignored,) = command("triggers", "deliveries", "orders", "--outcome", "ignored", "--json").stdout.splitlines()
    assert command("triggers", "change", "ORDERS", "--all", "--keep", "7").exit_code == Exit.OK
    shown = json.loads(command("triggers", "show", "orders").stdout)
    assert (shown["filter"]["conditions"], shown["keep"], shown["labels"]) == ([], 7, {"team": "a"})
    assert command("triggers", "redeliver", "orders", "last").exit_code == Exit.OK
    missing = command("triggers", "redeliver", "orders", "beef")
    assert (missing.exit_code, "no delivery whose id begins" in missing.stderr) == (Exit.REFUSED, True)
    again = command("triggers", "redeliver", "orders", json.loads(ignored)["id"].replace("-", "")[:-1])
    assert again.exit_code == Exit.OK, again.stderr
    assert command("runs", "get", again.stdout.strip(), "--json").exit_code == Exit.OK
    paused = json.loads(command("triggers", "pause", "orders", "--reason", "we move", "--json").stdout)
    assert paused["pause_reason"] == "we move"
    assert "we move" in command("triggers", "list").stdout
    refused = command("triggers", "redeliver", "orders", json.loads(ignored)["id"])
    assert (refused.exit_code, "is paused" in refused.stderr) == (Exit.REFUSED, True)
    assert command("triggers", "resume", "orders").exit_code == Exit.OK
    assert command("triggers", "delete", "orders").exit_code == Exit.OK
    missing = command("triggers", "show", "orders")
    assert (missing.exit_code, "no trigger 'orders'" in missing.stderr) == (Exit.REFUSED, True)


def test_secrets_are_made_or_read_and_rotated(command, graph, app):
    made = json.loads(command("triggers", "create", "mine", "--graph", graph, "--json").stdout)
    assert made["secret"].startswith("whsec_")
    rotated = command("triggers", "rotate", "mine", "--secret")
    assert rotated.stdout.startswith("whsec_")
    assert rotated.stdout.strip() != made["secret"]
    moved = command("triggers", "rotate", "mine").stdout.strip()
    assert "/hooks/" in moved
    assert app.test_client().post(f"/hooks/{made['token']}", json={}).status_code == 404
    given = ["triggers", "create", "of github", "--graph", graph, "--scheme", "github", "--secret-stdin"]
    address = CliRunner().invoke(agentflow, given, input=f"{SECRET}\n").stdout.strip().partition("/hooks/")[2]
    sent = github()
    assert app.test_client().post(f"/hooks/{address}", data=sent.body, headers=sent.headers).status_code == 202


def test_a_signal_and_a_preset_are_named(command, graph):
    assert command("presets", "create", graph, "p").exit_code == Exit.OK
    assert command("triggers", "create", "of preset", "--preset", "p", "--scheme", "none").exit_code == Exit.OK
    made = command("triggers", "create", "paid", "--signal", "paid", "--run-label", "order=$.order", "--scheme", "none",
                   "--body", "json", "--json")  # fmt: skip
    assert json.loads(made.stdout)["signal"]["labels"] == {"order": "$.order"}
    shown = command("triggers", "list").stdout
    assert "signal paid" in shown
    assert "preset" in shown


@pytest.mark.parametrize(
    "wrong",
    [
        ["create", "x"],
        ["create", "x", "--graph", "hooked", "--where", "total above 100"],
        ["create", "x", "--graph", "hooked", "--where", "$.total beyond 100"],
        ["create", "x", "--graph", "hooked", "--where", "$.total above"],
        ["create", "x", "--graph", "hooked", "--where", "$.total above {"],
        ["create", "x", "--graph", "hooked", "--scheme", "stripe"],
        ["create", "x", "--graph", "hooked", "--node", "gone"],
        ["change", "x"],
        ["change", "x", "--all", "--event", "e"],
        ["redeliver", "x", "y"],
    ],
)
def test_wrong_usage_is_refused(command, graph, wrong):
    assert command("triggers", *wrong).exit_code == Exit.REFUSED


@pytest.mark.parametrize(
    ("written", "condition"),
    [
        ("$.a equals 1", {"path": "$.a", "operator": "equals", "value": 1}),
        ("$['a in b'] not_in [1]", {"path": "$['a in b']", "operator": "not_in", "value": [1]}),
        ('$.a contains " in "', {"path": "$.a", "operator": "contains", "value": " in "}),
        ("$.a exists", {"path": "$.a", "operator": "exists", "value": None}),
    ],
)
def test_a_condition_is_read_as_it_is_written(command, graph, written, condition):
    made = command("triggers", "create", "x", "--graph", graph, "--scheme", "none", "--where", written, "--json")
    assert made.exit_code == Exit.OK, made.stderr
    assert json.loads(made.stdout)["filter"]["conditions"] == [condition]
