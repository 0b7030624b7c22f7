"""`agentflow graphs`: the graphs of an installation."""

import sys
from pathlib import Path
from uuid import UUID

import click

from agentflow.cli.connect import Exit, connected, tell_places
from agentflow.cli.run import read_document
from agentflow.cli.tables import DEFAULT_LIMIT, echo_json, echo_json_lines, echo_table
from agentflow.schemas.graphs import GraphSaved

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def graphs() -> None:
    """Push, list, get, validate, import and export graphs."""


@graphs.command()
@click.argument("file", type=_FILE)
@click.option("--id", "graph_id", type=click.UUID, help="Make it the next version of this graph.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def push(file: Path, graph_id: UUID | None, as_json: bool) -> None:
    """Store the graph in FILE: a new graph, or the next version of one."""
    document = read_document(file)
    with connected() as client:
        saved = client.graphs.replace(graph_id, document) if graph_id else client.graphs.create(document)
    tell_places(saved.warnings)
    if as_json:
        echo_json(saved)
        return
    click.echo(saved.id)
    _tell(saved)


@graphs.command("list")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="Graphs, at most.")
@click.option("--all", "everything", is_flag=True, help="No limit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one graph a line.")
def list_graphs(limit: int, everything: bool, as_json: bool) -> None:
    """List graphs, the newest first."""
    with connected() as client:
        found = client.graphs.list(limit=None if everything else limit)
        if as_json:
            echo_json_lines(found)
            return
        rows = [
            (graph.id, graph.name, graph.version, graph.updated_at, "" if graph.valid else "blocks are missing")
            for graph in found
        ]
    echo_table(("ID", "NAME", "VERSION", "UPDATED", ""), rows, empty="No graphs yet: agentflow graphs push FILE")


@graphs.command()
@click.argument("graph_id", metavar="ID", type=click.UUID)
@click.option("--version", "number", type=click.IntRange(1), help="[default: the latest]")
def get(graph_id: UUID, number: int | None) -> None:
    """Print a graph's document as JSON."""
    with connected() as client:
        echo_json(client.graphs.get(graph_id, number))


@graphs.command("import")
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_graph(file: Path, as_json: bool) -> None:
    """Store the graph in FILE that another system exported, even if blocks of it are missing here."""
    document = read_document(file)
    with connected() as client:
        saved = client.graphs.create(document, imported=True)
    tell_places(saved.warnings)
    if as_json:
        echo_json(saved)
        return
    click.echo(saved.id)
    _tell(saved)


@graphs.command()
@click.argument("graph_id", metavar="ID", type=click.UUID)
@click.option("--version", "number", type=click.IntRange(1), help="[default: the latest]")
def export(graph_id: UUID, number: int | None) -> None:
    """Print a graph's document for others: without secrets, with new ids."""
    with connected() as client:
        echo_json(client.graphs.export(graph_id, number))


@graphs.command()
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def validate(file: Path, as_json: bool) -> None:
    """Say everything that is wrong with the graph in FILE (exit code 1 if anything is), without storing it."""
    with connected() as client:
        report = client.graphs.validate(read_document(file))
    if as_json:
        echo_json(report)
    else:
        tell_places(report.problems)
        click.echo("valid" if report.valid else "not valid")
    sys.exit(Exit.OK if report.valid else Exit.FAILED)


@graphs.command()
@click.argument("graph_id", metavar="ID", type=click.UUID)
def delete(graph_id: UUID) -> None:
    """Delete a graph. Its ended runs stay; while any of its runs is open this is refused."""
    with connected() as client:
        client.graphs.delete(graph_id)
    click.echo(f"Deleted {graph_id}.", err=True)


def _tell(saved: GraphSaved) -> None:
    told = "" if saved.created else " says the same: nothing stored"
    if not saved.valid:
        told += f"{':' if saved.created else ';'} it cannot run, because blocks of it are missing here"
    click.echo(f"{saved.name or 'graph'}, version {saved.version}{told}", err=True)
