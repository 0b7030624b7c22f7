"""Takes what other systems deliver: begins a run with it, or hands it to one that is there.

What a delivery did is written in the transaction in which it does it. A delivery that does something claims its id
first: one that comes at the same time waits for the end of that transaction, and then does nothing. What is refused is
written in a transaction of its own, and so is the pause of a trigger that refuses again and again.

`identify` and `signatures.verify` come first, on the body as it was sent. What does not get so far is only counted:
anybody who learns the address could fill the list with it.
"""

import hashlib
import hmac
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy.orm import Session

from agentflow.clock import now
from agentflow.engine.codec import dumps, loads, storable_text
from agentflow.errors import (
    ClientError,
    Conflict,
    Forbidden,
    GraphInvalid,
    Malformed,
    NotFound,
    SystemFault,
    Unavailable,
)
from agentflow.graph.names import checked_event
from agentflow.ids import new_id
from agentflow.notifications import service as notifications
from agentflow.notifications.kinds import Kind
from agentflow.services import reviews, submissions
from agentflow.services.run_views import RunFilter
from agentflow.services.transaction import Look, Step, Steps
from agentflow.storage.views import runs as run_views
from agentflow.triggers import senders, service, store
from agentflow.triggers.filters import MISSING, first_unmet, read
from agentflow.triggers.senders import Place
from agentflow.triggers.signatures import Headers, Scheme
from agentflow.triggers.tables import Outcome, Trigger, TriggerDelivery
from agentflow.triggers.terms import Filter, SignalTerms, Source, Terms

logger = logging.getLogger(__name__)

MOST_REFUSALS: Final = 10
"""Refusals in a row, because no run can begin, after which a trigger pauses itself."""

MOST_BYTES: Final = 16 * 1024 * 1024
"""Bytes of payloads that are kept of one trigger; the oldest are forgotten first."""

REDELIVERED: Final = "redelivered"
"""The source of what the owner delivers again."""

_LONGEST_TOKEN: Final = 100


@dataclass(frozen=True, slots=True)
class Hook:
    """What is known of a trigger when its webhook is called."""

    id: UUID
    owner_id: UUID
    scheme: Scheme
    secrets: Sequence[SecretStr]
    terms: Terms
    wait: int | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is delivered.

    Attributes:
        payload: a JSON value.
        source: the address that it comes from.
        delivery_id: as its sender calls it; None: it does not say.
        event: its type, as its sender says.
        is_test: its sender only tries out the address.
        redelivery_of: the delivery that is delivered again by the trigger's owner.
    """

    payload: Any
    source: str
    delivery_id: str | None = None
    event: str | None = None
    is_test: bool = False
    redelivery_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What a delivery did. `delivery_id`: of the row that lists it, or the first that it repeats."""

    outcome: Outcome
    delivery_id: UUID
    run_id: UUID | None = None
    reason: str | None = None


def identify(session: Session, token: str) -> Hook:
    """The trigger with this token.

    Raises:
        NotFound: there is none.
        Unavailable: its secrets cannot be read.
    """
    digest = service.digest(token) if len(token) <= _LONGEST_TOKEN else ""
    found = store.with_digest(session, digest)
    # The look-up is by a digest, so its time tells nothing of the token; what it found is compared in constant time.
    if found is None or not hmac.compare_digest(found.trigger.digest, digest) or found.deleting_at is not None:
        raise NotFound("there is no such webhook")
    trigger = found.trigger
    try:
        secrets = service.secrets_of(trigger)
    except SystemFault as fault:
        raise Unavailable(fault.message) from None
    return Hook(trigger.id, trigger.owner_id, Scheme(trigger.scheme), secrets, service.terms_of(trigger), trigger.wait)


def reject(session: Session, hook: Hook, source: str, error: ClientError, *, signed: bool) -> None:
    """Note that something was delivered that cannot be read. What is not signed is counted, and not listed."""
    reason = storable_text(error.in_a_line)
    if not signed or hook.scheme is Scheme.NONE:
        store.count_rejected(session, hook.id, reason)
        return
    found = store.standing(session, hook.id)
    if found is not None and found.deleting_at is None:
        _list(session, found.trigger, Arrival(None, source), Outcome.REFUSED, reason, with_payload=False)


