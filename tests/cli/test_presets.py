"""`agentflow presets`."""

import json

from agentflow.cli.connect import Exit


def test_a_preset_is_saved_listed_changed_run_and_deleted(command, push):
    graph = str(push())
    made = command("presets", "create", graph, "greet", "-i", "word=hi", "--label", "team=a")
    assert made.exit_code == Exit.OK, made.stderr
    preset = made.stdout.strip()
    listed = command("presets", "list", "--graph", graph)
    assert "greet" in listed.stdout
    assert command("presets", "change", "GREET", "-i", "word=ho", "--priority", "3").exit_code == Exit.OK
    shown = json.loads(command("presets", "show", "greet").stdout)
    assert (shown["id"], shown["inputs"], shown["priority"]) == (preset, {"word": "ho"}, 3)
    run = command("presets", "run", "greet", "--no-follow", "--json", "--priority", "4")
    assert run.exit_code == Exit.OK, run.stderr
    found = json.loads(command("runs", "get", json.loads(run.stdout)["id"], "--json").stdout)
    assert (found["inputs"], found["priority"], found["labels"]) == ({"word": "ho"}, 4, {"team": "a"})
    without = json.loads(command("presets", "change", "greet", "--without", "word", "--json").stdout)
    assert without["inputs"] == {}
    assert command("presets", "delete", "greet").exit_code == Exit.OK
    missing = command("presets", "show", "greet")
    assert (missing.exit_code, "no preset 'greet'" in missing.stderr) == (Exit.REFUSED, True)


def test_a_preset_names_credentials(command, push, api):
    for title in ("mine", "other"):
        secret = {"type": "api_key", "api_key": "sk-1"}
        reply = api.post("/api/v1/credentials", json={"provider": "openai", "title": title, "secret": secret})
        assert reply.status_code == 201
    block = "1f292d4a-41a4-4977-9684-7c8d560b9f91"  # AITextGenerator
    graph = {"name": "g", "nodes": [{"id": "n", "block_id": block, "input_default": {"prompt": "hi"}}], "links": []}
    named = ("--credential", "openai_api_key_credentials=mine")
    made = command("presets", "create", str(push(graph)), "ask", *named)
    assert made.exit_code == Exit.OK, made.stderr
    before = json.loads(command("presets", "show", "ask").stdout)["credentials"]
    changed = command("presets", "change", "ask", "--credential", "openai_api_key_credentials=other", "--json")
    after = json.loads(changed.stdout)["credentials"]
    assert before.keys() == after.keys() == {"openai_api_key_credentials"}
    assert before != after
    unknown = command("presets", "change", "ask", "--credential", "openai_api_key_credentials=nope")
    assert (unknown.exit_code, "no credential 'nope'" in unknown.stderr) == (Exit.REFUSED, True)


def test_a_change_that_changes_nothing_and_two_versions_are_wrong_usage(command, push):
    command("presets", "create", str(push()), "greet")
    assert command("presets", "change", "greet").exit_code == Exit.REFUSED
    assert command("presets", "change", "greet", "--latest", "--version", "1").exit_code == Exit.REFUSED
