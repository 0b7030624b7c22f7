"""Implements `agentflow keys`: make, list, suspend and revoke API keys."""

from datetime import datetime

import click

from agentflow.accounts.scopes import Scope
from agentflow.cli.connect import connected
from agentflow.cli.finding import find_key, find_user
from agentflow.cli.tables import DEFAULT_LIMIT, JSON, echo_json, echo_json_lines, echo_table, to_ask

_KEY = click.argument("key", metavar="ID|KEY|NAME")
_USER = click.option("--user", metavar="ID|NAME", help="For admins: another user's.")


@click.group()
def keys() -> None:
    """Make, list, suspend and revoke API keys."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice([*map(str, Scope)]), help="Repeat it.  [default: all yours]"
)
@click.option(
    "--expires", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="When it stops working (local time)."
)
@_USER
@JSON
def create(name: str, scopes: tuple[str, ...], expires: datetime | None, user: str | None, as_json: bool) -> None:
    """Make an API key and print it. Nobody can see it again."""
    with connected() as client:
        made = client.keys.create(
            name,
            scopes=scopes or None,
            expires_at=expires.astimezone() if expires else None,
            user_id=find_user(client, user) if user else None,
        )
    echo_json(made) if as_json else click.echo(made.key)


@keys.command("list")
@_USER
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one key a line.")
def list_keys(user: str | None, limit: int, as_json: bool) -> None:
    """List API keys, the newest first."""
    with connected() as client:
        user_id = find_user(client, user) if user else None
        found = client.keys.list(user_id=user_id, limit=to_ask(limit, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [
            (one.id, one.prefix, one.name, one.state, one.last_used_at, " ".join(one.scopes or ["all"]))
            for one in found
        ]
    echo_table(("ID", "KEY", "NAME", "STATE", "USED", "SCOPES"), rows, empty="There are no keys.", limit=limit)


@keys.command()
@_KEY
@JSON
def suspend(key: str, as_json: bool) -> None:
    """Refuse a key until it is resumed."""
    with connected() as client:
        changed = client.keys.suspend(find_key(client, key))
    echo_json(changed) if as_json else click.echo(f"The key {changed.name} is suspended.", err=True)


@keys.command()
@_KEY
@JSON
def resume(key: str, as_json: bool) -> None:
    """Let a suspended key work again."""
    with connected() as client:
        changed = client.keys.suspend(find_key(client, key), suspended=False)
    echo_json(changed) if as_json else click.echo(f"The key {changed.name} works again.", err=True)


@keys.command()
@_KEY
@JSON
def revoke(key: str, as_json: bool) -> None:
    """Revoke a key, for ever. It stops within a second."""
    with connected() as client:
        key_id = find_key(client, key)
        client.keys.revoke(key_id)
    echo_json({"revoked": str(key_id)}) if as_json else click.echo("The key is revoked.", err=True)
