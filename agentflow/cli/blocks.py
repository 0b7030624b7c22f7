"""`agentflow blocks`: what graphs can be made of."""

import sys
from typing import Any

import click

from agentflow.cli.connect import Exit, complain, connected
from agentflow.cli.tables import echo_json, echo_json_lines, echo_table
from agentflow.schemas.blocks import BlockInfo


@click.group()
def blocks() -> None:
    """List the blocks, and show what one takes and gives."""


@blocks.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one block a line.")
def list_blocks(as_json: bool) -> None:
    """List all blocks, by name."""
    with connected() as client:
        found = client.blocks()
    if as_json:
        echo_json_lines(found)
        return
    rows = [(block.name, block.id, block.description) for block in found]
    echo_table(("NAME", "ID", "DESCRIPTION"), rows, empty="No blocks.")


@blocks.command()
@click.argument("block", metavar="NAME-OR-ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(block: str, as_json: bool) -> None:
    """Show what a block takes and gives."""
    with connected() as client:
        found = _find(client.blocks(), block)
    if as_json:
        echo_json(found)
        return
    click.echo(f"{found.name}  {found.id}\n{found.description}\n")
    required = set(found.inputSchema.get("required", ()))
    rows = [
        ("takes", f"{pin}{' (required)' if pin in required else ''}", _type(schema), schema.get("description"))
        for pin, schema in found.inputSchema.get("properties", {}).items()
    ]
    rows += [
        ("gives", pin, _type(schema), schema.get("description"))
        for pin, schema in found.outputSchema.get("properties", {}).items()
    ]
    echo_table(("", "PIN", "TYPE", "DESCRIPTION"), rows, empty="No pins.")


def _find(known: list[BlockInfo], wanted: str) -> BlockInfo:
    for block in known:
        if wanted in (block.id, block.name) or wanted.lower() == block.name.lower():
            return block
    complain(f"there is no block {wanted!r}: see `agentflow blocks list`")
    sys.exit(Exit.REFUSED)


def _type(schema: dict[str, Any]) -> str:
    """A pin's type in a word or two."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    return str(schema.get("type", "anything"))
