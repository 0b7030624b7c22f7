"""`agentflow notifications` and `agentflow dead-letters`."""

import json
from uuid import UUID

import pytest
from receivers import hook as hook

from agentflow.cli.connect import Exit
from agentflow.notifications import service
from agentflow.notifications.kinds import Kind
from agentflow.services.transaction import transaction
from agentflow.settings import settings


@pytest.fixture
def note(api):
    owner = UUID(api.get("/api/v1/me").json["user"]["id"])

    def write(cause):
        with transaction() as session:
            return str(service.note(session, owner, Kind.RUN_FAILED, cause, {"graph_name": cause, "run": "r"}))

    return write


def test_what_one_is_told_is_listed_shown_and_read(command, note):
    first, second = note("a"), note("b")
    listed = command("notifications", "list").stdout
    assert (first in listed, "b failed" in listed, "new" in listed) == (True, True, True)
    shown = command("notifications", "show", second)
    assert (shown.exit_code, "A run of b has failed" in shown.stdout) == (Exit.OK, True)
    lines = command("notifications", "list", "--unread", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [first]
    assert json.loads(command("notifications", "read", "--all", "--json").stdout) == {"marked": 1}
    assert json.loads(command("notifications", "read", first, "--json").stdout) == {"marked": 1}
    assert command("notifications", "read").exit_code == Exit.REFUSED


def test_preferences_are_changed_one_by_one(command, monkeypatch, hook):
    monkeypatch.setattr(settings(), "http_allow", (hook.pair,))
    made = command("notifications", "channels", "add", "webhook", "pager", "--address", hook.url, "--json")
    assert made.exit_code == Exit.OK, made.stderr
    for words in (
        ("prefer", "run_finished", "hourly"), ("prefer", "run_failed", "off", "--channel", "PAGER"),
        ("quiet", "22:00-07:00"), ("cap", "7"),
    ):  # fmt: skip
        done = command("notifications", *words)
        assert done.exit_code == Exit.OK, done.stderr
    found = json.loads(command("notifications", "preferences", "--json").stdout)
    assert (found["quiet_hours"], found["daily_cap"]) == ({"start": "22:00", "end": "07:00"}, 7)
    assert found["types"]["run_finished"]["mode"] == "hourly"
    assert found["types"]["run_failed"]["channels"] == {json.loads(made.stdout)["id"]: "off"}
    assert "pager: off" in command("notifications", "preferences").stdout
    for words in (("prefer", "run_failed", "default", "--channel", "pager"), ("quiet", "none")):
        assert command("notifications", *words).exit_code == Exit.OK
    found = json.loads(command("notifications", "preferences", "--json").stdout)
    assert (found["quiet_hours"], found["types"]["run_failed"]["channels"]) == (None, {})
    assert command("notifications", "quiet", "late").exit_code == Exit.REFUSED


def test_a_channel_is_added_tried_rotated_changed_and_deleted(command, monkeypatch, hook):
    monkeypatch.setattr(settings(), "http_allow", (hook.pair,))
    made = command("notifications", "channels", "add", "webhook", "pager", "--address", hook.url)
    assert (made.exit_code, "whsec_" in made.stderr, "whsec_" in made.stdout) == (Exit.OK, True, False)
    assert hook.pair in command("notifications", "channels", "list").stdout
    assert command("notifications", "channels", "test", "pager").exit_code == Exit.OK
    hook.turns = lambda number: 500
    failed = command("notifications", "channels", "test", "pager")
    assert (failed.exit_code, "answers 500" in failed.stderr) == (Exit.FAILED, True)
    assert command("notifications", "channels", "rotate", "pager").stdout.startswith("whsec_")
    assert command("notifications", "channels", "change", "pager", "--off", "--name", "bell").exit_code == Exit.OK
    assert "off" in command("notifications", "channels", "list").stdout
    assert command("notifications", "channels", "change", "bell").exit_code == Exit.REFUSED
    assert command("notifications", "channels", "delete", "bell").exit_code == Exit.OK
    missing = command("notifications", "channels", "test", "bell")
    assert (missing.exit_code, "agentflow notifications channels list" in missing.stderr) == (Exit.REFUSED, True)


def test_dead_letters_are_for_admins_and_which_must_be_said(command):
    assert command("dead-letters", "replay").exit_code == Exit.REFUSED
    refused = command("dead-letters", "list")
    assert (refused.exit_code, "admin" in refused.stderr) == (Exit.REFUSED, True)
