"""Displays the progress of a run: a line for each running node, totals by node, and the time so far.

On a terminal the display is redrawn in place; elsewhere at most one line per second is printed. Both go to standard
error, so that standard output contains only the result.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from agentflow import clock
from agentflow.cli import tables
from agentflow.cli.tables import brief, duration
from agentflow.schemas.events import RunEvent

MAX_LINES: Final = 15
"""The most running nodes, and the most totals, that are shown; further ones are counted."""

LINE_SECONDS: Final = 1.0
"""Without a terminal: the least time between two lines."""

MAX_ITEMS: Final = 4
"""The most items in such a line; further ones are counted."""

_STYLES = {"COMPLETED": "green", "FAILED": "red", "CANCELLED": "yellow"}

_WRONG = ("FAILED", "CANCELLED")

_LOST = {
    "worker_lost": "its worker died; it runs again",
    "worker_stopped": "its worker stops; it runs elsewhere",
    "timeout": "it overran its timeout, and its process was killed",
}


@dataclass(frozen=True, slots=True)
class _Running:
    title: str
    index: int
    attempt: int
    since: float


class Progress:
    """Shows the events of one run. A context manager.

    Args:
        console: where to show it; by default standard error.
        now: the clock, in seconds.
    """

    def __init__(self, console: Console | None = None, now: Callable[[], float] = clock.monotonic) -> None:
        self._console = console or tables.console(stderr=True)
        self._now = now
        self._began: float | None = None
        self._first: datetime | None = None
        self._took: float | None = None
        self._totals: dict[str, Counter[str]] = {}
        self._titles: dict[str, str] = {}
        self._pending: list[Text] = []
        self._printed_at = -LINE_SECONDS
        self._shows = True
        self._running: OrderedDict[tuple[str, int], _Running] = OrderedDict()
        self._spinner = Spinner("dots")
        self.status = "QUEUED"
        self.counts = {"COMPLETED": 0, "FAILED": 0, "CANCELLED": 0}
        self.outputs = 0
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(get_renderable=self.picture, console=self._console, refresh_per_second=10, transient=True)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        if self._pending:
            self._print_pending()
        for line in self.totals():
            self._console.print(line)
        self._console.print(self.summary())

    def see(self, event: RunEvent, *, show: bool = True) -> None:
        """Process an event. `show`: display it, too; otherwise only count it."""
        self._shows = show
        if event.kind == "run":
            self._see_run(event)
            return
        key = (event.node_id or "", event.index or 0)
        if event.kind == "claimed":
            since = self._now() - _age(event)
            self._running[key] = _Running(brief(event.title or key[0]), key[1], event.attempt or 1, since)
        elif event.kind == "settled":
            self._running.pop(key, None)
            self._settled(event)
        elif event.kind == "lost":
            self._running.pop(key, None)
            self._say("lost", _name(event), _LOST.get(event.reason or "", ""), "yellow")
        elif event.kind == "woken":
            self._say("goes on", _name(event), "its time to wait is over" if event.reason else "", "blue")
        if event.is_output:
            self._show_outputs(event)

    def _see_run(self, event: RunEvent) -> None:
        """Take times from the run's events and not from our clock: it may have started long ago, or have ended."""
        begins = self._first is None or (self.status == "QUEUED" and event.status == "RUNNING")
        if begins:
            self._first, self._began = event.at, self._now() - _age(event)
        self.status = event.status or self.status
        ended = self._first if event.ends_run else None
        self._took = (event.at - ended).total_seconds() if ended else None

    def tick(self) -> None:
        """Handle a pause: print waiting items, if it is time."""
        if self._pending and self._now() - self._printed_at >= LINE_SECONDS:
            self._print_pending()

    def warn(self, words: str) -> None:
        """Print a message at once that is not an event of the run."""
        self._console.print(Text(words, "yellow"))

    def _settled(self, event: RunEvent) -> None:
        status = event.status or ""
        if status in self.counts:
            self.counts[status] += 1
            node = event.node_id or ""
            self._totals.setdefault(node, Counter())[status] += 1
            self._titles[node] = brief(event.title or node)
            if self._live is None or status == "FAILED":
                self._say(status.lower(), _name(event), event.error or "", _STYLES[status])
        elif status == "WAITING":
            self._say("waits", _name(event), "", "blue")
        else:  # QUEUED: its attempt failed, and it will be retried
            self._say("retries", _name(event), event.error or event.reason or "", "yellow")

    def _show_outputs(self, event: RunEvent) -> None:
        """Show each output: its value is on the pin `output`, and its name on the pin `name` directly after it."""
        for place, output in enumerate(event.outputs):
            if output.pin != "output":
                continue
            self.outputs += 1
            following = event.outputs[place + 1] if place + 1 < len(event.outputs) else None
            name = following.value if following and following.pin == "name" else event.title
            self._say("output", brief(str(name)), "(long)" if output.truncated else brief(output.value), "cyan")

    def _say(self, word: str, name: str, more: str, style: str) -> None:
        if not self._shows:
            return
        what = Text.assemble((f"{word} ", style), name, (f"  {brief(more)}" if more else "", "dim"))
        if self._live is not None:
            self._console.print(what)
            return
        self._pending.insert(0, what) if word == "failed" else self._pending.append(what)
        self.tick()

    def _print_pending(self) -> None:
        """Print one line with everything since the last one."""
        line = Text(" · ").join(self._pending[:MAX_ITEMS])
        if len(self._pending) > MAX_ITEMS:
            line = Text.assemble(
                line, f" · and {len(self._pending) - MAX_ITEMS} more  ", self.summary(len(self._running))
            )
        self._console.print(line)
        self._pending.clear()
        self._printed_at = self._now()

    def picture(self) -> RenderableType:
        """What the terminal shows now."""
        # The live display draws in another thread, so give it a copy that cannot change.
        running = list(self._running.values())
        table = Table.grid(padding=(0, 1))
        for one in running[:MAX_LINES]:
            attempt = f", attempt {one.attempt}" if one.attempt > 1 else ""
            index = f" #{one.index}" if one.index > 1 else ""
            table.add_row(self._spinner, Text(f"{one.title}{index}{attempt}"), duration(self._now() - one.since))
        if len(running) > MAX_LINES:
            table.add_row("", Text(f"… and {len(running) - MAX_LINES} more", "dim"), "")
        return Group(table, *self.totals(), self.summary(len(running)))

    def totals(self) -> list[Text]:
        """A line for each node that has run more than once: counts by status."""
        several = [(node, counts) for node, counts in self._totals.copy().items() if counts.total() > 1]
        lines = [Text.assemble(f"{self._titles[node]}  ", *_counted(counts)) for node, counts in several[:MAX_LINES]]
        return lines + [Text(f"… and {len(several) - MAX_LINES} more nodes", "dim")] * (len(several) > MAX_LINES)

    def summary(self, running: int | None = None) -> Text:
        """One line with the status, counts and the time so far."""
        parts: list[Any] = [(self.status, _STYLES.get(self.status, "bold")), "  ", *_counted(self.counts)]
        if running:
            parts.append(f", {running} running")
        parts.append((f"  {duration(self._elapsed())}", "dim"))
        return Text.assemble(*parts)

    def _elapsed(self) -> float:
        """Seconds that the run has taken so far, or took in total."""
        if self._took is not None:
            return self._took
        return self._now() - self._began if self._began is not None else 0.0


def _counted(counts: Mapping[str, int]) -> list[Any]:
    """The number done, and the numbers failed and cancelled, if any."""
    wrong = [(f", {counts[status]} {status.lower()}", _STYLES[status]) for status in _WRONG if counts[status]]
    return [f"{counts['COMPLETED']} done", *wrong]


def _age(event: RunEvent) -> float:
    """Seconds since the event, if this host's clock and the database's agree."""
    return max((clock.now() - event.at).total_seconds(), 0.0)


def _name(event: RunEvent) -> str:
    title = brief(event.title or event.node_id or "")
    return f"{title} #{event.index}" if (event.index or 1) > 1 else title
