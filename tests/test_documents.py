"""What the README and the guides say is so."""

import ast
import json
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentflow.blocks.base import Block
from agentflow.blocks.registry import catalogue
from agentflow.blocks.trial import try_vector
from agentflow.cli.connect import Exit
from agentflow.cli.main import COMMANDS
from agentflow.graph.model import Graph
from agentflow.graph.settings import GraphSettings, NodeSettings
from agentflow.graph.validation import validate
from agentflow.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
CONTRACT = "docs/semantics.md"
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/graphs.md",
    "docs/blocks.md",
    "docs/operating.md",
    "docs/accounts.md",
    "docs/credentials.md",
    "docs/credits.md",
    "docs/schedules.md",
    "docs/triggers.md",
    CONTRACT,
]
CONFORMANCE = "tests/CONFORMANCE.md"


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def fenced(name: str, language: str) -> list[str]:
    """The blocks of code in that language."""
    return re.findall(rf"```{language}\n(.*?)```", text_of(name), re.DOTALL)


def rows(name: str, heading: str) -> list[list[str]]:
    """The rows of the first table below the heading, as cells without the marks of code."""
    below = text_of(name).split(f"\n## {heading}\n", 1)[1]
    lines = [line for line in below.split("\n## ")[0].splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line.strip("|")) for line in lines[2:]]
    return [[cell.strip().replace("`", "").replace("\\|", "|") for cell in row] for row in cells]


def test_the_settings_table_of_the_readme_is_what_settings_says() -> None:
    def default(value: Any) -> str:
        return "" if value is None or value == () else str(value)

    expected = [
        [f"AGENTFLOW_{name.upper()}", default(field.default), field.description]
        for name, field in Settings.model_fields.items()
    ]
    assert rows("README.md", "Configuration") == expected


def test_the_readme_names_every_command() -> None:
    told = {row[0].split()[1] for row in rows("README.md", "Command line") if row[0].startswith("agentflow ")}
    assert told == COMMANDS.keys()


def test_the_readme_names_every_exit_code() -> None:
    told = {int(row[0]) for row in rows("README.md", "Command line") if row[0].isdecimal()}
    assert told == {code.value for code in Exit}


def test_the_guide_names_every_setting_of_a_graph() -> None:
    section = text_of("docs/graphs.md").split("\n## Settings\n", 1)[1].split("\n## ")[0]
    told = set(re.findall(r"`([a-z_]+)`", section))
    assert GraphSettings.model_fields.keys() | NodeSettings.model_fields.keys() <= told


@pytest.mark.parametrize("document", fenced("docs/graphs.md", "json"))
def test_a_graph_in_the_guide_is_valid(document: str) -> None:
    graph = Graph.model_validate(json.loads(document))
    assert validate(graph, catalogue, for_run=True) == []


@pytest.mark.parametrize("program", fenced("docs/graphs.md", "python"))
def test_a_program_in_the_guide_makes_a_graph_that_runs(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(program, "docs/graphs.md", "exec"), {})
    graph = Graph.model_validate(json.loads(capsys.readouterr().out))
    assert validate(graph, catalogue, for_run=True) == []


def test_the_readme_names_no_port_where_another_may_be_taken() -> None:
    for sample in (*fenced("README.md", "sh"), *fenced("README.md", "python")):
        assert "8080" not in sample  # the key would be sent to whoever has that port


def test_the_block_in_the_guide_does_what_its_vectors_say() -> None:
    module = ModuleType("numerals")
    exec(fenced("docs/blocks.md", "python")[0], module.__dict__)
    found = [
        thing
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, Block) and thing is not Block
    ]
    assert len(found) == 1
    assert len(found[0].vectors) >= 2
    for vector in found[0].vectors:
        try_vector(found[0](), vector)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_to_a_file_leads_somewhere(name: str) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text_of(name))
    missing = [target for target in targets if not ((ROOT / name).parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_document_has_a_line_that_is_too_long_but_tables_and_code(name: str) -> None:
    prose = re.sub(r"```.*?```", "", text_of(name), flags=re.DOTALL)
    long = [line for line in prose.splitlines() if len(line) > 130 and not line.startswith("|")]
    assert long == []


@cache
def names_in(path: str) -> set[str]:
    """The names of the tests in a file."""
    tree = ast.parse(text_of(path))
    return {thing.name for thing in ast.walk(tree) if isinstance(thing, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_clause_has_a_row_of_its_number_and_title() -> None:
    clauses = re.findall(r"^- \*\*(\d+\.\d+ .+?)\.\*\* ", text_of(CONTRACT), re.MULTILINE)
    assert [clause.replace("`", "") for clause in clauses] == [clause for clause, _ in contract()]
    assert len({clause.split()[0] for clause in clauses}) == len(clauses)


def test_every_clause_of_the_contract_names_tests_that_there_are() -> None:
    for clause, tests in contract():
        named = re.findall(r"(tests/[\w/]+\.py)::(test_\w+)", tests)
        assert named, f"nothing holds: {clause}"
        for path, name in named:
            assert name in names_in(path), f"{path} has no {name}, which was to hold: {clause}"


def contract() -> list[list[str]]:
    """The rows of all sections: the clause (number and title), and the tests that hold it."""
    headings = re.findall(r"^## (\d+\. .*)$", text_of(CONFORMANCE), re.MULTILINE)
    assert headings == re.findall(r"^## (.*)$", text_of(CONTRACT), re.MULTILINE)
    return [row for heading in headings for row in rows(CONFORMANCE, heading)]
