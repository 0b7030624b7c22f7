"""`agentflow blocks`: what graphs can be made of, and how to make more.

Listing, showing and testing look at what is installed here and need no server; `--remote` asks one.
"""

import sys

import click

from agentflow.cli.blocks_new import new
from agentflow.cli.blocks_trial import test
from agentflow.cli.connect import Exit, complain, connected
from agentflow.cli.tables import echo_json, echo_json_lines, echo_table
from agentflow.schemas.blocks import BlockInfo

_REMOTE = click.option("--remote", is_flag=True, help="Ask the API, not this installation.")


@click.group()
def blocks() -> None:
    """List, show and test blocks, and start a package of your own."""


blocks.add_command(new)
blocks.add_command(test)


@blocks.command("list")
@_REMOTE
@click.option("--category", help="Those of this category only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one block a line.")
def list_blocks(remote: bool, category: str | None, as_json: bool) -> None:
    """List all blocks, by name; those too that are known and not here."""
    if remote:
        _list_remote(category, as_json)
        return
    from agentflow.cli.blocks_local import lines  # imports all blocks

    wanted = (category or "").upper()
    found = [line for line in lines() if not wanted or wanted in line.categories]
    if as_json:
        echo_json_lines(found)
        return
    rows = [(line.id, line.name, line.kind, ", ".join(line.categories), line.lane, line.told) for line in found]
    echo_table(("ID", "NAME", "KIND", "CATEGORIES", "LANE", "STATUS"), rows, empty="No blocks.")


def _list_remote(category: str | None, as_json: bool) -> None:
    with connected() as client:
        found = client.blocks()
    if category:
        found = [block for block in found if category.upper() in _categories(block)]
    if as_json:
        echo_json_lines(found)
        return
    rows = [(block.id, block.name, block.uiType, ", ".join(_categories(block)), block.description) for block in found]
    echo_table(("ID", "NAME", "KIND", "CATEGORIES", "DESCRIPTION"), rows, empty="No blocks.")


def _categories(block: BlockInfo) -> list[str]:
    return [str(one.get("category", "")) if isinstance(one, dict) else str(one) for one in block.categories]


@blocks.command()
@click.argument("block", metavar="NAME-OR-ID")
@_REMOTE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(block: str, remote: bool, as_json: bool) -> None:
    """Show what a block takes and gives, how it is run, and examples."""
    from agentflow.cli import blocks_local, blocks_show

    if remote:
        with connected() as client:
            known = client.blocks()
        info = next((one for one in known if block in (one.id, one.name) or block.lower() == one.name.lower()), None)
        if info is None:
            _unknown(block, " --remote")
        elif as_json:
            echo_json(info)
        else:
            blocks_show.show_info(info)
        return
    found = blocks_local.find(block)
    if found is None:
        _unknown(block)
    elif isinstance(found, blocks_local.BlockLine):
        complain(f"{found.name} ({found.id}) is {found.told}")
        sys.exit(Exit.REFUSED)
    elif as_json:
        echo_json(blocks_local.described(found))
    else:
        blocks_show.show_block(found)


def _unknown(block: str, option: str = "") -> None:
    complain(f"there is no block {block!r}: see `agentflow blocks list{option}`")
    sys.exit(Exit.REFUSED)
