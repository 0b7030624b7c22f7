"""Delivers: claims the next message of a channel, sends it with no transaction open, and marks what came of it.

A message is sent at least once and marked once: the lease of its channel fences the mark. Who dies in between leaves a
lease that runs out; the message is sent again, with the same id. What fails is tried again, later each time, and its
channel rests meanwhile, so that a dead one is asked seldom however much waits for it. What fails for good, or for too
long, is a dead letter. A channel whose receiver says that it is gone is switched off, and its owner is told.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid5

from sqlalchemy.orm import Session

from agentflow.accounts.tables import User
from agentflow.engine.codec import dumps
from agentflow.errors import AgentFlowError, BadInput, ClientError, NoSuchHost, Transient, Unavailable
from agentflow.ids import new_token
from agentflow.notifications import channels, preferences, rendering, service, store, timing
from agentflow.notifications.kinds import Kind
from agentflow.notifications.message import Message, ReceiverGone
from agentflow.notifications.tables import Notification, NotificationChannel
from agentflow.services import run_views
from agentflow.services.transaction import Step, Steps
from agentflow.settings import settings

logger = logging.getLogger(__name__)

PER_HOST: Final = 4
"""Channels that are served at once and lead to one host: a slow host holds up no more workers than these."""

PER_OWNER: Final = 2
"""Channels of one user that are served at once."""

MOST_IN_ONE: Final = 100
"""Notifications in one message."""

_MOST_OUTPUTS: Final = 10
_LONGEST_OUTPUT: Final = 200
"""Characters of an output in a message; the rest is in the run."""

_LONGEST_ERROR: Final = 500

_MESSAGES: Final = UUID("1d6c5bb0-53a4-4f0f-8b1a-5d8e9a7c2f41")
"""Namespace of the ids of messages of several notifications."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A claimed message.

    Attributes:
        kind: of its channel.
        hidden: the channel's secret.
        message: what is sent.
        attempt: which try at it this is, from 1.
        failures: how often the channel failed in a row before.
    """

    kind: str
    hidden: Mapping[str, Any]
    message: Message
    attempt: int
    failures: int


def lease_seconds() -> float:
    """Seconds for which a channel is its worker's: longer than sending can take (`time_limits`)."""
    return time_limits()[1] + 10.0


def time_limits() -> tuple[float, float]:
    """Seconds after which a worker's process is told to end a message, and after which it is killed."""
    return settings().notification_seconds * 1.5, settings().notification_seconds * 2.0 + 5.0


def turn_seconds() -> float:
    """Seconds after which a worker turns to another channel: one more message fits into `time_limits`."""
    return settings().notification_seconds * 0.4


def deliver_next(channel_id: UUID) -> Steps[bool]:
    """Deliver the next message of a channel, if one is due and nobody else is at it; whether there was one."""
    token = new_token()
    bounds = {
        "lease": lease_seconds(),
        "per_host": PER_HOST,
        "per_owner": PER_OWNER,
        "most": MOST_IN_ONE,
        "attempts": timing.MOST_ATTEMPTS,
    }
    claimed: store.Claimed = yield Step(store.claim, channel_id, token, bounds)
    if claimed.verdict != "claimed":
        return False
    attempt, failures = claimed.attempt or 1, claimed.failures or 0
    try:
        taken: Taken = yield Step(_load, channel_id, claimed.notifications or (), attempt, failures)
        channels.transmit(taken.kind, taken.hidden, taken.message)
    except Unavailable:
        raise  # the lease runs out
    except Exception as error:
        if not isinstance(error, AgentFlowError):
            logger.exception("notification_failed", extra={"channel": str(channel_id)})
        yield Step(_failed, channel_id, token, error, attempt, failures)
        return True
    marked: int = yield Step(store.sent, channel_id, token)
    fields = {"channel": str(channel_id), "notifications": marked, "attempt": attempt}
    logger.info("notification_sent", extra=fields)
    return True


