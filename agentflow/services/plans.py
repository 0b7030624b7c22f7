"""Gives the plan and the document of a graph version. They never change, so each process keeps the last ones.

API and workers use the same cache, each its own copy. What is kept is bounded by nodes, not by graphs: one graph of
10,000 nodes weighs as much as a thousand of ten.
"""

from typing import Final, Generic, Protocol, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow import forking
from agentflow.blocks.registry import catalogue
from agentflow.engine.codec import loads
from agentflow.errors import GraphInvalid, NotFound, Problem
from agentflow.graph.model import Graph
from agentflow.graph.needed_credentials import missing_credentials
from agentflow.graph.plan import Plan, compile_plan
from agentflow.graph.run_inputs import NeededInput, needed_inputs
from agentflow.services import documents
from agentflow.services.credentials import has_credential
from agentflow.storage import graphs
from agentflow.storage.views.runs import AnyRow

MAX_NODES_KEPT: Final = 100_000
"""Nodes in one cache; about 2 kB each."""

_HIGHEST_VERSION: Final = 2**31 - 1

_OWN_WEIGHT: Final = 10  # as nodes: what a graph costs beside its nodes

_Key = tuple[UUID, int]
_T = TypeVar("_T")


class VersionCache(Generic[_T]):
    """What is known of the graph versions used last, up to a number of nodes in all. Threads may share it."""

    def __init__(self, max_nodes: int = MAX_NODES_KEPT) -> None:
        # What weighs more than all may counts as all: the newest one is always kept.
        self._kept: forking.LastUsed[_Key, tuple[_T, int]] = forking.LastUsed(
            max_nodes, lambda entry: min(entry[1], max_nodes)
        )
        self._lock = forking.lock()

    def get(self, key: _Key) -> _T | None:
        """What is kept under `key`; it is the most recently used one now."""
        with self._lock:
            found = self._kept.get(key)
        return found[0] if found is not None else None

    def put(self, key: _Key, value: _T, nodes: int) -> None:
        """Keep `value`, and let go of what was not used for longest. The newest one is always kept."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = (value, _OWN_WEIGHT + nodes)


_plans: VersionCache[Plan] = VersionCache()
_documents: VersionCache[Graph] = VersionCache()
_run_problems: VersionCache[tuple[Problem, ...]] = VersionCache()
_needed_inputs: VersionCache[tuple[NeededInput, ...]] = VersionCache()


def plan_of(session: Session, graph_id: UUID, version: int) -> Plan:
    """The compiled plan of a graph version, without masks (`Plan.masked` applies those of a run).

    Raises:
        NotFound: there is no such version. Whose it is, is not asked here.
        GraphInvalid: blocks of it are missing; names them.
    """
    key = (graph_id, version)
    if (kept := _plans.get(key)) is not None:
        return kept
    _refuse_impossible(graph_id, version)
    text = graphs.plan_of(session, graph_id, version)
    try:
        plan = Plan.from_json(text or "")
    except ValueError:  # written by another version of agentflow, or without a block that may be here by now
        graph = document_of(session, graph_id, version)
        problems = documents.problems_of(graph, imported=True) if text is None else ()
        if any(problem.severity == "error" for problem in problems):
            raise GraphInvalid("blocks or pins of this graph are missing here", problems) from None
        plan = compile_plan(graph, catalogue)
    _plans.put(key, plan, len(plan.nodes))
    return plan


class _OfGraph(Protocol):
    """A run, as far as its plan is concerned. `masks` is JSON text or None."""

    @property
    def graph_id(self) -> UUID: ...
    @property
    def graph_version(self) -> int: ...
    @property
    def masks(self) -> str | None: ...


def plan_of_run(session: Session, run: _OfGraph | AnyRow) -> Plan:
    """The plan that a run goes by: its graph version's, with its masks.

    Raises:
        NotFound: the graph version is gone.
    """
    plan = plan_of(session, run.graph_id, run.graph_version)
    return plan.masked(loads(run.masks)) if run.masks else plan


def document_of(session: Session, graph_id: UUID, version: int) -> Graph:
    """The document of a graph version. It is shared: do not change it.

    Raises:
        NotFound: there is no such version. Whose it is, is not asked here.
    """
    key = (graph_id, version)
    if (kept := _documents.get(key)) is not None:
        return kept
    _refuse_impossible(graph_id, version)
    text = graphs.document_of(session, graph_id, version)
    if text is None:
        raise NotFound(f"there is no version {version} of graph {graph_id}")
    graph = Graph.from_json(text)
    _documents.put(key, graph, len(graph.nodes))
    return graph


def _refuse_impossible(graph_id: UUID, version: int) -> None:
    """A number comes from anywhere, and a column takes so many of them only."""
    if not 1 <= version <= _HIGHEST_VERSION:
        raise NotFound(f"there is no version {version} of graph {graph_id}")


def keep(graph: Graph, plan: Plan) -> None:
    """Remember a version that is being stored, so that who stores it need not read it again.

    If the transaction fails nobody ever asks for it: the id was new.
    """
    key = (plan.graph_id, plan.version)
    _documents.put(key, graph, len(graph.nodes))
    _plans.put(key, plan, len(plan.nodes))


def run_problems_of(session: Session, graph_id: UUID, version: int) -> tuple[Problem, ...]:
    """All that is wrong with running a graph version without inputs and masks: found once, then known.

    Raises:
        NotFound: there is no such version. Whose it is, is not asked here.
    """
    key = (graph_id, version)
    if (kept := _run_problems.get(key)) is not None:
        return kept
    graph = document_of(session, graph_id, version)
    problems = (*documents.problems_of_run(graph), *missing_credentials(graph, catalogue, has_credential))
    _run_problems.put(key, problems, len(problems))
    return problems


def needed_inputs_of(session: Session, graph_id: UUID, version: int) -> tuple[NeededInput, ...]:
    """The inputs that a run of a graph version must be given: found once, then known.

    Raises:
        NotFound: there is no such version. Whose it is, is not asked here.
    """
    key = (graph_id, version)
    if (kept := _needed_inputs.get(key)) is not None:
        return kept
    needed = needed_inputs(document_of(session, graph_id, version), catalogue)
    _needed_inputs.put(key, needed, len(needed))
    return needed
