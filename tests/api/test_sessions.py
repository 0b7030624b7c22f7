"""People sign in with name and password: what a session may do, what ends it, and what nobody can guess or plant."""

import multiprocessing
import time
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import argon2
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people import PASSWORD, ask_to_sign_in, person, secret_of, signed_in, with_key
from serving import serve, start_serving  # noqa: F401
from sqlalchemy import text

from agentflow.accounts import passwords, sessions, store
from agentflow.accounts.scopes import OF_ROLE, Role
from agentflow.api.app import create_app
from agentflow.api.rate import PER_ADDRESS, SignInLimit
from agentflow.errors import TooMany
from agentflow.services.transaction import transaction
from agentflow.settings import Settings


def rows(statement: str, **values: Any) -> list[Any]:
    with transaction() as session:
        return [tuple(row) for row in session.execute(text(statement), values)]


def execute(statement: str, **values: Any) -> None:
    with transaction() as session:
        session.execute(text(statement), values)


def refused_within(client: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if client.get("/api/v1/me").status_code == 401:
            return True
    return False


@pytest.mark.parametrize("role", list(Role))
def test_a_session_may_do_what_the_role_of_its_user_allows(app, role):
    user_id = person("Ann", role)
    me = signed_in(app, "Ann").get("/api/v1/me").json
    assert (me["user"]["id"], set(me["scopes"])) == (str(user_id), set(OF_ROLE[role]))
    assert me["key_id"] is None
    assert me["session_id"]


def test_a_name_is_found_in_any_case_and_width(app):
    person("Ännï Straße")
    for name in ("ännï straße", " ÄNNÏ STRASSE", "Ａ".join(["ännï str", "ße"]).replace("Ａ", "ａ")):
        assert ask_to_sign_in(app.test_client(), name).status_code == 201


def test_a_password_is_the_same_however_a_keyboard_composes_it(app):
    person("Ann", password="pässwörtlich")
    assert ask_to_sign_in(app.test_client(), "Ann", "pa\u0308sswo\u0308rtlich").status_code == 201


@pytest.mark.parametrize(
    ("name", "password"), [("Ann", "another password"), ("Bob", PASSWORD), ("", PASSWORD), ("Ann", ""), ("Zed", "x")]
)
def test_a_wrong_name_and_a_wrong_password_are_the_same_refusal(app, name, password):
    person("Ann")
    with transaction() as session:
        store.add_user(session, "Zed")  # who has no password
    reply = ask_to_sign_in(app.test_client(), name, password)
    assert reply.status_code == (401 if name and password else 400)
    assert "Set-Cookie" not in reply.headers
    if reply.status_code == 401:
        assert reply.json["detail"] == "the name or the password is wrong"
    assert rows("SELECT id FROM sessions") == []


def test_an_unknown_name_costs_as_many_hashes_as_a_known_one(app, monkeypatch):
    person("Ann")
    passwords.prepare()
    done: list[str] = []

    class Counting(argon2.PasswordHasher):
        def verify(self, hash, password):
            done.append("verify")
            return super().verify(hash, password)

        def hash(self, password, *, salt=None):
            done.append("hash")
            return super().hash(password, salt=salt)

    monkeypatch.setattr(passwords, "_hasher", Counting())
    costs = []
    for name in ("Ann", "nobody"):
        done.clear()
        assert ask_to_sign_in(app.test_client(), name, "wrong password").status_code == 401
        costs.append(list(done))
    assert costs[0] == costs[1] == ["verify"]


def test_a_hash_is_renewed_at_a_sign_in_when_the_parameters_have_changed(app, monkeypatch):
    with monkeypatch.context() as former:
        former.setattr(passwords, "_hasher", argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1))
        person("Ann")
    ((before,),) = rows("SELECT password_hash FROM users")
    signed_in(app, "Ann")
    ((after,),) = rows("SELECT password_hash FROM users")
    assert before != after
    assert after.startswith("$argon2id$")
    assert not passwords.is_outdated(after)
    signed_in(app, "Ann")
    assert rows("SELECT password_hash FROM users") == [(after,)]


