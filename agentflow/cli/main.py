"""Implements `agentflow`. Each command is a module of this package, imported only when it is called.

A module `graphs` has a click command or group of the same name, `graphs`. Its line of help is defined here, so that
`agentflow --help` imports none of them.
"""

import logging
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from agentflow import __version__
from agentflow.errors import AgentFlowError, ClientError

COMMANDS = {
    "up": "Run all on this machine: servers, API, workers, dashboard.",
    "demo": "See it work: start everything, run an example graph, stop.",
    "run": "Run a graph from a file and follow it.",
    "graphs": "Push, list, get, validate, import and export graphs.",
    "runs": "List, get, follow and steer runs.",
    "presets": "Save what a graph is to be run with, and run it.",
    "schedules": "Have graphs run by themselves, and see when they did.",
    "triggers": "Run graphs when other systems send webhooks.",
    "reviews": "List what waits for a person, and approve or reject it.",
    "blocks": "List, show, try and write blocks.",
    "credentials": "Store, list, change and delete what blocks may use elsewhere.",
    "notifications": "Read what you are told; say how soon and where.",
    "login": "Keep a server and a key of yours there.",
    "logout": "Forget them.",
    "keys": "Make, list, suspend and revoke API keys.",
    "users": "Add users, give them roles, suspend, resume and delete them.",
    "sessions": "List where people are signed in, and sign them out.",
    "credits": "Show what you have and have used; give and limit credits.",
    "audit": "List who changed what, or was refused to.",
    "moderation": "See what moderation refused.",
    "dead-letters": "See, replay and drop what could not be delivered.",
    "worker": "Run a worker (`celery worker` with AgentFlow's defaults).",
    "db": "Bring the database's schema up to date, or check it.",
    "doctor": "Check this installation; say what to do about what is wrong.",
}
"""The commands and their lines of help, in the order in which users need them."""


class _Commands(click.Group):
    """The group of all commands. It knows their names without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"agentflow.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="agentflow")
@click.option("--profile", envvar="AGENTFLOW_PROFILE", metavar="NAME", help="The server to talk to: see `login`.")
def agentflow(profile: str | None) -> None:
    """AgentFlow runs agent graphs on Celery.

    Settings are environment variables, AGENTFLOW_DATABASE_URL and AGENTFLOW_BROKER_URL first of all; with neither set,
    the local stack of `agentflow up` is used.
    """


_INTERRUPTED = 130
"""The exit code after Ctrl-C. It is not 1, which would mean that a run FAILED."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 success, 1 failure, 2 wrong usage. Our own errors print no traceback."""
    # Commands that use blocks report in words which packages are left out. Without a handler, Python would also print
    # the names of these log events.
    logging.getLogger("agentflow.blocks.registry").addHandler(logging.NullHandler())
    try:
        given = None if arguments is None else list(arguments)
        sys.exit(agentflow.main(args=given, prog_name="agentflow", standalone_mode=False))
    except click.Abort:  # Ctrl-C, or the end of input at a prompt
        click.echo("Aborted!", err=True)
        sys.exit(_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AgentFlowError as error:
        click.echo(f"Error: {error.message}", err=True)
        for problem in error.problems if isinstance(error, ClientError) else ():
            place = " ".join(
                f"{name} {value}" for name, value in (("node", problem.node), ("pin", problem.pin)) if value
            )
            click.echo(f"  {problem.severity}: {place + ': ' if place else ''}{problem.message}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
