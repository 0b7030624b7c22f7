"""The audit log: every change and every refused one, in order, whole, and only for those whom it concerns."""

from urllib.parse import quote
from uuid import uuid4

import pytest
from belongings import OPERATIONS, WHOSE, members
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from agentflow.accounts import keys, store
from agentflow.accounts.scopes import Role
from agentflow.api.audit import _ONLY_READ
from agentflow.api.document import EXAMPLES
from agentflow.errors import AgentFlowError
from agentflow.services.transaction import transaction


def caller(app, role):
    with transaction() as session:
        key, made = keys.create(session, store.add_user(session, role, role), "key")
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    client.user_id, client.key_id = str(made.owner_id), str(made.id)
    return client


@pytest.fixture
def admin(app):
    return caller(app, Role.ADMIN)


@pytest.fixture
def member(app):
    return caller(app, Role.MEMBER)


def entries(client, **query):
    reply = client.get("/api/v1/audit", query_string=query)
    assert reply.status_code == 200, reply.json
    return reply.json["items"]


def told(entry):
    return entry["action"], entry["target"], entry["status"]


def test_each_change_is_recorded_once_with_what_it_made(member, echo):
    graph = member.post("/api/v1/graphs", json=echo).json["id"]
    run = member.post(f"/api/v1/graphs/{graph}/runs", json={"inputs": {"word": "x"}}).json["id"]
    inline = member.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": "x"}}).json["id"]
    member.post(f"/api/v1/runs/{run}/cancel", json={})
    member.post("/api/v1/graphs/validate", json=echo)
    member.get(f"/api/v1/runs/{run}")
    found = entries(member)
    assert [told(entry) for entry in reversed(found)] == [
        ("create_graph", graph, None),
        ("submit_run", run, None),
        ("submit_inline", inline, None),
        ("cancel_run", run, None),
    ]
    assert {(entry["user_id"], entry["key_id"], entry["source"]) for entry in found} == {
        (member.user_id, member.key_id, "127.0.0.1")
    }


CHANGING = sorted(
    name
    for name, (method, _, operation) in OPERATIONS.items()
    if method != "GET" and operation.get("security") and name not in _ONLY_READ
)


@pytest.mark.parametrize("operation", CHANGING)
def test_each_changing_request_leaves_one_entry_whoever_sends_it_and_whatever_comes_of_it(app, work, operation):
    boss, ann = members(app, work, ("Boss", Role.ADMIN), ("Ann", Role.MEMBER))
    viewer = caller(app, Role.VIEWER)
    nobodys = {name: str(uuid4()) for name in WHOSE}

    def sent(who, **given):
        """The reply's status, and the entries that the request left."""
        with transaction() as session:
            known = set(session.scalars(text("SELECT id FROM audit_entries")))
        status = who.ask(operation, **given).status_code
        with transaction() as session:
            rows = session.execute(text("SELECT id, action, status, key_id, session_id FROM audit_entries"))
            return status, [tuple(map(str, row[1:])) for row in rows if row.id not in known]

    attempts = [
        (ann, {"by": viewer}, viewer.key_id, None),
        (boss, {"path": nobodys}, boss.has["key"], None),
        (boss, {"json": [{"odd": 1}]}, boss.has["key"], None),
        (boss, {"by": boss.browser, "path": nobodys}, None, boss.has["session"]),
        (ann, {}, ann.has["key"], None),
        (boss, {}, boss.has["key"], None),  # the last: it may end the key
    ]
    for who, request, key_id, session_id in attempts:
        status, left = sent(who, **request)
        if status == 503:  # what it needs elsewhere is away
            continue
        assert status < 500
        if status == 401 and not left:  # an earlier one has ended the key or session
            continue
        refused = status if status >= 400 else None
        assert left == [tuple(map(str, (operation, refused, key_id, session_id)))], request


def test_what_was_refused_is_recorded_with_its_reason(app, member):
    viewer = caller(app, Role.VIEWER)
    viewer.post("/api/v1/graphs", json=EXAMPLES["create_graph"])
    member.post("/api/v1/graphs", json={"nodes": 5})
    member.delete(f"/api/v1/keys/{viewer.key_id}")
    (first,) = entries(viewer)
    assert (told(first), "graphs:write" in first["reason"]) == (("create_graph", None, 403), True)
    assert [told(entry) for entry in entries(member)] == [
        ("revoke_key", viewer.key_id, 404),
        ("create_graph", None, 422),
    ]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(odd=st.text(min_size=1, max_size=5) | st.sampled_from(["\0", "\ud800", "\0" * 2_000, "x" * 3_000]))
def test_a_refusal_that_quotes_any_text_is_recorded(member, odd):
    reply = member.post("/api/v1/runs", json={"graph": {}, "inputs": {odd: 1}, "labels": {"": odd}})
    assert reply.status_code == 400
    assert entries(member, limit=1)[0]["reason"]
    member.delete(f"/api/v1/graphs/{quote(odd, errors='surrogatepass')}")
    member.post(f"/api/v1/runs/{uuid4()}/signals/{quote(odd, safe='', errors='surrogatepass')}", json={})


def test_who_has_no_key_leaves_nothing(app, admin):
    app.test_client().post("/api/v1/graphs", json={}, headers={"Authorization": "Bearer af_" + "x" * 52})
    assert entries(admin) == []


def test_one_reads_ones_own_and_an_admin_all(app, admin, member, echo):
    other = caller(app, Role.MEMBER)
    for client in (member, other, admin):
        client.post("/api/v1/graphs", json=echo)
    assert [entry["user_id"] for entry in entries(member)] == [member.user_id]
    assert member.get("/api/v1/audit", query_string={"user_id": other.user_id}).status_code == 404
    assert [entry["user_id"] for entry in entries(admin)] == [admin.user_id, other.user_id, member.user_id]
    assert [entry["user_id"] for entry in entries(admin, user_id=other.user_id)] == [other.user_id]


def test_pages_hold_every_entry_once(member, echo):
    made = [member.post("/api/v1/graphs", json=echo).json["id"] for _ in range(11)]
    seen, after = [], None
    while True:
        page = member.get("/api/v1/audit", query_string={"limit": 4, **({"after": after} if after else {})}).json
        seen += [entry["target"] for entry in page["items"]]
        if (after := page["next_cursor"]) is None:
            break
    assert seen == made[::-1]


def test_an_entry_and_its_change_are_kept_or_lost_together(member, echo, monkeypatch):
    def broken(*_):
        raise AgentFlowError("the log cannot be written")

    monkeypatch.setattr("agentflow.accounts.audit.record", broken)
    assert member.post("/api/v1/graphs", json=echo).status_code == 500
    monkeypatch.undo()
    assert member.get("/api/v1/graphs").json["items"] == []


@pytest.mark.parametrize("statement", ["UPDATE audit_entries SET action = 'x'", "DELETE FROM audit_entries"])
def test_entries_stay_as_they_are(member, echo, statement):
    member.post("/api/v1/graphs", json=echo)
    with pytest.raises(AgentFlowError), transaction() as session:
        session.execute(text(statement))
    assert len(entries(member)) == 1
