"""Implements `agentflow demo`: start a stack, run example graphs, and stop it again.

It starts what `agentflow up` starts, except the dashboard, in a separate folder; runs the exhibits over HTTP with the
typed client; prints their outputs and which workers executed them; and stops everything.
"""

import shlex
import shutil
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

import click

from agentflow.cli.connect import Exit
from agentflow.cli.demo_exhibits import Exhibit, exhibits, more_exhibits
from agentflow.cli.demo_hook import deliver_and_approve
from agentflow.cli.demo_mailbox import DemoMailbox
from agentflow.cli.demo_nightly import run_by_schedule
from agentflow.cli.demo_site import DemoSite
from agentflow.cli.demo_watch import StopRequested, await_workers, watched
from agentflow.cli.progress import Progress
from agentflow.cli.tables import brief, console, echo_json, room
from agentflow.client import Client
from agentflow.clock import monotonic
from agentflow.embedded.halt import Halt
from agentflow.embedded.launch import Launch, Wanted
from agentflow.embedded.private import free_port
from agentflow.errors import AgentFlowError, Unavailable
from agentflow.schemas.runs import RunView
from agentflow.settings import settings
from agentflow.shipped import shipped

CONCURRENCY: Final = 2
"""Node executions at once in each worker: so few that several workers share the pages."""

Shown = tuple[Exhibit, RunView, Counter[str]]
"""An exhibit, its run, and the number of node executions by worker."""


@click.command(epilog="Exit codes: 0 all runs gave what they should, 1 something did not, 130 Ctrl-C.")
@click.option("--workers", type=click.IntRange(2), default=2, show_default=True, help="Worker processes.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep data and logs here.  [default: a temporary folder]",
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Show the rest, too: a nightly report that is mailed, a webhook that waits for a person.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was run as JSON, and nothing else.")
def demo(workers: int, data_dir: Path | None, everything: bool, as_json: bool) -> None:
    """See it work: start a real PostgreSQL, a real Valkey, the API and workers, run example graphs over HTTP, stop.

    Everything listens on this machine only, and nothing is left running. Needs no other server and no account.
    """
    began = monotonic()
    with Halt() as halt, _folder(data_dir) as folder, DemoSite() as site, DemoMailbox() as mailbox:
        allowed = ",".join((*settings().http_allow, site.authority))
        wanted = Wanted(
            data_dir=folder,
            workers=workers,
            concurrency=CONCURRENCY,
            port=free_port(),  # the usual port is left to `agentflow up`
            flower=False,
            durable=data_dir is not None,  # temporary data need not survive a power cut
            # The pages are slow: no worker should prefetch any.
            environment={
                "AGENTFLOW_HTTP_ALLOW": allowed,
                "CELERY_WORKER_PREFETCH_MULTIPLIER": "1",
                "AGENTFLOW_SMTP_HOST": "127.0.0.1",
                "AGENTFLOW_SMTP_PORT": str(mailbox.port),
                "AGENTFLOW_SMTP_SECURITY": "none",
                "AGENTFLOW_MAIL_FROM": "agentflow@example.com",
            },
        )
        chosen = (*exhibits(site.url), *(more_exhibits(site.url) if everything else ()))
        shown = _show(Launch(wanted, halt), halt, workers, chosen, mailbox, as_json=as_json)
    fine = all(_is_fine(exhibit, run) for exhibit, run, _ in shown)
    if as_json:
        _print_json(shown, fine, monotonic() - began)
    else:
        _print_end(shown, fine, monotonic() - began)
    sys.exit(Exit.OK if fine else Exit.FAILED)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """The data directory. A temporary one is removed at the end, unless AgentFlow failed: then its logs are needed."""
    if given:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="agentflow-demo-"))
    try:
        yield folder
    except AgentFlowError:
        click.echo(f"Its logs are kept: {folder / 'logs'}", err=True)
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _show(
    launch: Launch, halt: Halt, workers: int, runs: tuple[Exhibit, ...], mailbox: DemoMailbox, *, as_json: bool
) -> list[Shown]:
    """Start everything, run the exhibits, stop everything."""
    began = monotonic()
    if not as_json:
        click.echo(f"Starting PostgreSQL, Valkey, the API and {workers} workers …")
    try:
        if not launch.start():
            raise StopRequested
        names = watched(launch, halt, lambda: await_workers(launch.stack.broker_url, workers))
        if not as_json:
            click.echo(f"All answer after {monotonic() - began:.1f} s: {launch.addresses.url}, {', '.join(names)}")
        return watched(launch, halt, lambda: _run_all(launch, runs, mailbox, as_json=as_json))
    except StopRequested:
        click.echo("Stopping …", err=True)
        sys.exit(Exit.INTERRUPTED)
    finally:
        launch.stop()


def _run_all(launch: Launch, runs: tuple[Exhibit, ...], mailbox: DemoMailbox, *, as_json: bool) -> list[Shown]:
    key_file = launch.addresses.api_key_file
    assert key_file is not None, "a data directory of its own has a key"
    with Client(launch.addresses.url, key_file.read_text().strip()) as client:
        return [_run(client, number, exhibit, mailbox, as_json) for number, exhibit in enumerate(runs, 1)]


