"""What a user prefers decides what is sent over which channel, and how soon."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from agentflow.notifications import planning, preferences
from agentflow.notifications.kinds import Kind
from agentflow.services.transaction import transaction

URL = "/api/v1/notifications/preferences"
DAY = datetime(2026, 10, 24, 6, tzinfo=UTC)  # the day before the clock is put back in Paris


def planned(ask):
    return ask("SELECT kind, batch, due_at FROM notification_deliveries ORDER BY notification_id")


@pytest.fixture
def at(monkeypatch):
    """Lets planning see that time."""

    def go(moment):
        monkeypatch.setattr(planning, "now", lambda: moment)

    return go


def plan():
    with transaction() as session:
        while planning.plan(session):
            pass


def test_defaults_are_told_and_kept(api):
    found = api.get(URL).json
    assert (found["quiet_hours"], found["daily_cap"], found["time_zone"]) == (None, 100, "UTC")
    assert found["types"]["run_finished"] == {"mode": None, "default": "daily", "channels": {}}
    assert "dead_letters" not in found["types"], "that is for admins"


def test_preferences_are_set_as_a_whole(api, channel):
    made = channel()["id"]
    body = {
        "quiet_hours": {"start": "22:00", "end": "07:30"},
        "daily_cap": 5,
        "types": {"run_failed": {"mode": "hourly", "channels": {made: "off"}}},
    }
    found = api.put(URL, json=body).json
    assert found == api.get(URL).json
    assert (found["quiet_hours"], found["daily_cap"]) == (body["quiet_hours"], 5)
    assert found["types"]["run_failed"] == {"mode": "hourly", "default": "at_once", "channels": {made: "off"}}
    assert api.put(URL, json={}).json["types"]["run_failed"]["mode"] is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"quiet_hours": {"start": "22:00", "end": "22:00"}}, 400),
        ({"quiet_hours": {"start": "24:00", "end": "22:00"}}, 400),
        ({"quiet_hours": {"start": "22:00"}}, 400),
        ({"daily_cap": 0}, 400),
        ({"types": {"nonsense": {}}}, 400),
        ({"types": {"run_failed": {"mode": "never"}}}, 400),
        ({"types": {"run_failed": {"channels": {str(uuid4()): "off"}}}}, 404),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(api, body, status):
    before = api.get(URL).json
    assert api.put(URL, json=body).status_code == status
    assert api.get(URL).json == before


def test_a_mode_counts_over_its_channel(api, channel, note, ask):
    off, hourly = channel()["id"], channel()["id"]
    api.put(URL, json={"types": {"run_failed": {"mode": "hourly", "channels": {off: "off"}}}})
    note("a")
    plan()
    assert ask("SELECT channel_id::text, batch FROM notification_deliveries") == [(hourly, "hourly")]


def test_asking_for_each_end_of_a_run_notes_them(api, ask):
    for body, wanted in (
        ({"run_finished": {"mode": "daily"}}, True), ({"run_finished": {"mode": "off"}}, False), ({}, False),
    ):  # fmt: skip
        api.put(URL, json={"types": body})
        assert ask("SELECT wants_finished FROM notification_settings") == [(wanted,)]


def test_in_quiet_hours_all_is_held_up_and_comes_in_one_message(api, channel, note, deliver, ask, at, hook):
    channel()
    api.patch("/api/v1/me", json={"time_zone": "Europe/Paris"})
    api.put(URL, json={"quiet_hours": {"start": "22:00", "end": "07:00"}})
    at(datetime(2026, 10, 24, 21, tzinfo=UTC))  # 23:00 there
    for number in range(3):
        note(str(number))
    plan()
    assert planned(ask) == [("run_failed", "quiet", datetime(2026, 10, 25, 6, tzinfo=UTC))] * 3
    ask("UPDATE notification_deliveries SET due_at = now()")
    ask("UPDATE notification_channels SET next_at = now()")
    deliver()
    assert len(hook.bodies()) == 1


def test_with_backoff_what_follows_within_the_hour_comes_in_one_message(channel, note, ask, at):
    channel()
    for minutes in (0, 10, 59, 70, 200):
        at(DAY + timedelta(minutes=minutes))
        note(str(minutes), kind=Kind.BLOCK_FAILING, block="B", failed=5, executions=10, minutes=60)
        plan()
    hours = [(batch, (due - DAY) / timedelta(minutes=1)) for _, batch, due in planned(ask)]
    later = "backoff block_failing"
    assert hours == [(None, 0), (later, 60), (later, 60), (later, 120), (None, 200)]


@examples(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.integers(0, 400), max_size=25),
    cap=st.integers(1, 6),
    zone=st.sampled_from(["Europe/Paris", "Australia/Lord_Howe", "UTC"]),
    quiet=st.none() | st.tuples(st.integers(0, 23), st.integers(0, 23)).filter(lambda ends: ends[0] != ends[1]),
)
def test_no_day_has_more_messages_than_the_cap_and_none_is_lost(
    api, channel, note, ask, at, owner, steps, cap, zone, quiet
):
    ask("DELETE FROM notifications")
    ask("DELETE FROM notification_channels")
    made = channel_of(owner)
    hours = quiet and {"start": f"{quiet[0]:02}:00", "end": f"{quiet[1]:02}:00"}
    assert api.put(URL, json={"daily_cap": cap, "quiet_hours": hours}).status_code == 200
    api.patch("/api/v1/me", json={"time_zone": zone})
    moment, days = DAY, Counter()
    for number, step in enumerate(steps):
        moment += timedelta(minutes=step)
        at(moment)
        note(str(number))
        plan()
    found = planned(ask)
    assert len(found) == len(steps)
    there = preferences.zone(zone)
    for _, batch, due in found:
        assert batch in (None, "quiet", "daily")
        if batch is None:
            days[due.astimezone(there).date()] += 1
    assert max(days.values(), default=0) <= cap
    ((next_at,),) = ask("SELECT next_at FROM notification_channels WHERE id = :id", id=made)
    assert next_at == min((due for *_, due in found), default=None)


def channel_of(owner):
    from belongings import reached

    return reached(owner, "hook")
