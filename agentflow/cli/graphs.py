"""Implements `agentflow graphs`: store, list, get, validate, import, export, estimate and delete graphs."""

import sys
from pathlib import Path

import click

from agentflow.cli.connect import Exit, connected, print_places
from agentflow.cli.finding import find_graph
from agentflow.cli.inputs import at, type_words
from agentflow.cli.run import find_document, read_document
from agentflow.cli.tables import DEFAULT_LIMIT, JSON, echo_json, echo_json_lines, echo_table, to_ask
from agentflow.credits.schemas import GraphEstimate, NodeEstimate
from agentflow.schemas.graphs import GraphSaved

_GRAPH = click.argument("graph", metavar="GRAPH")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def graphs() -> None:
    """Push, list, get, validate, import and export graphs.

    A GRAPH is a graph's id, the beginning of one, its name, or `last`.
    """


@graphs.command(short_help="Store the graph in FILE, as a new one or the next version.")
@click.argument("file", type=_FILE)
@click.option("--id", "graph", help="Make it the next version of this graph.")
@JSON
def push(file: Path, graph: str | None, as_json: bool) -> None:
    """Store the graph in FILE: a new graph, or the next version of one."""
    document = read_document(file)
    with connected() as client:
        saved = client.graphs.replace(find_graph(client, graph), document) if graph else client.graphs.create(document)
    _print_saved(saved, as_json)


@graphs.command("list")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="Graphs, at most.")
@click.option("--all", "everything", is_flag=True, help="No limit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one graph a line.")
def list_graphs(limit: int, everything: bool, as_json: bool) -> None:
    """List graphs, the newest first."""
    most = None if everything else limit
    with connected() as client:
        found = client.graphs.list(limit=to_ask(most, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [
            (graph.id, graph.name, graph.version, graph.updated_at, "" if graph.valid else "blocks are missing")
            for graph in found
        ]
    echo_table(
        ("ID", "NAME", "VERSION", "UPDATED", ""), rows, empty="No graphs yet: agentflow graphs push FILE", limit=most
    )


@graphs.command()
@_GRAPH
@click.option("--version", "number", type=click.IntRange(1), help="[default: the latest]")
def get(graph: str, number: int | None) -> None:
    """Print a graph's document as JSON."""
    with connected() as client:
        echo_json(client.graphs.get(find_graph(client, graph), number))


@graphs.command(short_help="List what a run of a graph takes.")
@click.argument("graph", metavar="FILE|GRAPH")
@click.option("--version", "number", type=click.IntRange(1), help="Of a stored graph.  [default: the latest]")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON Schema of the inputs.")
def inputs(graph: str, number: int | None, as_json: bool) -> None:
    """List what a run of a graph takes: each input, whether a run must give it, its type and its default."""
    document = find_document(graph)
    with connected() as client:
        if document is None:
            schema = client.graphs.get(find_graph(client, graph), number).get("input_schema", {})
        else:
            schema = client.graphs.inputs(document)
    if as_json:
        echo_json(schema)
        return
    required = schema.get("required", ())
    rows = []
    for name in schema.get("properties", {}):
        wanted = at(schema, name)
        about = [text for text in (wanted.get("title"), wanted.get("description")) if text and text != name]
        given = "required" if name in required else wanted.get("default", "")
        rows.append((name, type_words(wanted) or "anything", given, ": ".join(about)))
    echo_table(("NAME", "TYPE", "DEFAULT", "WHAT IT IS"), rows, empty="This graph takes no inputs.")


@graphs.command("import", short_help="Store a graph that another system exported.")
@click.argument("file", type=_FILE)
@JSON
def import_graph(file: Path, as_json: bool) -> None:
    """Store the graph in FILE that another system exported, even if blocks of it are missing here."""
    document = read_document(file)
    with connected() as client:
        saved = client.graphs.create(document, imported=True)
    _print_saved(saved, as_json)


@graphs.command(short_help="Print a graph's document for others, without secrets.")
@_GRAPH
@click.option("--version", "number", type=click.IntRange(1), help="[default: the latest]")
def export(graph: str, number: int | None) -> None:
    """Print a graph's document for others: without secrets, with new ids."""
    with connected() as client:
        echo_json(client.graphs.export(find_graph(client, graph), number))


@graphs.command(short_help="Say everything that is wrong with the graph in FILE.")
@click.argument("file", type=_FILE)
@JSON
def validate(file: Path, as_json: bool) -> None:
    """Say everything that is wrong with the graph in FILE (exit code 1 if anything is), without storing it."""
    with connected() as client:
        report = client.graphs.validate(read_document(file))
    if as_json:
        echo_json(report)
    else:
        print_places(report.problems)
        click.echo("valid" if report.valid else "not valid")
    sys.exit(Exit.OK if report.valid else Exit.FAILED)


@graphs.command(short_help="Estimate what a run of a graph would cost.")
@_GRAPH
@click.option("--version", "number", type=click.IntRange(1), help="[default: the latest]")
@JSON
def estimate(graph: str, number: int | None, as_json: bool) -> None:
    """Estimate what a run of a graph would cost, in credits, if each node ran once."""
    with connected() as client:
        found = client.graphs.estimate(find_graph(client, graph), version=number)
    if as_json:
        echo_json(found)
        return
    rows = [(" / ".join(one.path), one.block, *_credits(one)) for one in found.nodes]
    if rows:
        rows.append(("all", "", *_credits(found)))
    echo_table(("NODE", "BLOCK", "CREDITS", ""), rows, empty="A run costs nothing.")


@graphs.command()
@_GRAPH
@JSON
def delete(graph: str, as_json: bool) -> None:
    """Delete a graph. Its ended runs stay; while any of its runs is open this is refused."""
    with connected() as client:
        graph_id = find_graph(client, graph)
        client.graphs.delete(graph_id)
    echo_json({"deleted": str(graph_id)}) if as_json else click.echo(f"Deleted {graph_id}.", err=True)


def _credits(found: NodeEstimate | GraphEstimate) -> tuple[str, str]:
    most = "…" if found.most is None else f"{found.most}"
    return f"{found.least}" if most == f"{found.least}" else f"{found.least} to {most}", "+ by use" * found.by_use


def _print_saved(saved: GraphSaved, as_json: bool) -> None:
    print_places(saved.warnings)
    if as_json:
        echo_json(saved)
        return
    click.echo(saved.id)
    remark = "" if saved.created else " says the same: nothing stored"
    if not saved.valid:
        remark += f"{':' if saved.created else ';'} it cannot run, because blocks of it are missing here"
    click.echo(f"{saved.name or 'graph'}, version {saved.version}{remark}", err=True)
