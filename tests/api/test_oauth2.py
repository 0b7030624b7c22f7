"""Users log in at a provider, which runs here and lies where it is told to; nothing is stored by halves or shown."""

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from oauth2_server import *  # noqa: F403
from oauth2_server import CLIENT_SECRET, OWN_ID, OWN_SECRET, URL, log_in
from people import person, signed_in
from planted import found_in_database
from pydantic import SecretStr, ValidationError
from sqlalchemy import text

from agentflow.api import rate
from agentflow.credentials import oauth2_tokens, probing, rotation, service
from agentflow.credentials.oauth2_providers import WELL_KNOWN, OAuthProvider, merged
from agentflow.credentials.oauth2_tokens import Broken, Refused, Tokens
from agentflow.errors import EngineError
from agentflow.services.transaction import transaction
from agentflow.settings import settings

BACK = f"{URL}/oauth2/callback"


def rows(statement, **values):
    with transaction() as session:
        return [tuple(row) for row in session.execute(text(statement), values)]


def begin(client, **more):
    reply = client.post(f"{URL}/oauth2/login", json={"provider": "acme", **more})
    assert reply.status_code == 201, reply.json
    return reply.json


def stored():
    return rows("SELECT count(*) FROM credentials")[0][0]


def hidden(credential_id):
    with transaction() as session:
        (owner,) = rows("SELECT owner_id FROM credentials WHERE id = :id", id=credential_id)[0]
        one = service.get(session, owner, credential_id)
        return service.key_ring().decrypt(service.sealed_of(one), service.bound_of(one))


@pytest.fixture(autouse=True)
def _patient(monkeypatch, request):
    """Only tests of the limit meet it."""
    if "limit" not in request.node.name:
        monkeypatch.setattr(rate.OutwardLimit, "take", lambda *_: None)
        monkeypatch.setattr(rate.SignInLimit, "take", lambda *_: None)


def test_a_login_stores_what_the_provider_gives_and_shows_none_of_it(api, acme, caplog):
    caplog.set_level(logging.DEBUG)
    begun = begin(api, scopes=["read", "write"], title="mine")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(begun["authorization_url"]).query).items()}
    assert (asked["scope"], asked["code_challenge_method"]) == ("read write", "S256")
    assert asked["redirect_uri"] == "http://localhost/api/v1/credentials/oauth2/callback"
    assert len(begun["state"]) >= 43, "256 random bits"
    assert begun["state"] not in str(rows("SELECT l::text FROM oauth2_logins l"))
    back = acme.allow(begun["authorization_url"])
    caplog.clear()  # the browser of this test says where it goes
    reply = api.post(BACK, json={"state": back["state"], "code": back["code"]})
    made = reply.json
    assert (reply.status_code, made["provider"], made["title"], made["state"]) == (200, "acme", "mine", "valid")
    assert made["details"] == {"scopes": ["read", "write"], "grant": "authorization_code"}
    assert (made["expires_at"], made["token_expires_at"] > made["created_at"]) == (None, True)
    assert api.get(f"{URL}/{made['id']}").json == made
    secret = hidden(made["id"])
    assert secret["access_token"] in acme.good
    planted = [*secret.values(), back["code"], acme.asked[0]["code_verifier"], CLIENT_SECRET]
    assert found_in_database(*planted) == set()
    for shown in (reply.text, caplog.text):
        assert [one for one in planted if one in shown] == []
    assert rows("SELECT 1 FROM oauth2_logins") == []
    entries = rows("SELECT action, target, status FROM audit_entries ORDER BY id")
    assert entries == [("begin_login", "acme", None), ("end_login", made["id"], None)]


def test_the_verifier_is_encrypted_until_it_is_used(api, acme):
    begun = begin(api)
    before = rows("SELECT secret FROM oauth2_logins")[0][0]
    back = acme.allow(begun["authorization_url"])
    api.post(BACK, json={"state": back["state"], "code": back["code"]})
    assert acme.asked[0]["code_verifier"].encode() not in bytes(before)


