"""Implements `agentflow login`: keep an address and a key, so that commands need no environment variables."""

import sys
from urllib.parse import urlsplit

import click

from agentflow.cli import profiles
from agentflow.cli.connect import Exit, complain, connected
from agentflow.cli.profiles import Profile
from agentflow.cli.tables import JSON, echo_json


@click.command()
@click.argument("url")
@click.option("--profile", default=profiles.DEFAULT, show_default=True, metavar="NAME", help="What to call it.")
@click.option("--key-stdin", is_flag=True, help="Read the key from standard input.  [default: ask for it]")
@JSON
def login(url: str, profile: str, key_stdin: bool, as_json: bool) -> None:
    """Keep the API at URL and a key of yours there. Commands use them with --profile NAME.

    Without --profile they use `default`, unless a stack runs from this folder or AGENTFLOW_URL is set.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        complain(f"{url} is no address of an API: it begins with http:// or https://")
        sys.exit(Exit.REFUSED)
    key = sys.stdin.readline().strip() if key_stdin else click.prompt("API key", hide_input=True, err=True).strip()
    with connected(url, key) as client:
        me = client.me()
    profiles.write({**profiles.read(), profile: Profile(url, key)})
    if as_json:
        echo_json({"profile": profile, "url": url, "user": me.user.model_dump(mode="json")})
    else:
        click.echo(f"You are {me.user.name} ({me.user.role}) at {url}. It is kept as {profile!r}.", err=True)
