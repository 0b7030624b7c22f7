"""Tokens are renewed once, whoever asks and whatever breaks meanwhile, against a provider that rotates them."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oauth2_server import *  # noqa: F403
from oauth2_server import OWN_ID, OWN_SECRET, URL, log_in
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import make_url, text

from agentflow.accounts import store as accounts
from agentflow.clock import now
from agentflow.credentials import oauth2_tokens, renewing, rotation, service, store
from agentflow.credentials.kinds import renewal_due
from agentflow.errors import BadInput, Interrupted, SystemFault, Transient
from agentflow.services.transaction import transaction
from agentflow.settings import settings
from agentflow.storage import connect

pytestmark = pytest.mark.timeout(60, method="thread")


def rows(statement, **values):
    with transaction() as session:
        return [tuple(row) for row in session.execute(text(statement), values)]


def read(id):
    with transaction() as session:
        ((owner,),) = session.execute(text("SELECT owner_id FROM credentials WHERE id = :id"), {"id": id})
        return store.get(session, owner, UUID(str(id)))


def token(one):
    return service.key_ring().decrypt(service.sealed_of(one), service.bound_of(one))["access_token"]


def due(id, ends="-1 second"):
    """Its token is due to be renewed, and ends then."""
    rows(
        "UPDATE credentials SET renew_at = now() - interval '1 second', "
        "token_expires_at = now() + cast(:ends AS interval) WHERE id = :id RETURNING 1",
        id=id,
        ends=ends,
    )
    return read(id)


@pytest.fixture
def made(api, acme):
    """The id of a credential whose token is good for an hour."""
    return log_in(api, acme)["id"]


@pytest.fixture
def ask(eventually):
    """`ask(one)` asks for its token in another thread: a future."""
    with ThreadPoolExecutor(40) as threads:
        yield lambda one: threads.submit(renewing.current, one)


def test_a_token_is_renewed_five_minutes_before_its_end_and_not_earlier(acme, made):
    one = read(made)
    assert one.token_expires_at - one.renew_at == timedelta(minutes=5)
    assert renewing.current(one) is one
    assert acme.refreshed == 0
    renewed = renewing.current(due(made, "4 minutes"))
    assert (acme.refreshed, token(renewed) in acme.good, token(renewed) != token(one)) == (1, True, True)
    assert token(read(made)) == token(renewed)
    assert read(made).renew_at > now() + timedelta(minutes=50)


def test_many_who_ask_at_once_cause_one_renewal_and_all_get_it(acme, made, ask):
    one = due(made)
    found = {token(asked.result()) for asked in [ask(one) for _ in range(40)]}
    assert (len(found), acme.refreshed, acme.reused) == (1, 1, 0)
    assert found <= acme.good


def test_while_it_is_renewed_the_present_token_serves_as_long_as_it_is_good(acme, made, ask, eventually):
    acme.hold.clear()
    first = ask(due(made, "3 minutes"))
    eventually(lambda: acme.waiting)
    assert token(renewing.current(read(made))) == token(read(made))
    rows("UPDATE credentials SET token_expires_at = now() RETURNING 1")
    second = ask(read(made))
    with pytest.raises(TimeoutError):
        second.result(0.5)
    acme.hold.set()
    assert token(first.result()) == token(second.result())
    assert (acme.refreshed, acme.reused) == (1, 0)


def test_no_transaction_is_open_while_the_provider_is_asked(acme, made, ask, eventually):
    acme.hold.clear()
    asked = ask(due(made))
    eventually(lambda: acme.waiting)
    held = "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
    assert rows(held) == []
    acme.hold.set()
    asked.result()


def test_who_dies_is_succeeded_after_their_lease_and_not_before(acme, made, monkeypatch, eventually, ask):
    one = due(made)
    rows("UPDATE credentials SET renewing = :id, renewing_until = now() + interval '1 hour' RETURNING 1", id=uuid4())
    monkeypatch.setattr(renewing, "WAIT_SECONDS", 0.3)
    with pytest.raises(Transient, match="another process"):
        renewing.current(one)
    monkeypatch.setattr(renewing, "WAIT_SECONDS", 30.0)
    rows("UPDATE credentials SET renewing_until = now() - interval '1 second' RETURNING 1")
    found = {token(asked.result()) for asked in [ask(one) for _ in range(10)]}
    assert (len(found), acme.refreshed, acme.reused) == (1, 1, 0)


def test_a_provider_that_keeps_its_refresh_token_is_asked_with_it_again(acme, made):
    acme.rotates = False
    for _ in range(3):
        renewing.current(due(made))
    assert acme.refreshed == 3
    assert len({form["refresh_token"] for form in acme.asked[1:]}) == 1


@pytest.mark.parametrize(
    ("reply", "after"),
    [
        ((500, {}, b""), None),
        ((502, {}, b"<html>"), None),
        ((429, {"Retry-After": "40"}, b"{}"), 40),
        ((200, {}, b"{}"), None),
        ((200, {}, b"rubbish"), None),
        ((400, {}, b"rubbish"), None),
        ((302, {"Location": "/token"}, b""), None),
        ((401, {}, b'{"error": "invalid_client"}'), None),
        ((400, {}, b'{"error": "invalid_request"}'), None),
    ],
    ids=str,
)
def test_a_fault_may_pass_and_nobody_asks_again_at_once(acme, made, reply, after):
    acme.replies = [reply]
    with pytest.raises(Transient, match="acme did not renew") as caught:
        renewing.current(due(made))
    assert caught.value.after == after
    assert read(made).state == "valid"
    with pytest.raises(Transient) as caught:
        renewing.current(read(made))
    assert 0 < caught.value.after <= (after or renewing._AFTER_FAULT)
    assert len(acme.asked) == 2, "the login's, and one"
    rows("UPDATE credentials SET renewing_until = now() RETURNING 1")
    assert token(renewing.current(read(made))) in acme.good


def test_a_fault_does_not_matter_while_the_token_is_good(acme, made):
    acme.replies = [(500, {}, b"")]
    one = due(made, "2 minutes")
    assert token(renewing.current(one)) == token(one)
    assert token(renewing.current(read(made))) == token(one)
    assert acme.refreshed == 0
    rows("UPDATE credentials SET renewing_until = now() RETURNING 1")
    assert token(renewing.current(read(made))) != token(one)


def test_a_provider_that_is_away_or_slow_is_a_fault(acme, made, monkeypatch):
    monkeypatch.setattr(oauth2_tokens, "ASK_SECONDS", 0.2)
    acme.hold.clear()
    with pytest.raises(Transient, match="did not answer completely"):
        renewing.current(due(made))
    assert read(made).renewing is None


def test_a_refusal_needs_the_owner_who_is_told_once(acme, made, api, ask, caplog):
    acme.forget_refresh_tokens()
    one = due(made)
    for asked in [ask(one) for _ in range(10)]:
        with pytest.raises(BadInput, match="authorise it again"):
            asked.result()
    assert (acme.reused, read(made).state) == (1, "needs_reauthorisation")
    told = [record for record in caplog.records if record.msg == "credential_needs_reauthorisation"]
    assert [(record.credential, record.reason) for record in told] == [(made, "invalid_grant")]
    assert api.get(f"{URL}/{made}").json["state"] == "needs_reauthorisation"
    log_in(api, acme, credential_id=made)
    assert token(renewing.current(due(made))) in acme.good


def test_an_answer_that_comes_late_heals_what_a_successor_was_refused(acme, made, ask, eventually, monkeypatch):
    acme.hold.clear()
    first = ask(due(made))
    eventually(lambda: acme.waiting)
    rows("UPDATE credentials SET renewing_until = now() RETURNING 1")  # as if the first were frozen
    acme.replies = [(400, {}, b'{"error": "invalid_grant"}')]
    with pytest.raises(BadInput):
        renewing.current(read(made))
    assert read(made).state == "needs_reauthorisation"
    acme.hold.set()
    assert token(first.result()) in acme.good
    assert read(made).state == "valid"


def test_a_refusal_of_one_who_was_succeeded_waits_for_the_successor(acme, made, ask, eventually):
    acme.hold.clear()
    first = ask(due(made))
    eventually(lambda: acme.waiting)
    rows("UPDATE credentials SET renewing = :id, renewing_until = now() + interval '1 hour' RETURNING 1", id=uuid4())
    acme.forget_refresh_tokens()
    acme.hold.set()
    eventually(lambda: acme.reused)
    with pytest.raises(TimeoutError):
        first.result(0.5)
    assert read(made).state == "valid"
    rows("UPDATE credentials SET renewing = NULL, renew_at = now() + interval '1 hour' RETURNING 1")
    assert token(first.result()) == token(read(made))


def test_a_secret_that_its_owner_gives_meanwhile_stays(acme, made, api, ask, eventually):
    acme.hold.clear()
    asked = ask(due(made))
    eventually(lambda: acme.waiting)
    secret = {"type": "oauth2", "access_token": "by-hand"}
    assert api.patch(f"{URL}/{made}", json={"secret": secret}).status_code == 200
    acme.hold.set()
    assert token(asked.result()) == token(read(made)) == "by-hand"


def test_a_refusal_of_a_secret_that_was_replaced_meanwhile_is_none_of_the_new_one(acme, made, api, ask, eventually):
    acme.hold.clear()
    acme.forget_refresh_tokens()
    asked = ask(due(made))
    eventually(lambda: acme.waiting)
    secret = {"type": "oauth2", "access_token": "by-hand"}
    assert api.patch(f"{URL}/{made}", json={"secret": secret}).status_code == 200
    acme.hold.set()
    assert token(asked.result()) == "by-hand"
    assert read(made).state == "valid"


def test_another_title_and_another_key_ring_meanwhile_lose_nothing(acme, made, api, ask, eventually, monkeypatch):
    acme.hold.clear()
    asked = ask(due(made))
    eventually(lambda: acme.waiting)
    assert api.patch(f"{URL}/{made}", json={"title": "new"}).status_code == 200, "nothing is locked"
    monkeypatch.setattr(settings(), "credential_keys", (SecretStr("b" * 42 + "A="), *settings().credential_keys))
    with transaction() as session:
        assert rotation.rotate_batch(session).rotated == 1
    acme.hold.set()
    assert token(asked.result()) in acme.good
    one = read(made)
    assert (one.title, token(one) in acme.good) == ("new", True)


def test_a_credential_that_is_deleted_meanwhile_stays_deleted(acme, made, api, ask, eventually):
    acme.hold.clear()
    one = due(made)
    asked = ask(one)
    eventually(lambda: acme.waiting)
    assert api.delete(f"{URL}/{made}").status_code == 204
    acme.hold.set()
    with pytest.raises(BadInput, match="was deleted"):
        asked.result()
    with pytest.raises(BadInput, match="was deleted"):
        renewing.current(one)
    assert rows("SELECT 1 FROM credentials") == []


def test_an_owner_who_is_suspended_meanwhile_keeps_their_tokens(acme, made, ask, eventually):
    acme.hold.clear()
    one = due(made)
    asked = ask(one)
    eventually(lambda: acme.waiting)
    with transaction() as session:
        accounts.user(session, one.owner_id, lock=True).suspended_at = now()
    acme.hold.set()
    assert token(asked.result()) == token(read(made))


def test_an_answer_is_stored_though_postgresql_is_away_when_it_comes(acme, made, ask, eventually, postgres):
    one = due(made)
    acme.hold.clear()
    asked = ask(one)
    eventually(lambda: acme.waiting)
    name = make_url(settings().database()).database
    with closing(psycopg.connect(postgres.superuser_url)) as admin:
        admin.autocommit = True
        close = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        admin.execute(close.format(sql.Identifier(name), sql.Literal(False)))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        acme.hold.set()
        eventually(lambda: acme.refreshed)
        with pytest.raises(TimeoutError):
            asked.result(1.0)
        admin.execute(close.format(sql.Identifier(name), sql.Literal(True)))
    assert token(asked.result()) in acme.good
    connect.engine().dispose()
    assert (token(read(made)) in acme.good, acme.refreshed, acme.reused) == (True, 1, 0)


def test_an_interrupted_block_loses_no_token(acme, made, eventually):
    def interrupt(*_):
        raise Interrupted

    acme.hold.clear()
    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident
    watch = threading.Thread(
        target=lambda: (eventually(lambda: acme.waiting), signal.pthread_kill(main, signal.SIGUSR1))
    )
    watch.start()
    try:
        with pytest.raises(Interrupted):
            renewing.current(due(made))
    finally:
        watch.join()
        signal.signal(signal.SIGUSR1, before)
        acme.hold.set()
    eventually(lambda: read(made).renew_at > now())
    assert token(read(made)) in acme.good


def test_tokens_that_live_shortly_are_not_renewed_each_time(acme, made):
    acme.life = 60
    one = renewing.current(due(made))
    for _ in range(5):
        one = renewing.current(read(made))
    assert (acme.refreshed, one.renew_at > now() + timedelta(seconds=25)) == (1, True)


def test_the_scopes_that_are_left_are_noted(acme, made):
    acme.scope = "less"
    assert renewing.current(due(made)).details["scopes"] == ["less"]
    assert token(read(made)) in acme.good


def test_a_users_own_client_is_renewed_the_same_way(api, acme, ask):
    body = {"provider": "acme", "client_id": OWN_ID, "client_secret": OWN_SECRET, "scopes": ["read"]}
    made = api.post(f"{URL}/oauth2/client", json=body).json["id"]
    one = due(made)
    found = {token(asked.result()) for asked in [ask(one) for _ in range(10)]}
    assert (len(found), len(acme.asked), acme.asked[1]["scope"]) == (1, 2, "read")
    acme.replies = [(401, {}, b'{"error": "invalid_client"}')]
    with pytest.raises(BadInput, match="authorise it again"):
        renewing.current(due(made))


def test_tokens_that_were_stored_by_hand_are_renewed_where_the_operator_has_an_app(api, acme, made):
    refresh = service.key_ring().decrypt(service.sealed_of(read(made)), service.bound_of(read(made)))["refresh_token"]
    secret = {"type": "oauth2", "access_token": "by-hand", "refresh_token": refresh}
    ends = (now() + timedelta(minutes=2)).isoformat()
    stored = api.post(URL, json={"provider": "acme", "secret": secret, "expires_at": ends}).json
    assert (stored["expires_at"], stored["state"]) == (None, "valid")
    assert token(renewing.current(read(stored["id"]))) in acme.good
    other = api.post(URL, json={"provider": "nobody", "secret": secret, "expires_at": ends}).json
    assert other["expires_at"] is not None, "nobody can renew it, so it ends"


def test_what_cannot_be_renewed_is_told_and_leaves_no_lease(api, acme, made, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(settings(), "oauth_providers", {})
        with pytest.raises(BadInput, match="no provider of OAuth2 here"):
            renewing.current(due(made))
    with monkeypatch.context() as patch:
        patch.setattr(settings(), "credential_keys", (SecretStr("b" * 42 + "A="),))
        with pytest.raises(SystemFault, match="lacks its key"):
            renewing.current(due(made))
    assert read(made).renewing is None
    assert token(renewing.current(read(made))) in acme.good


def test_a_process_that_is_told_to_end_stores_what_comes_in_its_last_seconds(acme, made, eventually):
    def end(*_):
        raise SystemExit

    acme.hold.clear()
    before = signal.signal(signal.SIGUSR1, end)
    main = threading.main_thread().ident

    def tell():
        eventually(lambda: acme.waiting)
        signal.pthread_kill(main, signal.SIGUSR1)
        acme.hold.set()

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        with pytest.raises(SystemExit):
            renewing.current(due(made))
        assert read(made).renew_at > now(), "before it ends"
    finally:
        teller.join()
        signal.signal(signal.SIGUSR1, before)


@given(st.floats(min_value=1e-3, max_value=10 * 366 * 86_400))
def test_a_token_is_due_in_the_second_half_of_its_life_and_at_most_five_minutes_early(seconds):
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    ends = begins + timedelta(seconds=seconds)
    due_at = renewal_due(ends, seconds)
    assert begins + (ends - begins) / 2 - timedelta(microseconds=2) <= due_at <= ends
    assert ends - due_at <= timedelta(minutes=5)
    if seconds >= 600:
        assert ends - due_at == timedelta(minutes=5)
