"""The Procfile's processes run side by side, are restarted after they end, and stop in order."""

import io
import os
import shlex
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.embedded.processes import FIRST_PAUSE, MOST, WINDOW, Processes, Restarts, read_procfile
from agentflow.embedded.roster import Roster

_STUBBORN = "trap 'echo ignoring' TERM; echo ready; while :; do sleep 0.05; done"
_POLITE = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def output():
    return io.StringIO()


@pytest.fixture
def processes(tmp_path, output):
    running = Processes(Roster(tmp_path), tmp_path, output)
    yield running
    running.stop(hurry=lambda: True)


def _lines(output):
    return [line.partition(" ")[2] for line in output.getvalue().splitlines()]


def test_every_line_says_whose_it_is(processes, output, eventually):
    processes.start("web.1", "echo one; echo two >&2; sleep 1000", {"PATH": os.environ["PATH"]})

    eventually(lambda: len(_lines(output)) == 2)
    assert [line.split() for line in _lines(output)] == [["web.1", "|", "one"], ["web.1", "|", "two"]]


def test_without_an_output_each_process_has_a_log(tmp_path, eventually):
    quiet = Processes(Roster(tmp_path), tmp_path, None)
    quiet.start("web.1", "echo one; exec sleep 1000", {"PATH": os.environ["PATH"]})

    eventually((tmp_path / "web.1.log").read_text)
    quiet.stop()
    assert (tmp_path / "web.1.log").read_text() == "one\n"


def test_the_web_server_stops_first_and_the_workers_last(processes, output, eventually):
    for name in ("worker.1", "web.1", "worker.2", "flower.1"):
        processes.start(name, _POLITE, {"PATH": os.environ["PATH"]})
    eventually(lambda: len(_lines(output)) == 4)

    processes.stop()

    stopped = [line.split()[0] for line in _lines(output) if line.endswith("bye")]
    assert stopped[:2] == ["web.1", "flower.1"]
    assert sorted(stopped[2:]) == ["worker.1", "worker.2"]


def test_a_second_wish_to_stop_does_not_wait_for_the_stubborn(processes, output, eventually):
    processes.start("worker.1", _STUBBORN, {"PATH": os.environ["PATH"]})
    eventually(lambda: len(_lines(output)) == 1)

    processes.stop(hurry=lambda: True)

    assert processes.failure() is None


def test_a_process_that_ends_by_itself_is_named(processes, eventually):
    processes.start("web.1", "exec sleep 1000", {"PATH": os.environ["PATH"]})
    assert processes.failure() is None
    processes.start("worker.1", "exit 3", {"PATH": os.environ["PATH"]})

    eventually(processes.failure)
    assert "worker.1 ended by itself (exit code 3)" in processes.failure()


def test_a_process_whose_output_nobody_can_read_any_more_goes_on(tmp_path, eventually):
    terminal = io.StringIO()
    running = Processes(Roster(tmp_path), tmp_path, terminal)
    terminal.close()
    much = f"{shlex.quote(sys.executable)} -c \"print('x' * 500_000)\"; touch done; exec sleep 1000"
    running.start("web.1", f"cd '{tmp_path}'; {much}", {"PATH": os.environ["PATH"]})

    eventually((tmp_path / "done").exists)
    assert running.failure() is None
    running.stop()


def test_a_procfile_gives_its_commands_in_order(tmp_path):
    (tmp_path / "Procfile").write_text("# a comment\nweb: serve: it\n\nworker: work\n")

    assert list(read_procfile(tmp_path / "Procfile").items()) == [("web", "serve: it"), ("worker", "work")]


def test_each_start_waits_longer_and_the_fifth_end_in_a_minute_is_the_last():
    restarts = Restarts()
    assert [restarts.ended(now) for now in range(MOST)] == [0.5, 1.0, 2.0, 4.0, None]


@given(gaps=st.lists(st.floats(0, 2 * WINDOW), min_size=1, max_size=30))
def test_a_process_is_given_up_exactly_if_it_ended_five_times_within_a_minute(gaps):
    restarts, ends = Restarts(), []
    for gap in gaps:
        ends.append((ends[-1] if ends else 0.0) + gap)
        pause = restarts.ended(ends[-1])
        recent = [end for end in ends if ends[-1] - end <= WINDOW]
        if len(recent) >= MOST:
            assert pause is None
            return
        assert pause == FIRST_PAUSE * 2 ** (len(recent) - 1)
