"""Claims, settles and renews node executions, and returns leases. Each is one call of a database function.

`HotConnection` is what a worker's children and its main process use for these. The functions stand in `sql/*.sql`.
"""

from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Final, Literal, NamedTuple
from uuid import UUID

from agentflow.engine.codec import dumps, loads
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.settlement import Settlement
from agentflow.engine.statuses import FailureReason, NodeStatus, RunStatus
from agentflow.engine.verdict import NodeCount, Verdict
from agentflow.settings import settings
from agentflow.storage.hot.prepared import PreparedConnection, function
from agentflow.storage.runs import Census, Ready, Rest

_SETTLE: Final = (
    ("key.run_id", "uuid"),
    ("key.node", "int"),
    ("key.idx", "int"),
    ("lease.token", "uuid"),
    ("outputs.first", "int"),
    ("outputs.count", "int"),
    ("transition.status", "text"),
    ("transition.reason", "text"),
    ("transition.error", "text"),
    ("transition.delay", "float8"),
    ("lease.seconds", "float8"),
    ("ordered", "boolean"),
    ("outputs.ordinals", "int[]"),
    ("outputs.parts", "int[]"),
    ("outputs.pins", "text[]"),
    ("outputs.values", "text[]"),
    ("routes.ordinals", "int[]"),
    ("routes.parts", "int[]"),
    ("routes.sinks", "int[]"),
    ("routes.pins", "text[]"),
    ("routes.statics", "boolean[]"),
    ("routes.needs", "int[]"),
    ("routes.bases", "int[]"),
    ("routes.sticky_sinks", "boolean[]"),
)
"""What of a `Settlement` goes to `agentflow_settle`, in its order, with PostgreSQL's types. The window and the
consequences come behind."""

_KEY: Final = "uuid, int, int"
_LEASE: Final = "uuid, text, float8"

_settle_values = attrgetter(*(name for name, _ in _SETTLE))
_SETTLE_TYPES: Final = ", ".join([*(kind for _, kind in _SETTLE), "int", "json"])


