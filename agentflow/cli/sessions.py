"""Implements `agentflow sessions`: where people are signed in."""

import click

from agentflow.cli.connect import connected
from agentflow.cli.finding import find_user
from agentflow.cli.tables import DEFAULT_LIMIT, JSON, echo_json, echo_json_lines, echo_table, to_ask


@click.group()
def sessions() -> None:
    """List where people are signed in, and sign them out."""


@sessions.command("list")
@click.option("--user", metavar="ID|NAME", help="For admins: another user's.")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one session a line.")
def list_sessions(user: str | None, limit: int, as_json: bool) -> None:
    """List sessions that have not ended, the newest first."""
    with connected() as client:
        user_id = find_user(client, user) if user else None
        found = client.sessions.list(user_id=user_id, limit=to_ask(limit, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [(one.id, one.source, one.created_at, one.last_used_at, one.agent) for one in found]
    echo_table(("ID", "FROM", "SINCE", "USED", "BROWSER"), rows, empty="There are no sessions.", limit=limit)


@sessions.command()
@click.argument("session", metavar="ID", type=click.UUID)
@JSON
def end(session: str, as_json: bool) -> None:
    """End a session. It stops within a second."""
    with connected() as client:
        client.sessions.end(session)
    echo_json({"ended": str(session)}) if as_json else click.echo("The session has ended.", err=True)
