"""Implements `agentflow up`: run everything on this machine until Ctrl-C."""

import os
import shlex
import sys
from pathlib import Path

import click

from agentflow.embedded.halt import Halt
from agentflow.embedded.launch import FLOWER_USER, Launch, Wanted
from agentflow.errors import Unavailable
from agentflow.settings import settings


@click.command()
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Worker processes.")
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=max(2, min(os.cpu_count() or 2, 8)),
    show_default=True,
    help="Node executions at once in each worker process.",
)
@click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Data, logs, keys.  [default: .agentflow]"
)
@click.option("--port", type=click.IntRange(1, 65535), help="The API's port.  [default: 8080, or the next free one]")
@click.option("--flower/--no-flower", default=True, show_default=True, help="Run the dashboard too.")
@click.option(
    "--logs/--no-logs",
    default=None,
    help="Print the processes' lines here too. They are kept in the data directory either way.  "
    "[default: only where this is no terminal]",
)
@click.option("--procfile", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Run this one instead.")
def up(
    workers: int,
    concurrency: int,
    data_dir: Path | None,
    port: int | None,
    flower: bool,
    logs: bool | None,
    procfile: Path | None,
) -> None:
    """Run everything on this machine until Ctrl-C: PostgreSQL and Valkey (where AGENTFLOW_DATABASE_URL and
    AGENTFLOW_BROKER_URL are not set), the schema's migrations, then the processes of the Procfile.

    Everything listens on this machine only. A process of the Procfile that dies is started again; one that dies 5 times
    in a minute stops the rest, and so does a server. Ctrl-C stops all in order; runs under way go on at the next start.
    """
    ours = settings()
    wanted = Wanted(
        data_dir=data_dir or ours.data_dir,
        workers=workers,
        concurrency=concurrency,
        port=port,
        flower=flower,
        output=sys.stdout if logs or (logs is None and not sys.stdout.isatty()) else None,
        procfile=procfile,
        database_url=ours.database_url,
        broker_url=ours.broker_url,
        flower_auth=ours.flower_auth,
        credential_keys=[key.get_secret_value() for key in ours.credential_keys],
    )
    with Halt() as halt:
        sys.exit(_run(Launch(wanted, halt), halt))


def _run(launch: Launch, halt: Halt) -> int:
    """Start, supervise, stop. Returns the exit code: 0 after a stop request, 1 if a process ended by itself."""
    click.echo(f"Starting from {launch.stack.data_dir} …")
    if not launch.start():
        return 0
    try:
        _print_addresses(launch)
        while not halt.wait(0.2):
            try:
                for message in launch.supervise():
                    click.echo(message, err=True)
            except Unavailable as failure:
                click.echo(f"{failure.message}\nStopping the rest …", err=True)
                return 1
        click.echo("Stopping … (again to hurry)")
        return 0
    finally:
        launch.stop()
        click.echo("Stopped.")


def _print_addresses(launch: Launch) -> None:
    """Print the addresses."""
    where = launch.addresses
    if launch.stack.crashed:
        left = f"; ended what it left running: {', '.join(launch.stack.orphans)}" if launch.stack.orphans else ""
        click.echo(f"The last one here died without stopping{left}. Its runs go on.")
    lines = [("API", f"{where.url}/api/v1  (try it: {where.url}/docs)")]
    lines.append(("Live", f"{where.url}/watch/RUN-ID  (a page that follows a run)"))
    if where.api_key_file:
        lines.append(("API key", f"{'new, ' if where.new_key else ''}in {where.api_key_file}"))
    if where.flower_url:
        password = (
            f"password in {where.flower_password_file}" if where.flower_password_file else "password as you set it"
        )
        lines.append(("Flower", f"{where.flower_url}  (user {FLOWER_USER}, {password})"))
    lines.append(("Logs, data", f"{launch.stack.data_dir}  (in logs/, a file for each process)"))
    if launch.stack.data_dir.absolute() != settings().data_dir.absolute():
        lines.append(("Commands", f"find it with AGENTFLOW_DATA_DIR={shlex.quote(str(launch.stack.data_dir))}"))
    for note in launch.notes:
        click.echo(note)
    click.echo("\nAgentFlow is up. Ctrl-C stops it.")
    for name, value in lines:
        click.echo(f"  {name:<11} {value}")
    click.echo()
