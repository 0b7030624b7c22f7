"""When something is sent: quiet hours, digests and backoff, over every change of the clock."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.notifications.kinds import Mode
from agentflow.notifications.timing import (
    BACKOFF,
    DIGEST_AT,
    LONGEST_WAIT,
    MOST_ATTEMPTS,
    Plan,
    Quiet,
    next_at,
    next_hour,
    plan,
    wait,
)  # fmt: skip

PARIS, LORD_HOWE = ZoneInfo("Europe/Paris"), ZoneInfo("Australia/Lord_Howe")
ZONES = st.sampled_from([
    ZoneInfo("UTC"), PARIS, LORD_HOWE,
    *map(ZoneInfo, ("America/St_Johns", "Asia/Kathmandu", "Pacific/Apia", "America/Sao_Paulo")),
])  # fmt: skip
# Around the changes of 2026 in Paris, in Lord Howe (by half an hour), and any time.
NEAR = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
]
MOMENTS = st.one_of(
    st.builds(lambda at, off: at + timedelta(minutes=off), st.sampled_from(NEAR), st.integers(-2000, 2000)),
    st.datetimes(datetime(2010, 1, 2), datetime(2037, 1, 1), timezones=st.just(UTC)),
)
MINUTES = st.integers(0, 1439)
QUIETS = st.tuples(MINUTES, MINUTES).filter(lambda ends: ends[0] != ends[1]).map(lambda ends: Quiet(*ends))
MODES = st.sampled_from([Mode.AT_ONCE, Mode.BACKOFF, Mode.HOURLY, Mode.DAILY])


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "start", "end", "sent"),
    [
        (utc(2026, 1, 10, 12), "22:00", "07:00", utc(2026, 1, 10, 12)),
        (utc(2026, 1, 10, 22), "22:00", "07:00", utc(2026, 1, 11, 6)),
        (utc(2026, 1, 11, 5, 59), "22:00", "07:00", utc(2026, 1, 11, 6)),
        (utc(2026, 3, 28, 22), "22:00", "07:00", utc(2026, 3, 29, 5)),  # the clock is put forward that night
        (utc(2026, 3, 29, 0, 30), "01:00", "02:30", utc(2026, 3, 29, 1, 30)),  # 02:30 is left out
        (utc(2026, 10, 24, 23, 30), "01:00", "02:30", utc(2026, 10, 25, 0, 30)),  # the first 02:30
        (utc(2026, 10, 25, 1, 10), "01:00", "02:30", utc(2026, 10, 25, 1, 30)),  # the second
        (utc(2026, 10, 25, 0, 10), "00:00", "23:59", utc(2026, 10, 25, 22, 59)),
    ],
)
def test_quiet_hours_end_on_the_readers_clock(moment, start, end, sent):
    def minutes(text):
        return int(text[:2]) * 60 + int(text[3:])

    assert Quiet(minutes(start), minutes(end)).end_after(moment, PARIS) == sent


@given(MOMENTS, ZONES, QUIETS)
def test_nothing_is_sent_in_quiet_hours_and_nothing_later_than_needed(moment, zone, quiet):
    end = quiet.end_after(moment, zone)
    assert not quiet.covers(end, zone)
    if not quiet.covers(moment, zone):
        assert end == moment
        return
    assert timedelta(0) < end - moment <= timedelta(hours=25)
    # Until an hour before (a gap may have swallowed the end), it was quiet all the time.
    for minute in range(0, int((end - moment).total_seconds() // 60) - 61, 7):
        assert quiet.covers(moment + timedelta(minutes=minute), zone)


@given(MOMENTS, ZONES, st.none() | QUIETS, MODES, st.none() | st.integers(-200, 200))
def test_a_plan_is_never_past_never_quiet_and_soon_enough(moment, zone, quiet, mode, before):
    latest = None if before is None else moment + timedelta(minutes=before)
    made = plan(moment, "block_failing", mode, zone, quiet, latest)
    assert made.due >= moment
    assert quiet is None or not quiet.covers(made.due, zone)
    assert made.due - moment <= timedelta(hours=25 + 25 + 4)
    if mode is Mode.AT_ONCE and quiet is None:
        assert made == Plan(moment, None)


@given(MOMENTS, ZONES)
def test_digests_come_at_their_time_of_the_day(moment, zone):
    hour = next_hour(moment, zone)
    assert timedelta(0) < hour - moment <= timedelta(hours=1)
    daily = next_at(moment, DIGEST_AT, zone)
    assert timedelta(0) < daily - moment <= timedelta(hours=26 + 24)  # Apia once left out a day
    there = daily.astimezone(zone)
    assert (there.hour * 60 + there.minute, there.second) == (DIGEST_AT, 0)
    assert plan(moment, "x", Mode.DAILY, zone, None, None) == Plan(daily, "daily")
    assert plan(moment, "x", Mode.HOURLY, zone, None, None) == Plan(hour, "hourly")


@given(MOMENTS, ZONES, st.lists(st.integers(0, 100), max_size=40))
def test_with_backoff_messages_are_an_hour_apart_and_take_all_that_came(moment, zone, gaps):
    latest, sent = None, []
    for gap in gaps:
        moment += timedelta(minutes=gap)
        made = plan(moment, "block_failing", Mode.BACKOFF, zone, None, latest)
        assert moment <= made.due <= moment + BACKOFF
        if made.due != latest:
            sent.append(made.due)
        latest = made.due
    assert all(later - earlier >= BACKOFF for earlier, later in pairwise(sent))


@given(st.integers(1, 100), st.floats(0.01, 1000), st.floats(0, 1))
def test_waits_grow_up_to_a_day_and_differ(tries, first, chance):
    found = wait(tries, first, chance)
    assert 0 < found <= LONGEST_WAIT
    assert wait(tries + 1, first, chance) >= found
    assert wait(tries, first, 1) == wait(tries, first, 0) / 2
    assert wait(MOST_ATTEMPTS - 1, 30, 0) == LONGEST_WAIT
