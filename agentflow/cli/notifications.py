"""Implements `agentflow notifications`: what you are told, how soon, and over which channels."""

import sys
from typing import Any

import click

from agentflow.cli.connect import Exit, complain, connected
from agentflow.cli.finding import find_channel
from agentflow.cli.tables import DEFAULT_LIMIT, JSON, echo_json, echo_json_lines, echo_table, to_ask
from agentflow.client.client import Client
from agentflow.notifications.kinds import ChannelKind, Kind, Mode
from agentflow.notifications.schemas import PreferencesView

_CHANNEL = click.argument("channel", metavar="ID|NAME")
_LIMIT = click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
_ALL = click.option("--all", "everything", is_flag=True, help="No limit.")
_TYPE = click.Choice([kind.value for kind in Kind])


@click.group()
def notifications() -> None:
    """Read what you are told; say how soon and where."""


@notifications.command("list")
@click.option("--type", "kind", type=_TYPE, help="Of this type only.")
@click.option("--unread", is_flag=True, help="Unread ones only.")
@_LIMIT
@_ALL
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one notification a line.")
def list_notifications(kind: str | None, unread: bool, limit: int, everything: bool, as_json: bool) -> None:
    """List what you were told, the newest first."""
    most = None if everything else limit
    with connected() as client:
        asked = to_ask(most, as_json=as_json)
        found = client.notifications.list(type=kind, read=False if unread else None, limit=asked)
        if as_json:
            echo_json_lines(found)
            return
        rows = [(one.id, one.created_at, one.type, "" if one.read_at else "new", one.title) for one in found]
    echo_table(("ID", "CREATED", "TYPE", "", "WHAT"), rows, empty="There are no notifications.", limit=most)


@notifications.command()
@click.argument("notification", type=click.UUID, metavar="ID")
@JSON
def show(notification: Any, as_json: bool) -> None:
    """Show a notification, and where it was sent; it counts as read then."""
    with connected() as client:
        found = client.notifications.get(notification)
        client.notifications.mark(notification)
    if as_json:
        echo_json(found)
        return
    click.echo(found.title)
    click.echo()
    click.echo(found.text)
    rows = [(one.channel_id, one.state, one.attempts, one.sent_at or one.due_at, one.error) for one in found.deliveries]
    echo_table(("CHANNEL", "STATE", "TRIES", "AT", "ERROR"), rows, empty="It goes over no channel.")


@notifications.command()
@click.argument("notification", type=click.UUID, metavar="ID", required=False)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@JSON
def read(notification: Any, everything: bool, as_json: bool) -> None:
    """Mark a notification as read, or --all."""
    if (notification is None) != everything:
        raise click.UsageError("give an id, or --all")
    with connected() as client:
        if everything:
            marked = client.notifications.mark_all()
        else:
            client.notifications.mark(notification)
            marked = 1
    echo_json({"marked": marked}) if as_json else click.echo(f"{marked} marked as read.", err=True)


@notifications.command()
@JSON
def preferences(as_json: bool) -> None:
    """Show how soon you are told of each type, over which channel, and when not."""
    with connected() as client:
        found = client.notifications.preferences()
        names = {str(one.id): one.name for one in client.notifications.channels()}
    if as_json:
        echo_json(found)
        return
    rows = [
        (
            kind,
            one.mode or f"{one.default} (default)",
            ", ".join(f"{names.get(channel, channel)}: {mode}" for channel, mode in one.channels.items()),
        )
        for kind, one in found.types.items()
    ]
    echo_table(("TYPE", "HOW SOON", "BUT OVER"), rows, empty="")
    quiet = f"{found.quiet_hours.start} to {found.quiet_hours.end}" if found.quiet_hours else "none"
    click.echo(f"Quiet hours ({found.time_zone}): {quiet}. Messages a day and channel: {found.daily_cap}.", err=True)


@notifications.command()
@click.argument("kind", type=_TYPE, metavar="TYPE")
@click.argument("mode", type=click.Choice([*(mode.value for mode in Mode), "default"]))
@click.option("--channel", metavar="ID|NAME", help="Over this channel only.")
@JSON
def prefer(kind: str, mode: str, channel: str | None, as_json: bool) -> None:
    """Say how soon you want to be told of TYPE."""
    with connected() as client:
        body = _as_set(client.notifications.preferences())
        one = body["types"].setdefault(kind, {"mode": None, "channels": {}})
        if channel is None:
            one["mode"] = None if mode == "default" else mode
        else:
            channel_id = str(find_channel(client, channel))
            one["channels"].pop(channel_id, None)
            if mode != "default":
                one["channels"][channel_id] = mode
        over = f" over {channel}" if channel else ""
        _set(client, body, as_json, f"You are told of {kind}{over}: {mode}.")


