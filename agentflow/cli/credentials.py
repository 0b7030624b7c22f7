"""Implements `agentflow credentials`: store, list, change and delete credentials, and encrypt all of them again.

Secrets are asked for, or come from standard input; never from arguments, which everybody on the machine can read.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import click

from agentflow.cli.connect import Exit, complain, connected
from agentflow.cli.finding import find_credential
from agentflow.cli.tables import DEFAULT_LIMIT, JSON, echo_json, echo_json_lines, echo_table, to_ask
from agentflow.client.credentials import KEEP
from agentflow.credentials.kinds import Kind
from agentflow.settings import settings

_CREDENTIAL = click.argument("credential", metavar="ID|TITLE")
_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
_STDIN = click.option(
    "--secret-stdin",
    is_flag=True,
    help="Read the secret from standard input: a line with the key or password; of the types host_scoped and oauth2 a "
    "JSON object (headers; access_token, refresh_token).  [default: ask for it]",
)
_USERNAME = click.option("--username", help="Of the types user_password and oauth2.")
_BASE_URL = click.option("--base-url", metavar="URL", help="Of user_password: the only server that it goes to.")
_HOST = click.option("--host", help="Of host_scoped: the host, or `*.example.com`.")
_HEADERS = click.option("--header", "headers", multiple=True, metavar="NAME", help="Of host_scoped. Repeat it.")
_SCOPES = click.option("--scope", "scopes", multiple=True, help="Of oauth2. Repeat it.")


@click.group()
def credentials() -> None:
    """Store, list, change and delete what blocks may use elsewhere. No command shows a secret."""


@credentials.command()
@click.argument("provider")
@click.option("--type", "kind", type=click.Choice([*map(str, Kind)]), default="api_key", show_default=True)
@click.option("--title", help="Its name.  [default: the provider's]")
@click.option("--expires", type=_TIME, help="When it stops working (local time).")
@click.option("--exclusive", is_flag=True, help="One node execution at a time may use it; others wait their turn.")
@_USERNAME
@_BASE_URL
@_HOST
@_HEADERS
@_SCOPES
@_STDIN
@JSON
def create(
    provider: str,
    kind: str,
    title: str | None,
    expires: datetime | None,
    exclusive: bool,
    secret_stdin: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Store a credential of PROVIDER and print its id. The secret is asked for."""
    for name in sorted(name for name, value in given.items() if value and name not in _FIELDS[Kind(kind)]):
        option = name.removesuffix("s") if name in ("headers", "scopes") else name.replace("_", "-")
        raise click.UsageError(f"--{option} is not for the type {kind}: see --type")
    secret = _secret(Kind(kind), given, stdin=secret_stdin)
    with connected() as client:
        expires_at = expires.astimezone() if expires else None
        made = client.credentials.create(provider, secret, title=title, expires_at=expires_at, exclusive=exclusive)
    echo_json(made) if as_json else click.echo(made.id)


