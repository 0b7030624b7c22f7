"""`agentflow run`: what it prints where, and how it exits."""

import json
import threading

import pytest
from sqlalchemy import text

from agentflow.cli.connect import Exit
from agentflow.services.transaction import transaction


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


def test_inputs_are_json_where_they_can_be_and_text_elsewhere(worked, file, tmp_path):
    more = tmp_path / "inputs.json"
    more.write_text('{"word": "overridden", "other": 1}')
    result = worked("run", file, "--json", "--input-json", str(more), "-i", 'word={"a": [1]}', "-i", "text=a=b c")
    run = json.loads(result.stdout)
    assert run["inputs"] == {"word": {"a": [1]}, "other": 1, "text": "a=b c"}
    assert run["outputs"] == {"said": [{"a": [1]}]}
    assert "no input 'text'" in result.stderr


def test_a_failed_run_exits_1_and_says_why(worked, file, echo, tmp_path):
    echo["nodes"].append(
        {"id": "item", "block_id": "262ca24c-1025-43cf-a578-534e23234e97", "input_default": {"list": [], "index": 5}}
    )
    (tmp_path / "echo.json").write_text(json.dumps(echo))
    result = worked("run", file)
    assert result.exit_code == Exit.FAILED
    assert "failed GetListItem" in result.stderr
    assert "runs nodes" in result.stderr


def test_a_cancelled_run_exits_3(worked, command, file):
    result = worked("run", file, before=lambda run: command("runs", "cancel", str(run)))
    assert result.exit_code == Exit.CANCELLED
    assert "CANCELLED" in result.stderr


def test_without_following_it_prints_the_runs_id(command, file):
    result = command("run", file, "--no-follow")
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

    monkeypatch.setattr(Client, "events", interrupted)
    result = command("run", file)
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
