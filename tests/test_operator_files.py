"""What an operator reads and edits at the root of a checkout says what is true."""

import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from celery.app.defaults import _OPTIONS
from kombu.transport.redis import Channel

from agentflow.embedded.processes import read_procfile
from agentflow.shipped import shipped

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def configuration():
    content = runpy.run_path(str(shipped("celeryconfig.py")))
    return {name: value for name, value in content.items() if not name.startswith("_")}


def test_celery_knows_every_name_that_is_set(configuration):
    assert set(configuration) <= set(_OPTIONS)


def test_kombu_knows_every_transport_option_that_is_set(configuration):
    assert set(configuration["broker_transport_options"]) <= set(Channel.from_transport_options)


def test_only_json_is_taken_and_no_results_are_kept(configuration):
    assert configuration["accept_content"] == ["json"]
    assert configuration["task_serializer"] == configuration["result_serializer"] == "json"
    assert configuration["result_backend"] is None


def test_messages_of_killed_children_go_back(configuration):
    assert configuration["task_acks_late"]
    assert configuration["task_reject_on_worker_lost"]


def test_the_configuration_reads_no_environment():
    text = shipped("celeryconfig.py").read_text()
    assert "import" not in text.split('"""')[2].replace("important", "")


def test_every_process_is_the_program_itself_and_no_shell_around_it():
    commands = read_procfile(shipped("Procfile"))
    assert list(commands) == ["web", "live", "worker", "flower"]
    for command in commands.values():
        assert "exec " in command


def test_no_secret_is_an_argument_of_a_process():
    for command in read_procfile(shipped("Procfile")).values():
        arguments = shlex.split(command.partition("exec ")[2])
        assert not [
            argument for argument in arguments if "AUTH" in argument or "PASSWORD" in argument or "_URL" in argument
        ]


def test_flower_needs_a_password_and_only_shows():
    command = read_procfile(shipped("Procfile"))["flower"]
    assert "--read-only" in command
    refused = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, env={}, check=False)
    assert refused.returncode != 0
    assert "FLOWER_BASIC_AUTH" in refused.stderr


@pytest.fixture
def bare_checkout(tmp_path):
    """The files that set a checkout up, in a folder with a blank in its name, and a PATH with nothing but a shell."""
    checkout = tmp_path / "a check out"
    (checkout / ".ci").mkdir(parents=True)
    for name in ("Makefile", ".ci/venv", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout / name)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "make", "cat", "rm", "pwd", "dirname", "touch", "awk"):
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    return checkout, programs


def _make(bare_checkout, target="demo"):
    checkout, programs = bare_checkout
    return subprocess.run(
        ["make", target], cwd=checkout, env={"PATH": str(programs)}, capture_output=True, text=True, check=False
    )


def test_make_alone_says_what_there_is(bare_checkout):
    told = _make(bare_checkout, "help").stdout
    targets = ["help", "demo", "up", "test", "conformance", "chaos", "check", "bench", "clean"]
    assert [line.split()[1] for line in told.splitlines()] == targets


def test_without_a_python_it_says_what_is_needed(bare_checkout):
    done = _make(bare_checkout)
    assert done.returncode != 0
    assert "Python 3.11 or later is needed" in done.stderr


def test_where_python_cannot_make_an_environment_it_says_what_to_install(bare_checkout):
    _, programs = bare_checkout
    python = programs / "python3"
    python.write_text(
        f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; *) exec {shlex.quote(sys.executable)} "$@";; esac\n'
    )
    python.chmod(0o755)

    done = _make(bare_checkout)

    assert done.returncode != 0
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"apt install python{version}-venv" in done.stderr