def arrival(hook: Hook, headers: Headers, payload: Any, source: str) -> Arrival:
    """What is delivered, with what its sender says about it.

    Raises:
        Malformed: its id or its event's type is none.
    """
    terms = hook.terms
    ids = _places(terms.delivery_id, senders.IDS[hook.scheme])
    events = _places(terms.filter.event, senders.EVENTS[hook.scheme])
    event = senders.said(events, headers, payload)
    is_test = senders.is_ping(hook.scheme, headers) and senders.PING not in terms.filter.events
    return Arrival(payload, source, senders.said(ids, headers, payload), event, is_test)


def deliver(hook_id: UUID, came: Arrival) -> Steps[Done]:
    """Do what a trigger does with what came.

    Raises:
        NotFound: the trigger is gone; or its graph, the version or the preset is.
        Forbidden: its owner is suspended.
        Conflict: it is paused; or no open run is there to get the signal.
        ClientError: the run cannot begin: as `submissions.submit`.
    """
    try:
        done: Done = yield Step(_accept, hook_id, came)
    except ClientError as error:
        yield Look(_refuse, hook_id, came, error)  # for the audit log: nothing that was asked for is done
        raise
    return done


def redeliver(owner_id: UUID, trigger_id: UUID, delivery_id: UUID) -> Steps[Done]:
    """Deliver again what was delivered once. It counts, also if it did something the first time.

    Raises:
        NotFound: the owner has no such trigger, or it no such delivery.
        Conflict: its payload is no longer kept; or as in `deliver`.
        ClientError: as in `deliver`.
    """
    first: TriggerDelivery = yield Look(service.delivery, owner_id, trigger_id, delivery_id)
    if first.payload is None:
        raise Conflict(f"the payload of delivery {delivery_id} is no longer kept")
    of = first.redelivery_of or first.id
    came = Arrival(loads(first.payload), REDELIVERED, first.delivery_id, first.event, redelivery_of=of)
    done: Done = yield from deliver(trigger_id, came)
    return done


def _accept(session: Session, trigger_id: UUID, came: Arrival) -> Done:
    found = store.standing(session, trigger_id)
    if found is None or found.deleting_at is not None:
        raise NotFound("there is no such webhook")
    trigger = found.trigger
    if found.suspended_at is not None:
        raise Forbidden("the owner of this webhook is suspended")
    if trigger.paused_at is not None:
        raise Conflict(f"this webhook is paused: {trigger.pause_reason}")
    terms = service.terms_of(trigger)
    if (why := _unwanted(terms.filter, came)) is not None:
        listed = _list(session, trigger, came, Outcome.IGNORED, why)
        return Done(Outcome.IGNORED, listed, reason=why)
    return _act(session, trigger, terms, came)


def _act(session: Session, trigger: Trigger, terms: Terms, came: Arrival) -> Done:
    outcome = Outcome.RUN if terms.signal is None else Outcome.SIGNAL
    row = _row(trigger, came, outcome)
    if (earlier := store.claim(session, row)) is not None:
        if came.redelivery_of is None:
            store.count_repeat(session, earlier.id)
            return Done(Outcome.DUPLICATE, earlier.id, earlier.run_id, "a delivery with this id came before")
        came = replace(came, delivery_id=None)
        row = _row(trigger, came, outcome)
        store.claim(session, row)
    name: str | None = None
    if terms.signal is not None:
        run_id, name = _signal(session, trigger, terms.signal, came.payload)
    else:
        run_id, replayed = _begin(session, trigger, came)
        outcome = Outcome.DUPLICATE if replayed else outcome
    store.settle(session, row.id, outcome, run_id, name)
    if trigger.refusals:
        store.note_success(session, trigger.id)
    store.prune(session, trigger.id, trigger.keep, MOST_BYTES)
    return Done(outcome, row.id, run_id)


def _begin(session: Session, trigger: Trigger, came: Arrival) -> tuple[UUID, bool]:
    """Begin a run; its id, and whether it was begun before by a delivery that is no longer listed."""
    target, wanted = service.to_run(session, trigger.owner_id, service.draft_of(trigger), came.payload)
    key = asked = None
    if came.delivery_id is not None:
        key = f"trigger {trigger.id} {hashlib.sha256(came.delivery_id.encode()).hexdigest()}"
        asked = ["trigger", str(trigger.id), came.delivery_id]
    accepted = submissions.submit(session, trigger.owner_id, target, wanted, key, asked=asked)
    return accepted.run_id, accepted.replayed


