"""Defines the tables of graphs and runs, and imports those of the features, so that a process knows all tables.

    graphs, graph_versions   a graph's head, and its versions: document and compiled plan, never changed once written
    runs                     one graph run: what was asked, where it stands, how it ended
    idempotency_keys         which submission a client's Idempotency-Key stood for
    node_executions          the k-th execution of a node in a run; a QUEUED row is its own outbox
    outputs                  every value that was yielded, once, by ordinal; node −1 holds the inputs of the run
    deliveries               which output arrived at which pin of which node execution: a reference, never a copy
    sticky_values            the current value of each static pin
    parked_routes            routes of outputs that must wait for their predecessors' (order across executions)
    waits                    what a WAITING node execution waits for, or found when it was woken
    signals                  external events that came for a run
    reviews, review_policies what people are to look at; and nodes whose further reviews are approved in advance
    limits, limit_slots, limit_queue   limits over all workers: a rate's next place, who has a slot, who waits for one
    rate_places              who waits for which place in a rate
    run_costs                what a tree of runs has cost so far
    lanes                    which queues workers serve, and which are wanted though unserved
    events                   what happened in a run, for those who watch it

In the run tables a node is a number (its place in the plan) and `idx` counts its executions from 1. None of them has
a foreign key to `runs`: its check would lock the run's row at every insert, which no hot statement may.
Values are stored as the text that the codec wrote (`engine/codec.py`); `jsonb` would reorder keys and refuse NUL.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

import agentflow.accounts.tables
import agentflow.credentials.tables
import agentflow.credits.tables
import agentflow.memories.tables
import agentflow.moderation.tables
import agentflow.notifications.tables
import agentflow.presets.tables
import agentflow.schedules.tables
import agentflow.triggers.tables  # noqa: F401
from agentflow.engine.statuses import (
    NODE_OPEN,
    NODE_TERMINAL,
    QUEUED_HOLDS,
    RUN_TERMINAL,
    Hold,
    NodeStatus,
    ReviewStatus,
    RunStatus,
)
from agentflow.table import Table, one_of

RUN_INPUTS_NODE = -1
"""The node number under which the inputs of a run are stored as outputs, so that a claim needs no special case."""

_BUSY = {
    "autovacuum_vacuum_scale_factor": 0.02,  # 2 % dead rows, not the default 20 %: these tables change all the time
    "autovacuum_analyze_scale_factor": 0.05,
    "autovacuum_vacuum_insert_scale_factor": 0.05,  # keeps the visibility map fresh for index-only scans
    "autovacuum_vacuum_cost_delay": 1,  # milliseconds; the default 2 lets dead rows win on a busy server
}


class GraphHead(Table):
    """A graph: its name and which version is the latest."""

    __tablename__ = "graphs"
    __table_args__ = (
        Index(
            "graphs_owner_idx",
            "owner_id",
            text("id DESC"),
            postgresql_where=text("deleted_at IS NULL AND NOT inline"),
        ),
        Index("graphs_part_of_idx", "part_of", postgresql_where=text("part_of IS NOT NULL")),
        Index("graphs_inline_digest_key", "owner_id", "digest", unique=True, postgresql_where=text("inline")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    latest_version: Mapped[int]
    inline: Mapped[bool] = mapped_column(server_default=text("false"))  # came with a run, is not listed
    part_of: Mapped[UUID | None] = mapped_column(ForeignKey("graphs.id", ondelete="CASCADE"))  # a sub-graph of that one
    valid: Mapped[bool] = mapped_column(server_default=text("true"))  # the latest version: no block of it is missing
    digest: Mapped[str]  # of the latest version's document
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]


class GraphVersion(Table):
    """One version of a graph. Never changes."""

    __tablename__ = "graph_versions"

    graph_id: Mapped[UUID] = mapped_column(ForeignKey("graphs.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    document: Mapped[str]  # the graph as JSON text
    plan: Mapped[
        str | None
    ]  # its compiled plan as JSON text: node, pin and link numbers are frozen here; None: a block
    # of it was missing
    digest: Mapped[str]  # SHA-256 of the document, in hex
    blocks: Mapped[list[str]] = mapped_column(  # ids of the blocks that it and its parts are made of, each once
        ARRAY(Text), server_default=text("'{}'")
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


ACTIVE = (
    "ended_at IS NULL AND admitted_at IS NOT NULL AND parent_run_id IS NULL"
    " AND status <> 'WAITING' AND paused_at IS NULL"
)
"""Which runs count against the active runs of their owner."""


class Run(Table):
    """One graph run. Hot statements never update this row, except the first claim."""

    __tablename__ = "runs"
    __table_args__ = (
        ForeignKeyConstraint(
            ["graph_id", "graph_version"],
            ["graph_versions.graph_id", "graph_versions.version"],
            name="runs_graph_fk",
        ),
        CheckConstraint(one_of("status", RunStatus), name="status_known"),
        CheckConstraint(f"({one_of('status', RUN_TERMINAL)}) = (ended_at IS NOT NULL)", name="ended_has_time"),
        CheckConstraint("status <> 'FAILED' OR reason IS NOT NULL", name="failed_has_reason"),
        CheckConstraint("priority BETWEEN 0 AND 9", name="priority_range"),
        UniqueConstraint("parent_run_id", "parent_node", "parent_idx", "parent_call", name="runs_parent_key"),
        Index("runs_owner_idx", "owner_id", text("id DESC")),
        Index("runs_owner_status_idx", "owner_id", "status", text("id DESC")),
        Index("runs_owner_ended_idx", "owner_id", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
        Index("runs_labels_idx", "labels", postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"}),
        Index("runs_graph_idx", "graph_id", text("id DESC")),
        Index("runs_open_idx", "id", postgresql_where=text("ended_at IS NULL")),
        Index("runs_root_idx", "root_id", postgresql_where=text("parent_run_id IS NOT NULL")),
        Index("runs_children_idx", "parent_run_id", postgresql_where=text("ended_at IS NULL")),
        Index("runs_active_idx", "owner_id", postgresql_where=text(ACTIVE)),
        Index(
            "runs_unadmitted_idx", "owner_id", "id", postgresql_where=text("ended_at IS NULL AND admitted_at IS NULL")
        ),
        Index(
            "runs_deadline_idx", "deadline_at", postgresql_where=text("ended_at IS NULL AND deadline_at IS NOT NULL")
        ),
        Index("runs_passing_down_idx", "passing_down_at", postgresql_where=text("passing_down_at IS NOT NULL")),
        Index("runs_suspended_idx", "owner_id", postgresql_where=text("suspended")),
        Index("runs_examine_idx", "examine_at", postgresql_where=text("ended_at IS NULL AND examine_at IS NOT NULL")),
        Index(
            "runs_schedule_idx",
            "schedule_id",
            "id",
            postgresql_where=text("ended_at IS NULL AND schedule_id IS NOT NULL"),
        ),
        Index("runs_key_idx", "owner_id", "run_key", postgresql_where=text("ended_at IS NULL AND run_key IS NOT NULL")),
        Index(
            "runs_start_by_idx",
            "start_by",
            postgresql_where=text("ended_at IS NULL AND started_at IS NULL AND start_by IS NOT NULL"),
        ),
        Index("runs_stop_due_idx", "id", postgresql_where=text("ended_at IS NULL AND stop_due IS NOT NULL")),
        {"postgresql_with": {"fillfactor": 80, **_BUSY}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    graph_id: Mapped[UUID]
    graph_version: Mapped[int]
    status: Mapped[str]  # RunStatus
    reason: Mapped[str | None]  # FailureReason, where it FAILED
    error: Mapped[str | None]  # the same for a person
    masks: Mapped[str | None]  # nodes_input_masks as JSON text
    labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="5")  # 9 is most urgent
    stop_as: Mapped[str | None]  # the status with which it will end, once it was stopped; the first stop wins
    stop_reason: Mapped[str | None]
    stop_due: Mapped[str | None]  # FailureReason: a settlement demands its stop; or a later run took its place
    examine_at: Mapped[datetime | None]  # it is held until moderation has passed it; when that is asked (again)
    cancel_requested_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]
    suspended: Mapped[bool] = mapped_column(server_default=text("false"))  # paused because its owner is suspended
    passing_down_at: Mapped[datetime | None]  # since when its child runs are being paused or resumed like it
    deadline_at: Mapped[datetime | None]
    parent_run_id: Mapped[UUID | None]
    parent_node: Mapped[int | None]
    parent_idx: Mapped[int | None]
    parent_call: Mapped[str | None]  # tells several children of one node execution apart
    forked_from: Mapped[UUID | None]
    run_key: Mapped[str | None]  # of the runs with this key, so many of its owner's may be open
    run_key_limit: Mapped[int | None]
    start_by: Mapped[datetime | None]  # if it has not begun by then, it is stopped
    schedule_id: Mapped[UUID | None]  # that started it; without a foreign key: a run outlives its schedule
    root_id: Mapped[UUID]  # the run itself, where it has no parent
    depth: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    retry_no: Mapped[int] = mapped_column(server_default="0")
    losses: Mapped[int] = mapped_column(server_default="0")  # failures of the engine at it as a whole
    budget: Mapped[int | None] = mapped_column(BigInteger)  # credits that the tree of runs may cost; the root's
    node_limit: Mapped[int | None]  # node executions that the tree of runs may have; the root's
    admitted_at: Mapped[datetime | None]  # it may start; until then its owner has enough active runs
    stats: Mapped[dict[str, Any] | None]  # written when it ends
    created_at: Mapped[datetime] = mapped_column(server_default=text("agentflow_now()"))
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class IdempotencyKey(Table):
    """A submission that may be repeated without running twice."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("idempotency_keys_created_idx", "created_at"),)

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]  # of the request, so that another request with the same key is refused
    run_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


