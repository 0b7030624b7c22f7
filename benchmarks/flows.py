"""Runs graphs on AgentFlow, from submission to the checked result.

A graph is stored once, before timing starts, as users do. Each run is submitted in this process, by the service that
the API calls. This process polls the run's row every few milliseconds, and stops the clock when it sees the end; so
durations are slightly too long, never too short.
"""

import time
from collections.abc import Sequence
from typing import Any, ClassVar, Final
from uuid import UUID

from agentflow.engine.statuses import RunStatus
from agentflow.services import graphs, submissions
from agentflow.services import run_views as runs
from agentflow.services.cursors import PageRequest
from agentflow.services.transaction import transaction
from agentflow.storage.hot.prepared import PreparedConnection
from benchmarks.graphs import OUTPUT, Document

_POLL: Final = 0.01  # seconds; costs less than 1 % of one core
_TIMEOUT: Final = 300.0  # seconds to wait for a run before the benchmark fails


class _Polling(PreparedConnection):
    statements: ClassVar = {"ended": ("uuid", "SELECT ended_at IS NOT NULL FROM runs WHERE id = $1")}

    def has_ended(self, run_id: UUID) -> bool:
        return bool(self._call("ended", run_id)[0][0])


class Flows:
    """Stores graphs, runs them, and waits for the runs."""

    def __init__(self, owner_id: UUID, database_url: str) -> None:
        self._owner_id = owner_id
        self._polling = _Polling(database_url)

    def close(self) -> None:
        """Close the connection."""
        self._polling.close()

    def store(self, document: Document) -> UUID:
        """Store a graph. Returns its id."""
        with transaction() as session:
            return graphs.create(session, self._owner_id, document).id

    def submit(self, graph_id: UUID) -> UUID:
        """Run a stored graph. Returns the run's id."""
        with transaction() as session:
            return submissions.submit(
                session, self._owner_id, submissions.Stored(graph_id), submissions.Wanted()
            ).run_id

    def time(self, graph_id: UUID, count: int, expected: Any) -> float:
        """Run a graph `count` times at once. Returns seconds from the first submission until all have ended.

        Raises:
            RuntimeError: a run did not complete, or its output is not `expected`.
        """
        started = time.perf_counter()
        run_ids = [self.submit(graph_id) for _ in range(count)]
        self.wait(run_ids)
        seconds = time.perf_counter() - started
        for run_id in run_ids:
            self.check(run_id, expected)
        return seconds

    def wait(self, run_ids: Sequence[UUID]) -> None:
        """Wait until all runs have ended."""
        deadline = time.monotonic() + _TIMEOUT
        for run_id in run_ids:
            while not self._polling.has_ended(run_id):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"run {run_id} did not end within {_TIMEOUT:.0f} s")
                time.sleep(_POLL)

    def check(self, run_id: UUID, expected: Any) -> None:
        """Check that the run completed with the expected output."""
        with transaction() as session:
            run = runs.find(session, self._owner_id, run_id)
            found = runs.outputs(session, self._owner_id, run_id, None, PageRequest(None, 10)).items
        if run.status != RunStatus.COMPLETED or [(item.name, item.value) for item in found] != [(OUTPUT, expected)]:
            raise RuntimeError(f"AgentFlow gave a wrong result: run {run_id} {run.status} {run.error} {found!r:.200}")
