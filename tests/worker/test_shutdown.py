"""Children learn from their worker's main process, and from nobody else, that the worker stops."""

import os
from collections.abc import Callable, Iterator

import pytest

from agentflow.worker import shutdown
from agentflow.worker.shutdown import is_stopping, say_stopping


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(shutdown, "_PATIENCE", 0.1)
    shutdown._shared[0] = 0.0
    yield
    shutdown._shared[0] = 0.0


def in_a_child(ask: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        os._exit(int(ask()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_child_that_nobody_told_anything_was_not_ended_by_its_worker() -> None:
    assert not is_stopping()
    assert not in_a_child(is_stopping)


def test_children_hear_what_their_main_process_says() -> None:
    say_stopping()
    assert in_a_child(is_stopping)


def test_a_child_that_is_ended_first_waits_for_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_PATIENCE", 30.0)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"!")
        os._exit(int(is_stopping()))
    os.read(reading, 1)
    say_stopping()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    os.close(reading)
    os.close(writing)


def test_the_word_is_over_after_a_while() -> None:
    say_stopping(0.0)
    assert not is_stopping()


def test_a_shorter_word_does_not_take_a_longer_one_back() -> None:
    say_stopping()
    say_stopping(0.0)
    assert is_stopping()
