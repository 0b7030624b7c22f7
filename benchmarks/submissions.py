"""Measures the CPU time of a submission: of the process that takes it, and of PostgreSQL and Valkey.

    python -m benchmarks.submissions --count 2000 --rounds 5

No worker runs what is submitted. To compare two checkouts, take a round of each in turns.
"""

import argparse
import os
import time
from typing import Final
from uuid import UUID

from agentflow.services import graphs, submissions
from agentflow.services.transaction import transaction
from agentflow.settings import settings
from benchmarks.cpu import of_tree
from benchmarks.graphs import chain
from benchmarks.ground import ground
from benchmarks.report import median

_NODES: Final = 3
_WARM_UP: Final = 100  # submissions that are not counted


def _submit(owner_id: UUID, graph_id: UUID, count: int) -> None:
    for _ in range(count):
        with transaction() as session:
            submissions.submit(session, owner_id, submissions.Stored(graph_id), submissions.Wanted())


def _rounds(count: int, rounds: int) -> list[tuple[float, float]]:
    """For each round, microseconds of a submission: of this process, and of the servers, which are its children."""
    found = []
    with ground() as there:
        os.environ["AGENTFLOW_MAX_ACTIVE_RUNS"] = str(_WARM_UP + rounds * count + 1)
        settings.cache_clear()
        with transaction() as session:
            graph_id = graphs.create(session, there.owner_id, chain(_NODES)).id
        _submit(there.owner_id, graph_id, _WARM_UP)
        for _ in range(rounds):
            before, all_before = time.process_time(), of_tree(os.getpid())
            _submit(there.owner_id, graph_id, count)
            own = (time.process_time() - before) * 1e6
            found.append((own / count, ((of_tree(os.getpid()) - all_before) * 1e3 - own) / count))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.submissions", description="What a submission costs.")
    parser.add_argument("--count", type=int, default=2000, help="submissions of a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    options = parser.parse_args()
    found = _rounds(options.count, options.rounds)
    for own, servers in found:
        print(f"a submission: {own:.0f} µs here, {servers:.0f} µs in the servers")
    print(f"median: {median([own for own, _ in found]):.0f} µs here, {median([s for _, s in found]):.0f} µs there")


if __name__ == "__main__":
    main()
