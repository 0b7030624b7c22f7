"""Implements `agentflow blocks`: list, show and test blocks, and start a package of new ones.

The commands inspect what is installed here and need no server; `--remote` asks one.
"""

import sys

import click

from agentflow.cli.blocks_new import new
from agentflow.cli.blocks_trial import test
from agentflow.cli.connect import Exit, complain, connected
from agentflow.cli.tables import JSON, echo_json, echo_json_lines, echo_table, room
from agentflow.schemas.blocks import BlockInfo

_ROOM_FOR_ALL = 160
"""The least line width, in characters, at which a list with all columns is readable."""

_REMOTE = click.option("--remote", is_flag=True, help="Ask the API, not this installation.")


@click.group()
def blocks() -> None:
    """List, show and test blocks, and start a package of your own."""


blocks.add_command(new)
blocks.add_command(test)


@blocks.command("list")
@_REMOTE
@click.option("--category", help="Those of this category only.")
@click.option("--search", metavar="WORDS", help="Those whose name, description or category holds all of these words.")
@click.option(
    "--ids/--no-ids", default=None, help="Show ids, kinds, categories and lanes too.  [default: where there is room]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one block a line.")
def list_blocks(remote: bool, category: str | None, search: str | None, ids: bool | None, as_json: bool) -> None:
    """List all blocks, by name; those too that are known and not here."""
    from agentflow.cli.blocks_local import BlockLine, line_of_info, lines, report_left_out  # imports all blocks

    found: list[BlockInfo] | list[BlockLine]
    if remote:
        with connected() as client:
            found = client.blocks()
        known = {id(one): line_of_info(one) for one in found}
    else:
        found = list(lines())
        known = {id(one): one for one in found}
        report_left_out()
    wanted = (category or "").upper()
    asked = (search or "").casefold().split()
    shown = [
        one for one in found if (not wanted or wanted in known[id(one)].categories) and known[id(one)].matches(asked)
    ]
    if as_json:
        echo_json_lines(shown)
        return
    picked = [known[id(one)] for one in shown]
    columns = ["NAME", "WHAT IT DOES"]
    rows = [[one.name, one.description if one.status == "available" else one.status_text] for one in picked]
    if ids or (ids is None and room() >= _ROOM_FOR_ALL):
        columns += ["STATUS", "KIND", "CATEGORIES", "LANE", "ID"]
        more = ([one.status, one.kind, ", ".join(one.categories), one.lane, one.id] for one in picked)
        rows = [[*row, *rest] for row, rest in zip(rows, more, strict=True)]
    echo_table(columns, rows, empty="No blocks.")


@blocks.command()
@click.argument("block", metavar="NAME-OR-ID")
@_REMOTE
@JSON
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
        complain(f"{found.name} ({found.id}) is {found.status_text}")
        sys.exit(Exit.REFUSED)
    elif as_json:
        echo_json(blocks_local.described(found))
    else:
        blocks_show.show_block(found)


def _unknown(block: str, option: str = "") -> None:
    from agentflow.cli.blocks_local import report_left_out

    if not option:
        report_left_out()
    complain(f"there is no block {block!r}: see `agentflow blocks list{option}`")
    sys.exit(Exit.REFUSED)