@pytest.mark.parametrize("how", ["wrong", "used", "foreign", "stale"])
def test_a_state_counts_once_in_time_and_for_its_user_only(api, stranger, acme, how):
    begun = begin(api)
    back = acme.allow(begun["authorization_url"])
    client, state = api, back["state"]
    if how == "wrong":
        state = state[::-1]
    elif how == "used":
        assert api.post(BACK, json={"state": state, "code": back["code"]}).status_code == 200
    elif how == "foreign":
        client = stranger
    else:
        rows("UPDATE oauth2_logins SET expires_at = now() RETURNING 1")
    before, asked = stored(), len(acme.asked)
    refused = client.post(BACK, json={"state": state, "code": back["code"]})
    assert (refused.status_code, "begin again" in refused.json["detail"]) == (400, True)
    assert (stored(), len(acme.asked)) == (before, asked), "the provider is not asked"
    if how in ("wrong", "foreign"):
        assert api.post(BACK, json={"state": back["state"], "code": back["code"]}).status_code == 200, "it still counts"


@pytest.mark.parametrize("body", [{}, {"code": "x"}, {"state": "x"}, {"state": "x", "code": "y", "error": "z"}])
def test_half_a_return_is_malformed(api, acme, body):
    assert api.post(BACK, json=body).status_code == 400


def test_an_error_of_the_provider_is_told_on_one_line(api, acme):
    acme.denies = "access_denied"
    back = acme.allow(begin(api)["authorization_url"])
    refused = api.post(BACK, json={"state": back["state"], "error": back["error"] + "\r\n" + "x" * 400})
    assert (refused.status_code, stored()) == (403, 0)
    assert refused.json["detail"].startswith("acme did not let you in: access_denied")
    assert "\n" not in refused.json["detail"]
    (refusal,) = rows("SELECT action, status FROM audit_entries WHERE status IS NOT NULL")
    assert refusal == ("end_login", 403)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ((400, {}, b'{"error": "invalid_grant", "error_description": "PLANTED"}'), 403),
        ((200, {}, b'{"error": "bad_verification_code"}'), 403),
        ((200, {}, b'{"ok": false, "error": "invalid_code"}'), 403),
        ((400, {}, b'{"status": "BAD_AUTH_CODE", "message": "PLANTED"}'), 403),
        ((400, {}, b'{"error": 400, "message": "Bad Request"}'), 403),
        ((400, {}, b'{"error": {"code": "PLANTED <b>"}}'), 403),
        ((400, {}, b"<html>PLANTED"), 503),
        ((404, {}, b"{}"), 503),
        ((500, {}, b"{}"), 503),
        ((429, {"Retry-After": "7"}, b"{}"), 503),
        ((200, {}, b"{}"), 503),
        ((200, {}, b"[]"), 503),
        ((200, {}, b"not JSON"), 503),
        ((200, {}, b""), 503),
        ((200, {}, b"[" * 100_000), 503),
        ((200, {}, b"x" * 2_000_000), 503),
        ((200, {}, b'{"access_token": 5}'), 503),
        ((200, {}, b'{"access_token": ""}'), 503),
        ((200, {}, b'{"access_token": "two words"}'), 503),
        ((200, {}, b'{"access_token": "\\ud800"}'), 503),
        ((200, {}, b'{"access_token": "a\\u0000b"}'), 503),
        ((200, {}, json.dumps({"access_token": "x" * 10_001}).encode()), 503),
        ((200, {}, b'{"access_token": "x", "refresh_token": ["y"]}'), 503),
        ((200, {}, b'{"access_token": "x", "token_type": "DPoP"}'), 503),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), 503),
        ((307, {"Location": "/token"}, b""), 503),
    ],
    ids=lambda value: str(value)[:50],
)
def test_whatever_the_token_endpoint_says_is_a_clear_refusal(api, acme, reply, status):
    back = acme.allow(begin(api)["authorization_url"])
    acme.replies = [reply]
    refused = api.post(BACK, json={"state": back["state"], "code": back["code"]})
    assert (refused.status_code, "acme does not" in refused.json["detail"]) == (status, True)
    assert (stored(), len(acme.asked)) == (0, 1)
    assert "PLANTED" not in refused.text
    again = api.post(BACK, json={"state": back["state"], "code": back["code"]})
    assert again.status_code == 400, "the state is used"


