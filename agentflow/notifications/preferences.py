"""Keeps what a user prefers: how soon they are told of each kind, over which channel, when not, and how often a day."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from agentflow.accounts.scopes import Role
from agentflow.accounts.tables import User
from agentflow.clock import now
from agentflow.errors import BadInput, NotFound
from agentflow.notifications import store
from agentflow.notifications.kinds import DEFAULTS, FOR_ADMINS, Kind, Mode
from agentflow.notifications.tables import NotificationSettings
from agentflow.notifications.timing import SUMMARY_AT, Quiet, next_at
from agentflow.zones import zone

DAILY_CAP: Final = 100
"""Messages a day over one channel, unless its owner says otherwise; what is beyond comes in the next daily message."""

MOST_DAILY: Final = 10_000

_UTC: Final = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Preferred:
    """How soon notifications of one kind are sent.

    Attributes:
        mode: over all channels; None: the default of the kind.
        channels: channel → another mode over it.
    """

    mode: Mode | None = None
    channels: Mapping[UUID, Mode] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Preferred":
        """As it is stored."""
        mode = stored.get("mode")
        others = {UUID(channel): Mode(one) for channel, one in stored.get("channels", {}).items()}
        return cls(None if mode is None else Mode(mode), others)

    def stored(self) -> dict[str, Any]:
        """To be stored."""
        return {
            "mode": None if self.mode is None else self.mode.value,
            "channels": {str(channel): mode.value for channel, mode in self.channels.items()},
        }


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a user prefers.

    Attributes:
        quiet: the hours in which nothing is sent; None: there are none.
        daily_cap: messages a day over each channel; None: `DAILY_CAP`.
        types: those of which something else than the default is preferred.
    """

    quiet: Quiet | None = None
    daily_cap: int | None = None
    types: Mapping[Kind, Preferred] = field(default_factory=dict)

    @classmethod
    def of(cls, row: NotificationSettings | None) -> "Preferences":
        """What is stored; None: the defaults."""
        if row is None:
            return cls()
        quiet = None
        if row.quiet_from is not None and row.quiet_until is not None:
            quiet = Quiet(row.quiet_from, row.quiet_until)
        return cls(quiet, row.daily_cap, {Kind(kind): Preferred.of(one) for kind, one in row.types.items()})

    @property
    def cap(self) -> int:
        """Messages a day over each channel."""
        return DAILY_CAP if self.daily_cap is None else self.daily_cap

    def mode(self, kind: Kind, channel_id: UUID | None = None) -> Mode:
        """How soon one of that kind is sent; `channel_id`: over that channel."""
        preferred = self.types.get(kind, Preferred())
        general = DEFAULTS[kind] if preferred.mode is None else preferred.mode
        return general if channel_id is None else preferred.channels.get(channel_id, general)


def get(session: Session, owner_id: UUID) -> Preferences:
    """What a user prefers."""
    return Preferences.of(store.settings_of(session, owner_id))


def set_to(session: Session, owner_id: UUID, wanted: Preferences) -> Preferences:
    """Make a user's preferences `wanted`, as a whole.

    Raises:
        NotFound: a channel in them is none of the user's.
    """
    row = _row(session, owner_id)
    known = store.channel_ids(session, owner_id)
    for kind, preferred in wanted.types.items():
        for channel in preferred.channels:
            if channel not in known:
                raise NotFound(f"types.{kind}.channels: there is no channel {channel}")
    row.quiet_from = wanted.quiet.start if wanted.quiet else None
    row.quiet_until = wanted.quiet.end if wanted.quiet else None
    row.daily_cap = wanted.daily_cap
    _set_types(row, wanted.types)
    session.flush()
    return wanted


def switch_off(session: Session, owner_id: UUID, channel_id: UUID, kind: Kind) -> None:
    """Send a user no more notifications of a kind over one channel."""
    row = _row(session, owner_id)
    types = dict(Preferences.of(row).types)
    before = types.get(kind, Preferred())
    types[kind] = Preferred(before.mode, {**before.channels, channel_id: Mode.OFF})
    _set_types(row, types)
    session.flush()


def begin(session: Session, owner_id: UUID) -> None:
    """Note that a user has a channel: they get summaries from now on. Locks their preferences."""
    row = _row(session, owner_id)
    if row.summary_at is None:
        row.summary_at = next_at(now(), SUMMARY_AT, zone_of(session.get_one(User, owner_id)))
        session.flush()


def zone_of(user: User) -> ZoneInfo:
    """A user's time zone; UTC, where they gave none, or one that is not known here."""
    if user.time_zone is None:
        return _UTC
    try:
        return zone(user.time_zone)
    except BadInput:
        return _UTC


def kinds_for(role: Role) -> list[Kind]:
    """What a user of that role may be told of."""
    return [kind for kind in Kind if role is Role.ADMIN or kind not in FOR_ADMINS]


def _row(session: Session, owner_id: UUID) -> NotificationSettings:
    row = store.settings_of(session, owner_id, lock=True)
    assert row is not None
    return row


def _set_types(row: NotificationSettings, types: Mapping[Kind, Preferred]) -> None:
    row.types = {kind.value: preferred.stored() for kind, preferred in types.items()}
    finished = types.get(Kind.RUN_FINISHED, Preferred())
    asked = [finished.mode, *finished.channels.values()]
    row.wants_finished = any(mode not in (None, Mode.OFF) for mode in asked)
