"""Each due time of a schedule is decided once, and what became of it is told."""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from agentflow import clock
from agentflow.schedules import firing, store
from agentflow.schedules.firing import MOST_CAUGHT_UP, MOST_REFUSED
from agentflow.services.transaction import transaction

Make = Callable[..., dict[str, Any]]
Occurrences = Callable[..., list[dict[str, Any]]]

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_due_time_starts_a_run_with_what_the_schedule_gives(
    api: FlaskClient, make: Make, fire: Callable[[], int], occurrences: Occurrences, set_back: Callable[..., None],
    work: Callable[..., None],
) -> None:  # fmt: skip
    made = make(every=3600, labels={"of": "me"}, priority=7)
    assert fire() == 0
    set_back(made["id"], 3600 * SECOND)
    assert fire() == 1
    assert fire() == 0
    (one,) = occurrences(made["id"])
    assert (one["state"], one["origin"], one["reason"]) == ("run", "schedule", None)
    work(UUID(one["run_id"]))
    run = api.get(f"/api/v1/runs/{one['run_id']}").json
    assert (run["status"], run["outputs"], run["labels"], run["priority"]) == (
        "COMPLETED", {"said": ["hello"]}, {"of": "me"}, 7,
    )  # fmt: skip
    assert at(api.get(f"/api/v1/schedules/{made['id']}").json["next_times"][0]) == at(one["due_at"]) + HOUR


def test_a_run_can_be_told_when_it_was_due(
    api: FlaskClient, make: Make, fire: Callable[[], int], occurrences: Occurrences, set_back: Callable[..., None]
) -> None:
    made = make(every=60, inputs={}, due_input="word")
    set_back(made["id"], 60 * SECOND)
    fire()
    (one,) = occurrences(made["id"])
    assert api.get(f"/api/v1/runs/{one['run_id']}").json["inputs"] == {"word": one["due_at"]}


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel_previous"])
def test_a_run_that_ends_while_its_schedule_is_looked_at_keeps_nothing_back(
    make: Make, fire: Callable[[], int], occurrences: Occurrences, set_back: Callable[..., None], overlap: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    made = make(every=60, overlap=overlap)
    set_back(made["id"], 90 * SECOND)
    assert fire() == 1
    set_back(made["id"], 40 * SECOND)
    monkeypatch.setattr(store, "open_runs", lambda *_: [])  # it was open a moment before
    assert fire() == 1
    assert [one["state"] for one in occurrences(made["id"])] == ["run", "run"]


def test_once_is_once(make: Make, fire: Callable[[], int], occurrences: Occurrences, api: FlaskClient,
                      set_back: Callable[..., None]) -> None:  # fmt: skip
    made = make(at=(clock.now() + HOUR).isoformat())
    set_back(made["id"], HOUR)
    assert (fire(), fire()) == (1, 0)
    assert [one["state"] for one in occurrences(made["id"])] == ["run"]
    assert api.get(f"/api/v1/schedules/{made['id']}").json["next_times"] == []


def test_many_workers_fire_each_due_time_once(
    make: Make, set_back: Callable[..., None], occurrences: Occurrences
) -> None:
    ids = [make(every=1, overlap="allow")["id"] for _ in range(20)]
    for one in ids:
        set_back(one, 15 * SECOND)
    workers = [threading.Thread(target=firing.fire, args=(60,)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for one in ids:
        found = occurrences(one)
        assert {occurrence["state"] for occurrence in found} == {"run"}
        times = [at(occurrence["due_at"]) for occurrence in found]
        assert times == [times[0] + number * SECOND for number in range(len(times))]
        assert len(times) >= 15
        assert len({occurrence["run_id"] for occurrence in found}) == len(found)
    with transaction() as session:
        assert session.scalar(text("SELECT count(*) FROM runs")) == sum(len(occurrences(one)) for one in ids)


def test_a_crash_before_the_commit_leaves_neither_run_nor_occurrence(
    make: Make, set_back: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int]
) -> None:
    made = make(every=60)
    set_back(made["id"], 60 * SECOND)

    class Died(BaseException):
        pass

    def die() -> None:
        with transaction() as session:
            assert firing.fire_due(session)
            raise Died

    with pytest.raises(Died):
        die()
    assert occurrences(made["id"]) == []
    assert fire() == 1
    assert len(occurrences(made["id"])) == 1


@pytest.mark.parametrize(
    ("overlap", "states"),
    [
        ("allow", ["run", "run", "run"]),
        ("skip", ["run", "skipped", "skipped"]),
        ("queue", ["run", "pending", "skipped"]),
        ("cancel_previous", ["run", "skipped", "pending"]),
    ],
)
def test_a_time_at_which_a_run_is_open_is_treated_as_the_schedule_says(
    make: Make, due_since: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int], api: FlaskClient,
    work: Callable[..., None], overlap: str, states: list[str],
) -> None:  # fmt: skip
    made = make(every=20, overlap=overlap)
    due_since(made["id"], clock.now() - 50 * SECOND)
    fire()
    found = occurrences(made["id"])
    assert [one["state"] for one in found] == states
    first = found[0]["run_id"]
    for one in found[1:]:
        assert one["state"] != "skipped" or one["reason"]
    seen = api.get(f"/api/v1/runs/{first}").json
    assert (seen["cancel_requested_at"] is not None) == (overlap == "cancel_previous")
    work(UUID(first))
    fire()
    after = [one["state"] for one in occurrences(made["id"])]
    assert after == ["run" if state == "pending" else state for state in states]


@pytest.mark.parametrize(("catch_up", "ran"), [("last", [3]), ("all", [0, 1, 2, 3]), ("none", [])])
def test_an_outage_of_three_hours_is_caught_up_as_the_schedule_says(
    make: Make, due_since: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int],
    catch_up: str, ran: list[int],
) -> None:  # fmt: skip
    """Due each hour, and nobody fires from the first on until half an hour after the fourth."""
    first = clock.now() - 3.5 * HOUR
    made = make(every=3600, overlap="allow", catch_up=catch_up)
    due_since(made["id"], first)
    fire()
    found = occurrences(made["id"])
    times = [first + number * HOUR for number in range(4)]
    assert [at(one["due_at"]) for one in found if one["state"] == "run"] == [times[number] for number in ran]
    missed = [time for number, time in enumerate(times) if number not in ran]
    told = [one for one in found if one["state"] == "missed"]
    assert [(at(one["due_at"]), at(one["through"]), one["count"]) for one in told] == (
        [(missed[0], missed[-1], len(missed))] if missed else []
    )
    assert [one["state"] for one in found if one["state"] not in ("run", "missed")] == []


