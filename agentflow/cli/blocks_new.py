"""Implements `agentflow blocks new`: it writes a working package with one block, for the user to extend."""

import sys
from pathlib import Path

import click

from agentflow.cli.connect import Exit, complain


@click.command()
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder to make it in; it may exist if it is empty.  [default: ./NAME]",
)
def new(name: str, directory: Path | None) -> None:
    """Make the package NAME with one block, its examples and a test.

    It can be installed beside AgentFlow: it announces its blocks as an entry point.
    """
    from agentflow.blocks.scaffold import scaffold

    try:
        made = scaffold(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    folder = directory or Path(made.package)
    try:
        if folder.exists() and any(folder.iterdir()):
            complain(f"{folder} is not empty: nothing was written")
            sys.exit(Exit.REFUSED)
        for path, content in made.files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
            click.echo(file)
    except OSError as error:
        complain(f"{folder} cannot be written: {error}")
        sys.exit(Exit.REFUSED)
    click.echo(f"\nTry its block {made.block}:\n  cd {folder}\n  agentflow blocks test {made.module}.blocks", err=True)
    click.echo("Then make it yours, and install it: pip install -e .", err=True)