_STATEMENTS = {
    "run_header": (
        "uuid",
        "SELECT r.graph_id, r.graph_version, r.masks, r.priority, r.owner_id, r.root_id, r.parent_run_id, r.depth, "
        "t.budget, t.node_limit, r.stop_as IS NOT NULL, r.ended_at IS NOT NULL "
        "FROM runs r JOIN runs t ON t.id = r.root_id WHERE r.id = $1",
    ),
    "claim": function("claim", f"{_KEY}, text[], {_LEASE}"),
    "peek": (
        "uuid, int, int, text[]",
        "SELECT (SELECT '{' || string_agg(to_json(d.pin)::text || ':' || o.value, ',') || '}' FROM deliveries d "
        "JOIN outputs o ON o.run_id = d.run_id AND o.node = d.source_node AND o.idx = d.source_idx "
        "AND o.ordinal = d.source_ordinal AND o.part = d.source_part "
        "WHERE d.run_id = $1 AND d.node = $2 AND d.pin = ANY ($4) AND d.idx = $3) FROM node_executions e "
        "WHERE e.run_id = $1 AND e.node = $2 AND e.idx = $3 AND e.status = 'QUEUED' AND e.waited = 0 "
        "AND (e.due_at IS NULL OR e.due_at <= agentflow_now()) AND (e.hold IS NULL OR e.hold = 'rate')",
    ),
    "claim_limited": function(
        "claim_limited", f"{_KEY}, text[], {_LEASE}, uuid, uuid[], text[], int[], text, float8, boolean, int"
    ),
    "settle": function("settle", _SETTLE_TYPES),
    "claim_paid": (
        f"{_KEY}, text[], {_LEASE}, uuid, bigint, bigint, bigint",
        "SELECT c.*, h.* FROM agentflow_claim($1, $2, $3, $4, $5, $6, $7) c, "
        "agentflow_hold_credits($1, $2, $3, $8, CASE WHEN c.verdict = 'claimed' THEN $9 END, $10, $11) h",
    ),
    "hold_credits": function("hold_credits", f"{_KEY}, uuid, bigint, bigint, bigint"),
    "post_some": function("post_some", "int, bigint"),
    "drop_holds": function("drop_holds", "int"),
    "release": function("release", f"{_KEY}, int"),
    "wake_due": function("wake_due", _KEY),
    "gathered": function("gathered", "uuid, int, text, int, int"),
    "quiescent": (
        "uuid",
        "SELECT NOT EXISTS (SELECT FROM node_executions WHERE run_id = $1 AND open AND hold IS NULL)",
    ),
    "stop_flag": ("uuid", "SELECT stop_as IS NOT NULL FROM runs WHERE id = $1"),
    "execution_count": (
        "uuid",
        "SELECT (SELECT count(*) FROM node_executions WHERE run_id = $1) + (SELECT count(*) FROM runs r "
        "JOIN node_executions e ON e.run_id = r.id WHERE r.root_id = $1 AND r.parent_run_id IS NOT NULL)",
    ),
    "return_lease": function("return_lease", f"{_KEY}, uuid, boolean, int, {_LEASE}"),
    "renew": function("renew", "text[], uuid[], int[], int[], float8"),
    "fault": function("fault", f"{_KEY}, text, boolean, int, uuid, float8"),
    "fault_of_run": function("fault_of_run", "uuid, int, text"),
    "count_ahead": (
        "uuid, int",
        "UPDATE runs SET losses = losses + 1 WHERE id = $1 AND ended_at IS NULL AND losses <= $2 RETURNING losses",
    ),
    "count_back": ("uuid", "UPDATE runs SET losses = losses - 1 WHERE id = $1 AND ended_at IS NULL AND losses > 0"),
    "close_stopped": function("close_stopped", _KEY),
    "lease_of": (
        "uuid, int, int, text",
        "SELECT token FROM node_executions WHERE run_id = $1 AND node = $2 AND idx = $3 "
        "AND status = 'RUNNING' AND holder = $4",
    ),
    "standing": (
        "uuid, int, int",
        "SELECT status, error FROM node_executions WHERE run_id = $1 AND node = $2 AND idx = $3",
    ),
    "keep_trace": (
        "uuid, int, int, int, text",
        "UPDATE node_executions SET trace = $5 "
        "WHERE run_id = $1 AND node = $2 AND idx = $3 AND attempt = $4 AND status = 'FAILED'",
    ),
    "overdue": function("overdue", "float8, int, boolean, boolean"),
    "check_now": function("check_now", "int"),
    "try_lock": ("bigint, text", "SELECT pg_try_advisory_lock($1), set_config('idle_session_timeout', $2, false)"),
    "unlock": ("bigint", "SELECT pg_advisory_unlock($1)"),
    "rest": function("rest", "uuid, int"),
    "finish": function("finish", "uuid, text, bigint, text, text, text, jsonb"),
    "in_line": (
        "uuid",
        "SELECT EXISTS (SELECT FROM runs WHERE owner_id = $1 AND ended_at IS NULL AND admitted_at IS NULL)",
    ),
    "overdue_runs": function("overdue_runs", "int"),
    "forgotten_runs": function("forgotten_runs", "uuid, int"),
    "orphans": ("int", "SELECT o.id FROM agentflow_orphans() AS o(id) LIMIT $1"),
    "half_steered": (
        "float8, int",
        "UPDATE runs r SET passing_down_at = agentflow_now() WHERE r.id IN (SELECT m.id FROM runs m "
        "WHERE m.passing_down_at < agentflow_now() - make_interval(secs => $1) "
        "AND NOT (m.suspended AND m.ended_at IS NULL) LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED) "
        "RETURNING r.owner_id, r.id",
    ),
    "users_to_follow": (
        "float8, int",
        "UPDATE users u SET follow_at = agentflow_now() + make_interval(secs => $1) WHERE u.id IN ("
        "SELECT m.id FROM users m WHERE m.follow_at <= agentflow_now() ORDER BY m.follow_at LIMIT $2 "
        "FOR NO KEY UPDATE SKIP LOCKED) RETURNING u.id",
    ),
    "schedules_due": (
        "float8",
        "SELECT EXISTS (SELECT FROM schedules s WHERE s.fire_at <= t.at AND s.paused_at IS NULL) "
        "OR EXISTS (SELECT FROM occurrences o WHERE o.state = 'pending') "
        "FROM (SELECT agentflow_now() + make_interval(secs => $1) AS at) t",
    ),
    "notifications_due": (
        "float8",
        "SELECT EXISTS (SELECT FROM notifications n WHERE n.plan_at <= t.at), "
        "EXISTS (SELECT FROM notification_channels c WHERE c.next_at <= t.at) "
        "FROM (SELECT agentflow_now() + make_interval(secs => $1) AS at) t",
    ),
    "to_examine": ("int", "SELECT * FROM agentflow_to_examine($1) AS e(id)"),
    "free_unneeded": function("free_unneeded", f"{_KEY}, text[]"),
    "reap_slots": function("reap_slots", "int"),
    "drop_limits": function("drop_limits", "int"),
    "owners_in_line": function("owners_in_line", "int"),
    "serve": function("serve", "text[]"),
    "unserved": function("unserved", f"{_KEY}, text"),
}


