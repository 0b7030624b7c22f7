"""`agentflow run`: submit a graph and follow its run."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from agentflow.cli.connect import EXIT_CODES, Exit, connected, tell_places
from agentflow.cli.follow import follow
from agentflow.cli.inputs import parse_input, parse_pair
from agentflow.cli.tables import echo_json
from agentflow.client import Client
from agentflow.schemas.runs import RunAccepted

_JSON_FILE = click.File(encoding="utf-8-sig")  # a byte order mark, as some editors write it, is passed over


@click.command(epilog=EXIT_CODES)
@click.argument("graph", metavar="FILE")
@click.option("-i", "--input", "pairs", multiple=True, metavar="NAME=VALUE", help="An input: JSON, else text.")
@click.option(
    "--input-json",
    type=_JSON_FILE,
    metavar="FILE",
    help="All inputs, as a JSON object; - reads stdin.",
)
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label to find the run by.")
@click.option("--priority", type=click.IntRange(0, 9), help="9 is the most urgent.")
@click.option("--version", "graph_version", type=click.IntRange(1), help="Of a stored graph.  [default: the latest]")
@click.option("--follow/--no-follow", "following", default=True, help="Show progress until the end.  [default: follow]")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON, and no progress.")
@click.option("--local", is_flag=True, help="Start a stack for this run, and stop it afterwards.")
def run(
    graph: str,
    pairs: tuple[str, ...],
    input_json: Any,
    labels: tuple[str, ...],
    priority: int | None,
    graph_version: int | None,
    following: bool,
    as_json: bool,
    local: bool,
) -> None:
    """Run a graph and follow it.

    FILE is a graph's JSON, or the id of a graph that was pushed. Progress goes to standard error, outputs to standard
    output. Ctrl-C stops following; the run goes on.
    """
    if local and not following:
        raise click.UsageError("--local ends with the run, so it cannot go with --no-follow")
    stored, document = _graph(graph)
    if local and stored:
        raise click.UsageError("--local runs a file: its stack knows no graph that was pushed elsewhere")
    options: dict[str, Any] = {
        "inputs": {**_object(input_json), **dict(parse_input(pair, "-i") for pair in pairs)},
        "labels": dict(map(_label, labels)),
        "priority": priority,
    }
    with _client(local) as client:
        if stored:
            accepted = client.submit(stored, version=graph_version, **options)
        else:
            accepted = client.submit_inline(document, **options)
        sys.exit(_after(client, accepted, following=following, as_json=as_json, local=local))


def _after(client: Client, accepted: RunAccepted, *, following: bool, as_json: bool, local: bool) -> Exit:
    tell_places(accepted.warnings)
    if following:
        return follow(client, str(accepted.id), as_json=as_json, local=local)
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
    from agentflow.embedded.local import local_stack  # brings servers with it; most commands need none

    with local_stack() as (url, key), connected(url, key) as client:
        yield client


def _graph(given: str) -> tuple[UUID | None, dict[str, Any]]:
    """The id of a stored graph, or a document."""
    path = Path(given)
    if not path.exists():
        try:
            return UUID(given), {}
        except ValueError:
            raise click.BadParameter(f"{given} is no file, and no graph's id", param_hint="FILE") from None
    return None, read_document(path)


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        click.BadParameter: it cannot be read, or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="FILE") from None
    if not isinstance(content, dict):
        raise click.BadParameter(f"{path} holds no JSON object", param_hint="FILE")
    return content


def _object(file: Any) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(str(error), param_hint="--input-json") from None
    if not isinstance(content, dict):
        raise click.BadParameter("it holds no JSON object", param_hint="--input-json")
    return content


def _label(text: str) -> tuple[str, str]:
    return parse_pair(text, "--label")
