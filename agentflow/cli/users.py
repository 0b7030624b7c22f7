"""Implements `agentflow users`: add users, give them roles and passwords, suspend, resume and delete them."""

import sys

import click

from agentflow.accounts.scopes import Role
from agentflow.cli.connect import connected
from agentflow.cli.finding import find_user
from agentflow.cli.tables import DEFAULT_LIMIT, JSON, echo_json, echo_json_lines, echo_table, to_ask
from agentflow.settings import settings

_USER = click.argument("user", metavar="ID|NAME")


@click.group()
def users() -> None:
    """Add users, give them roles and passwords, suspend, resume and delete them. For admins."""


@users.command()
@click.argument("name")
@click.option("--role", type=click.Choice([*map(str, Role)]), default="member", show_default=True)
@click.option(
    "--admin", is_flag=True, help="Make an admin and their first key in the database itself, which needs no API or key."
)
@JSON
def create(name: str, role: str, admin: bool, as_json: bool) -> None:
    """Add the user NAME.

    With --admin: on servers of your own, where nobody has a key yet. It needs AGENTFLOW_DATABASE_URL, and prints the
    key, which nobody can see again.
    """
    if admin:
        from agentflow.accounts import audit, keys
        from agentflow.accounts import users as service
        from agentflow.accounts.store import Act
        from agentflow.services.transaction import transaction
        from agentflow.storage.migrate import check as check_schema

        check_schema(settings().database())  # complains in words where none is set, or is not upgraded yet
        with transaction() as session:
            user = service.add(session, name, Role.ADMIN)
            key, _ = keys.create(session, user.id, "first key")
            audit.record(session, Act(None, None, None, audit.COMMAND_LINE, "create_user", str(user.id)))
            made = {"id": str(user.id), "name": name, "role": str(Role.ADMIN), "key": key}
        click.echo(key) if not as_json else echo_json(made)
        return
    with connected() as client:
        added = client.users.create(name, role)
    echo_json(added) if as_json else click.echo(added.id)


@users.command("list")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one user a line.")
def list_users(limit: int, as_json: bool) -> None:
    """List users, the newest first."""
    with connected() as client:
        found = client.users.list(limit=to_ask(limit, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [(one.id, one.name, one.role, one.created_at, one.suspended_at) for one in found]
    echo_table(("ID", "NAME", "ROLE", "CREATED", "SUSPENDED"), rows, empty="There are no users.", limit=limit)


@users.command()
@_USER
@click.argument("role", type=click.Choice([*map(str, Role)]))
@JSON
def role(user: str, role: str, as_json: bool) -> None:
    """Give a user another role."""
    with connected() as client:
        changed = client.users.change(find_user(client, user), role=role)
    echo_json(changed) if as_json else click.echo(f"{changed.name} is {role} now.", err=True)


@users.command("time-zone")
@click.argument("name", required=False)
@click.option("--unset", is_flag=True, help="Have none: UTC.")
@click.option("--user", metavar="ID|NAME", help="For admins: another user's.  [default: your own]")
@JSON
def time_zone(name: str | None, unset: bool, user: str | None, as_json: bool) -> None:
    """Set your time zone to NAME, such as Europe/Paris; without it, print which it is.

    Schedules that name none use it, and blocks that are told to.
    """
    if name and unset:
        raise click.UsageError("--unset excludes a name")
    with connected() as client:
        if not (name or unset):
            found = client.me().user if user is None else client.users.get(find_user(client, user))
            echo_json({"time_zone": found.time_zone}) if as_json else click.echo(found.time_zone or "UTC")
            return
        if user is None:
            changed = client.set_time_zone(name).user
        else:
            changed = client.users.set_time_zone(find_user(client, user), name)
    echo_json(changed) if as_json else click.echo(f"The time zone of {changed.name} is {name or 'UTC'}.", err=True)


@users.command()
@_USER
@JSON
def suspend(user: str, as_json: bool) -> None:
    """Refuse all keys of a user and pause their runs, until they are resumed."""
    with connected() as client:
        changed = client.users.change(find_user(client, user), suspended=True)
    echo_json(changed) if as_json else click.echo(f"{changed.name} is suspended.", err=True)


@users.command()
@_USER
@JSON
def resume(user: str, as_json: bool) -> None:
    """Let the keys of a suspended user work again, and their runs go on."""
    with connected() as client:
        changed = client.users.change(find_user(client, user), suspended=False)
    echo_json(changed) if as_json else click.echo(f"{changed.name} is not suspended.", err=True)


@users.command()
@click.argument("user", metavar="[ID|NAME]", required=False)
@click.option("--stdin", is_flag=True, help="Read it from standard input.  [default: ask for it]")
@JSON
def password(user: str | None, stdin: bool, as_json: bool) -> None:
    """Give a user a password, or change your own. All their sessions end.

    Your own: the present one is asked for first. From standard input each is a line.
    """
    with connected() as client:
        user_id = find_user(client, user) if user else None
        old = _secret("Present password", stdin=stdin) if user_id is None else ""
        new = _secret("New password", stdin=stdin, twice=True)
        if user_id is None:
            client.change_password(old, new)
        else:
            client.users.set_password(user_id, new)
    echo_json({"set": True}) if as_json else click.echo("The password is set.", err=True)


@users.command()
@_USER
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def delete(user: str, yes: bool, as_json: bool) -> None:
    """Delete a user and all that is theirs, for ever: graphs, runs, keys."""
    with connected() as client:
        user_id = find_user(client, user)
        if not yes:
            name = client.users.get(user_id).name
            click.confirm(f"Delete {name} and all that is theirs, for ever?", abort=True, err=True)
        deleted = client.users.delete(user_id)
    echo_json(deleted) if as_json else click.echo(f"{deleted.name} is being deleted.", err=True)


@users.command()
@_USER
@click.argument("subject")
@JSON
def link(user: str, subject: str, as_json: bool) -> None:
    """Let a user sign in through OpenID Connect, where the provider calls them SUBJECT (`sub`)."""
    with connected() as client:
        user_id = find_user(client, user)
        client.users.link(user_id, subject)
    done = {"user_id": str(user_id), "subject": subject}
    echo_json(done) if as_json else click.echo(f"{user} signs in as {subject}.", err=True)


@users.command()
@_USER
@JSON
def unlink(user: str, as_json: bool) -> None:
    """Let a user no longer sign in through OpenID Connect."""
    with connected() as client:
        user_id = find_user(client, user)
        client.users.link(user_id, None)
    if as_json:
        echo_json({"user_id": str(user_id), "subject": None})
    else:
        click.echo(f"{user} does not sign in through OpenID Connect any more.", err=True)


def _secret(what: str, *, stdin: bool, twice: bool = False) -> str:
    """A secret from a line of standard input, or from a prompt that does not show it."""
    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    answer: str = click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True)
    return answer
