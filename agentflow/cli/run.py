"""Implements `agentflow run`: submit a graph and follow its run."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from agentflow.cli.connect import EXIT_CODES, Exit, connected, print_places
from agentflow.cli.finding import CREDENTIALS, find_graph, named_credentials
from agentflow.cli.follow import follow
from agentflow.cli.inputs import at, from_object, of_type, parse_inputs, parse_pair, type_words, typed
from agentflow.cli.tables import echo_json
from agentflow.client import Client
from agentflow.schemas.runs import RunAccepted

_JSON_FILE = click.File(encoding="utf-8-sig")  # ignores the byte order mark that some editors write


@click.command(epilog=EXIT_CODES)
@click.argument("graph", metavar="GRAPH")
@click.option(
    "-i",
    "--input",
    "given",
    multiple=True,
    metavar="NAME=TEXT",
    help="An input. NAME:=JSON gives JSON whatever its type is; @FILE, a JSON object of inputs. Several.",
)
@click.option("--input-json", type=_JSON_FILE, metavar="FILE", help="As -i @FILE; - reads standard input.")
@click.option("--allow-missing", is_flag=True, help="Run even if required inputs are missing.")
@CREDENTIALS
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label to find the run by.")
@click.option("--priority", type=click.IntRange(0, 9), help="9 is the most urgent.")
@click.option("--version", "graph_version", type=click.IntRange(1), help="Of a stored graph.  [default: the latest]")
@click.option("--follow/--no-follow", "following", default=True, help="Show progress until the end.  [default: follow]")
@click.option("--quiet", is_flag=True, help="Follow, but show no progress: the outputs, and what went wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON, and no progress.")
@click.option("--local", is_flag=True, help="Start a stack for this run, and stop it afterwards.")
def run(
    graph: str,
    given: tuple[str, ...],
    input_json: Any,
    allow_missing: bool,
    credentials: tuple[str, ...],
    labels: tuple[str, ...],
    priority: int | None,
    graph_version: int | None,
    following: bool,
    quiet: bool,
    as_json: bool,
    local: bool,
) -> None:
    """Run a graph and follow it.

    GRAPH is a file with a graph's JSON, or the id or name of a graph that was pushed. Progress goes to standard error,
    outputs to standard output. Ctrl-C stops following; the run goes on.

    An input's value is read as the type that the graph says; where it says none it is text (`agentflow graphs inputs
    GRAPH` lists them). On a terminal, required inputs that are missing are asked for.
    """
    if local and not following:
        raise click.UsageError("--local ends with the run, so it cannot go with --no-follow")
    document = find_document(graph)
    if local and document is None:
        raise click.UsageError("--local runs a file: its stack knows no graph that was pushed elsewhere")
    written = from_object(input_json.read(), "--input-json") if input_json else []
    written += parse_inputs(given, "-i")
    options: dict[str, Any] = {
        "labels": dict(map(label_pair, labels)),
        "priority": priority,
        "allow_missing_inputs": allow_missing,
    }
    with _client(local) as client:
        if document is None:
            graph_id = find_graph(client, graph)
            schema = client.graphs.get(graph_id, graph_version).get("input_schema", {})
        else:
            schema = client.graphs.inputs(document)
        inputs = typed(written, schema)
        options["credentials"] = named_credentials(client, credentials)
        if not allow_missing and not as_json and sys.stdin.isatty():
            inputs |= ask(schema, inputs)
        if document is None:
            accepted = client.submit(graph_id, inputs, version=graph_version, **options)
        else:
            accepted = client.submit_inline(document, inputs, **options)
        sys.exit(report_accepted(client, accepted, following=following, as_json=as_json, quiet=quiet, local=local))


def ask(schema: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Prompt for missing required inputs, on standard error."""
    answers = {}
    for name in schema.get("required", ()):
        if inputs.get(name) is not None:
            continue
        wanted = at(schema, name)
        title, about = wanted.get("title") or name, wanted.get("description")
        if about:
            click.echo(about, err=True)
        words = type_words(wanted)
        label = title if title == name else f"{title} [{name}]"
        hidden = bool(wanted.get("secret"))
        text = click.prompt(f"{label} ({words})" if words else label, type=str, hide_input=hidden, err=True)
        answers[name] = of_type(text, wanted)
    return answers


def report_accepted(
    client: Client, accepted: RunAccepted, *, following: bool, as_json: bool, quiet: bool, local: bool = False
) -> Exit:
    """Show what became of a submission, or follow its run."""
    print_places(accepted.warnings)
    if following:
        return follow(client, accepted.id, as_json=as_json, quiet=quiet, local=local)
    if as_json:
        echo_json(accepted)
    else:
        click.echo(accepted.id)
        click.echo(f"Follow it: agentflow runs tail {accepted.id}", err=True)
    return Exit.OK


@contextmanager
def _client(local: bool) -> Iterator[Client]:
    if not local:
        with connected() as client:
            yield client
        return
    from agentflow.embedded.local import local_stack  # imports the servers' code, which most commands do not need

    with local_stack() as (url, key), connected(url, key) as client:
        yield client


def find_document(given: str) -> dict[str, Any] | None:
    """The document in a file; None if `given` names a stored graph."""
    path = Path(given)
    if path.exists():
        return read_document(path)
    if path.suffix == ".json" or len(path.parts) > 1:
        raise click.BadParameter(f"there is no file {given}", param_hint="GRAPH")
    return None


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        click.BadParameter: it cannot be read, or is not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="FILE") from None
    if not isinstance(content, dict):
        raise click.BadParameter(f"{path} holds no JSON object", param_hint="FILE")
    return content


def label_pair(text: str) -> tuple[str, str]:
    """NAME and VALUE of a label option."""
    return parse_pair(text, "--label")
