"""A child process that is forked while a thread of its parent holds a lock does not wait for it."""

import os
import threading
import time

import pytest
from cachetools import Cache

from agentflow import forking
from agentflow.forking import LastUsed, lazy


def in_a_child(act) -> int:
    """The exit code of a forked process that does `act`; −1: it had to be killed."""
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -1


class Holder:
    """A thread that is in the middle of something while the process is forked."""

    def __init__(self, act) -> None:
        self.inside, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=act, args=(self,))

    def stay(self) -> None:
        self.inside.set()
        self._leave.wait(30)

    def __enter__(self):
        self._thread.start()
        assert self.inside.wait(10)
        return self

    def __exit__(self, *_):
        self._leave.set()
        self._thread.join()


def test_a_lock_is_free_in_a_child_and_held_in_the_parent():
    one = forking.lock()

    def hold(holder):
        with one:
            holder.stay()

    with Holder(hold):
        assert in_a_child(one.acquire) == 0
        assert one.locked()
    assert not one.locked()


@pytest.mark.parametrize("half", [Cache.__delitem__, lambda cache, key: cache._LRUCache__order.pop(key)])
def test_a_cache_whose_change_was_interrupted_goes_on(half):
    cache = LastUsed(3)
    for key in "abc":
        cache[key] = key
    half(cache, "a")
    for key in "defgh":
        cache[key] = key
        assert cache.get(key) == key
    assert len(cache) <= 3


def test_what_a_thread_of_the_parent_is_computing_is_computed_anew_in_a_child():
    class Thing:
        def __init__(self, holder=None):
            self.holder = holder

        @lazy
        def value(self):
            if self.holder:
                self.holder.stay()
            return 5

    with Holder(lambda holder: Thing(holder).value):
        assert in_a_child(lambda: Thing().value) == 0
    assert Thing().value == 5


def test_it_is_computed_once_and_can_be_looked_at_from_the_class():
    class Thing:
        count = 0

        @lazy
        def value(self):
            """What it is."""
            self.count += 1
            return self.count

    thing = Thing()
    assert (thing.value, thing.value, Thing.value.__doc__) == (1, 1, "What it is.")
