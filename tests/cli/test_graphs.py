"""`agentflow graphs` and `agentflow blocks`."""

import json

import pytest

from agentflow.cli.connect import Exit


@pytest.fixture
def file(tmp_path, echo):
    path = tmp_path / "echo.json"
    path.write_text(json.dumps(echo))
    return path


def test_a_graph_is_pushed_listed_read_and_deleted(command, file, echo):
    graph = command("graphs", "push", str(file)).stdout.strip()
    assert graph in command("graphs", "list").stdout
    assert json.loads(command("graphs", "get", graph).stdout)["name"] == "echo"
    file.write_text(json.dumps({**echo, "name": "other"}))
    again = command("graphs", "push", str(file), "--id", graph, "--json")
    assert json.loads(again.stdout)["version"] == 2
    assert "nothing stored" in command("graphs", "push", str(file), "--id", graph).stderr
    assert json.loads(command("graphs", "get", graph, "--version", "1").stdout)["name"] == "echo"
    assert command("graphs", "delete", graph).exit_code == Exit.OK
    assert command("graphs", "get", graph).exit_code == Exit.REFUSED
    assert "No graphs yet" in command("graphs", "list").stderr


def test_an_export_with_a_missing_block_is_imported_and_listed_as_such(command, file, echo):
    echo["nodes"].append({"id": "odd", "block_id": "f3a8f7e1-4b1d-4e5f-9f2a-7c3d5a2e6b4c"})
    file.write_text(json.dumps(echo))
    assert command("graphs", "push", str(file)).exit_code == Exit.REFUSED
    imported = command("graphs", "import", str(file))
    assert imported.exit_code == Exit.OK
    assert "node odd: there is no block TranscribeYoutubeVideo here" in imported.stderr
    assert "it cannot run, because blocks of it are missing here" in imported.stderr
    file.write_text(json.dumps({**echo, "user_id": ""}))
    pushed = command("graphs", "push", str(file))
    assert "it cannot run, because blocks of it are missing here" in pushed.stderr, "what looks like an export is one"
    assert imported.stdout.strip() in command("graphs", "list").stdout
    assert "blocks are missing" in command("graphs", "list").stdout
    assert json.loads(command("graphs", "import", str(file), "--json").stdout)["valid"] is False


def test_what_was_exported_can_be_imported(command, file, tmp_path, echo):
    echo["nodes"][0]["input_default"] |= {"secret": True, "value": "hush"}
    file.write_text(json.dumps(echo))
    graph = command("graphs", "push", str(file)).stdout.strip()
    exported = command("graphs", "export", graph)
    assert "hush" not in exported.stdout
    assert json.loads(exported.stdout)["user_id"] == ""
    other = tmp_path / "exported.json"
    other.write_text(exported.stdout)
    copy = command("graphs", "import", str(other)).stdout.strip()
    assert copy not in (graph, json.loads(exported.stdout)["id"])
    assert json.loads(command("graphs", "get", copy).stdout)["name"] == "echo"
    assert command("graphs", "export", graph, "--version", "2").exit_code == Exit.REFUSED


def test_lists_are_cut_at_their_limit(command, file):
    for _ in range(3):
        command("graphs", "push", str(file))
    assert len(command("graphs", "list", "--json", "--limit", "2").stdout.splitlines()) == 2
    assert len(command("graphs", "list", "--json", "--all").stdout.splitlines()) == 3


def test_validation_tells_by_its_exit_code(command, file, echo):
    assert command("graphs", "validate", str(file)).exit_code == Exit.OK
    echo["nodes"][0]["block_id"] = "nothing"
    file.write_text(json.dumps(echo))
    wrong = command("graphs", "validate", str(file))
    assert wrong.exit_code == Exit.FAILED
    assert "error: node in: there is no block 'nothing'" in wrong.stderr
    assert json.loads(command("graphs", "validate", str(file), "--json").stdout)["valid"] is False


@pytest.mark.parametrize("content", ["{", "[]", "\udcff"])
def test_a_file_that_is_no_graph_is_a_wrong_call(command, file, content):
    file.write_text(content, errors="surrogateescape")
    assert command("graphs", "push", str(file)).exit_code == Exit.REFUSED


def test_blocks_are_listed_and_shown(command):
    assert "AgentInput" in command("blocks", "list").stdout
    shown = command("blocks", "show", "countitems")
    assert "collection (required)" in shown.stdout
    assert json.loads(command("blocks", "show", "CountItems", "--json").stdout)["name"] == "CountItems"
    assert command("blocks", "show", "Nothing").exit_code == Exit.REFUSED
