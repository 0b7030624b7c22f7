"""Wraps the API calls about notifications, as `Client.notifications` and `Client.dead_letters`."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from uuid import UUID

from agentflow.client.http import Http, every
from agentflow.notifications.schemas import (
    ChannelList,
    ChannelTest,
    ChannelView,
    LetterList,
    LettersSettled,
    LetterView,
    Marked,
    NewChannelView,
    NotificationDetails,
    NotificationList,
    NotificationView,
    PreferencesView,
)

Id = UUID | str

_PATH = "/notifications"
_CHANNELS = "/notifications/channels"


class Notifications:
    """What the caller is told, over which channels, and how soon."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def list(
        self, *, type: str | None = None, read: bool | None = None, limit: int | None = None
    ) -> Iterator[NotificationView]:
        """Notifications, the newest first; of a type, or only unread (`read` False) or read ones."""
        query = {"type": type, "read": None if read is None else str(read).lower()}
        return islice(every(self._http, _PATH, NotificationList.model_validate, query), limit)

    def unread(self) -> int:
        """How many are unread, counted up to 1,000."""
        return NotificationList.model_validate(self._http.call("GET", _PATH, query={"limit": "1"})).unread

    def get(self, notification_id: Id) -> NotificationDetails:
        """A notification, what it says, and where it was sent."""
        return NotificationDetails.model_validate(self._http.call("GET", f"{_PATH}/{notification_id}"))

    def mark(self, notification_id: Id, *, read: bool = True) -> NotificationView:
        """Mark one as read, or as unread."""
        changed = self._http.call("PATCH", f"{_PATH}/{notification_id}", body={"read": read})
        return NotificationView.model_validate(changed)

    def mark_all(self, up_to: Id | None = None) -> int:
        """Mark all as read, or all up to one; returns how many were unread."""
        body = {"up_to": str(up_to)} if up_to else {}
        return Marked.model_validate(self._http.call("POST", f"{_PATH}/read", body=body)).marked

    def preferences(self) -> PreferencesView:
        """How soon the caller is told of each type, over which channel, and when not."""
        return PreferencesView.model_validate(self._http.call("GET", f"{_PATH}/preferences"))

    def set_preferences(
        self,
        *,
        quiet_hours: Mapping[str, str] | None = None,
        daily_cap: int | None = None,
        types: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> PreferencesView:
        """Set all of that; what is left out is as by default. `quiet_hours`: {start, end}; a type: {mode, channels}."""
        body = {
            "quiet_hours": dict(quiet_hours) if quiet_hours else None,
            "daily_cap": daily_cap,
            "types": {kind: dict(one) for kind, one in (types or {}).items()},
        }
        return PreferencesView.model_validate(self._http.call("PUT", f"{_PATH}/preferences", body=body))

    def channels(self, *, limit: int | None = None) -> Iterator[ChannelView]:
        """The caller's channels, the newest first."""
        return islice(every(self._http, _CHANNELS, ChannelList.model_validate, {}), limit)

    def channel(self, channel_id: Id) -> ChannelView:
        """A channel."""
        return ChannelView.model_validate(self._http.call("GET", f"{_CHANNELS}/{channel_id}"))

    def add_channel(self, kind: str, name: str, address: str) -> NewChannelView:
        """Add a channel: `email`, `webhook` or `apprise`. It is not retried once the API may have received it."""
        body = {"kind": kind, "name": name, "address": address}
        return NewChannelView.model_validate(self._http.call("POST", _CHANNELS, body=body, repeatable=False))

    def change_channel(self, channel_id: Id, **changes: Any) -> ChannelView:
        """Change a channel: its `name`, or whether it is `enabled`."""
        return ChannelView.model_validate(self._http.call("PATCH", f"{_CHANNELS}/{channel_id}", body=changes))

    def delete_channel(self, channel_id: Id) -> None:
        """Delete a channel, with what waits for it."""
        self._http.call("DELETE", f"{_CHANNELS}/{channel_id}", repeatable=False)

    def rotate_channel(self, channel_id: Id) -> NewChannelView:
        """Replace what signs a webhook's messages; for a day both sign."""
        path = f"{_CHANNELS}/{channel_id}/rotate"
        return NewChannelView.model_validate(self._http.call("POST", path, repeatable=False))

    def test_channel(self, channel_id: Id) -> ChannelTest:
        """Send a test over a channel at once."""
        path = f"{_CHANNELS}/{channel_id}/test"
        return ChannelTest.model_validate(self._http.call("POST", path, repeatable=False))


class DeadLetters:
    """Notifications of everybody that could not be delivered. For admins."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def list(self, *, limit: int | None = None) -> Iterator[LetterView]:
        """Dead letters, the newest first."""
        return islice(every(self._http, "/dead-letters", LetterList.model_validate, {}), limit)

    def replay(
        self, *, notification_id: Id | None = None, channel_id: Id | None = None, everything: bool = False
    ) -> int:
        """Send them again: of a notification, of a channel, or everything; returns how many, 1,000 at most."""
        return self._settle("replay", notification_id, channel_id, everything)

    def drop(self, *, notification_id: Id | None = None, channel_id: Id | None = None, everything: bool = False) -> int:
        """Give them up, likewise."""
        return self._settle("drop", notification_id, channel_id, everything)

    def _settle(self, how: str, notification_id: Id | None, channel_id: Id | None, everything: bool) -> int:
        body: dict[str, Any] = {"all": everything}
        body |= {"notification_id": str(notification_id)} if notification_id else {}
        body |= {"channel_id": str(channel_id)} if channel_id else {}
        return LettersSettled.model_validate(self._http.call("POST", f"/dead-letters/{how}", body=body)).done
