"""What is looked for now and then is told once: failing blocks, expiring credentials, dead letters, what ran."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from installation import ECHO
from people import person

from agentflow.accounts.scopes import Role
from agentflow.dispatch.lanes import NOTIFICATIONS
from agentflow.dispatch.publish import publisher
from agentflow.ids import new_id
from agentflow.notifications import summaries, watching
from agentflow.notifications.kinds import Kind
from agentflow.services.transaction import transaction
from agentflow.worker import notifying
from agentflow.worker.process import process
from agentflow.worker.recovery import Recovery

FIND = "262ca24c-1025-43cf-a578-534e23234e97"
FAILS = {
    "name": "list of one",
    "nodes": [{"id": "item", "block_id": FIND, "input_default": {"list": [1], "index": 5}}],
    "links": [],
}


@pytest.fixture
def told(ask):
    def of(kind):
        return [data for (data,) in ask("SELECT data FROM notifications WHERE kind = :kind ORDER BY id", kind=kind)]

    return of


@pytest.mark.parametrize(
    ("executions", "failed", "so"),
    [(9, 9, False), (10, 4, False), (10, 5, True), (10, 10, True), (21, 10, False), (0, 0, False)],
)
def test_when_a_block_keeps_failing(executions, failed, so):
    assert watching.keeps_failing(executions, failed) is so


def test_a_block_that_keeps_failing_is_told_once_an_hour_to_who_can_be_reached(channel, submit, work, told):
    recovery = Recovery(process())
    for _ in range(9):
        work(submit(FAILS))
    work(submit(ECHO, {"word": "a"}))
    notifying.watch_blocks(recovery)
    assert told(Kind.BLOCK_FAILING) == []
    work(submit(FAILS))
    notifying.watch_blocks(recovery)
    assert told(Kind.BLOCK_FAILING) == [], "there is no channel"
    channel()
    assert [notifying.watch_blocks(recovery) for _ in range(2)] == [1, 0]
    ((found),) = told(Kind.BLOCK_FAILING)
    assert (found["block"], found["executions"], found["failed"]) == ("GetListItem", 10, 10)
    assert (found["graph_name"], "out of range" in found["error"]) == ("list of one", True)


def test_a_credential_that_expires_soon_is_told_once_for_each_expiry(api, told, ask):
    secret = {"type": "api_key", "api_key": "sk-1"}
    for days in (-1, 2, 20):
        expires = (datetime.now(UTC) + timedelta(days=days)).isoformat()
        body = {"provider": "openai", "title": f"in {days}", "secret": secret, "expires_at": expires}
        assert api.post("/api/v1/credentials", json=body).status_code == 201
    recovery = Recovery(process())
    assert [notifying.watch_credentials(recovery) for _ in range(2)] == [1, 0]
    ((found),) = told(Kind.CREDENTIAL_NEEDS_YOU)
    assert (found["title"], found["why"]) == ("in 2", "expires")
    ask("UPDATE credentials SET expires_at = expires_at + interval '1 day' WHERE title = 'in 2'")
    assert notifying.watch_credentials(recovery) == 1


def test_admins_are_told_of_dead_letters_once_an_hour_and_never_of_those_about_them(
    channel, note, deliver, ask, told, mailbox
):
    person("root", Role.ADMIN)
    channel("email", "ann@example.com")
    recovery = Recovery(process())
    assert notifying.tell_of_dead_letters(recovery) == 0
    mailbox.turns = lambda number: "550 no"
    note("a")
    deliver()
    assert [notifying.tell_of_dead_letters(recovery) for _ in range(2)] == [1, 0]
    assert told(Kind.DEAD_LETTERS) == [{"count": 1, "error": "127.0.0.1 refuses the mail (550): no"}]
    ask("DELETE FROM notifications")
    note("b", kind=Kind.DEAD_LETTERS, count=1, error="x")
    deliver()
    assert ask("SELECT state FROM notification_deliveries") == [("DEAD",)]
    assert notifying.tell_of_dead_letters(recovery) == 0


def test_summaries_tell_what_ran_in_the_day_before_on_the_owners_clock(api, channel, submit, work, told, owner, ask):
    api.patch("/api/v1/me", json={"time_zone": "Pacific/Auckland"})
    channel()
    work(submit(FAILS))
    work(submit(ECHO, {"word": "a"}))
    recovery = Recovery(process())
    assert notifying.summarise(recovery) == 0, "it is not 7 in the morning there"
    ((due,),) = ask("SELECT summary_at FROM notification_settings")
    assert due.astimezone(summaries.preferences.zone("Pacific/Auckland")).hour == 7
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    ask("UPDATE notification_settings SET summary_at = now()")
    for _ in range(2):
        with transaction() as session:
            summaries.write_due(session, tomorrow)
        ask("UPDATE notification_settings SET summary_at = now()")
    (found,) = told(Kind.DAILY_SUMMARY)
    assert (found["runs"], found["completed"], found["failed"], found["zone"]) == (2, 1, 1, "Pacific/Auckland")
    assert {(graph["name"], graph["failed"]) for graph in found["graphs"]} == {("list of one", 1), ("echo", 0)}


def test_nothing_ran_and_nothing_is_wanted_tell_nothing(api, channel, submit, work, told, ask):
    channel()
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    def make():
        ask("UPDATE notification_settings SET summary_at = now()")
        with transaction() as session:
            summaries.write_due(session, tomorrow)

    make()
    work(submit(ECHO, {"word": "a"}))
    off = {kind: {"mode": "off"} for kind in ("daily_summary", "weekly_summary", "monthly_summary")}
    api.put("/api/v1/notifications/preferences", json={"types": off})
    make()
    assert told(Kind.DAILY_SUMMARY) + told(Kind.WEEKLY_SUMMARY) + told(Kind.MONTHLY_SUMMARY) == []


@given(st.dates(date(2000, 1, 1), date(2099, 12, 31)))
def test_periods_end_today_and_follow_each_other(today):
    found = {period.kind: period for period in summaries.ended(today)}
    assert all(period.until == today > period.since for period in found.values())
    assert found[Kind.DAILY_SUMMARY].since == today - timedelta(days=1)
    assert (Kind.WEEKLY_SUMMARY in found) == (today.weekday() == 0)
    assert (Kind.MONTHLY_SUMMARY in found) == (today.day == 1)
    if today.day == 1:
        month = found[Kind.MONTHLY_SUMMARY]
        assert (month.since.day, month.since.month) == (1, (today.month - 2) % 12 + 1)


def test_workers_are_called_for_channels_of_which_something_is_due_again_only_later(channel, note, ask):
    made, recovery = channel()["id"], Recovery(process())
    assert notifying.plan(recovery) == 0
    note("a")
    assert notifying.plan(recovery) == 2
    assert publisher().depth((NOTIFICATIONS,)) == 1
    assert notifying.plan(recovery) == 0
    ((seconds,),) = ask("SELECT extract(epoch FROM next_at - now())::int FROM notification_channels")
    assert 20 < seconds <= 30
    ask("UPDATE notification_channels SET next_at = now()")
    assert notifying.plan(recovery) == 1
    assert publisher().depth((NOTIFICATIONS,)) == 2
    assert UUID(made)


def test_no_more_messages_wait_than_workers_are_called_for(channel, note, monkeypatch, ask):
    monkeypatch.setattr(notifying, "MOST_CALLED", 1)
    for _ in range(3):
        channel()
    note("a")
    recovery = Recovery(process())
    for _ in range(3):
        notifying.plan(recovery)
        ask("UPDATE notification_channels SET next_at = now()")
    assert publisher().depth((NOTIFICATIONS,)) == 1


def test_old_notifications_go_unless_something_of_them_is_to_be_sent(channel, note, deliver, hook, ask, owner):
    channel()
    recovery = Recovery(process())
    note("new")
    deliver()
    assert notifying.tidy(recovery) == 0
    old = UUID(
        int=(new_id().int & ((1 << 80) - 1)) | int((datetime.now(UTC) - timedelta(days=91)).timestamp() * 1000) << 80
    )
    ask(
        "INSERT INTO notifications (id, owner_id, kind, cause) VALUES (:id, :owner, 'run_failed', 'old')",
        id=old,
        owner=owner,
    )
    assert notifying.tidy(recovery) == 1
    assert ask("SELECT cause FROM notifications") == [("new",)]