NODE_EXECUTION_IS_SOUND = f"""
CREATE OR REPLACE FUNCTION node_execution_is_sound(
    status text, open boolean, ended_at timestamptz, token uuid, lease_until timestamptz,
    have int, need int, reason text, hold text
) RETURNS boolean IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS $$
BEGIN
    IF have > need THEN
        RETURN false;
    ELSIF {one_of("status", NODE_TERMINAL)} THEN
        RETURN ended_at IS NOT NULL AND (status <> '{NodeStatus.FAILED}' OR reason IS NOT NULL)
            AND CASE WHEN open THEN hold IS NOT DISTINCT FROM '{Hold.TURN}'
                ELSE hold IS NULL OR hold = '{Hold.UNROUTED}' END;
    ELSIF {one_of("status", NODE_OPEN)} THEN
        RETURN open AND ended_at IS NULL AND CASE status
            WHEN '{NodeStatus.RUNNING}' THEN hold IS NULL AND token IS NOT NULL AND lease_until IS NOT NULL
            WHEN '{NodeStatus.WAITING}' THEN hold IS NOT DISTINCT FROM '{Hold.WAITING}'
            ELSE hold IS NULL OR {one_of("hold", QUEUED_HOLDS)} END;
    END IF;
    RETURN status = '{NodeStatus.INCOMPLETE}' AND NOT open AND ended_at IS NULL AND have < need AND hold IS NULL;
END $$
"""
"""What a row of `node_executions` may look like at each status; in the migrations, word for word."""


