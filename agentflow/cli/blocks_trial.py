"""Implements `agentflow blocks test`: it runs the test vectors of blocks and reports failures.

The vectors run in this process (`blocks.trial`), without server or worker.
"""

import importlib
import importlib.util
import json
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import indent
from types import ModuleType
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress

from agentflow.cli.connect import Exit, complain
from agentflow.errors import AgentFlowError, Interrupted

if TYPE_CHECKING:
    from agentflow.blocks.base import Block


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one example.

    Attributes:
        example: its number, from 1.
        message: what was wrong; empty if nothing.
        traceback: where the block raised, starting in the block's own code; empty if it did not raise.
    """

    block: str
    id: str
    example: int
    ok: bool
    message: str = ""
    traceback: str = ""


@click.command(short_help="Run the examples of blocks, and say which failed.")
@click.argument("wanted", metavar="[MODULE|FILE|NAME|ID]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one example a line.")
def test(wanted: tuple[str, ...], as_json: bool) -> None:
    """Run the examples (test vectors) of blocks, and say which failed and how.

    Of all blocks that are installed; or of those named, or defined in the modules or Python files named, which need not
    be installed. The exit code is 1 if an example failed.
    """
    if not __debug__:  # vectors are compared by assert
        complain("python -O does not check examples: run it without -O or PYTHONOPTIMIZE")
        sys.exit(Exit.REFUSED)
    found = _chosen(wanted)
    results = list(_shown(found, as_json))
    failed = sum(not result.ok for result in results)
    if not as_json:
        summary = f"{_count(len(found), 'block')}, {_count(len(results), 'example')}, {failed or 'none'} failed"
        click.secho(summary, err=True, fg="red" if failed else "green")
    sys.exit(Exit.FAILED if failed else Exit.OK)


def _shown(blocks: list["type[Block]"], as_json: bool) -> Iterator[Result]:
    """Run the examples, and print as they run: failures on standard output, progress on standard error."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=as_json or not console.is_terminal) as progress:
        task = progress.add_task("", total=sum(len(block.vectors) for block in blocks))
        for block in blocks:
            progress.update(task, description=block.name)
            if not block.vectors and not as_json:
                progress.console.print(f"{block.name}: no examples", style="yellow", markup=False, soft_wrap=True)
            for result in run(block):
                progress.advance(task)
                if as_json:
                    click.echo(json.dumps(asdict(result), ensure_ascii=False))
                elif not result.ok:
                    click.echo(f"FAIL {result.block}, example {result.example}: {result.message}")
                    click.echo(indent(result.traceback, "  "), nl=False)
                yield result
            if block.vectors and not as_json and not console.is_terminal:
                click.echo(f"{block.name}: {_count(len(block.vectors), 'example')} run", err=True)


def run(block: "type[Block]") -> Iterator[Result]:
    """Run the examples of a block."""
    from agentflow.blocks.trial import try_vector

    for number, vector in enumerate(block.vectors, start=1):
        try:
            with redirect_stdout(sys.stderr):  # the block's own prints are not results
                try_vector(block(), vector)
        except (Exception, Interrupted, SystemExit) as error:  # another author's code may raise anything
            trace = _trace(error)
            message = str(error) if isinstance(error, AssertionError) and not trace else ""
            yield Result(
                block.name, block.id, number, False, message or f"raised {type(error).__name__}: {error}", trace
            )
        else:
            yield Result(block.name, block.id, number, True)


def _trace(error: BaseException) -> str:
    """The traceback of an error, from the first frame outside AgentFlow; empty if there is none."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] == "agentflow":
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)) if trace else ""


def _chosen(wanted: Iterable[str]) -> list["type[Block]"]:
    """The named blocks, each once; all blocks if none is named."""
    from agentflow.blocks import registry
    from agentflow.cli.blocks_local import report_left_out

    names = list(dict.fromkeys(wanted))
    if not names:
        report_left_out()
        return registry.every()
    found: dict[type[Block], None] = {}
    for name in names:
        found.update(dict.fromkeys(_named(name)))
    return list(found)


def _named(name: str) -> list["type[Block]"]:
    """The block of that name or id, or the blocks that the module or file defines. None: ends the command."""
    from agentflow.cli.blocks_local import BlockLine, find, report_left_out

    module = None
    if name.endswith(".py"):
        module = _imported(name, Path(name))
    elif (block := find(name)) is not None:
        if not isinstance(block, BlockLine):
            return [block]
        complain(f"{block.name} ({block.id}) is {block.status_text}")
        sys.exit(Exit.REFUSED)
    elif all(part.isidentifier() for part in name.split(".")):
        module = _imported(name, None)
    if module is None:
        report_left_out()
        complain(f"{name!r} is no block's name or id, and no module: see `agentflow blocks list`")
        sys.exit(Exit.REFUSED)
    blocks = _blocks_of(module)
    if not blocks:
        complain(f"{name} defines no blocks")
        sys.exit(Exit.REFUSED)
    return blocks


def _imported(name: str, file: Path | None) -> ModuleType | None:
    """The module; None if no module has that name. Ends the command if its import fails."""
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: modules in this folder win over installed ones
    if file is None:
        _forget(name.partition(".")[0])
    try:
        if file is not None:
            return _from_file(file)
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if file is None and error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return None
        complain(f"{name} cannot be imported: {error}")
    except (Exception, SystemExit) as error:  # another author's module may raise anything
        complain(f"{name} cannot be imported: {type(error).__name__}: {error}")
        click.echo(indent(_trace(error), "  "), err=True, nl=False)
    sys.exit(Exit.REFUSED)


def _forget(package: str) -> None:
    """Undo the import of an installed package that also exists in this folder: the installed one may be older."""
    loaded = getattr(sys.modules.get(package), "__file__", None)
    written = [Path.cwd() / package / "__init__.py", Path.cwd() / f"{package}.py"]
    ours = package == "agentflow" or package in sys.stdlib_module_names
    if loaded is None or ours or Path(loaded).resolve() in written or not any(file.is_file() for file in written):
        return
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        del sys.modules[name]


def _from_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    # Not the file's own name: a `types.py` must not replace a module that others import.
    name = f"_blocks_in_{re.sub(r'[^0-9a-zA-Z]', '_', file.stem)}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic resolves annotations there
    spec.loader.exec_module(module)
    return module


def _blocks_of(module: ModuleType) -> list["type[Block]"]:
    """The blocks that the module defines, validated as registered ones are."""
    from importlib.metadata import EntryPoint

    from agentflow.blocks.registry import ENTRY_POINT_GROUP, Registry, load

    point = EntryPoint(name=module.__name__, value=module.__name__, group=ENTRY_POINT_GROUP)
    try:
        return sorted(Registry(load([point])).by_id.values(), key=lambda block: block.name)
    except AgentFlowError as error:
        complain(error.message)
        sys.exit(Exit.REFUSED)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
