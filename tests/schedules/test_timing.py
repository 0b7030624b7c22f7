"""A schedule is due at the times that people expect, over every change of the clock."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.errors import BadInput
from agentflow.schedules.timing import LONGEST, Cron, Interval, Once, following, latest

MINUTE = timedelta(minutes=1)

# Worked out by hand. Berlin: +1 → +2 on 29 March 2026 at 02:00, back on 25 October at 03:00. New York: −5 → −4 on
# 8 March at 02:00, back on 1 November at 02:00. Lord Howe: +11 → +10:30 on 5 April at 02:00, and back on 4 October at
# 02:00. Kathmandu: +5:45 all year.
TIMES = [
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["29T03:00+02:00", "30T02:30+02:00"]),
    ("0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["29T03:00+02:00", "30T02:00+02:00", "30T03:00+02:00"]),
    ("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:00", ["29T01:30+01:00", "29T03:00+02:00", "29T03:30+02:00"]),
    ("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["30T02:00+02:00", "30T02:30+02:00"]),
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["25T02:30+02:00", "26T02:30+01:00"]),
    ("0 3 * * *", "Europe/Berlin", "2026-10-24T12:00", ["25T03:00+01:00", "26T03:00+01:00"]),
    (
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-10-25T01:30",
        ["25T02:00+02:00", "25T02:30+02:00", "25T02:00+01:00", "25T02:30+01:00", "25T03:00+01:00"],
    ),
    ("15 2 * * *", "America/New_York", "2026-03-07T12:00", ["08T03:00-04:00", "09T02:15-04:00"]),
    ("15 1 * * *", "America/New_York", "2026-10-31T12:00", ["01T01:15-04:00", "02T01:15-05:00"]),
    ("0 * * * *", "America/New_York", "2026-11-01T00:30", ["01T01:00-04:00", "01T01:00-05:00", "01T02:00-05:00"]),
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["04T02:30+11:00", "05T02:15+11:00"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["05T01:45+11:00", "06T01:45+10:30"]),
    (
        "*/15 1,2 * * *",
        "Australia/Lord_Howe",
        "2026-04-05T01:20",
        ["05T01:30+11:00", "05T01:45+11:00", "05T01:30+10:30", "05T01:45+10:30", "05T02:00+10:30", "05T02:15+10:30"],
    ),
    ("0 9 * * MON-FRI", "Asia/Kathmandu", "2026-10-23T12:00", ["26T09:00+05:45", "27T09:00+05:45"]),
    ("@daily", "Asia/Kathmandu", "2026-03-28T12:00", ["29T00:00+05:45", "30T00:00+05:45"]),
    ("0 0 l * *", "UTC", "2026-02-01T00:00", ["28T00:00+00:00", "31T00:00+00:00", "30T00:00+00:00"]),
    ("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00", ["31T00:00+14:00", "30T12:00+14:00"]),  # a day was left out
]


@pytest.mark.parametrize(("expression", "zone", "since", "expected"), TIMES)
def test_the_times_of_an_expression_are_those_worked_out_by_hand(
    expression: str, zone: str, since: str, expected: list[str]
) -> None:
    at = ZoneInfo(zone)
    found = following(Cron(expression, zone), datetime.fromisoformat(since).replace(tzinfo=at), len(expected))
    assert [due.astimezone(at).isoformat(timespec="minutes")[8:] for due in found] == expected
    assert all(due.tzinfo is UTC for due in found)


def by_the_minute(expression: str, zone: str, since: datetime, until: datetime) -> Iterator[datetime]:
    """The same by looking at the clock on the wall each minute, and never looking ahead."""
    is_fixed = not any(field.startswith("*") for field in expression.split()[:2])
    moment = since - timedelta(hours=5)
    seen: set[datetime] = set()
    last = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    while moment < until:
        moment += MINUTE
        wall = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        is_due = next(CronSim(expression, wall - MINUTE)) == wall and not (is_fixed and wall in seen)
        if is_fixed and wall - last > MINUTE:
            is_due |= next(CronSim(expression, last)) < wall
        seen.add(wall)
        last = wall
        if is_due and moment > since:
            yield moment


numbers = st.integers(0, 59).map(str)
minutes = numbers | st.sampled_from(["*/20", "*/7", "0,15,45", "5-50/15", "0-30/10"])
hours = st.integers(0, 3).map(str) | st.sampled_from(["*", "*/2", "1-3", "1,2"])
changes = st.sampled_from(
    [
        ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
        ("Asia/Kathmandu", datetime(2026, 1, 1, tzinfo=UTC)),
    ]
)


@given(minutes, hours, changes, st.integers(-300, 120))
def test_the_times_are_those_of_a_clock_on_the_wall_around_any_change(
    minute: str, hour: str, change: tuple[str, datetime], apart: int
) -> None:
    zone, moment = change
    since = moment + apart * MINUTE
    expected = list(by_the_minute(f"{minute} {hour} * * *", zone, since, since + timedelta(hours=10)))
    found = following(Cron(f"{minute} {hour} * * *", zone), since, len(expected) + 1)
    assert found[: len(expected)] == expected
    assert found[-1] > since + timedelta(hours=10)


@given(minutes, hours, changes, st.integers(0, 20))
def test_where_one_begins_to_look_changes_nothing(
    minute: str, hour: str, change: tuple[str, datetime], count: int
) -> None:
    cron = Cron(f"{minute} {hour} * * *", change[0])
    times = following(cron, change[1] - timedelta(hours=3), 30)
    assert following(cron, times[count], 9) == times[count + 1 : count + 10]


@pytest.mark.parametrize(
    ("expression", "zone", "said"),
    [
        ("* * * * * *", "UTC", "6 fields"),
        ("", "UTC", "0 fields"),
        ("@reboot", "UTC", "1 fields"),
        ("60 * * * *", "UTC", "bad minute"),
        ("a b c d e", "UTC", "bad minute"),
        ("0 0 31 2 *", "UTC", "bad day-of-month"),
        ("0 0 * * 8", "UTC", "bad day-of-week$"),
        ("60 0 * * MON-FRI", "UTC", "bad minute$"),
        ("0 0 * * SAT-SUN", "UTC", "bad day-of-week; a range goes upwards: SAT-SUN is 6-7"),
        ("0 22-5 * * *", "UTC", "bad hour; a range goes upwards: .* 22-5 is 22-23,0-5"),
        ("0 " * 200, "UTC", "250 characters"),
        ("0 0 * * *", "Mars/Olympus", "no time zone called 'Mars/Olympus'"),
        ("0 0 * * *", "../../etc/passwd", "no time zone"),
        ("0 0 * * *", "", "no time zone"),
    ],
)
def test_what_is_no_expression_is_refused_with_what_is_wrong(expression: str, zone: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Cron(expression, zone)


def test_an_interval_counts_from_its_start_whatever_came_late() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    interval = Interval(timedelta(minutes=7), start)
    assert following(interval, start - timedelta(days=9), 2) == [start, start + 7 * MINUTE]
    assert following(interval, start, 1) == [start + 7 * MINUTE]
    assert following(interval, start + 7 * MINUTE, 1) == [start + 14 * MINUTE]
    assert following(interval, start + 13 * MINUTE, 1) == [start + 14 * MINUTE]


@pytest.mark.parametrize("every", [timedelta(0), timedelta(seconds=-5), LONGEST + timedelta(seconds=1)])
def test_an_interval_that_nobody_can_mean_is_refused(every: timedelta) -> None:
    with pytest.raises(BadInput, match="an interval is 1 to"):
        Interval(every, datetime(2026, 1, 1, tzinfo=UTC))


def test_once_comes_once() -> None:
    at = datetime(2026, 1, 1, 12, tzinfo=ZoneInfo("Asia/Kathmandu"))
    assert following(Once(at), at - MINUTE, 5) == [at]
    assert following(Once(at), at, 5) == []


@settings(max_examples=30)
@given(
    st.sampled_from(["* * * * *", "*/7 3 * * *", "0 0 * * 1", "0 0 29 2 *", "*/20 1 1 * *"]),
    st.integers(1, 40),
    st.integers(0, 400_000),
)
def test_the_latest_times_are_the_last_of_all_that_there_were(expression: str, count: int, minutes: int) -> None:
    cron = Cron(expression, "Europe/Berlin")
    until = datetime(2026, 10, 26, tzinfo=UTC)
    after = until - minutes * MINUTE
    every = (
        [due for due in following(cron, until - timedelta(days=3), 5000) if due <= until] if minutes < 4000 else None
    )
    found = latest(cron, after, until, count)
    assert found == sorted(found)
    assert len(found) <= count
    assert all(after < due <= until for due in found)
    if every is not None:
        assert found == [due for due in every if due > after][-count:]
    if len(found) < count:
        assert following(cron, after, len(found) + 1)[: len(found)] == found
    assert not found or following(cron, found[-1], 1)[0] > until
