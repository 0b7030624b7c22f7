"""People sign in through an OpenID Connect provider, which runs here, signs real tokens, and lies where it is told."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import oidc_server as server
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from oidc_server import CLIENT_ID, CLIENT_SECRET, OidcServer
from people import person, with_key
from pydantic import SecretStr
from sqlalchemy import text

from agentflow.accounts import oidc, oidc_provider
from agentflow.accounts.oidc_provider import Known
from agentflow.accounts.scopes import Role
from agentflow.errors import EngineError
from agentflow.services.transaction import transaction
from agentflow.settings import settings

BEGIN, BACK = "/api/v1/sessions/oidc", "/api/v1/sessions/oidc/callback"


def rows(statement: str, **values: Any) -> list[Any]:
    with transaction() as session:
        return [tuple(row) for row in session.execute(text(statement), values)]


@pytest.fixture
def provider(environment, monkeypatch):
    with server.oidc_server() as running:
        for name, value in {
            "oidc_issuer": running.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": SecretStr(CLIENT_SECRET),
            "oidc_create_users": True,
            "public_url": "http://localhost",
        }.items():
            monkeypatch.setattr(settings(), name, value)
        oidc_provider._kept.clear()
        yield running
        oidc_provider._kept.clear()


def go(client: Any, **query: str) -> str:
    """Begin, and be sent to the provider and back: the path and query with which the browser returns."""
    began = client.get(BEGIN, query_string=query)
    assert began.status_code == 302, began.json
    back = urlsplit(httpx.get(began.headers["Location"], follow_redirects=False).headers["Location"])
    assert back.path == BACK
    return f"{back.path}?{back.query}"


def sign_in(client: Any, **query: str) -> Any:
    return client.get(go(client, **query))


def test_a_first_sign_in_makes_a_member_and_the_next_ones_find_them(app, provider):
    first = sign_in(client := app.test_client())
    assert first.status_code == 200, first.json
    me = client.get("/api/v1/me").json
    assert (me["user"]["name"], me["user"]["role"]) == ("Ann of Cleves", "member")
    provider.person["name"] = "Another Name"
    again = sign_in(app.test_client())
    assert again.json["user_id"] == first.json["user_id"]
    assert again.json["id"] != first.json["id"]
    assert rows("SELECT issuer, subject FROM identities") == [(provider.issuer, "4711")]
    assert rows("SELECT count(*) FROM oidc_attempts") == [(0,)]
    entries = with_key(app, Role.ADMIN).get("/api/v1/audit").json["items"]
    assert [(one["action"], one["target"]) for one in entries] == [
        ("end_oidc", again.json["id"]),
        ("end_oidc", first.json["id"]),
    ]


def test_the_session_is_one_like_any_other(app, provider, echo):
    client = app.test_client()
    made = sign_in(client).json
    assert client.post("/api/v1/graphs", json=echo).status_code == 403
    assert client.post("/api/v1/graphs", json=echo, headers={"X-CSRF-Token": made["csrf_token"]}).status_code == 201


def test_it_is_bound_by_state_nonce_and_pkce(app, provider):
    client = app.test_client()
    began = client.get(BEGIN)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(began.headers["Location"]).query).items()}
    assert asked["code_challenge_method"] == "S256"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert asked["redirect_uri"] == "http://localhost" + BACK
    cookie = began.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert asked["state"] not in str(rows("SELECT a::text FROM oidc_attempts a"))


def test_a_host_header_chooses_no_address(app, provider):
    client = app.test_client()
    began = client.get(BEGIN, headers={"Host": "evil.example"})
    assert "evil" not in began.headers["Location"]


def test_a_page_of_this_site_is_shown_afterwards_and_no_other(app, provider):
    shown = sign_in(app.test_client(), page="/runs?x=1")
    assert (shown.status_code, shown.headers["Location"]) == (303, "/runs?x=1")
    for page in ("//evil.example", "/\\evil.example", "https://evil.example", "runs", "/\tx", "/a\r\nX: y"):
        assert app.test_client().get(BEGIN, query_string={"page": page}).status_code == 400


@pytest.mark.parametrize("how", ["wrong", "used", "foreign", "none", "stale", "unasked"])
def test_a_state_counts_once_and_in_its_browser_only(app, provider, how):
    client = app.test_client()
    back = go(client)
    if how == "used":
        assert client.get(back).status_code == 200
        client = app.test_client()
        client.set_cookie("agentflow_oidc", parse_qs(urlsplit(back).query)["state"][0], path=BEGIN)
    elif how == "foreign":
        client = app.test_client()
        go(client)
    elif how == "none":
        client = app.test_client()
    elif how == "stale":
        rows("UPDATE oidc_attempts SET expires_at = now() RETURNING 1")
    elif how == "wrong":
        back = f"{BACK}?state=x&code=y"
    else:
        back, client = f"{BACK}?state=x&code=y", app.test_client()
        client.set_cookie("agentflow_oidc", "x", path=BEGIN)
    before = rows("SELECT count(*) FROM sessions")
    reply = client.get(back)
    assert (reply.status_code, "begin again" in reply.json["detail"]) == (400, True)
    assert rows("SELECT count(*) FROM sessions") == before
    assert not any(header.startswith("agentflow_session") for header in reply.headers.getlist("Set-Cookie"))


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another client"},
        {"aud": ["another client"]},
        {"aud": [CLIENT_ID, "another client"]},
        {"azp": "another client"},
        {"iss": "https://evil.example"},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"iat": 4_000_000_000},
        {"sub": None},
        {"sub": ""},
        {"sub": 4711},
        {"sub": "x" * 256},
        {"sub": "a\x00b"},
        {"at_hash": "of another token"},
        {"nonce": ["a", "list"]},
        {"exp": "soon"},
        {"aud": {"a": 1}},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_this_sign_in_is_refused(app, provider, claims):
    provider.claims = claims
    reply = sign_in(app.test_client())
    assert (reply.status_code, "OpenID Connect provider" in reply.json["detail"]) == (401, True)
    assert rows("SELECT id FROM users") == []


@pytest.mark.parametrize(
    "sign",
    [
        server.by_another_key, server.by_the_client_secret, server.by_the_public_key_as_a_secret, server.by_nobody,
        server.changed_afterwards, lambda *_: "", lambda *_: "a.b.c", lambda *_: "é", lambda *_: "x" * 100_000,
    ],
)  # fmt: skip
def test_a_token_that_the_provider_has_not_signed_is_refused(app, provider, sign):
    provider.sign = sign
    assert sign_in(app.test_client()).status_code == 401
    assert rows("SELECT id FROM users") == []


def test_a_new_key_of_the_provider_is_found(app, provider, monkeypatch):
    assert sign_in(app.test_client()).status_code == 200
    provider.rotate()
    assert sign_in(app.test_client()).status_code == 401, "its keys were asked for only now"
    monkeypatch.setattr(oidc_provider, "_KEPT_AT_LEAST", 0.0)
    assert sign_in(app.test_client()).status_code == 200


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ((400, b'{"error": "invalid_grant"}'), 401),
        ((401, b"<html>"), 401),
        ((500, b"{}"), 503),
        ((200, b"{}"), 503),
        ((200, b'{"id_token": 5}'), 503),
        ((200, b"not JSON"), 503),
        ((200, b"[" * 100_000), 503),
        ((200, b"x" * 2_000_000), 503),
        ((302, b""), 503),
    ],
    ids=lambda value: str(value)[:40],
)
def test_whatever_its_token_endpoint_says_is_a_clear_refusal(app, provider, reply, status):
    provider.token_reply = reply
    refused = sign_in(app.test_client())
    assert (refused.status_code, "OpenID Connect provider" in refused.json["detail"]) == (status, True)
    assert CLIENT_SECRET not in refused.text


def test_a_refusal_of_the_provider_is_told_in_its_words_on_one_line(app, provider):
    provider.denies = "access_denied"
    refused = sign_in(app.test_client())
    assert refused.status_code == 403
    assert refused.json["detail"].endswith("access_denied: not today")


@pytest.mark.parametrize(
    "facts",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://example.com/token"},
        {"token_endpoint": 5},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
    ids=str,
)
def test_a_provider_that_is_not_what_it_should_be_is_refused(app, provider, facts):
    provider.facts = facts
    refused = app.test_client().get(BEGIN)
    assert (refused.status_code, "OpenID Connect provider" in refused.json["detail"]) == (503, True)


def test_a_provider_that_is_away_is_a_503(app, provider, monkeypatch):
    monkeypatch.setattr(settings(), "oidc_issuer", "http://127.0.0.1:1")
    refused = app.test_client().get(BEGIN)
    assert (refused.status_code, "cannot be reached" in refused.json["detail"]) == (503, True)
    assert "Retry-After" in refused.headers


def test_another_issuer_in_the_return_is_refused(app, provider):
    client = app.test_client()
    refused = client.get(f"{go(client)}&iss=https%3A%2F%2Fevil.example")
    assert (refused.status_code, "iss" in refused.json["detail"]) == (400, True)
    client = app.test_client()
    assert client.get(f"{go(client)}&{urlencode({'iss': provider.issuer})}").status_code == 200


def test_without_the_setting_strangers_stay_out_and_who_is_linked_comes_in(app, provider, monkeypatch, caplog):
    monkeypatch.setattr(settings(), "oidc_create_users", False)
    with caplog.at_level(logging.INFO):
        refused = sign_in(app.test_client())
    (told,) = [record for record in caplog.records if record.message == "sign_in_refused"]
    assert (told.issuer, told.subject) == (provider.issuer, "4711"), "an admin links by it"
    assert (refused.status_code, "ask an admin" in refused.json["detail"]) == (403, True)
    assert rows("SELECT id FROM users") == []
    admin, (ann, bob) = with_key(app, Role.ADMIN), (person("Ann"), person("Bob"))
    assert admin.put(f"/api/v1/users/{ann}/identity", json={"subject": "4711"}).status_code == 204
    assert admin.put(f"/api/v1/users/{bob}/identity", json={"subject": "4711"}).status_code == 409
    assert sign_in(app.test_client()).json["user_id"] == str(ann)
    assert admin.put(f"/api/v1/users/{ann}/identity", json={"subject": None}).status_code == 204
    assert rows("SELECT 1 FROM sessions") == []
    assert admin.put(f"/api/v1/users/{bob}/identity", json={"subject": "4711"}).status_code == 204
    assert sign_in(app.test_client()).json["user_id"] == str(bob)
    assert with_key(app, Role.MEMBER).put(f"/api/v1/users/{bob}/identity", json={"subject": "x"}).status_code == 403


def test_a_suspended_user_stays_out(app, provider):
    user_id = sign_in(app.test_client()).json["user_id"]
    with_key(app, Role.ADMIN).patch(f"/api/v1/users/{user_id}", json={"suspended": True})
    refused = sign_in(app.test_client())
    assert (refused.status_code, "suspended" in refused.json["detail"]) == (401, True)


def test_two_first_sign_ins_at_once_make_one_user(app, provider):
    def find(_: int) -> Any:
        with transaction() as session:
            return oidc.user_of(session, Known("https://issuer.example", "1", "Ann"))

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(find, range(16)))
    assert len(found) == 1
    assert rows("SELECT count(*) FROM users") == [(1,)]


def test_it_is_off_until_it_is_configured(app):
    for path in (BEGIN, f"{BACK}?state=x&code=y"):
        refused = app.test_client().get(path)
        assert (refused.status_code, "not configured" in refused.json["detail"]) == (409, True)


def test_half_a_provider_is_a_wrong_setting(monkeypatch):
    monkeypatch.setenv("AGENTFLOW_OIDC_ISSUER", "https://issuer.example")
    monkeypatch.setenv("AGENTFLOW_OIDC_CLIENT_SECRET", "the secret")
    with pytest.raises(EngineError, match="AGENTFLOW_OIDC_CLIENT_ID, AGENTFLOW_PUBLIC_URL") as caught:
        settings.__wrapped__()
    assert "the secret" not in str(caught.value)


def test_many_who_begin_and_never_return_leave_a_bounded_number_of_rows(app, provider):
    client = app.test_client()
    codes = [client.get(BEGIN).status_code for _ in range(110)]
    assert codes == [302] * 100 + [429] * 10
    rows("UPDATE oidc_attempts SET expires_at = now() RETURNING 1")
    client.get(BEGIN, environ_base={"REMOTE_ADDR": "198.51.100.7"})
    assert rows("SELECT count(*) FROM oidc_attempts") == [(1,)]


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.none() | st.integers() | st.text(max_size=400), subject=st.text(min_size=1, max_size=300))
def test_whoever_the_provider_names_is_a_user_with_a_name_or_refused(
    app, provider: OidcServer, monkeypatch, name, subject
):
    monkeypatch.setattr(app.extensions["sign_in_limit"], "take", lambda *_: None)
    provider.person = {"sub": subject, "name": name}
    client = app.test_client()
    reply = sign_in(client)
    assert reply.status_code in (200, 401)
    if reply.status_code == 200:
        shown = client.get("/api/v1/me").json["user"]["name"]
        assert 0 < len(shown) <= 200
        assert shown.isprintable()
