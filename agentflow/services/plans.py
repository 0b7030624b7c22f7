"""Reads the plan and the document of a graph version, which never change, so that each process caches the last ones.

The cache is bounded by nodes, not by graphs: one graph of 10,000 nodes takes as much memory as a thousand of ten.
"""

from typing import Final, Generic, Protocol, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow import forking
from agentflow.blocks.registry import catalogue
from agentflow.engine.codec import loads
from agentflow.errors import GraphInvalid, NotFound, Problem
from agentflow.graph.model import Graph
from agentflow.graph.needed_credentials import Need, needed
from agentflow.graph.plan import Plan, compile_plan
from agentflow.graph.run_inputs import NeededInput, needed_inputs
from agentflow.services import documents
from agentflow.storage import graphs
from agentflow.storage.views.runs import AnyRow

MAX_NODES_KEPT: Final = 100_000
"""Nodes in one cache; about 2 kB each."""

_HIGHEST_VERSION: Final = 2**31 - 1

_OWN_WEIGHT: Final = 10  # in nodes: what a graph takes beside its nodes

_Key = tuple[UUID, int]
_T = TypeVar("_T")


class VersionCache(Generic[_T]):
    """The graph versions used last, up to a number of nodes in all. Thread-safe."""

    def __init__(self, max_nodes: int = MAX_NODES_KEPT) -> None:
        # A graph above the bound counts as the bound: the newest one is always kept.
        self._kept: forking.LastUsed[_Key, tuple[_T, int]] = forking.LastUsed(
            max_nodes, lambda entry: min(entry[1], max_nodes)
        )
        self._lock = forking.lock()

    def get(self, key: _Key) -> _T | None:
        """The value of `key`, which is the most recently used one now."""
        with self._lock:
            found = self._kept.get(key)
        return found[0] if found is not None else None

    def put(self, key: _Key, value: _T, nodes: int) -> None:
        """Keep `value`, and drop the least recently used ones. The newest one is always kept."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = (value, _OWN_WEIGHT + nodes)


_plans: VersionCache[Plan] = VersionCache()
_documents: VersionCache[Graph] = VersionCache()
_run_problems: VersionCache[tuple[Problem, ...]] = VersionCache()
_needed_inputs: VersionCache[tuple[NeededInput, ...]] = VersionCache()
_needed_credentials: VersionCache[tuple[Need, ...]] = VersionCache()


def plan_of(session: Session, graph_id: UUID, version: int) -> Plan:
    """The compiled plan of a graph version, without masks (`Plan.masked` applies those of a run).

    Raises:
        NotFound: there is no such version. The owner is not checked.
        GraphInvalid: blocks of it are missing; names them.
    """
    key = (graph_id, version)
    if (kept := _plans.get(key)) is not None:
        return kept
    _refuse_impossible(graph_id, version)
    text = graphs.plan_of(session, graph_id, version)
    try:
        plan = Plan.from_json(text or "")
    except ValueError:  # written by another version of agentflow, or without a block that may be installed now
        graph = document_of(session, graph_id, version)
        problems = documents.problems_of(graph, imported=True) if text is None else ()
        if any(problem.severity == "error" for problem in problems):
            raise GraphInvalid("blocks or pins of this graph are missing here", problems) from None
        plan = compile_plan(graph, catalogue)
    _plans.put(key, plan, len(plan.nodes))
    return plan


class _OfGraph(Protocol):
    """What a run's plan depends on. `masks` is JSON text or None."""

    @property
    def graph_id(self) -> UUID: ...
    @property
    def graph_version(self) -> int: ...
    @property
    def masks(self) -> str | None: ...


def plan_of_run(session: Session, run: _OfGraph | AnyRow) -> Plan:
    """The plan of a run: its graph version's, with its masks.

    Raises:
        NotFound: the graph version is gone.
    """
    plan = plan_of(session, run.graph_id, run.graph_version)
    return plan.masked(loads(run.masks)) if run.masks else plan


def document_of(session: Session, graph_id: UUID, version: int) -> Graph:
    """The document of a graph version. It is shared: do not change it.

    Raises:
        NotFound: there is no such version. The owner is not checked.
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
    """Refuse a version number that no column can hold."""
    if not 1 <= version <= _HIGHEST_VERSION:
        raise NotFound(f"there is no version {version} of graph {graph_id}")


def keep(graph: Graph, plan: Plan) -> None:
    """Cache a version that is being stored, so that it need not be read again.

    If the transaction fails nobody asks for it, because the id was new.
    """
    key = (plan.graph_id, plan.version)
    _documents.put(key, graph, len(graph.nodes))
    _plans.put(key, plan, len(plan.nodes))


def run_problems_of(session: Session, graph_id: UUID, version: int) -> tuple[Problem, ...]:
    """All that is wrong with running a graph version without inputs and masks, but for credentials. Cached.

    Raises:
        NotFound: there is no such version. The owner is not checked.
    """
    key = (graph_id, version)
    if (kept := _run_problems.get(key)) is not None:
        return kept
    graph = document_of(session, graph_id, version)
    problems = tuple(documents.problems_of_run(graph))
    _run_problems.put(key, problems, len(problems))
    return problems


def needed_inputs_of(session: Session, graph_id: UUID, version: int) -> tuple[NeededInput, ...]:
    """The inputs that a run of a graph version requires. Cached.

    Raises:
        NotFound: there is no such version. The owner is not checked.
    """
    key = (graph_id, version)
    if (kept := _needed_inputs.get(key)) is not None:
        return kept
    needed = needed_inputs(document_of(session, graph_id, version), catalogue)
    _needed_inputs.put(key, needed, len(needed))
    return needed


def needed_credentials_of(session: Session, graph_id: UUID, version: int) -> tuple[Need, ...]:
    """The credentials that the nodes of a graph version need in a run without masks. Cached; whose they are is not.

    Raises:
        NotFound: there is no such version. The owner is not checked.
    """
    key = (graph_id, version)
    if (kept := _needed_credentials.get(key)) is not None:
        return kept
    found = tuple(needed(document_of(session, graph_id, version), catalogue))
    _needed_credentials.put(key, found, len(found))
    return found
