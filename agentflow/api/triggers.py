"""Serves `/api/v1/triggers`: what happens when other systems send webhooks, and what they sent."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response, request, url_for
from pydantic import BaseModel
from sqlalchemy.orm import Session

from agentflow.api import audit
from agentflow.api.blueprint import blueprint, owner_id
from agentflow.api.given import changed_given, given_of, shown_values
from agentflow.api.payloads import HOOKS
from agentflow.api.replies import reply
from agentflow.api.requests import optional_body
from agentflow.engine.codec import loads
from agentflow.errors import Conflict, Malformed, Problem
from agentflow.graph.withholding import hidden_entry
from agentflow.schemas.problems import places
from agentflow.services.cursors import PageRequest
from agentflow.services.transaction import carry_out, transaction
from agentflow.settings import settings
from agentflow.triggers import hooks
from agentflow.triggers import service as triggers
from agentflow.triggers.schemas import (
    ChangeTrigger,
    DeliveryLine,
    DeliveryList,
    DeliveryListQuery,
    DeliveryView,
    HookAnswer,
    NewTrigger,
    PauseTrigger,
    RejectedView,
    RotateTrigger,
    TriggerList,
    TriggerListQuery,
    TriggerMade,
    TriggerView,
)
from agentflow.triggers.service import Draft, Made
from agentflow.triggers.tables import Outcome, Trigger, TriggerDelivery
from agentflow.triggers.terms import Terms

api = blueprint("triggers", "What happens when another system sends a webhook.")


class TriggerPath(BaseModel):
    """Which trigger."""

    trigger_id: UUID


class DeliveryPath(BaseModel):
    """Which delivery of which trigger."""

    trigger_id: UUID
    delivery_id: UUID


@api.post("/triggers", responses={201: TriggerMade})
def create_trigger(body: NewTrigger) -> Response:
    """Make a trigger. Its token, and its secret if one is made, are shown this once."""
    terms = Terms.model_validate({name: getattr(body, name) for name in Terms.model_fields})
    given, wait, keep = given_of(body), body.wait, body.keep
    draft = Draft(body.name, body.graph_id, body.preset_id, body.version, body.node, given, terms, wait, keep)
    with transaction() as session:
        made = triggers.create(session, owner_id(), draft, body.scheme, body.secret)
        audit.made(made.trigger.id)
        response = reply(_made(session, made), 201)
    response.headers["Location"] = url_for("triggers.get_trigger", trigger_id=made.trigger.id)
    return response


@api.get("/triggers", responses={200: TriggerList})
def list_triggers(query: TriggerListQuery) -> Response:
    """List triggers, the newest first."""
    with transaction() as session:
        found, more = triggers.page(session, owner_id(), query.graph_id, PageRequest(query.after, query.limit))
        return reply(TriggerList(items=[_view(session, one) for one in found], next_cursor=more))


@api.get("/triggers/<uuid:trigger_id>", responses={200: TriggerView})
def get_trigger(path: TriggerPath) -> Response:
    """A trigger."""
    with transaction() as session:
        return reply(_view(session, triggers.get(session, owner_id(), path.trigger_id)))


@api.patch("/triggers/<uuid:trigger_id>", responses={200: TriggerView})
def change_trigger(path: TriggerPath, body: ChangeTrigger) -> Response:
    """Change a trigger. What is left out stays, and a secret that is sent as it is shown; its address stays, too."""
    with transaction() as session:
        trigger = triggers.get(session, owner_id(), path.trigger_id, lock=True)
        draft = _changed(session, trigger, body)
        changed = triggers.change(session, owner_id(), path.trigger_id, draft)
        return reply(_view(session, changed.trigger, changed.warnings))


@api.delete("/triggers/<uuid:trigger_id>", responses={204: None})
def delete_trigger(path: TriggerPath) -> Response:
    """Delete a trigger and the list of its deliveries. Its runs stay."""
    with transaction() as session:
        triggers.delete(session, owner_id(), path.trigger_id)
    return Response(status=204)


@api.post("/triggers/<uuid:trigger_id>/pause", responses={200: TriggerView})
def pause_trigger(path: TriggerPath) -> Response:
    """Pause a trigger: what is delivered is refused and listed, until it is resumed. The body may be left out."""
    body = optional_body(PauseTrigger)
    with transaction() as session:
        return reply(_view(session, triggers.pause(session, owner_id(), path.trigger_id, body.reason)))


@api.post("/triggers/<uuid:trigger_id>/resume", responses={200: TriggerView})
def resume_trigger(path: TriggerPath) -> Response:
    """Let a paused trigger take what is delivered again."""
    with transaction() as session:
        return reply(_view(session, triggers.resume(session, owner_id(), path.trigger_id)))


@api.post("/triggers/<uuid:trigger_id>/rotate", responses={200: TriggerMade})
def rotate_trigger(path: TriggerPath) -> Response:
    """Give a trigger another token, or another secret. The body may be left out: another token.

    The former token stops working at once; former secrets count on for a while, so that the sender can be told.
    """
    body = optional_body(RotateTrigger)
    with transaction() as session:
        made = triggers.rotate(session, owner_id(), path.trigger_id, body.what, body.secret, body.former_seconds)
        return reply(_made(session, made))


@api.get("/triggers/<uuid:trigger_id>/deliveries", responses={200: DeliveryList})
def list_deliveries(path: TriggerPath, query: DeliveryListQuery) -> Response:
    """List what was delivered to a trigger and what it did, the newest first. Payloads are shown one by one."""
    asked = PageRequest(query.after, query.limit)
    with transaction() as session:
        found, more = triggers.deliveries(session, owner_id(), path.trigger_id, query.outcome, asked)
        items = [DeliveryLine(**_line(one)) for one in found]
    return reply(DeliveryList(items=items, next_cursor=more))


@api.get("/triggers/<uuid:trigger_id>/deliveries/<uuid:delivery_id>", responses={200: DeliveryView})
def get_delivery(path: DeliveryPath) -> Response:
    """A delivery with its payload; what its names tell to be secret is hidden."""
    with transaction() as session:
        one = triggers.delivery(session, owner_id(), path.trigger_id, path.delivery_id)
        payload = None if one.payload is None else hidden_entry("payload", loads(one.payload))
        return reply(DeliveryView(**_line(one), payload=payload))


@api.post("/triggers/<uuid:trigger_id>/deliveries/<uuid:delivery_id>/redeliver", responses={202: HookAnswer})
def redeliver(path: DeliveryPath) -> Response:
    """Deliver again what was delivered once: as if it had come anew, also if it did something the first time."""
    done = carry_out(hooks.redeliver(owner_id(), path.trigger_id, path.delivery_id))
    answer = HookAnswer(outcome=done.outcome, delivery=done.delivery_id, run_id=done.run_id, reason=done.reason)
    return reply(answer, 202)


def _changed(session: Session, trigger: Trigger, body: ChangeTrigger) -> Draft:
    """The trigger with what the body gives. For what may be null, null is a value."""
    told, was = body.model_fields_set, triggers.draft_of(trigger)
    if "version" in told and trigger.preset_id is not None and body.version is not None:
        raise Malformed("version: the preset says it")
    if ("signal" in told) and (body.signal is None) != (was.terms.signal is None):
        raise Conflict("a trigger that begins runs sends no signals, and the other way round: make another one")
    terms = was.terms.model_copy(
        update={
            name: getattr(body, name)
            for name in ("body", "filter", "delivery_id", "signal")
            if name in told and (getattr(body, name) is not None or name == "delivery_id")
        }
    )
    return Draft(
        was.name if body.name is None else body.name,
        was.graph_id,
        was.preset_id,
        body.version if "version" in told else was.version,
        body.node if "node" in told else was.node,
        changed_given(was.given, triggers.shown(session, trigger), body),
        terms,
        body.wait if "wait" in told else was.wait,
        was.keep if body.keep is None else body.keep,
    )


def _made(session: Session, made: Made) -> TriggerMade:
    address = settings().public_url or request.url_root.rstrip("/")
    return TriggerMade(
        **dict(_view(session, made.trigger, made.warnings)),
        token=made.token,
        url=None if made.token is None else f"{address}{HOOKS}{made.token}",
        secret=None if made.secret is None else made.secret.get_secret_value(),
    )


def _view(session: Session, trigger: Trigger, warnings: Sequence[Problem] = ()) -> TriggerView:
    terms = triggers.terms_of(trigger)
    return TriggerView(
        id=trigger.id,
        name=trigger.name,
        graph_id=trigger.graph_id,
        preset_id=trigger.preset_id,
        node=trigger.node,
        scheme=trigger.scheme,
        former_secrets_until=trigger.former_until,
        body=terms.body,
        filter=terms.filter,
        delivery_id=terms.delivery_id,
        signal=terms.signal,
        wait=trigger.wait,
        keep=trigger.keep,
        paused_at=trigger.paused_at,
        pause_reason=trigger.pause_reason,
        refusals=trigger.refusals,
        rejected=RejectedView(count=trigger.rejected, last_at=trigger.rejected_at, last_reason=trigger.rejected_reason),
        created_at=trigger.created_at,
        updated_at=trigger.updated_at,
        warnings=places(warnings),
        **shown_values(triggers.shown(session, trigger), trigger.version),
    )


def _line(one: TriggerDelivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "outcome": Outcome(one.outcome),
        "delivery_id": one.delivery_id,
        "event": one.event,
        "run_id": one.run_id,
        "signal": one.signal,
        "reason": one.reason,
        "size": one.size,
        "source": one.source,
        "redelivery_of": one.redelivery_of,
        "repeats": one.repeats,
        "repeated_at": one.repeated_at,
        "received_at": one.received_at,
    }