def _signal(session: Session, trigger: Trigger, terms: SignalTerms, payload: Any) -> tuple[UUID, str]:
    name = terms.name
    if name is None:
        assert terms.name_path is not None
        name = _text_at(terms.name_path, payload)
        try:
            checked_event(name)
        except ValueError as error:
            raise Malformed(f"{terms.name_path}: {error}") from None
    run_id = _run_for(session, trigger, terms, payload)
    try:
        reviews.signal(session, trigger.owner_id, run_id, name, payload)
    except NotFound as error:
        raise Conflict(error.message) from None
    return run_id, name


def _run_for(session: Session, trigger: Trigger, terms: SignalTerms, payload: Any) -> UUID:
    if terms.run is not None:
        try:
            run_id = UUID(_text_at(terms.run, payload))
        except ValueError:
            raise Malformed(f"{terms.run}: this is no id of a run") from None
        run = run_views.find(session, trigger.owner_id, run_id)
        if run is None or (trigger.graph_id is not None and run.graph_id != trigger.graph_id):
            raise Conflict(f"there is no run {run_id} for this webhook")
        return run_id
    labels = {label: _text_at(path, payload) for label, path in terms.labels.items()}
    wanted = RunFilter(graph_id=trigger.graph_id, labels=labels)
    found = run_views.open_ids(session, trigger.owner_id, wanted, 1)
    if not found:
        raise Conflict(f"no open run has the labels that the payload says ({', '.join(labels)})")
    return found[0]


def _text_at(path: str, payload: Any) -> str:
    found = read(path, payload)
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or not 0 < len(found) <= senders.MAX_SAID or not found.isprintable():
        what = "nothing" if found is MISSING else "no text that can be used"
        raise Malformed(f"the payload has {what} at {path}")
    return found


def _unwanted(wanted: Filter, came: Arrival) -> str | None:
    """Why the filter does not want it; None: it does."""
    if came.is_test:
        return "its sender only tries out the address"
    if wanted.events and came.event not in wanted.events:
        return "the filter takes no event of this type" if came.event else "it does not say of which type its event is"
    unmet = first_unmet([one.as_condition() for one in wanted.conditions], came.payload)
    return None if unmet is None else f"the filter's condition on {unmet.path} does not hold"


def _refuse(session: Session, trigger_id: UUID, came: Arrival, error: ClientError) -> None:
    found = store.standing(session, trigger_id)
    if found is None or found.deleting_at is not None:
        return
    trigger = found.trigger
    reason = storable_text(error.in_a_line)
    _list(session, trigger, came, Outcome.REFUSED, reason)
    begins = service.terms_of(trigger).signal is None
    if begins and isinstance(error, GraphInvalid | NotFound):
        why = f"{MOST_REFUSALS} deliveries in a row could not begin a run: {reason}"
        if store.note_refusal(session, trigger.id, MOST_REFUSALS, why):
            cause = f"trigger-paused:{trigger.id}:{now().isoformat()}"
            about = {"trigger": str(trigger.id), "name": trigger.name, "reason": why}
            notifications.note(session, trigger.owner_id, Kind.TRIGGER_PAUSED, cause, about)
            logger.warning("trigger_paused_itself", extra={"trigger": str(trigger.id), "owner": str(trigger.owner_id)})


def _list(
    session: Session, trigger: Trigger, came: Arrival, outcome: Outcome, reason: str, *, with_payload: bool = True
) -> UUID:
    """List a delivery that does nothing."""
    row = _row(trigger, came, outcome, with_payload=with_payload)
    row.reason = reason
    session.add(row)
    session.flush()
    session.expunge(row)
    store.prune(session, trigger.id, trigger.keep, MOST_BYTES)
    return row.id


def _row(trigger: Trigger, came: Arrival, outcome: Outcome, *, with_payload: bool = True) -> TriggerDelivery:
    text = dumps(came.payload) if with_payload else None
    return TriggerDelivery(
        id=new_id(),
        owner_id=trigger.owner_id,
        trigger_id=trigger.id,
        outcome=outcome,
        delivery_id=came.delivery_id,
        event=came.event,
        payload=text,
        size=len(text.encode()) if text else 0,
        source=came.source,
        redelivery_of=came.redelivery_of,
    )


def _places(given: Source | None, usual: tuple[Place, ...]) -> tuple[Place, ...]:
    return usual if given is None else (Place(given.header, given.path),)