def test_a_provider_that_is_slow_or_away_is_a_503(api, acme, monkeypatch):
    monkeypatch.setattr(oauth2_tokens, "ASK_SECONDS", 0.2)
    back = acme.allow(begin(api)["authorization_url"])
    monkeypatch.setattr(acme, "token", lambda *_: time.sleep(1))
    refused = api.post(BACK, json={"state": back["state"], "code": back["code"]})
    assert (refused.status_code, "did not answer" in refused.json["detail"]) == (503, True)
    back = acme.allow(begin(api)["authorization_url"])
    entry = OAuthProvider(**acme.entry(token_url="http://127.0.0.1:1/token"))
    monkeypatch.setattr(settings(), "oauth_providers", {"acme": entry})
    refused = api.post(BACK, json={"state": back["state"], "code": back["code"]})
    assert (refused.status_code, "cannot be reached" in refused.json["detail"]) == (503, True)
    assert stored() == 0


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner),
    max_leaves=4,
)


@examples(max_examples=150, deadline=None)
@given(
    st.integers(200, 599),
    st.dictionaries(
        st.sampled_from(
            ["access_token", "refresh_token", "expires_in", "scope", "token_type", "error", "ok", "status"]
        ),
        _values
        | st.sampled_from(["x" * 9_999, "x" * 10_001, 10**400, -1, 0, "3600", "soon", 1e300, "a b,c", "a," * 200]),
    ),
)
def test_any_reply_is_tokens_that_can_be_stored_a_refusal_or_a_fault(status, content):
    from httpx import Headers

    from agentflow.net.fetching import Reply

    provider = OAuthProvider(**WELL_KNOWN["x"], client_id="c", client_secret="s")
    answer = oauth2_tokens._read(provider, Reply(status, Headers(), json.dumps(content).encode()))
    match answer:
        case Tokens(access, refresh, seconds, scopes):
            assert 200 <= status < 300
            for token in (access, refresh or "x", *(scopes or ("x",))):
                assert (token.isascii(), token.isprintable(), 0 < len(token) <= 10_000) == (True, True, True)
            assert 0 < (seconds or 0) <= 10 * 366 * 86_400
        case Refused(error):
            assert (len(error) <= 60, error.isprintable()) == (True, True)
        case Broken(why):
            assert why.isprintable()


def test_what_a_provider_leaves_out_or_says_otherwise(api, acme, monkeypatch):
    acme.life = None
    made = log_in(api, acme)
    assert (made["token_expires_at"], made["expires_at"]) == (None, None), "it never ends, as far as anybody knows"
    entry = OAuthProvider(**acme.entry(token_seconds=600))
    monkeypatch.setattr(settings(), "oauth_providers", {"acme": entry})
    assert log_in(api, acme)["token_expires_at"] is not None, "the provider's usual life"
    acme.scope = "read,user:email"
    assert log_in(api, acme)["details"]["scopes"] == ["read", "user:email"]
    back = acme.allow(begin(api)["authorization_url"])
    acme.replies = [(200, {}, b'{"access_token": "x", "expires_in": "3600"}')]
    kept = api.post(BACK, json={"state": back["state"], "code": back["code"]}).json
    assert kept["expires_at"] == kept["token_expires_at"] is not None, "without a refresh token it ends"


def test_authorising_again_gives_an_existing_credential_new_tokens(api, stranger, acme):
    made = log_in(api, acme, title="mine", scopes=["read", "write"])
    rows("UPDATE credentials SET state = 'needs_reauthorisation' RETURNING 1")
    before = hidden(made["id"])
    again = log_in(api, acme, credential_id=made["id"])
    assert (again["id"], again["title"], again["state"]) == (made["id"], "mine", "valid")
    assert again["details"]["scopes"] == ["read", "write"], "what it had"
    assert hidden(made["id"])["refresh_token"] != before["refresh_token"]
    assert again["updated_at"] > made["updated_at"]
    key = api.post(URL, json={"provider": "acme", "secret": {"type": "api_key", "api_key": "x"}}).json["id"]
    for client, id, status in ((stranger, made["id"], 404), (api, str(uuid4()), 404), (api, key, 409)):
        refused = client.post(f"{URL}/oauth2/login", json={"provider": "acme", "credential_id": id})
        assert refused.status_code == status
    assert rows("SELECT 1 FROM oauth2_logins") == []


