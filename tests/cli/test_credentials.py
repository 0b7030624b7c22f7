"""`agentflow credentials`: secrets come from a prompt or standard input, and are never printed."""

import json

import pytest
from click.testing import CliRunner
from planted import ALL, found_in_database
from pydantic import SecretStr

from agentflow.cli.connect import Exit
from agentflow.cli.main import agentflow
from agentflow.settings import settings


@pytest.fixture
def typed(command):
    """`typed(input, *arguments)`: the command, with that on its standard input."""
    return lambda given, *arguments: CliRunner().invoke(agentflow, ["credentials", *arguments], input=given)


def made(result):
    assert result.exit_code == Exit.OK, result.stderr
    assert "PLANTED" not in result.stdout + result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("stdin", [True, False], ids=["from standard input", "asked for"])
def test_each_type_is_stored_and_shown_without_its_secret(typed, command, stdin):
    flag = ["--secret-stdin"] if stdin else []
    headers, tokens = ALL["http"]["headers"], {"access_token": "PLANTED-a", "refresh_token": "PLANTED-r"}
    given = {
        "openai": ("PLANTED-key\n", []),
        "smtp": ("PLANTED-word\n", ["--type", "user_password", "--username", "u", "--base-url", "smtp://m.test:25"]),
        "http": (
            json.dumps(headers) if stdin else "".join(f"{value}\n" for value in headers.values()),
            ["--type", "host_scoped", "--host", "*.example.com", *[f"--header={name}" for name in headers]],
        ),
        "google": (
            json.dumps(tokens) if stdin else "".join(f"{value}\n" for value in tokens.values()),
            ["--type", "oauth2", "--scope", "read", "--scope", "write"],
        ),
    }
    for provider, (text, options) in given.items():
        view = made(typed(text, "create", provider, "--title", f"my {provider}", *options, *flag, "--json"))
        assert (view["provider"], view["state"]) == (provider, "valid")
        assert made(typed("", "show", f"MY {provider}", "--json")) == view
        assert view["id"] in typed("", "show", view["id"]).stdout
    listed = command("credentials", "list", "--json").stdout.splitlines()
    assert [json.loads(line)["provider"] for line in listed] == [*given][::-1]
    assert "my smtp" in command("credentials", "list", "--provider", "smtp").stdout
    assert found_in_database("PLANTED") == set()


def test_one_is_changed_and_deleted_by_its_title(typed):
    view = made(typed("PLANTED\n", "create", "smtp", "--type", "user_password", "--username", "u", "--json"))
    assert made(typed("", "update", "smtp", "--title", "mail", "--json"))["title"] == "mail"
    changed = made(typed("PLANTED two\n", "update", "mail", "--secret", "--expires", "2999-01-01", "--json"))
    assert (changed["id"], changed["details"]) == (view["id"], {"username": "u"})
    assert changed["expires_at"].startswith("299")
    assert made(typed("", "update", "mail", "--never-expires", "--json"))["expires_at"] is None
    assert made(typed("", "delete", "mail", "--json")) == {"deleted": view["id"]}
    gone = typed("", "show", "mail")
    assert (gone.exit_code, "no credential 'mail'" in gone.stderr) == (Exit.REFUSED, True)


@pytest.mark.parametrize(
    ("arguments", "given", "told"),
    [
        (["create", "smtp", "--type", "user_password"], "", "needs --username"),
        (["create", "http", "--type", "host_scoped", "--host", "a.test"], "", "needs --header"),
        (["create", "http", "--host", "a.test", "--secret-stdin"], "{}", "--host is not for the type api_key"),
        (["create", "smtp", "--base-url", "smtp://a.test"], "", "--base-url is not for the type api_key"),
        (["create", "http", "--header", "X-Key"], "", "--header is not for the type api_key"),
        (["create", "x", "--type", "oauth2", "--secret-stdin"], "PLANTED", "no JSON object"),
        (["create", "open ai", "--secret-stdin"], "PLANTED", "provider"),
        (["create", "openai", "--secret-stdin"], "", "secret.api_key.api_key"),
        (["update", "x", "--expires", "2999-01-01", "--never-expires"], "", "exclude each other"),
        (["update", "x", "--username", "u"], "", "add --secret"),
    ],
)
def test_what_is_wrong_is_told(typed, arguments, given, told):
    result = typed(given, *arguments)
    assert result.exit_code == Exit.REFUSED
    assert told in result.stderr
    assert "PLANTED" not in result.stderr + result.stdout


def test_providers_are_listed(typed):
    assert "smtp" in typed("", "providers").stdout
    (smtp,) = [one for line in typed("", "providers", "--json").stdout.splitlines() if (one := json.loads(line))
               if one["provider"] == "smtp"]  # fmt: skip
    assert smtp["types"] == ["user_password"]


def test_all_are_encrypted_again_and_what_cannot_be_is_named(typed, command, monkeypatch):
    view = made(typed("PLANTED\n", "create", "openai", "--json"))
    old = settings().credential_keys
    monkeypatch.setattr(settings(), "credential_keys", (SecretStr("b" * 42 + "A="), *old))
    assert made(typed("", "rotate", "--json")) == {"rotated": 1, "left": 0, "unreadable": []}
    assert typed("", "rotate").stdout == "0 were encrypted again.\n"
    monkeypatch.setattr(settings(), "credential_keys", old)
    failed = typed("", "rotate")
    assert (failed.exit_code, view["id"] in failed.stderr) == (Exit.FAILED, True)
    monkeypatch.setattr(settings(), "credential_keys", ())
    refused = typed("", "rotate")
    assert (refused.exit_code != Exit.OK) is True
    from agentflow.credentials.encryption import NO_KEY

    assert NO_KEY in str(refused.exception) or NO_KEY in refused.stderr


def test_a_run_gets_the_credential_that_is_named(typed, command, tmp_path):
    made(typed("PLANTED\n", "create", "openai", "--title", "mine", "--json"))
    block = "1f292d4a-41a4-4977-9684-7c8d560b9f91"  # AITextGenerator
    document = {"name": "g", "nodes": [{"id": "n", "block_id": block, "input_default": {"prompt": "hi"}}]}
    (tmp_path / "g.json").write_text(json.dumps(document))
    run = ["run", str(tmp_path / "g.json"), "--no-follow", "--json"]
    assert json.loads(command(*run, "--credential", "openai_api_key_credentials=mine").stdout)["status"] == "QUEUED"
    unknown = command(*run, "--credential", "openai_api_key_credentials=yours")
    assert (unknown.exit_code, "no credential 'yours'" in unknown.stderr) == (Exit.REFUSED, True)
    assert command(*run, "--credential", "mine").exit_code == Exit.REFUSED
