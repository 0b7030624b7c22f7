"""Measures one step of a chain on an idle machine, from its claim to the claim of its successor.

The times are those that PostgreSQL stored: of the claim (`started_at`) and of the settle (`ended_at`). Between a settle
and the next claim lie the commit, the message, and Celery on both ends.
"""

from contextlib import closing
from typing import Final

import psycopg

from benchmarks import graphs
from benchmarks.fleet import Layout
from benchmarks.flows import Flows
from benchmarks.ground import Ground
from benchmarks.report import Part, Table, percentile, say, spread
from benchmarks.shapes import Side

_LENGTH: Final = 300
_RUNS: Final = 5
_WORKERS: Final = Layout(1, 1)
_GOAL: Final = "goal: a hop p50 ≤ 3 ms, p99 ≤ 10 ms"

_QUERY = """
SELECT 1000 * extract(epoch FROM next.started_at - this.started_at)::float8,
       1000 * extract(epoch FROM this.ended_at - this.started_at)::float8,
       1000 * extract(epoch FROM next.started_at - this.ended_at)::float8
FROM node_executions this JOIN node_executions next ON next.run_id = this.run_id AND next.node = this.node + 1
WHERE this.run_id = %s AND this.node > 0 ORDER BY this.node
"""


def measure(ground: Ground) -> Part:
    """Measure percentiles over the hops of a few chains, run one after the other."""
    hops: list[tuple[float, float, float]] = []
    with (
        closing(Flows(ground.owner_id, ground.database_url)) as flows,
        Side.agentflow(ground, flows, {}).workers(ground, _WORKERS, ()),
        closing(psycopg.connect(ground.database_url)) as connection,
        connection.cursor() as cursor,
    ):
        graph_id = flows.store(graphs.chain(_LENGTH))
        flows.time(graph_id, 1, _LENGTH - 1)
        for _ in range(_RUNS):
            run_id = flows.submit(graph_id)
            flows.wait([run_id])
            flows.check(run_id, _LENGTH - 1)
            cursor.execute(_QUERY, [str(run_id)])
            hops += cursor.fetchall()
            connection.rollback()
    names = ("claim to claim", "claim to settle", "settle to next claim")
    columns = dict(zip(names, (list(column) for column in zip(*hops, strict=True)), strict=True))
    say(f"a hop: {spread(columns['claim to claim'])} ms (p50 / p99)")
    part = Part("hops")
    part.data = {
        name: {"p50_ms": percentile(column, 0.5), "p99_ms": percentile(column, 0.99)}
        for name, column in columns.items()
    }
    rows = [[name, spread(column)] for name, column in columns.items()]
    note = f"{_RUNS} chains of {_LENGTH}, one after the other, workers {_WORKERS}; {_GOAL}."
    part.tables.append(Table("A hop in a chain, idle machine", ("from … to", "p50 / p99 ms"), rows, [note]))
    return part
