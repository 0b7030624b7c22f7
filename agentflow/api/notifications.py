"""Serves `/api/v1/notifications`, with channels and preferences, and `/api/v1/dead-letters` for admins."""

from typing import Final
from uuid import UUID

from flask import Response, url_for
from markupsafe import escape
from pydantic import BaseModel

from agentflow.accounts import users
from agentflow.accounts.scopes import Role
from agentflow.api import audit
from agentflow.api.blueprint import blueprint, owner_id
from agentflow.api.outward import calling_out
from agentflow.api.replies import reply
from agentflow.api.sessions import address, sign_in_limit
from agentflow.errors import BadInput, Malformed, Transient
from agentflow.notifications import channels, letters, preferences, rendering, service, store
from agentflow.notifications.kinds import DEFAULTS, ChannelKind, Kind
from agentflow.notifications.preferences import Preferences, Preferred
from agentflow.notifications.schemas import (
    ChangeChannel,
    ChangeNotification,
    ChannelList,
    ChannelListQuery,
    ChannelTest,
    ChannelView,
    LetterList,
    LetterListQuery,
    LettersSettled,
    LetterView,
    MarkAll,
    Marked,
    NewChannel,
    NewChannelView,
    NewPreferences,
    NotificationDeliveryView,
    NotificationDetails,
    NotificationList,
    NotificationListQuery,
    NotificationView,
    PreferencesView,
    QuietHoursView,
    TypeView,
    WhichLetters,
)
from agentflow.notifications.store import Letter
from agentflow.notifications.tables import NotificationChannel
from agentflow.notifications.timing import Quiet
from agentflow.notifications.views import shown
from agentflow.services import cursors
from agentflow.services.transaction import transaction

api = blueprint("notifications", "What you are told, over which channels, and how soon.")

_CHANNELS: Final = "notification channels"
_LETTERS: Final = "dead letters"


class NotificationPath(BaseModel):
    """Which notification."""

    notification_id: UUID


class ChannelPath(BaseModel):
    """Which channel."""

    channel_id: UUID


class UnsubscribePath(BaseModel):
    """The last part of an unsubscribe link."""

    token: str


@api.get("/notifications", responses={200: NotificationList})
def list_notifications(query: NotificationListQuery) -> Response:
    """List what you were told, the newest first."""
    name = f"notifications {query.type} {query.read}"
    with transaction() as session:
        after = cursors.identifier(name, query.after)
        found = service.page(session, owner_id(), query.type, query.read, after, query.limit + 1)
        items = [shown(one) for one in found[: query.limit]]
        unread = service.unread(session, owner_id())
    more = cursors.cursor(name, items[-1].id) if len(found) > query.limit else None
    return reply(NotificationList(items=items, next_cursor=more, unread=unread))


@api.get("/notifications/<uuid:notification_id>", responses={200: NotificationDetails})
def get_notification(path: NotificationPath) -> Response:
    """A notification, what it says, and where it was sent."""
    with transaction() as session:
        one = service.get(session, owner_id(), path.notification_id)
        found = store.deliveries(session, [one.id])
        text = rendering.render(one.kind, one.data).text.rpartition("\n--\n")[0]
        sent = [NotificationDeliveryView.model_validate(delivery, from_attributes=True) for delivery in found]
        return reply(NotificationDetails(**shown(one).model_dump(), text=text, deliveries=sent))


@api.patch("/notifications/<uuid:notification_id>", responses={200: NotificationView})
def change_notification(path: NotificationPath, body: ChangeNotification) -> Response:
    """Mark a notification as read, or as unread."""
    with transaction() as session:
        return reply(shown(service.mark(session, owner_id(), path.notification_id, read=body.read)))


@api.post("/notifications/read", responses={200: Marked})
def mark_notifications(body: MarkAll) -> Response:
    """Mark all notifications as read, or all up to one."""
    with transaction() as session:
        return reply(Marked(marked=service.mark_all_read(session, owner_id(), body.up_to)))


@api.get("/notifications/preferences", responses={200: PreferencesView})
def get_preferences() -> Response:
    """How soon you are told of each type, over which channel, and when not."""
    with transaction() as session:
        user = users.get(session, owner_id())
        found = preferences.get(session, owner_id())
        return reply(_preferences(found, Role(user.role), preferences.zone_of(user).key))


