"""What a person sees of a run."""

import io
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agentflow.cli.feed import Shown
from agentflow.cli.progress import LINE_SECONDS, MAX_LINES, Progress
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


def test_without_a_terminal_each_thing_is_told_if_it_is_time():
    shown, text, clock = progress()
    with shown:
        for one in (
            event("claimed", "RUNNING", "A"),
            event("settled", "COMPLETED", "A"),
            event("settled", "FAILED", "B", error="no\nsuch thing"),
            event("settled", "QUEUED", "C", reason="transient"),
            event("lost", "QUEUED", "C", reason="worker_lost"),
            event("settled", "WAITING", "D"),
            event("woken", "QUEUED", "D"),
            event("run", "FAILED"),
        ):
            clock.time += 1.5
            shown.see(one)
    lines = [line.split(None, 1) for line in text.getvalue().splitlines()]
    assert [line[0] for line in lines] == ["completed", "failed", "retries", "lost", "waits", "goes", "FAILED"]
    assert lines[1][1] == "B  no such thing"
    assert "1 done, 1 failed" in lines[-1][1]


@given(gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_without_a_terminal_there_is_a_line_a_second_at_most_and_failures_come_first(gaps):
    shown, text, clock = progress()
    told_at = []
    print_line = shown._console.print
    shown._console.print = lambda what: (told_at.append(clock.time), print_line(what))
    for number, gap in enumerate(gaps):
        clock.time += gap
        shown.tick()
        shown.see(event("settled", "FAILED" if number == len(gaps) - 1 else "COMPLETED", f"N{number}"))
    clock.time += LINE_SECONDS * 1.5
    shown.tick()
    assert all(later - earlier >= LINE_SECONDS for earlier, later in pairwise(told_at))
    assert f"failed N{len(gaps) - 1}" in text.getvalue().splitlines()[-1]
    assert shown.counts == {"COMPLETED": len(gaps) - 1, "FAILED": 1, "CANCELLED": 0}


def test_nodes_that_run_more_than_once_have_totals():
    shown, text, _ = progress()
    with shown:
        for index in range(1, 4):
            shown.see(event("settled", "FAILED" if index == 2 else "COMPLETED", "Step", index=index))
        shown.see(event("settled", "COMPLETED", "Once"))
    assert "Step  2 done, 1 failed" in text.getvalue().splitlines()
    assert not any(line.startswith("Once  ") for line in text.getvalue().splitlines())


def test_the_time_told_is_the_runs_own_however_late_somebody_looks():
    shown, text, _ = progress()
    began = datetime(2026, 1, 1, tzinfo=UTC)
    with shown:
        for seconds, status in ((0, "QUEUED"), (5, "RUNNING"), (130, "COMPLETED")):
            shown.see(event("run", status).model_copy(update={"at": began + timedelta(seconds=seconds)}))
    assert text.getvalue().strip().endswith("2:05")


def test_the_last_things_and_those_from_a_time_on_are_shown_and_the_others_counted():
    began = datetime(2026, 1, 1, tzinfo=UTC)
    events = [
        event("settled", "COMPLETED", f"N{number}").model_copy(update={"at": began + timedelta(seconds=number)})
        for number in range(10)
    ]
    late = event("settled", "COMPLETED", "late")

    def shown(asked: Shown, *given: RunEvent | None) -> list[str | None]:
        judged = list(asked.marked(iter(given)))
        assert [one for one, _ in judged if one] == [one for one in given if one], "none is lost, all in order"
        return [one.title for one, wanted in judged if wanted and one]

    assert shown(Shown(last=3), *events, None, late) == ["N7", "N8", "N9", "late"]
    assert shown(Shown(last=3), *events) == ["N7", "N8", "N9"]
    assert shown(Shown(last=0), *events, None, late) == ["late"]
    assert shown(Shown(last=50), *events[:2]) == ["N0", "N1"]
    assert shown(Shown(since=began + timedelta(seconds=8)), *events) == ["N8", "N9"]
    assert shown(Shown(since=datetime.now(UTC)), *events, None) == []


def test_outputs_are_told_by_name_when_they_come():
    shown, text, _ = progress()
    outputs = [
        EventOutput(pin="output", value=[1, 2]),
        EventOutput(pin="name", value="sums"),
        EventOutput(pin="output", truncated=True),
    ]
    with shown:
        shown.see(event("settled", "COMPLETED", "Out", is_output=True, outputs=outputs))
    assert "output sums  [1, 2]" in text.getvalue()
    assert "output Out  (long)" in text.getvalue()


def test_what_comes_from_outside_cannot_steer_the_terminal():
    shown, text, _ = progress()
    shown.see(event("settled", "FAILED", "\x1b[2J[red]x", error="\x1b]0;title\x07 bad"))
    assert "\x1b" not in text.getvalue()
    assert "\x07" not in text.getvalue()
    assert "[red]x" in text.getvalue()
