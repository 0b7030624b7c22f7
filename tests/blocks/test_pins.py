"""Graphs name pins, and rely on their defaults: what `pins.txt` says of a block changes on purpose, or not at all.

A line a block: its input pins with their types, and their defaults where they need no value; then its output pins.
"""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import to_jsonable_python

from agentflow.blocks import registry
from agentflow.blocks.base import Block
from agentflow.graph.catalogue import PinSpec

TABLE = Path(__file__).with_name("pins.txt").read_text(encoding="utf-8").splitlines()


def _type(annotation: Any) -> str:
    return re.sub(r"\b(?:typing|datetime|agentflow\.blocks(?:\.\w+)+)\.", "", inspect.formatannotation(annotation))


def _input(pin: PinSpec) -> str:
    default = "" if pin.required else f" = {json.dumps(to_jsonable_python(pin.default), ensure_ascii=False)}"
    return f"{pin.name}: {_type(pin.annotation)}{default}"


def line_of(block: type[Block]) -> str:
    spec = block.spec()
    inputs = ", ".join(map(_input, spec.inputs.values()))
    outputs = ", ".join(f"{pin.name}: {_type(pin.annotation)}" for pin in spec.outputs.values())
    return f"{spec.name}({inputs}) -> {outputs}"


@pytest.mark.parametrize("block", registry.every(), ids=lambda block: block.name)
def test_the_pins_of_a_block_are_those_that_graphs_know(block: type[Block]) -> None:
    assert [line for line in TABLE if line.startswith(f"{block.name}(")] == [line_of(block)]


def test_no_block_of_the_table_is_missing() -> None:
    assert [line.partition("(")[0] for line in TABLE] == [block.name for block in registry.every()]