@api.put("/notifications/preferences", responses={200: PreferencesView})
def set_preferences(body: NewPreferences) -> Response:
    """Set all of that. What is left out is as by default."""
    wanted = _wanted(body)
    with transaction() as session:
        user = users.get(session, owner_id())
        found = preferences.set_to(session, owner_id(), wanted)
        return reply(_preferences(found, Role(user.role), preferences.zone_of(user).key))


@api.get("/notifications/channels", responses={200: ChannelList})
def list_channels(query: ChannelListQuery) -> Response:
    """List your channels, the newest first."""
    with transaction() as session:
        after = cursors.identifier(_CHANNELS, query.after)
        found = channels.page(session, owner_id(), after, query.limit + 1)
        items = [_channel(one) for one in found[: query.limit]]
    more = cursors.cursor(_CHANNELS, items[-1].id) if len(found) > query.limit else None
    return reply(ChannelList(items=items, next_cursor=more))


@api.post("/notifications/channels", responses={201: NewChannelView})
def create_channel(body: NewChannel) -> Response:
    """Add a way to reach you. Its address is kept encrypted; what signs a webhook's messages is shown this once."""
    with calling_out(owner_id()):  # its host is looked up
        new = channels.checked(body.kind, body.name, body.address.get_secret_value())
    with transaction() as session:
        channel, secret = channels.create(session, owner_id(), new)
        audit.made(channel.id)
        view = NewChannelView(**_channel(channel).model_dump(), secret=secret)
    response = reply(view, 201)
    response.headers["Location"] = url_for("notifications.get_channel", channel_id=view.id)
    return response


@api.get("/notifications/channels/<uuid:channel_id>", responses={200: ChannelView})
def get_channel(path: ChannelPath) -> Response:
    """One of your channels."""
    with transaction() as session:
        return reply(_channel(channels.get(session, owner_id(), path.channel_id)))


@api.patch("/notifications/channels/<uuid:channel_id>", responses={200: ChannelView})
def change_channel(path: ChannelPath, body: ChangeChannel) -> Response:
    """Rename a channel, or switch it off or on."""
    with transaction() as session:
        changed = channels.change(session, owner_id(), path.channel_id, name=body.name, enabled=body.enabled)
        return reply(_channel(changed))


@api.delete("/notifications/channels/<uuid:channel_id>", responses={204: None})
def delete_channel(path: ChannelPath) -> Response:
    """Delete a channel. What waits for it is not sent."""
    with transaction() as session:
        channels.delete(session, owner_id(), path.channel_id)
    return Response(status=204)


@api.post("/notifications/channels/<uuid:channel_id>/rotate", responses={200: NewChannelView})
def rotate_channel(path: ChannelPath) -> Response:
    """Replace what signs a webhook's messages, and show it this once. For a day the old one signs, too."""
    with transaction() as session:
        channel, secret = channels.rotate(session, owner_id(), path.channel_id)
        return reply(NewChannelView(**_channel(channel).model_dump(), secret=secret))


@api.post("/notifications/channels/<uuid:channel_id>/test", responses={200: ChannelTest})
def test_channel(path: ChannelPath) -> Response:
    """Send a test over a channel at once."""
    with transaction() as session:
        channel = channels.get(session, owner_id(), path.channel_id)
        kind, hidden, message = channel.kind, channels.secret_of(channel), channels.test_message(channel)
    try:
        with calling_out(owner_id()):
            channels.transmit(kind, hidden, message)
    except (BadInput, Transient) as error:
        return reply(ChannelTest(ok=False, detail=error.message))
    return reply(ChannelTest(ok=True, detail="it was taken"))


@api.get("/notifications/unsubscribe/<token>", responses={200: {"description": "A page."}})
def show_unsubscribe(path: UnsubscribePath) -> Response:
    """Where an unsubscribe link leads: a page with a button. Opening it changes nothing, as mail scanners do that."""
    sign_in_limit().take(None, address())
    with transaction() as session:
        kind = channels.unsubscribe(session, path.token, only_look=True)
    what = "notifications" if kind == channels.ALL else kind.replace("_", " ")
    return Response(_PAGE.format(what=escape(what)), mimetype="text/html")


