"""`agentflow login` keeps servers and keys; commands use them; nobody else can read them."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agentflow.cli import profiles
from agentflow.cli.connect import Exit
from agentflow.cli.main import agentflow
from agentflow.cli.profiles import Profile
from agentflow.settings import Settings, settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(profiles, "folder", lambda: tmp_path / "config" / "agentflow")
    return tmp_path / "config" / "agentflow"


@pytest.fixture
def run(home: Path, environment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command line where neither a stack nor a variable says where the API is."""
    monkeypatch.setattr(settings(), "data_dir", tmp_path / "no stack")
    return lambda *arguments, **more: CliRunner().invoke(agentflow, list(arguments), **more)


def test_a_login_is_used_by_default_and_forgotten(run: Callable[..., Result], home: Path, url: str, key: str) -> None:
    assert run("runs", "list").exit_code == Exit.UNREACHABLE
    done = run("login", url, input=f"{key}\n")
    assert done.exit_code == Exit.OK, done.stderr
    assert key not in done.output
    assert run("runs", "list").exit_code == Exit.OK
    assert run("logout").exit_code == Exit.OK
    assert run("runs", "list").exit_code == Exit.UNREACHABLE
    assert run("logout").exit_code == Exit.REFUSED


def test_several_servers_have_names(run: Callable[..., Result], url: str, key: str) -> None:
    assert run("login", url, "--profile", "prod", "--key-stdin", input=f"{key}\n").exit_code == Exit.OK
    assert run("runs", "list").exit_code == Exit.UNREACHABLE, "it is not the default"
    assert run("--profile", "prod", "runs", "list").exit_code == Exit.OK
    assert run("runs", "list", env={"AGENTFLOW_PROFILE": "prod"}).exit_code == Exit.OK
    unknown = run("--profile", "prd", "runs", "list")
    assert (unknown.exit_code, "there are: prod" in unknown.stderr) == (Exit.REFUSED, True)


@pytest.mark.parametrize("given", ["af_wrong", "", "x" * 500])
def test_a_key_that_does_not_work_is_not_kept(run: Callable[..., Result], home: Path, url: str, given: str) -> None:
    assert run("login", url, "--key-stdin", input=f"{given}\n").exit_code in (Exit.REFUSED, Exit.UNREACHABLE)
    assert profiles.read() == {}


def test_an_address_without_its_scheme_is_refused(run: Callable[..., Result]) -> None:
    refused = run("login", "agentflow.example.org", input="af_x\n")
    assert (refused.exit_code, "https://" in refused.stderr) == (Exit.REFUSED, True)


def test_the_file_is_its_owners_alone(run: Callable[..., Result], home: Path, url: str, key: str) -> None:
    profiles.write({"a": Profile("http://a", "k")})
    file = home / "profiles.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == {"a": {"url": "http://a", "key": "k"}}
    os.chmod(file, 0o644)
    refused = run("--profile", "a", "runs", "list")
    assert refused.exit_code != Exit.OK
    assert "chmod 600" in refused.stderr


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": {"url": "x"}}', "\x00"])
def test_a_broken_file_is_told(home: Path, run: Callable[..., Result], content: str) -> None:
    home.mkdir(parents=True)
    file = home / "profiles.json"
    file.write_text(content)
    file.chmod(0o600)
    refused = run("--profile", "a", "runs", "list")
    assert refused.exit_code != Exit.OK
    assert str(file) in refused.stderr
    assert "Traceback" not in refused.output