@notifications.command()
@click.argument("hours", metavar="START-END|none")
@JSON
def quiet(hours: str, as_json: bool) -> None:
    """Set the hours in which nothing is sent, as 22:00-07:00, on the clock of your time zone; or none."""
    start, dash, end = hours.partition("-")
    if hours != "none" and not dash:
        raise click.UsageError("give hours as 22:00-07:00, or none")
    with connected() as client:
        before = client.notifications.preferences()
        body = _as_set(before)
        wanted = None if hours == "none" else {"start": start, "end": end}
        told = f"Quiet hours: {hours} ({before.time_zone})."
        _set(client, {**body, "quiet_hours": wanted}, as_json, told)


@notifications.command()
@click.argument("messages", type=click.IntRange(1))
@JSON
def cap(messages: int, as_json: bool) -> None:
    """Set how many messages a day come over each channel; what is beyond comes in one, the next day."""
    with connected() as client:
        body = {**_as_set(client.notifications.preferences()), "daily_cap": messages}
        _set(client, body, as_json, f"At most {messages} messages a day over each channel.")


@notifications.group()
def channels() -> None:
    """Say how you can be reached."""


@channels.command("list")
@_LIMIT
@_ALL
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one channel a line.")
def list_channels(limit: int, everything: bool, as_json: bool) -> None:
    """List your channels, the newest first."""
    most = None if everything else limit
    with connected() as client:
        found = client.notifications.channels(limit=to_ask(most, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [
            (one.id, one.kind, one.name, ", ".join(map(str, one.details.values())), "" if one.enabled else "off",
             one.sent_at, one.error)
            for one in found
        ]  # fmt: skip
    header = ("ID", "KIND", "NAME", "WHERE", "", "SENT LAST", "ERROR")
    echo_table(header, rows, empty="There are no channels.", limit=most)


@channels.command()
@click.argument("kind", type=click.Choice([kind.value for kind in ChannelKind]))
@click.argument("name")
@click.option("--address", help="Where it leads. Better not given here: it is asked for, or read from standard input.")
@JSON
def add(kind: str, name: str, address: str | None, as_json: bool) -> None:
    """Add a channel of KIND, called NAME.

    Its address is an e-mail address, the URL of a webhook, or a URL of apprise, as discord://id/token.
    """
    if address is None:
        address = click.prompt("Address", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline().strip()
    with connected() as client:
        made = client.notifications.add_channel(kind, name, address)
    if as_json:
        echo_json(made)
        return
    click.echo(made.id)
    if made.secret:
        click.echo(f"Its messages are signed with this, which is not shown again: {made.secret}", err=True)


@channels.command()
@_CHANNEL
@click.option("--name", help="Another name.")
@click.option("--on/--off", "enabled", default=None, help="Whether something is sent over it.")
@JSON
def change(channel: str, name: str | None, enabled: bool | None, as_json: bool) -> None:
    """Rename a channel, or switch it off or on."""
    changes = {key: value for key, value in (("name", name), ("enabled", enabled)) if value is not None}
    if not changes:
        raise click.UsageError("say what to change: --name, --on or --off")
    with connected() as client:
        changed = client.notifications.change_channel(find_channel(client, channel), **changes)
    echo_json(changed) if as_json else click.echo(f"The channel {changed.name} is changed.", err=True)


@channels.command()
@_CHANNEL
@JSON
def delete(channel: str, as_json: bool) -> None:
    """Delete a channel. What waits for it is not sent."""
    with connected() as client:
        channel_id = find_channel(client, channel)
        client.notifications.delete_channel(channel_id)
    echo_json({"deleted": str(channel_id)}) if as_json else click.echo("The channel is deleted.", err=True)


@channels.command()
@_CHANNEL
@JSON
def test(channel: str, as_json: bool) -> None:
    """Send a test over a channel. The exit code is 1 if it was not taken."""
    with connected() as client:
        tried = client.notifications.test_channel(find_channel(client, channel))
    echo_json(tried) if as_json else None
    if not tried.ok:
        if not as_json:
            complain(tried.detail)
        sys.exit(Exit.FAILED)
    if not as_json:
        click.echo("It was taken.", err=True)


@channels.command()
@_CHANNEL
@JSON
def rotate(channel: str, as_json: bool) -> None:
    """Replace what signs a webhook's messages. For a day both sign."""
    with connected() as client:
        made = client.notifications.rotate_channel(find_channel(client, channel))
    echo_json(made) if as_json else click.echo(made.secret)


def _as_set(found: PreferencesView) -> dict[str, Any]:
    """Preferences as they are set."""
    types = {
        kind.value: {
            "mode": one.mode and one.mode.value,
            "channels": {channel: mode.value for channel, mode in one.channels.items()},
        }
        for kind, one in found.types.items()
        if one.mode is not None or one.channels
    }
    quiet_hours = found.quiet_hours and found.quiet_hours.model_dump()
    return {"quiet_hours": quiet_hours, "daily_cap": found.daily_cap, "types": types}


def _set(client: Client, body: dict[str, Any], as_json: bool, told: str) -> None:
    changed = client.notifications.set_preferences(**body)
    echo_json(changed) if as_json else click.echo(told, err=True)
