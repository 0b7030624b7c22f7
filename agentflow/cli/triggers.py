"""Implements `agentflow triggers`: run graphs when other systems send webhooks, and look at what they sent."""

import re
import sys
from enum import StrEnum
from typing import Any

import click

from agentflow.cli.connect import connected, print_places
from agentflow.cli.finding import (
    CREDENTIALS,
    find_delivery,
    find_graph,
    find_preset,
    find_trigger,
    named_credentials,
)
from agentflow.cli.inputs import parse_inputs, parse_json, parse_pair, typed
from agentflow.cli.run import label_pair
from agentflow.cli.tables import DEFAULT_LIMIT, JSON, echo_json, echo_json_lines, echo_table, moment, to_ask
from agentflow.client import Client
from agentflow.triggers.filters import PATH, WITHOUT_VALUE, Operator
from agentflow.triggers.schemas import MAX_KEPT, MAX_WAIT, TriggerMade, TriggerView
from agentflow.triggers.signatures import Scheme
from agentflow.triggers.tables import Outcome
from agentflow.triggers.terms import BodyKind


def _one_of(names: type[StrEnum]) -> click.Choice[str]:
    return click.Choice([str(one) for one in names])


_TRIGGER = click.argument("trigger", metavar="ID|NAME")
_INPUT = click.option("-i", "--input", "given", multiple=True, metavar="NAME=TEXT", help="As in `agentflow run`.")
_LABEL = click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of its runs.")
_PRIORITY = click.option("--priority", type=click.IntRange(0, 9), help="9 is the most urgent.")
_NODE = click.option("--node", help="The node that gets the payload.  [default: the only one that a webhook feeds]")
_EVENT = click.option("--event", "events", multiple=True, metavar="TYPE", help="Only events of this type. Several.")
_WHERE = click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Only payloads for which this holds, such as '$.total above 100' or '$.kind equals \"new\"'. Several. "
    f"Operators: {', '.join(Operator)}.",
)
_WAIT = click.option(
    "--wait",
    type=click.IntRange(0, MAX_WAIT),
    help="Seconds for which the answer waits for the run's end; 0: never.  [default: if the request asks for it]",
)
_KEEP = click.option("--keep", type=click.IntRange(1, MAX_KEPT), help="Deliveries that stay listed.")
_BODY = click.option(
    "--body", type=click.Choice([str(one) for one in BodyKind]), help="What the body may be.  [default: any]"
)
_CONDITION = re.compile(rf"(?P<path>{PATH[1:-1]}) (?P<operator>{'|'.join(Operator)})(?P<value>| .*)", re.DOTALL)
_STDIN = click.option("--secret-stdin", is_flag=True, help="Read the secret from standard input; else one is made.")


@click.group()
def triggers() -> None:
    """Run graphs when other systems send webhooks."""


