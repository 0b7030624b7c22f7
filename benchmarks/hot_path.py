"""Times claim and settle by themselves, called as a worker calls them.

No worker and no broker takes part, and no block runs: each node execution yields a given value.
"""

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import psycopg
from sqlalchemy.orm import Session

from agentflow.blocks.registry import catalogue
from agentflow.engine.codec import dumps
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.routing import Batch, Router
from agentflow.engine.settlement import COMPLETED, settlement
from agentflow.graph.model import Graph
from agentflow.graph.plan import Plan, compile_plan
from agentflow.ids import new_id, new_token
from agentflow.services import graphs
from agentflow.storage import runs
from agentflow.storage.connect import engine
from agentflow.storage.hot.node_executions import HotConnection
from agentflow.storage.runs import Ready
from benchmarks.graphs import Document

HOT_TABLES: Final = (
    "runs",
    "node_executions",
    "outputs",
    "deliveries",
    "sticky_values",
    "parked_routes",
    "events",
)
_LEASE: Final = 600.0  # seconds: nobody renews here
_HOLDER: Final = "bench"
_COUNTED_AFTER: Final = 1.1  # seconds


@dataclass(slots=True)
class Costs:
    """Milliseconds of each call, as the caller sees them."""

    claims: list[float] = field(default_factory=list)
    settles: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Counters:
    """What PostgreSQL has counted on the hot tables."""

    sequential_scans: int
    rows_fetched: int
    entries_read: int

    def since(self, before: "Counters") -> "Counters":
        """The difference."""
        return Counters(
            self.sequential_scans - before.sequential_scans,
            self.rows_fetched - before.rows_fetched,
            self.entries_read - before.entries_read,
        )


class HotPath:
    """Creates runs in one database, and claims and settles their node executions on one connection."""

    def __init__(self, database_url: str, owner_id: UUID) -> None:
        self.url = database_url
        self._owner_id = owner_id
        self._hot = HotConnection(database_url)
        self._leases: dict[ExecutionKey, Lease] = {}
        self.costs = Costs()

    def close(self) -> None:
        """Close the connection."""
        self._hot.close()

    def store(self, document: Document) -> Plan:
        """Store a graph. Returns its plan."""
        with Session(engine(self.url)) as session, session.begin():
            saved = graphs.create(session, self._owner_id, document)
        return compile_plan(Graph.model_validate({**document, "id": saved.id, "version": saved.version}), catalogue)

    def start(self, plan: Plan) -> tuple[UUID, list[Ready]]:
        """Create a run of a stored graph. Returns its id, and its QUEUED node executions."""
        run_id = new_id()
        with Session(engine(self.url)) as session, session.begin():
            return run_id, runs.create(session, runs.NewRun(run_id, self._owner_id, plan))

    def claim(self, plan: Plan, run_id: UUID, ready: Ready) -> None:
        """Claim a node execution, timed.

        Raises:
            RuntimeError: it could not be claimed.
        """
        key, lease = ExecutionKey(run_id, *ready), Lease(new_token(), _HOLDER, _LEASE)
        pins = list(plan.nodes[ready.node].pins)
        started = time.perf_counter()
        claimed = self._hot.claim(key, pins, lease)
        self.costs.claims.append((time.perf_counter() - started) * 1000)
        if claimed.verdict != "claimed":
            raise RuntimeError(f"claiming node {ready.node} said {claimed.verdict}")
        self._leases[key] = lease

    def settle(self, plan: Plan, run_id: UUID, ready: Ready, pin: str = "result", value: Any = 1.0) -> list[Ready]:
        """Settle a claimed node execution that yielded one value, timed. Returns what became QUEUED.

        Raises:
            RuntimeError: it did not land.
        """
        key, batch = ExecutionKey(run_id, *ready), Batch(first=0)
        Router(plan.nodes[ready.node]).add(batch, pin, value, dumps(value))
        lease = self._leases.pop(key)
        started = time.perf_counter()
        settled = self._hot.settle(settlement(plan, key, lease, batch, COMPLETED))
        self.costs.settles.append((time.perf_counter() - started) * 1000)
        if settled.verdict != "landed":
            raise RuntimeError(f"settling node {ready.node} said {settled.verdict}")
        return settled.ready

    def take_costs(self) -> Costs:
        """The measurements since the last call."""
        costs, self.costs = self.costs, Costs()
        return costs

    def counters(self) -> Counters:
        """What PostgreSQL has counted so far, this connection included.

        The connection stays open, like a worker's, so its statements keep their first plans. PostgreSQL publishes a
        connection's counts at the end of a transaction, but at most once per second; hence the pause.
        """
        time.sleep(_COUNTED_AFTER)
        self._hot.quiescent(UUID(int=0))
        return _read_counters(self.url)


def _read_counters(database_url: str) -> Counters:
    with closing(psycopg.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(seq_scan)::bigint, sum(coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables "
            "WHERE relname = ANY (%s)",
            [list(HOT_TABLES)],
        )
        scans, fetched = cursor.fetchone()
        cursor.execute(
            "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = ANY (%s)", [list(HOT_TABLES)]
        )
        return Counters(scans, fetched, cursor.fetchone()[0])