def test_a_credential_that_is_deleted_meanwhile_is_not_made_again(api, acme):
    made = log_in(api, acme)
    back = acme.allow(begin(api, credential_id=made["id"])["authorization_url"])
    assert api.delete(f"{URL}/{made['id']}").status_code == 204
    refused = api.post(BACK, json={"state": back["state"], "code": back["code"]})
    assert (refused.status_code, stored()) == (404, 0)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"provider": "nobody"}, 409),
        ({"provider": "github"}, 409),
        ({"provider": "spotify"}, 409),
        ({}, 400),
        ({"provider": "acme", "scopes": "read"}, 400),
        ({"provider": "acme", "scopes": ["two words"]}, 400),
        ({"provider": "acme", "scopes": ['"']}, 400),
        ({"provider": "acme", "scopes": ["é"]}, 400),
        ({"provider": "acme", "scopes": ["x"] * 101}, 400),
        ({"provider": "acme", "credential_id": "x"}, 400),
        ({"provider": "acme", "redirect_uri": "https://evil.example"}, 400),
    ],
    ids=str,
)
def test_a_login_that_cannot_begin_is_refused(api, acme, body, status):
    refused = api.post(f"{URL}/oauth2/login", json=body)
    assert refused.status_code == status, refused.json
    assert rows("SELECT 1 FROM oauth2_logins") == []


def test_scopes_are_joined_as_the_provider_wants_them(api, acme, monkeypatch):
    entry = OAuthProvider(**acme.entry(scope_separator=","))
    monkeypatch.setattr(settings(), "oauth_providers", {"acme": entry})
    address = begin(api, scopes=["a", "b"])["authorization_url"]
    assert parse_qs(urlsplit(address).query)["scope"] == ["a,b"]
    refused = api.post(f"{URL}/oauth2/login", json={"provider": "acme", "scopes": ["a,b"]})
    assert (refused.status_code, "'a,b'" in refused.json["detail"]) == (400, True)


def test_without_a_public_address_or_a_key_ring_nobody_can_log_in(api, acme, monkeypatch):
    monkeypatch.setattr(settings(), "public_url", None)
    refused = api.post(f"{URL}/oauth2/login", json={"provider": "acme"})
    assert (refused.status_code, "AGENTFLOW_PUBLIC_URL" in refused.json["detail"]) == (409, True)
    monkeypatch.setattr(settings(), "public_url", "http://localhost")
    monkeypatch.setattr(settings(), "credential_keys", ())
    refused = api.post(f"{URL}/oauth2/login", json={"provider": "acme"})
    assert (refused.status_code, "AGENTFLOW_CREDENTIAL_KEYS" in refused.json["detail"]) == (409, True)


def test_logins_that_nobody_ends_are_few(api, acme):
    for _ in range(25):
        last = begin(api)
    assert rows("SELECT count(*) FROM oauth2_logins") == [(20,)]
    back = acme.allow(last["authorization_url"])
    assert api.post(BACK, json={"state": back["state"], "code": back["code"]}).status_code == 200


def test_a_browser_that_is_signed_in_ends_its_own_users_login(app, acme):
    person("Ann"), person("Bob")
    ann, bob = signed_in(app, "Ann"), signed_in(app, "Bob")
    back = acme.allow(begin(ann)["authorization_url"])
    refused = bob.get(BACK, query_string=back)
    assert (refused.status_code, stored()) == (400, 0), "another's login"
    page = ann.get(BACK, query_string=back)
    assert (page.status_code, page.mimetype, "is stored" in page.text) == (200, "text/html", True)
    assert back["code"] not in page.text
    (item,) = ann.get(URL).json["items"]
    assert item["provider"] == "acme"
    recorded = rows("SELECT action, target FROM audit_entries WHERE action = 'end_login'")
    assert recorded == [("end_login", item["id"])]
    assert ann.get(BACK, query_string=back).status_code == 400, "used"


def test_a_return_that_the_provider_refused_is_recorded_once_and_one_that_is_nobodys_is_not(app, acme):
    person("Ann")
    ann = signed_in(app, "Ann")
    state = acme.allow(begin(ann)["authorization_url"])["state"]
    assert ann.get(BACK, query_string={"state": "x" * 43, "code": "c"}).status_code == 400
    assert ann.get(BACK, query_string={"state": state, "error": "access_denied"}).status_code == 403
    assert rows("SELECT target, status, key_id, session_id::text FROM audit_entries WHERE action = 'end_login'") == [
        (None, 403, None, ann.session_id)
    ]


