"""Implements `agentflow runs`: list, inspect, follow and steer runs."""

import sys
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import click

from agentflow import clock
from agentflow.cli.connect import EXIT_CODES, connected
from agentflow.cli.feed import Shown
from agentflow.cli.finding import find_graph, find_run
from agentflow.cli.follow import follow, show_result, unserved_words
from agentflow.cli.inputs import HOW, Schema, parse_inputs, parse_payload, typed
from agentflow.cli.tables import (
    DEFAULT_LIMIT,
    JSON,
    brief,
    duration,
    echo_json,
    echo_json_lines,
    echo_table,
    moment,
    report_more,
    to_ask,
)
from agentflow.client import Client
from agentflow.engine.statuses import NodeStatus, RunStatus
from agentflow.schemas.runs import BulkCancelled, NodeExecutionView, RunSummary, RunView

_RUN = click.argument("run", metavar="ID")
_LINES = click.option("--json", "as_json", is_flag=True, help="Print JSON, one thing a line.")
_LIMIT = click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
_ALL = click.option("--all", "everything", is_flag=True, help="No limit.")


@click.group()
def runs() -> None:
    """List, get, follow and steer runs.

    An ID is a run's id, the beginning of one, or `last`: the newest run that is no child run.
    """


@runs.command("list")
@click.option("--status", type=click.Choice([str(status) for status in RunStatus], case_sensitive=False))
@click.option("--graph", help="Runs of this graph: its id, the beginning of it, or its name.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Runs with this label.")
@click.option("--roots", is_flag=True, help="No child runs.")
@_LIMIT
@_ALL
@_LINES
def list_runs(
    status: str | None,
    graph: str | None,
    labels: tuple[str, ...],
    roots: bool,
    limit: int,
    everything: bool,
    as_json: bool,
) -> None:
    """List runs, the newest first. ↳ marks child runs."""
    wanted = dict(label.partition("=")[::2] for label in labels)
    most = None if everything else limit
    with connected() as client:
        graph_id = find_graph(client, graph) if graph else None
        found = client.runs(
            status=status, graph_id=graph_id, labels=wanted, roots=roots, limit=to_ask(most, as_json=as_json)
        )
        if as_json:
            echo_json_lines(found)
            return
        rows = [(run.id, run.status, moment(run.created_at), _duration(run), _title(run)) for run in found]
    echo_table(("ID", "STATUS", "CREATED", "DURATION", "GRAPH"), rows, empty="No runs.", limit=most)


@runs.command()
@_RUN
@JSON
def get(run: str, as_json: bool) -> None:
    """Show a run: its status, counts, inputs and outputs."""
    with connected() as client:
        found = client.get_run(find_run(client, run))
    if as_json:
        echo_json(found)
        return
    parent = found.parent
    facts: dict[str, Any] = {
        "id": found.id,
        "graph": " ".join(filter(None, (found.graph_name, f"({found.graph_id}, version {found.graph_version})"))),
        "status": _status(found),
        "parent": f"run {parent.run_id}, node {parent.node_id} #{parent.index}" if parent else None,
        "created": found.created_at,
        "started": found.started_at,
        "ended": found.ended_at,
        "duration": _duration(found),
        "labels": found.labels or None,
        "inputs": found.inputs or None,
        "stats": found.stats or None,
        "cost": _cost(found),
        "waits": " ".join(map(unserved_words, found.unserved_queues)) or None,
    }
    echo_table(("", ""), [(name, value) for name, value in facts.items() if value is not None], empty="")
    show_result(found)


def _cost(found: RunView) -> str | None:
    """In total and by node; None: nothing."""
    if not found.costs:
        return None
    total = found.stats.get("cost", sum(found.costs.values()))
    by_node = ", ".join(f"{node}: {cost}" for node, cost in found.costs.items())
    return f"{total} credits ({by_node})"


@runs.command(short_help="Say why a run does not go on.")
@_RUN
@JSON
def explain(run: str, as_json: bool) -> None:
    """Say why a run does not go on: what it waits for, who holds a limit, whether it is admitted."""
    with connected() as client:
        found = client.explain(find_run(client, run))
    if as_json:
        echo_json(found)
        return
    click.echo(f"{found.status}  {found.run_id}")
    for reason in found.reasons:
        click.echo(f"- {reason.message}")
    if found.truncated:
        click.echo(f"There is more: agentflow runs nodes {found.run_id}", err=True)