class RunHeader(NamedTuple):
    """What every node execution needs of a run's row. `masks` is JSON text or None. All but the last two never change.

    `budget`: credits that the tree of runs may cost; None: any number. `node_limit`: node executions that it may have;
    None: as the installation's settings say.
    """

    graph_id: UUID
    graph_version: int
    masks: str | None
    priority: int
    owner_id: UUID
    root_id: UUID
    parent_run_id: UUID | None
    depth: int
    budget: int | None
    node_limit: int | None
    stopped: bool
    ended: bool


class Price(NamedTuple):
    """What is to be held back of an owner's credits before a block runs; see `sql/15_credits.sql`.

    Attributes:
        owner_id: who pays.
        amount: credits; 0: nothing is held, but something must be there.
        most_a_day: credits that an owner without a limit of their own may spend a day; None: any.
        low: the owner is low on credits with fewer than so many; None: never.
    """

    owner_id: UUID
    amount: int
    most_a_day: int | None = None
    low: int | None = None


class CreditHold(NamedTuple):
    """Whether credits are held back.

    Attributes:
        verdict: `short`: the owner lacks them; `limit`: they may not spend so much a day.
        available: what the owner has beside what is held back; of `limit`, what they may still spend today.
        first: nothing was short since the owner was given credits last.
    """

    verdict: Literal["held", "short", "limit"]
    available: int
    first: bool


class Claim(NamedTuple):
    """The reply of `agentflow_claim`; see `sql/03_claim.sql`. `inputs` and `wait` are JSON text or None.

    `hold`: what became of the price that the claim was asked to hold back.
    """

    verdict: Literal["claimed", "gone", "stopped", "paused", "held"]
    attempt: int
    emitted: int
    failures: int
    losses: int
    inputs: str | None
    last: bool | None
    resumed_from: int | None = None
    wait: str | None = None
    ready: Sequence[Ready] = ()  # what takes the place in the window of one that is held
    hold: CreditHold | None = None


class Settled(NamedTuple):
    """The reply of `agentflow_settle`; see `sql/05_settle.sql`. `others`: what else became QUEUED, of any run.

    `short`: its owner could not pay all that it cost.
    """

    verdict: Literal["landed", "lost", "stopped"]
    ready: list[Ready]
    release_after: int | None
    crowded: bool
    others: list[ExecutionKey] = []
    total_cost: int | None = None
    short: bool = False


class Finished(NamedTuple):
    """Whether the end of a run was recorded, and the node execution that waited for it and is QUEUED now."""

    done: bool
    woken: ExecutionKey | None


OVERRAN: Final = -1
"""In place of the losses that are tolerated: the process was killed because its block overran its timeout."""


