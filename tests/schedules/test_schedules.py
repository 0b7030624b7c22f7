"""Schedules over HTTP: how they are saved, changed, paused, run at once and filled in, and what is refused."""

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installation import ECHO
from sqlalchemy import text

from agentflow import clock
from agentflow.pages import PAGE_BYTES
from agentflow.schedules import service
from agentflow.services.transaction import transaction

Make = Callable[..., dict[str, Any]]
Occurrences = Callable[..., list[dict[str, Any]]]

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_view_says_all_that_was_given_and_the_next_ten_times(api: FlaskClient, make: Make) -> None:
    made = make(cron="30 9 * * mon-fri", time_zone="Asia/Kathmandu", overlap="queue", catch_up="all", jitter=60)
    assert api.get(f"/api/v1/schedules/{made['id']}").json == made
    assert (made["overlap"], made["catch_up"], made["jitter"], made["inputs"]) == (
        "queue",
        "all",
        60,
        {"word": "hello"},
    )
    times = [at(one) for one in made["next_times"]]
    assert len(times) == 10
    assert {(one.hour, one.minute) for one in times} == {(3, 45)}, "09:30 at +05:45"
    assert all(one > clock.now() and (one + timedelta(hours=5, minutes=45)).weekday() < 5 for one in times)


def test_a_schedule_without_a_zone_has_its_owners_and_keeps_it(api: FlaskClient, make: Make) -> None:
    assert make()["time_zone"] == "UTC"
    api.patch("/api/v1/me", json={"time_zone": "Australia/Lord_Howe"})
    made = make()
    assert made["time_zone"] == "Australia/Lord_Howe"
    api.patch("/api/v1/me", json={"time_zone": None})
    assert api.get(f"/api/v1/schedules/{made['id']}").json["time_zone"] == "Australia/Lord_Howe"
    assert api.patch(f"/api/v1/schedules/{made['id']}", json={"time_zone": None}).json["time_zone"] == "UTC"