class NodeExecution(Table):
    """The `idx`-th execution of a node in a run.

    `open`: it keeps the run from ending: QUEUED, RUNNING, WAITING, or closed with outputs that were not routed yet.
    `hold`: why nobody works on it although it is open; *busy* means open and not held.
    No index mentions `status`, so that a claim is a heap-only update. `NODE_EXECUTION_IS_SOUND` checks the columns.
    """

    __tablename__ = "node_executions"
    __table_args__ = (
        # One constraint that calls a compiled function: PostgreSQL reads the text of every constraint anew in every
        # statement, and seven of them cost more than the insert itself (15 µs against 5 µs a row).
        CheckConstraint(
            "node_execution_is_sound(status, open, ended_at, token, lease_until, have, need, reason, hold)",
            name="sound",
        ),
        Index(
            "node_executions_open_idx",
            "run_id",
            postgresql_where=text("open AND hold IS NULL"),
            # Not deduplicated: entries that are stored together are dropped only when all are dead, and every look
            # at what is open would read hundreds of dead ones.
            postgresql_with={"deduplicate_items": "off"},
        ),
        Index("node_executions_held_idx", "run_id", "hold", "node", "idx", postgresql_where=text("hold IS NOT NULL")),
        # check_at is never null. The condition keeps this index to searches by time: with `open` alone the planner
        # might also use it to find what is open in one run, and read all that is open anywhere.
        Index("node_executions_check_idx", "check_at", postgresql_where=text("open AND check_at IS NOT NULL")),
        {"postgresql_with": {"fillfactor": 75, **_BUSY}},
    )

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    node: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    idx: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    status: Mapped[str]  # NodeStatus
    reason: Mapped[str | None]  # why it FAILED: user, block, transient, system, timeout, insufficient_balance, …
    open: Mapped[bool] = mapped_column(Boolean)
    hold: Mapped[str | None]  # Hold
    have: Mapped[int]  # linked pins that have a value
    need: Mapped[int]  # linked pins
    attempt: Mapped[int] = mapped_column(server_default="0")  # tries so far; continuing after a wait is not one
    failures: Mapped[int] = mapped_column(server_default="0")  # of these, how many failed
    losses: Mapped[int] = mapped_column(server_default="0")  # of these, how many lost their lease
    emitted: Mapped[int] = mapped_column(server_default="0")  # outputs stored; the next ordinal
    resumed_from: Mapped[int] = mapped_column(
        server_default="0"
    )  # `emitted` when it last waited: its block continues there
    waited: Mapped[int] = mapped_column(server_default="0")  # how often it has waited
    stats: Mapped[dict[str, Any] | None]  # counts that its block reported, over all attempts: cost, tokens, …
    token: Mapped[UUID | None]  # the lease's; kept after the end, so that a repeated settle is recognised
    holder: Mapped[str | None]  # the worker process that holds, or held, the lease
    lease_until: Mapped[datetime | None]  # null again while it waits
    check_at: Mapped[datetime]  # when recovery looks at it, while it is open
    republished: Mapped[int] = mapped_column(SmallInteger, server_default="0")  # times that recovery published it again
    due_at: Mapped[datetime | None]  # a QUEUED one is not claimed before (retries)
    queued_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]  # of the first attempt
    ended_at: Mapped[datetime | None]
    error: Mapped[str | None]
    trace: Mapped[str | None]  # the traceback of the block's bug with which it FAILED, if it is kept


