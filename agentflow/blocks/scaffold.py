"""Fills in the templates of a new package of blocks (`new_package/`), which can be installed and tested at once.

Its example block has a fresh id and a name derived from the package's, so that two such packages do not conflict.
"""

import keyword
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from agentflow.ids import new_id

_TEMPLATES: Final = Path(__file__).with_name("new_package")
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
    values = {"package": package, "module": module, "block": block, "id": str(new_id())}
    files = {}
    for template in sorted(_TEMPLATES.rglob("*.template")):
        path = template.relative_to(_TEMPLATES).with_suffix("").as_posix().replace("module/", f"{module}/")
        files[path] = Template(template.read_text(encoding="utf-8")).substitute(values)
    return Scaffold(package, module, block, files)
