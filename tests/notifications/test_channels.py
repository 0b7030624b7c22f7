"""Channels: what may be one, who sees what of it, and the links that end messages over it."""

import pytest
from people import with_key
from sqlalchemy import text

from agentflow.accounts.scopes import Role
from agentflow.credentials import rotation
from agentflow.notifications import channels
from agentflow.services.transaction import transaction
from agentflow.settings import settings

URL = "/api/v1/notifications/channels"
OTHER_KEY = "b" * 42 + "A="
DISCORD = f"discord://{'1' * 18}/{'x' * 68}"


@pytest.mark.parametrize(
    ("kind", "address", "why"),
    [
        ("email", "ann@example.com\r\nBcc: eve@example.com", "no mail address"),
        ("email", "ann@example.com, eve@example.com", "no mail address"),
        ("email", "Ann <ann@example.com>", "no mail address"),
        ("email", "änn@example.com", "no mail address"),
        ("email", "ann@" + "x" * 300, "no mail address"),
        ("email", "ann@-example.com", "no mail address"),
        ("webhook", "http://127.0.0.1:1/x", "not a public address"),
        ("webhook", "http://[::1]/x", "not a public address"),
        ("webhook", "http://2130706433/x", "not a public address"),
        ("webhook", "ftp://example.com/x", "only http and https"),
        ("webhook", "nonsense", "only http and https"),
        ("webhook", "http://example.com:-1/", "is no port"),
        ("webhook", "http://example.com:0/", "is no port"),
        ("apprise", "gotifys://127.0.0.1/token", "not a public address"),
        ("apprise", "ntfys://localhost:9915/topic", "not a public address"),
        ("apprise", "nctalks://user:pass@[::1]/room", "not a public address"),
        ("apprise", "ntfy://127.0.0.1:9915/topic", "cannot be used"),
        ("apprise", "json://127.0.0.1/x", "the service 'json' cannot be used"),
        ("apprise", "xml://example.com", "cannot be used"),
        ("apprise", "mailto://a:b@example.com", "cannot be used"),
        ("apprise", "file:///etc/passwd", "cannot be used"),
        ("apprise", "discord://only", "missing or wrong"),
        ("apprise", DISCORD + "?verify=no", "'verify' may not be given"),
        ("apprise", DISCORD + "?rto=9999", "'rto' may not be given"),
        ("apprise", DISCORD + "?template=/etc/passwd", "'template' may not be given"),
        ("apprise", DISCORD + "?%2BX-Header=1", "'+x-header' may not be given"),
        ("apprise", "dis cord://x", "no address of apprise"),
        ("apprise", "http://[", "no address of apprise"),
    ],
)
def test_what_may_not_be_reached_is_refused_when_it_is_saved(api, reachable, kind, address, why):
    made = api.post(URL, json={"kind": kind, "name": "n", "address": address})
    assert (made.status_code, why in made.json["detail"]) == (422, True), made.json
    assert api.get(URL).json["items"] == []


def test_no_mail_without_a_mail_server(api, environment):
    made = api.post(URL, json={"kind": "email", "name": "n", "address": "a@b.example"})
    assert (made.status_code, "AGENTFLOW_SMTP_HOST" in made.json["detail"]) == (422, True)


def test_an_address_is_stored_encrypted_and_not_shown_again(api, channel, hook):
    made = channel()
    assert made["secret"].startswith("whsec_")
    shown = [api.get(f"{URL}/{made['id']}").json, *api.get(URL).json["items"]]
    assert all("secret" not in one and one["details"] == {"host": hook.pair} for one in shown)
    with transaction() as session:
        stored = str(
            session.execute(text("SELECT c::text, encode(secret, 'escape') FROM notification_channels c")).all()
        )
    assert "secret-of-the-hook" not in stored + str(shown)
    assert made["secret"] not in stored
    assert channel("apprise", DISCORD)["details"] == {"service": "discord"}


def test_a_channel_is_renamed_switched_off_and_deleted(api, channel):
    made = f"{URL}/{channel()['id']}"
    assert api.patch(made, json={"name": "other", "enabled": False}).json["enabled"] is False
    assert (api.get(made).json["name"], api.delete(made).status_code, api.get(made).status_code) == ("other", 204, 404)


def test_only_so_many_channels_can_be_made(api, channel, monkeypatch, hook):
    monkeypatch.setattr(channels, "MOST", 2)
    made = [channel() for _ in range(2)]
    refused = api.post(URL, json={"kind": "webhook", "name": "n", "address": hook.url})
    assert (len(made), refused.status_code) == (2, 429)