class Loss(NamedTuple):
    """What became of a node execution whose lease was returned, or at which the engine failed.

    `stopped`: its run was stopped, so it is CANCELLED. `poisoned`: the caller has its lease and must settle it. With
    its outputs so far and its attempt.

    Attributes:
        losses: of a fault: how many there were.
        failures: of a lost lease: how many attempts failed before.
    """

    verdict: Literal["gone", "queued", "stopped", "poisoned"]
    emitted: int | None
    attempt: int | None
    losses: int | None = None
    failures: int | None = None


class FaultOfRun(NamedTuple):
    """What became of a run at which the engine failed, and the node execution that waited for its end."""

    verdict: Literal["gone", "counted", "given_up"]
    losses: int | None
    woken: ExecutionKey | None


class Standing(NamedTuple):
    """The status of a node execution, and the error of its end or of its last attempt."""

    status: NodeStatus
    error: str | None


class Overdue(NamedTuple):
    """A node execution that recovery must repair."""

    action: Literal["publish", "return", "release", "wake"]
    key: ExecutionKey
    token: UUID | None


class Held(NamedTuple):
    """A lease that a child process holds, as its worker's main process knows it."""

    holder: str
    key: ExecutionKey


class SlotLimit(NamedTuple):
    """A limit of concurrency: whose it is, its key, and how many run at once under it."""

    owner_id: UUID
    key: str
    slots: int


class Limits(NamedTuple):
    """The limits that a claim is under.

    Attributes:
        owner_id: whose rate it is.
        slots: the limits of concurrency. Slots are taken in their order of owner and key.
        rate_key: the key of the rate; None: it is under none.
        per_second: the rate.
        spans_waits: it keeps its slots while it waits, and takes no place in the rate after the wait.
        priority: of those that wait for a slot, the most urgent (9) gets the next.
    """

    owner_id: UUID
    slots: Collection[SlotLimit]
    rate_key: str | None
    per_second: float | None
    spans_waits: bool
    priority: int


def _ready(nodes: list[int] | None, indexes: list[int] | None) -> list[Ready]:
    return [Ready(node, idx) for node, idx in zip(nodes or (), indexes or (), strict=True)]