def test_a_graph_recommends_when(api: FlaskClient, push: Callable[..., UUID]) -> None:
    graph = str(push({**deepcopy(ECHO), "recommended_schedule_cron": "0 9 * * 1-5"}))
    body = {"name": "n", "graph_id": graph, "inputs": {"word": "w"}}
    assert api.post("/api/v1/schedules", json=body).json["cron"] == "0 9 * * 1-5"
    plain = api.post("/api/v1/schedules", json={**body, "graph_id": str(push())})
    assert (plain.status_code, "recommends nothing" in plain.json["detail"]) == (422, True)
    bad = str(push({**deepcopy(ECHO), "recommended_schedule_cron": "every day"}))
    refused = api.post("/api/v1/schedules", json={**body, "graph_id": bad})
    assert (refused.status_code, "cannot be read" in refused.json["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("changes", "status", "place"),
    [
        ({"cron": "* * * * * *"}, 400, "cron"),
        ({"cron": "0 0 31 2 *"}, 400, "cron"),
        ({"cron": "0 9 * * FUNDAY"}, 400, "cron"),
        ({"cron": ""}, 400, "cron"),
        ({"cron": "@reboot"}, 400, "cron"),
        ({"time_zone": "Mars/Olympus"}, 400, "time_zone"),
        ({"cron": None, "every": 0}, 400, "every"),
        ({"cron": None, "every": -1}, 400, "every"),
        ({"cron": None, "every": 100 * 366 * 86_400}, 400, "every"),
        ({"cron": None, "every": "60"}, 400, "every"),
        ({"cron": None, "every": 1e999}, 400, "every"),
        ({"every": 60}, 400, "exclude each other"),
        ({"cron": None, "at": "2001-01-01T00:00:00Z"}, 400, "never be due"),
        ({"cron": None, "at": "tomorrow"}, 400, "at"),
        ({"start_at": "0001-01-01T00:00:00+14:00"}, 400, "start_at"),
        ({"jitter": 3601}, 400, "jitter"),
        ({"jitter": -1}, 400, "jitter"),
        ({"overlap": "sometimes"}, 400, "overlap"),
        ({"catch_up": "some"}, 400, "catch_up"),
        ({"graph_id": None}, 400, "graph_id"),
        ({"preset_id": "019a0000-0000-7000-8000-000000000000"}, 400, "preset_id"),
        ({"graph_id": "019a0000-0000-7000-8000-000000000000"}, 404, "no graph"),
        ({"version": 7}, 404, "version"),
        ({"inputs": {}}, 422, "in"),
        ({"inputs": {"word": "w", "other": 1}, "due_input": "nothing"}, 422, "nothing"),
        ({"credentials": {"nothing": "019a0000-0000-7000-8000-000000000000"}}, 422, "nothing"),
        ({"inputs": {"wo\0rd": 1}}, 400, "inputs"),
        ({"name": ""}, 400, "name"),
        ({"surprise": 1}, 400, "surprise"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place_and_nothing_is_stored(
    api: FlaskClient, push: Callable[..., UUID], changes: dict[str, Any], status: int, place: str
) -> None:
    body = {"name": "n", "graph_id": str(push()), "cron": "@daily", "inputs": {"word": "w"}, **changes}
    refused = api.post("/api/v1/schedules", json={name: value for name, value in body.items() if value is not None})
    assert refused.status_code == status, refused.json
    assert place in str(refused.json), refused.json
    assert api.get("/api/v1/schedules").json["items"] == []


def test_what_is_left_out_of_a_change_stays_and_its_next_time_too(api: FlaskClient, make: Make) -> None:
    made = make(every=3600, labels={"a": "b"}, priority=3, jitter=5)
    there = f"/api/v1/schedules/{made['id']}"
    changed = api.patch(there, json={"name": "other"}).json
    assert changed == {**made, "name": "other", "updated_at": changed["updated_at"]}
    changed = api.patch(there, json={"inputs": {"word": "bye"}, "overlap": "allow"}).json
    assert (changed["inputs"], changed["overlap"], changed["next_times"]) == (
        {"word": "bye"},
        "allow",
        made["next_times"],
    )
    changed = api.patch(there, json={"cron": "0 12 * * *"}).json
    assert (changed["cron"], changed["every"]) == ("0 12 * * *", None)
    assert {at(one).hour for one in changed["next_times"]} == {12}
    refused = api.patch(there, json={"inputs": {}})
    assert refused.status_code == 422
    assert api.get(there).json["inputs"] == {"word": "bye"}


def test_a_secret_that_is_sent_back_hidden_stays(api: FlaskClient, push: Callable[..., UUID], make: Make) -> None:
    graph = deepcopy(ECHO)
    graph["nodes"][0]["input_default"]["secret"] = True
    made = make(graph_id=str(push(graph)), inputs={"word": "open sesame"})
    assert "sesame" not in str(made)
    there = f"/api/v1/schedules/{made['id']}"
    changed = api.patch(there, json={"inputs": made["inputs"], "name": "other"})
    assert (changed.status_code, "sesame" in str(changed.json)) == (200, False)
    with transaction() as session:
        assert "sesame" in session.scalar(text("SELECT given FROM schedules"))


@pytest.mark.parametrize("forgets", ["pause", "change"])
def test_a_time_that_came_is_not_forgotten_by_who_pauses_or_changes(
    api: FlaskClient, make: Make, due_since: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int],
    forgets: str,
) -> None:  # fmt: skip
    made = make(every=3600)
    due = clock.now() - SECOND
    due_since(made["id"], due)
    there = f"/api/v1/schedules/{made['id']}"
    if forgets == "pause":
        api.post(f"{there}/pause", json={"reason": "holidays"})
        assert fire() == 0
        seen = api.post(f"{there}/resume").json
    else:
        seen = api.patch(there, json={"every": 7200}).json
    (one,) = occurrences(made["id"])
    assert (at(one["due_at"]), one["state"]) == (due, "skipped")
    assert forgets[:5] in one["reason"]
    assert at(seen["next_times"][0]) > clock.now()


@pytest.mark.parametrize("forgets", ["pause", "change"])
def test_none_of_several_times_that_came_is_forgotten(
    api: FlaskClient, make: Make, due_since: Callable[..., None], occurrences: Occurrences, forgets: str
) -> None:
    made = make(every=10)
    due = clock.now() - 45 * SECOND
    due_since(made["id"], due)
    there = f"/api/v1/schedules/{made['id']}"
    api.post(f"{there}/pause") if forgets == "pause" else api.patch(there, json={"every": 7200})
    first, rest = sorted(occurrences(made["id"]), key=lambda one: at(one["due_at"]))
    assert (at(first["due_at"]), first["state"]) == (due, "skipped")
    assert (rest["state"], rest["count"]) == ("missed", 4)
    assert (at(rest["due_at"]) - due, at(rest["through"]) - due) == (10 * SECOND, 40 * SECOND)


def test_a_paused_schedule_is_not_due_until_it_goes_on(
    api: FlaskClient, make: Make, due_since: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int]
) -> None:
    made = make(every=60)
    there = f"/api/v1/schedules/{made['id']}"
    paused = api.post(f"{there}/pause", json={"reason": "holidays"}).json
    assert (paused["pause_reason"], paused["next_times"]) == ("holidays", [])
    again = api.post(f"{there}/pause").json
    assert again == paused, "the first reason stays"
    due_since(made["id"], clock.now() - DAY)
    assert (fire(), occurrences(made["id"])) == (0, [])
    assert [one["id"] for one in api.get("/api/v1/schedules?paused=true").json["items"]] == [made["id"]]
    assert api.get("/api/v1/schedules?paused=false").json["items"] == []
    resumed = api.post(f"{there}/resume").json
    assert (resumed["paused_at"], at(resumed["next_times"][0]) > clock.now()) == (None, True)
    assert (fire(), occurrences(made["id"])) == (0, [])


def test_run_now_runs_beside_the_times_and_keeps_to_the_overlap(
    api: FlaskClient, make: Make, occurrences: Occurrences, work: Callable[..., None], fire: Callable[[], int]
) -> None:
    made = make(every=3600)
    there = f"/api/v1/schedules/{made['id']}"
    first = api.post(f"{there}/run-now")
    assert (first.status_code, first.json["state"], first.json["origin"]) == (202, "run", "run_now")
    second = api.post(f"{there}/run-now")
    assert (second.status_code, first.json["run_id"] in second.json["detail"]) == (409, True)
    third = api.post(f"{there}/run-now", json={"overlap": "queue"}).json
    assert third["state"] == "pending"
    fourth = api.post(f"{there}/run-now", json={"overlap": "allow"}).json
    assert fourth["state"] == "run"
    for one in (first.json, fourth):
        assert fire() == 0
        work(UUID(one["run_id"]))
    assert fire() == 1
    assert [one["state"] for one in occurrences(made["id"])] == ["run", "run", "run"]
    assert api.get(there).json["next_times"] == made["next_times"]


def test_run_now_of_what_cannot_run_says_why(api: FlaskClient, make: Make, occurrences: Occurrences) -> None:
    made = make()
    api.delete(f"/api/v1/graphs/{made['graph_id']}")
    refused = api.post(f"/api/v1/schedules/{made['id']}/run-now").json
    assert (refused["state"], "there is no graph" in refused["reason"]) == ("failed", True)


def test_a_backfill_runs_each_time_that_was_not_run_one_by_one(
    api: FlaskClient, make: Make, due_since: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int],
    work: Callable[..., None],
) -> None:  # fmt: skip
    made = make(every=3600, overlap="allow", catch_up="none")
    first = clock.now() - 5.5 * HOUR
    due_since(made["id"], first)
    fire()
    assert [one["state"] for one in occurrences(made["id"])] == ["missed"]
    there = f"/api/v1/schedules/{made['id']}"
    asked = {"since": (first + HOUR).isoformat(), "until": (first + 3 * HOUR).isoformat()}
    reply = api.post(f"{there}/backfill", json=asked)
    assert (reply.status_code, reply.json) == (202, {"accepted": 3, "already": 0})
    assert api.post(f"{there}/backfill", json=asked).json == {"accepted": 0, "already": 3}
    for number in range(3):
        assert fire() == 1, "the next waits for the end of this one"
        ran = [one for one in occurrences(made["id"]) if one["state"] == "run"]
        assert [at(one["due_at"]) for one in ran] == [first + (1 + count) * HOUR for count in range(number + 1)]
        work(UUID(ran[-1]["run_id"]))
    assert fire() == 0
    assert api.post(f"{there}/backfill", json=asked).json == {"accepted": 0, "already": 3}


def test_a_backfill_can_run_all_at_once_and_be_given_up(
    api: FlaskClient, make: Make, due_since: Callable[..., None], occurrences: Occurrences, fire: Callable[[], int]
) -> None:
    made = make(every=60)
    due_since(made["id"], clock.now() - HOUR + 30 * SECOND)
    fire()
    there = f"/api/v1/schedules/{made['id']}"
    asked = {"since": (clock.now() - HOUR).isoformat(), "until": clock.now().isoformat(), "one_by_one": False}
    accepted = api.post(f"{there}/backfill", json=asked).json
    assert accepted == {"accepted": 59, "already": 1}
    assert api.post(f"{there}/skip-waiting").json == {"skipped": 59}
    assert fire() == 0
    assert api.post(f"{there}/backfill", json=asked).json == {"accepted": 59, "already": 1}
    assert fire() == 59
    assert len([one for one in occurrences(made["id"]) if one["state"] == "run"]) == 60


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"since": "2001-01-01T00:00:00Z"}, "more than 1000 times"),
        ({"since": "1971-01-01T00:00:00Z"}, "2000 to 2999"),
        ({"until": "2999-01-01T00:00:00Z"}, "future"),
        ({"since": "2020-01-02T00:00:00Z", "until": "2020-01-01T00:00:00Z"}, "no time"),
        ({"since": "yesterday"}, "since"),
        ({"since": 5}, "since"),
    ],
)
def test_a_backfill_that_nobody_can_mean_is_refused(
    api: FlaskClient, make: Make, changes: dict[str, Any], said: str
) -> None:
    made = make(cron="* * * * *")
    asked = {"since": "2020-01-01T00:00:00Z", "until": "2020-01-01T01:00:00Z", **changes}
    refused = api.post(f"/api/v1/schedules/{made['id']}/backfill", json=asked)
    assert (refused.status_code, said in str(refused.json)) == (400, True), refused.json


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    whens=st.dictionaries(
        st.sampled_from(["at", "start_at"]),
        st.one_of(
            st.datetimes(timezones=st.just(UTC)),
            st.sampled_from([datetime.min, datetime.max, datetime(2999, 12, 31, 23, 59, 59), datetime(2000, 1, 1)]).map(
                lambda one: one.replace(tzinfo=UTC)
            ),
        ),
    ),
    timing=st.sampled_from([{"cron": "0 0 29 2 */7"}, {"cron": "* * * * *"}, {"every": 1}, {"every": 31_622_400}, {}]),
    jitter=st.sampled_from([0, 3_600]),
    range_=st.tuples(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC))),
)
def test_no_time_is_so_far_away_that_it_breaks_anything(
    api: FlaskClient, graph_id: str, whens: dict[str, datetime], timing: dict[str, Any], jitter: float,
    range_: tuple[datetime, datetime],
) -> None:  # fmt: skip
    times = {name: one.isoformat() for name, one in whens.items()}
    body = {"name": "n", "graph_id": graph_id, "inputs": {"word": "w"}, **timing, **times, "jitter": jitter}
    made = api.post("/api/v1/schedules", json=body)
    assert made.status_code in (201, 400, 422), made.json
    if made.status_code == 201:
        there = f"/api/v1/schedules/{made.json['id']}"
        assert api.get(there).status_code == 200
        assert api.patch(there, json={"cron": "@daily", **times, "at": None}).status_code in (200, 400)
        since, until = (one.isoformat() for one in range_)
        asked = api.post(f"{there}/backfill", json={"since": since, "until": until})
        assert asked.status_code in (200, 202, 400), asked.json
        api.delete(there)


