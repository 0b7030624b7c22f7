"""A notification reaches its channels at least once and is marked once; what fails is tried again, then dead."""

from collections import Counter
from datetime import timedelta

import pytest
from pydantic import SecretStr
from werkzeug.datastructures import Headers

from agentflow.errors import NoSuchHost, Unauthenticated
from agentflow.ids import new_token
from agentflow.notifications import delivery, planning, store, timing
from agentflow.notifications.kinds import Kind
from agentflow.services.transaction import carry_out, transaction
from agentflow.triggers.signatures import Scheme, verify

MAIL = "ann@example.com"


def states(ask):
    return dict(ask("SELECT state, count(*)::int FROM notification_deliveries GROUP BY state"))


def test_a_webhook_gets_a_signed_message(channel, note, deliver, hook, ask):
    secret = channel()["secret"]
    made = note("a", error="it broke")
    deliver()
    ((headers, body),) = hook.got
    verify(Scheme.STANDARD, Headers(headers), body, [SecretStr(secret)])
    with pytest.raises(Unauthenticated):
        verify(Scheme.STANDARD, Headers(headers), body + b" ", [SecretStr(secret)])
    (message,) = hook.bodies()
    assert (message["type"], headers["webhook-id"]) == ("run_failed", str(made))
    assert message["data"]["data"]["error"] == "it broke"
    assert message["data"]["title"] == "my graph failed (node_failed)"
    assert states(ask) == {"SENT": 1}


def test_after_a_rotation_both_secrets_sign_for_a_day(api, channel, note, deliver, hook):
    made = channel()
    rotated = api.post(f"/api/v1/notifications/channels/{made['id']}/rotate").json
    assert rotated["secret"] != made["secret"]
    note("a")
    deliver()
    ((headers, body),) = hook.got
    for secret in (made["secret"], rotated["secret"]):
        verify(Scheme.STANDARD, Headers(headers), body, [SecretStr(secret)])


def test_a_mail_has_text_html_and_a_way_out(channel, note, deliver, mailbox, ask):
    channel("email", MAIL)
    note("a", graph_name="Böse\r\nBcc: eve@example.com <script>", error="line\nSubject: x")
    deliver()
    (mail,) = mailbox.got
    assert (mail["to"], mail["from"], mail["bcc"]) == (MAIL, "robot@agentflow.test", None)
    assert mail["subject"] == "Böse Bcc: eve@example.com <script> failed (node_failed)"
    assert mail["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    assert mail["list-unsubscribe"].startswith("<https://flows.example.com/api/v1/notifications/unsubscribe/")
    assert mail["auto-submitted"] == "auto-generated"
    plain, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert "line Subject: x" in plain
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert states(ask) == {"SENT": 1}


def test_each_channel_gets_it_and_one_that_is_off_does_not(api, channel, note, deliver, hook, mailbox, ask):
    channel()
    channel("email", MAIL)
    off = channel()["id"]
    api.patch(f"/api/v1/notifications/channels/{off}", json={"enabled": False})
    note("a")
    deliver()
    assert (len(hook.got), len(mailbox.got), states(ask)) == (1, 1, {"SENT": 2})


@pytest.mark.parametrize("status", [500, 503, 404, 429, 301, None])
def test_what_fails_is_tried_again_with_the_same_id(channel, note, deliver, hook, ask, status):
    channel()
    made = note("a")
    hook.turns = lambda number: status if number < 3 else 204
    deliver()
    assert (hook.asked, states(ask)) == (1, {"WAITING": 1})
    ((wait, error),) = ask("SELECT due_at - now(), error FROM notification_deliveries")
    assert timedelta(seconds=10) < wait <= timedelta(seconds=30)
    assert error
    deliver(late=True)
    assert (hook.asked, states(ask), hook.told()) == (4, {"SENT": 1}, Counter([str(made)]))
    assert ask("SELECT failures, error, open_at FROM notification_channels") == [(0, None, None)]


def test_what_never_works_is_a_dead_letter(channel, note, deliver, hook, ask):
    channel()
    note("a")
    hook.turns = lambda number: 500
    deliver(late=True)
    assert (hook.asked, states(ask)) == (timing.MOST_ATTEMPTS, {"DEAD": 1})


def test_what_is_refused_for_good_is_dead_at_once_and_its_channel_goes_on(channel, note, deliver, hook, mailbox, ask):
    channel("email", MAIL)
    mailbox.turns = lambda number: "550 no" if number == 0 else "250 OK"
    note("a")
    note("b")
    deliver()
    assert (states(ask), len(mailbox.got)) == ({"DEAD": 1, "SENT": 1}, 1)


def test_a_channel_whose_receiver_is_gone_is_switched_off_and_its_owner_is_told(
    api, channel, note, deliver, hook, mailbox, ask
):
    made = channel()
    hook.turns = lambda number: 410
    note("a")
    note("b")
    deliver()
    assert (hook.asked, states(ask)) == (1, {"DEAD": 1, "WAITING": 1})
    seen = api.get(f"/api/v1/notifications/channels/{made['id']}").json
    assert (seen["enabled"], "gone for good (410)" in seen["error"]) == (False, True)
    (told,) = api.get("/api/v1/notifications?type=channel_off").json["items"]
    assert (told["data"]["name"], told["data"]["channel_id"]) == ("my webhook", made["id"])
    channel("email", MAIL)
    note("c")
    deliver()
    assert [mail["subject"] for mail in mailbox.got] == [
        "Your channel my webhook was switched off",
        "my graph failed (node_failed)",
    ]
    hook.turns = lambda number: 204
    api.patch(f"/api/v1/notifications/channels/{made['id']}", json={"enabled": True})
    deliver()
    assert (hook.asked, states(ask)) == (2, {"DEAD": 1, "SENT": 3})


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("says", "least"), [("7200", 7200), ("1", 0), ("1e99", 86_400), ("soon", 0), ("-5", 0)])
def test_a_receiver_is_not_asked_again_before_it_wants(channel, note, deliver, hook, ask, status, says, least):
    channel()
    hook.turns = lambda number: status
    hook.says = {"Retry-After": says}
    note("a")
    deliver()
    waits = ask(
        "SELECT extract(epoch FROM d.due_at - now())::float8, extract(epoch FROM c.open_at - now())::float8 "
        "FROM notification_deliveries d JOIN notification_channels c ON c.id = d.channel_id"
    )[0]
    most = max(least, 30)
    assert all(max(least, 15) - 10 <= seconds <= most for seconds in waits)


