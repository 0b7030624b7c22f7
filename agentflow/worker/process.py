"""Keeps what a process needs between node executions: its name, a hot connection, and the plans of recent runs."""

import os
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Final
from uuid import UUID

from agentflow.clock import monotonic
from agentflow.dispatch import wake
from agentflow.dispatch.watching import AWAKE_SECONDS
from agentflow.engine.codec import loads
from agentflow.forking import lazy
from agentflow.graph.plan import Plan
from agentflow.graph.scoped_masks import Masks, masks_of
from agentflow.services.plans import plan_of
from agentflow.storage.connect import session
from agentflow.storage.hot.node_executions import HotConnection, RunHeader

RUNS_KEPT: Final = 2_000
"""Runs whose header and plan a process remembers; an entry is small, as plans are shared."""

MASKED_NODES_KEPT: Final = 50_000
"""Nodes of plans with masks, which are a run's own, that a process remembers; about 2 kB each."""

_main_process = f"{socket.gethostname()}:{os.getpid()}"


def name_main_process(nodename: str) -> None:
    """Set this worker's name; before its children are forked, which inherit it."""
    global _main_process
    _main_process = f"{nodename}:{os.getpid()}"


def holder(pid: int | None = None) -> str:
    """The name under which the process `pid` of this worker (by default the current one) holds leases."""
    return f"{_main_process}/{os.getpid() if pid is None else pid}"


class RunContext:
    """What every node execution of a run needs. Nothing of it changes while the run is open.

    Plan and masks are read at first use: stopping or ending a run needs neither, and works if they cannot be read.
    """

    def __init__(self, run_id: UUID, header: RunHeader, loaded: "Callable[[RunContext, Plan], None]") -> None:
        self.run_id = run_id
        self.priority = header.priority
        self.owner_id = header.owner_id
        self.graph_id = header.graph_id
        self.root_id = header.root_id
        self.parent_run_id = header.parent_run_id
        self.depth = header.depth
        self.budget = header.budget  # credits that the tree of runs may cost
        self.node_limit = header.node_limit  # node executions that it may have
        self.stopped = header.stopped  # when it was read
        self.masked_nodes = 0  # nodes of a plan that is this run's own
        self._woken_at = -AWAKE_SECONDS
        self._header = header
        self._loaded = loaded

    def wake(self) -> None:
        """Wake those who watch the run, once something in it was committed."""
        self._woken_at = monotonic()
        wake(self.run_id, self.owner_id, self.graph_id)

    def wake_unless_awake(self) -> None:
        """The same after a claim, which is seldom long behind a settlement: whoever was woken looks twice."""
        if monotonic() - self._woken_at > AWAKE_SECONDS:
            self.wake()

    @lazy
    def masks(self) -> Masks:
        """The run's input masks, as they count for its nodes."""
        return masks_of(self._header.graph_id, self.inherited_masks)

    @lazy
    def inherited_masks(self) -> Masks:
        """The run's input masks, as its child runs get them."""
        return loads(self._header.masks) if self._header.masks else {}

    @lazy
    def plan(self) -> Plan:
        """The plan, with the run's masks applied.

        Raises:
            GraphInvalid: blocks of the graph are missing here.
        """
        masks = self.masks
        with session() as opened:
            plan = plan_of(opened, self._header.graph_id, self._header.graph_version)
        if masks:
            plan = plan.masked(masks)
            self.masked_nodes = len(plan.nodes)
        self._loaded(self, plan)
        return plan


class Process:
    """The state of this process. `lock` guards `hot`: a block's thread and the flusher share it."""

    def __init__(self) -> None:
        self.hot = HotConnection()
        self.lock = threading.RLock()
        self._runs: OrderedDict[UUID, RunContext] = OrderedDict()
        self._masked_nodes = 0
        self._made: OrderedDict[UUID, int] = OrderedDict()

    def run(self, run_id: UUID) -> RunContext | None:
        """The context of a run that has not ended; None if there is no such run."""
        if (kept := self._runs.get(run_id)) is not None:
            self._runs.move_to_end(run_id)
            return kept
        with self.lock:
            header = self.hot.run_header(run_id)
        if header is None or header.ended:
            return None
        context = RunContext(run_id, header, self._loaded)
        if not context.stopped:  # else not kept: it may be retried, and is not stopped then
            self._runs[run_id] = context
            self._let_go()
        return context

    def forget(self, run_id: UUID) -> None:
        """Read the run again at the next use."""
        if (dropped := self._runs.pop(run_id, None)) is not None:
            self._masked_nodes -= dropped.masked_nodes

    def count_made(self, root_id: UUID, more: int) -> int:
        """Node executions of a tree that were made ready here since the whole tree was counted, with `more` now.

        Kept for the trees that were used last, as many as runs: this process does not learn of a tree's end.
        """
        made = self._made[root_id] = self._made.get(root_id, 0) + more
        self._made.move_to_end(root_id)
        if len(self._made) > RUNS_KEPT:
            self._made.popitem(last=False)
        return made

    def all_counted(self, root_id: UUID) -> None:
        """Note that all node executions of the tree were counted."""
        self._made.pop(root_id, None)

    def _loaded(self, context: RunContext, plan: Plan) -> None:
        """Note that a plan was read: it takes memory, and a child run has node executions from its start."""
        if self._runs.get(context.run_id) is context:
            self._masked_nodes += context.masked_nodes
            self._let_go()
        else:
            context.masked_nodes = 0
        if context.parent_run_id is not None:
            self.count_made(context.root_id, len(plan.starting()))

    def _let_go(self) -> None:
        while len(self._runs) > 1 and (len(self._runs) > RUNS_KEPT or self._masked_nodes > MASKED_NODES_KEPT):
            self.forget(next(iter(self._runs)))


@cache
def process() -> Process:
    """This process's state, made at the first call after the fork."""
    return Process()