def _run(client: Client, number: int, exhibit: Exhibit, mailbox: DemoMailbox, as_json: bool) -> Shown:
    """Store the graph, run it, follow it to its end, and print its outputs."""
    document = exhibit.document()
    if not as_json:
        shows = click.wrap_text(exhibit.shows, room(), initial_indent="   ", subsequent_indent="   ")
        click.echo(f"\n{number}. {document['name']} (examples/{exhibit.file})\n{shows}")
    graph = client.graphs.create(document)
    # Without a terminal every node execution prints a line: show that for one run only.
    live = not as_json and exhibit.payload is None and not exhibit.mails and (number == 1 or sys.stdout.isatty())
    run_id = _begin(client, graph.id, exhibit, mailbox, number)
    if live:
        with Progress(console()) as progress:
            for event in client.events(run_id):
                progress.see(event)
    run = client.wait(run_id)
    shown = (exhibit, run, Counter(_worker(node.worker) for node in client.nodes(run_id) if node.worker))
    if not as_json:
        _print_run(exhibit, run, progress_shown=live)
    return shown


def _begin(client: Client, graph_id: UUID, exhibit: Exhibit, mailbox: DemoMailbox, number: int) -> UUID:
    """Begin the run of an exhibit. One that a webhook or a schedule begins has ended: its answer, or a mail, has come.

    Raises:
        Unavailable: the webhook does not answer with the outputs, or no mail comes.
    """
    if exhibit.mails:
        return run_by_schedule(client, graph_id, exhibit.inputs, mailbox, exhibit.mails)
    if exhibit.payload is None:
        return client.submit(graph_id, exhibit.inputs, labels={"demo": str(number)}).id
    answer = deliver_and_approve(client, graph_id, exhibit.payload, exhibit.approval)
    if answer.run_id is None or not exhibit.accepts(answer.outputs or {}):
        raise Unavailable(f"the webhook answers {answer.outcome} with {brief(answer.outputs)}")
    return answer.run_id


def _worker(holder: str) -> str:
    """The worker process that held a lease; its child process follows the slash."""
    return holder.partition("/")[0]


def _is_fine(exhibit: Exhibit, run: RunView) -> bool:
    return run.status == "COMPLETED" and exhibit.accepts(run.outputs)


def _print_run(exhibit: Exhibit, run: RunView, *, progress_shown: bool) -> None:
    """Print the outputs of a run, and whether they are wrong. `progress_shown`: its live progress was."""
    if not progress_shown:
        nodes = f"{run.stats.get('node_count', 0)} node executions, {run.stats.get('node_error_count', 0)} failed"
        click.echo(f"   {run.status} in {run.stats.get('duration', 0.0):.2f} s: {nodes}")
    for name, values in run.outputs.items():
        for value in values:
            lines = (value if isinstance(value, str) else brief(value)).rstrip().split("\n")
            click.echo("\n".join([f"   {name}:", *(f"     {line}" for line in lines)]))
    if not _is_fine(exhibit, run):
        click.echo(f"   This is not what should come out. {run.error or run.reason or ''}", err=True)


def _print_end(shown: list[Shown], fine: bool, seconds: float) -> None:
    workers = sum((counts for _, _, counts in shown), Counter())
    click.echo("\nWho did it:")
    for name, count in sorted(workers.items()):
        click.echo(f"   {name:<30} {count:>4} node executions")
    result = f"All {len(shown)} runs gave what they should" if fine else "Not all runs gave what they should"
    click.echo(f"\n{result}. {seconds:.1f} s from nothing to nothing left running.")
    command, example = _command(), _relative(shipped("examples") / "savings-plan.json")
    click.echo(
        "\nNext:\n"
        f"   {command} up\n"
        "      keep it running, with the dashboard; Ctrl-C stops it\n"
        f"   {command} run {shlex.quote(example)} -i goal=50000\n"
        "      run a graph there, in another terminal\n"
        f"   {command} blocks list\n"
        "      see what graphs can be made of"
    )


def _command() -> str:
    """The command to call this program from here."""
    if shutil.which("agentflow"):
        return "agentflow"
    script = Path(sysconfig.get_path("scripts")) / "agentflow"
    return shlex.quote(_relative(script)) if script.exists() else "python -m agentflow.cli.main"


def _relative(path: Path) -> str:
    """The path, as a person would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _print_json(shown: list[Shown], fine: bool, seconds: float) -> None:
    rows = [
        {
            "graph": exhibit.file,
            "run": run.model_dump(mode="json"),
            "as_expected": _is_fine(exhibit, run),
            "workers": dict(workers),
        }
        for exhibit, run, workers in shown
    ]
    total = sum((workers for _, _, workers in shown), Counter())
    echo_json({"as_expected": fine, "seconds": round(seconds, 3), "workers": dict(total), "runs": rows})
