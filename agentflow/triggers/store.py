"""Stores triggers and what is delivered to them. Decides nothing.

Every function is scoped by owner, but for those that begin with a trigger that is at hand, or with its token's digest.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, defer

from agentflow import pages
from agentflow.accounts.tables import User
from agentflow.triggers.tables import CLAIMING, Outcome, Trigger, TriggerDelivery

_PRUNED_AT_ONCE: Final = 1_000

_STANDING = select(Trigger, User.suspended_at, User.deleting_at).join(User, User.id == Trigger.owner_id)

_CLAIMED = TriggerDelivery.outcome.in_(CLAIMING)

# Two deliveries at once must not wait for each other here: what another transaction deletes is skipped.
_PRUNE = text(
    "DELETE FROM trigger_deliveries WHERE id = ANY (ARRAY("
    "SELECT id FROM trigger_deliveries WHERE trigger_id = :trigger ORDER BY id DESC OFFSET :keep LIMIT :most "
    "FOR UPDATE SKIP LOCKED))"
)
_FORGET = text(
    "UPDATE trigger_deliveries SET payload = NULL, size = 0 WHERE id = ANY (ARRAY("
    "SELECT d.id FROM trigger_deliveries d JOIN ("
    "SELECT id, size, sum(size) OVER (ORDER BY id DESC) AS total FROM trigger_deliveries "
    "WHERE trigger_id = :trigger) s ON s.id = d.id WHERE s.total > :bytes AND s.size > 0 FOR UPDATE OF d SKIP LOCKED))"
)


def add(session: Session, trigger: Trigger) -> None:
    """Write a new trigger."""
    session.add(trigger)
    session.flush()
    session.refresh(trigger)


def count(session: Session, owner_id: UUID) -> int:
    """How many triggers the owner has."""
    return session.scalar(select(func.count()).select_from(Trigger).where(Trigger.owner_id == owner_id)) or 0


def find(session: Session, owner_id: UUID, trigger_id: UUID, *, lock: bool = False) -> Trigger | None:
    """One trigger; `lock`: nobody else changes it until this transaction ends."""
    query = select(Trigger).where(Trigger.id == trigger_id, Trigger.owner_id == owner_id)
    return session.scalar(query.with_for_update() if lock else query)


class Standing(NamedTuple):
    """A trigger, and since when its owner is suspended, or is being deleted."""

    trigger: Trigger
    suspended_at: datetime | None
    deleting_at: datetime | None


def with_digest(session: Session, digest: str) -> Standing | None:
    """The trigger of a token. What it gives to runs is not read: that may be long, and anybody may call."""
    row = session.execute(_STANDING.where(Trigger.digest == digest).options(defer(Trigger.given))).one_or_none()
    return None if row is None else Standing(*row)


def standing(session: Session, trigger_id: UUID) -> Standing | None:
    """A trigger as it is now, whoever owns it. It is not deleted before this transaction ends."""
    locked = _STANDING.where(Trigger.id == trigger_id).with_for_update(of=Trigger, key_share=True, read=True)
    row = session.execute(locked).one_or_none()
    return None if row is None else Standing(*row)


def page(
    session: Session, owner_id: UUID, graph_id: UUID | None, after: UUID | None, limit: int
) -> tuple[list[Trigger], bool]:
    """The owner's triggers (of a graph), the newest first, below the id `after`, and whether there are more."""
    query = select(Trigger).where(Trigger.owner_id == owner_id)
    if graph_id is not None:
        query = query.where(Trigger.graph_id == graph_id)
    if after is not None:
        query = query.where(Trigger.id < after)
    rows, more = pages.page(session, query.order_by(Trigger.id.desc()), limit, Trigger.given, Trigger.terms)
    return [trigger for (trigger,) in rows], more


def naming(session: Session, owner_id: UUID, id: UUID, limit: int) -> Sequence[str]:
    """The names of at most `limit` of the owner's triggers that give a run something with this id, the newest first."""
    query = select(Trigger.name).where(Trigger.owner_id == owner_id, Trigger.given.icontains(str(id)))
    return session.scalars(query.order_by(Trigger.id.desc()).limit(limit)).all()


def changed(session: Session, trigger: Trigger) -> None:
    """Write what was changed on it."""
    trigger.updated_at = func.clock_timestamp()
    session.flush()
    session.refresh(trigger)


def remove(session: Session, trigger: Trigger) -> None:
    """Delete it, with its deliveries."""
    session.delete(trigger)
    session.flush()


def count_rejected(session: Session, trigger_id: UUID, reason: str) -> None:
    """Count a delivery that is not listed."""
    session.execute(
        update(Trigger)
        .where(Trigger.id == trigger_id)
        .values(rejected=Trigger.rejected + 1, rejected_at=func.now(), rejected_reason=reason)
        .execution_options(synchronize_session=False)
    )


