"""A worker that is told to stop at once does so between two turns of its loop."""

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.bootsteps import CLOSE, RUN
from celery.worker import state
from celery.worker.consumer import consumer as celery_consumer

from agentflow.worker import cold_shutdown


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What Celery's own handler was called for."""
    calls: list[int] = []
    before = signal.signal(signal.SIGQUIT, lambda number, frame: calls.append(number))
    for module in (state, celery_consumer):
        monkeypatch.setattr(module, "maybe_shutdown", module.maybe_shutdown)
    yield calls
    signal.signal(signal.SIGQUIT, before)


def consumer(at: int) -> Any:
    return SimpleNamespace(blueprint=SimpleNamespace(state=at))


@pytest.mark.parametrize("module", [state, celery_consumer])
def test_it_waits_for_the_end_of_the_turn(stopped: list[int], module: Any) -> None:
    cold_shutdown.defer(consumer(RUN))
    os.kill(os.getpid(), signal.SIGQUIT)
    assert stopped == [], "in the middle of whatever the loop was doing"
    module.maybe_shutdown()
    assert stopped == [signal.SIGQUIT]
    module.maybe_shutdown()
    assert stopped == [signal.SIGQUIT], "once"


def test_a_loop_that_is_over_is_not_waited_for(stopped: list[int]) -> None:
    cold_shutdown.defer(consumer(CLOSE))
    os.kill(os.getpid(), signal.SIGQUIT)
    assert stopped == [signal.SIGQUIT]


def test_without_a_signal_the_loop_asks_celery(stopped: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    cold_shutdown.defer(consumer(RUN))
    state.maybe_shutdown()
    monkeypatch.setattr(state, "should_stop", 0)
    with pytest.raises(SystemExit):
        state.maybe_shutdown()
