"""Implements `agentflow schedules`: have graphs run by themselves."""

import re
from datetime import datetime
from typing import Any, Final

import click

from agentflow.cli.connect import connected, print_places
from agentflow.cli.finding import CREDENTIALS, find_graph, find_preset, find_schedule, named_credentials
from agentflow.cli.inputs import parse_inputs, typed
from agentflow.cli.run import label_pair
from agentflow.cli.tables import DEFAULT_LIMIT, JSON, echo_json, echo_json_lines, echo_table, to_ask
from agentflow.errors import BadInput
from agentflow.schedules.schemas import OccurrenceView, ScheduleView
from agentflow.schedules.tables import CatchUp, OccurrenceState, Overlap
from agentflow.zones import zone

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")

_MOMENT = click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d"])


class _Span(click.ParamType[float]):
    """Seconds, or a number with s, m, h or d behind it."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        fits = _SPAN.fullmatch(str(value).strip())
        if fits is None:
            self.fail(f"{value!r} is no span of time: try 90, 90s, 15m, 2h or 1d", param, ctx)
        return float(fits[1]) * _SECONDS[fits[2] or "s"]


_SCHEDULE = click.argument("schedule", metavar="ID|NAME")
_INPUT = click.option("-i", "--input", "given", multiple=True, metavar="NAME=TEXT", help="As in `agentflow run`.")
_CRON = click.option("--cron", metavar="EXPRESSION", help="When: '0 9 * * MON-FRI', '@daily', …")
_ZONE = click.option(
    "--time-zone",
    metavar="NAME",
    help="Of --cron or --at, such as Europe/Paris; else yours, or UTC.",
)
_EVERY = click.option("--every", type=_Span(), help="When: at this interval, such as 90s, 15m or 2h.")
_AT = click.option(
    "--at",
    type=_MOMENT,
    help="When: once, in --time-zone or else this computer's, if it has no offset.",
)
_OVERLAP = click.option(
    "--overlap", type=click.Choice([*map(str, Overlap)]), help="What to do while a run is open; at first: skip."
)
_CATCH_UP = click.option(
    "--catch-up", type=click.Choice([*map(str, CatchUp)]), help="What to do after an outage; at first: last."
)
_JITTER = click.option("--jitter", type=_Span(), help="Fire up to so much later.")
_DUE_INPUT = click.option("--due-input", metavar="NAME", help="The input that is given the due time.")
_PRIORITY = click.option("--priority", type=click.IntRange(0, 9), help="9 is the most urgent.")


@click.group()
def schedules() -> None:
    """Have graphs run by themselves, and see when they did."""


@schedules.command()
@click.argument("graph", metavar="GRAPH|PRESET")
@click.option("--name", help="What it is called.  [default: as what is run]")
@click.option("--preset", "is_preset", is_flag=True, help="Run a preset, and not a graph.")
@_CRON
@_ZONE
@_EVERY
@_AT
@_INPUT
@CREDENTIALS
@click.option("--version", type=click.IntRange(1), help="Of the graph.  [default: the latest]")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of its runs.")
@_PRIORITY
@_OVERLAP
@_CATCH_UP
@_JITTER
@_DUE_INPUT
@JSON
def create(
    graph: str,
    name: str | None,
    is_preset: bool,
    cron: str | None,
    time_zone: str | None,
    every: float | None,
    at: datetime | None,
    given: tuple[str, ...],
    credentials: tuple[str, ...],
    version: int | None,
    labels: tuple[str, ...],
    priority: int | None,
    overlap: str | None,
    catch_up: str | None,
    jitter: float | None,
    due_input: str | None,
    as_json: bool,
) -> None:
    """Have a graph or a preset run by itself. Without --cron, --every and --at: as the graph recommends."""
    _refuse_idle_zone(every, time_zone)
    with connected() as client:
        preset = client.presets.get(find_preset(client, graph)) if is_preset else None
        graph_id = preset.graph_id if preset else find_graph(client, graph)
        document = client.graphs.get(graph_id, version)
        how: dict[str, Any] = {"overlap": overlap, "catch_up": catch_up, "jitter": jitter, "due_input": due_input}
        made = client.schedules.create(
            name or (preset.name if preset else document.get("name") or "schedule"),
            None if preset else graph_id,
            typed(parse_inputs(given, "-i"), document.get("input_schema", {})),
            preset_id=preset.id if preset else None,
            cron=cron,
            time_zone=None if at else time_zone,
            every=every,
            at=_aware(at, time_zone) if at else None,
            version=version,
            labels=dict(map(label_pair, labels)),
            priority=priority,
            credentials=named_credentials(client, credentials),
            **{key: value for key, value in how.items() if value is not None},
        )
    print_places(made.warnings)
    if as_json:
        echo_json(made)
        return
    click.echo(made.id)
    click.echo(f"It is due first at {made.next_times[0].astimezone():%Y-%m-%d %H:%M:%S %Z}.", err=True)


@schedules.command("list")
@click.option("--graph", help="Of this graph: its id, the beginning of it, or its name.")
@click.option("--paused/--not-paused", default=None, help="Only those that are paused, or are not.")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one schedule a line.")
def list_schedules(graph: str | None, paused: bool | None, limit: int, as_json: bool) -> None:
    """List schedules, the newest first."""
    with connected() as client:
        graph_id = find_graph(client, graph) if graph else None
        found = client.schedules.list(graph_id=graph_id, paused=paused, limit=to_ask(limit, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [(one.id, one.name, _when(one), next(iter(one.next_times), None), _state(one)) for one in found]
    echo_table(("ID", "NAME", "WHEN", "NEXT", "STATE"), rows, empty="There are no schedules.", limit=limit)


def _when(one: ScheduleView) -> str:
    """When a schedule is due, in a few words."""
    if one.cron is not None:
        return f"{one.cron} {one.time_zone}"
    return f"every {one.every:g} s" if one.at is None else f"at {one.at.astimezone():%Y-%m-%d %H:%M:%S}"


def _state(one: ScheduleView) -> str:
    """How a schedule stands, in a few words."""
    if one.paused_at is not None:
        return f"paused: {one.pause_reason}"
    return "" if one.next_times else "over"


@schedules.command()
@_SCHEDULE
def show(schedule: str) -> None:
    """Print a schedule as JSON, with the next ten times."""
    with connected() as client:
        echo_json(client.schedules.get(find_schedule(client, schedule)))


@schedules.command()
@_SCHEDULE
@click.option("--name", help="Another name.")
@_CRON
@_ZONE
@_EVERY
@_AT
@_INPUT
@click.option("--without", multiple=True, metavar="NAME", help="Forget this input. Several.")
@CREDENTIALS
@click.option("--version", type=click.IntRange(1), help="Of the graph.")
@click.option("--latest", is_flag=True, help="Follow the graph's latest version.")
@_PRIORITY
@_OVERLAP
@_CATCH_UP
@_JITTER
@_DUE_INPUT
@JSON
def change(
    schedule: str,
    given: tuple[str, ...],
    without: tuple[str, ...],
    credentials: tuple[str, ...],
    latest: bool,
    at: datetime | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Change a schedule. What is not named stays. It is due after now."""
    if latest and options["version"]:
        raise click.UsageError("--latest and --version exclude each other")
    changes: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    _refuse_idle_zone(options["every"], options["time_zone"])
    if at is not None:
        changes["at"] = _aware(at, changes.pop("time_zone", None)).isoformat()
    if latest:
        changes["version"] = None
    with connected() as client:
        known = client.schedules.get(find_schedule(client, schedule))
        if given or without:
            schema = client.graphs.get(known.graph_id, changes.get("version", known.version)).get("input_schema", {})
            inputs = {**known.inputs, **typed(parse_inputs(given, "-i"), schema)}
            changes["inputs"] = {one: value for one, value in inputs.items() if one not in without}
        if credentials:
            chosen = {key: str(id) for key, id in named_credentials(client, credentials).items()}
            changes["credentials"] = {**known.credentials, **chosen}
        if not changes:
            raise click.UsageError("say what to change: see --help")
        changed = client.schedules.change(known.id, **changes)
    print_places(changed.warnings)
    echo_json(changed) if as_json else click.echo(f"The schedule {changed.name} is changed.", err=True)