def note_refusal(session: Session, trigger_id: UUID, most: int, reason: str) -> bool:
    """Count a refusal; from `most` in a row on the trigger is paused. Returns whether this one pauses it."""
    refusals = session.scalar(
        update(Trigger)
        .where(Trigger.id == trigger_id)
        .values(refusals=Trigger.refusals + 1)
        .returning(Trigger.refusals)
        .execution_options(synchronize_session=False)
    )
    if refusals is None or refusals < most:
        return False
    paused = session.scalar(
        update(Trigger)
        .where(Trigger.id == trigger_id, Trigger.paused_at.is_(None))
        .values(paused_at=func.now(), pause_reason=reason)
        .returning(Trigger.id)
        .execution_options(synchronize_session=False)
    )
    return paused is not None


def note_success(session: Session, trigger_id: UUID) -> None:
    """Begin to count refusals anew."""
    session.execute(
        update(Trigger)
        .where(Trigger.id == trigger_id, Trigger.refusals > 0)
        .values(refusals=0)
        .execution_options(synchronize_session=False)
    )


def claim(session: Session, delivery: TriggerDelivery) -> TriggerDelivery | None:
    """Write a delivery that does something, unless one with its id did; that is returned, then.

    Of two at once the second waits here for the end of the first one's transaction.
    """
    values = {column.key: getattr(delivery, column.key) for column in TriggerDelivery.__table__.columns}
    given = {name: value for name, value in values.items() if value is not None}
    add = (
        insert(TriggerDelivery)
        .values(**given)
        .on_conflict_do_nothing(index_elements=["trigger_id", "delivery_id"], index_where=_CLAIMED)
        .returning(TriggerDelivery.id)
    )
    look = select(TriggerDelivery).where(
        TriggerDelivery.trigger_id == delivery.trigger_id,
        TriggerDelivery.delivery_id == delivery.delivery_id,
        _CLAIMED,
    )
    while session.scalar(add) is None:
        if (earlier := session.scalars(look).one_or_none()) is not None:
            return earlier
        # It was deleted in between, as one of too many.
    return None


def count_repeat(session: Session, delivery_id: UUID) -> None:
    """Note that the same was delivered once more."""
    session.execute(
        update(TriggerDelivery)
        .where(TriggerDelivery.id == delivery_id)
        .values(repeats=TriggerDelivery.repeats + 1, repeated_at=func.now())
        .execution_options(synchronize_session=False)
    )


def settle(session: Session, delivery_id: UUID, outcome: Outcome, run_id: UUID, signal: str | None = None) -> None:
    """Write what a delivery did."""
    session.execute(
        update(TriggerDelivery)
        .where(TriggerDelivery.id == delivery_id)
        .values(outcome=outcome, run_id=run_id, signal=signal)
        .execution_options(synchronize_session=False)
    )


def prune(session: Session, trigger_id: UUID, keep: int, most_bytes: int) -> None:
    """Delete a trigger's deliveries beyond the newest `keep`, and the payloads beyond the newest `most_bytes`."""
    session.execute(_PRUNE, {"trigger": trigger_id, "keep": keep, "most": _PRUNED_AT_ONCE})
    session.execute(_FORGET, {"trigger": trigger_id, "bytes": most_bytes})


def deliveries(
    session: Session, owner_id: UUID, trigger_id: UUID, outcome: Outcome | None, after: UUID | None, limit: int
) -> Sequence[TriggerDelivery]:
    """A trigger's deliveries without their payloads, the newest first, below the id `after`."""
    query = select(TriggerDelivery).where(
        TriggerDelivery.trigger_id == trigger_id, TriggerDelivery.owner_id == owner_id
    )
    if outcome is not None:
        query = query.where(TriggerDelivery.outcome == outcome)
    if after is not None:
        query = query.where(TriggerDelivery.id < after)
    listed = query.options(defer(TriggerDelivery.payload)).order_by(TriggerDelivery.id.desc())
    return session.scalars(listed.limit(limit)).all()


def delivery(session: Session, owner_id: UUID, trigger_id: UUID, id: UUID) -> TriggerDelivery | None:
    """One of a trigger's deliveries."""
    return session.scalar(
        select(TriggerDelivery).where(
            TriggerDelivery.id == id, TriggerDelivery.trigger_id == trigger_id, TriggerDelivery.owner_id == owner_id
        )
    )


def under_other_keys(session: Session, key_id: str, after: UUID | None, limit: int) -> Sequence[Trigger]:
    """Triggers of everybody whose secrets another key encrypted, by id, above `after`, locked for this transaction."""
    query = select(Trigger).where(Trigger.key_id != key_id)
    if after is not None:
        query = query.where(Trigger.id > after)
    return session.scalars(query.order_by(Trigger.id).limit(limit).with_for_update()).all()


def everybodys(session: Session, after: UUID | None, limit: int) -> Sequence[Trigger]:
    """Triggers of everybody that have a secret, by id, above the id `after`."""
    query = select(Trigger).where(Trigger.secret.is_not(None))
    if after is not None:
        query = query.where(Trigger.id > after)
    return session.scalars(query.order_by(Trigger.id).limit(limit)).all()


def count_under_other_keys(session: Session, key_id: str) -> int:
    """How many triggers have secrets that another key encrypted."""
    query = select(func.count()).select_from(Trigger).where(Trigger.key_id != key_id)
    return session.scalar(query) or 0
