"""The example package of blocks can be installed, and its blocks are there then."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from agentflow.blocks import scaffold
from agentflow.shipped import shipped

PACKAGE = shipped("examples") / "blocks_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh folder into which pip has installed the package."""
    folder = tmp_path_factory.mktemp("blocks_package")
    copy = shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    # With the build's own tool at hand nothing need be fetched; without it pip gets it, as it does for anybody.
    options = ["--no-build-isolation"] if find_spec("hatchling") else []
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, *options, "--target", str(folder / "target"), str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "target"


def agentflow(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line beside the installed package."""
    return subprocess.run(
        [sys.executable, "-m", "agentflow.cli.main", *arguments],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=installed.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_its_blocks_are_listed_and_do_what_their_examples_say(installed: Path) -> None:
    listed = agentflow(installed, "blocks", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    found = {line["name"]: line for line in map(json.loads, listed.stdout.splitlines())}
    assert (found["ReadingTime"]["status"], found["Reminders"]["status"]) == ("available", "available")
    tested = agentflow(installed, "blocks", "test", "ReadingTime", "Reminders")
    assert tested.returncode == 0, tested.stdout
    assert "2 blocks, 9 examples, none failed" in tested.stderr


def test_its_blocks_can_be_built_into_graphs(installed: Path) -> None:
    program = (
        "from agentflow.builder import Graph\n"
        "with Graph('g') as g:\n"
        "    minutes = g.add('ReadingTime', text=g.input('text', str)).minutes\n"
        "    g.output('minutes', minutes)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_its_own_tests_pass(tmp_path: Path) -> None:
    copy = shutil.copytree(PACKAGE, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error"], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_it_is_made_as_new_packages_are() -> None:
    made = scaffold.scaffold("reading-blocks")
    files = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*") if path.suffix in (".py", ".toml", ".md")}
    assert files == set(made.files)
    ours = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))
    fresh = tomllib.loads(made.files["pyproject.toml"])
    assert ours["project"]["entry-points"] == fresh["project"]["entry-points"]
    assert (ours["build-system"], ours["tool"]["hatch"]) == (fresh["build-system"], fresh["tool"]["hatch"])