def test_so_many_passwords_are_hashed_at_a_time_and_others_are_told_to_come_again(app, monkeypatch):
    person("Ann")
    monkeypatch.setattr(passwords, "_PATIENCE", 0.01)
    for _ in range(passwords._AT_ONCE):
        passwords._places.acquire()
    try:
        refused = ask_to_sign_in(app.test_client(), "Ann")
    finally:
        passwords._places.release(passwords._AT_ONCE)
    assert (refused.status_code, "try again" in refused.json["detail"]) == (503, True)
    assert ask_to_sign_in(app.test_client(), "Ann").status_code == 201


def test_the_cookie_is_out_of_reach_of_scripts_and_foreign_sites(app):
    person("Ann")
    header = ask_to_sign_in(app.test_client(), "Ann").headers["Set-Cookie"]
    parts = {part.strip() for part in header.split(";")[1:]}
    assert header.startswith("agentflow_session=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= parts
    assert not any(part.startswith("Domain") for part in parts)
    secure = ask_to_sign_in(app.test_client(), "Ann", base_url="https://localhost").headers["Set-Cookie"]
    assert secure.startswith("__Host-agentflow_session=")
    assert "Secure" in {part.strip() for part in secure.split(";")}


def test_behind_a_trusted_proxy_its_address_and_scheme_count_and_else_not(app, environment):
    person("Ann")
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    trusting = create_app(environment.model_copy(update={"trusted_proxies": 1}))
    cookies = [
        ask_to_sign_in(one.test_client(), "Ann", headers=headers).headers["Set-Cookie"] for one in (app, trusting)
    ]
    assert ["Secure" in cookie for cookie in cookies] == [False, True]
    assert sorted(rows("SELECT source FROM sessions")) == [("127.0.0.1",), ("203.0.113.9",)]


@pytest.mark.parametrize(("proxies", "believed"), [("0", False), ("1", True)])
def test_the_server_passes_on_what_a_trusted_proxy_says(serve, proxies, believed):  # noqa: F811
    person("Ann")
    _, url = serve(AGENTFLOW_TRUSTED_PROXIES=proxies)
    headers = {"X-Forwarded-For": "192.0.2.1, 203.0.113.9", "X-Forwarded-Proto": "https"}
    body = {"name": "Ann", "password": PASSWORD}
    reply = httpx.post(f"{url}/api/v1/sessions", json=body, headers=headers)
    assert ("Secure" in reply.headers["Set-Cookie"]) == believed
    assert reply.json()["source"] == ("203.0.113.9" if believed else "127.0.0.1")


def test_neither_secret_nor_token_is_stored(app):
    person("Ann")
    client = signed_in(app, "Ann")
    kept = str(rows("SELECT s::text, u::text FROM sessions s, users u"))
    assert secret_of(client) not in kept
    assert client.token not in kept
    assert PASSWORD not in kept


@pytest.mark.parametrize("token", [None, "", "x" * 64, "é", "other"])
def test_a_changing_request_with_a_cookie_needs_its_csrf_token(app, token, echo):
    person("Ann")
    client = signed_in(app, "Ann")
    other = signed_in(app, "Ann")
    del client.environ_base["HTTP_X_CSRF_TOKEN"]
    headers = {} if token is None else {"X-CSRF-Token": other.token if token == "other" else token}
    for method, path in (("post", "/graphs"), ("delete", "/sessions/current"), ("patch", f"/users/{UUID(int=1)}")):
        reply = getattr(client, method)(f"/api/v1{path}", json=echo, headers=headers)
        assert (reply.status_code, "X-CSRF-Token" in reply.json["detail"]) == (403, True)
    assert client.get("/api/v1/graphs").json["items"] == []
    token = client.get("/api/v1/me").json["csrf_token"]
    assert client.post("/api/v1/graphs", json=echo, headers={"X-CSRF-Token": token}).status_code == 201


def test_a_key_needs_no_csrf_token_also_beside_a_cookie(app, echo):
    person("Ann")
    client = signed_in(app, "Ann")
    del client.environ_base["HTTP_X_CSRF_TOKEN"]
    key = with_key(app, Role.MEMBER)
    client.environ_base["HTTP_AUTHORIZATION"] = key.environ_base["HTTP_AUTHORIZATION"]
    assert client.post("/api/v1/graphs", json=echo).status_code == 201
    assert client.get("/api/v1/me").json["user"]["id"] == str(key.user_id)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_of_a_foreign_page_cannot_sign_anybody_in(app, kind):
    person("Ann")
    body = b'{"name": "Ann", "password": "correct horse battery staple"}'
    reply = app.test_client().post("/api/v1/sessions", data=body, content_type=kind)
    assert (reply.status_code, "Content-Type" in reply.json["detail"]) == (400, True)
    assert "Set-Cookie" not in reply.headers


def test_every_sign_in_is_a_new_session_and_a_planted_one_is_nobodys(app):
    person("Ann")
    client = app.test_client()
    planted = "p" * 43
    client.set_cookie("agentflow_session", planted)
    assert client.get("/api/v1/me").status_code == 401
    seen = set()
    for _ in range(3):
        assert ask_to_sign_in(client, "Ann").status_code == 201
        seen.add(secret_of(client))
        assert client.get("/api/v1/me").status_code == 200
    assert len(seen) == 3
    assert planted not in seen
    victim = app.test_client()
    victim.set_cookie("agentflow_session", planted)
    assert victim.get("/api/v1/me").status_code == 401


def test_a_sessions_secret_is_no_key_and_a_key_no_session(app):
    person("Ann")
    client = signed_in(app, "Ann")
    assert client.get("/api/v1/me").status_code == 200  # it is cached now
    as_key = app.test_client().get("/api/v1/me", headers={"Authorization": f"Bearer {secret_of(client)}"})
    assert as_key.status_code == 401
    keyed = with_key(app, Role.MEMBER)
    assert keyed.get("/api/v1/me").status_code == 200
    browser = app.test_client()
    browser.set_cookie("agentflow_session", keyed.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer "))
    assert browser.get("/api/v1/me").status_code == 401


def test_one_lists_and_ends_ones_own_sessions_and_an_admin_anybodys(app):
    ann, _ = person("Ann"), person("Bob")
    first, second, foreign = signed_in(app, "Ann"), signed_in(app, "Ann"), signed_in(app, "Bob")
    listed = first.get("/api/v1/sessions").json["items"]
    assert [one["id"] for one in listed] == [second.session_id, first.session_id]
    assert foreign.get("/api/v1/sessions", query_string={"user_id": str(ann)}).status_code == 404
    assert foreign.delete(f"/api/v1/sessions/{first.session_id}").status_code == 404
    assert first.delete(f"/api/v1/sessions/{second.session_id}").status_code == 204
    assert refused_within(second, 1.0)
    admin = with_key(app, Role.ADMIN)
    seen = admin.get("/api/v1/sessions", query_string={"user_id": str(ann)}).json["items"]
    assert [one["id"] for one in seen] == [first.session_id]
    assert admin.delete(f"/api/v1/sessions/{first.session_id}").status_code == 204
    assert refused_within(first, 1.0)
    assert foreign.get("/api/v1/me").status_code == 200


def test_signing_out_ends_the_session_and_its_cookie(app):
    person("Ann")
    client = signed_in(app, "Ann")
    secret = secret_of(client)
    reply = client.delete("/api/v1/sessions/current")
    assert (reply.status_code, "Max-Age=0" in reply.headers["Set-Cookie"]) == (204, True)
    client.set_cookie("agentflow_session", secret)
    assert refused_within(client, 1.0)
    assert with_key(app, Role.MEMBER).delete("/api/v1/sessions/current").status_code == 404


def test_a_narrow_key_ends_no_session(app):
    user_id = person("Ann")
    client = signed_in(app, "Ann")
    narrow = with_key(app, Role.MEMBER, scopes=["runs:read"])
    execute("UPDATE api_keys SET owner_id = :user WHERE id = :key", user=user_id, key=narrow.key_id)
    assert narrow.delete(f"/api/v1/sessions/{client.session_id}").status_code == 403
    assert client.get("/api/v1/me").status_code == 200


@pytest.mark.parametrize("how", ["suspension", "own password", "password by an admin", "another process"])
def test_a_session_ends_within_a_second_in_every_process(app, environment, how):
    user_id = person("Ann")
    admin, client = with_key(app, Role.ADMIN), signed_in(app, "Ann")
    elsewhere = create_app(environment).test_client()
    elsewhere.set_cookie("agentflow_session", secret_of(client))
    assert [one.get("/api/v1/me").status_code for one in (client, elsewhere)] == [200, 200]
    if how == "suspension":
        reply = admin.patch(f"/api/v1/users/{user_id}", json={"suspended": True})
    elif how == "own password":
        reply = client.post("/api/v1/me/password", json={"old": PASSWORD, "new": "a new password"})
    elif how == "password by an admin":
        reply = admin.post(f"/api/v1/users/{user_id}/password", json={"password": "a new password"})
    else:
        reply = client.delete("/api/v1/sessions/current")
        client.set_cookie("agentflow_session", "x")
    assert reply.status_code in (200, 204), reply.json
    assert refused_within(client, 1.0)
    assert refused_within(elsewhere, 1.0)
    assert rows("SELECT id FROM sessions") == []


def test_a_suspended_user_cannot_sign_in_and_their_sessions_stay_ended(app):
    user_id = person("Ann")
    admin, client = with_key(app, Role.ADMIN), signed_in(app, "Ann")
    admin.patch(f"/api/v1/users/{user_id}", json={"suspended": True})
    refused = ask_to_sign_in(app.test_client(), "Ann")
    assert (refused.status_code, "suspended" in refused.json["detail"]) == (401, True)
    admin.patch(f"/api/v1/users/{user_id}", json={"suspended": False})
    assert client.get("/api/v1/me").status_code == 401
    assert ask_to_sign_in(app.test_client(), "Ann").status_code == 201


@pytest.mark.parametrize(("column", "setting"), [("last_used_at", "session_idle_seconds"), ("created_at", None)])
def test_a_session_ends_when_it_is_idle_and_at_its_limit(app, environment, column, setting):
    person("Ann")
    client = signed_in(app, "Ann")
    if setting:
        past = timedelta(seconds=getattr(environment, setting))
        execute("UPDATE sessions SET last_used_at = last_used_at - :past", past=past)
    else:
        execute("UPDATE sessions SET expires_at = now()")
    fresh = create_app(environment).test_client()  # which has not cached it
    fresh.set_cookie("agentflow_session", secret_of(client))
    assert fresh.get("/api/v1/me").status_code == 401
    other = signed_in(app, "Ann")
    assert [one["id"] for one in other.get("/api/v1/sessions").json["items"]] == [other.session_id]
    assert rows("SELECT id FROM sessions") == [(UUID(other.session_id),)]


def test_use_keeps_a_session_from_being_idle(app, environment):
    person("Ann")
    client = signed_in(app, "Ann")
    execute("UPDATE sessions SET last_used_at = now() - interval '2 hours'")
    fresh = create_app(environment).test_client()
    fresh.set_cookie("agentflow_session", secret_of(client))
    assert fresh.get("/api/v1/me").status_code == 200
    assert rows("SELECT now() - last_used_at < interval '1 minute' FROM sessions") == [(True,)]


def test_a_user_has_so_many_sessions_and_the_oldest_end(app, monkeypatch):
    person("Ann")
    monkeypatch.setattr(sessions, "MOST", 3)
    made = [signed_in(app, "Ann").session_id for _ in range(5)]
    assert {str(row[0]) for row in rows("SELECT id FROM sessions")} == set(made[-3:])


def test_ones_own_password_needs_the_old_one(app):
    person("Ann")
    client = signed_in(app, "Ann")
    wrong = client.post("/api/v1/me/password", json={"old": "not that one", "new": "a new password"})
    assert wrong.status_code == 401
    assert client.get("/api/v1/me").status_code == 200
    assert client.post("/api/v1/me/password", json={"old": PASSWORD, "new": "a new password"}).status_code == 204
    assert ask_to_sign_in(app.test_client(), "Ann").status_code == 401
    assert ask_to_sign_in(app.test_client(), "Ann", "a new password").status_code == 201
    without = with_key(app, Role.MEMBER).post("/api/v1/me/password", json={"old": "x", "new": "a new password"})
    assert (without.status_code, "an admin sets the first one" in without.json["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("password", "place"), [("short", "password"), ("x" * 1001, "password"), ("ANN of cleves", "user's name"), (5, "")]
)
def test_a_weak_password_is_refused(app, password, place):
    admin = with_key(app, Role.ADMIN)
    user = admin.post("/api/v1/users", json={"name": "Ann of Cleves"}).json["id"]
    reply = admin.post(f"/api/v1/users/{user}/password", json={"password": password})
    assert (reply.status_code, place in reply.json["detail"]) == (400, True)


def test_two_users_with_a_password_have_different_names(app):
    admin = with_key(app, Role.ADMIN)
    users = [admin.post("/api/v1/users", json={"name": name}).json["id"] for name in ("Ann", "ann ")]
    first, second = (admin.post(f"/api/v1/users/{one}/password", json={"password": PASSWORD}) for one in users)
    assert (first.status_code, second.status_code) == (204, 409)
    assert "Ann" not in second.json["detail"]


def test_sign_ins_and_passwords_are_in_the_audit_log_without_secrets(app):
    user_id = person("Ann")
    admin = with_key(app, Role.ADMIN)
    client = signed_in(app, "Ann")
    client.post("/api/v1/me/password", json={"old": "wrong one", "new": "a new password"})
    client.post("/api/v1/me/password", json={"old": PASSWORD, "new": "a new password"})
    entries = admin.get("/api/v1/audit", query_string={"user_id": str(user_id)}).json["items"]
    assert [(one["action"], one["target"], one["status"]) for one in reversed(entries)] == [
        ("sign_in", client.session_id, None),
        ("change_password", None, 401),
        ("change_password", None, None),
    ]
    assert all(PASSWORD not in str(one) and "a new password" not in str(one) for one in entries)


def test_a_failed_sign_in_leaves_no_entry_that_strangers_could_fill_the_log_with(app):
    person("Ann")
    ask_to_sign_in(app.test_client(), "Ann", "wrong")
    assert rows("SELECT id FROM audit_entries") == []


def test_a_name_is_throttled_from_all_addresses_and_forgotten_after_a_success(app):
    person("Ann")
    for number in range(9):
        more = {"environ_base": {"REMOTE_ADDR": f"198.51.100.{number}"}}
        assert ask_to_sign_in(app.test_client(), "Ann", "wrong", **more).status_code == 401
    assert ask_to_sign_in(app.test_client(), "ann").status_code == 201
    replies = [ask_to_sign_in(app.test_client(), name, "wrong") for name in ["Ann", "ANN ", "ann"] * 4]
    assert Counter(reply.status_code for reply in replies) == {401: 10, 429: 2}
    said = replies[-1]
    assert f"try again in {said.headers['Retry-After']} s" in said.json["detail"]
    assert int(said.headers["Retry-After"]) > 60
    assert ask_to_sign_in(app.test_client(), "Ann").status_code == 429, "also with the right password"
    assert ask_to_sign_in(app.test_client(), "Bob", "wrong").status_code == 401


def test_guessing_the_old_password_is_throttled_too(app):
    person("Ann")
    client = signed_in(app, "Ann")
    body = {"old": "wrong", "new": "a new password"}
    codes = [client.post("/api/v1/me/password", json=body).status_code for _ in range(12)]
    assert codes == [401] * 10 + [429] * 2


def _attempt(url: str, names: list[str], results: Any) -> None:
    limit, passed = SignInLimit(5, url), 0
    for name in names:
        try:
            limit.take(name, "198.51.100.1")
            passed += 1
        except TooMany:
            continue
    results.put(passed)


@pytest.mark.parametrize(("names", "expected"), [(["Ann"] * 40, 5), ([f"n{n}" for n in range(40)], 5 * PER_ADDRESS)])
def test_two_processes_throttle_together(broker_url, names, expected):
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    names = [names, names] if expected == 5 else [names, [f"other {name}" for name in names]]
    processes = [spawn.Process(target=_attempt, args=(broker_url, each, results)) for each in names]
    for one in processes:
        one.start()
    passed = [results.get(timeout=60) for _ in processes]
    for one in processes:
        one.join(30)
    assert sum(passed) == expected


def test_two_web_processes_refuse_together(app, environment):
    person("Ann")
    clients = [app.test_client(), create_app(environment).test_client()]
    codes = [ask_to_sign_in(clients[number % 2], "Ann", "wrong").status_code for number in range(14)]
    assert codes == [401] * 10 + [429] * 4


def test_without_redis_each_process_throttles_for_itself():
    limit = SignInLimit(5, "redis://127.0.0.1:1/0")
    for _ in range(5):
        limit.take("Ann", "198.51.100.1")
    with pytest.raises(TooMany):
        limit.take("Ann", "198.51.100.1")


def test_one_users_session_sees_nothing_of_another_user(app, echo):
    person("Ann")
    person("Bob")
    ann, bob = signed_in(app, "Ann"), signed_in(app, "Bob")
    graph = ann.post("/api/v1/graphs", json=echo).json["id"]
    run = ann.post(f"/api/v1/graphs/{graph}/runs", json={"inputs": {"word": "x"}}).json["id"]
    for path in (f"/graphs/{graph}", f"/runs/{run}", f"/runs/{run}/nodes"):
        assert (ann.get(f"/api/v1{path}").status_code, bob.get(f"/api/v1{path}").status_code) == (200, 404)
    assert bob.get("/api/v1/graphs").json["items"] == []
    assert bob.post(f"/api/v1/runs/{run}/cancel", json={}).status_code == 404
    assert {one["user_id"] for one in bob.get("/api/v1/audit").json["items"]} == {
        bob.get("/api/v1/me").json["user"]["id"]
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cookie=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=';,"\\'), max_size=5000))
def test_no_made_up_cookie_is_a_session(app, cookie):
    client = app.test_client()
    client.set_cookie("agentflow_session", cookie)
    assert client.get("/api/v1/me").status_code == 401


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(max_size=300) | st.integers() | st.none(),
    password=st.text(max_size=1200) | st.integers(),
    more=st.dictionaries(st.sampled_from(["x", "role"]), st.integers(), max_size=1),
)
def test_whatever_is_sent_to_sign_in_is_a_client_error(app, environment, name, password, more):
    open_wide = create_app(Settings(**{**environment.model_dump(), "sign_in_attempts": 10_000}))
    body = {"name": name, "password": password, **more}
    assert open_wide.test_client().post("/api/v1/sessions", json=body).status_code in (400, 401)
