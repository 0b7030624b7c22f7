"""Defines requests and replies about notifications, channels, preferences and dead letters."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BeforeValidator, Field, SecretStr, StrictBool

from agentflow.graph.json_values import only_a_number
from agentflow.notifications.kinds import ChannelKind, Kind, Mode, NotificationState
from agentflow.notifications.preferences import MOST_DAILY
from agentflow.schemas.base import Page, PageQuery, Reply, Request, of_form

Title = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")
]
"""Text of one line that is not blank."""

_MINUTE: Final = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"

Minute = Annotated[str, Field(pattern=_MINUTE), of_form(_MINUTE, "a time of the day is written as 07:30 or 22:00")]
"""A time of the day, as 07:30."""


class NotificationDeliveryView(Reply):
    """Where a notification stands at a channel."""

    channel_id: UUID
    state: NotificationState
    attempts: int
    due_at: datetime = Field(description="When it is sent, or tried again.")
    sent_at: datetime | None = None
    error: str | None = Field(None, description="Of the last attempt.")


class NotificationView(Reply):
    """Something that you are told."""

    id: UUID
    type: Kind
    title: str
    data: dict[str, Any]
    created_at: datetime
    read_at: datetime | None = None


class NotificationDetails(NotificationView):
    """A notification, and where it was sent."""

    text: str = Field(description="What it says, for people.")
    deliveries: list[NotificationDeliveryView] = []


class NotificationList(Page):
    """Notifications, the newest first."""

    items: list[NotificationView]
    unread: int = Field(description="How many are unread in all, counted up to 1,000.")


class NotificationListQuery(PageQuery):
    """Which notifications to list."""

    type: Kind | None = Field(None, description="Of this type only.")
    read: bool | None = Field(None, description="false: unread ones only; true: read ones only.")


class ChangeNotification(Request):
    """Mark a notification."""

    read: StrictBool


class MarkAll(Request):
    """Mark many notifications as read."""

    up_to: UUID | None = Field(None, description="Up to this one, as they are listed; what came after stays unread.")


class Marked(Reply):
    """How many were marked."""

    marked: int


class NewChannel(Request):
    """A way to reach you."""

    kind: ChannelKind
    name: Title
    address: Annotated[SecretStr, Field(min_length=1, max_length=2_000)] = Field(
        description="An e-mail address; the URL of a webhook; a URL of apprise, as discord://id/token."
    )


class ChangeChannel(Request):
    """What to change; what is left out stays."""

    name: Title | None = None
    enabled: StrictBool | None = Field(None, description="Nothing is sent over one that is off.")


class ChannelView(Reply):
    """A way to reach you. Its address is a secret: only where it leads is shown."""

    id: UUID
    kind: ChannelKind
    name: str
    details: dict[str, Any]
    enabled: StrictBool
    created_at: datetime
    sent_at: datetime | None = Field(None, description="When something was sent over it last.")
    failures: int = Field(description="In a row, up to now.")
    error: str | None = Field(None, description="Of the last of these.")
    tried_again_at: datetime | None = Field(None, description="After a failure: nothing is sent over it before.")


class NewChannelView(ChannelView):
    """A channel, with the secret that signs its messages, which is shown this once."""

    secret: str | None = Field(None, description="Of a webhook: whsec_… of Standard Webhooks.")


class ChannelList(Page):
    """Channels, the newest first."""

    items: list[ChannelView]


class ChannelListQuery(PageQuery):
    """Which channels to list."""


class ChannelTest(Reply):
    """What came of trying a channel."""

    ok: StrictBool
    detail: str


class QuietHours(Request):
    """Hours in which nothing is sent, on the clock of your time zone; they may go over midnight."""

    start: Minute
    end: Minute


class TypePreference(Request):
    """How soon you are told of one type."""

    mode: Mode | None = Field(None, description="null: the default of the type.")
    channels: Annotated[dict[UUID, Mode], Field(max_length=100)] = Field(
        default_factory=dict, description="Channel → another mode over it."
    )


class NewPreferences(Request):
    """What you prefer, as a whole: what is left out is as by default."""

    quiet_hours: QuietHours | None = None
    daily_cap: Annotated[int, Field(ge=1, le=MOST_DAILY), BeforeValidator(only_a_number)] | None = Field(
        None, description="Messages a day over each channel; what is beyond comes in one message the next day."
    )
    types: dict[Kind, TypePreference] = {}


class TypeView(Reply):
    """How soon you are told of one type."""

    mode: Mode | None = Field(None, description="null: the default.")
    default: Mode
    channels: dict[str, Mode] = Field(description="Channel → another mode over it.")


class QuietHoursView(Reply):
    """Hours in which nothing is sent."""

    start: str
    end: str


class PreferencesView(Reply):
    """What you prefer."""

    quiet_hours: QuietHoursView | None = None
    time_zone: str = Field(description="Yours, by which quiet hours and daily messages go: set it with your user.")
    daily_cap: int
    types: dict[Kind, TypeView]


class LetterView(Reply):
    """A notification that could not be delivered over a channel."""

    notification_id: UUID
    channel_id: UUID
    user_id: UUID
    type: Kind
    channel: ChannelKind
    attempts: int
    error: str | None = None
    created_at: datetime
    died_at: datetime


class LetterList(Page):
    """Dead letters of everybody, the newest first."""

    items: list[LetterView]


class LetterListQuery(PageQuery):
    """Which dead letters to list."""


class WhichLetters(Request):
    """Which dead letters: give at least one of these, or `all`."""

    notification_id: UUID | None = None
    channel_id: UUID | None = None
    all: StrictBool = False


class LettersSettled(Reply):
    """How many it was done to. 1,000 at a time: repeat it while there are that many."""

    done: int