@runs.command(epilog=EXIT_CODES)
@_RUN
@JSON
@click.option("--since", metavar="WHEN", help="Show what happens from then on: now, 10m, 2h, or a time (ISO 8601).")
@click.option("--last", type=click.IntRange(0), metavar="N", help="Show the last N things that happened, and go on.")
@click.option("--quiet", is_flag=True, help="Show no progress: the outputs, and what went wrong.")
def tail(run: str, since: str | None, last: int | None, quiet: bool, as_json: bool) -> None:
    """Follow a run until it has ended, from its first event on. Ctrl-C stops following; the run goes on.

    --json prints the events, one a line.
    """
    shown = Shown(since=_since(since), last=last)
    with connected() as client:
        run_id = find_run(client, run)
        if as_json:
            echo_json_lines(shown.wanted(client.follow(run_id)))
            return
        sys.exit(follow(client, run_id, as_json=False, quiet=quiet, shown=shown))


@runs.command()
@_RUN
@click.option("--name", help="Only the outputs of this name.")
@_LIMIT
@_ALL
@_LINES
def outputs(run: str, name: str | None, limit: int, everything: bool, as_json: bool) -> None:
    """Print a run's outputs, of each output node in order."""
    most = None if everything else limit
    with connected() as client:
        found = client.outputs(find_run(client, run), name=name, limit=to_ask(most, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        for number, output in enumerate(found, start=1):
            if most is None or number <= most:
                click.echo(f"{output.name}: {output.value if isinstance(output.value, str) else brief(output.value)}")
            else:
                report_more(number, most)


@runs.command(short_help="List a run's node executions.")
@_RUN
@click.option("--status", type=click.Choice([str(status) for status in NodeStatus], case_sensitive=False))
@click.option("--node", help="Only the executions of the node with this id.")
@_LIMIT
@_ALL
@_LINES
def nodes(run: str, status: str | None, node: str | None, limit: int, everything: bool, as_json: bool) -> None:
    """List a run's node executions, by node and index; with the traceback of a block's bug where it is kept."""
    most = None if everything else limit
    with connected() as client:
        wanted = to_ask(most, as_json=as_json)
        found = client.nodes(find_run(client, run), status=status, node=node, limit=wanted)
        if as_json:
            echo_json_lines(found)
            return
        shown = list(found)
        rows = [
            (
                one.id,
                one.title,
                one.status,
                one.attempt,
                one.stats.get("duration"),
                one.stats.get("waited"),
                one.stats.get("cost"),
                _remark(one),
            )
            for one in shown
        ]
    echo_table(
        ("NODE", "TITLE", "STATUS", "ATTEMPT", "SECONDS", "WAITED", "COST", "ERROR / WAITS FOR / CHILD RUN"),
        rows,
        empty="None.",
        limit=most,
    )
    for one in shown[:most]:
        if one.traceback:
            click.echo(f"\n{one.id}  {one.title}\n{one.traceback.rstrip()}")


@runs.command()
@click.argument("run", metavar="[ID]", required=False)
@click.option("--reason", help="Why; kept with the run.")
@click.option("--status", type=click.Choice(["QUEUED", "RUNNING", "WAITING"], case_sensitive=False))
@click.option("--graph", help="All open runs of this graph.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="All open runs with this label.")
@click.option("--all", "everything", is_flag=True, help="All open runs.")
@JSON
def cancel(
    run: str | None,
    reason: str | None,
    status: str | None,
    graph: str | None,
    labels: tuple[str, ...],
    everything: bool,
    as_json: bool,
) -> None:
    """Cancel a run, or all that fit. What waits ends at once; what runs is told to stop."""
    wanted: dict[str, Any] = {
        "status": status,
        "graph_id": graph,
        "labels": dict(label.partition("=")[::2] for label in labels) or None,
        "all": everything or None,
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if (run is None) is not bool(wanted):
        raise click.UsageError("name one run, or say which: --status, --graph, --label or --all")
    with connected() as client:
        if graph:
            wanted["graph_id"] = str(find_graph(client, graph))
        accepted = client.cancel(find_run(client, run), reason) if run else client.cancel_all(reason=reason, **wanted)
    if as_json:
        echo_json(accepted)
    elif isinstance(accepted, BulkCancelled):
        more = "; there are more, say it again" if accepted.more else ""
        click.echo(f"{accepted.count} {'run' if accepted.count == 1 else 'runs'} will end CANCELLED{more}.", err=True)
    else:
        click.echo(f"Run {accepted.id} will end CANCELLED.", err=True)


@runs.command()
@_RUN
@JSON
def pause(run: str, as_json: bool) -> None:
    """Pause a run: nothing new of it starts; what runs finishes."""
    with connected() as client:
        paused = client.pause(find_run(client, run))
    _say(paused, f"Run {paused.id} is paused.", as_json)


@runs.command()
@_RUN
@JSON
def resume(run: str, as_json: bool) -> None:
    """Let a paused run go on."""
    with connected() as client:
        resumed = client.resume(find_run(client, run))
    _say(resumed, f"Run {resumed.id} goes on.", as_json)


@runs.command(short_help="Run again what failed or was cancelled in a run.")
@_RUN
@JSON
def retry(run: str, as_json: bool) -> None:
    """Run again what failed in a run with nobody to handle it, and what was cancelled. What completed stays."""
    with connected() as client:
        retried = client.retry(find_run(client, run))
    _say(retried, f"Run {retried.id} runs again.", as_json)


@runs.command(short_help="Run an ended run anew from one of its nodes on.")
@_RUN
@click.option("--from", "from_node", required=True, metavar="NODE", help="The id of the node at which it begins.")
@click.option("--input", "inputs", multiple=True, metavar=HOW, help="What a pin of that node gets instead. Several.")
@JSON
def fork(run: str, from_node: str, inputs: tuple[str, ...], as_json: bool) -> None:
    """Start a new run that takes over all that an ended one did upstream of a node, and begins there.

    A pin's value is read as the type that its block wants.
    """
    written = parse_inputs(inputs, "--input")
    with connected() as client:
        run_id = find_run(client, run)
        given = typed(written, _pins(client, run_id, from_node)) if written else {}
        forked = client.fork(run_id, from_node, given)
    if as_json:
        echo_json(forked)
    else:
        click.echo(forked.id)


@runs.command(short_help="Send an external event to a run.")
@_RUN
@click.argument("name")
@click.argument("payload", required=False, metavar="[TEXT]")
@JSON
def signal(run: str, name: str, payload: str | None, as_json: bool) -> None:
    """Send the external event NAME to a run, with a payload if one is given.

    The payload is text; one that begins with := is the JSON behind it, as in ':={"amount": 3}'.
    """
    value = None if payload is None else parse_payload(payload, "[TEXT]")
    with connected() as client:
        sent = client.signal(find_run(client, run), name, value)
    _say(sent, "A node goes on with it." if sent.taken else "Kept until a node waits for it.", as_json)


def _pins(client: Client, run_id: UUID, node_id: str) -> Schema:
    """The input schema of a node of a run; {} if the node does not exist, which the API will report."""
    run = client.get_run(run_id)
    document = client.graphs.get(run.graph_id, run.graph_version)
    node = next((node for node in document.get("nodes", ()) if node.get("id") == node_id), None)
    if node is None:
        return {}
    schema = client.block(node["block_id"]).inputSchema
    own = node.get("input_default", {}).get("input_schema")  # a sub-graph node has the inputs of its graph
    if not isinstance(own, dict):
        return schema
    return {**schema, "properties": {**schema.get("properties", {}), **own.get("properties", {})}}


def _since(text: str | None) -> datetime | None:
    if text is None:
        return None
    if text == "now":
        return clock.now()
    if text[:-1].isdecimal() and text[-1] in _UNITS:
        return clock.now() - timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            "now, 30s, 10m, 2h, 1d, or a time such as 2026-01-31T12:00", param_hint="--since"
        ) from None
    return found.astimezone() if found.tzinfo is None else found


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds


def _duration(run: RunSummary) -> str | None:
    """How long a run took, or has taken so far."""
    if run.started_at is None:
        return None
    return duration(((run.ended_at or clock.now()) - run.started_at).total_seconds())


def _title(run: RunSummary) -> str:
    """The run's graph, marked if it is a child run, and its error."""
    name = f"{'↳ ' if run.parent else ''}{run.graph_name or run.graph_id}"
    return f"{name}: {wrong}" if (wrong := run.error or run.reason) else name


def _status(run: RunView) -> str:
    if run.ended:
        return run.status
    return run.status + (", being cancelled" if run.cancel_requested_at else ", paused" if run.paused_at else "")


def _remark(one: NodeExecutionView) -> str:
    """The error of a node execution, or what it waits for; and its child runs."""
    waits = one.hold or ", ".join(one.waiting_for)
    if one.wait is not None:
        waits = one.wait.kind if one.child_runs else " ".join(filter(None, (one.wait.kind, one.wait.key)))
    return " ".join(filter(None, (one.error or waits, *map(str, one.child_runs[:3]))))


def _say(what: Any, words: str, as_json: bool) -> None:
    if as_json:
        echo_json(what)
    else:
        click.echo(words, err=True)
