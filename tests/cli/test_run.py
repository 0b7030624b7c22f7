"""`agentflow run`: what it prints where, and how it exits."""

import json
import re
import threading

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from agentflow.cli import follow
from agentflow.cli.connect import Exit
from agentflow.cli.progress import Progress
from agentflow.cli.run import ask
from agentflow.client import Client
from agentflow.services.transaction import transaction

NUMBER = "96dae2bb-97a2-41c2-bd2f-13a3b5a8ea98"


@pytest.fixture
def file(tmp_path, echo):
    path = tmp_path / "echo.json"
    path.write_text(json.dumps(echo))
    return str(path)


@pytest.fixture
def worked(command, work, eventually):
    """Runs a command that follows a run, while its work is done here; `before` is called with the run's id first."""

    def invoke(*arguments, before=lambda run: None):
        results = []
        thread = threading.Thread(target=lambda: results.append(command(*arguments)))
        thread.start()
        run = []

        def submitted() -> bool:
            with transaction() as session:
                run[:] = session.scalars(text("SELECT id FROM runs")).all()
            return bool(run) or not thread.is_alive()

        eventually(submitted)
        if run:
            before(run[0])
            work(run[0])
        thread.join(20)
        return results[0]

    return invoke


def test_outputs_go_to_standard_output_and_progress_does_not(worked, file):
    result = worked("run", file, "-i", "word=hi")
    assert result.exit_code == Exit.OK, result.output
    assert result.stdout == "said: hi\n"
    assert "completed AgentOutput" in result.stderr
    assert "output said  hi" in result.stderr
    assert "COMPLETED  2 done" in result.stderr


@pytest.mark.parametrize("text", ["1.10", "1e5", "null", '"x"', "[1]", "@ann"])
def test_a_text_stays_text_and_json_is_said_with_a_colon(worked, file, text):
    result = worked("run", file, "--json", "-i", f"word={text}", "-i", "other:=[1, 2.50]")
    run = json.loads(result.stdout)
    assert run["inputs"] == {"word": text, "other": [1, 2.5]}
    assert run["outputs"] == {"said": [text]}
    assert "no input 'other'" in result.stderr


def test_a_value_is_read_as_the_type_that_the_graph_says(worked, command, file, echo, tmp_path):
    echo["nodes"][0]["block_id"] = NUMBER
    (tmp_path / "echo.json").write_text(json.dumps(echo))
    run = json.loads(worked("run", file, "--json", "-i", "word=5").stdout)
    assert run["inputs"] == {"word": 5}
    wrong = command("run", file, "-i", "word=many")
    assert wrong.exit_code == Exit.REFUSED
    assert "whole number" in wrong.stderr


def test_inputs_come_from_files_too(worked, file, tmp_path):
    more = tmp_path / "inputs.json"
    more.write_text('{"word": "overridden", "other": 1}')
    result = worked("run", file, "--json", "--input-json", str(more), "-i", f"@{more}", "-i", "word=a=b c")
    assert json.loads(result.stdout)["inputs"] == {"word": "a=b c", "other": 1}


def test_a_run_without_its_required_inputs_is_refused_unless_it_is_told_so(worked, command, file, echo, tmp_path):
    echo["nodes"][0]["input_default"] |= {"title": "The word", "description": "Any one."}
    (tmp_path / "echo.json").write_text(json.dumps(echo))
    refused = command("run", file)
    assert refused.exit_code == Exit.REFUSED
    assert "the required input 'word' is missing: The word (any value): Any one." in refused.stderr
    allowed = worked("run", file, "--allow-missing")
    assert allowed.exit_code == Exit.OK
    assert "It gave no outputs." in allowed.stderr


def test_on_a_terminal_missing_inputs_are_asked_for():
    schema = {"properties": {"n": {"type": "integer", "title": "How many?"}, "v": {}, "o": {}}, "required": ["n", "v"]}

    @click.command()
    def asking():
        click.echo(json.dumps(ask(schema, {"v": 0})))

    answered = CliRunner().invoke(asking, input="5\n")
    assert json.loads(answered.stdout) == {"n": 5}
    assert "How many? [n] (whole number):" in answered.stderr


