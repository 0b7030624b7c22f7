"""Makes, changes, pauses and deletes triggers, and gives them new tokens and secrets.

A trigger must fit its graph when it is saved: what it gives, with a payload, must be all that a run needs. Later
versions of the graph may refuse it; its deliveries then say so.
"""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy.orm import Session

from agentflow.accounts import quota
from agentflow.blocks.registry import catalogue
from agentflow.clock import now
from agentflow.credentials.encryption import Sealed
from agentflow.credentials.service import key_ring
from agentflow.engine.codec import dumps, loads
from agentflow.errors import GraphInvalid, Malformed, NotFound, Problem, TooMany
from agentflow.graph.catalogue import BlockKind
from agentflow.ids import new_id
from agentflow.presets import service as presets
from agentflow.presets.service import Given
from agentflow.services import cursors, submissions
from agentflow.services.cursors import PageRequest
from agentflow.services.plans import document_of
from agentflow.services.submissions import Stored, Wanted
from agentflow.storage import graphs as stored_graphs
from agentflow.triggers import store
from agentflow.triggers.schemas import Rotated
from agentflow.triggers.signatures import Scheme, check_secret
from agentflow.triggers.tables import Outcome, Trigger, TriggerDelivery, bound_of
from agentflow.triggers.terms import Terms

MOST: Final = 200
"""Triggers of one owner."""

MOST_SECRETS: Final = 3
"""Secrets of a trigger that count at a time: the newest, and former ones for a while."""

TOKEN_PREFIX: Final = "hk_"  # noqa: S105  (by which a token is recognised)

PAYLOAD: Final = "payload"
"""The pin that gets the payload."""

_TOKEN_BYTES: Final = 32
_WEBHOOKS: Final = (BlockKind.WEBHOOK, BlockKind.WEBHOOK_MANUAL)


@dataclass(frozen=True, slots=True)
class Draft:
    """A trigger as it is to be; the fields mean what they do in `tables.Trigger`."""

    name: str
    graph_id: UUID | None
    preset_id: UUID | None
    version: int | None
    node: str | None
    given: Given
    terms: Terms
    wait: int | None
    keep: int


@dataclass(frozen=True, slots=True)
class Made:
    """A trigger with what is shown once; None: it stays as it was, or its owner knows it.

    `warnings`: what is doubtful about what it gives.
    """

    trigger: Trigger
    token: str | None = None
    secret: SecretStr | None = None
    warnings: tuple[Problem, ...] = ()


def digest(token: str) -> str:
    """What is stored of a token. It has 256 random bits, so there is nothing to guess."""
    return hashlib.sha256(token.encode()).hexdigest()


def terms_of(trigger: Trigger) -> Terms:
    """What a trigger expects and does."""
    return Terms.model_validate(loads(trigger.terms))


def given_of(trigger: Trigger) -> Given:
    """What a trigger gives a run, beside the payload."""
    return Given.read(trigger.given)


def draft_of(trigger: Trigger) -> Draft:
    """A trigger as it is, to be changed."""
    return Draft(
        trigger.name,
        trigger.graph_id,
        trigger.preset_id,
        trigger.version,
        trigger.node,
        given_of(trigger),
        terms_of(trigger),
        trigger.wait,
        trigger.keep,
    )


def create(session: Session, owner_id: UUID, draft: Draft, scheme: Scheme, secret: SecretStr | None) -> Made:
    """Make a trigger. `secret` None: one is made, if the scheme has any.

    Raises:
        NotFound: the owner has no such graph or preset, or the graph no such version.
        GraphInvalid: a run could not begin so.
        Conflict: there is no key to encrypt its secret with.
        TooLarge, Malformed: a value cannot be stored, or the owner stores as much as they may.
        TooMany: the owner has as many as allowed.
    """
    if store.count(session, owner_id) >= MOST:
        raise TooMany(f"you have {MOST} triggers, as many as allowed: delete some first")
    warnings = _check(session, owner_id, draft)
    token = _new_token()
    trigger = Trigger(id=new_id(), owner_id=owner_id, digest=digest(token), scheme=scheme, refusals=0, rejected=0)
    _write(trigger, draft)
    made = None
    if scheme is not Scheme.NONE:
        made = None if secret is not None else _new_secret(scheme)
        _seal(trigger, [secret or made])
    store.add(session, trigger)
    quota.refuse_beyond(session, owner_id)
    return Made(trigger, token, made, warnings)


def get(session: Session, owner_id: UUID, trigger_id: UUID, *, lock: bool = False) -> Trigger:
    """One trigger; `lock`: nobody else changes it until this transaction ends.

    Raises:
        NotFound: the owner has no such trigger.
    """
    trigger = store.find(session, owner_id, trigger_id, lock=lock)
    if trigger is None:
        raise NotFound(f"there is no trigger {trigger_id}")
    return trigger


