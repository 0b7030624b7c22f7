"""What does one process keep between node executions? Its name, one hot connection, and the plans of recent runs."""

import os
import socket
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from uuid import UUID

from agentflow.engine.codec import loads
from agentflow.graph.plan import Plan
from agentflow.services.plans import plan_of
from agentflow.storage.connect import session
from agentflow.storage.node_executions import HotConnection

RUNS_KEPT: Final = 2_000
"""Runs whose header and plan a process remembers; an entry is small, as plans are shared."""

MASKED_NODES_KEPT: Final = 50_000
"""Nodes of plans with masks, which are a run's own, that a process remembers; about 2 kB each."""

_main_process = f"{socket.gethostname()}:{os.getpid()}"


def name_main_process(nodename: str) -> None:
    """Say which worker this is; before its children are forked, as they carry the name on."""
    global _main_process
    _main_process = f"{nodename}:{os.getpid()}"


def holder(pid: int | None = None) -> str:
    """The name under which the process `pid` of this worker (by default the present one) holds leases."""
    return f"{_main_process}/{os.getpid() if pid is None else pid}"


@dataclass(slots=True)
class RunContext:
    """What every node execution of a run needs. Nothing of it changes while the run goes on."""

    run_id: UUID
    plan: Plan  # with the run's masks applied
    masks: dict[str, dict[str, Any]]
    priority: int
    owner_id: UUID
    root_id: UUID
    parent_run_id: UUID | None
    depth: int
    budget: int | None  # credits that the tree of runs may cost
    node_limit: int | None  # node executions that it may have


class Process:
    """The state of this process. `lock` guards `hot`: a block's thread and the flusher share it."""

    def __init__(self) -> None:
        self.hot = HotConnection()
        self.lock = threading.RLock()
        self.made: Counter[UUID] = Counter()  # node executions made ready here since a tree's were counted, by its root
        self._runs: OrderedDict[UUID, RunContext] = OrderedDict()
        self._masked_nodes = 0

    def run(self, run_id: UUID) -> RunContext | None:
        """The context of a run, or None if there is no such run."""
        if (kept := self._runs.get(run_id)) is not None:
            self._runs.move_to_end(run_id)
            return kept
        with self.lock:
            header = self.hot.run_header(run_id)
        if header is None:
            return None
        with session() as opened:
            plan = plan_of(opened, header.graph_id, header.graph_version)
        masks = loads(header.masks) if header.masks else {}
        context = RunContext(
            run_id=run_id,
            plan=plan.masked(masks) if masks else plan,
            masks=masks,
            priority=header.priority,
            owner_id=header.owner_id,
            root_id=header.root_id,
            parent_run_id=header.parent_run_id,
            depth=header.depth,
            budget=header.budget,
            node_limit=header.node_limit,
        )
        self._keep(context)
        if context.parent_run_id is not None:
            self.made[context.root_id] += len(context.plan.starting())
        return context

    def _keep(self, context: RunContext) -> None:
        self._runs[context.run_id] = context
        self._masked_nodes += _masked_nodes(context)
        while len(self._runs) > 1 and (len(self._runs) > RUNS_KEPT or self._masked_nodes > MASKED_NODES_KEPT):
            _, dropped = self._runs.popitem(last=False)
            self._masked_nodes -= _masked_nodes(dropped)
        while len(self.made) > RUNS_KEPT:
            del self.made[next(iter(self.made))]


def _masked_nodes(context: RunContext) -> int:
    return len(context.plan.nodes) if context.masks else 0


@cache
def process() -> Process:
    """This process's state, made at the first call after the fork."""
    return Process()
