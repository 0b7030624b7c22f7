"""Names the statuses, and the moves from one to the next with their reasons.

The tables `MOVES` and `RUN_MOVES` are the only description of the two state machines. The CHECK constraints, the
trigger that the tests install, the diagrams in ARCHITECTURE.md and every statement that sets a status are made from
them or checked against them.
"""

from enum import StrEnum
from typing import Final, Generic, NamedTuple, TypeVar


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
    WINDOW = "window"  # QUEUED: enough of its run is ready; unheld as others end
    LIMIT = "limit"  # QUEUED: waits for a slot of its concurrency limit
    RATE = "rate"  # QUEUED: has a place in its rate limit, later
    ADMISSION = "admission"  # QUEUED: its owner has enough active runs
    PAUSED = "paused"  # QUEUED: its run is paused
    TURN = "turn"  # closed; its outputs wait for an earlier execution of its node that is not done
    UNROUTED = "unrouted"  # closed; its run was stopped before its outputs were delivered


UNSERVED: Final = "unserved"
"""Shown instead of a hold for what is ready in a lane that no worker serves. Never stored, because a worker may come at
any time."""

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
    QUEUE_TIMEOUT = "queue_timeout"
    WORKER_LOST = "worker_lost"
    UNSERVED = "unserved"
    LIMIT = "max_node_executions"
    ENGINE = "engine"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    MODERATION = "moderation"


_Status = TypeVar("_Status", RunStatus, NodeStatus)


class Move(NamedTuple, Generic[_Status]):
    """One legal change of the status of a run or of a node execution.

    Attributes:
        source: the status before; None: the row is created.
        target: the status after.
        reason: why it changes.
        by: the functions of `storage/hot/sql/` that make the move, without their prefix `agentflow_`.
    """

    source: _Status | None
    target: _Status
    reason: str
    by: tuple[str, ...]


_N, _R = NodeStatus, RunStatus
_PLACE: Final = ("place_one", "place_set", "place_static")

MOVES: Final[tuple[Move[NodeStatus], ...]] = (
    Move(None, _N.INCOMPLETE, "a first value was delivered", ("create_run", *_PLACE)),
    Move(None, _N.QUEUED, "its inputs are complete from the start", ("create_run", "flush", *_PLACE)),
    Move(_N.INCOMPLETE, _N.QUEUED, "the last missing input was delivered", ("flush", *_PLACE)),
    Move(_N.QUEUED, _N.RUNNING, "claimed", ("claim", "fault")),
    Move(_N.RUNNING, _N.COMPLETED, "settled", ("settle",)),
    Move(_N.RUNNING, _N.FAILED, "the block failed, or its lease was lost too often", ("settle",)),
    Move(_N.RUNNING, _N.QUEUED, "a retry is due, or its lease was lost", ("settle", "return_lease", "fault")),
    Move(_N.RUNNING, _N.WAITING, "the block waits for the outside", ("settle",)),
    Move(_N.WAITING, _N.QUEUED, "what it waited for has come", ("wake",)),
    Move(_N.INCOMPLETE, _N.CANCELLED, "the run was stopped", ("stop", "fault_of_run")),
    Move(_N.QUEUED, _N.CANCELLED, "the run was stopped", ("stop", "fault_of_run", "claim", "close_stopped")),
    Move(_N.RUNNING, _N.CANCELLED, "the run was stopped", ("settle", "return_lease", "fault_of_run")),
    Move(_N.WAITING, _N.CANCELLED, "the run was stopped", ("stop", "fault_of_run")),
    # A retry of a whole run, by hand:
    Move(_N.FAILED, _N.QUEUED, "the run is retried", ("retry",)),
    Move(_N.CANCELLED, _N.QUEUED, "the run is retried", ("retry",)),
    Move(_N.CANCELLED, _N.INCOMPLETE, "the run is retried", ("retry",)),
    Move(_N.CANCELLED, _N.WAITING, "the run is retried", ("retry",)),
    # A fork copies the rows of what lies upstream, as they ended (`storage/steering.py`):
    Move(None, _N.COMPLETED, "taken over by a fork", ()),
    Move(None, _N.FAILED, "taken over by a fork", ()),
    Move(None, _N.CANCELLED, "taken over by a fork", ()),
)

RUN_MOVES: Final[tuple[Move[RunStatus], ...]] = (
    Move(None, _R.QUEUED, "submitted", ("create_run",)),
    Move(_R.QUEUED, _R.RUNNING, "its first node execution was claimed, or it had begun before", ("claim", "admit_run")),
    Move(_R.RUNNING, _R.WAITING, "it waits for the outside only", ("rest",)),
    Move(_R.WAITING, _R.RUNNING, "something came from outside, or it is being stopped", ("claim", "stop")),
    *(Move(source, _R.COMPLETED, "it is over", ("finish",)) for source in sorted(RUN_OPEN)),
    *(
        Move(source, target, "it is over, or was given up", ("finish", "fault_of_run"))
        for source in sorted(RUN_OPEN)
        for target in sorted(RUN_RETRIABLE)
    ),
    # A retry by hand opens an ended run again; a child run whose root is at work is RUNNING at once.
    *(
        Move(source, target, "retried", ("retry",))
        for source in sorted(RUN_RETRIABLE)
        for target in (_R.QUEUED, _R.RUNNING)
    ),
)


def is_legal(moves: tuple[Move[_Status], ...], source: _Status | None, target: _Status) -> bool:
    """Whether the state diagram of `moves` has an arrow from `source` to `target`."""
    return any(move.source == source and move.target == target for move in moves)