class HotConnection(PreparedConnection):
    """One connection for these statements; opened at the first call, and again after it broke.

    Not thread-safe: callers with several threads hold a lock.
    """

    statements = _STATEMENTS

    def __init__(self, url: str | None = None) -> None:
        super().__init__(url)
        self._window = settings().ready_window

    def run_header(self, run_id: UUID) -> RunHeader | None:
        """The run's header, or None if there is no such run."""
        rows = self._call("run_header", run_id)
        return RunHeader(*rows[0]) if rows else None

    def claim(
        self,
        key: ExecutionKey,
        pins: Sequence[str],
        lease: Lease,
        limits: Limits | None = None,
        price: Price | None = None,
    ) -> Claim:
        """Take a QUEUED node execution under `lease`.

        Args:
            key: the node execution.
            pins: the node's linked pins.
            lease: the attempt's.
            limits: what it is under, if anything.
            price: what is held back with the claim; only without limits.
        """
        values = (*key, list(pins), *lease)
        if limits is None:
            if price is not None:
                row = self._call("claim_paid", *values, *price)[0]
                hold = CreditHold(*row[-3:]) if row[-3] else None
                return Claim(*row[:-3])._replace(hold=hold)
            return Claim(*self._call("claim", *values)[0])
        owner_id, slots, *others = limits
        owners, keys, numbers = (list(column) for column in zip(*sorted(slots), strict=True)) if slots else ([], [], [])
        row = self._call("claim_limited", *values, owner_id, owners, keys, numbers, *others)[0]
        return Claim(*row[:-2])._replace(ready=_ready(*row[-2:]))

    def peek(self, key: ExecutionKey, pins: Sequence[str]) -> tuple[bool, str | None]:
        """Whether a node execution can be claimed and has never waited, and what was delivered to it, as JSON text."""
        rows = self._call("peek", *key, list(pins))
        return bool(rows), rows[0][0] if rows else None

    def settle(self, settlement: Settlement) -> Settled:
        """Record what an attempt did since its last settlement. Calling it again with the same one is harmless."""
        values = _settle_values(settlement)
        verdict, nodes, indexes, release_after, crowded, also = self._call(
            "settle", *values, self._window, settlement.consequences.as_json()
        )[0]
        settled = Settled(verdict, _ready(nodes, indexes), release_after, bool(crowded))
        if also is None:
            return settled
        others = [ExecutionKey(UUID(run_id), node, idx) for run_id, node, idx in also["others"] or ()]
        return settled._replace(others=others, total_cost=also.get("total_cost"), short=bool(also.get("short")))

    def hold_credits(self, key: ExecutionKey, price: Price) -> CreditHold:
        """Hold back what an attempt costs before it runs. Again with the same: harmless."""
        return CreditHold(*self._call("hold_credits", *key, *price)[0])

    def post_some(self, owners: int, low: int | None) -> int:
        """Add to the ledger what was charged to at most so many owners. Returns to how many."""
        return int(self._call("post_some", owners, low)[0][0])

    def drop_holds(self, limit: int) -> int:
        """Let go of what is held for node executions that have ended without a settlement. How many."""
        return int(self._call("drop_holds", limit)[0][0])

    def release(self, key: ExecutionKey) -> tuple[list[Ready], int | None]:
        """Route the outputs that waited for `key`: what became QUEUED, and the index for the next call, if any."""
        nodes, indexes, release_after = self._call("release", *key, self._window)[0]
        return _ready(nodes, indexes), release_after

    def wake_due(self, key: ExecutionKey) -> bool:
        """End a wait whose time has come. Whether it is QUEUED now."""
        return bool(self._call("wake_due", *key)[0][0])

    def gathered(self, key: ExecutionKey, pin: str, size: int | None) -> str | None:
        """What a gathering node gives at this execution: a list as JSON text; None: nothing yet."""
        found: str | None = self._call("gathered", key.run_id, key.node, pin, key.idx, size)[0][0]
        return found

    def quiescent(self, run_id: UUID) -> bool:
        """Whether nothing of the run is busy. Ask after the commit: else two last settles see each other."""
        return bool(self._call("quiescent", run_id)[0][0])

    def rest(self, run_id: UUID) -> Rest:
        """Decide, with the run's gate held alone, whether it rests, continues or is over."""
        verdict, nodes, indexes, stop_as, why, counts, reported = self._call("rest", run_id, self._window)[0]
        census = None
        if verdict == "over":
            stop = (RunStatus(stop_as), why) if stop_as else None
            found = [
                NodeCount(node, NodeStatus(status), count, started) for node, status, count, started in loads(counts)
            ]
            census = Census(stop, found, loads(reported))
        return Rest(verdict, _ready(nodes, indexes), census)

    def finish(self, run_id: UUID, census: Census, verdict: Verdict, *, may_grow: bool) -> Finished:
        """Record the end of a run, if it still is as `census` says. `may_grow`: a gather may have added executions."""
        stop_as = census.stop[0] if census.stop else None
        made = sum(count.count for count in census.counts) if may_grow else None
        done, *woken = self._call(
            "finish", run_id, stop_as, made, verdict.status, verdict.reason, verdict.error, dumps(dict(verdict.stats))
        )[0]
        return Finished(done, None if woken[0] is None else ExecutionKey(*woken))

    def in_line(self, owner_id: UUID) -> bool:
        """Whether some runs of that owner are not admitted yet."""
        return bool(self._call("in_line", owner_id)[0][0])

    def stop_flag(self, run_id: UUID) -> bool:
        """Whether the run was stopped (or is gone)."""
        rows = self._call("stop_flag", run_id)
        return bool(rows[0][0]) if rows else True

    def execution_count(self, root_id: UUID) -> int:
        """How many node executions a tree of runs has; reads them all."""
        return int(self._call("execution_count", root_id)[0][0])

    def return_lease(self, key: ExecutionKey, token: UUID, heir: Lease, *, expired: bool, bearable: int | None) -> Loss:
        """Return a lease, so that the node execution runs again.

        Args:
            key: the node execution.
            token: the lease's.
            heir: the lease that the caller gets where the verdict is `poisoned`.
            expired: only if it has run out (its owner may have renewed it since it was seen).
            bearable: losses that are tolerated; beyond, the verdict is `poisoned`. None: its owner returns the lease,
                which is no loss. `OVERRAN`: its process was killed for its timeout, no loss either; always `poisoned`.
        """
        verdict, emitted, attempt, failures = self._call("return_lease", *key, token, expired, bearable, *heir)[0]
        return Loss(verdict, emitted, attempt, failures=failures)

    def fault(self, key: ExecutionKey, heir: Lease, *, died: bool, bearable: int) -> Loss:
        """Count that the process `heir.holder` failed at a node execution; `died`: it cannot say so itself.

        After too many failures the caller gets the lease. See `sql/13_faults.sql`.
        """
        return Loss(*self._call("fault", *key, heir.holder, died, bearable, heir.token, heir.seconds)[0])

    def fault_of_run(self, run_id: UUID, bearable: int, error: str) -> FaultOfRun:
        """Count that the engine failed at a run as a whole; beyond `bearable` times it ends FAILED with that error."""
        verdict, losses, *woken = self._call("fault_of_run", run_id, bearable, error)[0]
        return FaultOfRun(verdict, losses, None if woken[0] is None else ExecutionKey(*woken))

    def count_ahead(self, run_id: UUID, bearable: int) -> int | None:
        """Count a fault of a run before it happens; how many it has now. None: it has ended, or has more than that."""
        rows = self._call("count_ahead", run_id, bearable)
        return rows[0][0] if rows else None

    def count_back(self, run_id: UUID) -> None:
        """Take back `count_ahead`: the fault did not happen."""
        self._call("count_back", run_id)

    def close_stopped(self, key: ExecutionKey) -> None:
        """End a node execution that is QUEUED although its run was stopped."""
        self._call("close_stopped", *key)

    def renew(self, held: Sequence[Held], lease: float) -> list[tuple[ExecutionKey, bool]]:
        """Extend leases by `lease` seconds; of each that is still held, whether its run was stopped."""
        runs, nodes, indexes = zip(*(key for _, key in held), strict=True)
        rows = self._call("renew", [holder for holder, _ in held], list(runs), nodes, indexes, lease)
        return [(ExecutionKey(run_id, node, idx), stop) for run_id, node, idx, stop in rows]

    def lease_of(self, key: ExecutionKey, holder: str) -> UUID | None:
        """The token of the lease that `holder` has on a node execution, or None."""
        rows = self._call("lease_of", *key, holder)
        return rows[0][0] if rows else None

    def standing(self, key: ExecutionKey) -> Standing | None:
        """How a node execution stands; None: there is none."""
        rows = self._call("standing", *key)
        return Standing(NodeStatus(rows[0][0]), rows[0][1]) if rows else None

    def overdue(self, lease: float, limit: int, backlog: bool, steady: bool) -> list[Overdue]:
        """What recovery must repair among the `limit` rows that are due; those that need nothing are put off.

        Args:
            lease: seconds of a lease.
            limit: how many rows to look at.
            backlog: messages are waiting at the broker, so what is QUEUED is most likely among them.
            steady: leases that have run out count as lost (not so after an outage in which nobody could renew).
        """
        rows = self._call("overdue", lease, limit, backlog, steady)
        return [Overdue(action, ExecutionKey(*key), token) for action, *key, token in rows]

    def check_now(self, limit: int) -> int:
        """The broker's queues are empty: make due what was put off behind them, at most `limit`. Returns how many."""
        return int(self._call("check_now", limit)[0][0])

    def to_examine(self, limit: int) -> list[UUID]:
        """Runs that moderation should have examined by now. They are found again after a while only."""
        return [run_id for (run_id,) in self._call("to_examine", limit)]

    def schedules_due(self) -> bool:
        """Whether a schedule is due, or an occurrence of one waits."""
        return bool(self._call("schedules_due", 0.0)[0][0])

    def notifications_due(self) -> tuple[bool, bool]:
        """Whether a notification is to be planned, and whether a worker is to be called for a channel."""
        to_plan, to_call = self._call("notifications_due", 0.0)[0]
        return bool(to_plan), bool(to_call)

    def overdue_runs(self, limit: int) -> list[tuple[UUID, FailureReason | None]]:
        """Runs that must be stopped and that nobody has stopped, with the reason; at most `limit` for each reason.

        None: a later run takes its place.
        """
        return [
            (run_id, None if reason == "superseded" else FailureReason(reason))
            for run_id, reason in self._call("overdue_runs", limit)
        ]

    def forgotten_runs(self, after: UUID, limit: int) -> tuple[list[UUID], UUID | None]:
        """Open runs in which nothing is busy, among the `limit` next after `after` by id; and where to look next."""
        forgotten, last = self._call("forgotten_runs", after, limit)[0]
        return forgotten, last

    def orphans(self, limit: int) -> list[UUID]:
        """At most `limit` child runs that nobody waits for any more, and nobody has stopped."""
        return [row[0] for row in self._call("orphans", limit)]

    def half_steered(self, seconds: float, limit: int) -> list[tuple[UUID, UUID]]:
        """At most `limit` runs whose child runs were to be paused or resumed so long ago, and perhaps not all were.

        Each is given again after as many seconds, unless that is done by then. Owner and run.
        """
        return [(owner_id, run_id) for owner_id, run_id in self._call("half_steered", seconds, limit)]

    def users_to_follow(self, seconds: float, limit: int) -> list[UUID]:
        """At most `limit` users whose suspension, return or deletion has something left to do.

        Each is given again after as many seconds, unless that is done by then.
        """
        return [user_id for (user_id,) in self._call("users_to_follow", seconds, limit)]

    def free_unneeded(self, key: ExecutionKey, kept: Collection[str]) -> list[ExecutionKey]:
        """Free the slots of credentials but those of the keys `kept`, unless it runs. Who got one."""
        return [ExecutionKey(*row) for row in self._call("free_unneeded", *key, list(kept))]

    def reap_slots(self, limit: int) -> list[ExecutionKey]:
        """Free slots that nobody uses. Who got one."""
        return [ExecutionKey(*row) for row in self._call("reap_slots", limit)]

    def drop_limits(self, limit: int) -> int:
        """Drop the limits of credentials that are gone. How many there were."""
        return int(self._call("drop_limits", limit)[0][0])

    def owners_in_line(self, limit: int) -> list[UUID]:
        """At most `limit` users some of whose runs are not admitted yet."""
        return [row[0] for row in self._call("owners_in_line", limit)]

    def serve(self, lanes: Sequence[str]) -> None:
        """Record that this worker serves these lanes."""
        self._call("serve", list(lanes))

    def unserved(self, key: ExecutionKey, lane: str) -> tuple[float, int] | None:
        """Seconds that a node execution has been ready in an unserved lane, and how often recovery published it then;
        None: the lane is served."""
        seconds, republished = self._call("unserved", *key, lane)[0]
        return None if seconds is None else (seconds, republished)

    def keep_trace(self, key: ExecutionKey, attempt: int, trace: str) -> None:
        """Keep the traceback of the attempt with which a node execution ended FAILED."""
        self._call("keep_trace", *key, attempt, trace)

    def try_lock(self, key: int, idle_seconds: float) -> bool:
        """Take the session's advisory lock `key` if it is free; it goes with the connection.

        From now on the server ends the connection when it is idle for `idle_seconds`: this process is frozen then, or
        its host, and another must get the lock.
        """
        return bool(self._call("try_lock", key, f"{round(idle_seconds * 1000)}ms")[0][0])

    def unlock(self, key: int) -> None:
        """Release the session's advisory lock. If the connection broke meanwhile, it is released already."""
        self._call("unlock", key)
