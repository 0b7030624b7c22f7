"""A claim and a settle cost the same whatever has been stored, and however large the graph (law 7).

Not timed: what is counted is the rows and index entries that PostgreSQL reads, which says the same on every machine.
One connection goes through all of it, as a worker's does: its plans were made when the tables were empty.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from plans import plan_of
from sqlalchemy import text
from sqlalchemy.orm import Session

from agentflow.engine.codec import dumps
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.routing import Batch, Router
from agentflow.engine.settlement import COMPLETED, settlement
from agentflow.graph.plan import Plan
from agentflow.ids import new_token
from agentflow.storage.hot.node_executions import HotConnection
from agentflow.storage.runs import Ready

Start = Callable[..., tuple[UUID, list[Ready]]]
Sessions = Callable[[], Session]
Cost = Counter[str]
"""What was read: rows of a table by an index (`outputs`), index entries (`outputs_pk`), scans in sequence (`seq …`)."""

OPEN = "node_executions_open_idx entries"
"""A settle that makes nothing ready looks whether more is open than there can be settles: so many entries, at most."""

PAGE = 8192 // 28
"""Entries of that index on one page: a run's id, and the row's place."""

STORED = 20_000  # node executions of other runs
NODES = 2_000

COUNTERS = """
SELECT CASE WHEN relkind = 'r' THEN 'seq ' || relname ELSE relname || ' entries' END,
       CASE WHEN relkind = 'r' THEN pg_stat_get_xact_numscans(oid) ELSE pg_stat_get_xact_tuples_returned(oid) END
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
UNION ALL
SELECT relname, pg_stat_get_xact_tuples_fetched(oid)
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""


class Meter:
    """Drives one run, and counts what each call reads."""

    def __init__(self, hot: HotConnection, plan: Plan, run_id: UUID) -> None:
        self.hot, self.plan, self.run_id = hot, plan, run_id

    def _counters(self) -> Cost:
        return Counter(dict(self.hot._connection.execute(COUNTERS).fetchall()))

    @contextmanager
    def _counting(self) -> Iterator[Cost]:
        """Inside a transaction the server's counters stand still but for what we do."""
        cost: Cost = Counter()
        self.hot.stop_flag(self.run_id)  # opens the connection
        # As in production; the tests' server does without, and then index entries of what has ended go a little later.
        self.hot._connection.execute("SET synchronous_commit = on")
        self.hot._connection.execute("BEGIN")
        before = self._counters()
        yield cost
        cost.update(self._counters() - before)
        self.hot._connection.execute("COMMIT")

    def run(self, node: int, idx: int, *outputs: tuple[str, object]) -> tuple[Cost, Cost]:
        """What the claim and the settle of a node execution read, which yields these outputs."""
        key, lease = ExecutionKey(self.run_id, node, idx), Lease(new_token(), "test", 60)
        with self._counting() as claiming:
            claim = self.hot.claim(key, list(self.plan.nodes[node].pins), lease)
        assert claim.verdict == "claimed"
        batch, router = Batch(first=0), Router(self.plan.nodes[node])
        for pin, value in outputs:
            router.add(batch, pin, value, dumps(value))
        with self._counting() as settling:
            settled = self.hot.settle(settlement(self.plan, key, lease, batch, COMPLETED))
        assert settled.verdict == "landed"
        return claiming, settling


@pytest.fixture
def meter(hot: HotConnection, start: Start) -> Callable[[Plan], Meter]:
    """Starts a run of a plan, on the one connection of the test."""
    return lambda plan: Meter(hot, plan, start(plan)[0])


