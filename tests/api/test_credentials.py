"""Credentials over HTTP: kept for their owner, changed, listed, and never shown."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planted import ALL, API_KEY, body, found_in_database
from sqlalchemy import text

from agentflow.clock import now
from agentflow.credentials import service
from agentflow.credentials.kinds import Kind
from agentflow.credentials.system import system_id
from agentflow.services.transaction import transaction
from agentflow.settings import ProviderCredential
from agentflow.settings import settings as configured

URL = "/api/v1/credentials"


def create(client, provider="openai", **more):
    reply = client.post(URL, json=body(provider, **more))
    assert reply.status_code == 201, reply.json
    return reply.json


@pytest.mark.parametrize("provider", ALL)
def test_a_credential_is_kept_and_its_secret_never_shown(api, provider):
    made = api.post(URL, json=body(provider.upper(), ALL[provider], title="mine"))
    assert made.status_code == 201, made.json
    view = made.json
    assert (view["provider"], view["type"], view["title"], view["state"]) == (
        provider, ALL[provider]["type"], "mine", "valid",
    )  # fmt: skip
    listed = api.get(URL)
    assert listed.json == {"items": [view], "next_cursor": None}
    assert api.get(made.headers["Location"]).json == view
    renamed = api.patch(f"{URL}/{view['id']}", json={"title": "yours"})
    assert renamed.json["title"] == "yours"
    for reply in (made, listed, renamed):
        assert "PLANTED" not in reply.text
    secrets = [value for value in json.dumps(ALL[provider]).split('"') if "PLANTED" in value]
    assert secrets
    assert found_in_database(*secrets, "PLANTED") == set()


def test_what_is_not_secret_is_shown(api):
    details = {one: create(api, one)["details"] for one in ALL}
    assert details == {
        "openai": {},
        "smtp": {"username": "ann"},
        "http": {"host": "*.example.com", "headers": ["Authorization", "X-Key"]},
        "google": {"scopes": ["read"], "username": "ann"},
    }


def test_nobody_else_sees_or_changes_it(api, stranger):
    path = f"{URL}/{create(api)['id']}"
    unknown = stranger.get(f"{URL}/{uuid4()}")
    for reply in (stranger.get(path), stranger.patch(path, json={"title": "x"}), stranger.delete(path)):
        assert (reply.status_code, reply.json["title"]) == (404, unknown.json["title"])
    assert stranger.get(URL).json["items"] == []
    assert api.get(path).json["title"] == "openai"


def test_a_new_secret_replaces_the_old_one(api):
    made = create(api)
    path = f"{URL}/{made['id']}"
    with transaction() as session:
        before = session.execute(text("SELECT secret, updated_at FROM credentials")).one()
    changed = api.patch(path, json={"secret": {"type": "api_key", "api_key": "another"}})
    assert (changed.status_code, changed.json["updated_at"] > made["updated_at"]) == (200, True)
    with transaction() as session:
        assert session.execute(text("SELECT secret FROM credentials")).scalar() != before.secret
    other = api.patch(path, json={"secret": ALL["smtp"], "title": "never stored"})
    assert (other.status_code, "stays" in other.json["detail"]) == (409, True)
    assert api.get(path).json["title"] == "openai"


def test_an_expiry_is_set_taken_away_and_tells_the_state(api):
    soon = (now() + timedelta(hours=1)).isoformat()
    path = f"{URL}/{create(api, expires_at=soon)['id']}"
    assert api.get(path).json["state"] == "valid"
    with transaction() as session:
        session.execute(text("UPDATE credentials SET expires_at = now() - interval '1 second'"))
    assert api.get(path).json["state"] == "expired"
    never = api.patch(path, json={"expires_at": None}).json
    assert (never["state"], never["expires_at"]) == ("valid", None)
    past = api.patch(path, json={"expires_at": "2001-01-01T00:00:00Z"})
    assert (past.status_code, past.json["state"]) == (200, "expired")
    assert create(api, expires_at="2001-01-01T00:00:00Z")["state"] == "expired"


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_the_first_and_the_last_time_are_kept(api, when):
    assert create(api, expires_at=when)["expires_at"] == when
    assert api.get(URL).json["items"][0]["expires_at"] == when


def test_a_new_secret_makes_it_valid_again(api):
    path = f"{URL}/{create(api)['id']}"
    with transaction() as session:
        session.execute(text("UPDATE credentials SET state = 'needs_reauthorisation'"))
    assert api.get(path).json["state"] == "needs_reauthorisation"
    assert api.patch(path, json={"title": "x"}).json["state"] == "needs_reauthorisation"
    assert api.patch(path, json={"secret": API_KEY}).json["state"] == "valid"


def test_a_deleted_one_is_gone(api):
    path = f"{URL}/{create(api)['id']}"
    assert api.delete(path).status_code == 204
    assert [api.get(path).status_code, api.delete(path).status_code] == [404, 404]


def test_the_list_has_pages_and_can_be_of_one_provider(api):
    made = [create(api, one)["id"] for one in (*ALL, *ALL)]
    seen, after = [], None
    while True:
        page = api.get(URL, query_string={"limit": 3, **({"after": after} if after else {})}).json
        seen += [one["id"] for one in page["items"]]
        if (after := page["next_cursor"]) is None:
            break
    assert seen == made[::-1]
    of_one = api.get(URL, query_string={"provider": "OpenAI"}).json["items"]
    assert {one["provider"] for one in of_one} == {"openai"}
    first = api.get(URL, query_string={"limit": 1}).json["next_cursor"]
    assert api.get(URL, query_string={"provider": "smtp", "after": first}).status_code == 400


def test_without_a_key_ring_nothing_is_stored_and_the_reply_says_what_to_set(api, monkeypatch):
    monkeypatch.setattr(configured(), "credential_keys", ())
    refused = api.post(URL, json=body())
    assert (refused.status_code, "AGENTFLOW_CREDENTIAL_KEYS" in refused.json["detail"]) == (409, True)
    assert api.get(URL).json["items"] == []


def test_an_owner_has_so_many_and_no_more(api, monkeypatch):
    monkeypatch.setattr(service, "MOST", 2)
    create(api), create(api)
    refused = api.post(URL, json=body())
    assert (refused.status_code, "2 credentials" in refused.json["detail"]) == (429, True)


def test_every_change_is_in_the_audit_log_and_no_secret(api):
    path = f"{URL}/{create(api)['id']}"
    api.patch(path, json={"secret": API_KEY})
    api.delete(path)
    api.post(URL, json={"provider": "openai", "secret": {"type": "api_key", "key": "sk-PLANTED"}})
    log = api.get("/api/v1/audit")
    done = [(one["action"], one["target"], one["status"]) for one in log.json["items"]]
    id = path.rpartition("/")[2]
    assert done == [
        ("create_credential", None, 400),
        ("delete_credential", id, None),
        ("change_credential", id, None),
        ("create_credential", id, None),
    ]
    assert found_in_database("PLANTED") == set()


WRONG = [
    ({}, "provider"),
    ({"provider": "open ai"}, "provider"),
    ({"provider": "x" * 101}, "provider"),
    ({"secret": {"type": "magic"}}, "secret"),
    ({"secret": {"type": "api_key"}}, "secret.api_key.api_key"),
    ({"secret": {"type": "api_key", "api_key": ""}}, "secret.api_key.api_key"),
    ({"secret": {"type": "api_key", "api_key": "a\nb"}}, "secret.api_key.api_key"),
    ({"secret": {"type": "api_key", "api_key": "\ud800"}}, "secret.api_key.api_key"),
    ({"secret": {"type": "api_key", "api_key": "x" * 10_001}}, "secret.api_key.api_key"),
    ({"secret": {"type": "api_key", "api_key": "a", "base_url": "http://x.test"}}, "secret.api_key.base_url"),
    ({"secret": {"type": "user_password", "username": "a"}}, "secret.user_password.password"),
    ({"secret": {**ALL["smtp"], "base_url": "mail.example.com"}}, "secret.user_password.base_url"),
    ({"secret": {**ALL["http"], "host": "*.com"}}, "secret.host_scoped.host"),
    ({"secret": {**ALL["http"], "host": "a.test/path"}}, "secret.host_scoped.host"),
    ({"secret": {**ALL["http"], "host": "a.test:70000"}}, "secret.host_scoped.host"),
    ({"secret": {**ALL["http"], "headers": {}}}, "secret.host_scoped.headers"),
    ({"secret": {**ALL["http"], "headers": {"X Key": "v"}}}, "secret.host_scoped.headers"),
    ({"secret": {**ALL["http"], "headers": {"X-Key": "v\r\nX: y"}}}, "secret.host_scoped.headers"),
    ({"title": "\x00"}, "title"),
    ({"expires_at": "2999-01-01T00:00:00"}, "expires_at"),
    ({"expires_at": "0001-01-01T00:00:00+23:00"}, "expires_at"),
    ({"expires_at": "9999-12-31T23:59:59-23:00"}, "expires_at"),
    ({"colour": "blue"}, "colour"),
]


@pytest.mark.parametrize(("wrong", "place"), WRONG)
def test_what_is_wrong_is_told_with_its_place_and_without_its_value(api, wrong, place):
    refused = api.post(URL, json={**body(), **wrong} if wrong else {})
    assert refused.status_code == 400, refused.json
    assert any(one["message"].startswith(place) for one in refused.json["errors"]), refused.json
    assert "PLANTED" not in refused.text
    assert api.get(URL).json["items"] == []


_texts = st.text(max_size=30) | st.sampled_from(["x" * 10_000, "x" * 10_001, "a b", "ä", "\ud800"])
_secrets = st.fixed_dictionaries(
    {"type": st.sampled_from([*map(str, Kind), "other"])},
    optional={
        "api_key": _texts,
        "username": _texts,
        "password": _texts,
        "base_url": _texts,
        "host": _texts | st.from_regex(r"[a-z*.]{1,20}(:[0-9]{1,6})?", fullmatch=True),
        "headers": st.dictionaries(_texts, _texts, max_size=60),
        "access_token": _texts,
        "scopes": st.lists(_texts, max_size=120),
    },
)


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=60)
@given(provider=_texts | st.just("openai"), title=_texts, secret=_secrets)
def test_whatever_is_sent_is_stored_whole_or_refused(api, provider, title, secret):
    sent = {"provider": provider, "title": title, "secret": secret}
    before = len(api.get(URL, query_string={"limit": 200}).json["items"])
    reply = api.post(URL, data=json.dumps(sent), content_type="application/json")
    assert reply.status_code in (201, 400), reply.json
    after = api.get(URL, query_string={"limit": 200}).json["items"]
    assert len(after) - before == (reply.status_code == 201)
    if reply.status_code == 201:
        assert api.get(f"{URL}/{reply.json['id']}").json == reply.json
        assert api.delete(f"{URL}/{reply.json['id']}").status_code == 204


def test_the_providers_say_what_blocks_take_and_what_the_operator_has(api, monkeypatch):
    monkeypatch.setattr(configured(), "credentials", {"openai": ProviderCredential(api_key="PLANTED")})
    reply = api.get("/api/v1/providers")
    known = {one["provider"]: one for one in reply.json["items"]}
    assert {"openai", "anthropic", "smtp", "database", "http"} <= known.keys()
    assert known["smtp"]["types"] == ["user_password"]
    assert "SendEmail" in known["smtp"]["blocks"]
    assert known["smtp"]["system_credential"] is None
    assert known["openai"]["system_credential"] == {"id": str(system_id("openai")), "type": None}
    assert "PLANTED" not in reply.text