def page(
    session: Session, owner_id: UUID, graph_id: UUID | None, asked: PageRequest
) -> tuple[list[Trigger], str | None]:
    """One page of the owner's triggers, the newest first, and the next page's cursor; `graph_id`: only its."""
    of = f"triggers/{graph_id}" if graph_id else "triggers"
    found, more = store.page(session, owner_id, graph_id, cursors.identifier(of, asked.after), asked.limit)
    return found, cursors.cursor(of, found[-1].id) if more else None


def change(session: Session, owner_id: UUID, trigger_id: UUID, draft: Draft) -> Made:
    """Make a trigger what `draft` says. Get it with `lock` first, to keep what is not to change.

    Raises:
        NotFound, GraphInvalid, TooLarge, Malformed: as in `create`.
    """
    trigger = get(session, owner_id, trigger_id, lock=True)
    warnings = _check(session, owner_id, draft)
    _write(trigger, draft)
    store.changed(session, trigger)
    quota.refuse_beyond(session, owner_id)
    return Made(trigger, warnings=warnings)


def delete(session: Session, owner_id: UUID, trigger_id: UUID) -> None:
    """Delete a trigger and the list of its deliveries; its runs stay.

    Raises:
        NotFound: the owner has no such trigger.
    """
    store.remove(session, get(session, owner_id, trigger_id, lock=True))


def pause(session: Session, owner_id: UUID, trigger_id: UUID, reason: str) -> Trigger:
    """Let a trigger refuse what is delivered, until it is resumed. One that is paused already keeps its reason.

    Raises:
        NotFound: the owner has no such trigger.
    """
    trigger = get(session, owner_id, trigger_id, lock=True)
    if trigger.paused_at is None:
        trigger.paused_at, trigger.pause_reason = now(), reason
        store.changed(session, trigger)
    return trigger


def resume(session: Session, owner_id: UUID, trigger_id: UUID) -> Trigger:
    """Let a trigger take what is delivered again.

    Raises:
        NotFound: the owner has no such trigger.
    """
    trigger = get(session, owner_id, trigger_id, lock=True)
    if trigger.paused_at is not None:
        trigger.paused_at = trigger.pause_reason = None
        trigger.refusals = 0
        store.changed(session, trigger)
    return trigger


def rotate(
    session: Session, owner_id: UUID, trigger_id: UUID, what: Rotated, secret: SecretStr | None, former_seconds: int
) -> Made:
    """Give a trigger another token, or another secret; the former secrets count on for `former_seconds`.

    Raises:
        NotFound: the owner has no such trigger.
        Malformed: its scheme cannot sign with that secret, or needs one that is given.
        Conflict: there is no key to encrypt the secret with.
    """
    trigger = get(session, owner_id, trigger_id, lock=True)
    scheme = Scheme(trigger.scheme)
    if what is Rotated.TOKEN:
        token = _new_token()
        trigger.digest = digest(token)
        store.changed(session, trigger)
        return Made(trigger, token)
    if scheme in (Scheme.STRIPE, Scheme.SLACK) and secret is None:
        raise Malformed(f"secret: {scheme} makes it, and shows it where the webhook is set up")
    made = None if secret is not None else _new_secret(scheme)
    try:
        check_secret(scheme, secret or _new_secret(scheme))
    except ValueError as error:
        raise Malformed(f"secret: {error}") from None
    former = secrets_of(trigger) if former_seconds else []
    _seal(trigger, [secret or made, *former][:MOST_SECRETS])
    trigger.former_until = now() + timedelta(seconds=former_seconds) if former else None
    store.changed(session, trigger)
    return Made(trigger, secret=made)


def shown(session: Session, trigger: Trigger) -> Given:
    """What a trigger gives a run, without its secrets."""
    given = given_of(trigger)
    if trigger.graph_id is not None:
        return presets.without_secrets(session, trigger.owner_id, Stored(trigger.graph_id, trigger.version), given)
    if trigger.preset_id is None:
        return given
    try:
        preset = presets.get(session, trigger.owner_id, trigger.preset_id)
    except NotFound:  # no graph tells what is secret, and there is none of this id
        return presets.without_secrets(session, trigger.owner_id, Stored(trigger.preset_id), given)
    return presets.without_secrets(session, trigger.owner_id, Stored(preset.graph_id, preset.version), given)


def secrets_of(trigger: Trigger) -> list[SecretStr]:
    """The secrets that count now, the newest first.

    Raises:
        SystemFault: they cannot be decrypted.
    """
    if trigger.secret is None or trigger.key_id is None:
        return []
    hidden = key_ring().decrypt(Sealed(trigger.key_id, trigger.secret), bound_of(trigger))
    found = [SecretStr(one) for one in hidden["secrets"]]
    return found if trigger.former_until is not None and now() < trigger.former_until else found[:1]