def test_a_list_of_large_schedules_comes_in_pages_of_some_megabytes(api: FlaskClient, make: Make) -> None:
    ids = [make(inputs={"word": "x" * 1_500_000})["id"] for _ in range(5)]
    found, after = [], None
    while True:
        page = api.get("/api/v1/schedules", query_string={"limit": 200, **({"after": after} if after else {})})
        assert len(page.data) < 2 * PAGE_BYTES
        found.append([one["id"] for one in page.json["items"]])
        after = page.json["next_cursor"]
        if after is None:
            break
    assert found == [ids[:2:-1], ids[2:0:-1], ids[:1]]
    assert [len(one["next_times"]) for one in page.json["items"]] == [1], "the next time alone"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 420), st.integers(1, 420))
def test_pages_of_occurrences_hold_each_once(
    api: FlaskClient, make: Make, occurrences: Occurrences, count: int, limit: int
) -> None:
    made = make(cron="* * * * *")
    if count:
        until = datetime(2026, 1, 1, tzinfo=UTC) + (count - 1) * 60 * SECOND
        asked = {"since": "2026-01-01T00:00:00Z", "until": until.isoformat()}
        assert api.post(f"/api/v1/schedules/{made['id']}/backfill", json=asked).json["accepted"] == count
    found, after = [], None
    while True:
        query = {"limit": min(limit, 200), **({"after": after} if after else {})}
        page = api.get(f"/api/v1/schedules/{made['id']}/occurrences", query_string=query).json
        found += [one["due_at"] for one in page["items"]]
        after = page["next_cursor"]
        if after is None:
            break
    assert len(found) == len(set(found)) == count
    assert sorted(found) == [one["due_at"] for one in occurrences(made["id"], state="pending")]