def test_a_browser_that_is_not_signed_in_is_told_how_to_go_on_and_uses_nothing_up(api, app, acme):
    back = acme.allow(begin(api)["authorization_url"])
    page = app.test_client().get(BACK, query_string=back)
    assert (page.status_code, "agentflow credentials login" in page.text, stored()) == (200, True, 0)
    assert back["code"] not in page.text
    assert back["state"] not in page.text
    assert (page.headers["Referrer-Policy"], page.headers["Cache-Control"]) == ("no-referrer", "no-store")
    assert api.post(BACK, json={"state": back["state"], "code": back["code"]}).status_code == 200


def test_a_users_own_client_gets_tokens_by_itself(api, acme):
    body = {"provider": "acme", "client_id": OWN_ID, "client_secret": OWN_SECRET, "scopes": ["read"]}
    made = api.post(f"{URL}/oauth2/client", json=body)
    assert made.status_code == 201, made.json
    assert made.json["details"] == {"scopes": ["read"], "grant": "client_credentials", "client_id": OWN_ID}
    assert api.get(made.headers["Location"]).json == made.json
    assert OWN_SECRET not in made.text
    assert found_in_database(OWN_SECRET) == set()
    wrong = api.post(f"{URL}/oauth2/client", json={**body, "client_secret": "PLANTED wrong"})
    assert (wrong.status_code, "invalid_client" in wrong.json["detail"], "PLANTED" in wrong.text) == (403, True, False)
    again = api.post(f"{URL}/oauth2/client", json={**body, "credential_id": made.json["id"], "title": "new"})
    assert (again.json["id"], again.json["title"]) == (made.json["id"], "new")
    assert api.post(f"{URL}/{made.json['id']}/test").json["ok"] is True
    assert stored() == 1


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"provider": "nobody"}, 409),
        ({"client_secret": ""}, 400),
        ({"client_secret": "PLANTED\n"}, 400),
        ({"client_id": ""}, 400),
        ({"credential_id": "01890a5d-ac96-774b-bcce-b302099a8057"}, 404),
        ({"access_token": "PLANTED"}, 400),
    ],
    ids=str,
)
def test_a_client_that_cannot_be_stored_is_refused_and_not_quoted(api, acme, more, status):
    body = {"provider": "acme", "client_id": OWN_ID, "client_secret": OWN_SECRET, **more}
    refused = api.post(f"{URL}/oauth2/client", json=body)
    assert (refused.status_code, stored(), len(acme.asked)) == (status, 0, 0)
    assert "PLANTED" not in refused.text


def test_a_provider_without_that_grant_takes_no_clients(api, acme, monkeypatch):
    entry = OAuthProvider(**acme.entry(client_credentials=False))
    monkeypatch.setattr(settings(), "oauth_providers", {"acme": entry})
    body = {"provider": "acme", "client_id": OWN_ID, "client_secret": OWN_SECRET}
    assert api.post(f"{URL}/oauth2/client", json=body).status_code == 409


def test_a_test_says_whether_the_provider_takes_the_credential(api, stranger, acme, monkeypatch):
    made = log_in(api, acme)
    path = f"{URL}/{made['id']}/test"
    assert api.post(path).json == {"ok": True, "detail": "acme takes it"}
    acme.good.clear()
    tried = api.post(path)
    assert (tried.status_code, tried.json["ok"], "401" in tried.json["detail"]) == (200, False, True)
    rows("UPDATE credentials SET renew_at = now() RETURNING 1")
    assert api.post(path).json["ok"] is True, "it is renewed first"
    assert acme.refreshed == 1
    rows("UPDATE credentials SET renew_at = now() RETURNING 1")
    acme.forget_refresh_tokens()
    tried = api.post(path)
    assert (tried.status_code, tried.json["ok"], "authorise it again" in tried.json["detail"]) == (200, False, True)
    assert api.get(f"{URL}/{made['id']}").json["state"] == "needs_reauthorisation"
    assert stranger.post(path).status_code == 404
    entry = OAuthProvider(**acme.entry(test_url=""))
    monkeypatch.setattr(settings(), "oauth_providers", {"acme": entry})
    assert api.post(path).status_code == 409
    entries = rows("SELECT status FROM audit_entries WHERE action = 'test_credential' ORDER BY id")
    assert entries == [(None,), (None,), (None,), (None,), (404,), (409,)], "one for each"


