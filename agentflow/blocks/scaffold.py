"""Writes the files of a new package of blocks, which can be installed and tested at once.

Its example block has a fresh id and a name derived from the package's, so that two such packages do not conflict.
"""

import keyword
import re
import sys
from dataclasses import dataclass
from string import Template
from typing import Final

from agentflow.ids import new_id

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_.][A-Za-z0-9]+)*")
_TAKEN: Final = frozenset({"agentflow", "tests", "test"}) | sys.stdlib_module_names


@dataclass(frozen=True, slots=True)
class Scaffold:
    """A new package.

    Attributes:
        package: its name for pip: `word-blocks`.
        module: its name in Python: `word_blocks`.
        block: the name of its first block: `WordBlocksExample`.
        files: path → content.
    """

    package: str
    module: str
    block: str
    files: dict[str, str]


def scaffold(name: str) -> Scaffold:
    """The files of a new package of blocks.

    Raises:
        ValueError: `name` is no valid package name, or would hide an existing module.
    """
    if not _NAME.fullmatch(name):
        rule = "it begins with a letter, and goes on with letters, digits and single - or _"
        raise ValueError(f"{name!r} is no name for a package: {rule}")
    package = re.sub(r"[-_.]+", "-", name).lower()
    module = package.replace("-", "_")
    if module in _TAKEN or keyword.iskeyword(module):
        raise ValueError(f"a package called {module!r} would hide another module: choose another name")
    block = "".join(part.capitalize() for part in package.split("-")) + "Example"
    values = {"package": package, "module": module, "block": block, "id": str(new_id()), "fence": "```"}
    files = {path.format(module=module): Template(content).substitute(values) for path, content in _FILES.items()}
    return Scaffold(package, module, block, files)


_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "$package"
version = "0.1.0"
description = "Blocks for AgentFlow."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["agentflow"]

[project.optional-dependencies]
test = ["pytest>=8.4"]

# This is how AgentFlow finds the blocks: all that the module defines are taken.
[project.entry-points."agentflow.blocks"]
$module = "$module.blocks"

[tool.hatch.build.targets.wheel]
packages = ["$module"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]

[tool.ruff]
line-length = 120
"""

_README = """\
# $package

Blocks for AgentFlow.

| Block | What it does |
|---|---|
| `$block` | Repeats a text. An example: put a block of your own in its place. |

${fence}sh
agentflow blocks test $module.blocks     # run the examples of the blocks, installed or not
pip install -e '.[test]'                   # beside AgentFlow, for the API and for the workers
pytest
agentflow blocks show $block
${fence}

The id of a block must never change: graphs name the block by it. Give each new block one of its own
(`python -c 'import uuid; print(uuid.uuid4())'`), and a name that no other block has.
"""

_BLOCKS = '''\
"""Blocks of $package."""

from collections.abc import Iterator
from typing import Any

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.errors import BadInput
from pydantic import Field


class $block(Block):
    id = "$id"
    name = "$block"
    description = "Repeats a text."
    categories = ("TEXT",)

    class Input(BlockInput):
        text: str = Field(description="The text.")
        times: int = Field(2, ge=0, le=1000, description="How often to give it.")

    class Output(BlockOutput):
        output: str = Field(description="The text, so often.")

    vectors = (
        TestVector({"text": "ha"}, [("output", "haha")]),
        TestVector({"text": "ha", "times": 0}, [("output", "")]),
        TestVector({"text": ""}, fails="the text is empty"),
        TestVector({"text": "ha", "times": -1}, fails="times"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        if not inputs.text:
            raise BadInput("the text is empty")
        yield "output", inputs.text * inputs.times
'''

_TEST = '''\
"""Every block does what its examples say."""

from typing import Any

import pytest
from agentflow.blocks.base import Block, TestVector
from agentflow.blocks.trial import collect, try_vector

from $module import blocks

BLOCKS = [
    thing
    for thing in vars(blocks).values()
    if isinstance(thing, type) and issubclass(thing, Block) and thing.__module__ == blocks.__name__
]
EXAMPLES = [
    pytest.param(block, vector, id=f"{block.name}-{number}")
    for block in BLOCKS
    for number, vector in enumerate(block.vectors, start=1)
]


@pytest.mark.parametrize(("block", "vector"), EXAMPLES)
def test_a_block_does_what_its_example_says(block: type[Block], vector: TestVector) -> None:
    try_vector(block(), vector)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_every_pin_is_described(block: type[Block]) -> None:
    fields: dict[str, Any] = {**block.Input.model_fields, **block.Output.model_fields}
    assert [name for name, field in fields.items() if not field.description] == []


def test_a_text_is_repeated() -> None:
    assert collect(blocks.$block(), {"text": "ab", "times": 3}) == [("output", "ababab")]
'''

_FILES: Final = {
    "pyproject.toml": _PYPROJECT,
    "README.md": _README,
    "{module}/__init__.py": '"""Blocks for AgentFlow."""\n',
    "{module}/blocks.py": _BLOCKS,
    "tests/test_blocks.py": _TEST,
}
"""Path → content, as templates."""