def to_run(session: Session, owner_id: UUID, draft: Draft, payload: Any) -> tuple[Stored, Wanted]:
    """The graph that a trigger runs, and what its run gets with a payload.

    Raises:
        NotFound: the graph, its version or the preset is gone.
        GraphInvalid: no node of the graph can get the payload.
    """
    given = draft.given
    wanted = Wanted(given.inputs, given.masks, given.labels, given.priority, credentials=given.credentials)
    if draft.preset_id is not None:
        preset = presets.get(session, owner_id, draft.preset_id)
        target, wanted = Stored(preset.graph_id, preset.version), Given.read(preset.given).under(wanted)
    else:
        assert draft.graph_id is not None, "a trigger that begins runs has a graph or a preset"
        target = Stored(draft.graph_id, draft.version)
    version = _version(session, owner_id, target)
    node = fed_node(session, target.graph_id, version, draft.node)
    masks = {**wanted.masks, node: {**wanted.masks.get(node, {}), PAYLOAD: payload}}
    return Stored(target.graph_id, version), replace(wanted, masks=masks)


def fed_node(session: Session, graph_id: UUID, version: int, named: str | None) -> str:
    """The id of the node that gets the payload: the one that is `named`, or else the only one that a webhook feeds.

    Raises:
        GraphInvalid: there is no such node, or several.
    """
    graph = document_of(session, graph_id, version)
    fed = []
    for node in graph.nodes:
        spec = catalogue(node.block_id)
        if spec is not None and spec.kind in _WEBHOOKS and PAYLOAD in spec.inputs:
            fed.append(node.id)
    if named is None and len(fed) == 1:
        return fed[0]
    if named in fed:
        return named
    if named is not None:
        there = any(node.id == named for node in graph.nodes)
        why = f"no webhook can feed the node '{named}'" if there else f"the graph has no node '{named}'"
        raise GraphInvalid(why, [Problem(why, named)])
    many = "several nodes of the graph are fed by webhooks: say which `node` gets the payload"
    none = "no node of the graph can get the payload: give it one of the block GenericWebhookTrigger"
    raise GraphInvalid(many if fed else none, [Problem(many, node) for node in fed] or [Problem(none)])


def deliveries(
    session: Session, owner_id: UUID, trigger_id: UUID, outcome: Outcome | None, asked: PageRequest
) -> tuple[list[TriggerDelivery], str | None]:
    """One page of a trigger's deliveries, the newest first, and the next page's cursor.

    Raises:
        NotFound: the owner has no such trigger.
    """
    get(session, owner_id, trigger_id)
    of = f"deliveries/{trigger_id}/{outcome or ''}"
    after = cursors.identifier(of, asked.after)
    found: Sequence[TriggerDelivery] = store.deliveries(session, owner_id, trigger_id, outcome, after, asked.limit + 1)
    return asked.cut(of, found, lambda delivery: (delivery.id,))


def delivery(session: Session, owner_id: UUID, trigger_id: UUID, delivery_id: UUID) -> TriggerDelivery:
    """One of a trigger's deliveries.

    Raises:
        NotFound: the owner has no such trigger, or it no such delivery.
    """
    get(session, owner_id, trigger_id)
    found = store.delivery(session, owner_id, trigger_id, delivery_id)
    if found is None:
        raise NotFound(f"there is no delivery {delivery_id}")
    return found


def _version(session: Session, owner_id: UUID, target: Stored) -> int:
    head = stored_graphs.find(session, owner_id, target.graph_id)
    if head is None:
        raise NotFound(f"there is no graph {target.graph_id}")
    return target.version or head.latest_version


def _check(session: Session, owner_id: UUID, draft: Draft) -> tuple[Problem, ...]:
    """Whether it could do now what it is to do; returns what is doubtful."""
    if draft.terms.signal is not None:
        if draft.graph_id is not None:
            _version(session, owner_id, Stored(draft.graph_id))
        return ()
    target, wanted = to_run(session, owner_id, draft, {})
    try:
        return submissions.check(session, owner_id, target, wanted)
    except GraphInvalid as invalid:
        raise GraphInvalid("what the trigger gives does not fit the graph", invalid.problems) from None


def _write(trigger: Trigger, draft: Draft) -> None:
    trigger.name, trigger.graph_id, trigger.preset_id = draft.name, draft.graph_id, draft.preset_id
    trigger.version, trigger.node, trigger.wait, trigger.keep = draft.version, draft.node, draft.wait, draft.keep
    trigger.given = draft.given.text
    trigger.terms = dumps(draft.terms.model_dump(mode="json", exclude_unset=True))


def _seal(trigger: Trigger, kept: Sequence[SecretStr | None]) -> None:
    plain = [one.get_secret_value() for one in kept if one is not None]
    sealed = key_ring().encrypt({"secrets": plain}, bound_of(trigger))
    trigger.secret, trigger.key_id = sealed.data, sealed.key_id


def _new_token() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def _new_secret(scheme: Scheme) -> SecretStr:
    """A secret of 256 random bits, in the form that the scheme's senders take."""
    if scheme is Scheme.STANDARD:
        return SecretStr("whsec_" + base64.b64encode(secrets.token_bytes(_TOKEN_BYTES)).decode())
    return SecretStr(secrets.token_urlsafe(_TOKEN_BYTES))
