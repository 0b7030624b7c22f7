"""Every operation is refused to whoever may not carry it out, and to nobody else."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from agentflow.accounts import keys, store
from agentflow.accounts.scopes import OF_ROLE, Role, Scope, effective
from agentflow.api.app import create_app
from agentflow.api.document import EXAMPLES
from agentflow.api.scopes import NEEDED, OPEN, SIGNED
from agentflow.services.transaction import transaction
from agentflow.settings import Settings


def operations():
    """(operation id, method, path) of every operation that needs a key."""
    document = create_app(Settings()).test_client().get("/openapi.json").json
    return [
        pytest.param(operation["operationId"], method, path, id=operation["operationId"])
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if operation.get("security")
    ]


OPERATIONS = operations()

OWNED = (
    "graph_id", "run_id", "preset_id", "schedule_id", "key_id", "credential_id", "trigger_id", "delivery_id",
    "notification_id", "channel_id",
)  # fmt: skip
"""What in an address belongs to one user."""

PLACES = (*OWNED, "review_id", "user_id", "session_id", "block_id", "name")


@pytest.fixture
def ask(app):
    def send(name, method, path, key, **places):
        for place in PLACES:
            path = path.replace(f"{{{place}}}", str(places.get(place, uuid4())))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return app.test_client().open(path, method=method.upper(), headers=headers, json=EXAMPLES.get(name))

    return send


def make(role=Role.ADMIN, **more):
    with transaction() as session:
        key, stored = keys.create(session, store.add_user(session, "somebody", role), "key", **more)
        return key, stored.owner_id, stored.id


def test_every_operation_has_its_scope_and_there_are_no_others():
    assert set(NEEDED) == {operation.values[0] for operation in OPERATIONS}


def test_what_needs_no_key_is_named(app):
    document = app.test_client().get("/openapi.json").json
    without = {
        operation["operationId"]
        for path, item in document["paths"].items()
        for operation in item.values()
        if path.startswith("/api/") and not operation.get("security")
    }
    assert without == OPEN | SIGNED | {"graph_schema"}


@pytest.mark.parametrize(("name", "method", "path"), OPERATIONS)
def test_who_has_no_valid_key_is_refused(ask, name, method, path):
    assert ask(name, method, path, None).status_code == 401
    assert ask(name, method, path, "af_" + "x" * 52).status_code == 401
    expired, _, _ = make(expires_at=datetime.now(UTC) + timedelta(milliseconds=1))
    suspended, _, suspended_id = make()
    revoked, _, revoked_id = make()
    of_suspended, user_id, _ = make()
    with transaction() as session:
        store.key(session, suspended_id).suspended_at = datetime.now(UTC)
        store.key(session, revoked_id).revoked_at = datetime.now(UTC)
        store.user(session, user_id).suspended_at = datetime.now(UTC)
    for key, why in (
        (expired, "expired"), (suspended, "suspended"), (revoked, "revoked"), (of_suspended, "user"),
    ):  # fmt: skip
        reply = ask(name, method, path, key)
        assert (reply.status_code, reply.json["type"]) == (401, "urn:agentflow:problem:unauthenticated")
        assert why in reply.json["detail"]


@pytest.mark.parametrize(("name", "method", "path"), OPERATIONS)
def test_the_scope_that_is_needed_is_needed_and_is_enough(ask, name, method, path):
    needed = NEEDED[name]
    others, _, _ = make(scopes=sorted(set(Scope) - {needed}))
    reply = ask(name, method, path, others)
    assert (reply.status_code == 403) == (needed is not None)
    if needed is not None:
        assert str(needed) in reply.json["detail"]
    only, _, _ = make(scopes=[needed or Scope.CREDITS_READ])
    reply = ask(name, method, path, only)
    assert reply.status_code not in (401, 500)
    if reply.status_code == 403:  # what it asks for is more than this key has to hand on
        assert name == "create_key"
        assert str(needed) not in reply.json["detail"]


@pytest.mark.parametrize(("name", "method", "path"), OPERATIONS)
def test_a_role_is_the_bound_of_its_keys(ask, name, method, path):
    for role in Role:
        key, _, _ = make(role)
        refused = ask(name, method, path, key).status_code == 403
        assert refused == (NEEDED[name] is not None and NEEDED[name] not in OF_ROLE[role])


@pytest.fixture
def belongings(api, echo):
    """What another user has: a graph, a run of it, a key, a credential, a trigger with a delivery."""
    graph = api.post("/api/v1/graphs", json=echo).json["id"]
    preset = api.post("/api/v1/presets", json={"graph_id": graph, "name": "mine"}).json["id"]
    daily = {"graph_id": graph, "name": "mine", "cron": "@daily", "inputs": {"word": "x"}}
    schedule = api.post("/api/v1/schedules", json=daily).json["id"]
    run = api.post(f"/api/v1/graphs/{graph}/runs", json={"inputs": {"word": "x"}}).json["id"]
    me = api.get("/api/v1/me").json
    credential = api.post("/api/v1/credentials", json=EXAMPLES["create_credential"]).json["id"]
    signal = {"name": "paid", "run": "$.run"}
    trigger = api.post("/api/v1/triggers", json={"name": "mine", "scheme": "none", "signal": signal}).json
    api.post(f"/hooks/{trigger['token']}", json={"run": run})
    (delivery,) = api.get(f"/api/v1/triggers/{trigger['id']}/deliveries").json["items"]
    ids = {"graph_id": graph, "run_id": run, "preset_id": preset, "credential_id": credential}
    ids |= {"trigger_id": trigger["id"], "delivery_id": delivery["id"]}
    return {**ids, "schedule_id": schedule, "key_id": me["key_id"], "user_id": me["user"]["id"]}


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [one for one in OPERATIONS if any(f"{{{what}}}" in one.values[2] for what in OWNED)],
)
def test_what_is_anothers_is_not_there(ask, belongings, name, method, path):
    key, _, _ = make(Role.MEMBER)
    theirs, nobodys = ask(name, method, path, key, **belongings), ask(name, method, path, key)
    assert theirs.status_code == nobodys.status_code == 404
    known = [str(value) for value in belongings.values()]
    assert all(value not in theirs.json["title"] for value in known)


def test_effective_scopes_are_those_of_the_key_within_those_of_the_role():
    for role in Role:
        assert effective(role, None) == OF_ROLE[role]
        for scope in Scope:
            assert effective(role, [scope]) == OF_ROLE[role] & {scope}
