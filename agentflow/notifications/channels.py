"""Makes, lists, changes, tries and deletes the channels of a user, and reads the secrets that sending needs.

A channel's address is a secret: it is encrypted as credentials are (`credentials/encryption.py`), and its owner sees no
more of it than where it leads. What signs a webhook is shown once; for a day after it was replaced, both sign.
"""

import hashlib
import hmac
import logging
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.clock import now
from agentflow.credentials.encryption import Bound, Sealed
from agentflow.credentials.service import key_ring
from agentflow.errors import Conflict, Forbidden, NotFound, TooMany
from agentflow.ids import new_id, new_token
from agentflow.notifications import by_apprise, by_email, by_webhook, preferences, rendering, service, store
from agentflow.notifications.kinds import ChannelKind, Kind
from agentflow.notifications.message import Message
from agentflow.notifications.tables import NotificationChannel
from agentflow.settings import settings

logger = logging.getLogger(__name__)

MOST: Final = 20
"""Channels of one user."""

ALL: Final = "all"
"""In the place of a kind: every kind."""

_OLD_SIGNS: Final = timedelta(days=1)

_OF_THE_RING: Final = "notification channel"
"""What stands in the place of a credential's provider, in what a secret is bound to."""


@dataclass(frozen=True, slots=True)
class New:
    """A channel to be, whose address has been checked (`checked`).

    Attributes:
        kind: how it reaches its owner.
        name: its name, for people.
        address: an e-mail address, the URL of a webhook, or one of apprise.
        host: where it leads.
    """

    kind: ChannelKind
    name: str
    address: str
    host: str


def checked(kind: ChannelKind, name: str, address: str) -> New:
    """The channel to be. It may look a host name up, so no transaction should be open.

    Raises:
        BadInput: messages cannot, or may not, be sent there.
        Transient: whether they may cannot be found out now.
    """
    if kind is ChannelKind.EMAIL:
        return New(kind, name, by_email.check(address), f"smtp {settings().smtp_host}")
    if kind is ChannelKind.WEBHOOK:
        return New(kind, name, address, by_webhook.check(address).lower())
    return New(kind, name, address, f"apprise {by_apprise.check(address)}")


def create(session: Session, owner_id: UUID, new: New) -> tuple[NotificationChannel, str | None]:
    """Store a channel; with it what signs its messages, of a webhook, which is shown this once.

    Raises:
        Conflict: there is no key to encrypt it with.
        TooMany: the owner has as many as allowed.
    """
    ring = key_ring()
    preferences.begin(session, owner_id)  # locks what they prefer, so that channels are counted one at a time
    if store.count_channels(session, owner_id) >= MOST:
        raise TooMany(f"you have {MOST} channels, as many as allowed: delete one first")
    hidden: dict[str, Any] = {"address": new.address, "link": secrets.token_urlsafe(32)}
    signing = by_webhook.new_secret() if new.kind is ChannelKind.WEBHOOK else None
    if signing is not None:
        hidden["signing"] = signing
    bound = Bound(new_id(), owner_id, _OF_THE_RING, new.kind, _shown(new))
    sealed = ring.encrypt(hidden, bound)
    channel = NotificationChannel(
        id=bound.id,
        owner_id=owner_id,
        kind=new.kind,
        name=new.name,
        details=bound.details,
        secret=sealed.data,
        key_id=sealed.key_id,
        host=new.host,
    )
    store.add_channel(session, channel)
    return channel, signing


def get(session: Session, owner_id: UUID, channel_id: UUID, *, lock: bool = False) -> NotificationChannel:
    """The owner's channel.

    Raises:
        NotFound: there is none, or it is another's.
    """
    found = store.channel(session, channel_id, owner_id, lock=lock)
    if found is None:
        raise NotFound(f"there is no channel {channel_id}")
    return found


def page(session: Session, owner_id: UUID, after: UUID | None, limit: int) -> Sequence[NotificationChannel]:
    """The owner's channels, the newest first, below the id `after`."""
    return store.channels(session, owner_id, after, limit)


def change(
    session: Session, owner_id: UUID, channel_id: UUID, *, name: str | None = None, enabled: bool | None = None
) -> NotificationChannel:
    """Rename a channel, or switch it off or on. What waits for it waits while it is off; on again, it is tried at once.

    Raises:
        NotFound: there is none, or it is another's.
    """
    channel = get(session, owner_id, channel_id, lock=True)
    if name is not None:
        channel.name = name
    if enabled is not None and enabled != channel.enabled:
        channel.enabled = enabled
        if enabled:
            channel.failures, channel.open_at, channel.next_at = 0, None, now()
    session.flush()
    return channel


def switch_off(session: Session, channel_id: UUID, why: str) -> None:
    """Switch off a channel that leads nowhere any more, and tell its owner."""
    channel = store.channel(session, channel_id, lock=True)
    if channel is None or not channel.enabled:
        return
    channel.enabled, channel.next_at = False, None
    cause = f"channel-off:{channel.id}:{now().isoformat()}"
    about = {"channel_id": str(channel.id), "name": channel.name, "reason": why}
    service.note(session, channel.owner_id, Kind.CHANNEL_OFF, cause, about)
    logger.warning("channel_switched_off", extra={"channel": str(channel.id), "owner": str(channel.owner_id)})
    session.flush()