def test_a_short_delay_is_no_outage(
    make: Make, due_since: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int]
) -> None:
    made = make(every=10, overlap="allow", catch_up="none")
    due_since(made["id"], clock.now() - 45 * SECOND)
    fire()
    assert [one["state"] for one in occurrences(made["id"])] == ["run"] * 5


@pytest.mark.parametrize("catch_up", ["last", "all", "none"])
def test_however_long_nobody_fired_no_more_than_a_thousand_times_are_caught_up(
    make: Make, due_since: Callable[..., None], occurrences: Occurrences, catch_up: str
) -> None:
    """Each second of ten years. The times are decided about without a run for each: its owner is suspended."""
    made = make(every=1, overlap="allow", catch_up=catch_up)
    first = clock.now() - timedelta(days=3650)
    due_since(made["id"], first)
    with transaction() as session:
        session.execute(text("UPDATE users SET suspended_at = now()"))
    began = clock.monotonic()
    firing.fire(60)
    took = clock.monotonic() - began
    with transaction() as session:
        session.execute(text("UPDATE users SET suspended_at = NULL"))
    found = occurrences(made["id"])
    (missed,) = [one for one in found if one["state"] == "missed"]
    assert (at(missed["due_at"]), missed["count"]) == (first, None)
    others = [at(one["due_at"]) for one in found if one["state"] == "skipped"]
    caught_up = MOST_CAUGHT_UP if catch_up == "all" else 0
    assert caught_up + 55 <= len(others) <= caught_up + 65 + took
    assert others == [at(missed["through"]) + (number + 1) * SECOND for number in range(len(others))]


def test_who_cannot_be_run_says_why_and_pauses_after_a_while(
    api: FlaskClient, make: Make, due_since: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int]
) -> None:
    made = make(every=10)
    assert api.delete(f"/api/v1/graphs/{made['graph_id']}").status_code == 204
    due_since(made["id"], clock.now() - 55 * SECOND)
    fire()
    found = occurrences(made["id"])
    assert [one["state"] for one in found] == ["failed"] * MOST_REFUSED
    assert all("there is no graph" in one["reason"] for one in found)
    seen = api.get(f"/api/v1/schedules/{made['id']}").json
    assert "5 times in a row" in seen["pause_reason"]
    assert (seen["next_times"], fire()) == ([], 0)
    (told,) = api.get("/api/v1/notifications?type=schedule_paused").json["items"]
    assert (told["data"]["schedule"], "5 times in a row" in told["data"]["reason"]) == (made["id"], True)