def test_a_host_that_no_resolver_knows_is_asked_again(channel, note, deliver, hook, ask, monkeypatch):
    channel()

    def unknown(*_):
        raise NoSuchHost("there is no host called hook")

    monkeypatch.setattr(delivery.channels, "transmit", unknown)
    note("a")
    deliver()
    assert states(ask) == {"WAITING": 1}
    monkeypatch.undo()


def test_a_dead_channel_is_asked_seldom_however_much_waits(channel, note, deliver, hook, ask):
    channel()
    hook.turns = lambda number: 500
    for number in range(30):
        note(str(number))
    deliver()
    assert (hook.asked, states(ask)) == (1, {"WAITING": 30})
    hook.turns = lambda number: 204
    deliver(late=True)
    assert (sorted(hook.told().values()), states(ask)) == ([1] * 30, {"SENT": 30})


def test_a_message_that_fails_alone_does_not_hold_up_the_others(channel, note, deliver, hook, ask):
    channel()
    note("a")
    hook.turns = lambda number: 500 if number == 0 else 204
    deliver()
    note("b")
    ask("UPDATE notification_channels SET open_at = now(), next_at = now()")
    deliver()
    assert [body["data"]["id"] for body in hook.bodies()] == [
        str(id) for (id,) in ask("SELECT id FROM notifications WHERE cause = 'b'")
    ]


def test_a_worker_that_dies_leaves_the_message_to_another_and_marks_nothing(channel, note, deliver, hook, ask):
    made = channel()["id"]
    note("a")
    with transaction() as session:
        planning.plan(session)
    token = new_token()
    bounds = {"lease": 60, "per_host": 4, "per_owner": 4, "most": 10, "attempts": 5}
    with transaction() as session:
        assert store.claim(session, made, token, bounds).verdict == "claimed"
    deliver()
    assert hook.asked == 0, "its lease is good"
    ask("UPDATE notification_channels SET lease_until = now(), next_at = now()")
    deliver()
    assert (hook.asked, states(ask)) == (1, {"SENT": 1})
    with transaction() as session:
        assert store.sent(session, made, token) == 0
        assert store.failed(session, made, token, "late", {"dead": True, "again": 0, "closed": 0, "attempts": 1}) == 0
    assert states(ask) == {"SENT": 1}
    assert ask("SELECT attempts FROM notification_deliveries") == [(2,)]