def test_a_key_is_tried_where_its_provider_has_a_harmless_call(api, acme, monkeypatch):
    made = api.post(URL, json={"provider": "openai", "secret": {"type": "api_key", "api_key": "PLANTED"}}).json
    path = f"{URL}/{made['id']}/test"
    monkeypatch.setattr(settings(), "http_allow", (urlsplit(acme.url).netloc,))
    probe = probing._Probe(f"{acme.url}/me", {"Authorization": "Bearer {}"})
    monkeypatch.setitem(probing.PROBES, "openai", probe)
    assert api.post(path).json["ok"] is False
    acme.good.add("PLANTED")
    assert api.post(path).json == {"ok": True, "detail": "openai takes it"}
    monkeypatch.setitem(probing.PROBES, "openai", probing._Probe(f"{acme.url}/nowhere", {}))
    broken = api.post(path)
    assert (broken.status_code, "404" in broken.json["detail"]) == (503, True)
    api.patch(f"{URL}/{made['id']}", json={"secret": {"type": "api_key", "api_key": "ключ"}})
    assert "cannot be sent" in api.post(path).json["detail"]
    api.patch(f"{URL}/{made['id']}", json={"expires_at": "2020-01-01T00:00:00Z"})
    assert api.post(path).json == {"ok": False, "detail": "it has expired"}
    other = api.post(URL, json={"provider": "jina", "secret": {"type": "api_key", "api_key": "x"}}).json["id"]
    assert api.post(f"{URL}/{other}/test").status_code == 409


def test_calls_to_providers_have_a_limit_for_each_user(api, stranger, acme, monkeypatch):
    made = api.post(URL, json={"provider": "jina", "secret": {"type": "api_key", "api_key": "x"}}).json["id"]
    codes = [api.post(f"{URL}/{made}/test").status_code for _ in range(rate.OUTWARD + 2)]
    assert codes == [409] * rate.OUTWARD + [429] * 2
    assert api.post(BACK, json={"state": "x", "code": "y"}).status_code == 429
    assert stranger.post(BACK, json={"state": "x", "code": "y"}).status_code == 400


def test_deleting_revokes_the_last_credential_of_its_provider_behind_the_deletion(api, acme, eventually):
    first, second = log_in(api, acme), log_in(api, acme)
    refresh = hidden(second["id"])["refresh_token"]
    assert api.delete(f"{URL}/{first['id']}").status_code == 204
    assert api.delete(f"{URL}/{second['id']}").status_code == 204
    eventually(lambda: acme.revoked)
    assert [form["token"] for form in acme.revoked] == [refresh], "the first is not: that could end the other, too"


def test_a_provider_that_cannot_revoke_does_not_keep_a_credential(api, acme, monkeypatch):
    made = log_in(api, acme)
    entry = OAuthProvider(**acme.entry(revoke_url="http://127.0.0.1:1/revoke"))
    monkeypatch.setattr(settings(), "oauth_providers", {"acme": entry})
    assert api.delete(f"{URL}/{made['id']}").status_code == 204
    other = log_in(api, acme)
    monkeypatch.setattr(settings(), "oauth_providers", {})
    assert api.delete(f"{URL}/{other['id']}").status_code == 204
    assert stored() == 0


def test_the_key_ring_is_changed_under_a_login(api, acme, monkeypatch):
    begun, made = begin(api), log_in(api, acme)
    old = settings().credential_keys
    monkeypatch.setattr(settings(), "credential_keys", (SecretStr("b" * 42 + "A="), *old))
    with transaction() as session:
        assert rotation.left(session) == 2
        rotation.rotate_batch(session)
    with transaction() as session:
        assert rotation.left(session) == 0
    monkeypatch.setattr(settings(), "credential_keys", settings().credential_keys[:1])
    back = acme.allow(begun["authorization_url"])
    assert api.post(BACK, json={"state": back["state"], "code": back["code"]}).status_code == 200
    assert hidden(made["id"])["access_token"] in acme.good


def test_providers_say_how_to_get_tokens_there(api, acme):
    found = {one["provider"]: one for one in api.get("/api/v1/providers").json["items"]}
    assert found["acme"]["oauth2"] == {"login": True, "client_credentials": True, "scopes": ["read"]}
    assert found["acme"]["types"] == ["oauth2"]
    assert found["openai"]["oauth2"] is None


