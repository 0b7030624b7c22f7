"""`agentflow runs`."""

import json

import pytest

from agentflow.cli.connect import Exit


@pytest.fixture
def ended(submit, work):
    run = submit(inputs={"word": "hi"}, labels={"n": "1"})
    work(run)
    return str(run)


def test_runs_are_listed_and_filtered(command, submit, ended):
    waiting = str(submit())
    assert [line.split()[0] for line in command("runs", "list").stdout.splitlines()[1:]] == [waiting, ended]
    found = command("runs", "list", "--status", "completed", "--label", "n=1", "--json").stdout
    assert [json.loads(line)["id"] for line in found.splitlines()] == [ended]
    assert "No runs." in command("runs", "list", "--label", "n=2").stderr


def test_a_run_is_shown(command, ended):
    shown = command("runs", "get", ended)
    assert shown.exit_code == Exit.OK
    assert "COMPLETED" in shown.stdout
    assert "said: hi" in shown.stdout
    assert json.loads(command("runs", "get", ended, "--json").stdout)["outputs"] == {"said": ["hi"]}


def test_its_nodes_and_outputs_are_listed(command, ended):
    assert "out/1" in command("runs", "nodes", ended).stdout
    assert len(command("runs", "nodes", ended, "--json", "--limit", "1").stdout.splitlines()) == 1
    assert command("runs", "outputs", ended).stdout == "said: hi\n"
    assert command("runs", "outputs", ended, "--name", "other").stdout == ""
    assert json.loads(command("runs", "outputs", ended, "--json").stdout)["node_id"] == "out"


def test_tail_tells_the_story_and_exits_as_the_run_did(command, ended):
    told = command("runs", "tail", ended)
    assert told.exit_code == Exit.OK
    assert "completed AgentOutput" in told.stderr
    assert told.stdout == "said: hi\n"
    events = [json.loads(line) for line in command("runs", "tail", ended, "--json").stdout.splitlines()]
    assert (events[0]["status"], events[-1]["status"]) == ("QUEUED", "COMPLETED")


def test_a_run_is_cancelled_once(command, submit, work):
    run = str(submit())
    assert command("runs", "cancel", run, "--reason", "no need").exit_code == Exit.OK
    assert "being cancelled" in command("runs", "get", run).stdout
    work(run)
    late = command("runs", "cancel", run)
    assert late.exit_code == Exit.REFUSED
    assert "ended already" in late.stderr
    assert command("runs", "tail", run).exit_code == Exit.CANCELLED


@pytest.mark.parametrize(
    "arguments", [("get", "x"), ("get", "01999999-0000-7000-8000-000000000000"), ("list", "--status", "odd")]
)
def test_a_wrong_call_exits_2(command, arguments):
    assert command("runs", *arguments).exit_code == Exit.REFUSED
