"""`agentflow blocks`: without a server it says what is here, tries it out, and starts what is new."""

import importlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agentflow.blocks import registry
from agentflow.blocks.text.editing import TextSplit
from agentflow.cli import blocks_local, blocks_show
from agentflow.cli.connect import Exit
from agentflow.cli.main import agentflow
from agentflow.settings import settings

BROKEN = """
from typing import Any

from agentflow.blocks.base import Block, BlockInput, BlockOutput, TestVector


class Base(Block):
    class Input(BlockInput):
        number: int

    class Output(BlockOutput):
        half: float


class Halve(Base):
    id = "half"
    name = "Halve"
    vectors = (
        TestVector({"number": 3}, [("half", 1.5)]),
        TestVector({"number": 4}, [("half", 3.0)]),
        TestVector({"number": 0}, fails="nothing"),
        TestVector({"number": 13}),
        TestVector({"number": 99}, [("half", 1.0)]),
    )

    def run(self, inputs: Any, context: Any) -> Any:
        if inputs.number == 13:
            raise ZeroDivisionError("bad luck")
        yield "half", "much" if inputs.number == 99 else inputs.number / 2


class Untried(Base):
    id = "untried"
    name = "Untried"

    def run(self, inputs: Any, context: Any) -> Any:
        yield "half", 0.5
"""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(agentflow, ["blocks", *arguments])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in; what is imported from it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    (tmp_path / "their_blocks.py").write_text(BROKEN)
    return tmp_path


def test_the_list_needs_no_server_and_says_what_can_be_used():
    found = {line["name"]: line for line in map(json.loads, call("list", "--json").stdout.splitlines())}
    assert set(found) >= {block.name for block in registry.every()}
    assert list(found) == sorted(found)
    split = found["TextSplit"]
    assert (split["id"], split["kind"], split["lane"]) == (TextSplit.id, "Standard", "default")
    assert (split["categories"], split["status"], split["reason"]) == (["TEXT"], "available", "")
    assert found["PrintToConsole"]["status"] == "disabled"
    table = call("list").stdout
    assert all(word in table for word in ("TextSplit", TextSplit.id, "TEXT", "default", "available"))


def test_blocks_that_are_known_and_not_here_are_listed_as_such(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks_local, "ABSENT", {"id-1": "FlyToTheMoon", TextSplit.id: "OldName"})
    found = [json.loads(line) for line in call("list", "--json").stdout.splitlines()]
    assert [line["name"] for line in found if line["reason"] == "not built in"] == ["FlyToTheMoon"]
    assert "OldName" not in [line["name"] for line in found]
    for name in ("FlyToTheMoon", "flytothemoon", "id-1"):
        shown = call("show", name)
        assert shown.exit_code == Exit.REFUSED
        assert "FlyToTheMoon (id-1) is unavailable: not built in" in shown.stderr


def test_a_block_whose_extra_is_missing_says_which(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks_local, "find_spec", lambda name: None)
    found = {line.name: line for line in blocks_local.lines()}
    ai, web = found["AITextGenerator"].status_text, found["ReadRSSFeed"].reason
    assert ai.startswith("unavailable: the extra ai is missing: ")
    assert "-m pip install 'pydantic-ai-slim" in ai
    assert web.startswith("the extra web is missing: ")
    assert "feedparser" in web
    assert found["TextSplit"].status == "available"


@pytest.mark.parametrize(("switched", "status"), [(True, "available"), (False, "unavailable")])
def test_whether_code_is_run_here_is_told(monkeypatch: pytest.MonkeyPatch, switched: bool, status: str):
    monkeypatch.setattr(settings(), "code_execution", switched)
    found = {line.name: line for line in blocks_local.lines()}
    assert found["ExecuteCode"].status == status
    assert ("AGENTFLOW_CODE_EXECUTION=true" in found["ExecuteCode"].reason) is not switched


