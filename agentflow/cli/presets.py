"""Implements `agentflow presets`: save what a graph is to be run with, and run it."""

import sys
from typing import Any

import click

from agentflow.cli.connect import EXIT_CODES, connected
from agentflow.cli.finding import CREDENTIALS, find_graph, find_preset, named_credentials
from agentflow.cli.inputs import parse_inputs, typed
from agentflow.cli.run import ask, label_pair, report_accepted
from agentflow.cli.tables import DEFAULT_LIMIT, JSON, brief, echo_json, echo_json_lines, echo_table, to_ask

_PRESET = click.argument("preset", metavar="ID|NAME")
_INPUT = click.option("-i", "--input", "given", multiple=True, metavar="NAME=TEXT", help="As in `agentflow run`.")
_LABEL = click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of its runs.")
_PRIORITY = click.option("--priority", type=click.IntRange(0, 9), help="9 is the most urgent.")
_VERSION = click.option("--version", "version", type=click.IntRange(1), help="Of the graph.  [default: the latest]")


@click.group()
def presets() -> None:
    """Save what a graph is to be run with, and run it."""


@presets.command()
@click.argument("graph", metavar="GRAPH")
@click.argument("name")
@_INPUT
@CREDENTIALS
@_VERSION
@_LABEL
@_PRIORITY
@JSON
def create(
    graph: str,
    name: str,
    given: tuple[str, ...],
    credentials: tuple[str, ...],
    version: int | None,
    labels: tuple[str, ...],
    priority: int | None,
    as_json: bool,
) -> None:
    """Save inputs of GRAPH under NAME. They need not be complete: a run may give the rest."""
    with connected() as client:
        graph_id = find_graph(client, graph)
        schema = client.graphs.get(graph_id, version).get("input_schema", {})
        inputs = typed(parse_inputs(given, "-i"), schema)
        made = client.presets.create(
            graph_id,
            name,
            inputs,
            version=version,
            labels=dict(map(label_pair, labels)),
            priority=priority,
            credentials=named_credentials(client, credentials),
        )
    echo_json(made) if as_json else click.echo(made.id)


@presets.command("list")
@click.option("--graph", help="Of this graph: its id, the beginning of it, or its name.")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one preset a line.")
def list_presets(graph: str | None, limit: int, as_json: bool) -> None:
    """List presets, the newest first."""
    with connected() as client:
        graph_id = find_graph(client, graph) if graph else None
        found = client.presets.list(graph_id=graph_id, limit=to_ask(limit, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [(one.id, one.name, one.graph_id, one.version or "latest", brief(one.inputs)) for one in found]
    echo_table(("ID", "NAME", "GRAPH", "VERSION", "INPUTS"), rows, empty="There are no presets.", limit=limit)


@presets.command()
@_PRESET
def show(preset: str) -> None:
    """Print a preset as JSON."""
    with connected() as client:
        echo_json(client.presets.get(find_preset(client, preset)))


@presets.command()
@_PRESET
@click.option("--name", help="Another name.")
@_INPUT
@click.option("--without", multiple=True, metavar="NAME", help="Forget this input. Several.")
@CREDENTIALS
@_VERSION
@click.option("--latest", is_flag=True, help="Follow the graph's latest version.")
@_PRIORITY
@JSON
def change(
    preset: str,
    name: str | None,
    given: tuple[str, ...],
    without: tuple[str, ...],
    credentials: tuple[str, ...],
    version: int | None,
    latest: bool,
    priority: int | None,
    as_json: bool,
) -> None:
    """Change a preset. What is not named stays."""
    if latest and version:
        raise click.UsageError("--latest and --version exclude each other")
    with connected() as client:
        known = client.presets.get(find_preset(client, preset))
        changes: dict[str, Any] = {"name": name} if name else {}
        if latest or version:
            changes["version"] = version
        if given or without:
            schema = client.graphs.get(known.graph_id, version or (None if latest else known.version))
            inputs = {**known.inputs, **typed(parse_inputs(given, "-i"), schema.get("input_schema", {}))}
            changes["inputs"] = {one: value for one, value in inputs.items() if one not in without}
        if credentials:
            chosen = {key: str(id) for key, id in named_credentials(client, credentials).items()}
            changes["credentials"] = {**known.credentials, **chosen}
        if priority is not None:
            changes["priority"] = priority
        if not changes:
            wanted = "--name, -i, --without, --credential, --version, --latest or --priority"
            raise click.UsageError(f"say what to change: {wanted}")
        changed = client.presets.change(known.id, **changes)
    echo_json(changed) if as_json else click.echo(f"The preset {changed.name} is changed.", err=True)


@presets.command()
@_PRESET
@JSON
def delete(preset: str, as_json: bool) -> None:
    """Delete a preset. Its runs stay."""
    with connected() as client:
        preset_id = find_preset(client, preset)
        client.presets.delete(preset_id)
    echo_json({"deleted": str(preset_id)}) if as_json else click.echo("The preset is deleted.", err=True)


@presets.command(epilog=EXIT_CODES)
@_PRESET
@_INPUT
@click.option("--allow-missing", is_flag=True, help="Run even if required inputs are missing.")
@_LABEL
@_PRIORITY
@click.option("--follow/--no-follow", "following", default=True, help="Show progress until the end.  [default: follow]")
@click.option("--quiet", is_flag=True, help="Follow, but show no progress: the outputs, and what went wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON, and no progress.")
def run(
    preset: str,
    given: tuple[str, ...],
    allow_missing: bool,
    labels: tuple[str, ...],
    priority: int | None,
    following: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run a preset and follow it. What is given here is laid over what it holds."""
    with connected() as client:
        known = client.presets.get(find_preset(client, preset))
        schema = client.graphs.get(known.graph_id, known.version).get("input_schema", {})
        inputs = typed(parse_inputs(given, "-i"), schema)
        if not allow_missing and not as_json and sys.stdin.isatty():
            inputs |= ask(schema, {**known.inputs, **inputs})
        accepted = client.presets.run(
            known.id,
            inputs,
            labels=dict(map(label_pair, labels)),
            priority=priority,
            allow_missing_inputs=allow_missing,
        )
        sys.exit(report_accepted(client, accepted, following=following, as_json=as_json, quiet=quiet))
