"""Holds the state of one attempt, and stores what its block yields.

An attempt collects what its block yields and settles it in batches: at the end, or `flush_seconds` after a value when
the block takes longer. Outputs that an earlier attempt stored are yielded again, and dropped.
"""

import logging
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any

from agentflow.blocks.base import Block, check_output
from agentflow.credentials.granting import Granted
from agentflow.dispatch import publish
from agentflow.engine.codec import dumps, loads
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.inputs import collect
from agentflow.engine.routing import Batch, Router
from agentflow.engine.settlement import FLUSHED, Charge, Settlement, Transition, settlement
from agentflow.engine.statuses import FailureReason, NodeStatus
from agentflow.errors import BadInput, BlockBug, EngineError, NotAllowed, Unavailable
from agentflow.forking import lazy
from agentflow.graph.catalogue import BlockKind
from agentflow.logs import log_outage, redact_lines
from agentflow.moderation import checking as moderation
from agentflow.moderation import store as refusals
from agentflow.moderation.store import Refused
from agentflow.services import secrecy
from agentflow.services.transaction import transaction
from agentflow.settings import settings
from agentflow.storage.hot.node_executions import Claim, Settled
from agentflow.storage.runs import Ready
from agentflow.worker.billing import Tab
from agentflow.worker.error_facts import error_facts
from agentflow.worker.follow import end_if_quiescent, follow
from agentflow.worker.interrupts import Interrupts
from agentflow.worker.process import Process, RunContext

logger = logging.getLogger(__name__)

_BATCH_OUTPUTS = 1_000  # a larger batch is settled at once, so that no transaction grows without bound
_BATCH_BYTES = 4 * 1024 * 1024
_SETTLE_PATIENCE = timedelta(minutes=2)  # seconds that a settle is repeated while PostgreSQL is away


