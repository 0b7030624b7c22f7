"""`agentflow users` and `agentflow keys`."""

import json

import pytest
from click.testing import CliRunner
from people import PASSWORD, ask_to_sign_in, person, signed_in

from agentflow.accounts import keys, store
from agentflow.accounts.scopes import Role
from agentflow.cli.connect import Exit
from agentflow.cli.main import agentflow
from agentflow.services.transaction import transaction
from agentflow.settings import settings


@pytest.fixture
def key(environment):
    """An admin's."""
    with transaction() as session:
        return keys.create(session, store.add_user(session, "boss", Role.ADMIN), "key")[0]


def lines(result):
    assert result.exit_code == Exit.OK, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_user_with_a_key_is_made_used_and_suspended(command, monkeypatch):
    user = command("users", "create", "Ann", "--role", "viewer")
    assert user.exit_code == Exit.OK, user.stderr
    made = command("keys", "create", "first", "--user", "ann", "--scope", "runs:read", "--json")
    key = json.loads(made.stdout)
    assert (key["owner_id"], key["scopes"]) == (user.stdout.strip(), ["runs:read"])
    monkeypatch.setattr(settings(), "api_key", key["key"])
    assert command("runs", "list").exit_code == Exit.OK
    refused = command("graphs", "list")
    assert (refused.exit_code, "graphs:read" in refused.stderr) == (Exit.REFUSED, True)


def test_the_lists_show_no_key_and_say_their_state(command):
    shown = json.loads(command("keys", "create", "nightly", "--json").stdout)
    assert command("keys", "suspend", "nightly").exit_code == Exit.OK
    table = command("keys", "list").stdout
    assert shown["key"] not in table
    assert shown["prefix"] in table
    assert "suspended" in table
    assert command("keys", "resume", shown["key"][:12]).exit_code == Exit.OK
    assert json.loads(command("keys", "revoke", shown["id"], "--json").stdout) == {"revoked": shown["id"]}
    assert "revoked" in command("keys", "list").stdout
    states = {one["name"]: one["revoked_at"] for one in lines(command("keys", "list", "--json"))}
    assert states["nightly"] is not None


def test_roles_and_suspension_are_given_by_name(command):
    command("users", "create", "Bob")
    assert command("users", "role", "bob", "admin").exit_code == Exit.OK
    assert command("users", "suspend", "Bob").exit_code == Exit.OK
    (bob,) = [one for one in lines(command("users", "list", "--json")) if one["name"] == "Bob"]
    assert (bob["role"], bob["suspended_at"] is None) == ("admin", False)
    assert command("users", "resume", bob["id"]).exit_code == Exit.OK
    missing = command("users", "suspend", "nobody")
    assert (missing.exit_code, "no user 'nobody'" in missing.stderr) == (Exit.REFUSED, True)


def test_the_first_admin_needs_no_key(environment, url, monkeypatch):
    monkeypatch.setattr(settings(), "url", url)
    made = CliRunner().invoke(agentflow, ["users", "create", "root", "--admin"])
    assert made.exit_code == Exit.OK, made.stderr
    monkeypatch.setattr(settings(), "api_key", made.stdout.strip())
    (root,) = lines(CliRunner().invoke(agentflow, ["users", "list", "--json"]))
    assert (root["name"], root["role"]) == ("root", "admin")
    (entry,) = lines(CliRunner().invoke(agentflow, ["audit", "--json"]))
    told = {name: entry[name] for name in ("action", "target", "source", "user_id", "key_id", "session_id")}
    assert told == {
        "action": "create_user",
        "target": root["id"],
        "source": "command line",
        "user_id": None,
        "key_id": None,
        "session_id": None,
    }


def test_the_first_admin_of_an_empty_database_is_told_to_upgrade_it(empty_database_url, monkeypatch):
    monkeypatch.setattr(settings(), "database_url", empty_database_url)
    refused = CliRunner().invoke(agentflow, ["users", "create", "root", "--admin"])
    assert refused.exit_code != Exit.OK
    assert "run `agentflow db upgrade`" in f"{refused.output}{refused.exception}"


