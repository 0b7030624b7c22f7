"""`agentflow credentials login`: a browser, and the address at which it ended; no command shows or takes a secret."""

import json
import re
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner
from oauth2_server import *  # noqa: F403
from oauth2_server import OWN_ID, OWN_SECRET
from planted import found_in_database

from agentflow.cli import credentials
from agentflow.cli.connect import Exit
from agentflow.cli.main import agentflow

BACK = "http://localhost/api/v1/credentials/oauth2/callback"


@pytest.fixture
def typed(command):
    """`typed(input, *arguments)`: the command, with that on its standard input."""
    return lambda given, *arguments: CliRunner().invoke(agentflow, ["credentials", *arguments], input=given)


@pytest.fixture
def browse(command, acme, monkeypatch):
    """`browse(*arguments, then=…)`: log in, with a browser whose user allows it; `then` makes what is pasted."""

    def run(*arguments, then=lambda back: f"{BACK}?{urlencode(back)}"):
        opened = []
        monkeypatch.setattr(credentials.click, "launch", opened.append)
        monkeypatch.setattr(credentials.click, "prompt", lambda *_, **__: then(acme.allow(opened[0])))
        return CliRunner().invoke(agentflow, ["credentials", "login", "acme", *arguments])

    return run


def test_who_pastes_the_last_address_has_a_credential(browse, typed, acme):
    result = browse("--title", "mine", "--scope", "read", "--scope", "write", "--json")
    assert result.exit_code == Exit.OK, result.stderr
    view = json.loads(result.stdout)
    assert (view["title"], view["details"]["scopes"]) == ("mine", ["read", "write"])
    assert re.search(r"http://127\.0\.0\.1:\d+/authorize\?", result.stderr)
    assert "PLANTED" not in result.stdout + result.stderr
    tried = typed("", "test", "mine", "--json")
    assert (tried.exit_code, json.loads(tried.stdout)) == (Exit.OK, {"ok": True, "detail": "acme takes it"})
    acme.good.clear()
    tried = typed("", "test", "mine")
    assert (tried.exit_code, "acme refuses it" in tried.stdout) == (Exit.FAILED, True)
    again = browse("--again", "mine", "--json")
    assert json.loads(again.stdout)["id"] == view["id"]
    assert found_in_database("PLANTED") == set()


def test_a_wrong_address_is_asked_for_again(browse):
    pasted = iter(["http://localhost/", "rubbish", f"{BACK}?state=x&code=y"])
    result = browse(then=lambda back: next(pasted, f"{BACK}?{urlencode(back)}"))
    assert result.exit_code == Exit.OK, result.stderr
    assert result.stderr.count("not the address at which this login ended") == 3


def test_an_error_of_the_provider_is_told(browse, acme):
    acme.denies = "access_denied"
    result = browse()
    assert (result.exit_code, "access_denied" in result.stderr) == (Exit.REFUSED, True)


def test_what_the_browser_has_ended_needs_nothing_more(browse):
    result = browse(then=lambda _: "")
    assert (result.exit_code, "The browser has ended it" in result.stderr, result.stdout) == (Exit.OK, True, "")


def test_without_a_browser_the_address_is_only_shown(typed, acme):
    result = typed("\n", "login", "acme", "--no-browser")
    assert (result.exit_code, "/authorize?" in result.stderr) == (Exit.OK, True)


def test_a_client_of_ones_own_is_stored_with_a_secret_from_standard_input(typed, acme):
    result = typed(
        f"{OWN_SECRET}\n", "client", "acme", "--client-id", OWN_ID, "--title", "robot", "--secret-stdin", "--json"
    )
    view = json.loads(result.stdout)
    assert (view["title"], view["details"]["client_id"]) == ("robot", OWN_ID)
    asked = typed(f"{OWN_SECRET}\n", "client", "acme", "--client-id", OWN_ID, "--again", "robot")
    assert asked.stdout.strip() == view["id"]
    wrong = typed("PLANTED wrong\n", "client", "acme", "--client-id", OWN_ID)
    assert (wrong.exit_code, "invalid_client" in wrong.stderr) == (Exit.REFUSED, True)
    assert "PLANTED" not in result.stdout + result.stderr + asked.stderr + wrong.stderr
    assert "login" in typed("", "providers").stdout.lower()
