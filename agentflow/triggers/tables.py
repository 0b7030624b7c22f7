"""Triggers, and what was delivered to them."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, func, text
from sqlalchemy.orm import Mapped, mapped_column

from agentflow.credentials.encryption import Bound
from agentflow.table import Table, one_of
from agentflow.triggers.signatures import Scheme


class Outcome(StrEnum):
    """What a delivery did."""

    RUN = "run"  # it began a run
    SIGNAL = "signal"  # a run that was there got it
    IGNORED = "ignored"  # the filter does not want it, or it is a test of its sender's
    DUPLICATE = "duplicate"  # it began a run before
    REFUSED = "refused"


CLAIMING = (Outcome.RUN, Outcome.SIGNAL, Outcome.DUPLICATE)
"""Outcomes after which a delivery with the same id does nothing more."""


class Trigger(Table):
    """What happens when a webhook is called. Its secrets are encrypted, and bound to its id and owner."""

    __tablename__ = "triggers"
    __table_args__ = (
        CheckConstraint(one_of("scheme", Scheme), name="scheme_known"),
        CheckConstraint("(secret IS NULL) = (key_id IS NULL)", name="secret_has_a_key"),
        Index("triggers_owner_idx", "owner_id", text("id DESC")),
        Index("triggers_digest_key", "digest", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    # No foreign keys: a trigger outlives its graph and its preset, and says in its deliveries that they are gone.
    graph_id: Mapped[UUID | None]  # null: the preset's; of one that sends signals: of any graph
    preset_id: Mapped[UUID | None]
    version: Mapped[int | None]  # of the graph; null: the latest, or the preset's
    node: Mapped[str | None]  # which gets the payload; null: the only one that takes one
    given: Mapped[str]  # JSON text: what a run gets, as of a preset
    terms: Mapped[str]  # JSON text: `schemas.Terms`
    digest: Mapped[str]  # SHA-256 in hex of its token
    scheme: Mapped[str]  # Scheme
    secret: Mapped[bytes | None] = mapped_column(LargeBinary)  # encrypted: {secrets: [...]}, the newest first
    key_id: Mapped[str | None]  # the key of the ring that encrypted it
    former_until: Mapped[datetime | None]  # until when the secrets but the newest count, too
    wait: Mapped[int | None]  # seconds that it waits for a run's end, unless asked otherwise; null: if asked; 0: never
    keep: Mapped[int]  # deliveries that stay listed
    paused_at: Mapped[datetime | None]
    pause_reason: Mapped[str | None]
    refusals: Mapped[int] = mapped_column(server_default=text("0"))  # in a row, of what was signed and fit
    rejected: Mapped[int] = mapped_column(server_default=text("0"))  # which were not: counted, and not listed
    rejected_at: Mapped[datetime | None]  # the last of these
    rejected_reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


def bound_of(trigger: Trigger) -> Bound:
    """What the secrets of a trigger are bound to."""
    return Bound(trigger.id, trigger.owner_id, "trigger", trigger.scheme, {})


class TriggerDelivery(Table):
    """What came in, and what it did."""

    __tablename__ = "trigger_deliveries"
    __table_args__ = (
        CheckConstraint(one_of("outcome", Outcome), name="outcome_known"),
        Index(
            "trigger_deliveries_claim_key",
            "trigger_id",
            "delivery_id",
            unique=True,
            postgresql_where=text(one_of("outcome", CLAIMING)),
        ),
        # With the size, so that what is beyond the bounds is found without reading the rows.
        Index("trigger_deliveries_trigger_idx", "trigger_id", text("id DESC"), postgresql_include=["size"]),
        Index("trigger_deliveries_owner_idx", "owner_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    trigger_id: Mapped[UUID] = mapped_column(ForeignKey("triggers.id", ondelete="CASCADE"))
    outcome: Mapped[str]  # Outcome
    delivery_id: Mapped[str | None]  # as its sender calls it; null: it does not say, or the same was delivered again
    event: Mapped[str | None]  # its type, as its sender says
    run_id: Mapped[UUID | None]
    signal: Mapped[str | None]  # the name under which the run got it
    reason: Mapped[str | None]  # why it was ignored or refused
    payload: Mapped[str | None]  # JSON text; null: forgotten, as it was among the oldest
    size: Mapped[int]  # bytes of the payload that is kept
    source: Mapped[str]  # the address of the sender; of one that was delivered again: who asked for it
    redelivery_of: Mapped[UUID | None]
    repeats: Mapped[int] = mapped_column(server_default=text("0"))  # how often it came once more, to no effect
    repeated_at: Mapped[datetime | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