@schedules.command()
@_SCHEDULE
@click.option("--reason", help="Why; shown with the schedule.")
@JSON
def pause(schedule: str, reason: str | None, as_json: bool) -> None:
    """Pause a schedule. Times that come meanwhile are not for it; its runs go on."""
    with connected() as client:
        changed = client.schedules.pause(find_schedule(client, schedule), reason)
    echo_json(changed) if as_json else click.echo(f"The schedule {changed.name} is paused.", err=True)


@schedules.command()
@_SCHEDULE
@JSON
def resume(schedule: str, as_json: bool) -> None:
    """Let a paused schedule go on, with its first time after now."""
    with connected() as client:
        changed = client.schedules.resume(find_schedule(client, schedule))
    echo_json(changed) if as_json else click.echo(f"The schedule {changed.name} goes on.", err=True)


@schedules.command("run-now")
@_SCHEDULE
@click.option("--overlap", type=click.Choice([*map(str, Overlap)]), help="If a run is open.  [default: the schedule's]")
@JSON
def run_now(schedule: str, overlap: str | None, as_json: bool) -> None:
    """Run a schedule beside its times, and print the run's id."""
    with connected() as client:
        done = client.schedules.run_now(find_schedule(client, schedule), overlap)
    if as_json:
        echo_json(done)
    elif done.run_id is not None:
        click.echo(done.run_id)
    else:
        click.echo(f"It is {done.state}{f': {done.reason}' if done.reason else ''}.", err=True)