def delete(session: Session, owner_id: UUID, channel_id: UUID) -> None:
    """Delete a channel, with what waits for it.

    Raises:
        NotFound: there is none, or it is another's.
    """
    session.delete(get(session, owner_id, channel_id, lock=True))
    session.flush()


def rotate(session: Session, owner_id: UUID, channel_id: UUID) -> tuple[NotificationChannel, str]:
    """Replace what signs a webhook's messages; for a day both sign. Returns the new secret, which is shown this once.

    Raises:
        NotFound: there is none, or it is another's.
        Conflict: it is no webhook.
    """
    channel = get(session, owner_id, channel_id, lock=True)
    if channel.kind != ChannelKind.WEBHOOK:
        raise Conflict("only a webhook has a secret that signs")
    hidden = secret_of(channel)
    signing = by_webhook.new_secret()
    hidden |= {"signing": signing, "old": hidden["signing"], "old_until": (now() + _OLD_SIGNS).isoformat()}
    sealed = key_ring().encrypt(hidden, bound_of(channel))
    channel.secret, channel.key_id = sealed.data, sealed.key_id
    session.flush()
    return channel, signing


def bound_of(channel: NotificationChannel) -> Bound:
    """What a channel's secret is bound to."""
    return Bound(channel.id, channel.owner_id, _OF_THE_RING, channel.kind, channel.details)


def secret_of(channel: NotificationChannel) -> dict[str, Any]:
    """A channel's secret.

    Raises:
        SystemFault: it cannot be decrypted.
    """
    return key_ring().decrypt(Sealed(channel.key_id, channel.secret), bound_of(channel))


def transmit(kind: str, hidden: Mapping[str, Any], message: Message) -> None:
    """Send a message over a channel, of which this is the kind and the secret. No transaction should be open.

    Raises:
        BadInput: it fails for good.
        Transient: it may work later.
    """
    address, seconds = hidden["address"], settings().notification_seconds
    if kind == ChannelKind.EMAIL:
        by_email.send(address, message, seconds)
    elif kind == ChannelKind.WEBHOOK:
        signing = [hidden["signing"]]
        if "old" in hidden and datetime.fromisoformat(hidden["old_until"]) > now():
            signing.append(hidden["old"])
        by_webhook.send(address, signing, message, seconds)
    else:
        by_apprise.send(address, message, seconds)


def test_message(channel: NotificationChannel) -> Message:
    """A message that tries a channel."""
    made = rendering.render(rendering.TEST, {"channel": channel.name, "place": settings().public_url})
    data = {"title": made.subject, "channel": str(channel.id)}
    return Message(str(new_token()), rendering.TEST, now().isoformat(), made.subject, made.text, made.html, data)


def unsubscribe_link(channel_id: UUID, hidden: Mapping[str, Any], kind: str) -> str | None:
    """The address that ends messages of a kind over a channel, for whoever got one; None: nobody knows ours."""
    if settings().public_url is None:
        return None
    token = f"{channel_id}.{kind}.{_mac(hidden, channel_id, kind)}"
    return f"{settings().public_url}/api/v1/notifications/unsubscribe/{token}"


def unsubscribe(session: Session, token: str, *, only_look: bool = False) -> str:
    """End messages of the kind in an unsubscribe link over its channel; returns the kind. Idempotent.

    Args:
        session: the transaction.
        token: the last part of the link.
        only_look: check the link, and change nothing.

    Raises:
        Forbidden: the link is none that was given out, or its channel is gone.
    """
    channel_id, kind = _read(token)
    channel = store.channel(session, channel_id, lock=not only_look) if channel_id is not None else None
    if channel is None or not hmac.compare_digest(
        _mac(secret_of(channel), channel.id, kind).encode(), token.rpartition(".")[2].encode("utf-8", "replace")
    ):
        raise Forbidden("this link is not valid, or its channel is gone")
    if not only_look:
        if kind == ALL:
            channel.enabled = False
            session.flush()
        else:
            preferences.switch_off(session, channel.owner_id, channel.id, Kind(kind))
    return kind


def _read(token: str) -> tuple[UUID | None, str]:
    parts = token.split(".")
    try:
        id_text, kind, _ = parts
        if kind != ALL:
            Kind(kind)
        return UUID(id_text), kind
    except ValueError:
        return None, ""


def _mac(hidden: Mapping[str, Any], channel_id: UUID, kind: str) -> str:
    made = hmac.new(hidden["link"].encode(), f"unsubscribe {channel_id} {kind}".encode(), hashlib.sha256)
    return urlsafe_b64encode(made.digest()).decode().rstrip("=")


def _shown(new: New) -> dict[str, Any]:
    """What its owner may see of a channel."""
    if new.kind is ChannelKind.EMAIL:
        return {"address": new.address}
    if new.kind is ChannelKind.WEBHOOK:
        return {"host": by_webhook.place_of(new.address)}
    return {"service": new.host.removeprefix("apprise ")}
