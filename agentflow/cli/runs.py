"""`agentflow runs`: the runs of an installation."""

import sys
from typing import Any
from uuid import UUID

import click

from agentflow.cli.connect import EXIT_CODES, connected
from agentflow.cli.follow import follow, show_result
from agentflow.cli.inputs import json_or_text, parse_input
from agentflow.cli.tables import DEFAULT_LIMIT, brief, echo_json, echo_json_lines, echo_table
from agentflow.engine.statuses import NodeStatus, RunStatus
from agentflow.schemas.runs import BulkCancelled, NodeExecutionView, RunView

_RUN = click.argument("run_id", metavar="ID", type=click.UUID)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_LINES = click.option("--json", "as_json", is_flag=True, help="Print JSON, one thing a line.")
_LIMIT = click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
_ALL = click.option("--all", "everything", is_flag=True, help="No limit.")


@click.group()
def runs() -> None:
    """List, get, follow and steer runs."""


@runs.command("list")
@click.option("--status", type=click.Choice([str(status) for status in RunStatus], case_sensitive=False))
@click.option("--graph", "graph_id", type=click.UUID, help="Runs of this graph.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Runs with this label.")
@_LIMIT
@_ALL
@_LINES
def list_runs(
    status: str | None,
    graph_id: UUID | None,
    labels: tuple[str, ...],
    limit: int,
    everything: bool,
    as_json: bool,
) -> None:
    """List runs, the newest first."""
    wanted = dict(label.partition("=")[::2] for label in labels)
    with connected() as client:
        found = client.runs(status=status, graph_id=graph_id, labels=wanted, limit=None if everything else limit)
        if as_json:
            echo_json_lines(found)
            return
        rows = [(run.id, run.status, run.created_at, run.ended_at, run.error or run.reason) for run in found]
    echo_table(("ID", "STATUS", "CREATED", "ENDED", "ERROR"), rows, empty="No runs.")


@runs.command()
@_RUN
@_JSON
def get(run_id: UUID, as_json: bool) -> None:
    """Show a run: its status, counts, inputs and outputs."""
    with connected() as client:
        run = client.get_run(run_id)
    if as_json:
        echo_json(run)
        return
    facts: dict[str, Any] = {
        "id": run.id,
        "graph": f"{run.graph_id}, version {run.graph_version}",
        "status": _status(run),
        "created": run.created_at,
        "started": run.started_at,
        "ended": run.ended_at,
        "labels": run.labels or None,
        "inputs": run.inputs or None,
        "stats": run.stats or None,
    }
    echo_table(("", ""), [(name, value) for name, value in facts.items() if value is not None], empty="")
    show_result(run)


@runs.command(epilog=EXIT_CODES)
@_RUN
@_JSON
def tail(run_id: UUID, as_json: bool) -> None:
    """Follow a run until it has ended, from its first event on. Ctrl-C stops following; the run goes on.

    --json prints the events, one a line.
    """
    with connected() as client:
        if as_json:
            echo_json_lines(client.events(run_id))
            return
        sys.exit(follow(client, str(run_id), as_json=False))


@runs.command()
@_RUN
@click.option("--name", help="Only the outputs of this name.")
@_LIMIT
@_ALL
@_LINES
def outputs(run_id: UUID, name: str | None, limit: int, everything: bool, as_json: bool) -> None:
    """Print a run's outputs, of each output node in order."""
    with connected() as client:
        found = client.outputs(run_id, name=name, limit=None if everything else limit)
        if as_json:
            echo_json_lines(found)
            return
        for output in found:
            click.echo(f"{output.name}: {output.value if isinstance(output.value, str) else brief(output.value)}")


@runs.command()
@_RUN
@click.option("--status", type=click.Choice([str(status) for status in NodeStatus], case_sensitive=False))
@click.option("--node", help="Only the executions of the node with this id.")
@_LIMIT
@_ALL
@_LINES
def nodes(run_id: UUID, status: str | None, node: str | None, limit: int, everything: bool, as_json: bool) -> None:
    """List a run's node executions, by node and index."""
    with connected() as client:
        found = client.nodes(run_id, status=status, node=node, limit=None if everything else limit)
        if as_json:
            echo_json_lines(found)
            return
        rows = [
            (
                one.id,
                one.title,
                one.status,
                one.attempt,
                one.stats.get("duration"),
                one.stats.get("waited"),
                _remark(one),
            )
            for one in found
        ]
    echo_table(
        ("NODE", "TITLE", "STATUS", "ATTEMPT", "SECONDS", "WAITED", "ERROR / WAITS FOR / CHILD RUN"),
        rows,
        empty="None.",
    )


