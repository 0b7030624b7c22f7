"""What a process keeps between node executions does not grow with the runs that it has seen."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from probes import Chain, Probe, passes

from agentflow.settings import Settings
from agentflow.worker import process as module
from agentflow.worker.process import Process, process


def test_nothing_is_kept_of_more_than_so_many_runs(
    probe: Probe, chain: Chain, work: Callable[[UUID], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNS_KEPT", 3)
    block = probe(passes)
    for _ in range(8):
        work(chain(block, block))
    assert {name: len(kept) for name, kept in vars(process()).items() if hasattr(kept, "__len__")} == {
        "_runs": 3,
        "_made": 3,
    }


def test_a_tree_that_goes_on_is_counted_on_however_many_others_come_and_go(
    environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNS_KEPT", 3)
    state, endless = Process(), uuid4()
    for number in range(1, 6):
        assert state.count_made(endless, 2) == 2 * number
        for _ in range(2):
            state.count_made(uuid4(), 1)
    state.all_counted(endless)
    assert state.count_made(endless, 1) == 1