def test_without_a_key_no_channel_can_be_stored(api, reachable, hook, monkeypatch):
    monkeypatch.delenv("AGENTFLOW_CREDENTIAL_KEYS")
    settings.cache_clear()
    refused = api.post(URL, json={"kind": "webhook", "name": "n", "address": hook.url})
    assert (refused.status_code, "AGENTFLOW_CREDENTIAL_KEYS" in refused.json["detail"]) == (409, True)


def test_a_test_tells_what_came_of_it(api, channel, hook, mailbox):
    made = f"{URL}/{channel()['id']}/test"
    assert api.post(made).json == {"ok": True, "detail": "it was taken"}
    assert hook.bodies()[0]["type"] == "test"
    hook.turns = lambda number: 500
    assert api.post(made).json == {"ok": False, "detail": "127.0.0.1 answers 500"}
    mail = channel("email", "ann@example.com")["id"]
    mailbox.refuses["ann@example.com"] = "550 nobody here"
    assert api.post(f"{URL}/{mail}/test").json["detail"] == "127.0.0.1 refuses the receiver (550): nobody here"


def test_only_a_webhook_has_a_secret_to_rotate(api, channel):
    mail = channel("email", "ann@example.com")
    assert mail["secret"] is None
    assert api.post(f"{URL}/{mail['id']}/rotate").status_code == 409


def test_channels_are_encrypted_again_under_a_new_key(api, channel, hook, note, deliver, monkeypatch):
    channel()
    monkeypatch.setenv("AGENTFLOW_CREDENTIAL_KEYS", f"{OTHER_KEY},{settings().credential_keys[0].get_secret_value()}")
    settings.cache_clear()
    with transaction() as session:
        assert rotation.left(session) == 1
        rotation.rotate_batch(session)
        assert rotation.left(session) == 0
    monkeypatch.setenv("AGENTFLOW_CREDENTIAL_KEYS", OTHER_KEY)
    settings.cache_clear()
    note("a")
    deliver()
    assert len(hook.got) == 1


def link_of(mail):
    return mail["list-unsubscribe"].strip("<>").removeprefix("https://flows.example.com")


def test_a_link_ends_mails_of_its_type_without_signing_in(app, api, channel, note, deliver, mailbox):
    made = channel("email", "ann@example.com")["id"]
    note("a")
    deliver()
    link, nobody = link_of(mailbox.got[0]), app.test_client()
    page = nobody.get(link)
    assert (page.status_code, "run failed" in page.text, "<form" in page.text) == (200, True, True)
    note("b")
    deliver()
    assert len(mailbox.got) == 2, "opening the page changes nothing"
    done = nobody.post(link, data="List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded")
    assert done.status_code == 200, done.text
    assert nobody.post(link).status_code == 200, "it is idempotent"
    note("c")
    deliver()
    assert len(mailbox.got) == 2
    types = api.get("/api/v1/notifications/preferences").json["types"]
    assert types["run_failed"] == {"mode": None, "default": "at_once", "channels": {made: "off"}}
    assert "unsubscribe" in {entry["action"] for entry in with_key(app, Role.ADMIN).get("/api/v1/audit").json["items"]}


@pytest.mark.parametrize("change", ["last", "kind", "channel", "nonsense"])
def test_a_link_that_was_not_given_out_does_nothing(app, channel, note, deliver, mailbox, change):
    channel("email", "ann@example.com")
    other = channel("email", "bob@example.com")["id"]
    note("a")
    deliver()
    path, _, token = link_of(mailbox.got[0]).rpartition("/")
    channel_id, kind, mac = token.split(".")
    wrong = {
        "last": f"{channel_id}.{kind}.{'A' if mac[0] != 'A' else 'B'}{mac[1:]}",
        "kind": f"{channel_id}.low_balance.{mac}",
        "channel": f"{other if other != channel_id else channel_id[::-1]}.{kind}.{mac}",
        "nonsense": "ö" * 300,
    }[change]
    if change == "channel" and other == channel_id:
        wrong = f"{'0' * 8}{channel_id[8:]}.{kind}.{mac}"
    for ask in (app.test_client().get, app.test_client().post):
        assert ask(f"{path}/{wrong}").status_code == 403


def test_the_link_of_a_digest_of_several_types_switches_the_channel_off(app, api, channel, note, deliver, mailbox, ask):
    made = channel("email", "ann@example.com")["id"]
    types = {kind: {"mode": "daily"} for kind in ("run_failed", "low_balance")}
    api.put("/api/v1/notifications/preferences", json={"types": types})
    note("a")
    note("b", kind="low_balance", balance=1)
    deliver()
    ask("UPDATE notification_deliveries SET due_at = now()")
    ask("UPDATE notification_channels SET next_at = now()")
    deliver()
    (mail,) = mailbox.got
    assert mail["subject"] == "2 notifications"
    assert app.test_client().post(link_of(mail)).status_code == 200
    assert api.get(f"{URL}/{made}").json["enabled"] is False
