"""Measures whether claim and settle cost more with a million stored node executions, or in a graph of 10,000 nodes.

It uses the database alone, on one connection. Besides milliseconds it reports what does not depend on the machine: rows
fetched and index entries read per call, and sequential scans, as counted by PostgreSQL.
"""

import time
from contextlib import closing
from typing import Any, Final

import psycopg

from agentflow.graph.plan import Plan
from benchmarks import graphs
from benchmarks.ground import Ground, new_owner
from benchmarks.hot_path import Counters, HotPath
from benchmarks.report import Part, Table, percentile, say, spread

_SMALL: Final = 1_000
_LARGE: Final = 1_000_000
_LARGE_QUICK: Final = 100_000
_CALLS: Final = 500
_WARM_UP: Final = 50  # calls that warm PostgreSQL's caches first
_NODES: Final = 100  # of each stored run
_BIG_GRAPH: Final = 10_000

# Ended runs, with a value, a delivery and two events for each node execution. Their ids are in the past, like those of
# real ended runs. `%(from)s` and `%(to)s` count runs.
_FILL = """
CREATE TEMPORARY TABLE filled ON COMMIT DROP AS
SELECT n, (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint - 10000000 + n), 12, '0')
           || '70008000' || lpad(to_hex(n), 12, '0'))::uuid AS id
FROM generate_series(%(from)s::bigint, %(to)s::bigint) AS n;

INSERT INTO runs (id, owner_id, graph_id, graph_version, status, root_id, started_at, ended_at)
SELECT id, %(owner)s::uuid, %(graph)s::uuid, 1, 'COMPLETED', id, now(), now() FROM filled;

INSERT INTO node_executions (run_id, node, idx, status, open, have, need, attempt, emitted, token, holder, lease_until,
                             check_at, queued_at, started_at, ended_at)
SELECT id, node, 1, 'COMPLETED', false, 1, 1, 1, 1, id, 'w1@host:1/2', now(), now(), now(), now(), now()
FROM filled, generate_series(0, %(nodes)s - 1) AS node;

INSERT INTO outputs (run_id, node, idx, ordinal, part, pin, value)
SELECT id, node, 1, 0, 0, 'result', '1.0' FROM filled, generate_series(0, %(nodes)s - 1) AS node;

INSERT INTO deliveries (run_id, node, pin, idx, source_node, source_idx, source_ordinal, source_part, filled)
SELECT id, node, 'a', 1, node - 1, 1, 0, 0, false FROM filled, generate_series(1, %(nodes)s - 1) AS node;

INSERT INTO events (run_id, kind, status, node, idx, attempt)
SELECT id, kind, 'COMPLETED', node, 1, 1
FROM filled, generate_series(0, %(nodes)s - 1) AS node, (VALUES ('claimed'), ('settled')) AS k(kind);
"""


def measure(ground: Ground, *, quick: bool) -> Part:
    """Measure the same calls with few rows, with many, and in a large graph."""
    large = _LARGE_QUICK if quick else _LARGE
    url = ground.fresh_database("bench_growth")
    path = HotPath(url, new_owner(url))
    part = Part("growth")
    try:
        plan = path.store(graphs.pairs(_CALLS))
        part.data["nothing stored, never analysed"] = _costs(path, plan)
        stored = _fill(path, plan, 0, _SMALL)
        part.data[f"{_SMALL:,} stored"] = _costs(path, plan)
        started = time.monotonic()
        _fill(path, plan, stored, large)
        say(f"{large:,} node executions stored in {time.monotonic() - started:.0f} s")
        part.data[f"{large:,} stored"] = _costs(path, plan)
        big = path.store(graphs.pairs(_BIG_GRAPH // 2))
        part.data[f"the same, graph of {_BIG_GRAPH:,} nodes"] = _costs(path, big)
    finally:
        path.close()
    header = (
        "with",
        "claim ms",
        "settle ms",
        "claim rows",
        "settle rows",
        "claim entries",
        "settle entries",
        "seq scans",
    )
    notes = (
        f"p50 / p99 of {_CALLS} claims (one input each) and {_CALLS} settles (one value, one delivery that completes a "
        "node execution), one connection, durable; rows fetched and index entries read, a call.",
    )
    rows = [_row(name, found) for name, found in part.data.items()]
    part.tables.append(Table("Claim and settle as the database grows", header, rows, notes))
    return part


def _fill(path: HotPath, plan: Plan, from_run: int, executions: int) -> int:
    """Store ended runs until they have that many node executions. Returns the number of runs."""
    runs = executions // _NODES
    # A client-side cursor, because _FILL has several statements, for which the server cannot bind parameters.
    with closing(psycopg.connect(path.url, cursor_factory=psycopg.ClientCursor)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT owner_id FROM graphs WHERE id = %s", [str(plan.graph_id)])
            values = {"owner": cursor.fetchone()[0], "graph": str(plan.graph_id), "nodes": _NODES}
            cursor.execute(_FILL, {**values, "from": from_run, "to": runs - 1})
        connection.commit()
        connection.autocommit = True  # vacuum now, so that autovacuum does not interfere later
        with connection.cursor() as cursor:
            cursor.execute("VACUUM (ANALYZE)")
    return runs


def _costs(path: HotPath, plan: Plan) -> dict[str, Any]:
    """Time all settles of the first sources of a run, then all claims of their sinks, after a warm-up run."""
    _warm_up(path, plan)
    run_id, ready = path.start(plan)
    for source in ready[:_CALLS]:
        path.claim(plan, run_id, source)
    before = path.counters()
    path.take_costs()
    sinks = [sink for source in ready[:_CALLS] for sink in path.settle(plan, run_id, source)]
    after_settles = path.counters()
    for sink in sinks:
        path.claim(plan, run_id, sink)
    after_claims = path.counters()
    costs = path.take_costs()
    say(f"claim {spread(costs.claims)} ms, settle {spread(costs.settles)} ms (p50 / p99)")
    return {
        "claim": _found(costs.claims, after_claims.since(after_settles)),
        "settle": _found(costs.settles, after_settles.since(before)),
    }


def _warm_up(path: HotPath, plan: Plan) -> None:
    run_id, ready = path.start(plan)
    for source in ready[:_WARM_UP]:
        path.claim(plan, run_id, source)
        for sink in path.settle(plan, run_id, source):
            path.claim(plan, run_id, sink)


def _found(milliseconds: list[float], counted: Counters) -> dict[str, float]:
    return {
        "p50_ms": percentile(milliseconds, 0.5),
        "p99_ms": percentile(milliseconds, 0.99),
        "rows": counted.rows_fetched / len(milliseconds),
        "entries": counted.entries_read / len(milliseconds),
        "sequential_scans": counted.sequential_scans,
    }


def _row(name: str, found: dict[str, Any]) -> list[str]:
    claim, settle = found["claim"], found["settle"]
    return [
        name,
        f"{claim['p50_ms']:.2f} / {claim['p99_ms']:.2f}",
        f"{settle['p50_ms']:.2f} / {settle['p99_ms']:.2f}",
        f"{claim['rows']:.1f}",
        f"{settle['rows']:.1f}",
        f"{claim['entries']:.1f}",
        f"{settle['entries']:.1f}",
        str(claim["sequential_scans"] + settle["sequential_scans"]),
    ]
