"""`agentflow runs`."""

import json

import pytest

from agentflow.blocks.flow.io import AgentOutput
from agentflow.cli.connect import Exit
from agentflow.settings import settings


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


@pytest.mark.parametrize("beginning", [8, 13, 20, 35])
def test_a_run_is_named_by_the_beginning_of_its_id_or_as_the_last(command, ended, beginning):
    for name in (ended[:beginning], ended[:beginning].upper(), "last", "LAST"):
        assert json.loads(command("runs", "get", name, "--json").stdout)["id"] == ended


def test_what_fits_several_runs_is_not_guessed(command, submit):
    several = [str(submit(inputs={"word": 1})) for _ in range(2)]
    refused = command("runs", "get", several[0][:4])
    assert refused.exit_code == Exit.REFUSED
    assert all(run in refused.stderr for run in several)
    assert command("runs", "get", "0000-0").exit_code == Exit.REFUSED
    assert command("runs", "get", "ffffffff").exit_code == Exit.REFUSED
    assert command("runs", "get", "abc").exit_code == Exit.REFUSED


def test_lists_name_the_graph_and_the_time_a_run_took(command, submit, ended):
    (line,) = command("runs", "list", "--roots", "--status", "COMPLETED").stdout.splitlines()[1:]
    assert line.split()[:2] == [ended, "COMPLETED"]
    assert line.rstrip().endswith("echo")
    assert " s " in line


def test_the_traceback_of_a_blocks_bug_stands_below_the_list(command, submit, work, echo, monkeypatch):
    def broken(self, inputs, context):
        raise LookupError("no such word")
        yield

    monkeypatch.setattr(AgentOutput, "run", broken)
    monkeypatch.setattr(settings(), "show_tracebacks", True)
    run = submit(echo, {"word": 1})
    work(run)
    told = command("runs", "nodes", str(run)).stdout.splitlines()
    place = told.index("Traceback (most recent call last):")
    assert told[place - 1] == "out/1  AgentOutput"
    assert "test_runs.py" in told[place + 1]
    assert told[-1] == "LookupError: no such word"


def test_a_list_says_that_there_are_more_to_people_and_not_to_programs(command, submit):
    for _ in range(3):
        submit(inputs={"word": 1})
    told = command("runs", "list", "--limit", "2")
    assert len(told.stdout.splitlines()) == 3
    assert told.stderr == "There are more than these 2: a higher --limit shows them.\n"
    for arguments in (("--limit", "3"), ("--all",), ("--limit", "2", "--json")):
        told = command("runs", "list", *arguments)
        assert told.stderr == ""
    assert len(told.stdout.splitlines()) == 2


def test_outputs_say_that_there_are_more(command, submit, work, echo):
    run = submit(echo, {"word": 1})
    work(run)
    assert command("runs", "outputs", str(run), "--limit", "1").stderr == ""
    assert command("runs", "outputs", str(run)).stdout == "said: 1\n"


def test_one_run_is_not_many(command, submit):
    submit(inputs={"word": 1})
    assert command("runs", "cancel", "--all").stderr == "1 run will end CANCELLED.\n"


def test_what_is_known_of_a_run_has_no_empty_header(command, ended):
    assert command("runs", "get", ended).stdout.startswith("id  ")


def test_a_payload_is_text_unless_it_says_json(command, submit, monkeypatch):
    from agentflow.client import Client

    sent = []
    monkeypatch.setattr(Client, "signal", lambda self, run, name, value: sent.append(value) or _Sent())
    run = str(submit(inputs={"word": 1}))
    for text in ("1.10", "null", '"x"', ":=1.50", ':={"a": [1]}'):
        assert command("runs", "signal", run, "paid", text).exit_code == Exit.OK
    assert sent == ["1.10", "null", '"x"', 1.5, {"a": [1]}]
    assert command("runs", "signal", run, "paid", ":={").exit_code == Exit.REFUSED


class _Sent:
    taken = False


def test_a_forked_nodes_pins_are_read_as_their_block_wants(command, submit, work, echo):
    number, text = "96dae2bb-97a2-41c2-bd2f-13a3b5a8ea98", "7fcd3bcb-8e1b-4e69-903d-32d3d4a92158"
    for block, value, expected in ((number, "5", 5), (text, "1.10", "1.10"), (text, "null", "null")):
        echo["nodes"][0]["block_id"] = block
        run = submit(echo, {"word": 1})
        work(run)
        forked = command("runs", "fork", str(run), "--from", "in", "--input", f"value={value}").stdout.strip()
        work(forked)
        assert json.loads(command("runs", "get", forked, "--json").stdout)["outputs"] == {"said": [expected]}


def test_why_a_run_does_not_go_on_is_said(command, submit):
    submit(inputs={"word": 1})
    told = command("runs", "explain", "last")
    assert told.exit_code == Exit.OK
    assert "in the queue 'default', which no worker serves" in told.stdout


@pytest.mark.parametrize("arguments", [("--last", "1"), ("--since", "now"), ("--quiet",), ("--since", "2m")])
def test_tail_shows_a_part_and_counts_all(command, ended, arguments):
    told = command("runs", "tail", "last", *arguments)
    assert told.exit_code == Exit.OK
    assert told.stdout == "said: hi\n"
    assert ("2 done" in told.stderr) is (arguments != ("--quiet",))
    assert ("completed AgentInput" in told.stderr) is (arguments == ("--since", "2m"))


def test_a_wrong_time_is_a_wrong_call(command, ended):
    assert command("runs", "tail", ended, "--since", "yesterday").exit_code == Exit.REFUSED


@pytest.mark.parametrize(
    "arguments", [("get", "x"), ("get", "01999999-0000-7000-8000-000000000000"), ("list", "--status", "odd")]
)
def test_a_wrong_call_exits_2(command, arguments):
    assert command("runs", *arguments).exit_code == Exit.REFUSED
