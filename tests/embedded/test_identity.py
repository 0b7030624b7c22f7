"""A process is only ever ended if it is the one that was meant."""

import os
import signal
import subprocess
import sys

import pytest

from agentflow.embedded.identity import Identity, command_line, end, identify, is_alive

_DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(1000)"
)


@pytest.fixture
def deaf():
    """A process that does not listen to SIGTERM."""
    process = subprocess.Popen([sys.executable, "-c", _DEAF], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_process_is_itself():
    assert is_alive(identify(os.getpid()))


def test_another_process_of_the_same_number_is_not_meant(deaf):
    stranger = Identity(deaf.pid, "born at another time")

    assert not is_alive(stranger)
    assert end(stranger, [(signal.SIGKILL, 1.0)])
    assert deaf.poll() is None


def test_a_dead_child_that_nobody_fetched_is_not_alive(deaf, eventually):
    before = identify(deaf.pid)
    os.kill(deaf.pid, signal.SIGKILL)

    eventually(lambda: not is_alive(before))
    assert identify(deaf.pid) is None


def test_a_process_that_does_not_listen_is_ended_by_the_next_step(deaf):
    assert end(identify(deaf.pid), [(signal.SIGTERM, 0.2), (signal.SIGKILL, 10.0)])


def test_the_command_line_tells_what_runs(deaf):
    assert "signal.SIG_IGN" in command_line(deaf.pid)
    assert command_line(2**22 - 1) == ""