def _failed(session: Session, channel_id: UUID, token: UUID, error: Exception, attempt: int, failures: int) -> None:
    words = error.message if isinstance(error, AgentFlowError) else f"it failed: {type(error).__name__}"
    words = words[:_LONGEST_ERROR]
    dead = isinstance(error, BadInput) and not isinstance(error, NoSuchHost)  # who moves may be away for a while
    first = settings().notification_retry_seconds
    asked = min((error.after if isinstance(error, Transient) else None) or 0.0, timing.LONGEST_WAIT)
    again = max(timing.wait(attempt, first), asked)
    closed = max(min(again, timing.wait(failures + 1, first)), asked)
    values = {"dead": dead, "again": again, "closed": closed, "attempts": timing.MOST_ATTEMPTS}
    died = store.failed(session, channel_id, token, words, values)
    logger.warning("notification_not_sent", extra={"channel": str(channel_id), "error": words, "dead": died})
    if died and isinstance(error, ReceiverGone):  # the lease was held, so nobody else says so
        channels.switch_off(session, channel_id, words)


def _load(session: Session, channel_id: UUID, ids: Sequence[UUID], attempt: int, failures: int) -> Taken:
    """What is to be sent, with the secret that this needs.

    Raises:
        Transient: the channel was deleted meanwhile.
    """
    channel = store.channel(session, channel_id)
    found = store.with_ids(session, ids)
    if channel is None or not found:
        raise Transient("the channel, or the notification, was deleted")
    hidden = channels.secret_of(channel)
    owner = session.get_one(User, channel.owner_id)
    made = _one(session, channel, hidden, found[0]) if len(found) == 1 else _digest(channel, hidden, owner, found)
    return Taken(channel.kind, hidden, made, attempt, failures)


def _one(session: Session, channel: NotificationChannel, hidden: Mapping[str, Any], one: Notification) -> Message:
    link = channels.unsubscribe_link(channel.id, hidden, one.kind)
    facts = _of_channel(channel, link) | dict(one.data) | _outputs(session, one)
    made = rendering.render(one.kind, facts)
    data = {**service.public(one), "title": made.subject}
    at = one.created_at.isoformat()
    return Message(str(one.id), one.kind, at, made.subject, made.text, made.html, data, link)


def _digest(
    channel: NotificationChannel, hidden: Mapping[str, Any], owner: User, found: Sequence[Notification]
) -> Message:
    kinds = list(dict.fromkeys(one.kind for one in found))
    link = channels.unsubscribe_link(channel.id, hidden, kinds[0] if len(kinds) == 1 else channels.ALL)
    zone = preferences.zone_of(owner)
    items = [
        {"at": f"{one.created_at.astimezone(zone):%Y-%m-%d %H:%M}", "subject": rendering.subject(one.kind, one.data)}
        for one in found
    ]
    made = rendering.render(rendering.DIGEST, _of_channel(channel, link) | {"items": items, "kinds": kinds})
    listed = [{**service.public(one), "title": item["subject"]} for one, item in zip(found, items, strict=True)]
    data = {"title": made.subject, "notifications": listed}
    id = str(uuid5(_MESSAGES, " ".join(sorted(str(one.id) for one in found))))
    at = max(one.created_at for one in found).isoformat()
    return Message(id, rendering.DIGEST, at, made.subject, made.text, made.html, data, link)


def _of_channel(channel: NotificationChannel, link: str | None) -> dict[str, Any]:
    return {"channel": channel.name, "place": settings().public_url, "unsubscribe": link}


def _outputs(session: Session, one: Notification) -> dict[str, Any]:
    """The outputs of a run that is told as finished, cut; secret ones are hidden, as everywhere."""
    if one.kind != Kind.RUN_FINISHED:
        return {}
    try:
        run = run_views.get(session, one.owner_id, UUID(one.data["run"]))
    except ClientError:  # it is gone, or its graph's blocks are
        return {}
    lines = [(name, dumps(value)) for name, values in (run.outputs or {}).items() for value in values]
    cut = [
        (name, text if len(text) <= _LONGEST_OUTPUT else f"{text[:_LONGEST_OUTPUT]}…")
        for name, text in lines[:_MOST_OUTPUTS]
    ]
    return {"outputs": cut, "outputs_cut": run.outputs_truncated or len(lines) > _MOST_OUTPUTS or cut != lines}