def test_the_list_can_be_cut_to_a_category():
    found = [json.loads(line) for line in call("list", "--json", "--category", "text").stdout.splitlines()]
    assert "TextSplit" in [line["name"] for line in found]
    assert all("TEXT" in line["categories"] for line in found)
    assert "No blocks." in call("list", "--category", "nothing").stderr


def test_the_list_can_be_searched_and_says_first_what_a_block_is_called_and_does():
    found = [json.loads(line) for line in call("list", "--json", "--search", "SPLIT text").stdout.splitlines()]
    assert "TextSplit" in [line["name"] for line in found]
    assert len(found) < 10
    header = call("list").stdout.splitlines()[0].split()
    assert header[:2] == ["NAME", "WHAT"]
    narrow = call("list", "--no-ids").stdout
    assert TextSplit.id not in narrow
    assert TextSplit.description in narrow


def test_on_a_terminal_of_80_columns_the_list_is_names_and_descriptions(monkeypatch: pytest.MonkeyPatch):
    command = f"stty cols 80; {shlex.quote(sys.executable)} -m agentflow.cli.main blocks list --search split"
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("TERM", "dumb")
    told = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True, check=True).stdout
    lines = [line.rstrip("\r") for line in told.splitlines()]
    assert any(line.startswith("TextSplit") for line in lines)
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert TextSplit.id not in told


def test_a_block_is_shown_with_types_defaults_and_examples():
    for name in ("TextSplit", "textsplit", TextSplit.id):
        shown = call("show", name)
        assert shown.exit_code == Exit.OK
        lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
        assert "takes delimiter (required) string Where to split; it is left out of the parts." in lines
        assert "takes strip boolean true Remove white space around each part." in lines
        assert "gives texts array of string The parts; none for an empty text." in lines
        assert 'takes {"text": "a, b,c", "delimiter": ","}' in lines
        assert 'gives texts = ["a", "b", "c"]' in lines
        assert "fails … delimiter is empty …" in lines
    waiting = call("show", "CountdownTimer").stdout
    assert "Timer(seconds=5, state=2)" in waiting
    assert "Resumed(kind='timer'" in waiting


def test_every_block_can_be_shown_for_people_and_for_programs():
    for block in registry.every():
        assert call("show", block.name).exit_code == Exit.OK
        shown = json.loads(call("show", block.name, "--json").stdout)
        assert (shown["id"], shown["status"]) == (block.id, blocks_local.line_of(block).status)
        assert shown["inputSchema"] == block.info()["inputSchema"]


def test_a_block_that_nobody_knows_is_refused():
    shown = call("show", "Nothing")
    assert shown.exit_code == Exit.REFUSED
    assert "there is no block 'Nothing': see `agentflow blocks list`" in shown.stderr


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({}, "anything"),
        ({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "array of string or null"),
        ({"$ref": "#/$defs/Scope"}, '"a" | "b"'),
        ({"$ref": "#/$defs/Place"}, "Place"),
        ({"const": "a"}, '"a"'),
        (
            {"credentials_provider": ["a", "b"], "credentials_types": ["oauth2"], "credentials_scopes": ["read"]},
            "credential of a, b (oauth2; scopes: read)",
        ),
    ],
)
def test_types_are_told_in_a_few_words(schema, told):
    document = {"$defs": {"Scope": {"enum": ["a", "b"]}, "Place": {"type": "object"}}}
    assert blocks_show.type_name(schema, document) == told


def test_a_server_can_be_asked_instead(command):
    lines = map(json.loads, call("list", "--json").stdout.splitlines())
    local = {line["id"] for line in lines if line["kind"] and line["status"] != "disabled"}
    remote = command("blocks", "list", "--remote", "--json").stdout.splitlines()
    assert {json.loads(line)["id"] for line in remote} == local
    assert "TextSplit" in command("blocks", "list", "--remote", "--category", "text").stdout
    assert "delimiter (required)" in command("blocks", "show", "textsplit", "--remote").stdout
    assert json.loads(command("blocks", "show", "TextSplit", "--remote", "--json").stdout)["id"] == TextSplit.id
    unknown = command("blocks", "show", "Nothing", "--remote")
    assert unknown.exit_code == Exit.REFUSED
    assert "blocks list --remote" in unknown.stderr


