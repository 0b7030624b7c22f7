"""Interrupts a block that runs in this process, and stores what it yielded while it is busy.

Blocks run in the main thread, so signals reach them out of a sleep or a loop:

    SIGALRM   the attempt's timeout has come (and again every second, for blocks that swallow it), or a yielded value
              has waited long enough: then the flusher, a thread, stores it while the block runs on
    SIGUSR2   the worker's main process says that the run was stopped; the database is asked whether that is so of the
              attempt that runs *now*, because by the time a signal comes it may be another

A block gets `Interrupted`, a BaseException, and only while its own code runs: never in the middle of a settle. A block
that does not react (a C function that never returns) is killed with its process by the main process.

So a worker's pool is prefork or solo: threads get no signals, and one cannot be killed alone.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from agentflow.clock import monotonic
from agentflow.errors import Interrupted, Unavailable

Cause = Literal["timeout", "stopped"]

# The functions below the library's, which make an enumeration of their result: 2 µs a call, at each attempt.
_signal: Any = sys.modules.get("_signal", signal)
_getsignal, _sigmask = _signal.getsignal, _signal.pthread_sigmask

_INSIST = 1.0  # seconds after which a block that swallowed its timeout is interrupted again


class Interrupts:
    """The alarm of this process; one attempt at a time uses it."""

    def __init__(self) -> None:
        self.cause: Cause | None = None
        self._inside = False
        self._timeout_at = 0.0
        self._flush_at: float | None = None
        self._flush: Callable[[], None] = _nothing
        self._is_stopped: Callable[[], bool] = _never
        self._wanted = threading.Event()
        self._flusher: threading.Thread | None = None
        self._signals = False
        self._pid = os.getpid()

    def install(self) -> None:
        """Handle the signals. For the main thread of a process that runs blocks."""
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.signal(signal.SIGUSR2, self._on_stop)
        signal.siginterrupt(signal.SIGUSR2, False)
        self._signals = True

    def _restore_handlers(self) -> None:
        """Handle the signals again: an earlier block may have blocked them, or set handlers of its own."""
        _sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM, signal.SIGUSR2))
        for number, handler in ((signal.SIGALRM, self._on_alarm), (signal.SIGUSR2, self._on_stop)):
            if _getsignal(number) != handler:
                signal.signal(number, handler)

    @contextmanager
    def attempt(self, timeout: float, flush: Callable[[], None], is_stopped: Callable[[], bool]) -> Iterator[None]:
        """Make an attempt in the body, for `timeout` seconds at most.

        Args:
            timeout: seconds.
            flush: stores what was yielded; called by the flusher's thread.
            is_stopped: asks the database whether this attempt's run was stopped.
        """
        self._signals = self._signals and threading.current_thread() is threading.main_thread()
        if self._signals:
            self._restore_handlers()
        self.cause, self._flush, self._is_stopped = None, flush, is_stopped
        self._timeout_at, self._flush_at = monotonic() + timeout, None
        self._pid = os.getpid()
        self._arm()
        try:
            yield
        finally:
            if self._signals:
                signal.setitimer(signal.ITIMER_REAL, 0)
            self._inside = False  # still True if a signal came just as the block was entered or left
            self._flush, self._is_stopped, self._flush_at = _nothing, _never, None

    def block(self) -> "Interrupts":
        """Run the block's own code in the body, where it may be interrupted.

        A block that forks returns twice: its child ends here, before it touches what it shares with this process.

        Raises:
            Interrupted: `cause` says why.
        """
        return self

    def __enter__(self) -> None:  # no generator, because it is entered for each value of a block
        if self.cause is not None:
            raise Interrupted
        if not self._signals and monotonic() >= self._timeout_at:
            self._interrupt("timeout")
        self._inside = True

    def __exit__(self, *_error: object) -> None:
        self._inside = False
        if os.getpid() != self._pid:
            os._exit(0)

    def stop(self) -> None:
        """Stop the block when it is entered next: a settle found that its run was stopped."""
        self.cause = self.cause or "stopped"

    def flush_in(self, seconds: float) -> None:
        """Store what was yielded in so many seconds, even if the block is still busy then."""
        if self._flush_at is None and self._signals:
            self._flush_at = monotonic() + seconds
            self._arm()

    def flushed(self) -> None:
        """Note that everything yielded is stored."""
        self._flush_at = None

    def _arm(self) -> None:
        if self._signals:
            due = self._timeout_at if self._flush_at is None else min(self._timeout_at, self._flush_at)
            signal.setitimer(signal.ITIMER_REAL, max(due - monotonic(), 0.001))

    def _interrupt(self, cause: Cause) -> None:
        self.cause = self.cause or cause
        if self._inside or not self._signals:
            raise Interrupted

    def _on_alarm(self, _signum: int, _frame: Any) -> None:
        now = monotonic()
        if self._flush_at is not None and now >= self._flush_at:
            self._flush_at = None
            self._wake_flusher()
        if now >= self._timeout_at:
            self._timeout_at = now + _INSIST
            self._arm()
            self._interrupt("timeout")
        else:
            self._arm()

    def _on_stop(self, _signum: int, _frame: Any) -> None:
        if self._inside:
            self._inside = False  # this may wait for a settle of the flusher, which nothing may interrupt
            try:
                stopped = self._is_stopped()
            except Unavailable:
                stopped = False  # the main process repeats the signal
            finally:
                self._inside = True
            if stopped:
                self._interrupt("stopped")

    def _wake_flusher(self) -> None:
        if self._flusher is None or not self._flusher.is_alive():
            self._flusher = threading.Thread(target=self._run_flusher, name="flusher", daemon=True)
            self._flusher.start()
        self._wanted.set()

    def _run_flusher(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            self._flush()


def _nothing() -> None:
    return None


def _never() -> bool:
    return False
