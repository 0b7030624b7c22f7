"""What the page for authors of blocks says is so: every sample on it runs."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from agentflow.blocks.base import Block, Context, Tool
from agentflow.blocks.credentials import Credential
from agentflow.blocks.registry import ENTRY_POINT_GROUP, Registry
from agentflow.blocks.trial import collect, trial_context, try_vector
from agentflow.engine import waits
from agentflow.engine.waits import NodeCall, Resumed
from agentflow.errors import BadInput, BlockBug, Transient
from agentflow.graph.model import Graph

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "blocks.md"


def fenced(language: str) -> list[str]:
    """The samples in that language."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def named(heading: str, column: int = 0) -> set[str]:
    """The names in code in a column of the table below a heading."""
    section = GUIDE.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return {name for row in rows for name in re.findall(r"`([A-Za-z_]+)[`(]", row.strip("|").split("|")[column])}


@pytest.fixture(scope="module")
def guide() -> Iterator[ModuleType]:
    """All samples in Python, run one after another as one module."""
    module = ModuleType("guide")
    sys.modules["guide"] = module  # pydantic looks annotations up there
    for sample in fenced("python"):
        exec(compile(sample, str(GUIDE), "exec"), vars(module))
    yield module
    del sys.modules["guide"]


def blocks(guide: ModuleType) -> list[type[Block]]:
    found = (thing for thing in vars(guide).values() if isinstance(thing, type) and issubclass(thing, Block))
    return [block for block in found if block.__module__ == "guide"]


def test_every_block_of_the_guide_does_what_its_examples_say(guide: ModuleType) -> None:
    assert len(blocks(guide)) == 5
    Registry(blocks(guide))
    for block in blocks(guide):
        assert block.vectors
        for vector in block.vectors:
            try_vector(block(), vector)
        pins = {**block.Input.model_fields, **block.Output.model_fields}
        assert all(field.description for field in pins.values())


def test_a_credential_is_asked_for_by_the_provider_that_the_pin_names(guide: ModuleType) -> None:
    asked = []
    counts: dict[str, float] = {}

    def credential(provider: str) -> Credential:
        asked.append(provider)
        return Credential(provider)

    context = trial_context(credential=credential, report=counts.update)
    for pin in (None, {"provider": "Own"}):
        collect(guide.CountedForecast(), {"place": "Rome", "credentials": pin}, context)
    assert asked == ["weather", "own"]
    assert counts == {"characters": 4}
    assert guide.CountedForecast.spec().inputs["credentials"].schema["credentials_provider"] == ["weather"]


def test_tools_are_called_one_after_another(guide: ModuleType) -> None:
    tools = tuple(Tool(node, node, "", {}, {"x": f"{node}-pin"}) for node in ("a", "b"))

    def after(resumed: Resumed | None) -> list[Any]:
        context = trial_context(tools=tools, resumed=resumed)
        return list(guide.CallEach().run(guide.CallEach.parse({"value": 7}), context))

    assert after(None) == [NodeCall("a", {"a-pin": 7}, state=[], key="0")]
    gave = {"outputs": {"y": [1]}, "status": "COMPLETED", "error": None}
    assert after(Resumed("child", gave, [])) == [NodeCall("b", {"b-pin": 7}, state=[{"y": [1]}], key="1")]
    failed = {"outputs": {}, "status": "FAILED", "error": "no"}
    assert after(Resumed("child", failed, [{"y": [1]}])) == [("results", [{"y": [1]}, None])]


def test_the_graph_of_the_guide_is_a_graph(guide: ModuleType) -> None:
    assert [node.block_id for node in Graph.from_json(guide.document).nodes][1] == guide.RomanNumeral.id


def test_the_guide_names_all_that_a_block_may_say_of_itself() -> None:
    assert named("What a block says of itself") >= set(vars(Block)["__annotations__"])


def test_the_guide_names_all_that_the_context_offers() -> None:
    assert named("What the context offers") == {field.name for field in fields(Context)}


def test_the_guide_names_all_waits() -> None:
    told = named("Waiting for time, people and events")
    assert told == {wait.__name__ for wait in get_args(waits.Wait)}


def test_the_guide_names_the_errors_that_are_retried_and_those_that_are_not() -> None:
    assert {"BadInput", "Transient"} <= set(re.findall(r"`errors\.(\w+)`", GUIDE.read_text(encoding="utf-8")))
    assert (BadInput.kind, Transient.kind, BlockBug.kind) == ("user", "transient", "block")


def test_the_entry_point_of_the_guide_is_of_the_group_that_is_looked_at() -> None:
    (sample,) = fenced("toml")
    points = tomllib.loads(sample)["project"]["entry-points"][ENTRY_POINT_GROUP]
    assert [EntryPoint(name, value, ENTRY_POINT_GROUP).module for name, value in points.items()] == [
        "word_blocks.blocks"
    ]


def test_the_commands_of_the_guide_make_install_and_show_a_package(tmp_path: Path) -> None:
    (sample,) = fenced("sh")
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]),
        "PIP_TARGET": str(tmp_path / "target"),  # not into the environment that the tests run in
        "PIP_NO_DEPS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONPATH": str(tmp_path / "target"),
    }
    if find_spec("hatchling"):
        environment["PIP_NO_BUILD_ISOLATION"] = "0"  # pip takes 0 for: do not isolate
    done = subprocess.run(
        ["/bin/sh", "-eu", "-c", sample], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WordBlocksExample: 4 examples run" in done.stderr
    assert "from        word_blocks.blocks" in done.stdout