def test_what_succeeds_between_is_no_reason_to_pause(
    api: FlaskClient, make: Make, due_since: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int]
) -> None:
    preset = api.post(
        "/api/v1/presets", json={"graph_id": make()["graph_id"], "name": "p", "inputs": {"word": "w"}}
    ).json
    made = make(preset_id=preset["id"], every=10, overlap="allow", inputs={})
    there = f"/api/v1/presets/{preset['id']}"
    for number in range(2 * MOST_REFUSED):
        api.patch(there, json={"inputs": {"word": "w"} if number % 4 == 3 else {"nothing": 1}, "version": None})
        due_since(made["id"], clock.now() - SECOND + number * timedelta(milliseconds=1))
        fire()
    states = Counter(one["state"] for one in occurrences(made["id"]))
    assert states == {"failed": 8, "run": 2}
    assert api.get(f"/api/v1/schedules/{made['id']}").json["paused_at"] is None


def test_the_schedule_of_a_suspended_owner_is_skipped(
    make: Make, set_back: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int]
) -> None:
    made = make(every=60)
    set_back(made["id"], 60 * SECOND)
    with transaction() as session:
        session.execute(text("UPDATE users SET suspended_at = now()"))
    fire()
    with transaction() as session:
        session.execute(text("UPDATE users SET suspended_at = NULL"))
    assert [(one["state"], one["reason"]) for one in occurrences(made["id"])] == [("skipped", "its owner is suspended")]


def test_one_at_which_the_engine_fails_keeps_no_other_waiting(
    make: Make, due_since: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bad, good = make(every=60), make(every=60)
    due_since(bad["id"], clock.now() - 20 * SECOND)
    due_since(good["id"], clock.now() - 10 * SECOND)
    start = firing.start

    def fails(session: Any, schedule: Any, *rest: Any) -> Any:
        if str(schedule.id) == bad["id"]:
            raise ZeroDivisionError
        return start(session, schedule, *rest)

    monkeypatch.setattr(firing, "start", fails)
    assert fire() == 1
    assert (len(occurrences(bad["id"])), len(occurrences(good["id"]))) == (0, 1)
    monkeypatch.undo()
    due_since(bad["id"], clock.now() - 20 * SECOND)
    assert fire() == 1
    assert [one["state"] for one in occurrences(bad["id"])] == ["run"]


def test_what_cancels_the_run_before_it_is_made_up_for(
    api: FlaskClient, make: Make, due_since: Callable[..., None], occurrences: Occurrences,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    made = make(every=20, overlap="cancel_previous")
    due_since(made["id"], clock.now() - 30 * SECOND)
    monkeypatch.setattr(firing, "cancel_previous", lambda open_runs: None)  # whoever was to do it dies
    firing.fire(60)
    monkeypatch.undo()
    first, second = occurrences(made["id"])
    assert (first["state"], second["state"]) == ("run", "pending")
    with transaction() as session:
        found = store.runs_to_cancel(session, 10)
    assert [str(run_id) for _, run_id in found] == [first["run_id"]]
    firing.cancel_previous(found)
    assert api.get(f"/api/v1/runs/{first['run_id']}").json["cancel_requested_at"]
    with transaction() as session:
        assert store.runs_to_cancel(session, 10) == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    every=st.integers(1, 7_000),
    ago=st.integers(0, 20_000),
    catch_up=st.sampled_from(["last", "all", "none"]),
    overlap=st.sampled_from(["allow", "skip"]),
    jitter=st.sampled_from([0, 0, 30, 3600]),
)
def test_no_time_is_lost_and_none_is_there_twice(
    make: Make, due_since: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int],
    every: int, ago: int, catch_up: str, overlap: str, jitter: int,
) -> None:  # fmt: skip
    """However long nobody fired: all times between are run, skipped or missed, each once; and the next comes later."""
    made = make(every=every, overlap=overlap, catch_up=catch_up, jitter=jitter)
    first = clock.now() - ago * SECOND
    due_since(made["id"], first)
    with transaction() as session:  # skipping is decided without a run for each
        session.execute(text("UPDATE users SET suspended_at = now()"))
    fire()
    with transaction() as session:
        session.execute(text("UPDATE users SET suspended_at = NULL"))
    with transaction() as session:
        left = session.execute(text("SELECT due_at, fire_at FROM schedules WHERE id = :id"), {"id": made["id"]}).one()
    told: list[datetime] = []
    for one in occurrences(made["id"]):
        due = at(one["due_at"])
        told.append(due)
        if one["state"] == "missed":
            assert one["count"] is None or due + (one["count"] - 1) * every * SECOND == at(one["through"])
            while told[-1] < at(one["through"]):
                told.append(told[-1] + every * SECOND)
        elif catch_up == "none":
            assert due >= clock.now() - 65 * SECOND - jitter * SECOND
    assert told == [first + number * every * SECOND for number in range(len(told))]
    assert left.due_at == (told[-1] + every * SECOND if told else first)
    assert left.fire_at > clock.now() - 5 * SECOND
    assert timedelta() <= left.fire_at - left.due_at <= jitter * SECOND
