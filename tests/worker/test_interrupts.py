"""A block is stopped out of whatever it does, and nothing but a block ever is."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentflow.errors import Interrupted, Unavailable
from agentflow.worker import interrupts as module
from agentflow.worker.interrupts import Interrupts

# pytest-timeout's other method is SIGALRM itself.
pytestmark = pytest.mark.timeout(60, method="thread")

SOON = 0.05  # seconds
LONG = 30.0


@pytest.fixture
def alarm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Interrupts]:
    """An alarm that has taken this process's signals, for the test."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGALRM, signal.SIGUSR2)]
    monkeypatch.setattr(module, "_INSIST", SOON)
    made = Interrupts()
    made.install()
    yield made
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before:
        signal.signal(number, handler)


def nothing() -> None:
    return None


def no() -> bool:
    return False


def sleep() -> None:
    time.sleep(LONG)


def loop() -> None:
    while True:
        pass


def wait() -> None:
    threading.Event().wait(LONG)


def swallow() -> None:
    for _ in range(2):
        with contextlib.suppress(BaseException):
            time.sleep(LONG)
    time.sleep(LONG)


def run(alarm: Interrupts, act: Callable[[], None]) -> None:
    """One step of a block."""
    with alarm.block():
        act()


def work_outside(alarm: Interrupts, until: Callable[[], object]) -> None:
    """What the worker does between two steps of a block."""
    end = time.monotonic() + LONG
    while not until():
        assert time.monotonic() < end


@pytest.mark.parametrize("act", [sleep, loop, wait, swallow])
def test_a_timeout_ends_whatever_the_block_does(alarm: Interrupts, act: Callable[[], None]) -> None:
    before = time.monotonic()
    with alarm.attempt(SOON, nothing, no):
        with pytest.raises(Interrupted):
            run(alarm, act)
        assert alarm.cause == "timeout"
    assert time.monotonic() - before < LONG / 2


def test_nothing_is_interrupted_between_the_steps_of_a_block(alarm: Interrupts) -> None:
    with alarm.attempt(SOON, nothing, no):
        with alarm.block():
            pass
        work_outside(alarm, lambda: alarm.cause)
        assert alarm.cause == "timeout"
        with pytest.raises(Interrupted), alarm.block():
            pytest.fail("it must not run")


def test_a_block_that_ends_in_time_hears_nothing_and_leaves_no_timer(alarm: Interrupts) -> None:
    with alarm.attempt(LONG, nothing, no):
        with alarm.block():
            pass
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert alarm.cause is None
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_next_attempt_knows_nothing_of_the_last_one(alarm: Interrupts) -> None:
    with alarm.attempt(SOON, nothing, no), pytest.raises(Interrupted), alarm.block():
        sleep()
    flushed = threading.Event()
    with alarm.attempt(LONG, flushed.set, no):
        assert alarm.cause is None
        with alarm.block():
            pass
        alarm.flush_in(SOON)
        work_outside(alarm, flushed.is_set)
    with alarm.attempt(SOON, nothing, no), pytest.raises(Interrupted), alarm.block():
        sleep()


@pytest.mark.parametrize("act", ["sleeps", "loops"])
def test_what_was_yielded_is_stored_while_the_block_goes_on(alarm: Interrupts, act: str) -> None:
    flushed = threading.Event()
    thread: list[str] = []

    def flush() -> None:
        thread.append(threading.current_thread().name)
        flushed.set()

    with alarm.attempt(LONG, flush, no):
        alarm.flush_in(SOON)
        with alarm.block():
            if act == "sleeps":
                assert flushed.wait(LONG)
            else:
                work_outside(alarm, flushed.is_set)
    assert thread == ["flusher"]
    assert alarm.cause is None


def test_a_flush_is_due_once_and_at_the_first_of_several_wishes(alarm: Interrupts) -> None:
    flushes: list[float] = []
    with alarm.attempt(LONG, lambda: flushes.append(time.monotonic()), no):
        alarm.flush_in(SOON)
        alarm.flush_in(LONG)
        work_outside(alarm, lambda: flushes)
        alarm.flush_in(SOON)
        work_outside(alarm, lambda: len(flushes) == 2)
        end = time.monotonic() + 3 * SOON
        work_outside(alarm, lambda: time.monotonic() > end)
    assert len(flushes) == 2


