"""Implements `agentflow audit`: who did what, or tried to."""

import click

from agentflow.cli.connect import connected
from agentflow.cli.finding import find_user
from agentflow.cli.tables import DEFAULT_LIMIT, echo_json_lines, echo_table, to_ask


@click.command()
@click.option(
    "--user", metavar="ID|NAME", help="For admins: what this user did.  [default: everybody's; else your own]"
)
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--all", "everything", is_flag=True, help="No limit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one entry a line.")
def audit(user: str | None, limit: int, everything: bool, as_json: bool) -> None:
    """List who changed what, or was refused to, the newest first."""
    most = None if everything else limit
    with connected() as client:
        user_id = find_user(client, user) if user else None
        found = client.audit(user_id=user_id, limit=to_ask(most, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [
            (
                one.at,
                one.user_id,
                f"key {one.key_id}" if one.key_id else f"session {one.session_id}" if one.session_id else "",
                one.source,
                one.action,
                one.target,
                f"{one.status} {one.reason}" if one.status else "done",
            )
            for one in found
        ]
    header = ("AT", "USER", "WITH", "FROM", "ACTION", "TO", "OUTCOME")
    echo_table(header, rows, empty="Nothing was changed.", limit=most)