@pytest.mark.parametrize("name", WELL_KNOWN)
def test_a_well_known_provider_needs_the_app_only(name):
    known = OAuthProvider(**merged({name.upper(): {"client_id": "c", "client_secret": "s"}})[name])
    assert known.takes_logins
    state, verifier = "s" * 43, "v" * 43
    assert "s" * 43 in oauth2_tokens.prepare_grant_uri(known.authorize_url, "c", "code", state=state)
    assert verifier not in known.authorize_url


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("no JSON", "AGENTFLOW_OAUTH_PROVIDERS|oauth_providers"),
        ({"github": {"client_id": "c"}, "GitHub": {"client_id": "c"}}, "same name"),
        ({"github": "PLANTED"}, "AGENTFLOW_OAUTH_PROVIDERS → github"),
        ({"github": {"client_id": 5}}, "github → client_id"),
        ({"github": {"client_secret": "PLANTED"}}, "github: .*client_id"),
        ({"slack": {"client_id": "c"}}, "slack: .*client_secret"),
        ({"acme": {"client_id": "c", "client_secret": "PLANTED"}}, "acme → token_url"),
        (
            {"acme": {"client_id": "c", "token_url": "http://acme.example/t", "authorize_url": "https://a.example"}},
            "acme → token_url",
        ),
        (
            {"acme": {"client_id": "c", "token_url": "https://", "authorize_url": "https://a.example"}},
            "acme → token_url",
        ),
        ({"github": {"client_id": "c", "scope_separator": ";"}}, "github → scope_separator"),
        ({"github": {"client_id": "c", "client_secrte": "PLANTED"}}, "github → client_secrte"),
        ({"github": {"client_id": "c", "scopes": ["repo user"]}}, "github: .*scope_separator"),
        ({"github": {"client_id": "c", "token_seconds": -1}}, "github → token_seconds"),
        ([], "AGENTFLOW_OAUTH_PROVIDERS"),
    ],
    ids=str,
)
def test_a_wrong_setting_stops_the_process_and_names_the_place(monkeypatch, entry, told):
    monkeypatch.setenv("AGENTFLOW_OAUTH_PROVIDERS", entry if isinstance(entry, str) else json.dumps(entry))
    with pytest.raises(EngineError, match=told) as caught:
        settings.__wrapped__()
    assert "PLANTED" not in str(caught.value)


def test_a_provider_shows_no_secret():
    known = OAuthProvider(**WELL_KNOWN["github"], client_id="c", client_secret=CLIENT_SECRET)
    assert CLIENT_SECRET not in f"{known!r} {known}"
    with pytest.raises(ValidationError):
        known.client_id = "other"


def test_the_server_of_these_tests_refuses_a_refresh_token_that_was_used(api, acme):
    made = log_in(api, acme)
    used = hidden(made["id"])["refresh_token"]
    provider = settings().oauth_providers["acme"]
    assert isinstance(oauth2_tokens.refreshed(provider, used), Tokens)
    assert oauth2_tokens.refreshed(provider, used) == Refused("invalid_grant", over=True)
    assert (acme.refreshed, acme.reused) == (1, 1)


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=st.text(max_size=520), code=st.text(max_size=4_100), error=st.none() | st.text(max_size=600))
def test_whatever_comes_back_is_a_refusal(api, acme, state, code, error):
    body = {"state": state, "code": code, "error": error}
    reply = api.post(BACK, json={name: value for name, value in body.items() if value is not None})
    assert reply.status_code == 400
    query = {name: value.encode("utf-8", "replace") for name, value in body.items() if value is not None}
    page = api.application.test_client().get(BACK, query_string=query)
    assert page.status_code in (200, 400)
    assert stored() == 0


def test_two_returns_at_once_end_one_login(app, api, acme):
    back = acme.allow(begin(api)["authorization_url"])

    def end(_):
        client = app.test_client()
        client.environ_base.update(api.environ_base)
        return client.post(BACK, json={"state": back["state"], "code": back["code"]}).status_code

    with ThreadPoolExecutor(8) as threads:
        first, *others = sorted(threads.map(end, range(8)))
    assert (first, set(others) <= {400, 429}) == (200, True), "only some may wait for a provider at a time"
    assert (stored(), len(acme.asked)) == (1, 1)