@pytest.mark.parametrize("name", ["echo", "ECHO", "{id}", "last"])
def test_a_stored_graph_is_run_by_its_name_or_the_beginning_of_its_id(worked, command, file, name):
    graph = command("graphs", "push", file).stdout.strip()
    assert worked("run", name.format(id=graph[:13]), "-i", "word=1").stdout == "said: 1\n"


def test_a_name_that_two_graphs_have_is_not_guessed(command, file):
    graphs = [command("graphs", "push", file).stdout.strip() for _ in range(2)]
    refused = command("run", "echo", "-i", "word=1")
    assert refused.exit_code == Exit.REFUSED
    assert all(graph in refused.stderr for graph in graphs)


def test_quiet_shows_no_progress(worked, file):
    result = worked("run", file, "--quiet", "-i", "word=hi")
    assert result.stdout == "said: hi\n"
    assert [line.split()[0] for line in result.stderr.splitlines()] == ["Run"]  # its id, and nothing more


@pytest.mark.parametrize("options", [[], ["--quiet"], ["--json"]])
def test_a_queue_that_no_worker_serves_is_told_once(worked, file, echo, tmp_path, monkeypatch, options, eventually):
    monkeypatch.setattr(follow, "STILL_SECONDS", 0.2)
    asked = []
    ask = Client.get_run
    monkeypatch.setattr(Client, "get_run", lambda *of: asked.append(of) or ask(*of))
    echo["nodes"][0]["settings"] = {"queue": "gpu"}
    (tmp_path / "gpu.json").write_text(json.dumps(echo))
    arguments = ["run", str(tmp_path / "gpu.json"), "-i", "word=hi", *options]
    result = worked(*arguments, before=lambda run: eventually(lambda: len(asked) > 2))
    assert result.exit_code == Exit.OK, result.output
    assert result.stderr.count("No worker serves the queue 'gpu'") == 1
    assert "agentflow worker -Q gpu" in result.stderr
    assert "no worker serves the queue 'gpu' now" in result.stderr, "as it was submitted"


def test_a_run_that_waits_for_a_person_is_told_with_where_to_look(
    worked, command, work, tmp_path, monkeypatch, eventually
):
    monkeypatch.setattr(follow, "STILL_SECONDS", 0.2)
    review = "8b2a7b3c-6e9d-4a5f-8c1b-2e3f4a5b6c7d"
    ask = {"id": "ask", "block_id": review, "input_default": {"name": "Look", "data": "x"}}
    (tmp_path / "ask.json").write_text(json.dumps({"name": "asks", "nodes": [ask], "links": []}))
    told = []
    warn = Progress.warn
    monkeypatch.setattr(Progress, "warn", lambda progress, words: told.append(words) or warn(progress, words))

    def approve(run) -> None:
        work(run)
        eventually(lambda: told)
        explained = command("runs", "explain", str(run)).stdout
        found = re.search("agentflow (reviews approve [0-9a-f-]+)", explained)
        assert found, explained
        assert command(*found[1].split()).exit_code == Exit.OK

    result = worked("run", str(tmp_path / "ask.json"), before=approve)
    assert result.exit_code == Exit.OK, result.output
    assert "It waits for the outside. For what: agentflow runs explain" in result.stderr