@api.post("/notifications/unsubscribe/<token>", responses={200: {"description": "A page."}})
def unsubscribe(path: UnsubscribePath) -> Response:
    """End messages of that type over that channel. Mail programs send this by themselves (RFC 8058)."""
    sign_in_limit().take(None, address())
    with transaction() as session:
        channels.unsubscribe(session, path.token, only_look=True)
    audit.begin_signed("unsubscribe", path.token.partition(".")[0])
    with transaction() as session:
        channels.unsubscribe(session, path.token)
    return Response(_DONE, mimetype="text/html")


@api.get("/dead-letters", responses={200: LetterList})
def list_letters(query: LetterListQuery) -> Response:
    """List notifications of everybody that could not be delivered, the newest first."""
    with transaction() as session:
        found = letters.page(session, cursors.identifiers(_LETTERS, query.after), query.limit + 1)
        items = [_letter(one) for one in found[: query.limit]]
    last = items[-1] if len(found) > query.limit else None
    more = cursors.cursor(_LETTERS, last.notification_id, last.channel_id) if last else None
    return reply(LetterList(items=items, next_cursor=more))


@api.post("/dead-letters/replay", responses={200: LettersSettled})
def replay_letters(body: WhichLetters) -> Response:
    """Send dead letters again, as if they were new."""
    _refuse_none(body)
    with transaction() as session:
        return reply(LettersSettled(done=letters.replay(session, body.notification_id, body.channel_id)))


@api.post("/dead-letters/drop", responses={200: LettersSettled})
def drop_letters(body: WhichLetters) -> Response:
    """Give dead letters up."""
    _refuse_none(body)
    with transaction() as session:
        return reply(LettersSettled(done=letters.drop(session, body.notification_id, body.channel_id)))


_PAGE: Final = (
    '<!doctype html><html lang="en"><title>AgentFlow</title><p>Send no more {what} over this channel?</p>'
    '<form method="post"><button>Unsubscribe</button></form></html>'
)
_DONE: Final = (
    '<!doctype html><html lang="en"><title>AgentFlow</title>'
    "<p>Done: no more of these are sent over this channel.</p></html>"
)


def _channel(one: NotificationChannel) -> ChannelView:
    return ChannelView(
        id=one.id,
        kind=ChannelKind(one.kind),
        name=one.name,
        details=one.details,
        enabled=one.enabled,
        created_at=one.created_at,
        sent_at=one.sent_at,
        failures=one.failures,
        error=one.error,
        tried_again_at=one.open_at,
    )


def _letter(one: Letter) -> LetterView:
    assert one.delivery.dead_at is not None
    return LetterView(
        notification_id=one.notification.id,
        channel_id=one.channel.id,
        user_id=one.notification.owner_id,
        type=Kind(one.notification.kind),
        channel=ChannelKind(one.channel.kind),
        attempts=one.delivery.attempts,
        error=one.delivery.error,
        created_at=one.notification.created_at,
        died_at=one.delivery.dead_at,
    )


def _wanted(body: NewPreferences) -> Preferences:
    quiet = None
    if body.quiet_hours is not None:
        start, end = map(_minutes, (body.quiet_hours.start, body.quiet_hours.end))
        if start == end:
            raise Malformed("quiet_hours: start and end are the same")
        quiet = Quiet(start, end)
    types = {kind: Preferred(one.mode, one.channels) for kind, one in body.types.items()}
    return Preferences(quiet, body.daily_cap, types)


def _preferences(found: Preferences, role: Role, zone: str) -> PreferencesView:
    none = Preferred()
    return PreferencesView(
        quiet_hours=found.quiet and QuietHoursView(start=_clock(found.quiet.start), end=_clock(found.quiet.end)),
        time_zone=zone,
        daily_cap=found.cap,
        types={
            kind: TypeView(
                mode=found.types.get(kind, none).mode,
                default=DEFAULTS[kind],
                channels={str(id): mode for id, mode in found.types.get(kind, none).channels.items()},
            )
            for kind in preferences.kinds_for(role)
        },
    )


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _refuse_none(body: WhichLetters) -> None:
    if body.all == (body.notification_id is not None or body.channel_id is not None):
        raise Malformed("all: say which dead letters, or all, and not both")
