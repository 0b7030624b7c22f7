"""Users and keys over HTTP."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from agentflow.accounts import keys, store
from agentflow.accounts.scopes import OF_ROLE, Role, Scope
from agentflow.api.app import create_app
from agentflow.services.transaction import transaction


def caller(app, role=Role.ADMIN, **more):
    with transaction() as session:
        key, made = keys.create(session, store.add_user(session, role, role), "key", **more)
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    client.user_id, client.key_id = made.owner_id, made.id
    return client


@pytest.fixture
def admin(app):
    return caller(app)


def with_key(app, key):
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return client


def test_me_says_who_one_is_and_what_one_may(app):
    client = caller(app, Role.MEMBER, scopes=[Scope.RUNS_READ, Scope.ADMIN])
    me = client.get("/api/v1/me").json
    assert (me["user"]["id"], me["user"]["role"], me["scopes"]) == (str(client.user_id), "member", ["runs:read"])


def test_everybody_sets_their_own_time_zone_and_an_admin_anybodys(app, admin):
    member = caller(app, Role.VIEWER)
    assert member.get("/api/v1/me").json["user"]["time_zone"] is None
    for name in ("Asia/Kathmandu", "Europe/Paris", None):
        me = member.patch("/api/v1/me", json={"time_zone": name}).json
        assert me["user"]["time_zone"] == name
        assert me == member.get("/api/v1/me").json
    theirs = f"/api/v1/users/{member.user_id}"
    assert admin.patch(theirs, json={"time_zone": "Asia/Tokyo"}).json["time_zone"] == "Asia/Tokyo"
    assert admin.patch(theirs, json={"role": "member"}).json["time_zone"] == "Asia/Tokyo"


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "", "../UTC", "localtime", "right/UTC", "a\0b", "\ud800", 7, "UTC" * 90]
)
def test_a_time_zone_that_is_none_is_refused(app, name):
    refused = caller(app, Role.MEMBER).patch("/api/v1/me", json={"time_zone": name})
    assert refused.status_code == 400
    assert "time_zone" in str(refused.json["errors"])


def test_an_admin_makes_a_user_and_a_key_for_them(app, admin):
    user = admin.post("/api/v1/users", json={"name": "Ann", "role": "viewer"})
    assert (user.status_code, user.json["role"]) == (201, "viewer")
    assert admin.get(user.headers["Location"]).json == user.json
    made = admin.post("/api/v1/keys", json={"name": "first", "user_id": user.json["id"]}).json
    assert made["key"].startswith(made["prefix"])
    theirs = with_key(app, made["key"])
    assert theirs.get("/api/v1/graphs").status_code == 200
    assert theirs.post("/api/v1/runs", json={}).status_code == 403
    listed = admin.get("/api/v1/keys", query_string={"user_id": user.json["id"]}).json["items"]
    assert [one["id"] for one in listed] == [made["id"]]
    assert all("key" not in one for one in listed)


def test_what_a_key_with_scopes_of_its_own_makes_gains_nothing_by_a_promotion(app, admin):
    member = caller(app, Role.MEMBER, scopes=sorted(OF_ROLE[Role.MEMBER]))
    made = member.post("/api/v1/keys", json={"name": "handed on"}).json
    user_id = member.get("/api/v1/me").json["user"]["id"]
    assert admin.patch(f"/api/v1/users/{user_id}", json={"role": "admin"}).status_code == 200
    client = with_key(app, made["key"])
    assert set(client.get("/api/v1/me").json["scopes"]) == set(OF_ROLE[Role.MEMBER])


def test_who_is_being_deleted_gets_no_key(app, admin):
    user_id = caller(app, Role.MEMBER).get("/api/v1/me").json["user"]["id"]
    assert admin.delete(f"/api/v1/users/{user_id}").status_code in (200, 202)
    reply = admin.post("/api/v1/keys", json={"name": "late", "user_id": user_id})
    assert (reply.status_code, "being deleted" in reply.json["detail"]) == (409, True)


def test_a_key_hands_on_no_more_than_it_has(app):
    limited = caller(app, Role.MEMBER, scopes=[Scope.KEYS_MANAGE, Scope.RUNS_READ])
    wider = limited.post("/api/v1/keys", json={"name": "x", "scopes": ["runs:write"]})
    assert (wider.status_code, "runs:write" in wider.json["detail"]) == (403, True)
    same = limited.post("/api/v1/keys", json={"name": "x"}).json
    assert same["scopes"] == ["keys:manage", "runs:read"]
    assert limited.post("/api/v1/keys", json={"name": "x", "scopes": ["runs:read"]}).status_code == 201


@pytest.mark.parametrize("generations", [1, 2])
@pytest.mark.parametrize("scopes", [None, [Scope.KEYS_MANAGE, Scope.RUNS_READ]])
def test_no_chain_of_keys_outlives_the_first(app, scopes, generations):
    ends = datetime.now(UTC) + timedelta(hours=1)
    maker = caller(app, Role.MEMBER, scopes=scopes, expires_at=ends)
    for _ in range(generations):
        for later in (ends + timedelta(seconds=1), ends + timedelta(days=9999)):
            refused = maker.post("/api/v1/keys", json={"name": "x", "expires_at": later.isoformat()})
            assert (refused.status_code, "expires_at" in refused.json["detail"]) == (403, True)
        sooner = maker.post("/api/v1/keys", json={"name": "x", "expires_at": (ends - timedelta(minutes=1)).isoformat()})
        assert sooner.status_code == 201
        same = maker.post("/api/v1/keys", json={"name": "x"}).json
        assert datetime.fromisoformat(same["expires_at"]) == ends
        maker = with_key(app, same["key"])


@pytest.mark.parametrize(
    ("own", "other", "status"),
    [
        ({"scopes": ["keys:manage"]}, {}, 403),
        ({"scopes": ["keys:manage"]}, {"scopes": ["keys:manage", "runs:read"]}, 403),
        ({"scopes": ["keys:manage", "runs:read"]}, {"scopes": ["runs:read"]}, 200),
        ({}, {"scopes": ["runs:read"]}, 200),
        ({"hours": 1}, {}, 403),
        ({"hours": 1}, {"hours": 2}, 403),
        ({"hours": 2}, {"hours": 1}, 200),
        ({}, {}, 200),
    ],
)
def test_a_key_resumes_only_what_it_could_have_made(app, own, other, status):
    full = caller(app, Role.MEMBER)

    def make(hours=None, **more):
        ends = {} if hours is None else {"expires_at": (datetime.now(UTC) + timedelta(hours=hours)).isoformat()}
        return full.post("/api/v1/keys", json={"name": "x", **more, **ends}).json

    resuming, resumed = with_key(app, make(**own)["key"]), make(**other)
    path = f"/api/v1/keys/{resumed['id']}"
    assert resuming.patch(path, json={"suspended": True}).status_code == 200
    assert resuming.patch(path, json={"suspended": False}).status_code == status
    works = with_key(app, resumed["key"]).get("/api/v1/me").status_code
    assert works == (200 if status == 200 else 401)


def test_an_admins_key_that_expires_makes_lasting_ones(app):
    boss = caller(app, expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert boss.post("/api/v1/keys", json={"name": "x"}).json["expires_at"] is None


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "name"),
        ({"name": " "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["runs:fly"]}, "scopes"),
        ({"name": "x", "scopes": ["admin"]}, "admin"),
        ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "expires_at": "2099-01-01T00:00:00"}, "expires_at"),
        ({"name": "x", "expiry": 1}, "expiry"),
    ],
)
def test_a_malformed_key_is_refused_with_its_place(app, body, place):
    reply = caller(app, Role.MEMBER).post("/api/v1/keys", json=body)
    assert reply.status_code == 400
    assert place in reply.json["detail"]


def test_another_users_keys_are_not_there(app, admin):
    member = caller(app, Role.MEMBER)
    assert member.delete(f"/api/v1/keys/{admin.key_id}").status_code == 404
    assert member.patch(f"/api/v1/keys/{admin.key_id}", json={"suspended": True}).status_code == 404
    assert member.get("/api/v1/keys", query_string={"user_id": str(admin.user_id)}).status_code == 404
    assert member.post("/api/v1/keys", json={"name": "x", "user_id": str(admin.user_id)}).status_code == 404
    assert admin.patch(f"/api/v1/keys/{member.key_id}", json={"suspended": True}).status_code == 200


def refused_within(client, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if client.get("/api/v1/me").status_code == 401:
            return True
    return False


def test_a_revoked_key_stops_within_a_second_in_every_process(app, admin, environment, listens):
    member = caller(app, Role.MEMBER)
    key = member.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
    elsewhere = with_key(create_app(environment), key)
    listens(member, elsewhere)
    assert [client.get("/api/v1/me").status_code for client in (member, elsewhere)] == [200, 200]
    assert admin.delete(f"/api/v1/keys/{member.key_id}").status_code == 204
    assert refused_within(member, 1.0)
    assert refused_within(elsewhere, 1.0)
    assert admin.patch(f"/api/v1/keys/{member.key_id}", json={"suspended": False}).status_code == 409


def test_a_suspended_user_is_out_until_resumed(app, admin):
    member = caller(app, Role.MEMBER)
    assert member.get("/api/v1/me").status_code == 200
    assert admin.patch(f"/api/v1/users/{member.user_id}", json={"suspended": True}).json["suspended_at"]
    assert refused_within(member, 1.0)
    assert admin.patch(f"/api/v1/users/{member.user_id}", json={"suspended": False}).json["suspended_at"] is None
    assert member.get("/api/v1/me").status_code == 200


def test_a_key_stops_at_its_expiry_although_it_is_cached(app, admin):
    when = datetime.now(UTC) + timedelta(seconds=0.5)
    made = admin.post("/api/v1/keys", json={"name": "short", "expires_at": when.isoformat()}).json
    client = with_key(app, made["key"])
    assert client.get("/api/v1/me").status_code == 200
    assert refused_within(client, 2.0)
    assert datetime.now(UTC) >= when


@pytest.mark.parametrize("change", [{"role": "member"}, {"suspended": True}])
def test_the_last_admin_stays(app, admin, change):
    refused = admin.patch(f"/api/v1/users/{admin.user_id}", json=change)
    assert refused.status_code == 409
    caller(app, Role.ADMIN)
    assert admin.patch(f"/api/v1/users/{admin.user_id}", json=change).status_code == 200


def test_lists_are_paged_whole_and_in_order(app, admin):
    made = [admin.post("/api/v1/keys", json={"name": str(number)}).json["id"] for number in range(7)]
    seen, after = [], None
    while True:
        page = admin.get("/api/v1/keys", query_string={"limit": 3, **({"after": after} if after else {})}).json
        seen += [one["id"] for one in page["items"]]
        if (after := page["next_cursor"]) is None:
            break
    assert seen == [*reversed(made), str(admin.key_id)]
    foreign = admin.get("/api/v1/users", query_string={"after": "WyJrZXlzIl0"})
    assert foreign.status_code == 400


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    role=st.sampled_from(list(Role)),
    own=st.none() | st.sets(st.sampled_from(list(Scope)), min_size=1),
    wanted=st.none() | st.sets(st.sampled_from(list(Scope)), min_size=1),
)
def test_no_chain_of_keys_gains_a_scope(app, role, own, wanted):
    maker = caller(app, role, scopes=own)
    before = set(maker.get("/api/v1/me").json["scopes"])
    reply = maker.post("/api/v1/keys", json={"name": "x", "scopes": None if wanted is None else sorted(wanted)})
    if reply.status_code != 201:
        assert reply.status_code in (400, 403)
        return
    after = set(with_key(app, reply.json["key"]).get("/api/v1/me").json["scopes"])
    assert after <= before or "admin" in before
    assert after <= {str(scope) for scope in OF_ROLE[role]}


def test_a_deleted_user_is_out_at_once_and_gone_in_the_end(app, admin, echo):
    member = caller(app, Role.MEMBER)
    graph = member.post("/api/v1/graphs", json=echo).json["id"]
    run = member.post(f"/api/v1/graphs/{graph}/runs", json={"inputs": {"word": "x"}}).json["id"]
    deleted = admin.delete(f"/api/v1/users/{member.user_id}")
    assert (deleted.status_code, deleted.json["deleting_at"] is None) == (202, False)
    assert refused_within(member, 1.0)
    with transaction() as session:
        (stop,) = session.scalars(text("SELECT stop_as FROM runs WHERE id = :run"), {"run": run})
    assert stop == "CANCELLED"
    assert admin.patch(f"/api/v1/users/{member.user_id}", json={"suspended": False}).status_code == 409
    assert admin.delete(f"/api/v1/users/{member.user_id}").status_code == 202, "again is no mistake"
    assert admin.delete(f"/api/v1/users/{admin.user_id}").status_code == 409
    assert caller(app, Role.MEMBER).delete(f"/api/v1/users/{admin.user_id}").status_code == 403


def test_suspending_over_http_pauses_the_runs_of_that_user_only(app, admin, echo):
    members = [caller(app, Role.MEMBER) for _ in range(2)]
    for member in members:
        graph = member.post("/api/v1/graphs", json=echo).json["id"]
        member.run = member.post(f"/api/v1/graphs/{graph}/runs", json={"inputs": {"word": "x"}}).json["id"]
    admin.patch(f"/api/v1/users/{members[0].user_id}", json={"suspended": True})
    assert members[1].get(f"/api/v1/runs/{members[1].run}").json["paused_at"] is None
    with transaction() as session:
        paused = session.scalars(text("SELECT id::text FROM runs WHERE paused_at IS NOT NULL")).all()
    assert paused == [members[0].run]
    admin.patch(f"/api/v1/users/{members[0].user_id}", json={"suspended": False})
    assert members[0].get(f"/api/v1/runs/{members[0].run}").json["paused_at"] is None
