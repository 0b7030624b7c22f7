"""Submits graphs, stored or inline: checks what is given, and starts a run.

All checks come before the first write. Then run, inputs and starting node executions are written in the caller's
transaction, and published after its commit. An Idempotency-Key is claimed first in that transaction, so that a repeated
submission finds the run of the first one, however close they are.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.blocks.registry import catalogue
from agentflow.credentials import checking
from agentflow.engine.statuses import RunStatus
from agentflow.errors import GraphInvalid, IdempotencyMismatch, Malformed, NotFound, Problem
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.needed_credentials import needed
from agentflow.graph.plan import Plan
from agentflow.graph.run_inputs import missing_inputs
from agentflow.graph.scoped_masks import masks_of
from agentflow.graph.validation import check_inputs
from agentflow.ids import new_id
from agentflow.services import chosen_credentials, documents, estimates, graphs, lanes, runs
from agentflow.services.given import refuse_unstorable
from agentflow.services.plans import document_of, needed_credentials_of, needed_inputs_of, plan_of, run_problems_of
from agentflow.storage import graphs as stored_graphs
from agentflow.storage import idempotency
from agentflow.storage.runs import NewRun
from agentflow.storage.views import runs as run_views

MAX_KEY: Final = 255
"""Characters of an Idempotency-Key, at most."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a submitter asks for, beside the graph. `priority` None: the graph's, or 5.

    `credentials`: key of the graph's `credentials_input_schema` → {"id": …}, with `provider` and `type` where they are
    to be checked.
    `allow_missing_inputs`: required input nodes without a value run all the same, and give nothing.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    masks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int | None = None
    allow_missing_inputs: bool = False
    credentials: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def as_asked(self) -> dict[str, Any]:
        """All that it says, for the digest of an Idempotency-Key: the same as before there were `credentials`."""
        asked = asdict(self)
        return asked if self.credentials else {name: value for name, value in asked.items() if name != "credentials"}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The run of a submission. `replayed`: an earlier submission with this key made it."""

    run_id: UUID
    graph_id: UUID
    graph_version: int
    status: RunStatus
    warnings: tuple[Problem, ...]
    replayed: bool = False


class Stored(NamedTuple):
    """A stored graph to run; `version` None: the latest."""

    graph_id: UUID
    version: int | None = None


def submit(
    session: Session,
    owner_id: UUID,
    graph: Stored | dict[str, Any],
    wanted: Wanted,
    key: str | None = None,
    *,
    asked: list[Any] | None = None,
    schedule_id: UUID | None = None,
) -> Accepted:
    """Run a graph: a stored one, or a document that comes with the submission, which is stored but not listed.

    Args:
        session: the transaction.
        owner_id: who submits it, and owns the graph.
        graph: what to run.
        wanted: with what.
        key: the Idempotency-Key.
        asked: what was asked for, which the key stands for; None: the graph and `wanted`.
        schedule_id: the schedule that submits it.

    Raises:
        NotFound: the owner has no such graph, or the graph no such version.
        GraphInvalid: the graph, inputs or masks do not allow a run; holds all problems.
        IdempotencyMismatch: the key was used for another submission.
        PaymentRequired: it can cost something, and the owner has no credits.
        TooLarge: too many nodes, or an input is larger than a value may be.
    """
    run_id = new_id()
    if key is not None:
        what = [str(graph.graph_id), graph.version] if isinstance(graph, Stored) else [graph, None]
        digest = _digest(asked or [*what, wanted.as_asked()])
        if (earlier := _earlier(session, owner_id, key, digest, run_id)) is not None:
            return _replay(session, owner_id, earlier, wanted)
    if isinstance(graph, Stored):
        plan = _plan_of(session, owner_id, graph)
    else:
        plan = plan_of(session, graphs.create_inline(session, owner_id, graph), 1)
    wanted, warnings = _checked(session, owner_id, plan, wanted)
    estimates.refuse_unpayable(session, owner_id, plan, wanted.masks)
    given = (wanted.inputs, wanted.masks, wanted.labels, wanted.priority)
    runs.start(session, NewRun(run_id, owner_id, plan, *given, schedule_id=schedule_id))
    return Accepted(run_id, plan.graph_id, plan.version, RunStatus.QUEUED, warnings)


def check(session: Session, owner_id: UUID, graph: Stored, wanted: Wanted) -> tuple[Problem, ...]:
    """Whether a stored graph could run with this now; returns the warnings.

    Raises:
        NotFound, GraphInvalid, TooLarge: as in `submit`.
    """
    return _checked(session, owner_id, _plan_of(session, owner_id, graph), wanted)[1]


def _plan_of(session: Session, owner_id: UUID, graph: Stored) -> Plan:
    head = stored_graphs.find(session, owner_id, graph.graph_id)
    if head is None:
        raise NotFound(f"there is no graph {graph.graph_id}")
    return plan_of(session, graph.graph_id, graph.version or head.latest_version)


def _checked(session: Session, owner_id: UUID, plan: Plan, wanted: Wanted) -> tuple[Wanted, tuple[Problem, ...]]:
    """Whether the run can start; returns what is wanted, with its credentials as masks, and the warnings."""
    refuse_unstorable(wanted.inputs, wanted.masks)
    problems: tuple[Problem, ...] = ()
    if wanted.credentials:
        graph = document_of(session, plan.graph_id, plan.version)
        masks, problems = chosen_credentials.as_masks(session, owner_id, graph, wanted.credentials, wanted.masks)
        wanted = replace(wanted, masks=masks)
    if wanted.masks:  # they change which pins are waited for
        graph = document_of(session, plan.graph_id, plan.version)
        problems += documents.problems_of_run(graph, masks=wanted.masks)
        problems += graphs.unknown_in_masks(session, owner_id, graph, wanted.masks)
        needs = tuple(needed(graph, catalogue, wanted.masks))
    else:
        problems += run_problems_of(session, plan.graph_id, plan.version)
        needs = needed_credentials_of(session, plan.graph_id, plan.version)
    if needs:
        problems += tuple(checking.problems(session, owner_id, needs))
    problems += tuple(check_inputs(plan, catalogue, wanted.inputs))
    if not wanted.allow_missing_inputs:
        inputs = needed_inputs_of(session, plan.graph_id, plan.version)
        problems += tuple(missing_inputs(inputs, wanted.inputs, masks_of(plan.graph_id, wanted.masks)))
    if any(node.kind is BlockKind.AGENT for node in plan.nodes):
        problems += graphs.missing_graphs(session, owner_id, document_of(session, plan.graph_id, plan.version))
    if any(problem.severity == "error" for problem in problems):
        raise GraphInvalid("the graph cannot run with these inputs", problems)
    return wanted, (*problems, *lanes.warnings(session, plan))


def _digest(submitted: list[Any]) -> str:
    text = json.dumps(submitted, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _earlier(session: Session, owner_id: UUID, key: str, digest: str, run_id: UUID) -> UUID | None:
    """The run of an earlier submission with `key`; None: `key` is claimed for `run_id` now."""
    if not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise Malformed(f"an Idempotency-Key is 1 to {MAX_KEY} printable ASCII characters")
    earlier = idempotency.reserve(session, owner_id, key, digest, run_id)
    if earlier is None:
        return None
    if earlier.digest != digest:
        raise IdempotencyMismatch
    return earlier.run_id


def _replay(session: Session, owner_id: UUID, run_id: UUID, wanted: Wanted) -> Accepted:
    run = run_views.find(session, owner_id, run_id)
    if run is None:
        raise NotFound(f"the run {run_id} that this Idempotency-Key stood for was deleted")
    try:
        _, warnings = _checked(session, owner_id, plan_of(session, run.graph_id, run.graph_version), wanted)
    except GraphInvalid as invalid:  # now: a graph that it runs was deleted, say. The run was accepted all the same
        warnings = tuple(problem for problem in invalid.problems if problem.severity == "warning")
    return Accepted(run_id, run.graph_id, run.graph_version, RunStatus(run.status), warnings, replayed=True)
