"""Decides when something is sent: pure functions of the time, a mode, quiet hours and what was planned before.

A time of the day is a number of minutes since midnight, on the clock that a user's wall shows. Where that clock is put
forward, a time that is left out falls right after the gap; where it is put back, a time comes twice.
"""

import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from agentflow.notifications.kinds import Mode

BACKOFF: Final = timedelta(minutes=60)
"""What follows within so long goes into one message at its end, in the mode `backoff`."""

DIGEST_AT: Final = 8 * 60
"""Minutes of the day: when daily messages are sent."""

SUMMARY_AT: Final = 7 * 60
"""Minutes of the day: when a summary of the day, week or month before is made."""

LONGEST_WAIT: Final = 86_400.0
"""Seconds between two tries, at most."""

GIVE_UP: Final = timedelta(days=3)
"""After so long a message that could not be sent is a dead letter."""

MOST_ATTEMPTS: Final = 14
"""Tries after which a message is a dead letter: the wait before the last of them is a day."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """The hours in which nothing is sent, in minutes of the day; they may go over midnight. The ends differ."""

    start: int
    end: int

    def covers(self, moment: datetime, zone: ZoneInfo) -> bool:
        """Whether it is quiet then."""
        there = moment.astimezone(zone)
        minute = there.hour * 60 + there.minute
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def end_after(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The first time that is not quiet, from `moment` on."""
        if not self.covers(moment, zone):
            return moment
        today = moment.astimezone(zone).date()
        ends = sorted(
            local_time(today + timedelta(days=days), self.end, zone, fold) for days in (0, 1, 2) for fold in (0, 1)
        )
        return next(end for end in ends if end >= moment and not self.covers(end, zone))


@dataclass(frozen=True, slots=True)
class Plan:
    """When a message is sent, and with which others: those of its batch; None: alone."""

    due: datetime
    batch: str | None


def local_time(day: date, minute: int, zone: ZoneInfo, fold: int = 0) -> datetime:
    """The moment, in UTC, at which a clock there shows that time; `fold` 1: the second, where it comes twice."""
    clock = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone, fold=fold)
    return clock.astimezone(UTC)


def next_at(now: datetime, minute: int, zone: ZoneInfo) -> datetime:
    """The next time, after now, at which a clock there shows that time."""
    today = now.astimezone(zone).date()
    times = (local_time(today + timedelta(days=days), minute, zone) for days in (0, 1, 2))
    return next(moment for moment in times if moment > now)


def next_hour(now: datetime, zone: ZoneInfo) -> datetime:
    """The next full hour there, after now."""
    there = now.astimezone(zone)
    return (
        now + timedelta(hours=1) - timedelta(minutes=there.minute, seconds=there.second, microseconds=there.microsecond)
    )


def plan(now: datetime, kind: str, mode: Mode, zone: ZoneInfo, quiet: Quiet | None, latest: datetime | None) -> Plan:
    """When a message is sent, of any mode but `off`.

    Args:
        now: the present time, with a time zone.
        kind: what it is about.
        mode: how soon its reader wants it.
        zone: the reader's time zone.
        quiet: the reader's quiet hours; None: none.
        latest: when the last one of its kind was planned for, over the same channel; None: never. For `backoff`.
    """
    batch: str | None = mode
    if mode is Mode.HOURLY:
        due = next_hour(now, zone)
    elif mode is Mode.DAILY:
        due = next_at(now, DIGEST_AT, zone)
    elif mode is Mode.BACKOFF and latest is not None and latest + BACKOFF > now:
        due, batch = (latest if latest > now else latest + BACKOFF), f"{mode} {kind}"
    else:
        due, batch = now, None
    if quiet is not None:
        due = quiet.end_after(due, zone)
    return Plan(due, batch)


def wait(tries: int, first: float, chance: float | None = None) -> float:
    """Seconds until the next try, after so many failed ones: it doubles up to `LONGEST_WAIT`, less up to a half.

    Args:
        tries: how many have failed, from 1.
        first: seconds after the first one.
        chance: 0 to 1; None: at random, so that what failed together does not come back together.
    """
    longest = min(first * 2.0 ** min(tries - 1, 40), LONGEST_WAIT)
    drawn = random.random() if chance is None else chance  # noqa: S311 - no secret
    return longest * (1 - drawn / 2)
