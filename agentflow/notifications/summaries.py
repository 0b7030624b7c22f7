"""Tells users what ran: of the day, the week and the month before, by the clock of their time zone.

Only users who ever had a channel get summaries, and of a period in which something ran. They are made at 7 in the
morning; weeks begin on Monday.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from agentflow.accounts.tables import User
from agentflow.clock import now
from agentflow.notifications import preferences, service, store
from agentflow.notifications.kinds import Kind, Mode
from agentflow.notifications.preferences import Preferences
from agentflow.notifications.timing import SUMMARY_AT, local_time, next_at
from agentflow.storage.views import activity

MOST: Final = 50
"""Users of whom one transaction writes the summaries."""

_MOST_GRAPHS: Final = 5


class Period(NamedTuple):
    """A period that a summary is about: from the beginning of one day to that of another."""

    kind: Kind
    since: date
    until: date


def ended(today: date) -> Iterator[Period]:
    """The periods that ended when today began."""
    yield Period(Kind.DAILY_SUMMARY, today - timedelta(days=1), today)
    if today.weekday() == 0:
        yield Period(Kind.WEEKLY_SUMMARY, today - timedelta(days=7), today)
    if today.day == 1:
        yield Period(Kind.MONTHLY_SUMMARY, (today - timedelta(days=1)).replace(day=1), today)


def write_due(session: Session, at: datetime | None = None) -> int:
    """Write the summaries that are due, of at most `MOST` users; returns of how many. `at`: the time; None: now."""
    moment = at or now()
    due = store.summaries_due(session, MOST)
    users = store.readers(session, [row.owner_id for row in due])
    for row in due:
        user = users[row.owner_id]
        zone = preferences.zone_of(user)
        if user.suspended_at is None and user.deleting_at is None:
            _write(session, user, zone, Preferences.of(row), moment)
        row.summary_at = next_at(moment, SUMMARY_AT, zone)
    session.flush()
    return len(due)


def _write(session: Session, user: User, zone: ZoneInfo, preferred: Preferences, moment: datetime) -> None:
    for kind, first, last in ended(moment.astimezone(zone).date()):
        if preferred.mode(kind) is Mode.OFF and not preferred.types[kind].channels:
            continue
        found = activity.of_period(
            session, user.id, local_time(first, 0, zone), local_time(last, 0, zone), _MOST_GRAPHS
        )
        if found.runs == 0:
            continue
        data = {**found._asdict(), "graphs": [graph._asdict() for graph in found.graphs]}
        data |= {"since": first.isoformat(), "until": (last - timedelta(days=1)).isoformat(), "zone": zone.key}
        service.note(session, user.id, kind, f"{kind}:{first.isoformat()}", data)