@runs.command()
@click.argument("run_id", metavar="[ID]", type=click.UUID, required=False)
@click.option("--reason", help="Why; kept with the run.")
@click.option("--status", type=click.Choice(["QUEUED", "RUNNING", "WAITING"], case_sensitive=False))
@click.option("--graph", "graph_id", type=click.UUID, help="All open runs of this graph.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="All open runs with this label.")
@click.option("--all", "everything", is_flag=True, help="All open runs.")
@_JSON
def cancel(
    run_id: UUID | None,
    reason: str | None,
    status: str | None,
    graph_id: UUID | None,
    labels: tuple[str, ...],
    everything: bool,
    as_json: bool,
) -> None:
    """Cancel a run, or all that fit. What waits ends at once; what runs is told to stop."""
    wanted: dict[str, Any] = {
        "status": status,
        "graph_id": str(graph_id) if graph_id else None,
        "labels": dict(label.partition("=")[::2] for label in labels) or None,
        "all": everything or None,
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if (run_id is None) is not bool(wanted):
        raise click.UsageError("name one run, or say which: --status, --graph, --label or --all")
    with connected() as client:
        accepted = client.cancel(run_id, reason) if run_id else client.cancel_all(reason=reason, **wanted)
    if as_json:
        echo_json(accepted)
    elif isinstance(accepted, BulkCancelled):
        more = "; there are more, say it again" if accepted.more else ""
        click.echo(f"{accepted.count} runs will end CANCELLED{more}.", err=True)
    else:
        click.echo(f"Run {run_id} will end CANCELLED.", err=True)


@runs.command()
@_RUN
@_JSON
def pause(run_id: UUID, as_json: bool) -> None:
    """Pause a run: nothing new of it starts; what runs finishes."""
    with connected() as client:
        _say(client.pause(run_id), f"Run {run_id} is paused.", as_json)


@runs.command()
@_RUN
@_JSON
def resume(run_id: UUID, as_json: bool) -> None:
    """Let a paused run go on."""
    with connected() as client:
        _say(client.resume(run_id), f"Run {run_id} goes on.", as_json)


@runs.command()
@_RUN
@_JSON
def retry(run_id: UUID, as_json: bool) -> None:
    """Run again what failed in a run with nobody to handle it, and what was cancelled. What completed stays."""
    with connected() as client:
        _say(client.retry(run_id), f"Run {run_id} runs again.", as_json)


@runs.command()
@_RUN
@click.option("--from", "from_node", required=True, metavar="NODE", help="The id of the node at which it begins.")
@click.option("--input", "inputs", multiple=True, metavar="PIN=JSON", help="What that node gets instead. Several.")
@_JSON
def fork(run_id: UUID, from_node: str, inputs: tuple[str, ...], as_json: bool) -> None:
    """Start a new run that takes over all that an ended one did upstream of a node, and begins there."""
    given = dict(map(parse_input, inputs))
    with connected() as client:
        forked = client.fork(run_id, from_node, given)
    if as_json:
        echo_json(forked)
    else:
        click.echo(forked.id)


@runs.command()
@_RUN
@click.argument("name")
@click.argument("payload", required=False, metavar="[JSON]")
@_JSON
def signal(run_id: UUID, name: str, payload: str | None, as_json: bool) -> None:
    """Send the external event NAME to a run, with a payload if one is given."""
    with connected() as client:
        sent = client.signal(run_id, name, None if payload is None else json_or_text(payload))
    _say(sent, "A node goes on with it." if sent.taken else "Kept until a node waits for it.", as_json)


def _status(run: RunView) -> str:
    if run.ended:
        return run.status
    return run.status + (", being cancelled" if run.cancel_requested_at else ", paused" if run.paused_at else "")


def _remark(one: NodeExecutionView) -> str:
    """What went wrong with a node execution, or what it waits for; and the runs that it started."""
    waits = one.hold or ", ".join(one.waiting_for)
    if one.wait is not None:
        waits = one.wait.kind if one.child_runs else " ".join(filter(None, (one.wait.kind, one.wait.key)))
    return " ".join(filter(None, (one.error or waits, *map(str, one.child_runs[:3]))))


def _say(what: Any, words: str, as_json: bool) -> None:
    if as_json:
        echo_json(what)
    else:
        click.echo(words, err=True)
