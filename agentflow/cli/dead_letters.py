"""Implements `agentflow dead-letters`: notifications that could not be delivered. For admins."""

from uuid import UUID

import click

from agentflow.cli.connect import connected
from agentflow.cli.finding import find_channel_of_letters, find_notification_of_letters
from agentflow.cli.tables import DEFAULT_LIMIT, JSON, echo_json, echo_json_lines, echo_table, to_ask
from agentflow.client import Client

_NOTIFICATION = click.option(
    "--notification", metavar="ID", help="Of this notification: its id, or the beginning of it."
)
_CHANNEL = click.option("--channel", metavar="ID", help="Of this channel: its id, or the beginning of it.")
_EVERYTHING = click.option("--all", "everything", is_flag=True, help="All, 1,000 at a time.")


@click.group()
def dead_letters() -> None:
    """See, replay and drop notifications that could not be delivered. For admins."""


@dead_letters.command("list")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--all", "everything", is_flag=True, help="No limit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one a line.")
def list_letters(limit: int, everything: bool, as_json: bool) -> None:
    """List dead letters, the newest first."""
    most = None if everything else limit
    with connected() as client:
        found = client.dead_letters.list(limit=to_ask(most, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [
            (
                one.died_at,
                one.notification_id,
                one.channel_id,
                one.user_id,
                one.type,
                one.channel,
                one.attempts,
                one.error,
            )
            for one in found
        ]
    header = ("DIED", "NOTIFICATION", "CHANNEL", "USER", "TYPE", "KIND", "TRIES", "ERROR")
    echo_table(header, rows, empty="There are no dead letters.", limit=most)


@dead_letters.command()
@_NOTIFICATION
@_CHANNEL
@_EVERYTHING
@JSON
def replay(notification: str | None, channel: str | None, everything: bool, as_json: bool) -> None:
    """Send dead letters again, as if they were new."""
    _refuse_none(notification, channel, everything)
    with connected() as client:
        done = client.dead_letters.replay(**_named(client, notification, channel), everything=everything)
    echo_json({"done": done}) if as_json else click.echo(f"{done} are sent again.", err=True)


@dead_letters.command()
@_NOTIFICATION
@_CHANNEL
@_EVERYTHING
@JSON
def drop(notification: str | None, channel: str | None, everything: bool, as_json: bool) -> None:
    """Give dead letters up."""
    _refuse_none(notification, channel, everything)
    with connected() as client:
        done = client.dead_letters.drop(**_named(client, notification, channel), everything=everything)
    echo_json({"done": done}) if as_json else click.echo(f"{done} are given up.", err=True)


def _named(client: Client, notification: str | None, channel: str | None) -> dict[str, UUID | None]:
    return {
        "notification_id": find_notification_of_letters(client, notification) if notification else None,
        "channel_id": find_channel_of_letters(client, channel) if channel else None,
    }


def _refuse_none(notification: str | None, channel: str | None, everything: bool) -> None:
    if everything == (notification is not None or channel is not None):
        raise click.UsageError("say which: --notification, --channel, or --all")
