"""What does a person see while a run goes on? A line for each running node, counts, and the time so far.

On a terminal the picture is redrawn in place; elsewhere each thing that ends is a line. Both go to standard error, so
that standard output holds the result alone.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from agentflow import clock
from agentflow.cli.tables import brief
from agentflow.schemas.events import RunEvent

MAX_LINES: Final = 15
"""Running nodes that are shown; for more of them there is a count."""

_STYLES = {"COMPLETED": "green", "FAILED": "red", "CANCELLED": "yellow"}

_LOST = {"worker_lost": "its worker died; it runs again", "worker_stopped": "its worker stops; it runs elsewhere"}


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
        self._console = console or Console(stderr=True, soft_wrap=True)
        self._now = now
        self._began = now()
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        self._console.print(self.summary())

    def see(self, event: RunEvent) -> None:
        """Take in one event."""
        if event.kind == "run":
            self.status = event.status or self.status
            return
        key = (event.node_id or "", event.index or 0)
        if event.kind == "claimed":
            self._running[key] = _Running(brief(event.title or key[0]), key[1], event.attempt or 1, self._now())
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

    def _settled(self, event: RunEvent) -> None:
        status = event.status or ""
        if status in self.counts:
            self.counts[status] += 1
            if self._live is None or status == "FAILED":
                self._say(status.lower(), _name(event), event.error or "", _STYLES[status])
        elif status == "WAITING":
            self._say("waits", _name(event), "", "blue")
        else:  # QUEUED: its attempt failed, and there is going to be another
            self._say("retries", _name(event), event.error or event.reason or "", "yellow")

    def _show_outputs(self, event: RunEvent) -> None:
        """Tell each output when it comes: on the pin `output`, and its name on the pin `name` right after it."""
        for place, output in enumerate(event.outputs):
            if output.pin != "output":
                continue
            self.outputs += 1
            following = event.outputs[place + 1] if place + 1 < len(event.outputs) else None
            name = following.value if following and following.pin == "name" else event.title
            self._say("output", brief(str(name)), "(long)" if output.truncated else brief(output.value), "cyan")

    def _say(self, word: str, name: str, more: str, style: str) -> None:
        line = Text.assemble((f"{word:>9} ", style), name, (f"  {brief(more)}" if more else "", "dim"))
        self._console.print(line)

    def picture(self) -> RenderableType:
        """What the terminal shows now."""
        # The live display draws from a thread of its own: a copy cannot change under it.
        running = list(self._running.values())
        table = Table.grid(padding=(0, 1))
        for one in running[:MAX_LINES]:
            attempt = f", attempt {one.attempt}" if one.attempt > 1 else ""
            index = f" #{one.index}" if one.index > 1 else ""
            table.add_row(self._spinner, Text(f"{one.title}{index}{attempt}"), _time(self._now() - one.since))
        if len(running) > MAX_LINES:
            table.add_row("", Text(f"… and {len(running) - MAX_LINES} more", "dim"), "")
        return Group(table, self.summary(len(running)))

    def summary(self, running: int | None = None) -> Text:
        """One line: the status, counts and the time so far."""
        parts: list[Any] = [(self.status, _STYLES.get(self.status, "bold")), f"  {self.counts['COMPLETED']} done"]
        if running:
            parts.append(f", {running} running")
        parts += [
            (f", {count} {status.lower()}", _STYLES[status])
            for status, count in self.counts.items()
            if count and status != "COMPLETED"
        ]
        parts.append((f"  {_time(self._now() - self._began)}", "dim"))
        return Text.assemble(*parts)


def _name(event: RunEvent) -> str:
    title = brief(event.title or event.node_id or "")
    return f"{title} #{event.index}" if (event.index or 1) > 1 else title


def _time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{int(rest):02}" if minutes else f"{rest:.1f} s"
