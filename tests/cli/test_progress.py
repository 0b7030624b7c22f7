"""What a person sees of a run."""

import io
from datetime import UTC, datetime

from rich.console import Console

from agentflow.cli.progress import MAX_LINES, Progress
from agentflow.schemas.events import EventOutput, RunEvent


class Clock:
    time = 0.0

    def __call__(self) -> float:
        return self.time


def event(kind: str, status: str, node: str | None = None, index: int = 1, **more) -> RunEvent:
    return RunEvent(
        id="1-1",
        kind=kind,
        at=datetime.now(UTC),
        status=status,
        node_id=node,
        title=node,
        index=index,
        attempt=1,
        **more,
    )


def progress(terminal: bool = False) -> tuple[Progress, io.StringIO, Clock]:
    text, clock = io.StringIO(), Clock()
    return Progress(Console(file=text, force_terminal=terminal, width=80, soft_wrap=True), clock), text, clock


def drawn(shown: Progress) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(shown.picture())
    return console.file.getvalue()


def test_a_line_for_each_running_node_with_its_time():
    shown, _, clock = progress(terminal=True)
    shown.see(event("claimed", "RUNNING", "Fetch"))
    clock.time = 2.0
    shown.see(event("claimed", "RUNNING", "Sum", index=3))
    clock.time = 3.0
    picture = drawn(shown)
    assert "Fetch" in picture
    assert "3.0 s" in picture
    assert "Sum #3" in picture
    assert "2 running" in picture
    shown.see(event("settled", "COMPLETED", "Fetch"))
    assert "Fetch" not in drawn(shown)
    assert "1 done, 1 running" in drawn(shown)


def test_many_running_nodes_are_counted():
    shown, _, _ = progress(terminal=True)
    for index in range(1, MAX_LINES + 4):
        shown.see(event("claimed", "RUNNING", "Step", index=index))
    assert "and 3 more" in drawn(shown)


def test_without_a_terminal_each_end_is_a_line():
    shown, text, _ = progress()
    with shown:
        shown.see(event("claimed", "RUNNING", "A"))
        shown.see(event("settled", "COMPLETED", "A"))
        shown.see(event("settled", "FAILED", "B", error="no\nsuch thing"))
        shown.see(event("settled", "QUEUED", "C", reason="transient"))
        shown.see(event("lost", "QUEUED", "C", reason="worker_lost"))
        shown.see(event("settled", "WAITING", "D"))
        shown.see(event("woken", "QUEUED", "D"))
        shown.see(event("run", "FAILED"))
    lines = [line.split(None, 1) for line in text.getvalue().splitlines()]
    assert [line[0] for line in lines] == ["completed", "failed", "retries", "lost", "waits", "goes", "FAILED"]
    assert lines[1][1] == "B  no such thing"
    assert "1 done, 1 failed" in lines[-1][1]


def test_outputs_are_told_by_name_when_they_come():
    shown, text, _ = progress()
    outputs = [
        EventOutput(pin="output", value=[1, 2]),
        EventOutput(pin="name", value="sums"),
        EventOutput(pin="output", truncated=True),
    ]
    shown.see(event("settled", "COMPLETED", "Out", is_output=True, outputs=outputs))
    assert "output sums  [1, 2]" in text.getvalue()
    assert "output Out  (long)" in text.getvalue()


def test_what_comes_from_outside_cannot_steer_the_terminal():
    shown, text, _ = progress()
    shown.see(event("settled", "FAILED", "\x1b[2J[red]x", error="\x1b]0;title\x07 bad"))
    assert "\x1b" not in text.getvalue()
    assert "\x07" not in text.getvalue()
    assert "[red]x" in text.getvalue()
