"""The command line is quick, complete and polite."""

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from agentflow import errors
from agentflow.cli import main


def test_help_imports_no_command():
    code = (
        "import sys\n"
        "from agentflow.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'celery', 'sqlalchemy', 'flask', 'pydantic', 'httpx', 'redis'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    for name, line in main.COMMANDS.items():
        assert name in done.stdout
        assert line in done.stdout


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_is_there_and_explains_itself(name):
    if name == "worker":
        pytest.skip("hands its --help on to Celery")
    result = CliRunner().invoke(main.agentflow, [name, "--help"])

    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


@pytest.mark.parametrize("name", [(), ("graphs",), ("runs",), ("reviews",), ("blocks",), ("db",)])
def test_no_line_of_a_list_of_commands_is_cut_on_a_terminal_of_80_columns(name):
    result = CliRunner().invoke(main.agentflow, [*name, "--help"], terminal_width=80)

    assert result.exit_code == 0, result.output
    assert "..." not in result.output.partition("\nCommands:\n")[2]


WITHOUT_JSON = {
    "worker": "it is Celery's",
    "up": "it runs until it is stopped",
    "blocks new": "it makes files",
    "db upgrade": "its exit code says it",
    "db check": "its exit code says it",
    "db drift": "its exit code says it",
    "graphs get": "it prints nothing but JSON",
    "graphs export": "it prints nothing but JSON",
    "presets show": "it prints nothing but JSON",
    "schedules show": "it prints nothing but JSON",
    "triggers show": "it prints nothing but JSON",
}
"""Commands without `--json`, and why."""


def commands(command, path=()):
    """(path, command) of each that does something."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))
    else:
        yield " ".join(path), command


def test_every_command_can_tell_it_in_json():
    without = {
        name
        for name, command in commands(main.agentflow)
        if "--json" not in [option for parameter in command.params for option in parameter.opts]
    }
    assert without == set(WITHOUT_JSON)


def test_no_command_takes_a_secret_as_an_argument():
    for name, command in commands(main.agentflow):
        for parameter in command.params:
            words = set(" ".join([parameter.name or "", *parameter.opts]).replace("-", " ").replace("_", " ").split())
            takes = not getattr(parameter, "is_flag", False)
            assert not (takes and words & {"secret", "password", "token"}), (name, parameter.name)


@pytest.mark.parametrize("name", ["AGENTFLOW_CREDENTIALS", "AGENTFLOW_OAUTH_PROVIDERS"])
def test_a_setting_that_is_no_json_is_named_and_not_shown(name):
    environment = {**os.environ, name: '{"PLANTED'}
    command = [sys.executable, "-m", "agentflow.cli.main", "graphs", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode != 0
    assert f"{name}: it is not JSON" in done.stderr
    assert "PLANTED" not in done.stderr + done.stdout


def test_an_unknown_command_is_called_wrongly():
    assert CliRunner().invoke(main.agentflow, ["fly"]).exit_code == 2


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, EOFError])
def test_who_breaks_a_command_off_is_not_told_that_a_run_failed(monkeypatch, capsys, interrupt):
    @click.command()
    def asks() -> None:
        raise interrupt

    monkeypatch.setattr(main, "agentflow", asks)
    with pytest.raises(SystemExit) as ended:
        main.main([])

    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == "Aborted!"


def test_called_wrongly_it_says_how_it_is_called(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["runs", "list", "--limit", "0"])

    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "Usage: agentflow runs list" in told
    assert "'--limit'" in told


def test_an_error_of_ours_is_told_with_its_places_and_without_a_trace(monkeypatch, capsys):
    problems = [errors.Problem("no such block", node="n1", pin="value"), errors.Problem("odd", severity="warning")]

    @click.command()
    def fails() -> None:
        raise errors.GraphInvalid("the graph is wrong", problems)

    monkeypatch.setattr(main, "agentflow", fails)
    with pytest.raises(SystemExit) as ended:
        main.main([])

    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told == "Error: the graph is wrong\n  error: node n1 pin value: no such block\n  warning: odd\n"