def test_blocks_are_tried_by_name_id_and_module():
    for names in (["TextSplit"], [TextSplit.id, "textsplit"], ["TextSplit", "agentflow.blocks.text.editing"]):
        tried = call("test", *names)
        assert tried.exit_code == Exit.OK, tried.stderr
        assert f"TextSplit: {len(TextSplit.vectors)} examples run" in tried.stderr
        assert tried.stderr.count("TextSplit: ") == 1
        assert tried.stdout == ""


def test_all_blocks_are_tried_where_none_is_named():
    tried = call("test", "--json")
    assert tried.exit_code == Exit.OK
    results = [json.loads(line) for line in tried.stdout.splitlines()]
    assert len(results) == sum(len(block.vectors) for block in registry.every())
    assert all(result["ok"] for result in results)


@pytest.mark.parametrize("named", ["their_blocks", "their_blocks.py"])
def test_what_fails_is_said_and_how(folder: Path, named: str):
    tried = call("test", named)
    assert tried.exit_code == Exit.FAILED
    lines = [line for line in tried.stdout.splitlines() if not line.startswith(" ")]
    assert lines == [
        "FAIL Halve, example 2: Halve gave [('half', 2.0)], not [('half', 3.0)]",
        "FAIL Halve, example 3: Halve was to fail, but gave [('half', 0.0)]",
        "FAIL Halve, example 4: raised ZeroDivisionError: bad luck",
        "FAIL Halve, example 5: Halve failed: Halve gave a wrong value on its output pin 'half': "
        "Input should be a valid number",
    ]
    trace = [line for line in tried.stdout.splitlines() if line.startswith(" ")]
    assert trace[0] == "  Traceback (most recent call last):"
    assert [line.partition(", line")[0] for line in trace if "File " in line] == [
        f'    File "{folder / "their_blocks.py"}"'
    ]
    assert trace[-1] == "  ZeroDivisionError: bad luck"
    assert "Untried: no examples" in tried.stderr
    assert "2 blocks, 5 examples, 4 failed" in tried.stderr
    results = [json.loads(line) for line in call("test", named, "--json").stdout.splitlines()]
    assert [(result["example"], result["ok"]) for result in results] == [
        (1, True),
        (2, False),
        (3, False),
        (4, False),
        (5, False),
    ]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("nowhere", None, "'nowhere' is no block's name or id, and no module"),
        ("no.where.at_all", None, "'no.where.at_all' is no block's name or id, and no module"),
        ("what is this", None, "'what is this' is no block's name"),
        ("nowhere.py", None, "nowhere.py cannot be imported: FileNotFoundError"),
        ("empty_module", "", "empty_module defines no blocks"),
        (
            "needs_more",
            "import what_is_not_there",
            "needs_more cannot be imported: No module named 'what_is_not_there'",
        ),
        ("wrong", "1 / 0", "wrong cannot be imported: ZeroDivisionError: division by zero"),
        ("nameless", BROKEN.replace('id = "half"', ""), "the block nameless.Halve has no id"),
        ("idle", BROKEN.replace("def run", "def rin"), "the block idle.Halve has no run"),
    ],
)
def test_what_cannot_be_tried_is_a_wrong_call(folder: Path, name: str, content: str | None, told: str):
    if content is not None:
        (folder / f"{name}.py").write_text(content)
    tried = call("test", name)
    assert tried.exit_code == Exit.REFUSED
    assert told in tried.stderr