def test_a_schedule_goes_with_its_occurrences_and_its_runs_stay(
    api: FlaskClient, make: Make, stranger: FlaskClient
) -> None:
    made = make()
    there = f"/api/v1/schedules/{made['id']}"
    run = api.post(f"{there}/run-now").json["run_id"]
    for ask in (stranger.get, stranger.delete):
        assert ask(there).status_code == 404
    assert api.delete(there).status_code == 204
    assert api.get(there).status_code == 404
    assert api.get(f"/api/v1/runs/{run}").status_code == 200


def test_a_credential_that_a_schedule_names_is_not_deleted_unawares(
    api: FlaskClient, push: Callable[..., UUID]
) -> None:
    secret = {"type": "api_key", "api_key": "sk-1"}
    made = api.post("/api/v1/credentials", json={"provider": "openai", "title": "mine", "secret": secret}).json
    block = "1f292d4a-41a4-4977-9684-7c8d560b9f91"  # AITextGenerator
    graph = {"name": "g", "nodes": [{"id": "n", "block_id": block, "input_default": {"prompt": "hi"}}], "links": []}
    chosen = {"openai_api_key_credentials": made["id"]}
    body = {"name": "asks", "graph_id": str(push(graph)), "cron": "@daily", "credentials": chosen}
    assert api.post("/api/v1/schedules", json=body).status_code == 201
    refused = api.delete(f"/api/v1/credentials/{made['id']}")
    assert (refused.status_code, "the schedule 'asks'" in refused.json["detail"]) == (409, True)
    assert api.delete(f"/api/v1/credentials/{made['id']}?force=true").status_code == 204


def test_no_more_schedules_are_saved_than_a_user_may_have(
    api: FlaskClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.settings(), "max_schedules", 2)
    graph = make()["graph_id"]
    body = {"name": "n", "graph_id": graph, "cron": "@daily", "inputs": {"word": "w"}}
    assert api.post("/api/v1/schedules", json=body).status_code == 201
    refused = api.post("/api/v1/schedules", json=body)
    assert (refused.status_code, "at most 2 schedules" in refused.json["detail"]) == (429, True)
