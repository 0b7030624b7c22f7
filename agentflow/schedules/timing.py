"""Says when a schedule is due: by a cron expression in a time zone, at an interval, or once. Pure: it reads no clock.

cronsim parses the expression and finds matching wall times. It is told nothing of zones: its own handling of summer
time loses the times 02:00 to 02:29 when Lord Howe Island goes back by half an hour. What a change of the clock does is
decided here, as Debian's cron does:

    fixed times     (neither minute nor hour begins with `*`) in the gap: right after it, once; in the repeated hour:
                    the first time only
    wildcards       they follow the clock: not in the gap, twice in the repeated hour
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from agentflow.errors import BadInput
from agentflow.forking import lazy
from agentflow.zones import zone

SHORTEST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(days=366)
"""Bounds of an interval."""

_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LONGEST_EXPRESSION: Final = 250
"""Characters of a cron expression, at most."""

_FIELDS: Final = ("minute", "hour", "day-of-month", "month", "day-of-week")
"""As cronsim calls them."""

_FAR: Final = timedelta(hours=25)
"""No change of a clock was ever larger: Samoa left out a whole day in 2011."""


@dataclass(frozen=True)
class Cron:
    """A cron expression of five fields, or an alias such as `@daily`, in a time zone.

    Raises:
        BadInput: it is no such expression, it never comes, or there is no such zone.
    """

    expression: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        zone(self.zone)
        if len(self.expression) > _LONGEST_EXPRESSION:
            raise BadInput(f"a cron expression has at most {_LONGEST_EXPRESSION} characters")
        fields = self._text.split()
        if len(fields) != 5:
            known = ", ".join(sorted(_ALIASES))
            raise BadInput(
                f"the cron expression {self.expression!r} has {len(fields)} fields; it needs five (minute, hour, day "
                f"of the month, month, day of the week), or is one of {known}"
            )
        try:
            CronSim(self._text, datetime(2000, 1, 1))
        except CronSimError as error:
            told = str(error)[:1].lower() + str(error)[1:]
            if any(told == f"bad {name}" and "-" in field for name, field in zip(_FIELDS, fields, strict=True)):
                told += "; a range goes upwards: SAT-SUN is 6-7, and 22-5 is 22-23,0-5"
            raise BadInput(f"the cron expression {self.expression!r} is wrong: {told}") from None
        if next(self.after(datetime(2000, 1, 1, tzinfo=UTC)), None) is None:
            raise BadInput(f"the cron expression {self.expression!r} never comes")

    def after(self, moment: datetime) -> Iterator[datetime]:
        """All times after `moment`, ascending and in UTC; it ends where there is none for decades.

        Args:
            moment: with a time zone.
        """
        wall = self._wall_of(moment)
        if self._wall_of(moment + _FAR) - self._wall_of(moment - _FAR) != 2 * _FAR:
            wall -= _FAR  # the clock is changed around then: earlier times on the wall may come later
        last = moment
        for due in self._instants(wall):
            if due > last:
                last = due
                yield due

    def _instants(self, wall: datetime) -> Iterator[datetime]:
        """The instants of all matching wall times after `wall`, ascending."""
        again: list[datetime] = []  # those of the repeated hour, when it comes for the second time
        for matching in _matching(self._text, wall):
            first, second = (matching.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1))
            while again and again[0] <= first:
                yield heapq.heappop(again)
            if first == second:
                yield first
            elif first < second:
                yield first
                if not self._is_fixed:
                    heapq.heappush(again, second)
            elif self._is_fixed:
                yield self._change_between(second, first)
        yield from sorted(again)

    def _change_between(self, before: datetime, after: datetime) -> datetime:
        """When the clock is changed: `before` is before that, and `after` is not."""
        offset = before.astimezone(self._zone).utcoffset()
        while after - before > timedelta(seconds=1):
            middle = (before + (after - before) / 2).replace(microsecond=0)
            if middle.astimezone(self._zone).utcoffset() == offset:
                before = middle
            else:
                after = middle
        return after

    def _wall_of(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone).replace(tzinfo=None)

    @lazy
    def _text(self) -> str:
        """The expression as cronsim takes it."""
        text = self.expression.strip()
        return _ALIASES.get(text.lower(), text).upper()

    @lazy
    def _zone(self) -> ZoneInfo:
        return zone(self.zone)

    @lazy
    def _is_fixed(self) -> bool:
        minute, hour, *_ = self._text.split()
        return not minute.startswith("*") and not hour.startswith("*")


@dataclass(frozen=True)
class Interval:
    """Every so often, counted from `start`: what is late moves nothing that follows.

    Raises:
        BadInput: it is shorter than `SHORTEST`, or longer than `LONGEST`.
    """

    every: timedelta
    start: datetime

    def __post_init__(self) -> None:
        if not SHORTEST <= self.every <= LONGEST:
            raise BadInput(
                f"an interval is {SHORTEST.total_seconds():.0f} to {LONGEST.total_seconds():.0f} seconds, not "
                f"{self.every.total_seconds():g}"
            )

    def after(self, moment: datetime) -> Iterator[datetime]:
        """All times after `moment`, ascending and in UTC. `start` is the first of them."""
        due = self.start.astimezone(UTC) + self.every * max((moment - self.start) // self.every + 1, 0)
        while True:
            yield due
            due += self.every


@dataclass(frozen=True)
class Once:
    """At one moment."""

    at: datetime

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The moment, if it comes after `moment`."""
        if self.at > moment:
            yield self.at.astimezone(UTC)


Timing = Cron | Interval | Once


def following(timing: Timing, moment: datetime, count: int) -> list[datetime]:
    """The next `count` times after `moment`; fewer, if it ends."""
    return list(islice(timing.after(moment), count))


def latest(timing: Timing, after: datetime, until: datetime, count: int) -> list[datetime]:
    """The last `count` times that come after `after` and not after `until`, ascending.

    However many there are, no more than some of them are looked at: what lies far back is not counted.
    """
    span = timedelta(minutes=count)
    while True:
        start = max(until - span, after)
        found = list(takewhile(lambda due: due <= until, timing.after(start)))
        if len(found) >= count or start == after:
            return found[-count:]
        span *= 2


def _matching(text: str, wall: datetime) -> Iterator[datetime]:
    """The matching wall times after `wall`, where there are some."""
    try:
        yield from CronSim(text, wall)
    except (CronSimError, OverflowError):  # no such day, such as 29 February on a Monday, for fifty years
        return
