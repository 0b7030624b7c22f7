"""How are graphs run on AgentFlow, from submission to checked result?

A graph is stored once, before anything is timed, as a user does; each run of it is submitted by the service that the
API calls, in this process. A run has ended when its row says so: this process asks for it every few milliseconds and
takes the time when it hears of it, so its durations are a little too long rather than too short.
"""

import time
from collections.abc import Sequence
from typing import Any, ClassVar, Final
from uuid import UUID

from agentflow.engine.statuses import RunStatus
from agentflow.services import graphs, submissions
from agentflow.services import run_views as runs
from agentflow.services.transaction import transaction
from agentflow.storage.prepared import PreparedConnection
from benchmarks.graphs import OUTPUT, Document

_ASK_EVERY: Final = 0.01  # seconds; costs under 1 % of one core
_TIMEOUT: Final = 300.0  # seconds until a run that does not end ends the benchmark


class _Asking(PreparedConnection):
    statements: ClassVar = {"ended": ("uuid", "SELECT ended_at IS NOT NULL FROM runs WHERE id = $1")}

    def has_ended(self, run_id: UUID) -> bool:
        return bool(self._call("ended", run_id)[0][0])


class Flows:
    """Stores graphs, runs them, waits for them."""

    def __init__(self, owner_id: UUID, database_url: str) -> None:
        self._owner_id = owner_id
        self._asking = _Asking(database_url)

    def close(self) -> None:
        """Give the connection back."""
        self._asking.close()

    def store(self, document: Document) -> UUID:
        """Store a graph; its id."""
        with transaction() as session:
            return graphs.create(session, self._owner_id, document).id

    def submit(self, graph_id: UUID) -> UUID:
        """Run a stored graph; the run's id."""
        with transaction() as session:
            return submissions.submit(session, self._owner_id, graph_id, None, submissions.Wanted()).run_id

    def time(self, graph_id: UUID, count: int, expected: Any) -> float:
        """Run a graph `count` times at once. Returns seconds from the first submission until all have ended.

        Raises:
            RuntimeError: a run did not complete, or gave something else than `expected`.
        """
        started = time.perf_counter()
        run_ids = [self.submit(graph_id) for _ in range(count)]
        self.wait(run_ids)
        seconds = time.perf_counter() - started
        for run_id in run_ids:
            self.check(run_id, expected)
        return seconds

    def wait(self, run_ids: Sequence[UUID]) -> None:
        """Until all of them have ended."""
        deadline = time.monotonic() + _TIMEOUT
        for run_id in run_ids:
            while not self._asking.has_ended(run_id):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"run {run_id} did not end within {_TIMEOUT:.0f} s")
                time.sleep(_ASK_EVERY)

    def check(self, run_id: UUID, expected: Any) -> None:
        """Hold the run's end against what it must be."""
        with transaction() as session:
            run = runs.find(session, self._owner_id, run_id)
            found = runs.outputs(session, self._owner_id, run_id, None, None, 10).items
        if run.status != RunStatus.COMPLETED or [(item.name, item.value) for item in found] != [(OUTPUT, expected)]:
            raise RuntimeError(f"AgentFlow gave a wrong result: run {run_id} {run.status} {run.error} {found!r:.200}")
