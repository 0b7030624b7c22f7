"""Holds house rules that no linter knows: docstrings state, no text points outside the repository, no import circles.

Fast: the tests only read files, and git's list of them. `make check` runs them.
"""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "agentflow"


KNOWN_CIRCLES: frozenset[frozenset[str]] = frozenset()
"""Import circles that are tolerated for now, as sets of module names. There are none."""

TEXTS = (
    "agentflow", "docs", "tests", "benchmarks", "alembic", "examples", ".ci",
    "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "Makefile", "Procfile", "celeryconfig.py", "pyproject.toml",
)  # fmt: skip

OUTSIDE = re.compile(
    r"""
    \.\./shared                                                                 # a folder beside the repository
    | \b(?:platform|engine|design|style|celery-notes)\.md\b                     # notes that are not in it
    | (?<!docs/)(?<!\]\()\bsemantics\.md\b                                      # but docs/semantics.md is
    | \bblocks\.md\ §                                                           # docs/blocks.md has no such sections
    | (?<![\w./>-])/(?:work|root)\b                                             # a path on one machine
    """,
    re.VERBOSE,
)


def module_name(path: Path) -> str:
    """`agentflow.api.runs` for agentflow/api/runs.py, `agentflow.api` for its `__init__.py`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def opening(path: Path) -> str:
    """The first paragraph of a module's docstring; a question mark if it has none."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "?").split("\n\n")[0]


def test_every_module_docstring_opens_with_a_statement():
    modules = [*MODULES.values()]
    modules += [*sorted((ROOT / "benchmarks").glob("*.py")), *sorted((ROOT / "alembic").rglob("*.py"))]
    asking = {str(path.relative_to(ROOT)): opening(path) for path in modules if "?" in opening(path)}
    assert not asking, "these modules have no docstring, or one that opens with a question"


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file of the repository except this one, which must name what it forbids."""
    for name in TEXTS:
        place = ROOT / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and path != Path(__file__).resolve() and "__pycache__" not in path.parts:
                try:
                    yield path, path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    continue  # a binary file


def test_every_tracked_file_is_text_and_in_a_place_that_is_read():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    tracked = [Path(name) for name in listed.decode().split("\0") if name]
    assert len(tracked) > 100
    strays = [name for name in tracked if name.parts[0] not in {*TEXTS, "LICENSE", ".gitignore"}]
    assert not strays
    for name in tracked:
        (ROOT / name).read_text(encoding="utf-8")


def test_nothing_points_outside_the_repository():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path, text in texts()
        if OUTSIDE.search(text)
        for number, line in enumerate(text.splitlines(), 1)
        if OUTSIDE.search(line)
    ]
    assert not found


def imported(node: ast.AST) -> Iterator[str]:
    """The modules of the package that `node` imports at runtime, including imports in functions."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for other in node.orelse:
            yield from imported(other)
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in MODULES)
    elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in MODULES else node.module
    for child in ast.iter_child_nodes(node):
        yield from imported(child)


def circles(graph: dict[str, set[str]]) -> Iterator[frozenset[str]]:
    """The sets of modules that import each other: the strongly connected components of two or more (Tarjan)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    numbering = count()

    def visit(module: str) -> Iterator[frozenset[str]]:
        numbers[module] = lowest[module] = next(numbering)
        stack.append(module)
        for other in graph[module]:
            if other not in numbers:
                yield from visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], numbers[other])
        if lowest[module] == numbers[module]:
            place = stack.index(module)
            component = frozenset(stack[place:])
            del stack[place:]
            if len(component) > 1:
                yield component

    for module in graph:
        if module not in numbers:
            yield from visit(module)


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: set(imported(tree)) - {name} for name, tree in TREES.items()}
    found = set(circles(graph))
    assert not found - KNOWN_CIRCLES
    assert not KNOWN_CIRCLES - found, "these are gone: remove them from KNOWN_CIRCLES"


def test_the_layers_name_every_folder_of_the_package_and_nothing_else():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = {name.strip() for layer in layers for name in layer.split("|")}
    features = {name.partition(".")[0] for name in named if "." in name}
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - features
    floors = {f"{feature}.{path.stem}" for feature in features for path in (PACKAGE / feature).glob("[!_]*.py")}
    assert (folders | floors) - named == set(), "folders, or modules of a feature, that no layer names"
    assert named - folders - floors - modules == set(), "layers that do not exist"


MIRRORED = ("engine", "services", "storage", "storage/hot", "storage/views", "worker")
"""Folders whose modules each have a test of the same name in the same place, or are in `TESTED_BY`."""

TESTED_BY = {
    # Values that other tests are made of.
    "engine/execution": "engine/test_settlement",
    "engine/waits": "worker/test_waiting",
    # What is tested through HTTP.
    "services/authentication": "api/test_auth",
    "services/blocks": "api/test_docs",
    "services/estimates": "api/test_credits",
    "services/explanations": "api/test_explanations",
    "services/graphs": "api/test_graphs",
    "services/runs": "api/test_submissions",
    "services/sub_graphs": "api/test_imports",
    "services/submissions": "api/test_submissions",
    # What needs node executions that are carried out.
    "services/admission": "worker/test_admission",
    "services/child_runs": "worker/test_child_outputs",
    "services/lanes": "worker/test_lanes",
    "services/reviews": "worker/test_waiting",
    "services/waiting": "api/test_waiting",
    "services/removal": "worker/test_removal",
    "services/secrecy": "worker/test_secrets",
    "services/steering": "worker/test_steering",
    "services/suspension": "worker/test_suspension",
    "services/users": "worker/test_suspension",
    "storage/gathering": "worker/test_gathering",
    "storage/owners": "worker/test_removal",
    "storage/steering": "worker/test_steering",
    "storage/views/activity": "notifications/test_watching",
    "storage/views/reviews": "worker/test_waiting",
    # What is tested together with another module.
    "services/node_executions": "services/test_run_views",
    "storage/tables": "storage/test_schema",
    "storage/hot/node_executions": "storage/hot/test_claim_and_settle",
    "worker/app": "worker/test_faults",
    "worker/attempt": "worker/test_execute",
    "worker/context": "worker/test_tools",
    "worker/endings": "worker/test_request",
    "worker/error_facts": "api/test_documents_by_hand",
    "worker/finalise": "worker/test_run_status",
    "worker/follow": "worker/test_execute",
    "worker/generators": "worker/test_execute",
    "worker/notifying": "notifications/test_watching",
    "worker/queues": "dispatch/test_lanes",
    "worker/signals": "test_logs",
    "worker/tasks": "worker/test_faults",
    # What only real worker processes show.
    "worker/pool": "scenarios/test_crashes",
    "worker/reports": "scenarios/test_what_celery_sees",
}
"""Module → the test that holds it, where that has another name."""


def test_every_module_has_a_test_of_its_name_or_one_that_is_named_here():
    modules = {f"{folder}/{path.stem}" for folder in MIRRORED for path in (PACKAGE / folder).glob("[!_]*.py")}

    def is_there(test: str) -> bool:
        return (ROOT / "tests" / f"{test}.py").is_file()

    mirrored = {module for module in modules if is_there("{0}/test_{2}".format(*module.rpartition("/")))}
    assert modules - mirrored - TESTED_BY.keys() == set(), "modules without a test"
    assert TESTED_BY.keys() & mirrored == set(), "these have a test of their name: remove them from TESTED_BY"
    assert TESTED_BY.keys() - modules == set(), "these are gone: remove them from TESTED_BY"
    assert [test for test in TESTED_BY.values() if not is_there(test)] == []