def test_what_is_stored_already_is_not_stored_again(alarm: Interrupts) -> None:
    flushes: list[int] = []
    with alarm.attempt(LONG, lambda: flushes.append(1), no):
        alarm.flush_in(SOON)
        alarm.flushed()
        end = time.monotonic() + 3 * SOON
        work_outside(alarm, lambda: time.monotonic() > end)
    assert flushes == []


def test_the_timeout_comes_although_there_was_a_flush_before(alarm: Interrupts) -> None:
    flushed = threading.Event()
    with alarm.attempt(4 * SOON, flushed.set, no):
        alarm.flush_in(SOON)
        with pytest.raises(Interrupted), alarm.block():
            sleep()
        assert alarm.cause == "timeout"
    assert flushed.is_set()


def tell() -> None:
    """What the worker's main process does when a run was stopped."""
    os.kill(os.getpid(), signal.SIGUSR2)


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """It tells again and again, as a signal may come between two steps."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(SOON):
            tell()

    teller = threading.Thread(target=repeat)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join(LONG)


@pytest.mark.parametrize("act", [sleep, loop, wait])
def test_a_block_of_a_stopped_run_is_stopped(alarm: Interrupts, act: Callable[[], None]) -> None:
    with telling(), alarm.attempt(LONG, nothing, lambda: True):
        with pytest.raises(Interrupted):
            run(alarm, act)
        assert alarm.cause == "stopped"


def test_a_signal_that_was_meant_for_an_earlier_attempt_stops_nothing(alarm: Interrupts) -> None:
    asked: list[int] = []

    def not_this_one() -> bool:
        asked.append(1)
        return False

    with alarm.attempt(LONG, nothing, not_this_one), alarm.block():
        tell()
    assert alarm.cause is None
    assert asked == [1]


def test_a_signal_between_the_steps_of_a_block_is_passed_over(alarm: Interrupts) -> None:
    asked: list[int] = []
    with alarm.attempt(LONG, nothing, lambda: bool(asked.append(1)) or True):
        tell()
        with alarm.block():
            pass
    tell()
    assert asked == []


def test_a_database_that_cannot_be_asked_stops_nothing(alarm: Interrupts) -> None:
    def away() -> bool:
        raise Unavailable("away")

    with alarm.attempt(LONG, nothing, away):
        with alarm.block():
            tell()
        with alarm.block():
            pass
    assert alarm.cause is None


def test_asking_is_not_interrupted_even_by_a_timeout(alarm: Interrupts) -> None:
    def slow() -> bool:
        end = time.monotonic() + 4 * SOON
        while time.monotonic() < end:
            pass
        return False

    def tell_and_sleep() -> None:
        tell()
        sleep()

    with alarm.attempt(SOON, nothing, slow):
        with pytest.raises(Interrupted):
            run(alarm, tell_and_sleep)
        assert alarm.cause == "timeout"


def test_what_a_settle_was_told_stops_the_block_at_its_next_step(alarm: Interrupts) -> None:
    with alarm.attempt(LONG, nothing, no):
        alarm.stop()
        assert alarm.cause == "stopped"
        with pytest.raises(Interrupted), alarm.block():
            pytest.fail("it must not run")


def test_the_first_cause_counts(alarm: Interrupts) -> None:
    with alarm.attempt(SOON, nothing, no):
        with pytest.raises(Interrupted), alarm.block():
            sleep()
        alarm.stop()
        assert alarm.cause == "timeout"


def test_without_signals_a_block_is_stopped_where_it_yields() -> None:
    alarm = Interrupts()
    found: list[Any] = []

    def use() -> None:
        with alarm.attempt(SOON, nothing, no):
            alarm.flush_in(SOON)  # does nothing, and does no harm
            steps = 0
            try:
                while True:
                    with alarm.block():
                        steps += 1
            except Interrupted:
                found.append((alarm.cause, steps > 0))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(LONG)
    assert found == [("timeout", True)]


def test_an_alarm_that_was_installed_is_not_used_in_another_thread(alarm: Interrupts) -> None:
    raised: list[str | None] = []

    def use() -> None:
        with alarm.attempt(SOON, nothing, no):
            alarm.stop()
            try:
                with alarm.block():
                    pass
            except Interrupted:
                raised.append(alarm.cause)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(LONG)
    assert raised == ["stopped"]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