class Attempt:
    """One claimed attempt at a node execution."""

    def __init__(
        self,
        process: Process,
        interrupts: Interrupts,
        run: RunContext,
        key: ExecutionKey,
        lease: Lease,
        claim: Claim,
    ) -> None:
        self.process = process
        self.interrupts = interrupts
        self.run = run
        self.key = key
        self.node = run.plan.nodes[key.node]
        self.lease = lease
        self.claim = claim
        self.kept: list[tuple[str, Any]] | None = None  # all that it yields, if that is to be cached
        self.kept_before: list[tuple[str, Any]] | None = None  # its cached outputs, if they were found before the claim
        self.cache_key = ""
        self.may_be_kept: Callable[[Collection[str]], bool] = bool  # asked with the pins that it yielded on
        self.has_slots = False  # it may hold slots of credentials that one alone may use
        self.slots: frozenset[str] = frozenset()  # the keys of those that its claim took
        self.granted: Granted | None = None  # the credentials that it may use; None: its block takes none
        self.handed: frozenset[str] = frozenset()  # the secrets of those that its block asked for
        self.stats: dict[str, float] = {}  # what the block reported in this attempt
        self._searched: frozenset[str] = frozenset()  # of those handed, what a message is searched for
        self._forms: frozenset[str] = frozenset()  # those handed, as JSON quotes them
        self.tab = Tab(run.owner_id, self.node, lease, claim)
        self._charge: Charge | None = None
        self._router = Router(self.node)
        self._ordinal = claim.resumed_from or 0
        self._batch = Batch(first=claim.emitted)
        self._bytes = 0
        self._atomic = False
        self._closed = False  # settled for good, or the lease is lost: nothing more is stored

    def emit(self, block: Block, pin: str, value: Any) -> None:
        """Take what the block yielded; it is stored at the end, or after `flush_seconds`.

        Raises:
            BlockBug: the pin is not declared, or the value is not of its type, not JSON, too large, or one too many.
        """
        check_output(block, pin, value)
        self.repeat(block, pin, value)

    def repeat(self, block: Block, pin: str, value: Any) -> None:
        """Take a value that the block yielded before and that was valid then: as JSON it may have another type (NaN).

        Raises:
            BlockBug: the value is not JSON, too large, or one too many.
            NotAllowed: it is an output of the run, and moderation refuses it.
        """
        if self._ordinal >= settings().max_outputs:
            raise BlockBug(f"the block yielded more than {settings().max_outputs} values")
        text = dumps(value)
        if self.handed and (shown := self.without_secrets(value, text)) is not value:
            value, text = shown, dumps(shown)
        if len(text) > settings().max_value_bytes or len(text.encode()) > settings().max_value_bytes:
            raise BlockBug(f"the value on pin {pin!r} is larger than {settings().max_value_bytes} bytes")
        if self.node.kind is BlockKind.OUTPUT and moderation.is_on():
            self._refuse_unless_allowed(value)
        self._ordinal += 1
        if self.kept is not None:
            self.kept.append((pin, value))
        if self._ordinal <= self.claim.emitted:
            return
        with self.process.lock:
            self._router.add(self._batch, pin, value, text)
            self._bytes += len(text)
            full = self._batch.count >= _BATCH_OUTPUTS or self._bytes >= _BATCH_BYTES
        self._atomic = block.atomic
        if self._atomic:
            return
        if full:
            self.flush()
        else:
            self.interrupts.flush_in(settings().flush_seconds)

    def _refuse_unless_allowed(self, value: Any) -> None:
        of = {"run_id": str(self.run.run_id), "owner_id": str(self.run.owner_id), "node_id": self.node.id}
        verdict = moderation.check("output", value, of)
        if not verdict.allowed:
            if settings().moderation_keep:
                with transaction() as session:
                    refusals.keep(session, Refused(self.run.owner_id, self.run.run_id, self.node.id, verdict, value))
            told = ": ".join(filter(None, (", ".join(verdict.categories), verdict.reason)))
            raise NotAllowed(f"moderation refused what this node gives{f': {told}' if told else ''}")

    def report(self, **counts: float) -> None:
        """Add to what the block reported in this attempt; zeros are left out."""
        for name, count in counts.items():
            if count:
                self.stats[name] = self.stats.get(name, 0) + count

    @lazy
    def secrets(self) -> frozenset[str]:
        """The secrets that no message of this attempt may show: those in its inputs, and the operator's."""
        mask = self.run.masks.get(self.node.id, {})
        delivered: dict[str, Any] = {}
        try:
            delivered = loads(self.claim.inputs) if self.claim.inputs else {}
            inputs = collect(self.node, delivered, mask)
        except (BadInput, ValueError, RecursionError):  # this is why it failed
            inputs = {**self.node.input_default, **delivered, **mask}
        own = secrecy.secrets_of(self.run.plan, self.node, inputs)
        return frozenset(own | secrecy.secrets_of_credentials(settings().credentials.values()))

    def redacted(self, text: str) -> str:
        """`text`, a message of this attempt, without its secrets."""
        return secrecy.redacted(text, self.secrets | self._searched)

    def hand(self, secrets: frozenset[str]) -> None:
        """Note that the block gets these secrets: from now on nothing that it gives is stored or logged with them."""
        if not secrets <= self.handed:
            self.handed |= secrets
            self._searched = searched = frozenset(one for one in self.handed if len(one) >= secrecy.MIN_SEARCHED)
            redact_lines(lambda line: secrecy.redacted(line, searched))
            self._forms = frozenset(form for secret in self.handed for form in secrecy.forms_in_json(secret))

    def without_secrets(self, value: Any, text: str | None = None) -> Any:
        """`value`, which the block gives, without the secrets that it got; the same object where it has none.

        Args:
            value: a JSON value.
            text: its JSON text, where that is known: searching it is cheaper than walking through the value.
        """
        if not self.handed or (text is not None and not any(form in text for form in self._forms)):
            return value
        return secrecy.without_texts(value, self.handed)

    def flush_in_background(self) -> None:
        """`flush` for the flusher's thread; the next settle repeats what fails here."""
        try:
            self.flush()
        except Unavailable as error:
            log_outage(logger, "flush_postponed", error, run=str(self.run.run_id))
        except Exception:
            logger.exception("flush_failed", extra={"run": str(self.run.run_id), "node": self.node.id})

    def flush(self) -> None:
        """Store what was yielded so far; the node execution stays RUNNING."""
        with self.process.lock:
            # Closed: the flusher was woken for this attempt and comes while the next one runs.
            if self._closed:
                return
            if self._batch.count:
                settled, made = self._settle(FLUSHED)
                follow(self.process, self.run, made, settled)
                self._batch = Batch(first=self._batch.first + self._batch.count)
                self._bytes = 0
                if settled.verdict != "landed":
                    self._closed = settled.verdict == "lost"
                    self.interrupts.stop()
            self.interrupts.flushed()

    def settle(self, transition: Transition) -> tuple[Settlement, Settled | None]:
        """Record how the attempt ended; if it failed, its error is the last output, on the error pin.

        Returns:
            what was recorded (FAILED, if PostgreSQL refuses the rest), and the reply; None if the lease was lost
            before.
        """
        with self.process.lock:
            if self._closed:
                return self._settlement(transition), None
            self._closed = True
            if self._atomic and transition.status not in (NodeStatus.COMPLETED, NodeStatus.WAITING):
                self._batch = Batch(first=self.claim.emitted)
            price, self._charge = self.tab.close(self.stats, transition)
            self.report(cost=price)
            unpaid = transition.reason == FailureReason.INSUFFICIENT_BALANCE  # its run ends: nobody handles that
            if transition.status is NodeStatus.FAILED and not unpaid:
                facts = self._facts(transition.reason)
                self._router.add_error(self._batch, transition.error or "", self.claim.attempt, facts)
            settled, made = self._settle_or_fail(transition)
            follow(self.process, self.run, made, settled)
            return made, settled

    def _facts(self, reason: str | None) -> dict[str, Any] | None:
        if not self._router.selects_from_error:
            return None
        delivered = loads(self.claim.inputs) if self.claim.inputs else {}
        return error_facts(self.run, self.key, self.claim.attempt, reason, delivered)

    def return_lease(self) -> None:
        """Return the lease: there is to be a new attempt, which is no loss. What was stored stays stored."""
        with self.process.lock:
            if not self._closed:
                self._closed = True
                nobody = self.lease._replace(holder="", seconds=0)
                loss = self.process.hot.return_lease(self.key, self.lease.token, nobody, expired=False, bearable=None)
                self.run.wake()
                if loss.verdict == "queued":
                    publish(self.run, [Ready(self.key.node, self.key.idx)])
                elif loss.verdict == "stopped":
                    end_if_quiescent(self.process.hot, self.run)

    def _settle_or_fail(self, transition: Transition) -> tuple[Settled, Settlement]:
        """Settle. If PostgreSQL refuses to store it, the node execution fails, and nothing is tried for ever."""
        try:
            return self._settle(transition)
        except Unavailable:
            raise
        except Exception as error:
            logger.exception("settle_refused", extra={"run": str(self.run.run_id), "node": self.node.id})
            self._batch = Batch(first=self._batch.first)
            why = error.message if isinstance(error, EngineError) else type(error).__name__
            self.kept = None
            self.stats = {}
            self._charge = self.tab.nothing()
            return self._settle(Transition.failed("system", f"what the block yielded cannot be stored: {why}"))

    def _settlement(self, transition: Transition) -> Settlement:
        in_child_run = self.run.parent_run_id is not None
        return settlement(
            self.run.plan,
            self.key,
            self.lease,
            self._batch,
            transition,
            in_child_run=in_child_run,
            stats=self.stats,
            charge=self._charge,
            has_slots=self.has_slots,
        )

    def _settle(self, transition: Transition) -> tuple[Settled, Settlement]:
        made = self._settlement(transition)
        give_up_at = time.monotonic() + _SETTLE_PATIENCE.total_seconds()
        pause = 0.1
        while True:
            try:
                return self.process.hot.settle(made), made
            except Unavailable as error:
                # The work is done, so waiting pays. If the lease runs out meanwhile, the settle does not land.
                if time.monotonic() > give_up_at:
                    raise
                log_outage(logger, "settle_postponed", error, run=str(self.run.run_id))
                time.sleep(pause)
                pause = min(pause * 2, 5.0)
