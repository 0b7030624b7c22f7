"""Chores take their turns, by one worker at a time, and one that fails keeps no other from its turn."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentflow.errors import Unavailable
from agentflow.settings import Settings, settings
from agentflow.worker import upkeep as module
from agentflow.worker.process import Process
from agentflow.worker.recovery import Recovery
from agentflow.worker.upkeep import CHORES, Chore, Upkeep


@pytest.fixture
def upkeep(environment: Settings) -> Iterator[Callable[[], Upkeep]]:
    """`upkeep()` is that of another worker, each time."""
    made: list[Upkeep] = []

    def make() -> Upkeep:
        made.append(Upkeep(Process()))
        return made[-1]

    yield make
    for one in made:
        one.close()


def turns(monkeypatch: pytest.MonkeyPatch, *chores: tuple[str, float, Exception | None]) -> list[str]:
    """Makes these the chores; the names of those that have had a turn."""
    taken: list[str] = []

    def act(name: str, error: Exception | None) -> Callable[[Recovery], int]:
        def turn(recovery: Recovery) -> int:
            taken.append(name)
            if error is not None:
                raise error
            return 1

        return turn

    made = [Chore(name, act(name, error), most=1, every=every) for name, every, error in chores]
    monkeypatch.setattr(module, "CHORES", made)
    return taken


def test_a_chore_that_fails_keeps_no_other_from_its_turn(upkeep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = turns(monkeypatch, ("first", 0, ValueError("broken")), ("second", 0, None))
    upkeep().run_pass()
    assert taken == ["first", "second"]


def test_a_chore_has_its_turn_when_it_is_due(upkeep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    taken = turns(monkeypatch, ("often", 0, None), ("now and then", 10, None))
    one = upkeep()
    for seconds in (100.0, 105.0, 111.0):
        clock[0] = seconds
        one.run_pass()
    assert taken == ["often", "now and then", "often", "often", "now and then"]


def test_an_outage_ends_the_pass_and_the_next_worker_can_do_one(upkeep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = turns(monkeypatch, ("first", 0, Unavailable("away")), ("second", 0, None))
    with pytest.raises(Unavailable):
        upkeep().run_pass()
    taken_then = turns(monkeypatch, ("third", 0, None))
    upkeep().run_pass()
    assert (taken, taken_then) == (["first"], ["third"])


def test_one_worker_at_a_time_does_a_pass(upkeep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    other = upkeep()
    taken: list[str] = []

    def turn(recovery: Recovery) -> int:
        taken.append("mine")
        other.run_pass()  # which would take a turn, too
        return 0

    monkeypatch.setattr(module, "CHORES", [Chore("chore", turn, most=1, every=0)])
    upkeep().run_pass()
    assert taken == ["mine"]


def test_chores_are_known_by_their_names_and_bounded() -> None:
    assert len({chore.name for chore in CHORES}) == len(CHORES)
    assert all(chore.most > 0 and chore.every >= 0 for chore in CHORES)


def test_one_that_is_frozen_in_a_pass_is_followed_by_another(
    upkeep: Any, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    """Its connection stays open, as when its host stands still; it goes on when it wakes up."""
    monkeypatch.setattr(settings(), "lease_seconds", 0.3)
    monkeypatch.setattr(module, "_IDLE_AT_LEAST", 0.3)
    taken: list[str] = []
    frozen, other = upkeep(), upkeep()

    def act(recovery: Recovery) -> int:
        taken.append("frozen" if recovery is frozen.recovery else "other")
        if recovery is frozen.recovery and len(taken) == 1:
            other.run_pass()
            assert taken == ["frozen"], "one at a time"
            eventually(lambda: other.run_pass() or len(taken) > 1)
        return 1

    monkeypatch.setattr(module, "CHORES", [Chore("one", act, most=1, every=0)])
    with pytest.raises(Unavailable):
        frozen.run_pass()
    assert taken == ["frozen", "other"]
    frozen.run_pass()
    assert taken == ["frozen", "other", "frozen"]
