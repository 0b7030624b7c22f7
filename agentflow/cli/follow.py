"""How is a run followed on the command line: its progress while it goes on, its result at the end?"""

import sys

import click

from agentflow.cli.connect import Exit
from agentflow.cli.progress import Progress
from agentflow.cli.tables import brief, echo_json
from agentflow.client import Client
from agentflow.schemas.runs import RunView

_EXITS = {"COMPLETED": Exit.OK, "FAILED": Exit.FAILED, "CANCELLED": Exit.CANCELLED}


def follow(client: Client, run_id: str, *, as_json: bool, local: bool = False) -> Exit:
    """Show a run until it has ended, then its result; gives the exit code. Ctrl-C ends the command, not the run.

    Args:
        as_json: no progress; the run as JSON at the end.
        local: the run's stack ends with this command.
    """
    if not as_json:
        click.echo(f"Run {run_id}", err=True)  # first of all: whatever comes between, it can be looked for
    try:
        if as_json:
            run = client.wait(run_id)
        else:
            with Progress() as progress:
                for event in client.events(run_id):
                    progress.see(event)
            run = client.get_run(run_id)
    except KeyboardInterrupt:
        if local:
            click.echo(f"\nRun {run_id} stops with its local stack.", err=True)
        else:
            click.echo(f"\nRun {run_id} goes on. Follow it: agentflow runs tail {run_id}", err=True)
            click.echo(f"Cancel it: agentflow runs cancel {run_id}", err=True)
        sys.exit(Exit.INTERRUPTED)
    if as_json:
        echo_json(run)
    else:
        show_result(run)
    return _EXITS.get(run.status, Exit.OK)


def show_result(run: RunView) -> None:
    """The outputs on standard output, a line each; what went wrong on standard error."""
    for name, values in run.outputs.items():
        for value in values:
            click.echo(f"{name}: {value if isinstance(value, str) else brief(value)}")
    if run.outputs_truncated:
        click.echo(f"There is more: agentflow runs outputs {run.id} --all", err=True)
    if run.error or run.reason:
        click.echo(f"{run.status}: {run.error or run.reason}", err=True)
    if run.status == "FAILED":
        click.echo(f"See which nodes failed: agentflow runs nodes {run.id} --status FAILED", err=True)
