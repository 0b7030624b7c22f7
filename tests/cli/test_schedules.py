"""`agentflow schedules`."""

import json
from datetime import UTC, datetime

import pytest

from agentflow.cli.connect import Exit


def test_a_schedule_is_saved_listed_changed_run_and_deleted(command, push):
    graph = str(push())
    made = command("schedules", "create", graph, "-i", "word=hi", "--cron", "0 9 * * *", "--time-zone", "Europe/Paris")
    assert made.exit_code == Exit.OK, made.stderr
    assert "due first at" in made.stderr
    listed = command("schedules", "list", "--graph", graph)
    assert "0 9 * * * Europe/Paris" in listed.stdout
    changed = command("schedules", "change", "ECHO", "--every", "90m", "--overlap", "queue", "-i", "word=ho", "--json")
    assert changed.exit_code == Exit.OK, changed.stderr
    shown = json.loads(changed.stdout)
    assert (shown["every"], shown["cron"], shown["overlap"], shown["inputs"]) == (5400, None, "queue", {"word": "ho"})
    ran = command("schedules", "run-now", "echo")
    assert ran.exit_code == Exit.OK, ran.stderr
    run = json.loads(command("runs", "get", ran.stdout.strip(), "--json").stdout)
    assert run["inputs"] == {"word": "ho"}
    waits = command("schedules", "run-now", "echo")
    assert (waits.exit_code, "pending" in waits.stderr) == (Exit.OK, True)
    assert "1 are skipped" in command("schedules", "skip-waiting", "echo").stderr
    found = [json.loads(line) for line in command("schedules", "occurrences", "echo", "--json").stdout.splitlines()]
    assert [one["state"] for one in found] == ["skipped", "run"]
    assert "wanted no more" in command("schedules", "occurrences", "echo").stdout
    paused = command("schedules", "pause", "echo", "--reason", "holidays", "--json")
    assert json.loads(paused.stdout)["pause_reason"] == "holidays"
    assert "paused: holidays" in command("schedules", "list", "--paused").stdout
    assert command("schedules", "resume", "echo").exit_code == Exit.OK
    assert command("schedules", "delete", "echo").exit_code == Exit.OK
    missing = command("schedules", "show", "echo")
    assert (missing.exit_code, "no schedule 'echo'" in missing.stderr) == (Exit.REFUSED, True)


def test_a_preset_is_scheduled_once_and_as_the_graph_recommends(command, push):
    from installation import ECHO

    graph = str(push({**ECHO, "recommended_schedule_cron": "0 9 * * 1-5"}))
    command("presets", "create", graph, "greet", "-i", "word=hi")
    made = command("schedules", "create", "greet", "--preset", "--json")
    assert made.exit_code == Exit.OK, made.stderr
    shown = json.loads(made.stdout)
    assert (shown["name"], shown["cron"], shown["inputs"]) == ("greet", "0 9 * * 1-5", {})
    once = command("schedules", "create", "greet", "--preset", "--name", "once", "--at", "2999-01-01 12:00", "--json")
    assert once.exit_code == Exit.OK, once.stderr
    assert datetime.fromisoformat(json.loads(once.stdout)["at"]) == datetime(2999, 1, 1, 12).astimezone()


def test_a_time_is_in_the_zone_that_is_named_and_an_interval_has_none(command, push):
    graph = str(push())
    once = [graph, "-i", "word=hi", "--at", "2999-01-01 09:00", "--time-zone"]
    made = command("schedules", "create", *once, "America/New_York", "--json")
    assert datetime.fromisoformat(json.loads(made.stdout)["at"]) == datetime(2999, 1, 1, 14, tzinfo=UTC)
    changed = command("schedules", "change", "echo", "--at", "2999-01-01 09:00", "--time-zone", "Asia/Tokyo", "--json")
    assert datetime.fromisoformat(json.loads(changed.stdout)["at"]) == datetime(2999, 1, 1, 0, tzinfo=UTC)
    wrong = command("schedules", "create", *once, "Tokyo")
    assert (wrong.exit_code, "did you mean 'Asia/Tokyo'" in wrong.stderr) == (Exit.REFUSED, True)
    wrong = command("schedules", "create", graph, "-i", "word=hi", "--every", "5s", "--time-zone", "Asia/Tokyo")
    assert (wrong.exit_code, "has no time zone" in wrong.stderr) == (Exit.REFUSED, True)


def test_a_backfill_tells_how_many_times_it_runs(command, push):
    command("schedules", "create", str(push()), "-i", "word=hi", "--cron", "0 * * * *")
    told = command("schedules", "backfill", "echo", "--since", "2026-01-01", "--until", "2026-01-01 23:30", "--at-once")
    assert (told.exit_code, told.stderr) == (Exit.OK, "24 times will be run; 0 were before, or wait already.\n")


def test_an_input_that_the_graph_has_not_is_warned_about(command, push):
    graph = str(push())
    made = command("schedules", "create", graph, "-i", "word=hi", "-i", "wrod=hi", "--every", "90m")
    assert (made.exit_code, "warning: the graph has no input 'wrod'" in made.stderr) == (Exit.OK, True)
    changed = command("schedules", "change", "echo", "--every", "80m", "--json")
    assert "'wrod'" in json.loads(changed.stdout)["warnings"][0]["message"]
    assert json.loads(command("schedules", "show", "echo").stdout)["warnings"] == []


@pytest.mark.parametrize("span", ["", "soon", "-5", "5 weeks", "1e3"])
def test_a_span_that_is_none_is_wrong_usage(command, push, span):
    refused = command("schedules", "create", str(push()), f"--every={span}")
    assert (refused.exit_code, "no span of time" in refused.stderr) == (Exit.REFUSED, True)


def test_a_change_that_changes_nothing_is_wrong_usage(command, push):
    command("schedules", "create", str(push()), "-i", "word=hi", "--cron", "@daily")
    assert command("schedules", "change", "echo").exit_code == Exit.REFUSED
    assert command("schedules", "change", "echo", "--latest", "--version", "1").exit_code == Exit.REFUSED
