"""Which statuses are there, which may follow which, and why?

The table `MOVES` is the only description of the state machine. The CHECK constraints, the trigger that the tests
install, and the diagrams in ARCHITECTURE.md are made from it or held against it.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "QUEUED"  # accepted; nothing has started
    RUNNING = "RUNNING"  # its first node execution has been claimed
    WAITING = "WAITING"  # nothing is queued or running; something waits for the outside
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class NodeStatus(StrEnum):
    """Where a node execution stands."""

    INCOMPLETE = "INCOMPLETE"  # lacks a value on some linked pin
    QUEUED = "QUEUED"  # its inputs are complete; this row is its own outbox
    RUNNING = "RUNNING"  # claimed: a worker holds its lease
    WAITING = "WAITING"  # waits for a time, a person, an event or a child run; holds no worker
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Hold(StrEnum):
    """Why nobody works on a node execution although it could be worked on."""

    WAITING = "waiting"  # WAITING: for a time, a person, an event or a child run
    WINDOW = "window"  # QUEUED: enough of its run is ready; it is let out as others end
    LIMIT = "limit"  # QUEUED: waits for a slot of its concurrency limit
    RATE = "rate"  # QUEUED: has a place in its rate limit, later
    ADMISSION = "admission"  # QUEUED: its owner has enough active runs
    PAUSED = "paused"  # QUEUED: its run is paused
    TURN = "turn"  # closed; its outputs go out after those of the executions before it, and one of these is not done
    UNROUTED = "unrouted"  # closed, with outputs that the stop of its run kept from being delivered


UNSERVED: Final = "unserved"
"""What is told in the place of a hold where something is ready in a lane that no worker serves. Never stored: a worker
may come at any time, and takes it then."""

QUEUED_HOLDS: Final = frozenset(Hold) - {Hold.WAITING, Hold.TURN, Hold.UNROUTED}


class ReviewStatus(StrEnum):
    """Where a review stands."""

    WAITING = "WAITING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"  # nobody decided in time
    CANCELLED = "CANCELLED"  # its run was stopped


RUN_TERMINAL: Final = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
RUN_OPEN: Final = frozenset(RunStatus) - RUN_TERMINAL
RUN_RETRIABLE: Final = frozenset({RunStatus.FAILED, RunStatus.CANCELLED})
NODE_TERMINAL: Final = frozenset({NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.CANCELLED})
NODE_OPEN: Final = frozenset({NodeStatus.QUEUED, NodeStatus.RUNNING, NodeStatus.WAITING})
"""What keeps its run from ending. INCOMPLETE ones do not: at the end they are leftovers."""


class FailureReason(StrEnum):
    """Why a run ended FAILED."""

    NODE_FAILED = "node_failed"
    TIMEOUT = "timeout"
    WORKER_LOST = "worker_lost"
    UNSERVED = "unserved"
    LIMIT = "max_node_executions"
    ENGINE = "engine"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    MODERATION = "moderation"


class Move(NamedTuple):
    """One legal change of a node execution's status. `source` None: the row is created."""

    source: NodeStatus | None
    target: NodeStatus
    reason: str


_N = NodeStatus

MOVES: Final[tuple[Move, ...]] = (
    Move(None, _N.INCOMPLETE, "a first value was delivered"),
    Move(None, _N.QUEUED, "its inputs are complete from the start"),
    Move(_N.INCOMPLETE, _N.QUEUED, "the last missing input was delivered"),
    Move(_N.QUEUED, _N.RUNNING, "claimed"),
    Move(_N.RUNNING, _N.COMPLETED, "settled"),
    Move(_N.RUNNING, _N.FAILED, "the block failed, or its lease was lost too often"),
    Move(_N.RUNNING, _N.QUEUED, "a retry is due, or its lease was lost"),
    Move(_N.RUNNING, _N.WAITING, "the block waits for the outside"),
    Move(_N.WAITING, _N.QUEUED, "what it waited for has come"),
    Move(_N.INCOMPLETE, _N.CANCELLED, "the run was stopped"),
    Move(_N.QUEUED, _N.CANCELLED, "the run was stopped"),
    Move(_N.RUNNING, _N.CANCELLED, "the run was stopped"),
    Move(_N.WAITING, _N.CANCELLED, "the run was stopped"),
    # A retry of a whole run, by hand:
    Move(_N.FAILED, _N.QUEUED, "the run is retried"),
    Move(_N.CANCELLED, _N.QUEUED, "the run is retried"),
    Move(_N.CANCELLED, _N.INCOMPLETE, "the run is retried"),
    Move(_N.CANCELLED, _N.WAITING, "the run is retried"),
    # A fork takes over what lies upstream, as it ended:
    Move(None, _N.COMPLETED, "taken over by a fork"),
    Move(None, _N.FAILED, "taken over by a fork"),
    Move(None, _N.CANCELLED, "taken over by a fork"),
)

RUN_MOVES: Final[frozenset[tuple[RunStatus, RunStatus]]] = frozenset(
    {
        (RunStatus.QUEUED, RunStatus.RUNNING),
        (RunStatus.RUNNING, RunStatus.WAITING),
        (RunStatus.WAITING, RunStatus.RUNNING),
        *((source, target) for source in RUN_OPEN for target in RUN_TERMINAL),
        # A retry by hand opens an ended run again; a child run whose root is at work goes on at once:
        *((source, target) for source in RUN_RETRIABLE for target in (RunStatus.QUEUED, RunStatus.RUNNING)),
    }
)


def node_move_is_legal(source: NodeStatus | None, target: NodeStatus) -> bool:
    """Whether the state diagram has an arrow from `source` to `target`."""
    return any(move.source == source and move.target == target for move in MOVES)


def run_move_is_legal(source: RunStatus, target: RunStatus) -> bool:
    """Whether the state diagram has an arrow from `source` to `target`."""
    return (source, target) in RUN_MOVES
