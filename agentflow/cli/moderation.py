"""Implements `agentflow moderation`: what was refused, for admins."""

import click

from agentflow.cli.connect import connected
from agentflow.cli.finding import find_user
from agentflow.cli.tables import DEFAULT_LIMIT, brief, echo_json_lines, echo_table, to_ask


@click.group()
def moderation() -> None:
    """See what moderation refused. For admins, and where AGENTFLOW_MODERATION_KEEP is set."""


@moderation.command()
@click.option("--user", metavar="ID|NAME", help="What was refused to this user.  [default: to all]")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--all", "everything", is_flag=True, help="No limit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one refusal a line.")
def refusals(user: str | None, limit: int, everything: bool, as_json: bool) -> None:
    """List what was refused, the newest first."""
    most = None if everything else limit
    with connected() as client:
        user_id = find_user(client, user) if user else None
        found = client.refusals(user_id=user_id, limit=to_ask(most, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [
            (one.at, one.user_id, one.run_id, one.node_id or "", ", ".join(one.categories), one.reason or "",
             brief(one.content))
            for one in found
        ]  # fmt: skip
    header = ("AT", "USER", "RUN", "NODE", "CATEGORIES", "REASON", "CONTENT")
    echo_table(header, rows, empty="Nothing is kept that was refused.", limit=most)