@schedules.command()
@_SCHEDULE
@click.option("--since", type=_MOMENT, required=True, help="The first time.")
@click.option("--until", type=_MOMENT, required=True, help="The last time; not after now.")
@click.option("--at-once", is_flag=True, help="Do not wait for the end of each run before the next.")
@JSON
def backfill(schedule: str, since: datetime, until: datetime, at_once: bool, as_json: bool) -> None:
    """Run the times of a range in the past that were not run, up to 1,000 at once."""
    with connected() as client:
        schedule_id = find_schedule(client, schedule)
        done = client.schedules.backfill(schedule_id, _aware(since), _aware(until), one_by_one=not at_once)
    told = f"{done.accepted} times will be run; {done.already} were before, or wait already."
    echo_json(done) if as_json else click.echo(told, err=True)


@schedules.command("skip-waiting")
@_SCHEDULE
@JSON
def skip_waiting(schedule: str, as_json: bool) -> None:
    """Skip what waits: the rest of a backfill, or what waits for the end of a run."""
    with connected() as client:
        done = client.schedules.skip_waiting(find_schedule(client, schedule))
    echo_json(done) if as_json else click.echo(f"{done.skipped} are skipped.", err=True)


@schedules.command()
@_SCHEDULE
@click.option("--state", type=click.Choice([*map(str, OccurrenceState)]), help="Only those.")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one occurrence a line.")
def occurrences(schedule: str, state: str | None, limit: int, as_json: bool) -> None:
    """List the times at which a schedule was due, and what became of each, the last first."""
    with connected() as client:
        schedule_id = find_schedule(client, schedule)
        found = client.schedules.occurrences(schedule_id, state=state, limit=to_ask(limit, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [(one.due_at, one.origin, one.state, one.run_id, _told(one)) for one in found]
    echo_table(("DUE", "BY", "STATE", "RUN", "WHY"), rows, empty="It was not due yet.", limit=limit)


def _told(one: OccurrenceView) -> str | None:
    if one.through is None:
        return str(one.reason) if one.reason else None
    return f"{one.count or 'very many'} until {one.through.astimezone():%Y-%m-%d %H:%M:%S}"


@schedules.command()
@_SCHEDULE
@JSON
def delete(schedule: str, as_json: bool) -> None:
    """Delete a schedule, with its occurrences. Its runs stay."""
    with connected() as client:
        schedule_id = find_schedule(client, schedule)
        client.schedules.delete(schedule_id)
    echo_json({"deleted": str(schedule_id)}) if as_json else click.echo("The schedule is deleted.", err=True)


def _refuse_idle_zone(every: float | None, zone_name: str | None) -> None:
    if every is not None and zone_name is not None:
        raise click.UsageError("--every counts seconds, and has no time zone")


def _aware(moment: datetime, zone_name: str | None = None) -> datetime:
    """A time as it was given; in the zone that is named or else this computer's, if it has no offset."""
    if moment.tzinfo is not None:
        return moment
    try:
        return moment.astimezone() if zone_name is None else moment.replace(tzinfo=zone(zone_name))
    except BadInput as error:
        raise click.BadParameter(error.message, param_hint="--time-zone") from None
