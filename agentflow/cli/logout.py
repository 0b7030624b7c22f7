"""Implements `agentflow logout`: forget what `agentflow login` kept."""

import sys

import click

from agentflow.cli import profiles
from agentflow.cli.connect import Exit, complain
from agentflow.cli.tables import JSON, echo_json


@click.command()
@click.option("--profile", default=profiles.DEFAULT, show_default=True, metavar="NAME", help="Which one.")
@JSON
def logout(profile: str, as_json: bool) -> None:
    """Forget a server and the key there. The key stays valid: `agentflow keys revoke` ends it."""
    kept = profiles.read()
    if profile not in kept:
        complain(f"there is no profile {profile!r}; there are: {', '.join(kept) or 'none'}")
        sys.exit(Exit.REFUSED)
    profiles.write({name: one for name, one in kept.items() if name != profile})
    if as_json:
        echo_json({"forgotten": profile, "url": kept[profile].url})
    else:
        click.echo(f"The key for {kept[profile].url} is forgotten.", err=True)