@pytest.fixture
def fill(session_of: Sessions, start: Start) -> Callable[[], None]:
    """Stores the node executions of 200 other runs, with an output and a delivery each."""

    def make() -> None:
        plan = plan_of(nodes=1)
        runs = [start(plan)[0] for _ in range(200)]
        with session_of() as session, session.begin():
            session.execute(text("ALTER TABLE node_executions DISABLE TRIGGER USER"))  # they were never QUEUED
            each = "FROM unnest(:runs) AS run, generate_series(1, :count) AS n"
            values = {"runs": runs, "count": STORED // len(runs)}
            for statement in (
                "INSERT INTO node_executions (run_id, node, idx, status, open, have, need, check_at, ended_at) "
                f"SELECT run, n, 1, 'COMPLETED', false, 1, 1, now(), now() {each}",
                "INSERT INTO outputs (run_id, node, idx, ordinal, part, pin, value) "
                f"SELECT run, n, 1, 0, 0, 'x', '1' {each}",
                "INSERT INTO deliveries (run_id, node, pin, idx, source_node, source_idx, source_ordinal, source_part, "
                f"filled) SELECT run, n, 'a', 1, n - 1, 1, 0, 0, false {each}",
                f"INSERT INTO events (run_id, kind, node) SELECT run, 'settled', n {each}",
            ):
                session.execute(text(statement), values)
            session.execute(text("ALTER TABLE node_executions ENABLE TRIGGER USER"))
            ended = "UPDATE runs SET status = 'COMPLETED', ended_at = now() WHERE id = ANY (:runs)"
            session.execute(text(ended), values)  # lest the one that is measured has to wait for them

    return make


def chain(nodes: int) -> Plan:
    return plan_of(*((node, "x", node + 1, "a") for node in range(nodes - 1)), nodes=nodes)


def in_sequence(*costs: Cost) -> list[str]:
    return [name for cost in costs for name in cost if name.startswith("seq ")]


def differences(one: Cost, other: Cost) -> dict[str, tuple[int, int]]:
    """What they read unlike, but for entries of a row's former versions, which go when they are next met."""
    return {name: (one[name], other[name]) for name in one | other if abs(one[name] - other[name]) > 2}


def alike(one: Cost, other: Cost) -> bool:
    assert differences(one, other) == {}
    return True


def take_statistics(session_of: Sessions) -> None:
    """As autovacuum does when it likes; every statement is planned anew after it."""
    with session_of() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"}).execute(text("ANALYZE"))


def test_a_step_of_a_chain_costs_the_same_in_a_large_graph_beside_many_runs(
    meter: Callable[[Plan], Meter], fill: Callable[[], None], session_of: Sessions
) -> None:
    small = meter(chain(3))
    small.run(0, 1, ("x", 1))
    expected = small.run(1, 1, ("x", 1))
    assert in_sequence(*expected) == []
    assert sum(expected[0].values()) + sum(expected[1].values()) > 0, "it counts"

    fill()
    large = meter(chain(NODES))
    large.run(0, 1, ("x", 1))
    for node in range(1, 100):
        large.run(node, 1, ("x", 1))
    assert all(map(alike, large.run(100, 1, ("x", 1)), expected))

    take_statistics(session_of)
    assert all(map(alike, large.run(101, 1, ("x", 1)), expected)), "the same plans, or as good ones"
    large.hot.close()
    large.run(102, 1, ("x", 1))
    assert all(map(alike, large.run(103, 1, ("x", 1)), expected)), "on a new connection too"


def looks_are_bounded(meter: Meter, costs: list[Cost]) -> bool:
    """Takes the looks at what is open out of `costs`; whether each was bounded."""
    # When the scan goes on to an index page that it has not come to before, dead entries may stand there: a page full,
    # once.
    most = int(meter.hot._connection.execute("SHOW max_connections").fetchone()[0]) + PAGE
    looks = [cost.pop(OPEN, 0) for cost in costs]
    return max(looks) <= most


@pytest.mark.parametrize("known_at", [None, 300, 997])
def test_the_thousandth_value_of_a_fan_in_costs_what_the_tenth_did(
    meter: Callable[[Plan], Meter], session_of: Sessions, known_at: int | None
) -> None:
    width = 1_000
    measured = meter(plan_of(*((node, "x", width, f"p{node}") for node in range(width)), nodes=width + 1))
    settles = []
    for node in range(width):
        if node == known_at:
            take_statistics(session_of)
        settles.append(measured.run(node, 1, ("x", node))[1])
    assert in_sequence(*settles) == []
    assert looks_are_bounded(measured, settles)
    assert all(alike(settles[9], settles[node]) for node in (width // 2, width - 2, width - 1))
    claiming, _ = measured.run(width, 1)
    assert claiming["deliveries_pk entries"] == claiming["outputs_pk entries"] == width, "each input is read once"


@pytest.mark.parametrize("known_at", [None, 50, 300])
def test_the_four_hundredth_execution_of_a_node_costs_what_the_second_did(
    meter: Callable[[Plan], Meter], session_of: Sessions, known_at: int | None
) -> None:
    count = 400
    measured = meter(chain(3))
    measured.run(0, 1, *(("x", number) for number in range(count)))
    costs = []
    for idx in range(1, count + 1):
        if idx == known_at:
            take_statistics(session_of)
        costs.append(measured.run(1, idx, ("x", idx)))
    assert in_sequence(*(cost for pair in costs for cost in pair)) == []
    assert all(map(alike, costs[count // 2], costs[1]))
    assert all(map(alike, costs[count - 2], costs[1]))


@pytest.mark.parametrize("known", [False, True])
def test_what_waited_for_its_turn_costs_as_much_for_each(
    meter: Callable[[Plan], Meter], session_of: Sessions, known: bool
) -> None:
    def read(count: int) -> tuple[int, bool]:
        measured = meter(chain(3))
        measured.run(0, 1, *(("x", number) for number in range(count)))
        if known:
            take_statistics(session_of)
        parked = [measured.run(1, idx, ("x", idx))[1] for idx in range(count, 1, -1)]
        bounded = looks_are_bounded(measured, parked)
        assert alike(parked[1], parked[-1])
        return sum(measured.run(1, 1, ("x", 1))[1].values()), bounded

    few, many = read(25), read(250)
    assert many[0] <= few[0] * 10 + 10
    assert few[1] and many[1]  # noqa: PT018


def test_a_fan_out_costs_the_same_for_each_of_its_sinks(meter: Callable[[Plan], Meter]) -> None:
    def read(width: int) -> Cost:
        measured = meter(plan_of(*((0, "x", sink, "a") for sink in range(1, width + 1)), nodes=width + 1))
        return measured.run(0, 1, ("x", 1))[1]

    narrow, wide = read(100), read(1_000)
    assert in_sequence(narrow, wide) == []
    assert sum(wide.values()) <= sum(narrow.values()) * 10


def test_the_look_for_the_end_passes_over_what_has_ended_once(meter: Callable[[Plan], Meter]) -> None:
    measured = meter(chain(200))
    for node in range(199):
        measured.run(node, 1, ("x", 1))
    for most in (200, 2, 2):
        with measured._counting() as looking:
            assert not measured.hot.quiescent(measured.run_id)
        assert in_sequence(looking) == []
        assert sum(looking.values()) <= most
