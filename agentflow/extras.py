"""Gives the command that installs an optional part of AgentFlow in the environment that runs here."""

import re
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "agentflow"

_OF_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w.-]+)['"]""")


def install_command(extra: str, *, for_users: bool = False) -> str:
    """The command that installs the requirements of `extra` for the Python that runs here.

    It does not name `agentflow[extra]`: a checkout or a copied wheel is on no package index.
    `for_users`: the reader may not be the operator, so the command shows no paths of this machine.
    """
    wanted = " ".join(shlex.quote(requirement) for requirement in requirements(extra))
    python = shlex.quote(_python(for_users))
    if find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {python} {wanted}"
    return f"{python} -m pip install {wanted}"


def _python(for_users: bool) -> str:
    """This Python, as a person would type it here."""
    here = Path(sys.executable)
    if here.is_relative_to(Path.cwd()):
        return str(here.relative_to(Path.cwd()))
    found = shutil.which("python")
    return "python" if for_users or (found and Path(found) == here) else str(here)


def requirements(extra: str) -> list[str]:
    """What the extra requires, in pip's syntax. Other extras of ours in it are resolved."""
    try:
        declared = requires(PACKAGE) or []
    except PackageNotFoundError:  # run from source, never installed
        declared = []
    found = []
    for line in declared:
        requirement, _, marker = line.partition(";")
        named = _OF_EXTRA.search(marker)
        if named and named[1] == extra:
            found.append(requirement.strip())
    return found or [f"{PACKAGE}[{extra}]"]