@credentials.command("list")
@click.option("--provider", help="Only of this one.")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one credential a line.")
def list_credentials(provider: str | None, limit: int, as_json: bool) -> None:
    """List your credentials, the newest first."""
    with connected() as client:
        found = client.credentials.list(provider=provider, limit=to_ask(limit, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [(one.id, one.provider, one.type, one.title, one.state, one.last_used_at) for one in found]
    columns = ("ID", "PROVIDER", "TYPE", "TITLE", "STATE", "USED")
    echo_table(columns, rows, empty="There are no credentials.", limit=limit)


@credentials.command()
@_CREDENTIAL
@JSON
def show(credential: str, as_json: bool) -> None:
    """Show a credential, without its secret."""
    with connected() as client:
        found = client.credentials.get(find_credential(client, credential))
    if as_json:
        echo_json(found)
        return
    shown = {**found.model_dump(exclude={"details"}), **found.details}
    rows = [(name, ", ".join(value) if isinstance(value, list) else value) for name, value in shown.items()]
    echo_table(("", ""), rows, empty="")


@credentials.command()
@_CREDENTIAL
@click.option("--title", help="Its new name.")
@click.option("--expires", type=_TIME, help="When it stops working (local time).")
@click.option("--never-expires", is_flag=True, help="Take its expiry away.")
@click.option("--exclusive/--shared", default=None, help="Whether one node execution at a time may use it.")
@click.option("--secret", "anew", is_flag=True, help="Give it a new secret, which is asked for.")
@_USERNAME
@_BASE_URL
@_HOST
@_HEADERS
@_SCOPES
@_STDIN
@JSON
def update(
    credential: str,
    title: str | None,
    expires: datetime | None,
    never_expires: bool,
    exclusive: bool | None,
    anew: bool,
    secret_stdin: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Give a credential another title, expiry, exclusiveness or secret.

    A new secret replaces all of the old one: name user, server, host and headers again, unless they stay as they are.
    """
    if expires and never_expires:
        raise click.UsageError("--expires and --never-expires exclude each other")
    if any(given.values()) and not (anew or secret_stdin):
        raise click.UsageError("what a credential consists of changes with its secret only: add --secret")
    with connected() as client:
        found = client.credentials.get(find_credential(client, credential))
        kept = {**found.details, **{name: value for name, value in given.items() if value}}
        secret = _secret(found.type, kept, stdin=secret_stdin) if anew or secret_stdin else None
        when: Any = None if never_expires else expires.astimezone() if expires else KEEP
        changed = client.credentials.change(found.id, title=title, secret=secret, expires_at=when, exclusive=exclusive)
    echo_json(changed) if as_json else click.echo(f"The credential {changed.title} is changed.", err=True)


@credentials.command()
@_CREDENTIAL
@click.option("--force", is_flag=True, help="Also if presets name it, which fail then.")
@JSON
def delete(credential: str, force: bool, as_json: bool) -> None:
    """Delete a credential. What names it fails from now on."""
    with connected() as client:
        credential_id = find_credential(client, credential)
        client.credentials.delete(credential_id, force=force)
    echo_json({"deleted": str(credential_id)}) if as_json else click.echo("The credential is deleted.", err=True)


@credentials.command()
@click.argument("provider")
@click.option("--title", help="Its name.  [default: the provider's]")
@click.option("--scope", "scopes", multiple=True, help="What to ask for. Repeat it.  [default: the provider's usual]")
@click.option("--again", metavar="ID|TITLE", help="The credential to authorise again.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the address.")
@JSON
def login(
    provider: str, title: str | None, scopes: tuple[str, ...], again: str | None, browser: bool, as_json: bool
) -> None:
    """Log in at PROVIDER in a browser, and store what it gives as a credential.

    At the end paste the address that the browser shows. Where it says that the credential is stored, press Enter.
    """
    with connected() as client:
        credential_id = find_credential(client, again) if again else None
        begun = client.credentials.begin_login(
            provider, scopes=scopes or None, title=title, credential_id=credential_id
        )
        click.echo(f"Open this in a browser:\n\n{begun.authorization_url}\n", err=True)
        if browser:
            click.launch(begun.authorization_url)
        came = _came_back(begun.state)
        if came is None:
            click.echo("The browser has ended it.", err=True)
            return
        code, error = came
        made = client.credentials.end_login(begun.state, code, error=error)
    echo_json(made) if as_json else click.echo(made.id)


@credentials.command()
@click.argument("provider")
@click.option("--client-id", required=True, help="What the provider calls your client.")
@click.option("--title", help="Its name.  [default: the provider's]")
@click.option("--scope", "scopes", multiple=True, help="What to ask for. Repeat it.")
@click.option("--again", metavar="ID|TITLE", help="The credential that gets this client.")
@click.option("--secret-stdin", is_flag=True, help="Read the client's secret from standard input.  [default: ask]")
@JSON
def client(
    provider: str,
    client_id: str,
    title: str | None,
    scopes: tuple[str, ...],
    again: str | None,
    secret_stdin: bool,
    as_json: bool,
) -> None:
    """Store your own client at PROVIDER, which gets tokens by itself. Its secret is asked for."""
    secret = _line("Client secret", stdin=secret_stdin)
    with connected() as api:
        credential_id = find_credential(api, again) if again else None
        made = api.credentials.create_client(
            provider, client_id, secret, scopes=scopes or None, title=title, credential_id=credential_id
        )
    echo_json(made) if as_json else click.echo(made.id)


@credentials.command()
@_CREDENTIAL
@JSON
def test(credential: str, as_json: bool) -> None:
    """Try a credential at its provider. The exit code is 1 where that refuses it."""
    with connected() as client:
        tried = client.credentials.test(find_credential(client, credential))
    echo_json(tried) if as_json else click.echo(tried.detail)
    if not tried.ok:
        sys.exit(Exit.FAILED)


@credentials.command()
@JSON
def providers(as_json: bool) -> None:
    """List whose credentials the blocks take, where one can log in, and whether the operator has one."""
    with connected() as client:
        found = client.credentials.providers()
    if as_json:
        echo_json_lines(found)
        return
    rows = [
        (
            one.provider,
            " ".join(one.types),
            "yes" if one.oauth2 and one.oauth2.login else None,
            one.system_credential.id if one.system_credential else None,
            one.blocks,
        )
        for one in found
    ]
    echo_table(("PROVIDER", "TYPES", "LOGIN", "ID", "BLOCKS"), rows, empty="No block takes credentials.")


@credentials.command()
@JSON
def rotate(as_json: bool) -> None:
    """For operators: encrypt all credentials again with the newest key of AGENTFLOW_CREDENTIAL_KEYS.

    It works in the database itself and needs no API. Everybody may go on meanwhile. The exit code is 1 where some are
    not under the newest key afterwards.
    """
    from agentflow.credentials import rotation
    from agentflow.services.transaction import transaction

    settings().database()  # complains in words where none is set
    rotated, unreadable, after = 0, list[UUID](), None
    while True:
        with transaction() as session:
            batch = rotation.rotate_batch(session, after)
            if batch.rotated:
                _record(session)
        rotated, after = rotated + batch.rotated, batch.last
        unreadable += batch.unreadable
        if after is None:
            break
    with transaction() as session:
        left = rotation.left(session)
    if as_json:
        echo_json({"rotated": rotated, "left": left, "unreadable": [*map(str, unreadable)]})
    else:
        click.echo(f"{rotated} were encrypted again.")
    if left:
        complain(f"{left} are not under the newest key; {len(unreadable)} of them cannot be read with any key")
        for credential_id in unreadable:
            click.echo(f"  {credential_id}", err=True)
        sys.exit(Exit.FAILED)


def _record(session: Any) -> None:
    from agentflow.accounts import audit
    from agentflow.accounts.store import Act

    audit.record(session, Act(None, None, None, audit.COMMAND_LINE, "rotate_credentials"))


def _secret(kind: Kind, given: Mapping[str, Any], *, stdin: bool) -> dict[str, Any]:
    """What the API takes of a credential of that kind; its secret parts are asked for, or read."""
    fields = {name: given[name] for name in _FIELDS[kind] if given.get(name)}
    for name in _NEEDED[kind]:
        if not fields.get(name) and not (stdin and name == "headers"):
            raise click.UsageError(f"the type {kind} needs --{name.rstrip('s') if name == 'headers' else name}")
    match kind:
        case Kind.API_KEY:
            fields["api_key"] = _line("API key", stdin=stdin)
        case Kind.USER_PASSWORD:
            fields["password"] = _line("Password", stdin=stdin)
        case Kind.HOST_SCOPED:
            fields["headers"] = _object() if stdin else _asked(fields["headers"])
        case Kind.OAUTH2:
            fields |= _object() if stdin else _tokens()
    return {"type": str(kind), **fields}


_FIELDS = {
    Kind.API_KEY: (),
    Kind.USER_PASSWORD: ("username", "base_url"),
    Kind.HOST_SCOPED: ("host", "headers"),
    Kind.OAUTH2: ("username", "scopes"),
}
_NEEDED = {
    Kind.API_KEY: (),
    Kind.USER_PASSWORD: ("username",),
    Kind.HOST_SCOPED: ("host", "headers"),
    Kind.OAUTH2: (),
}


def _came_back(state: str) -> tuple[str | None, str | None] | None:
    """The code or error in the address that the user pastes; None: they have none, as the browser ended the login."""
    while True:
        text = click.prompt("Address at the end", hide_input=True, err=True, default="", show_default=False).strip()
        if not text:
            return None
        found = {name: values[0] for name, values in parse_qs(text.partition("?")[2].partition("#")[0]).items()}
        if found.get("state") == state and (found.get("code") or found.get("error")):
            return found.get("code") if not found.get("error") else None, found.get("error")
        complain("that is not the address at which this login ended: it has the login's state, and a code")


def _line(label: str, *, stdin: bool) -> str:
    return sys.stdin.readline().rstrip("\r\n") if stdin else click.prompt(label, hide_input=True, err=True)


def _asked(names: Sequence[str]) -> dict[str, str]:
    return {name: click.prompt(name, hide_input=True, err=True) for name in names}


def _tokens() -> dict[str, str]:
    access = click.prompt("Access token", hide_input=True, err=True)
    refresh = click.prompt("Refresh token (empty: none)", hide_input=True, err=True, default="", show_default=False)
    return {"access_token": access, **({"refresh_token": refresh} if refresh else {})}


def _object() -> dict[str, Any]:
    try:
        content = json.loads(sys.stdin.read())
    except ValueError:  # which would quote it
        content = None
    if not isinstance(content, dict):
        complain("standard input holds no JSON object")
        sys.exit(Exit.REFUSED)
    return content