def test_a_module_that_raises_is_told_with_the_line(folder: Path):
    (folder / "wrong.py").write_text("\n\n1 / 0\n")
    for name in ("wrong", "wrong.py"):
        assert f'File "{folder / "wrong.py"}", line 3' in call("test", name).stderr


def test_a_block_that_prints_and_leaves_spoils_no_results(folder: Path):
    leaving = "print('here'); raise SystemExit(3)"
    (folder / "rude.py").write_text(BROKEN.replace('raise ZeroDivisionError("bad luck")', leaving))
    tried = call("test", "rude", "--json")
    assert tried.exit_code == Exit.FAILED
    results = [json.loads(line) for line in tried.stdout.splitlines()]
    assert len(results) == 5
    assert results[3]["message"] == "raised SystemExit: 3"
    assert "here" in tried.stderr


def test_what_is_written_here_is_tried_and_not_an_older_one_that_is_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    for where, text in (("installed", BROKEN), ("written", BROKEN.replace('4}, [("half", 3.0)', '4}, [("half", 2.0)'))):
        (folder / where / "twice").mkdir(parents=True)
        (folder / where / "twice" / "__init__.py").write_text("")
        (folder / where / "twice" / "blocks.py").write_text(text)
    monkeypatch.syspath_prepend(folder / "installed")
    importlib.import_module("twice.blocks")  # as the registry does with what is installed
    monkeypatch.chdir(folder / "written")
    assert "example 2:" not in call("test", "twice.blocks").stdout


def test_a_file_that_is_called_like_a_module_does_not_take_its_place(folder: Path):
    (folder / "types.py").write_text(BROKEN)
    before = sys.modules["types"]
    assert call("test", "types.py").exit_code == Exit.FAILED
    assert sys.modules["types"] is before


def test_without_assertions_nothing_is_said_to_be_fine():
    code = "from agentflow.cli.main import main; main(['blocks', 'test', 'TextSplit'])"
    tried = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False)
    assert tried.returncode == Exit.REFUSED
    assert "python -O does not check examples" in tried.stderr


def test_a_new_package_works_at_once(folder: Path):
    made = call("new", "Word_Blocks")
    assert made.exit_code == Exit.OK, made.stderr
    package = folder / "word-blocks"
    assert {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()} == {
        "pyproject.toml",
        "README.md",
        "word_blocks/__init__.py",
        "word_blocks/blocks.py",
        "tests/test_blocks.py",
    }
    assert {str(Path(line).relative_to("word-blocks")) for line in made.stdout.splitlines()} == {
        str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()
    }
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error"], cwd=package, capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout
    assert "6 passed" in tested.stdout
    tried = call("test", str(package / "word_blocks" / "blocks.py"))
    assert tried.exit_code == Exit.OK
    assert "WordBlocksExample: 4 examples run" in tried.stderr


def test_two_new_packages_stand_side_by_side(folder: Path):
    for name in ("one", "two"):
        assert call("new", name, "--directory", name).exit_code == Exit.OK
    ids = {(folder / name / name / "blocks.py").read_text().split('id = "')[1][:36] for name in ("one", "two")}
    assert len(ids) == 2


def test_a_folder_that_holds_something_is_left_alone(folder: Path):
    made = call("new", "word-blocks", "--directory", ".")
    assert made.exit_code == Exit.REFUSED
    assert "is not empty: nothing was written" in made.stderr
    assert [path.name for path in folder.iterdir()] == ["their_blocks.py"]
    under_a_file = call("new", "word-blocks", "--directory", "their_blocks.py/x")
    assert under_a_file.exit_code == Exit.REFUSED


@pytest.mark.parametrize("name", ["", "1st", "two words", "a--b", "../up", "agentflow", "json", "class", "-x"])
def test_a_name_that_no_package_can_have_is_refused(folder: Path, name: str):
    made = call("new", "--", name)
    assert made.exit_code == Exit.REFUSED
    assert "NAME" in made.stderr
    assert [path.name for path in folder.iterdir()] == ["their_blocks.py"]
