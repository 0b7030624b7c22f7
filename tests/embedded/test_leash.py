"""A child ends with its parent, and PostgreSQL's number reaches what only root may read."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentflow.embedded.child import start
from agentflow.embedded.identity import identify, is_alive

_OWNER = """
import signal, sys, time
from agentflow.embedded.child import start
child = start("sleeper", ["/bin/sleep", "1000"], ((signal.SIGTERM, 5.0),))
print(child.pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
def test_a_child_ends_when_its_parent_is_killed(eventually):
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True)
    sleeper = identify(int(owner.stdout.readline()))
    assert sleeper is not None
    assert is_alive(sleeper)

    owner.kill()
    owner.wait()
    owner.stdout.close()

    eventually(lambda: not is_alive(sleeper))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_child_of_root_runs_as_the_number_given_and_reads_what_belongs_to_root_alone(tmp_path):
    secret = tmp_path / "closed" / "secret"
    secret.parent.mkdir(mode=0o700)
    secret.write_text("told")
    secret.chmod(0o600)

    # access(2) goes by the real user, and PostgreSQL asks it whether its programs are there.
    code = f"import os; print(os.getuid(), os.access({str(secret)!r}, os.R_OK), open({str(secret)!r}).read())"
    log = tmp_path / "log"
    child = start("reader", [sys.executable, "-c", code], ((signal.SIGTERM, 5.0),), log=log, user=64_801)

    assert child.wait(10.0) == 0
    assert log.read_text() == "64801 True told\n"


def test_a_program_that_is_not_there_ends_with_an_exit_code_and_a_word(tmp_path):
    child = start("nothing", [Path("/nonexistent/program")], ((signal.SIGTERM, 5.0),), log=tmp_path / "log")

    assert child.wait(10.0) != 0
    assert "No such file" in (tmp_path / "log").read_text()