class Output(Table):
    """A value that a node execution yielded. Stored once, however many pins it is delivered to."""

    __tablename__ = "outputs"
    __table_args__ = ({"postgresql_with": _BUSY},)

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    node: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    idx: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    part: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    # part 0 is the value itself; others are what the dynamic source pins of links select from it
    pin: Mapped[str]
    value: Mapped[str]


class Delivery(Table):
    """An output that arrived at a pin of a node execution."""

    __tablename__ = "deliveries"
    __table_args__ = ({"postgresql_with": _BUSY},)

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    node: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    pin: Mapped[str] = mapped_column(primary_key=True)
    idx: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    source_node: Mapped[int]
    source_idx: Mapped[int]
    source_ordinal: Mapped[int]
    source_part: Mapped[int] = mapped_column(SmallInteger)
    filled: Mapped[bool]  # copied from the sticky value of a static pin


class StickyValue(Table):
    """The current value of a static pin: the last one over a static link."""

    __tablename__ = "sticky_values"

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    node: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    pin: Mapped[str] = mapped_column(primary_key=True)
    source_node: Mapped[int]
    source_idx: Mapped[int]
    source_ordinal: Mapped[int]
    source_part: Mapped[int] = mapped_column(SmallInteger)


class ParkedRoutes(Table):
    """Routes of outputs whose turn has not come: an earlier execution of the node is not routed yet.

    The arrays run in parallel; `first` is the ordinal of the first output of the settle that parked them.
    """

    __tablename__ = "parked_routes"
    __table_args__ = ({"postgresql_with": _BUSY},)

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    node: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    idx: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    first: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ordinals: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    parts: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    sinks: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    pins: Mapped[list[str]] = mapped_column(ARRAY(Text))
    statics: Mapped[list[bool]] = mapped_column(ARRAY(Boolean))
    needs: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    bases: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    sticky_sinks: Mapped[list[bool]] = mapped_column(ARRAY(Boolean))


class Wait(Table):
    """What a node execution waits for (`open`), or what it found when it was woken. The latest wait only."""

    __tablename__ = "waits"
    __table_args__ = (Index("waits_open_idx", "run_id", "kind", "key", "since", postgresql_where=text("open")),)

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    node: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    idx: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]  # WaitKind
    key: Mapped[str]  # the event's name, the review's id, the child's key
    open: Mapped[bool] = mapped_column(Boolean)
    until: Mapped[datetime | None]  # the timeout
    state: Mapped[str | None]  # the block's, as JSON text
    result: Mapped[str | None]  # what came, as JSON text
    timed_out: Mapped[bool] = mapped_column(server_default=text("false"))
    nudged: Mapped[bool] = mapped_column(server_default=text("false"))  # its child did something since it was claimed
    since: Mapped[datetime] = mapped_column(server_default=text("agentflow_now()"))
    seconds: Mapped[float] = mapped_column(Double, server_default=text("0"))  # taken by its earlier waits


