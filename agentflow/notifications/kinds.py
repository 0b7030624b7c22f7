"""Names what users are told of, how soon, over which channels, and the states of a delivery."""

from enum import StrEnum
from typing import Final


class NotificationType(StrEnum):
    """What a notification is about."""

    RUN_FINISHED = "run_finished"  # a run ended whose owner asked to be told, or that was labelled so
    RUN_FAILED = "run_failed"
    REVIEW_WANTED = "review_wanted"  # a node waits for a person
    ZERO_BALANCE = "zero_balance"  # something could not be paid; once until credits are given
    LOW_BALANCE = "low_balance"  # fewer credits than the operator's limit; once until credits are given
    CREDENTIAL_NEEDS_YOU = "credential_needs_you"  # its provider refuses it, or it expires soon
    SCHEDULE_PAUSED = "schedule_paused"  # a schedule paused itself
    TRIGGER_PAUSED = "trigger_paused"  # likewise
    CHANNEL_OFF = "channel_off"  # a channel was switched off: its receiver says that it is gone
    BLOCK_FAILING = "block_failing"  # a block fails again and again
    DAILY_SUMMARY = "daily_summary"
    WEEKLY_SUMMARY = "weekly_summary"
    MONTHLY_SUMMARY = "monthly_summary"
    MANUAL_INTERVENTION = "manual_intervention"  # for admins, as those below: something that only a person can mend
    DEAD_LETTERS = "dead_letters"  # notifications that could not be delivered
    SYSTEM_ALERT = "system_alert"


Kind = NotificationType
"""The same by its short name; the long one is public."""


class Mode(StrEnum):
    """How soon a notification is sent over a channel."""

    OFF = "off"  # it is listed, and not sent
    AT_ONCE = "at_once"
    BACKOFF = "backoff"  # at once, then what follows within the hour in one message at its end
    HOURLY = "hourly"  # with all of its kind in one message at the full hour
    DAILY = "daily"  # likewise, once a day


DEFAULTS: Final[dict[Kind, Mode]] = {
    Kind.RUN_FINISHED: Mode.DAILY,
    Kind.RUN_FAILED: Mode.AT_ONCE,
    Kind.REVIEW_WANTED: Mode.AT_ONCE,
    Kind.ZERO_BALANCE: Mode.AT_ONCE,
    Kind.LOW_BALANCE: Mode.AT_ONCE,
    Kind.CREDENTIAL_NEEDS_YOU: Mode.AT_ONCE,
    Kind.SCHEDULE_PAUSED: Mode.BACKOFF,
    Kind.TRIGGER_PAUSED: Mode.BACKOFF,
    Kind.CHANNEL_OFF: Mode.AT_ONCE,
    Kind.BLOCK_FAILING: Mode.BACKOFF,
    Kind.DAILY_SUMMARY: Mode.AT_ONCE,
    Kind.WEEKLY_SUMMARY: Mode.AT_ONCE,
    Kind.MONTHLY_SUMMARY: Mode.AT_ONCE,
    Kind.MANUAL_INTERVENTION: Mode.AT_ONCE,
    Kind.DEAD_LETTERS: Mode.AT_ONCE,
    Kind.SYSTEM_ALERT: Mode.AT_ONCE,
}
"""How each kind is sent unless its reader says otherwise."""

FOR_ADMINS: Final = frozenset({Kind.MANUAL_INTERVENTION, Kind.DEAD_LETTERS, Kind.SYSTEM_ALERT})
"""Kinds that only admins get."""


class ChannelKind(StrEnum):
    """A way to reach a user."""

    EMAIL = "email"
    WEBHOOK = "webhook"
    APPRISE = "apprise"  # what the library of that name reaches: chats, pushes, …


class NotificationState(StrEnum):
    """Where one notification stands at one channel."""

    WAITING = "WAITING"  # → SENDING: its time has come; → DEAD: too many tries, or too old
    SENDING = "SENDING"  # → SENT; → WAITING: it failed, or its worker died; → DEAD: it failed for good
    SENT = "SENT"  # the receiver has taken it
    DEAD = "DEAD"  # → WAITING: replayed by an admin; → DROPPED: given up by an admin
    DROPPED = "DROPPED"