def test_a_member_learns_what_is_missing(command, monkeypatch):
    with transaction() as session:
        key = keys.create(session, store.add_user(session, "member"), "key")[0]
    monkeypatch.setattr(settings(), "api_key", key)
    refused = command("users", "list")
    assert (refused.exit_code, "scope admin" in refused.stderr) == (Exit.REFUSED, True)


def test_the_audit_log_names_what_was_done_and_what_was_refused(command, monkeypatch):
    user = command("users", "create", "Ann", "--role", "viewer").stdout.strip()
    key = command("keys", "create", "first", "--user", "ann").stdout.strip()
    admins = settings().api_key
    monkeypatch.setattr(settings(), "api_key", key)
    assert command("users", "create", "Eve").exit_code == Exit.REFUSED
    own = lines(command("audit", "--json"))
    assert [(one["action"], one["user_id"], one["status"]) for one in own] == [("create_user", user, 403)]
    monkeypatch.setattr(settings(), "api_key", admins)
    everybody = lines(command("audit", "--json"))
    assert [one["action"] for one in everybody] == ["create_user", "create_key", "create_user"]
    assert [one["status"] for one in everybody] == [403, None, None]
    assert lines(command("audit", "--user", "ann", "--json")) == own
    shown = command("audit", "--limit", "1")
    assert "403" in shown.stdout
    assert "There are more than these 1" in shown.stderr
    assert key not in command("audit").stdout


@pytest.fixture
def typed(url, monkeypatch):
    """Runs the command line with lines on its standard input."""
    monkeypatch.setattr(settings(), "url", url)
    return lambda text, *arguments: CliRunner().invoke(agentflow, list(arguments), input=text)


def test_a_password_is_read_from_standard_input_or_a_prompt_and_never_shown(command, typed, app):
    command("users", "create", "Ann")
    assert typed(f"{PASSWORD}\n", "users", "password", "ann", "--stdin").exit_code == Exit.OK
    assert ask_to_sign_in(app.test_client(), "Ann").status_code == 201
    asked = typed("another password\nanother password\n", "users", "password", "ann")
    assert asked.exit_code == Exit.OK, asked.stderr
    assert "another password" not in asked.output
    assert ask_to_sign_in(app.test_client(), "Ann", "another password").status_code == 201
    weak = typed("short\n", "users", "password", "ann", "--stdin")
    assert (weak.exit_code, "password" in weak.stderr) == (Exit.REFUSED, True)


def test_ones_own_password_is_changed_with_the_old_one(command, typed, app):
    assert typed(f"{PASSWORD}\n", "users", "password", "boss", "--stdin").exit_code == Exit.OK
    wrong = typed("wrong\nanother password\n", "users", "password", "--stdin")
    assert (wrong.exit_code, "wrong" in wrong.stderr) == (Exit.REFUSED, True)
    assert typed(f"{PASSWORD}\nanother password\n", "users", "password", "--stdin").exit_code == Exit.OK
    assert ask_to_sign_in(app.test_client(), "boss", "another password").status_code == 201


def test_sessions_are_listed_and_ended(command, app):
    ann = person("Ann")
    client = signed_in(app, "Ann")
    (listed,) = lines(command("sessions", "list", "--user", "ann", "--json"))
    assert (listed["id"], listed["user_id"]) == (client.session_id, str(ann))
    assert client.session_id in command("sessions", "list", "--user", "ann").stdout
    assert lines(command("sessions", "list", "--json")) == []
    ended = command("sessions", "end", client.session_id, "--json")
    assert json.loads(ended.stdout) == {"ended": client.session_id}
    assert command("sessions", "end", client.session_id).exit_code == Exit.REFUSED


def test_a_user_is_deleted_after_a_question(command, typed):
    command("users", "create", "Ann")
    assert typed("n\n", "users", "delete", "ann").exit_code != Exit.OK
    (ann,) = [one for one in lines(command("users", "list", "--json")) if one["name"] == "Ann"]
    assert ann["deleting_at"] is None
    deleted = command("users", "delete", "ann", "--yes", "--json")
    assert json.loads(deleted.stdout)["deleting_at"]


def test_without_a_provider_nobody_can_be_linked(command):
    command("users", "create", "Ann")
    refused = command("users", "link", "ann", "4711")
    assert (refused.exit_code, "not configured" in refused.stderr) == (Exit.REFUSED, True)
