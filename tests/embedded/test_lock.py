"""A free, a running and a crashed data directory are told apart."""

import json
import subprocess
import sys

import pytest

from agentflow.embedded.lock import LOCK_FILE, Lock, Occupancy, occupancy
from agentflow.errors import AlreadyRunning

_OWNER = """
import pathlib, sys, time
from agentflow.embedded.lock import Lock
lock = Lock(pathlib.Path(sys.argv[1]))
lock.acquire()
print("locked", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def owner(tmp_path):
    """Another process that has the lock."""
    process = subprocess.Popen([sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_nobody_was_ever_here(tmp_path):
    assert occupancy(tmp_path) is Occupancy.FREE
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_living_owner_keeps_others_out_and_is_named(tmp_path, owner):
    assert occupancy(tmp_path) is Occupancy.RUNNING
    with pytest.raises(AlreadyRunning, match=f"process {owner.pid}"):
        Lock(tmp_path).acquire()


def test_an_owner_that_was_killed_leaves_a_crash_and_the_next_one_knows(tmp_path, owner):
    owner.kill()
    owner.wait()

    assert occupancy(tmp_path) is Occupancy.CRASHED
    lock = Lock(tmp_path)
    lock.acquire()
    assert lock.crashed
    lock.release()
    assert occupancy(tmp_path) is Occupancy.FREE


def test_an_owner_that_left_in_order_leaves_no_crash(tmp_path):
    lock = Lock(tmp_path)
    lock.acquire()
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"]
    lock.release()
    lock.release()  # twice is fine

    again = Lock(tmp_path)
    again.acquire()
    assert not again.crashed
    again.release()


def test_text_that_was_cut_off_still_means_a_crash(tmp_path):
    (tmp_path / LOCK_FILE).write_text('{"pid": 12')

    assert occupancy(tmp_path) is Occupancy.CRASHED