def test_what_never_ran_is_told_in_words(worked, file, echo, tmp_path):
    step, pair = "f66a3543-28d3-4ab5-8945-9b336371e2ce", "db7d8f02-2f44-4c55-ab7a-eae0941f0c30"
    echo["nodes"] += [
        {"id": "step", "block_id": step, "input_default": {"items": [1, 2, 3]}},
        {"id": "pair", "block_id": pair, "input_default": {"format": "{{a}}{{b}}"}},
        {"id": "once", "block_id": step, "input_default": {"items": [1]}},
    ]
    ends = (("step", "item", "values_#_a"), ("once", "item", "values_#_b"))
    echo["links"] += [
        {"source_id": node, "source_name": pin, "sink_id": "pair", "sink_name": sink} for node, pin, sink in ends
    ]
    (tmp_path / "echo.json").write_text(json.dumps(echo))
    result = worked("run", file, "-i", "word=1")
    assert result.exit_code == Exit.OK
    told = "Node pair could have run 2 times more, but values did not come: pin 'values_#_b' got 2 fewer"
    assert told in result.stderr


def test_a_failed_run_exits_1_and_says_why(worked, file, echo, tmp_path):
    echo["nodes"].append(
        {"id": "item", "block_id": "262ca24c-1025-43cf-a578-534e23234e97", "input_default": {"list": [], "index": 5}}
    )
    (tmp_path / "echo.json").write_text(json.dumps(echo))
    result = worked("run", file, "-i", "word=1")
    assert result.exit_code == Exit.FAILED
    assert "failed GetListItem" in result.stderr
    assert "runs nodes" in result.stderr


def test_a_cancelled_run_exits_3(worked, command, file):
    result = worked("run", file, "-i", "word=1", before=lambda run: command("runs", "cancel", str(run)))
    assert result.exit_code == Exit.CANCELLED
    assert "CANCELLED" in result.stderr


def test_without_following_it_prints_the_runs_id(command, file):
    result = command("run", file, "-i", "word=1", "--no-follow")
    assert result.exit_code == Exit.OK
    run = result.stdout.strip()
    assert command("runs", "get", run, "--json").exit_code == Exit.OK


def test_a_stored_graph_is_run_by_its_id(worked, command, file):
    pushed = command("graphs", "push", file)
    result = worked("run", pushed.stdout.strip(), "-i", "word=1")
    assert result.stdout == "said: 1\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "nothing.json"),
        ("run",),
        ("run", "{file}", "-i", "word"),
        ("run", "{file}", "--local", "--no-follow"),
        ("run", "01999999-0000-7000-8000-000000000000", "--local"),
        ("run", "01999999-0000-7000-8000-000000000000"),
        ("run", "{file}", "--priority", "10"),
    ],
)
def test_a_wrong_call_exits_2(command, file, arguments):
    assert command(*(argument.format(file=file) for argument in arguments)).exit_code == Exit.REFUSED


def test_a_wrong_graph_exits_2_and_names_the_places(command, file, echo, tmp_path):
    echo["links"][0]["sink_name"] = "nowhere"
    (tmp_path / "echo.json").write_text(json.dumps(echo))
    result = command("run", file)
    assert result.exit_code == Exit.REFUSED
    assert "error: node out, pin nowhere:" in result.stderr


def test_an_api_that_is_away_exits_4(command, file, monkeypatch):
    from agentflow.client import http
    from agentflow.settings import settings

    monkeypatch.setattr(settings(), "url", "http://127.0.0.1:1")
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.001)
    result = command("run", file)
    assert result.exit_code == Exit.UNREACHABLE
    assert "agentflow up" in result.stderr


def test_ctrl_c_stops_following_and_not_the_run(command, file, monkeypatch):
    from agentflow.client import Client

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "follow", interrupted)
    result = command("run", file, "-i", "word=1")
    assert result.exit_code == Exit.INTERRUPTED
    assert "runs cancel" in result.stderr
    listed = command("runs", "list", "--json")
    assert json.loads(listed.stdout)["status"] == "QUEUED"


def test_no_key_is_told_plainly(command, file, monkeypatch, tmp_path):
    from agentflow.settings import settings

    monkeypatch.setattr(settings(), "api_key", None)
    monkeypatch.setattr(settings(), "data_dir", tmp_path / "none")
    result = command("run", file)
    assert result.exit_code == Exit.REFUSED
    assert "AGENTFLOW_API_KEY" in result.stderr