def test_few_channels_of_a_host_and_of_an_owner_are_served_at_once(channel, note, ask):
    channels = [channel()["id"] for _ in range(3)]
    note("a")
    with transaction() as session:
        planning.plan(session)

    def claim(one, **bounds):
        all_bounds = {"lease": 60, "per_host": 9, "per_owner": 9, "most": 10, "attempts": 5, **bounds}
        with transaction() as session:
            return store.claim(session, one, new_token(), all_bounds).verdict

    first, second, third = channels
    assert claim(first) == "claimed"
    assert claim(first) == "busy"
    assert claim(second, per_host=1) == "full"
    assert claim(second, per_owner=1) == "full"
    assert claim(second, per_host=2, per_owner=2) == "claimed"
    ask("UPDATE notification_channels SET lease_until = now() WHERE id = :id", id=first)
    assert claim(third, per_host=2, per_owner=2) == "claimed", "a dead one does not count"


def test_a_user_who_is_suspended_gets_nothing_until_they_are_back(channel, note, deliver, hook, ask, owner):
    channel()
    note("a")
    deliver()
    note("b")
    with transaction() as session:
        planning.plan(session)
    ask("UPDATE users SET suspended_at = now()")
    note("c")
    deliver()
    assert len(hook.got) == 1
    ask("UPDATE users SET suspended_at = NULL")
    ask("UPDATE notifications SET plan_at = now() WHERE plan_at IS NOT NULL")
    ask("UPDATE notification_channels SET next_at = now()")
    deliver()
    assert len(hook.got) == 3


def test_outputs_of_a_finished_run_are_in_the_mail_cut(channel, submit, work, deliver, mailbox, api, owner):
    channel("email", MAIL)
    api.put("/api/v1/notifications/preferences", json={"types": {"run_finished": {"mode": "at_once"}}})
    work(submit(inputs={"word": "hello " + "x" * 500}))
    deliver()
    (mail,) = mailbox.got
    text = mail.get_body(("plain",)).get_content().replace("=\n", "")
    assert "hello" in text
    assert "x" * 201 not in text


def test_a_label_has_the_end_of_a_run_told_at_once_whatever_else_is_told_when(
    channel, submit, work, deliver, hook, api
):
    channel()
    work(submit(inputs={"word": "a"}, labels={"notify": "finished"}))
    work(submit(inputs={"word": "b"}, labels={"notify": "at_once"}))
    deliver()
    assert [body["type"] for body in hook.bodies()] == ["run_finished"], "the other comes with the day's"
    api.put("/api/v1/notifications/preferences", json={"types": {"run_finished": {"mode": "off"}}})
    work(submit(inputs={"word": "c"}, labels={"notify": "at_once"}))
    deliver()
    assert len(hook.bodies()) == 1


def test_a_message_that_cannot_be_written_is_tried_again_and_harms_no_other(
    channel, note, deliver, hook, ask, monkeypatch
):
    channel()
    note("a")
    monkeypatch.setattr(delivery.rendering, "render", lambda *_: 1 / 0)
    deliver()
    assert states(ask) == {"WAITING": 1}
    monkeypatch.undo()


def test_a_digest_has_all_and_an_id_of_its_own(channel, note, deliver, hook, api, ask):
    channel()
    api.put("/api/v1/notifications/preferences", json={"types": {"run_failed": {"mode": "hourly"}}})
    ids = [str(note(str(number))) for number in range(3)]
    note("x", kind=Kind.LOW_BALANCE, balance=3)
    deliver()
    assert [body["type"] for body in hook.bodies()] == ["low_balance"]
    ask("UPDATE notification_deliveries SET due_at = now()")
    ask("UPDATE notification_channels SET next_at = now()")
    deliver()
    digest = hook.bodies()[-1]
    assert (digest["type"], [one["id"] for one in digest["data"]["notifications"]]) == ("digest", ids)
    assert digest["data"]["title"] == "3 notifications: run failed"
    assert states(ask) == {"SENT": 4}


def test_deliver_next_says_whether_there_was_one(channel, note):
    made = channel()["id"]
    assert carry_out(delivery.deliver_next(made)) is False
    assert carry_out(delivery.deliver_next(new_token())) is False
    note("a")
    with transaction() as session:
        planning.plan(session)
    assert carry_out(delivery.deliver_next(made)) is True
