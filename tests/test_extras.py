"""The command that installs an optional part names what it requires, by the Python that runs here."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from agentflow import extras
from agentflow.extras import install_command, requirements

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("extra", ["ai", "web", "spreadsheets", "embedded"])
def test_the_command_names_the_requirements_of_the_extra(extra):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    names = {re.split(r"[\[<>;]", line)[0].strip() for line in declared}
    python, *rest = shlex.split(install_command(extra))
    assert rest[:3] == ["-m", "pip", "install"]
    assert (Path.cwd() / python).samefile(sys.executable) or python == "python"
    assert {re.split(r"[\[<>;]", requirement)[0] for requirement in rest[3:]} == names


def test_without_pip_uv_is_named(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    monkeypatch.setattr(extras.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert install_command("web").startswith("uv pip install --python ")


def test_users_are_not_told_where_python_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert install_command("ai", for_users=True).startswith("python -m pip install ")


def test_an_extra_that_is_not_known_is_named_as_it_is():
    assert requirements("nothing") == ["agentflow[nothing]"]


def test_what_a_newcomer_makes_can_talk_to_models():
    assert "@.ci/venv embedded,ai\n" in (ROOT / "Makefile").read_text()