class Signal(Table):
    """An external event for a run; kept until a node execution takes it, and as a record afterwards."""

    __tablename__ = "signals"
    __table_args__ = (
        Index("signals_untaken_idx", "run_id", "name", "id", postgresql_where=text("taken_by_node IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    run_id: Mapped[UUID]
    name: Mapped[str]
    payload: Mapped[str]  # JSON text
    taken_by_node: Mapped[int | None]
    taken_by_idx: Mapped[int | None]
    at: Mapped[datetime] = mapped_column(server_default=text("agentflow_now()"))


class Review(Table):
    """Something that a person must look at before a node execution continues."""

    __tablename__ = "reviews"
    __table_args__ = (
        CheckConstraint(one_of("status", ReviewStatus), name="status_known"),
        Index("reviews_owner_idx", "owner_id", "status", text("id DESC")),
        Index("reviews_waiting_idx", "run_id", "node", postgresql_where=text("status = 'WAITING'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    run_id: Mapped[UUID]
    node: Mapped[int]
    idx: Mapped[int]
    name: Mapped[str]
    data: Mapped[str]  # JSON text
    editable: Mapped[bool] = mapped_column(Boolean)
    status: Mapped[str]  # ReviewStatus
    decided: Mapped[str | None]  # the data as it was approved, where that was edited
    message: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("agentflow_now()"))
    decided_at: Mapped[datetime | None]


class ReviewPolicy(Table):
    """In this run, whatever this node asks to be reviewed is approved."""

    __tablename__ = "review_policies"

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    node: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Limit(Table):
    """The key of a limit: the row to lock before taking from it, and the time of the rate's next place."""

    __tablename__ = "limits"

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    next_at: Mapped[datetime | None]


class LimitSlot(Table):
    """A node execution that runs, or is about to, under a limit of concurrency. It may have slots of several."""

    __tablename__ = "limit_slots"
    __table_args__ = (Index("limit_slots_key_idx", "owner_id", "key"),)

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    node: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    idx: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(server_default=text("agentflow_now()"))


class LimitQueue(Table):
    """A node execution that waits for a slot; whoever frees one gives it to the most urgent."""

    __tablename__ = "limit_queue"
    __table_args__ = (
        UniqueConstraint("run_id", "node", "idx", name="limit_queue_execution_key"),
        Index("limit_queue_next_idx", "owner_id", "key", text("priority DESC"), "id"),
    )

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="5")
    run_id: Mapped[UUID]
    node: Mapped[int]
    idx: Mapped[int]


class RatePlace(Table):
    """A node execution that waits for its place in a rate; when one leaves, those behind it move up."""

    __tablename__ = "rate_places"
    __table_args__ = (Index("rate_places_key_idx", "owner_id", "key", "at"),)

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    node: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    idx: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner_id: Mapped[UUID]
    key: Mapped[str]
    at: Mapped[datetime]


class RunCost(Table):
    """What a tree of runs has cost so far, in credits. Only node executions that cost something write it."""

    __tablename__ = "run_costs"

    root_id: Mapped[UUID] = mapped_column(primary_key=True)
    cost: Mapped[int] = mapped_column(BigInteger)
    shortfall: Mapped[str | None]  # what its owner could not pay for last, in words


class Lane(Table):
    """A lane of workers that was served; the time is precise to a few seconds."""

    __tablename__ = "lanes"

    lane: Mapped[str] = mapped_column(primary_key=True)
    served_at: Mapped[datetime]  # when a worker last said that it serves it


class Event(Table):
    """Something that happened in a run: one row for each claim, settle and change of the run's status.

    Readers go by (transaction, id), up to the oldest running transaction: ids are given before the commit, so by id
    alone an event could appear behind a reader.
    """

    __tablename__ = "events"
    __table_args__ = ({"postgresql_with": _BUSY},)

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    transaction: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, server_default=text("pg_current_xact_id()::text::bigint")
    )
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("agentflow_now()"))
    kind: Mapped[str]  # run (its status changed), claimed, flushed, settled
    status: Mapped[str | None]  # of the run, or of the node execution, after it
    reason: Mapped[str | None]
    node: Mapped[int | None]
    idx: Mapped[int | None]
    attempt: Mapped[int | None]
    first: Mapped[int | None]  # the ordinals that were stored are first … first + count − 1
    count: Mapped[int | None]


class EngineFunctions(Table):
    """Which version of `sql/*.sql` is installed: one row, the digest of the files."""

    __tablename__ = "engine_functions"

    digest: Mapped[str] = mapped_column(primary_key=True)
    installed_at: Mapped[datetime] = mapped_column(server_default=func.now())