@triggers.command()
@click.argument("name")
@click.option("--graph", help="The graph to run: its id, the beginning of it, or its name.")
@click.option("--preset", help="The preset to run.")
@click.option("--signal", metavar="NAME", help="Send a signal of this name to a run that is there, instead.")
@click.option("--run-at", metavar="PATH", help="With --signal: where the payload says the run's id, such as $.run.")
@click.option(
    "--run-label", "run_labels", multiple=True, metavar="LABEL=PATH", help="Or the newest open run with this label."
)
@click.option(
    "--scheme",
    type=click.Choice([str(one) for one in Scheme]),
    default="standard",
    show_default=True,
    help="Signatures.",
)
@_STDIN
@_NODE
@_EVENT
@_WHERE
@_INPUT
@CREDENTIALS
@click.option("--version", type=click.IntRange(1), help="Of the graph.  [default: the latest]")
@_LABEL
@_PRIORITY
@_BODY
@_WAIT
@_KEEP
@JSON
def create(
    name: str,
    graph: str | None,
    preset: str | None,
    signal: str | None,
    run_at: str | None,
    run_labels: tuple[str, ...],
    scheme: str,
    secret_stdin: bool,
    given: tuple[str, ...],
    credentials: tuple[str, ...],
    labels: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Make a trigger and print its address, which is shown this once."""
    if not (graph or preset or signal):
        raise click.UsageError("say what it does: --graph, --preset or --signal")
    secret = sys.stdin.readline().strip() if secret_stdin else None
    body = _terms(options)
    body |= {one: options[one] for one in ("node", "version", "priority", "wait", "keep") if options[one] is not None}
    if signal:
        places = dict(parse_pair(text, "--run-label") for text in run_labels)
        body["signal"] = {"name": signal, "run": run_at, "labels": places}
    with connected() as client:
        graph_id = find_graph(client, graph) if graph else None
        preset_id = find_preset(client, preset) if preset else None
        if given:
            body["inputs"] = _inputs(client, graph_id, preset_id, options["version"], given)
        if labels:
            body["labels"] = dict(map(label_pair, labels))
        if credentials:
            body["credentials"] = {key: str(id) for key, id in named_credentials(client, credentials).items()}
        made = client.triggers.create(
            name, graph_id=graph_id, preset_id=preset_id, scheme=scheme, secret=secret, **body
        )
    print_places(made.warnings)
    _tell(made, as_json=as_json)


@triggers.command("list")
@click.option("--graph", help="Of this graph: its id, the beginning of it, or its name.")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one trigger a line.")
def list_triggers(graph: str | None, limit: int, as_json: bool) -> None:
    """List triggers, the newest first."""
    with connected() as client:
        graph_id = find_graph(client, graph) if graph else None
        found = client.triggers.list(graph_id=graph_id, limit=to_ask(limit, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [(one.id, one.name, _does(one), one.scheme, one.pause_reason or "") for one in found]
    echo_table(("ID", "NAME", "DOES", "SIGNED", "PAUSED"), rows, empty="There are no triggers.", limit=limit)


@triggers.command()
@_TRIGGER
def show(trigger: str) -> None:
    """Print a trigger as JSON, without its address and its secret."""
    with connected() as client:
        echo_json(client.triggers.get(find_trigger(client, trigger)))


@triggers.command()
@_TRIGGER
@click.option("--name", help="Another name.")
@_NODE
@_EVENT
@_WHERE
@click.option("--all", "everything", is_flag=True, help="Take every event and payload.")
@_BODY
@_WAIT
@_KEEP
@JSON
def change(trigger: str, everything: bool, as_json: bool, **options: Any) -> None:
    """Change a trigger. What is not named stays; --event and --where replace the whole filter."""
    if everything and (options["events"] or options["conditions"]):
        raise click.UsageError("--all excludes --event and --where")
    changes = {"filter": {}} if everything else _terms(options)
    changes |= {one: options[one] for one in ("name", "node", "wait", "keep") if options[one] is not None}
    if not changes:
        raise click.UsageError("say what to change: --name, --node, --event, --where, --all, --body, --wait or --keep")
    with connected() as client:
        changed = client.triggers.change(find_trigger(client, trigger), **changes)
    print_places(changed.warnings)
    echo_json(changed) if as_json else click.echo(f"The trigger {changed.name} is changed.", err=True)


@triggers.command()
@_TRIGGER
@click.option("--reason", help="Why; it is told to those who send.")
@JSON
def pause(trigger: str, reason: str | None, as_json: bool) -> None:
    """Let a trigger refuse what is delivered, until it is resumed."""
    with connected() as client:
        paused = client.triggers.pause(find_trigger(client, trigger), reason)
    echo_json(paused) if as_json else click.echo(f"The trigger {paused.name} is paused.", err=True)


@triggers.command()
@_TRIGGER
@JSON
def resume(trigger: str, as_json: bool) -> None:
    """Let a paused trigger take what is delivered again."""
    with connected() as client:
        resumed = client.triggers.resume(find_trigger(client, trigger))
    echo_json(resumed) if as_json else click.echo(f"The trigger {resumed.name} goes on.", err=True)


@triggers.command()
@_TRIGGER
@click.option("--secret", "of_secret", is_flag=True, help="Another secret, rather than another address.")
@_STDIN
@click.option(
    "--former-seconds",
    type=click.IntRange(0),
    default=86_400,
    show_default=True,
    help="The old one counts so long.",
)
@JSON
def rotate(trigger: str, of_secret: bool, secret_stdin: bool, former_seconds: int, as_json: bool) -> None:
    """Give a trigger another address, or another secret. The former address stops working at once."""
    secret = sys.stdin.readline().strip() if secret_stdin else None
    what = "secret" if of_secret or secret_stdin else "token"
    with connected() as client:
        found = find_trigger(client, trigger)
        made = client.triggers.rotate(found, what, secret=secret, former_seconds=former_seconds)
    _tell(made, as_json=as_json)


@triggers.command()
@_TRIGGER
@JSON
def delete(trigger: str, as_json: bool) -> None:
    """Delete a trigger and the list of its deliveries. Its runs stay."""
    with connected() as client:
        trigger_id = find_trigger(client, trigger)
        client.triggers.delete(trigger_id)
    echo_json({"deleted": str(trigger_id)}) if as_json else click.echo("The trigger is deleted.", err=True)


@triggers.command()
@_TRIGGER
@click.option("--outcome", type=_one_of(Outcome), help="Only those that did this.")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one delivery a line.")
def deliveries(trigger: str, outcome: str | None, limit: int, as_json: bool) -> None:
    """List what was delivered to a trigger and what it did, the newest first."""
    with connected() as client:
        trigger_id = find_trigger(client, trigger)
        found = client.triggers.deliveries(trigger_id, outcome=outcome, limit=to_ask(limit, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [
            (one.id, one.delivery_id, moment(one.received_at), one.outcome, one.event, one.run_id, one.reason or "")
            for one in found
        ]
        rejected = client.triggers.get(trigger_id).rejected
    echo_table(
        ("ID", "SENT AS", "CREATED", "DID", "EVENT", "RUN", "WHY"), rows, empty="Nothing was delivered.", limit=limit
    )
    if rejected.count:
        click.echo(f"{rejected.count} more could not be read, or were not signed: {rejected.last_reason}", err=True)


@triggers.command()
@_TRIGGER
@click.argument("delivery", metavar="ID|last")
@JSON
def redeliver(trigger: str, delivery: str, as_json: bool) -> None:
    """Deliver again what was delivered once, as if it came anew. Prints the id of its run."""
    with connected() as client:
        trigger_id = find_trigger(client, trigger)
        done = client.triggers.redeliver(trigger_id, find_delivery(client, trigger_id, delivery))
    if as_json:
        echo_json(done)
    elif done.run_id:
        click.echo(done.run_id)
    else:
        click.echo(f"It did nothing: {done.reason}", err=True)


def _terms(options: dict[str, Any]) -> dict[str, Any]:
    """The parts of a trigger's terms that are given."""
    terms: dict[str, Any] = {"body": options["body"]} if options["body"] else {}
    if options["events"] or options["conditions"]:
        conditions = [_condition(text) for text in options["conditions"]]
        terms["filter"] = {"events": list(options["events"]), "conditions": conditions}
    return terms


def _condition(text: str) -> dict[str, Any]:
    """A condition, written as PATH OPERATOR JSON."""
    found = _CONDITION.fullmatch(text.strip())
    if found is None:
        wanted = f"a path such as $.order.total, one of {', '.join(Operator)}, and a JSON value"
        raise click.BadParameter(f"{text!r} is not a condition: {wanted}", param_hint="--where")
    condition: dict[str, Any] = {"path": found["path"], "operator": found["operator"]}
    if found["operator"] not in WITHOUT_VALUE:
        condition["value"] = parse_json(found["value"], "--where")
    return condition


def _inputs(
    client: Client, graph_id: Any, preset_id: Any, version: int | None, given: tuple[str, ...]
) -> dict[str, Any]:
    if preset_id is not None:
        preset = client.presets.get(preset_id)
        graph_id, version = preset.graph_id, preset.version
    schema = client.graphs.get(graph_id, version).get("input_schema", {}) if graph_id is not None else {}
    return typed(parse_inputs(given, "-i"), schema)


def _does(trigger: TriggerView) -> str:
    if trigger.signal is not None:
        return f"signal {trigger.signal.name or trigger.signal.name_path}"
    return f"preset {trigger.preset_id}" if trigger.preset_id else f"graph {trigger.graph_id}"


def _tell(made: TriggerMade, *, as_json: bool) -> None:
    """Print what is shown once."""
    if as_json:
        echo_json(made)
        return
    if made.url:
        click.echo(made.url)
    if made.secret:
        click.echo(f"Secret: {made.secret}" if made.url else made.secret, err=bool(made.url))
