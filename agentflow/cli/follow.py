"""Follows a run on the command line: shows its progress while it runs, then its result."""

import sys
from collections.abc import Callable
from typing import Final
from uuid import UUID

import click

from agentflow import clock
from agentflow.cli.connect import Exit
from agentflow.cli.feed import Shown, with_pauses
from agentflow.cli.progress import Progress
from agentflow.cli.tables import brief, echo_json
from agentflow.client import ApiError, Client, Unreachable
from agentflow.schemas.events import RunEvent
from agentflow.schemas.runs import RunView

_EXITS = {"COMPLETED": Exit.OK, "FAILED": Exit.FAILED, "CANCELLED": Exit.CANCELLED}

STILL_SECONDS: Final = 5.0
"""Seconds without an event after which we ask why the run stands still."""

MOST_LEFTOVERS: Final = 5
"""The most nodes whose leftovers are reported after a run."""


def follow(
    client: Client,
    run_id: UUID,
    *,
    as_json: bool,
    quiet: bool = False,
    local: bool = False,
    shown: Shown | None = None,
) -> Exit:
    """Show a run until it has ended, then its result. Returns the exit code. Ctrl-C ends the command, not the run.

    Args:
        as_json: show no progress; print the run as JSON at the end.
        quiet: show no progress; print its outputs and errors at the end.
        local: whether the run's stack ends with this command.
        shown: which events to show; None: all.
    """
    if not as_json:
        click.echo(f"Run {run_id}", err=True)  # printed first, so that the run can be found whatever happens
    try:
        stillness = Stillness(client, run_id)
        events = with_pauses(client.follow(run_id))
        if as_json or quiet:
            for event in events:
                for words in stillness.messages(event):
                    click.echo(words, err=True)
        else:
            with Progress() as progress:
                for event, wanted in (shown or Shown()).marked(events):
                    if event is None:
                        progress.tick()
                    else:
                        progress.see(event, show=wanted)
                    for words in stillness.messages(event):
                        progress.warn(words)
        run = client.get_run(run_id)
    except KeyboardInterrupt:
        if local:
            click.echo(f"\nRun {run_id} stops with its local stack.", err=True)
        else:
            click.echo(f"\nRun {run_id} goes on. Follow it: agentflow runs tail {run_id}", err=True)
            click.echo(f"Cancel it: agentflow runs cancel {run_id}", err=True)
        sys.exit(Exit.INTERRUPTED)
    if as_json:
        echo_json(run)
    else:
        show_result(run)
    return _EXITS.get(run.status, Exit.OK)


class Stillness:
    """Detects why a run stands still: no worker serves one of its queues, or it waits for external input.

    Args:
        client, run_id: the run.
        now: the clock, in seconds.
    """

    def __init__(self, client: Client, run_id: UUID, now: Callable[[], float] = clock.monotonic) -> None:
        self._client = client
        self._run_id = run_id
        self._now = now
        self._since = now()
        self._reported: set[str] = set()

    def messages(self, event: RunEvent | None) -> list[str]:
        """Process an event, or a pause (None). Returns new messages for the user, each only once."""
        if event is not None:
            self._since = self._now()
        if self._now() - self._since < STILL_SECONDS:
            return []
        self._since = self._now()
        try:
            run = self._client.get_run(self._run_id)
        except (ApiError, Unreachable):  # if it lasts, reading the events fails, too
            return []
        words = [unserved_words(queue) for queue in run.unserved_queues]
        if run.status == "WAITING":
            words.append(f"It waits for the outside. For what: agentflow runs explain {run.id}")
        new = [one for one in words if one not in self._reported]
        self._reported.update(new)
        return new


def unserved_words(queue: str) -> str:
    """The message about a queue that no worker serves."""
    return f"No worker serves the queue '{queue}': what is in it waits. Start one: agentflow worker -Q {queue}"


def show_result(run: RunView) -> None:
    """Print the outputs on standard output, one per line, and errors on standard error."""
    for name, values in run.outputs.items():
        for value in values:
            click.echo(f"{name}: {value if isinstance(value, str) else brief(value)}")
    if run.outputs_truncated:
        click.echo(f"There is more: agentflow runs outputs {run.id} --all", err=True)
    if run.ended and not run.outputs:
        click.echo("It gave no outputs.", err=True)
    for words in leftovers(run):
        click.echo(words, err=True)
    if run.error or run.reason:
        click.echo(f"{run.status}: {run.error or run.reason}", err=True)
    if run.status == "FAILED" and run.started_at is not None:
        click.echo(f"See which nodes failed: agentflow runs nodes {run.id} --status FAILED", err=True)


def leftovers(run: RunView) -> list[str]:
    """Messages about incomplete node executions of an ended run, one line per node.

    They remain if some linked pins of a node got fewer values than its others.
    """
    found = run.stats.get("leftovers") or []
    lines = [_leftover(entry) for entry in found[:MOST_LEFTOVERS]]
    if len(found) > MOST_LEFTOVERS:
        lines.append(f"… and {len(found) - MOST_LEFTOVERS} more nodes: agentflow runs get {run.id}")
    if lines:
        lines.append(f"See what came for them: agentflow runs nodes {run.id} --status INCOMPLETE")
    return lines


def _leftover(entry: dict[str, object]) -> str:
    count = entry.get("count", 0)
    missing = entry.get("missing")
    pins = missing.items() if isinstance(missing, dict) else ()
    lacks = "; ".join(f"pin '{pin}' got {lacking} fewer than its others" for pin, lacking in pins)
    times = "once" if count == 1 else f"{count} times"
    return f"Node {entry.get('node_id')} could have run {times} more, but values did not come: {lacks or 'out of step'}"
